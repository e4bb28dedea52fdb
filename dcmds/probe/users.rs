//! Processes: what code they have mapped, what their stacks look like, and names for addresses in them.
//!
//! The kernel says of every process that begins what it maps; of those that ran before, `/proc` is asked when they are
//! first met. Both are kept, so that there are names after a process has ended. A stack is unwound from the registers and
//! the copy of the stack that came with a hit, by the tables that programs carry along, and by frame pointers in code that
//! has none, as just-in-time compilers make it.

use super::{
    code::{Code, Named},
    walked::{Begin, Walked, word},
};
use engine::debuginfo::cfi::{self, REGISTERS, Registers};
use probes::{
    elf::{self, Mapped},
    recording::{STACK_COPY, UserState},
    tasks::{Change, What},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How deep a stack is followed.
const MOST_FRAMES: usize = 512;
/// Processes that are remembered.
const MOST_PROCESSES: usize = 1 << 16;
/// `/proc` is not asked again for a process before so long.
const AGAIN: Duration = Duration::from_millis(100);
/// What execve(2) itself does when the old program is gone already is done with the registers of that one; it takes no longer.
const EXEC: u64 = 5_000_000;
const ARM: bool = cfg!(target_arch = "aarch64");

/// A process, from one exec to the next.
#[derive(Clone, Default)]
struct Image {
    /// since when, in ns
    since: u64,
    mapped: Vec<Mapped>,
}

#[derive(Default)]
struct Process {
    /// in the order of time
    images: Vec<Image>,
    asked: Option<Instant>,
    /// what a just-in-time compiler wrote down: by start, the end and the name; and how much of it has been read
    jitted: BTreeMap<u64, (u64, String)>,
    jit_read: u64,
}

/// Code that stacks of this command led to, by the name of its file without the directory.
#[derive(Default)]
pub struct Seen(Mutex<HashMap<String, Arc<Code>>>);

impl Seen {
    /// The file that is called so.
    pub fn file(&self, name: &str) -> Option<Arc<Code>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn add(&self, file: &Path, code: &Arc<Code>) {
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert_with(|| code.clone());
    }
}

/// Processes and files that were seen.
#[derive(Default)]
pub struct Users {
    processes: HashMap<u32, Process>,
    codes: HashMap<PathBuf, Option<Arc<Code>>>,
    /// names of places in files
    names: HashMap<(PathBuf, u64), Rc<[String]>>,
    /// stacks that were walked
    walked: Walked,
    /// for those who look at code later in the pipeline
    seen: Arc<Seen>,
    /// stacks that ended before the outermost frame, since not more was copied
    pub cut: u64,
    /// processes that ran code which they made themselves, and wrote down no names of
    pub nameless: BTreeSet<u32>,
}

/// Registers, the program counter and the stack pointer.
type Start = (Registers, u64, u64);

/// A walk up a stack.
#[derive(Default)]
struct Walk {
    frames: Vec<u64>,
    /// the words that it read, by where they were from the stack pointer on
    read: Vec<(usize, u64)>,
    /// whether it depends on these, and where it began, alone
    sure: bool,
    /// whether it asked for what lies behind the copy
    beyond: bool,
}

/// A moment in a process.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// which
    pub pid: u32,
    /// CLOCK_MONOTONIC in ns
    pub time: u64,
}

impl Users {
    /// None yet; the code that they lead to is added to `seen`.
    pub fn new(seen: Arc<Seen>) -> Users {
        Users { seen, ..Users::default() }
    }

    /// Takes note of what the kernel says.
    pub fn change(&mut self, change: Change) {
        self.walked.clear();
        if self.processes.len() >= MOST_PROCESSES && !self.processes.contains_key(&change.pid) {
            return;
        }
        if let What::Forked(parent) = change.what {
            let mapped = self.image(When { pid: parent, time: change.time }).map(|image| image.mapped.clone());
            let Some(mapped) = mapped else { return };
            let image = Image { since: change.time, mapped };
            self.processes.entry(change.pid).or_default().images.push(image);
            return;
        }
        let process = self.processes.entry(change.pid).or_insert_with(|| Process::met(change.pid));
        match change.what {
            What::Executed => process.images.push(Image { since: change.time, mapped: Vec::new() }),
            What::Mapped(mapped) => {
                if let Some(image) = process.images.last_mut() {
                    image.add(mapped);
                }
            }
            What::Forked(_) => {}
        }
    }

