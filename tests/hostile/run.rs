//! One session of the program under watch: which command it is at, how much time and memory that takes.

use std::{
    fs::{self, OpenOptions},
    path::Path,
    process::{Child, Command, ExitStatus},
    time::Duration,
};

/// Most CPU seconds that one command may take. Answers take milliseconds; this is for loops.
pub const SECONDS: f64 = 30.0;
/// Most memory that the program may have beside the mapped dump, in MB.
pub const MEGABYTES: u64 = 1500;

/// What the program wrote behind one question: its answer, its notes and its complaints.
pub struct Answer {
    pub question: String,
    pub text: String,
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

/// Asks questions in one session. It is ended at the first that takes too much.
pub fn ask(kmdb: &Path, dump: &Path, questions: &[String]) -> Answers {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), questions.join("\n") + "\n").unwrap();
    let record = tempfile::NamedTempFile::new().unwrap();
    // for what writes files, as ::gcore does
    let folder = tempfile::tempdir().unwrap();
    let end_of = |path| OpenOptions::new().append(true).open(path).unwrap();
    let mut child = Command::new(kmdb)
        .args(["-S", "--no-debuginfo", "--echo"])
        .arg(dump)
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .env("TERM", "dumb")
        .stdin(script.reopen().unwrap())
        .stdout(end_of(record.path()))
        .stderr(end_of(record.path()))
        .spawn()
        .unwrap();
    let (mut slowest, mut trouble) = ((0.0, String::new()), None);
    let status = watch(&mut child, record.path(), questions, &mut slowest, &mut trouble);
    let text = String::from_utf8_lossy(&fs::read(record.path()).unwrap()).into_owned();
    let answers = split(&text, questions);
    let opened = !text.starts_with("kmdb: ") && !answers.is_empty();
    if trouble.is_none() {
        let panic = answers.iter().find(|answer| answer.text.contains("panicked at"));
        let last = || answers.last().map_or("nothing", |answer| answer.question.as_str());
        trouble = match (panic, status.and_then(|status| status.code())) {
            (Some(answer), _) => Some(format!("`{}`: {}", answer.question, answer.text)),
            (None, None) => Some(format!("{status:?} at `{}`", last())),
            (None, Some(0..=2)) if answers.len() == questions.len() || !opened => None,
            (None, Some(code)) => Some(format!("exit status {code} behind `{}`: {}", last(), tail(&text))),
        };
    }
    Answers { answers, trouble, slowest }
}

fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(500);
    text.get((from..).find(|at| text.is_char_boundary(*at)).unwrap_or(0)..).unwrap_or_default()
}

/// Waits for the end, or brings it about.
fn watch(
    child: &mut Child,
    record: &Path,
    questions: &[String],
    slowest: &mut (f64, String),
    trouble: &mut Option<String>,
) -> Option<ExitStatus> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let (pid, mut at, mut seen, mut begun) = (child.id(), 0, 0, 0);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
        let now = ticks(pid);
        let taken = now.saturating_sub(begun) as f64 / TICKS_PER_SECOND;
        let current = questions.get(at).map_or("the start", String::as_str);
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
        let text = fs::read(record).unwrap_or_default();
        let new = String::from_utf8_lossy(text.get(seen..).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = new.lines().collect();
        let next = (at..questions.len()).rev().find(|i| lines.contains(&format!("> {}", questions[*i]).as_str()));
        if let Some(next) = next {
            (at, seen, begun) = (next, text.len(), now);
        }
    }
}

/// What stands in a record behind each question.
fn split(record: &str, questions: &[String]) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut rest = record;
    for (i, question) in questions.iter().enumerate() {
        let Some((_, behind)) = rest.split_once(&format!("> {question}\n")) else { break };
        let end = questions.get(i + 1).and_then(|next| {
            let next = format!("> {next}\n");
            if behind.starts_with(&next) { Some(0) } else { behind.find(&format!("\n{next}")).map(|at| at + 1) }
        });
        let end = end.unwrap_or(behind.len());
        answers.push(Answer { question: question.clone(), text: behind[..end].to_owned() });
        rest = &behind[end..];
    }
    answers
}
