//! Answers that take their time. What has been found is shown after a tenth of a second, and after half a second a
//! line on standard error says how it goes:
//!
//! ```text
//! 1,204,233 items, 610,004/s, 2 s
//! ```
//!
//! Both only happen where a person watches. What goes to a file or a pipe is the same however slow the machine is.

use super::{Renderer, guest, is_dumb};
use engine::{Error, Interrupt, Item, Result, Session, Sink, debuginfo::Types};
use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often the clock ticks.
const TICK: Duration = Duration::from_millis(100);
/// How long a command may take before it says how it goes.
const PATIENCE: Duration = Duration::from_millis(500);

/// The end of a pipeline: a renderer with a clock beside it.
pub struct Live<'a> {
    types: &'a Types,
    screen: Arc<Mutex<Screen>>,
    clock: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
    /// of standard output; a shell command that has read enough, as `! head` has, ends its own command and not the
    /// session
    closed: Option<&'a Cell<bool>>,
}

impl<'a> Live<'a> {
    /// Passes items on to `renderer`. `watched` says whether standard output is where it writes; then `closed` is set
    /// when nobody reads it any more.
    pub fn new(session: &'a Session, renderer: Box<dyn Renderer>, watched: bool, closed: &'a Cell<bool>) -> Live<'a> {
        let terminal = watched && io::stdout().is_terminal();
        let progress = watched && io::stderr().is_terminal() && !is_dumb();
        let interrupt = session.interrupt.clone();
        let status = Status { interrupt, started: Instant::now(), shown: false, wanted: progress };
        let screen = Arc::new(Mutex::new(Screen { renderer, status, terminal, left: false }));
        let clock = (terminal || progress).then(|| {
            let (stop, stopped) = mpsc::channel();
            let screen = Arc::clone(&screen);
            let tick = move || {
                while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                    lock(&screen).tick();
                }
            };
            (stop, thread::spawn(tick))
        });
        Live { types: &session.types, screen, clock, closed: watched.then_some(closed) }
    }

    fn note(&self, result: Result<()>) -> Result<()> {
        if let (Some(closed), Err(Error::Stop)) = (self.closed, &result) {
            closed.set(true);
        }
        result
    }
}

impl Sink for Live<'_> {
    fn item(&mut self, item: Item) -> Result<()> {
        let result = lock(&self.screen).item(self.types, item);
        self.note(result)
    }

    fn flush(&mut self) -> Result<()> {
        let result = lock(&self.screen).flush();
        self.note(result)
    }

    fn finish(&mut self) -> Result<()> {
        if let Some((stop, clock)) = self.clock.take() {
            drop(stop);
            // it does not panic, and if it did there would be nothing left to do
            let _ = clock.join();
        }
        let mut screen = lock(&self.screen);
        screen.status.hide();
        let left = screen.left;
        let result = screen.renderer.finish();
        drop(screen);
        self.note(if left { Err(Error::Stop) } else { result })
    }
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the pipeline and the clock share.
struct Screen {
    renderer: Box<dyn Renderer>,
    status: Status,
    /// text goes where the status line is
    terminal: bool,
    /// the reader left while nothing was written
    left: bool,
}

impl Screen {
    fn item(&mut self, types: &Types, item: Item) -> Result<()> {
        if self.terminal {
            self.status.hide();
        }
        self.renderer.item(types, item)
    }

    fn flush(&mut self) -> Result<()> {
        if self.terminal {
            self.status.hide();
        }
        self.renderer.flush()
    }

    fn tick(&mut self) {
        if self.terminal {
            self.status.hide();
            // other failures come up again with the next item
            if matches!(self.renderer.flush(), Err(Error::Stop)) {
                self.left = true;
                self.status.interrupt.set();
            }
        }
        self.status.show();
    }
}

/// The line on standard error.
struct Status {
    interrupt: Interrupt,
    started: Instant,
    shown: bool,
    wanted: bool,
}

impl Status {
    fn show(&mut self) {
        let time = self.started.elapsed();
        if !self.wanted || time < PATIENCE || guest::has_terminal() {
            return;
        }
        let text = match self.interrupt.passed() {
            0 => format!("{} s", time.as_secs()),
            items => {
                let rate = (items as f64 / time.as_secs_f64()) as u64;
                format!("{} items, {}/s, {} s", grouped(items), grouped(rate), time.as_secs())
            }
        };
        self.write(&format!("\r\x1b[K{text}"));
        self.shown = true;
    }

    fn hide(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.write("\r\x1b[K");
        }
    }

    fn write(&self, text: &str) {
        // a status line that cannot be written is not missed
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// `1204233` as `1,204,233`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn long_numbers_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_204_233), "1,204,233");
    }
}
