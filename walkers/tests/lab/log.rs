//! ftrace's ring and the allocation log.

use super::{Dump, each_dump};
use std::time::Instant;
use walkers::ftrace::{self, Comms, Event, EventTypes};

/// A line of ftrace's text.
#[derive(Debug, PartialEq)]
pub struct Line {
    comm: String,
    pid: i32,
    cpu: u32,
    pub micros: u64,
    pub name: String,
    pub rest: String,
}

/// The lines of a text.
pub fn lines(text: &str) -> impl Iterator<Item = Line> {
    text.lines().filter(|l| !l.starts_with('#')).filter_map(parse)
}

fn parse(line: &str) -> Option<Line> {
    let (task, rest) = line.split_once(" [")?;
    let (comm, pid) = task.trim().rsplit_once('-')?;
    let (cpu, rest) = rest.split_once(']')?;
    let (head, rest) = rest.split_once(": ")?;
    let (_, stamp) = head.trim().split_once(char::is_whitespace)?;
    let (seconds, micros) = stamp.trim().split_once('.')?;
    let (name, rest) = rest.split_once(": ").unwrap_or((rest.split(['(', ' ']).next()?, rest));
    Some(Line {
        comm: comm.to_owned(),
        pid: pid.trim().parse().ok()?,
        cpu: cpu.parse().ok()?,
        micros: seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?,
        name: name.to_owned(),
        rest: rest.to_owned(),
    })
}

/// `symbol+0x1c [module]`: `%pS` without the size, which the kernel takes for the distance to the next symbol.
fn percent_ps(dump: &Dump, addr: u64) -> String {
    let Some(s) = dump.session.symbols.by_addr(&dump.session, addr) else { return format!("{addr:#x}") };
    let module = s.module.map(|m| format!(" [{m}]")).unwrap_or_default();
    format!("{}+{:#x}{module}", s.name, addr - s.addr)
}

fn without_size(text: &str) -> String {
    let Some((site, rest)) = text.split_once(" ptr=") else { return text.to_owned() };
    let Some((head, size)) = site.rsplit_once('/') else { return text.to_owned() };
    let module = size.split_once(' ').map(|(_, module)| format!(" {module}")).unwrap_or_default();
    format!("{head}{module} ptr={rest}")
}

/// The fields of the kmem events that a text line shows, in its words.
fn kmem(dump: &Dump, types: &EventTypes, event: &Event<'_>) -> Option<String> {
    let kind = types.get(event.kind)?;
    let (session, get) = (&dump.session, |name: &str| event.uint(kind.field(&dump.session, name)?));
    let site = percent_ps(dump, get("call_site")?);
    let ptr = get("ptr")?;
    // a field of freeings since Linux 5.12, of allocations in newest kernels
    let name =
        kind.field(session, "name").and_then(|f| event.text(f)).map(|n| format!(" name={n}")).unwrap_or_default();
    Some(match kind.name.as_str() {
        "kfree" => format!("call_site={site} ptr={ptr:016x}"),
        "kmem_cache_free" => format!("call_site={site} ptr={ptr:016x}{name}"),
        "kmalloc" | "kmem_cache_alloc" | "kmalloc_node" | "kmem_cache_alloc_node" => format!(
            "call_site={site} ptr={ptr:016x}{name} bytes_req={} bytes_alloc={} gfp_flags=",
            get("bytes_req")?,
            get("bytes_alloc")?
        ),
        _ => return None,
    })
}

#[test]
fn the_ring_reads_as_the_guest_read_it() {
    each_dump(|dump| {
        let Some(text) = dump.truth("trace/trace.gz") else { return };
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
        let session = &dump.session;
        let array = &ftrace::arrays(session).unwrap()[0];
        assert_eq!(array.name(session), None);
        let (types, comms) = (EventTypes::of(session).unwrap(), Comms::of(session).unwrap());
        let start = Instant::now();
        let mut count = 0usize;
        ftrace::events(session, array, &mut |_| {
            count += 1;
            Ok(())
        })
        .unwrap();
        let bare = start.elapsed();
        let (mut at, mut exact, mut fields) = (0, 0, 0);
        let windows = ftrace::events(session, array, &mut |event| {
            let Some(line) = lines.get(at) else { return Ok(()) };
            at += 1;
            let Some(mut line) = parse(line) else { panic!("{}: cannot parse {line}", dump.name) };
            line.rest = without_size(&line.rest);
            let kind = types.get(event.kind);
            let mine = (event.pid, event.cpu, (event.time + 500) / 1000);
            assert_eq!(mine, (line.pid, line.cpu, line.micros), "{} line {at}: {line:?} {event:x?}", dump.name);
            // a thread's name may have been overwritten since the text was taken
            if comms.get(session, event.pid) == line.comm {
                exact += 1;
            }
            let name = kind.map_or("?", |k| k.name.as_str());
            if let Some(text) = kmem(dump, &types, event) {
                assert!(line.name == name && line.rest.starts_with(&text), "{} line {at}: {line:?} {text}", dump.name);
                fields += 1;
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(at, lines.len(), "{}", dump.name);
        eprintln!(
            "{}: {count} events in {bare:?}, {at} lines equal, {exact} with the name, {fields} with all kmem fields; \
             clock {}, {windows:?}, notes {:?}",
            dump.name,
            ftrace::clock(session, array).unwrap(),
            session.notes.take(),
        );
        assert!(fields > 0);
    });
}
