//! The same questions with BPF and without: the answers must be the same, and true.
//!
//! Asks about system calls that this test makes itself. Where the machine lets nobody ask, that is said and skipped.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use probes::{
    Error, Recording,
    expr::{Binary, Current, Int, Test, Text, Value},
    program::{Action, Counters, Spec},
    recording::{Hit, Limits},
    source::Source,
    tracefs::Tracepoint,
};
use std::{collections::BTreeMap, sync::Mutex, time::Duration};

const CALLS: u64 = 5000;
/// One at a time, or they see each other's calls.
static TURN: Mutex<()> = Mutex::new(());

/// Asks for the priority of processes that do not exist: 0 to 7 above a number that none has, over and over.
fn workload() {
    for i in 0..CALLS {
        // SAFETY: numbers are all that it takes.
        #[allow(unsafe_code)]
        unsafe {
            libc::getpriority(libc::PRIO_PROCESS, (0x7000_0000 + i % 8) as libc::id_t)
        };
    }
}

/// Which of the eight it was.
fn which() -> Int {
    Int::binary(Binary::And, Int::context(24, 8, false), Int::Const(7))
}

fn mine() -> Test {
    Test::Int(Int::Current(Current::Pid).equals(std::process::id().into()))
}

/// What was counted, and what came out, of the workload.
type Answer = (Counters, BTreeMap<Vec<u8>, (u64, i64)>, Vec<Hit>);

fn ask(action: Action, test: Test, bpf: bool) -> Result<Answer, Error> {
    ask_within(action, test, Limits { bpf, ..Limits::default() })
}

fn ask_within(action: Action, test: Test, limits: Limits) -> Result<Answer, Error> {
    let point = Tracepoint::find("syscalls", "sys_enter_getpriority")?;
    let spec = Spec { id: 0, join: None, test: Some(test), action, result: 1 };
    let mut recording = Recording::start(&[(Source::Tracepoint(point), spec)], limits)?;
    assert_eq!(recording.without_bpf().is_none(), limits.bpf);
    workload();
    let mut hits = Vec::new();
    recording.poll(Duration::from_millis(20), &mut |hit| hits.push(hit));
    recording.finish(&mut |hit| hits.push(hit));
    let mut entries = BTreeMap::new();
    recording.entries(|_, key, entry| {
        entries.insert(key.to_vec(), (entry.count, entry.sum));
    })?;
    Ok((recording.counters()?, entries, hits))
}

/// Both ways; none if this machine has one of them not.
fn both(action: &Action, test: &Test) -> Option<[Answer; 2]> {
    let _turn = TURN.lock().unwrap();
    match (ask(action.clone(), test.clone(), true), ask(action.clone(), test.clone(), false)) {
        (Ok(with), Ok(without)) => Some([with, without]),
        (Err(e), _) | (_, Err(e)) => {
            eprintln!("skipped: {e}");
            None
        }
    }
}

#[test]
fn counts_and_sums_by_key_are_the_same() {
    let few = Test::Int(Int::binary(Binary::Lt { signed: false }, which(), Int::Const(6)));
    let action = Action::Aggregate { key: vec![Value::Int(which())], of: Some(which()) };
    let Some([with, without]) = both(&action, &Test::All(vec![mine(), few])) else { return };
    let expected: BTreeMap<_, _> =
        (0..6u64).map(|n| (n.to_ne_bytes().to_vec(), (CALLS / 8, (n * CALLS / 8) as i64))).collect();
    assert_eq!(with.1, expected);
    assert_eq!(without.1, expected);
    assert_eq!((with.0.passed, with.0.lost), (CALLS / 8 * 6, 0));
    assert_eq!((without.0.passed, without.0.lost), (CALLS / 8 * 6, 0));
}

#[test]
fn keys_too_long_for_the_kernel_are_counted_by_their_digests() {
    let key = vec![Value::Text(Text::Comm, 16), Value::Int(which()), Value::Int(Int::Const(1))];
    let action = Action::Aggregate { key, of: Some(which()) };
    let _turn = TURN.lock().unwrap();
    let within = |longest_key| ask_within(action.clone(), mine(), Limits { longest_key, ..Limits::default() });
    match (within(usize::MAX), within(16)) {
        (Ok(whole), Ok(digests)) => {
            assert_eq!(digests.1, whole.1);
            assert_eq!((digests.1.len(), digests.0.lost), (8, 0));
        }
        (Err(e), _) | (_, Err(e)) => eprintln!("skipped: {e}"),
    }
}

#[test]
fn histograms_are_the_same() {
    let action = Action::Aggregate { key: vec![Value::Int(Int::Bucket(Box::new(which())))], of: None };
    let Some([with, without]) = both(&action, &mine()) else { return };
    assert_eq!(with.1, without.1);
    assert_eq!(with.1.values().map(|(count, _)| *count).collect::<Vec<_>>(), [1, 1, 2, 4].map(|n| n * CALLS / 8));
}

#[test]
fn events_are_the_same_and_in_order() {
    let action = Action::Emit(vec![Value::Text(Text::Comm, 16), Value::Int(which())]);
    let Some([with, without]) = both(&action, &mine()) else { return };
    // behind the values there may be padding
    let plain = |answer: &Answer| answer.2.iter().map(|hit| (hit.values[..24].to_vec(), hit.tid)).collect::<Vec<_>>();
    assert_eq!((with.2.len() as u64, without.2.len() as u64), (CALLS, CALLS));
    assert!(plain(&with) == plain(&without), "{:?} and {:?}", &with.2[..3], &without.2[..3]);
    assert!(without.2.is_sorted_by_key(|hit| hit.time));
    assert!(without.2.iter().all(|hit| hit.unreadable == 0 && hit.pid == std::process::id()));
}

#[test]
fn what_only_bpf_sees_is_said() {
    let memory = Value::Int(Int::load(probes::expr::Space::User, Int::context(24, 8, false), 0, 8, false));
    let key = Action::Aggregate { key: vec![memory], of: None };
    match ask(key, mine(), false) {
        Err(e @ Error::Wrong(_)) if e.to_string().contains("memory at the hit is seen by BPF only") => {}
        Err(e) => eprintln!("skipped: {e}"),
        Ok(_) => panic!("memory was read without BPF"),
    }
}
