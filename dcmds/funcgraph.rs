//! What a function of the kernel calls, and how long each call takes: `::funcgraph`.
//!
//! ```console
//! > ::funcgraph vfs_write -m 2 -C 'echo hello > /dev/null'
//! CPU DURATION CALL
//!   0          vfs_write() {
//!   0    1.353   rw_verify_area();
//!   0    4.980 }
//! ```

use crate::probe::{self, command::Started};
use engine::prelude::*;
use probes::graph::{Graph, Wanted};
use std::time::{Duration, Instant};

/// Show what a function of the running kernel calls, with times: a tree of calls.
///
/// It is done by ftrace's function graph tracer, which there is once for all: it is refused while somebody else uses it. It is
/// switched off when kmdb ends, also if that is killed.
#[derive(Args)]
pub struct Funcgraph {
    /// how deep calls are shown; 0 is no limit
    #[arg(short = 'm', value_name = "DEPTH", default_value = "0")]
    depth: u32,
    /// only in this process
    #[arg(short = 'p', value_name = "PID")]
    pid: Option<ExprArg>,
    /// end after so long: `10s`, `500ms`, `2m`
    #[arg(short = 'd', value_name = "TIME", value_parser = probe::duration)]
    duration: Option<Duration>,
    /// run this command, trace it alone, and end with it
    #[arg(short = 'C', value_name = "COMMAND", conflicts_with = "pid")]
    command: Option<String>,
    /// functions of the kernel, or patterns of their names
    #[arg(value_name = "FUNCTION", required = true)]
    functions: Vec<String>,
}

/// A line of the tree.
#[derive(Row)]
struct CallRow {
    /// CPU
    cpu: Option<u32>,
    /// microseconds that the call took, where it ends
    #[heading("DURATION")]
    us: String,
    /// the call, indented by its depth
    call: String,
}

impl Dcmd for Funcgraph {
    const NAME: &'static str = "funcgraph";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[CallRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        probe::must_be_live(cx)?;
        let pid = probe::process(cx, self.pid.as_ref())?;
        let mut started = self.command.as_deref().map(Started::new).transpose()?;
        let pid = pid.or(started.as_ref().map(Started::pid));
        let wanted = Wanted { functions: self.functions.clone(), depth: self.depth, pid };
        let mut graph = Graph::start(&wanted).map_err(probe::wrong)?;
        if let Some(started) = &mut started {
            started.go(false)?;
        }
        let begun = Instant::now();
        loop {
            let ended = started.as_mut().is_some_and(Started::has_ended);
            let over = ended || cx.interrupt.is_set() || self.duration.is_some_and(|d| begun.elapsed() >= d);
            if over {
                graph.stop();
                cx.interrupt.clear();
            }
            let lines = graph.lines();
            let none = lines.is_empty();
            lines.iter().filter_map(|line| row(line)).try_for_each(|row| out.row(row))?;
            match (over, none) {
                (true, true) => break,
                (false, true) => std::thread::sleep(Duration::from_millis(20)),
                _ => {}
            }
            out.flush()?;
        }
        if let lost @ 1.. = graph.lost() {
            cx.notes.once(0, format!("{lost} events lost: the ring was full; -m and -p make fewer"));
        }
        Ok(())
    }
}

/// From a line of the tracer: ` 0)   1.353 us    |    rw_verify_area();`
fn row(line: &str) -> Option<CallRow> {
    let (front, call) = line.split_once('|')?;
    let (cpu, time) = front.split_once(')')?;
    let us = time.trim().trim_start_matches(['$', '@', '*', '#', '!', '+', ' ']).trim_end_matches(" us");
    // the tracer indents by two beside the line
    let call = call.strip_prefix("  ").unwrap_or(call);
    Some(CallRow { cpu: cpu.trim().parse().ok(), us: us.trim().to_owned(), call: call.to_owned() })
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Funcgraph>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let of = |line| row(line).map(|r| (r.cpu, r.us, r.call));
        let some = |cpu, us: &str, call: &str| Some((Some(cpu), us.to_owned(), call.to_owned()));
        assert_eq!(of(" 0)               |  vfs_write() {"), some(0, "", "vfs_write() {"));
        assert_eq!(of(" 12) + 13.353 us   |    rw_verify_area();"), some(12, "13.353", "  rw_verify_area();"));
        assert_eq!(of(" 0) ! 123.1 us    |  }"), some(0, "123.1", "}"));
        assert_eq!(of(" ------------------------------------------"), None);
    }
}
