//! One session of the program under watch: which command it is at, how much time and memory that takes.

use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader, PipeReader},
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// Most CPU seconds that one command may take. Answers take milliseconds; this is for loops.
pub const SECONDS: f64 = 30.0;
/// Most memory that the program may have beside the mapped dump, in MB.
pub const MEGABYTES: u64 = 1500;
/// Bytes that are kept of an answer's beginning: enough to show what is wrong with it, or all.
pub const SOME: usize = 2000;
pub const ALL: usize = usize::MAX;
/// Most lines that are kept of those that say something was not seen.
const MOST_SAID: usize = 20_000;
/// A longer line has not been written by anybody: it would fill memory here.
const LONGEST: usize = 1 << 24;

/// What the program wrote behind one question: its answer, its notes and its complaints.
pub struct Answer {
    pub question: String,
    /// the beginning of it
    pub text: String,
    /// of all of it
    pub hash: u64,
    /// the lines that say that something could not be seen
    pub said: BTreeSet<String>,
    /// a line that a terminal would obey
    pub control: Option<String>,
    panic: Option<String>,
}

impl Answer {
    fn new(question: &str) -> Answer {
        Answer {
            question: question.to_owned(),
            text: String::new(),
            hash: 0,
            said: BTreeSet::new(),
            control: None,
            panic: None,
        }
    }

    /// A further line.
    fn take(&mut self, line: &str, kept: usize) {
        let mut hasher = DefaultHasher::new();
        (self.hash, line).hash(&mut hasher);
        self.hash = hasher.finish();
        if self.text.len() < kept {
            self.text.push_str(line);
        }
        let is_word = ["note: ", "kmdb: "].iter().any(|word| line.starts_with(word));
        let in_cell = || ["unreadable", "not in the dump", "?"].iter().any(|sign| line.contains(sign));
        // words come last, behind any number of cells
        if is_word || self.said.len() < MOST_SAID && in_cell() {
            self.said.insert(line.to_owned());
        }
        if line.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            self.control.get_or_insert_with(|| line.to_owned());
        }
        if self.panic.is_some() || line.contains("panicked at") {
            self.panic.get_or_insert_default().push_str(line);
        }
    }
}

/// What came of a session.
pub struct Answers {
    /// as far as it got
    pub answers: Vec<Answer>,
    /// what no dump may bring about
    pub trouble: Option<String>,
    /// the command that took longest, and its CPU seconds
    pub slowest: (f64, String),
}

/// What has been written up to now.
#[derive(Default)]
struct Record {
    /// before the first question is repeated
    opening: String,
    answers: Vec<Answer>,
}

/// Ticks of the CPU that a process has had.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // utime and stime, the 14th and 15th of all
    fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Megabytes of memory of a process that no file has.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Reads what the program writes, which repeats each question before its answer.
fn listen(pipe: PipeReader, questions: &[String], record: &Mutex<Record>, kept: usize) {
    let mut pipe = BufReader::new(pipe);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        while bytes.last() != Some(&b'\n') && bytes.len() < LONGEST {
            let Ok(more) = pipe.fill_buf() else { return };
            let end = more.iter().position(|byte| *byte == b'\n').map_or(more.len(), |at| at + 1);
            if end == 0 {
                break;
            }
            bytes.extend(more.iter().take(end));
            pipe.consume(end);
        }
        if bytes.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&bytes);
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        let next = questions.get(record.answers.len());
        match next.filter(|next| line.strip_prefix("> ").is_some_and(|asked| asked.trim_end_matches('\n') == *next)) {
            Some(next) => record.answers.push(Answer::new(next)),
            None => match record.answers.last_mut() {
                Some(answer) => answer.take(&line, kept),
                None => record.opening.push_str(&line),
            },
        }
    }
}

/// Asks questions in one session, and keeps `kept` bytes of each answer. It is ended at the first that takes too much.
pub fn ask(kmdb: &Path, dump: &Path, questions: &[String], kept: usize) -> Answers {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), questions.join("\n") + "\n").unwrap();
    // for what writes files, as ::gcore does
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = Command::new(kmdb)
        .args(["-S", "--no-debuginfo", "--echo"])
        .arg(dump)
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .env("TERM", "dumb")
        .stdin(script.reopen().unwrap())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let record = Arc::new(Mutex::new(Record::default()));
    let listener = {
        let (record, questions) = (record.clone(), questions.to_vec());
        thread::spawn(move || listen(reader, &questions, &record, kept))
    };
    let (mut slowest, mut trouble) = ((0.0, String::new()), None);
    let status = watch(&mut child, &record, questions, &mut slowest, &mut trouble);
    listener.join().unwrap();
    let Record { opening, answers } = std::mem::take(&mut *record.lock().unwrap());
    let opened = !opening.starts_with("kmdb: ") && !answers.is_empty();
    if trouble.is_none() {
        let panic = answers.iter().find_map(|answer| Some((answer, answer.panic.as_ref()?)));
        let last = || answers.last().map_or(("nothing", opening.as_str()), |last| (&last.question, &last.text));
        trouble = match (panic, status.and_then(|status| status.code())) {
            (Some((answer, panic)), _) => Some(format!("`{}`: {panic}", answer.question)),
            (None, None) => Some(format!("{status:?} at `{}`", last().0)),
            (None, Some(0..=2)) if answers.len() == questions.len() || !opened => None,
            (None, Some(code)) => Some(format!("exit status {code} behind `{}`: {}", last().0, last().1)),
        };
    }
    Answers { answers, trouble, slowest }
}

/// Waits for the end, or brings it about.
fn watch(
    child: &mut Child,
    record: &Mutex<Record>,
    questions: &[String],
    slowest: &mut (f64, String),
    trouble: &mut Option<String>,
) -> Option<ExitStatus> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let (pid, mut at, mut begun) = (child.id(), 0, 0);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(20));
        let now = ticks(pid);
        let answered = record.lock().unwrap_or_else(PoisonError::into_inner).answers.len();
        if answered != at {
            (at, begun) = (answered, now);
        }
        let taken = now.saturating_sub(begun) as f64 / TICKS_PER_SECOND;
        let current = at.checked_sub(1).and_then(|at| questions.get(at)).map_or("the start", String::as_str);
        if taken > slowest.0 {
            *slowest = (taken, current.to_owned());
        }
        if taken > SECONDS {
            *trouble = Some(format!("`{current}` takes more than {SECONDS} s"));
        } else if memory(pid) > MEGABYTES {
            *trouble = Some(format!("`{current}` takes more than {MEGABYTES} MB"));
        }
        if trouble.is_some() {
            child.kill().unwrap();
            return child.wait().ok();
        }
    }
}