    /// Remembers what a process has mapped.
    pub fn meet(&mut self, pid: u32) {
        if self.processes.len() < MOST_PROCESSES {
            self.processes.entry(pid).or_insert_with(|| Process::met(pid));
        }
    }

    fn image(&self, when: When) -> Option<&Image> {
        let images = &self.processes.get(&when.pid)?.images;
        images.iter().rev().find(|image| image.since <= when.time).or(images.first())
    }

    /// The mapping at an address. One that is not known may have been made since `/proc` was asked.
    fn mapping(&mut self, when: When, pc: u64) -> Option<Mapped> {
        self.meet(when.pid);
        let find = |users: &Users| {
            let images = &users.processes.get(&when.pid)?.images;
            let current = images.iter().rposition(|image| image.since <= when.time).unwrap_or(0);
            let before = current.checked_sub(1).and_then(|before| images.get(before));
            let image = images.get(current)?;
            let before = before.filter(|_| when.time.saturating_sub(image.since) < EXEC);
            let at = |image: &Image| image.mapped.iter().rev().find(|m| m.range.contains(&pc)).cloned();
            at(image).or_else(|| at(before?))
        };
        if let Some(found) = find(self) {
            return Some(found);
        }
        let process = self.processes.get_mut(&when.pid)?;
        if process.asked.is_some_and(|asked| asked.elapsed() < AGAIN) {
            return None;
        }
        process.asked = Some(Instant::now());
        let now = elf::mapped(when.pid as i32).ok().filter(|now| !now.is_empty())?;
        if let Some(image) = process.images.last_mut() {
            now.into_iter().for_each(|mapped| image.add(mapped));
        }
        find(self)
    }

    fn code(&mut self, pid: u32, mapped: &Mapped) -> Option<Arc<Code>> {
        let file = &*mapped.file;
        if let Some(known) = self.codes.get(file) {
            return known.clone();
        }
        let code = if file == Path::new("[vdso]") {
            Code::vdso()
        } else {
            // as the process sees it, which may be in a container; or as we do, once it has ended
            let inside = PathBuf::from(format!("/proc/{pid}/root")).join(file.strip_prefix("/").unwrap_or(file));
            // a file that has no name any more is there as long as it is mapped
            Code::open(&inside).or_else(|| Code::open(file)).or_else(|| Code::open(&mapped.link(pid)))
        };
        let code = code.map(Arc::new);
        if let Some(code) = &code {
            self.seen.add(file, code);
        }
        self.codes.insert(file.to_owned(), code.clone());
        code
    }

    /// The frames of a process, innermost first: where it was, then where its functions go on.
    pub fn unwind(&mut self, when: When, state: &UserState) -> Vec<u64> {
        let Some(start) = start(&state.registers) else { return Vec::new() };
        self.meet(when.pid);
        let since = self.image(when).map_or(0, |image| image.since);
        let few = few(&start.0);
        let others = OTHERS.map(|register| few.get(register).copied().flatten());
        let begin = Begin { pid: when.pid, since, pc: start.1, sp: start.2, others };
        if let Some(frames) = self.walked.find(&begin, &state.stack) {
            return frames;
        }
        // first with those registers alone that nearly all code needs; if others matter, with all
        if !self.walked.is_other(&begin) {
            let walk = self.walk(when, state, (few, start.1, start.2));
            if walk.sure {
                self.walked.add(begin, walk.read, &walk.frames);
                return walk.frames;
            }
            self.walked.add_other(begin);
        }
        let walk = self.walk(when, state, start);
        // less was copied where that was all
        if walk.beyond && state.stack.len() >= STACK_COPY as usize {
            self.cut += 1;
        }
        walk.frames
    }

