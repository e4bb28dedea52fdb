//! How far a download from a debuginfod server is, for whoever sits at the terminal.

use engine::Interrupt;
use std::{
    io::{self, IsTerminal, Write},
    sync::OnceLock,
};

/// What Ctrl-C sets; before there is a session it ends the program.
static INTERRUPT: OnceLock<Interrupt> = OnceLock::new();

/// Ends downloads when that is set.
pub fn stop_with(interrupt: Interrupt) {
    let _ = INTERRUPT.set(interrupt);
}

/// Shows on a terminal what is fetched and how much came. False if it shall end.
pub fn progress(url: &str, done: u64, size: Option<u64>) -> bool {
    let go_on = !INTERRUPT.get().is_some_and(Interrupt::is_set);
    let mut err = io::stderr();
    if err.is_terminal() {
        let of = size.map_or(String::new(), |size| format!(" of {}", mega(size)));
        let finished = !go_on || size == Some(done);
        let text = if finished { String::new() } else { format!("fetching {url}: {}{of}", mega(done)) };
        // if even that fails there is nobody to tell
        let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
    }
    go_on
}

fn mega(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
