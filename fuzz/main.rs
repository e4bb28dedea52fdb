//! The fuzzer that needs nothing but Rust.
//!
//! ```text
//! fuzz/run SECONDS [TARGET…]    so long for each target
//! fuzz/run replay [TARGET…]     everything that is kept, once
//! ```
//!
//! It changes what is kept at random, and goes on from what leads to an outcome that none led to before. Each target runs
//! in a process of its own, of limited memory, which leaves the input at hand in a file: should it die, or not return,
//! that input is put below `found/TARGET`, and the exit status is 1. `KMDB_FUZZ_SEED` repeats a run.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{Write, stderr},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, exit},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use kmdb_fuzz::{
    LIMIT, MEMORY, TARGETS, Target,
    mutate::{Chance, mutate},
    outcome,
};

/// Longest that an input may take on a machine that is busy with other things. Then the process ends.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most inputs that are gone on from.
const POOL: usize = 4000;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            let _ = writeln!(stderr(), "fuzz: {e:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((what, names)) = args.split_first() else { bail!("usage: fuzz/run SECONDS|replay [TARGET…]") };
    if let ("child", [name, seconds, seed, at_hand]) = (what.as_str(), names) {
        let target = find(name)?;
        child(target, seconds.parse().ok(), seed.parse()?, Path::new(at_hand))?;
        return Ok(true);
    }
    if what != "replay" {
        what.parse::<u64>().context("the first word is a number of seconds, or `replay`")?;
    }
    let targets: Vec<&Target> = match names {
        [] => TARGETS.iter().collect(),
        names => names.iter().map(|name| find(name)).collect::<Result<_>>()?,
    };
    let seed = match std::env::var("KMDB_FUZZ_SEED") {
        Ok(seed) => seed.parse().context("KMDB_FUZZ_SEED")?,
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs()),
    };
    let mut fine = true;
    for target in targets {
        fine &= guard(target, what, seed)?;
    }
    Ok(fine)
}

fn find(name: &str) -> Result<&'static Target> {
    let names = || TARGETS.iter().map(|t| t.name).collect::<Vec<_>>().join(" ");
    TARGETS.iter().find(|t| t.name == name).with_context(|| format!("no target {name}: there are {}", names()))
}

/// A folder of this package.
fn folder(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target.name)
}

/// Runs a target in a process of its own; whether it lived.
fn guard(target: &Target, seconds: &str, seed: u64) -> Result<bool> {
    let at_hand = std::env::temp_dir().join(format!("kmdb-fuzz-{}-{}", std::process::id(), target.name));
    let status = Command::new(std::env::current_exe()?)
        .args(["child", target.name, seconds, &seed.to_string()])
        .arg(&at_hand)
        .status()?;
    let input = fs::read(&at_hand).unwrap_or_default();
    let _ = fs::remove_file(&at_hand);
    if status.success() {
        return Ok(true);
    }
    // the first 8 bytes are the length; the file is not made shorter each time
    let len = input.first_chunk().map_or(0, |len| u64::from_le_bytes(*len) as usize);
    let input = input.get(8..).map(|rest| rest.get(..len).unwrap_or(rest)).unwrap_or_default();
    let found = folder("found", target);
    fs::create_dir_all(&found)?;
    let name =
        input.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let file = found.join(format!("{name:016x}"));
    fs::write(&file, input)?;
    writeln!(stderr(), "{}: {status}, by {} ({} bytes); seed {seed}", target.name, file.display(), input.len())?;
    Ok(false)
}

/// When the input at hand was begun, in milliseconds since the start, plus 1; 0 between inputs.
static SINCE: AtomicU64 = AtomicU64::new(0);

/// Feeds the target what is kept, then what is made of it for so many seconds.
fn child(target: &'static Target, seconds: Option<u64>, seed: u64, at_hand: &Path) -> Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) })?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let begin = Instant::now();
    std::thread::spawn(move || watch(target, begin));
    let mut feeder = Feeder { target, begin, at_hand: File::create(at_hand)?, runs: 0, slowest: Duration::ZERO };
    let mut pool = kept(target)?;
    let mut outcomes = HashSet::new();
    for input in &pool {
        outcomes.insert(feeder.feed(input)?);
    }
    let first = pool.len();
    if first == 0 {
        bail!("no seeds for {}", target.name);
    }
    let mut chance = Chance::new(seed);
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    while Instant::now() < end {
        let (one, other) = (chance.below(pool.len()), chance.below(pool.len()));
        // what is kept is as good as all that was made of it
        let one = if chance.below(3) == 0 { chance.below(first) } else { one };
        let input = mutate(&pool[one], &pool[other], &mut chance);
        if outcomes.insert(feeder.feed(&input)?) {
            if pool.len() < POOL {
                pool.push(input);
            } else {
                let place = first + chance.below(POOL - first);
                pool[place] = input;
            }
        }
    }
    let Feeder { runs, slowest, .. } = feeder;
    let rate = runs as f64 / begin.elapsed().as_secs_f64();
    let name = target.name;
    writeln!(
        stderr(),
        "{name}: {runs} inputs, {rate:.0} a second, {} outcomes, slowest {slowest:.0?}; seed {seed}",
        outcomes.len()
    )?;
    Ok(())
}

/// Ends the process if an input takes too long.
fn watch(target: &Target, begin: Instant) {
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let since = SINCE.load(Ordering::Relaxed);
        if since > 0 && begin.elapsed() > Duration::from_millis(since) + PATIENCE {
            let _ = writeln!(stderr(), "{}: no end after {PATIENCE:?}", target.name);
            #[allow(clippy::exit)] // the thread that does not return cannot be asked
            exit(3);
        }
    }
}

/// What is kept: seeds, and what was found.
fn kept(target: &Target) -> Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    for kind in ["seeds", "found"] {
        if let Ok(entries) = fs::read_dir(folder(kind, target)) {
            files.extend(entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?);
        }
    }
    files.sort();
    files.iter().map(|file| fs::read(file).with_context(|| file.display().to_string())).collect()
}

struct Feeder {
    target: &'static Target,
    begin: Instant,
    at_hand: File,
    runs: u64,
    slowest: Duration,
}

impl Feeder {
    /// Feeds one input; what came of it.
    fn feed(&mut self, input: &[u8]) -> Result<u64> {
        let framed = [&(input.len() as u64).to_le_bytes(), input].concat();
        self.at_hand.write_all_at(&framed, 0)?;
        self.runs += 1;
        // one that takes too long gets another chance: the machine may have been busy
        for last in [false, false, true] {
            SINCE.store(self.begin.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
            let start = Instant::now();
            (self.target.run)(input);
            let took = start.elapsed();
            SINCE.store(0, Ordering::Relaxed);
            if took < LIMIT {
                self.slowest = self.slowest.max(took);
                break;
            }
            if last {
                bail!("{}: an input takes {took:.1?}", self.target.name);
            }
        }
        Ok(outcome())
    }
}