    fn walk(&mut self, when: When, state: &UserState, (mut registers, mut pc, mut sp): Start) -> Walk {
        let (base, mut exact) = (sp, true);
        let mut walk = Walk { sure: true, ..Walk::default() };
        let (read, beyond) = (RefCell::new(Vec::new()), Cell::new(false));
        let word = |at: u64| {
            let inside = at.wrapping_sub(base);
            let word = usize::try_from(inside).ok().and_then(|inside| Some((inside, word(&state.stack, inside)?)));
            beyond.set(beyond.get() || (word.is_none() && at >= base));
            read.borrow_mut().extend(word);
            word.map(|(_, word)| word)
        };
        while walk.frames.len() < MOST_FRAMES {
            walk.frames.push(pc);
            let place = if exact { pc } else { pc.wrapping_sub(1) };
            let Some(mapped) = self.mapping(when, place) else {
                // a wild address is shown, if it was where the process was
                walk.frames.truncate(walk.frames.len().max(2) - usize::from(walk.frames.len() > 1));
                walk.sure = false;
                break;
            };
            let code = self.code(when.pid, &mapped);
            let address = code.as_ref().and_then(|code| code.address(place - mapped.range.start + mapped.offset));
            let tables = code.as_ref().and_then(|code| code.tables()).filter(|_| address.is_some());
            let found = cfi::caller(tables.as_ref(), address.unwrap_or(place), &registers, sp, ARM, &word);
            walk.sure &= found.as_ref().is_ok_and(|caller| !caller.as_ref().is_some_and(|caller| caller.guess));
            let Ok(Some(next)) = found else { break };
            // a handler may run on a stack of its own; on arm64 a leaf need not have a frame
            if next.sp <= sp && !next.signal && !(ARM && next.sp == sp && walk.frames.len() == 1) {
                break;
            }
            (registers, pc, sp, exact) = (next.registers, next.pc, next.sp, next.signal);
        }
        walk.beyond = beyond.get();
        walk.sure &= !walk.beyond;
        walk.read = read.into_inner();
        walk
    }

    /// Names of a frame: what was inlined at the place first, then the function, as ``libc.so.6`malloc+0x1c``. `returned`
    /// says that it is a return address: the call is the instruction in front.
    pub fn names(&mut self, when: When, pc: u64, returned: bool) -> Vec<String> {
        let place = if returned { pc.wrapping_sub(1) } else { pc };
        let mapped = self.mapping(when, place);
        let no_file = mapped.as_ref().is_some_and(|mapped| mapped.file.as_os_str().is_empty());
        let Some(mapped) = mapped.filter(|_| !no_file) else {
            let name = self.jitted(when.pid, place, pc);
            if no_file {
                self.tell_nameless(when.pid);
            }
            return vec![name.unwrap_or_else(|| format!("{pc:#x}"))];
        };
        let at = pc - mapped.range.start + mapped.offset;
        if let Some(known) = self.names.get(&(mapped.file.clone(), at << 1 | u64::from(returned))) {
            return known.to_vec();
        }
        let file = mapped.file.file_name().unwrap_or(mapped.file.as_os_str()).to_string_lossy();
        let file = file.trim_end_matches(elf::DELETED);
        let code = self.code(when.pid, &mapped);
        let address = code.as_ref().and_then(|code| code.address(at));
        let found = match (&code, address) {
            (Some(code), Some(address)) => code.names(address.wrapping_sub(u64::from(returned))),
            _ => Vec::new(),
        };
        let spell = |named: &Named| match named.offset.map(|offset| offset + u64::from(returned)) {
            Some(0) => format!("{file}`{}", named.function),
            Some(offset) => format!("{file}`{}+{offset:#x}", named.function),
            None => format!("{file}`{} [inlined]", named.function),
        };
        let mut names: Vec<String> = found.iter().map(spell).collect();
        if names.is_empty() {
            names.push(format!("{file}`{:#x}", address.unwrap_or(at)));
        }
        self.names.insert((mapped.file, at << 1 | u64::from(returned)), names.clone().into());
        names
    }

    /// Takes note of a process that runs what it made and wrote nothing down yet, as it may after the first samples.
    fn tell_nameless(&mut self, pid: u32) {
        match self.processes.get(&pid).map_or(0, |process| process.jit_read) {
            0 => self.nameless.insert(pid),
            _ => self.nameless.remove(&pid),
        };
    }

    /// By `/tmp/perf-PID.map`: start, size and name of what a compiler made as the program ran. It grows, and addresses
    /// are used again, so that what was written last holds.
    fn jitted(&mut self, pid: u32, place: u64, pc: u64) -> Option<String> {
        let process = self.processes.get_mut(&pid)?;
        process.read_jit(pid);
        let (start, (end, name)) = process.jitted.range(..=place).next_back()?;
        (place < *end).then(|| if pc == *start { name.clone() } else { format!("{name}+{:#x}", pc - start) })
    }
}

impl Process {
    fn met(pid: u32) -> Process {
        let mapped = elf::mapped(pid as i32).unwrap_or_default();
        Process { images: vec![Image { since: 0, mapped }], ..Process::default() }
    }

    fn read_jit(&mut self, pid: u32) {
        /// A larger one is not read.
        const MOST: u64 = 256 << 20;
        let inside = format!("/proc/{pid}/root/tmp/perf-{}.map", inner_pid(pid));
        let paths = [PathBuf::from(inside), PathBuf::from(format!("/tmp/perf-{pid}.map"))];
        let Some((path, size)) = paths.into_iter().find_map(|path| {
            let size = std::fs::metadata(&path).ok().filter(|m| m.is_file())?.len();
            Some((path, size))
        }) else {
            return;
        };
        if size == self.jit_read || size > MOST {
            return;
        }
        self.jit_read = size;
        let text = std::fs::read(path).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let number = |word: Option<&str>| u64::from_str_radix(word?.trim_start_matches("0x"), 16).ok();
            let (start, size) = (number(words.next())?, number(words.next())?);
            Some((start, (start.checked_add(size)?, words.next()?.to_owned())))
        };
        self.jitted = String::from_utf8_lossy(&text).lines().filter_map(entry).collect();
    }
}

/// The process's id as it knows itself, in its own namespace.
fn inner_pid(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.and_then(|ids| ids.split_ascii_whitespace().next_back()?.parse().ok()).unwrap_or(pid)
}

impl Image {
    fn add(&mut self, mapped: Mapped) {
        /// A process that maps without end is not followed without end.
        const MOST: usize = 1 << 16;
        if self.mapped.contains(&mapped) {
            return;
        }
        if self.mapped.len() < MOST {
            self.mapped.push(mapped);
        }
    }
}

/// From the registers that came with a hit to those that DWARF numbers; then program counter and stack pointer.
fn start(given: &[u64]) -> Option<Start> {
    let mut registers = [None; REGISTERS];
    if ARM {
        for (register, value) in registers.iter_mut().zip(given.iter().take(32)) {
            *register = Some(*value);
        }
        return Some((registers, *given.get(32)?, *given.get(31)?));
    }
    /// the places of rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15 and rip in what comes
    const PLACES: [usize; 17] = [0, 3, 2, 1, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 8];
    for (register, place) in registers.iter_mut().zip(PLACES) {
        *register = given.get(place).copied();
    }
    Some((registers, *given.get(8)?, *given.get(7)?))
}

/// DWARF's numbers of the frame pointer, and of the link register.
const OTHERS: [usize; 2] = if ARM { [29, 30] } else { [6, 6] };

/// The stack pointer and those registers alone.
fn few(all: &Registers) -> Registers {
    let (stack, _) = cfi::stack_registers(ARM);
    let kept = |number: usize| OTHERS.contains(&number) || number == usize::from(stack);
    std::array::from_fn(|number| all.get(number).copied().flatten().filter(|_| kept(number)))
}
