//! Servers that have debug information by build-id: `debuginfod`'s protocol, over HTTP.
//!
//! Nobody is asked unless the user has set `DEBUGINFOD_URLS`. What comes is kept where elfutils' own client keeps it
//! (debuginfod-client(7)), so that gdb, drgn and kmdb fetch a file once between them:
//!
//! ```text
//! $DEBUGINFOD_CACHE_PATH/BUILDID/debuginfo     or $XDG_CACHE_HOME/debuginfod_client, ~/.cache/debuginfod_client
//! ```
//!
//! A file gets that name once all of it is there and its build-id is the right one. An empty one of that name says
//! that no server had it; it holds for ten minutes. `DEBUGINFOD_TIMEOUT`, `DEBUGINFOD_MAXTIME` (seconds) and
//! `DEBUGINFOD_MAXSIZE` (bytes) mean what they mean there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use crate::elf::{DebugFile, Error};
use crate::find::hex;

/// Told how far a download is: what is fetched, bytes that came, bytes in all if that is known. Returns whether to go
/// on; asked some ten times a second.
pub type Progress = fn(&str, u64, Option<u64>) -> bool;

/// Seconds without a byte after which a server is given up (elfutils: 100 KB must come in that time).
const TIMEOUT: u64 = 90;

/// How long it is believed that no server has a file.
const MISS: Duration = Duration::from_secs(600);

/// Nothing larger is taken; the largest vmlinux are below 2 GiB.
const MAX_SIZE: u64 = 8 << 30;

/// How often [`Progress`] is asked.
const TICK: Duration = Duration::from_millis(100);

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn number(name: &str) -> Option<u64> {
    env(name)?.trim().parse().ok().filter(|&n| n > 0)
}

/// Where the client keeps what it fetched.
fn cache() -> Option<PathBuf> {
    let old = || Some(PathBuf::from(env("HOME")?).join(".debuginfod_client_cache")).filter(|dir| dir.is_dir());
    env("DEBUGINFOD_CACHE_PATH")
        .map(PathBuf::from)
        .or_else(old)
        .or_else(|| Some(PathBuf::from(env("XDG_CACHE_HOME")?).join("debuginfod_client")))
        .or_else(|| Some(PathBuf::from(env("HOME")?).join(".cache/debuginfod_client")))
}

/// Where the debug information of that build-id will be kept.
fn place(build_id: &str) -> Option<PathBuf> {
    Some(cache()?.join(build_id.to_ascii_lowercase()).join("debuginfo"))
}

/// Where it is kept, if it was fetched before, by whomever.
pub(crate) fn cached(build_id: &str) -> Option<PathBuf> {
    place(build_id).filter(|path| fs::metadata(path).is_ok_and(|meta| meta.len() > 0))
}

/// Fetches the debug information of that build-id from the user's servers. `None` if there are none, or if all of them
/// were asked lately and have no such file.
pub(crate) fn fetch(build_id: &str, progress: Option<Progress>) -> Option<Result<PathBuf, Error>> {
    let urls = env("DEBUGINFOD_URLS")?;
    if build_id.len() < 2 || !build_id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let remote = |url: &str, why: String| Error::Remote { url: url.to_owned(), why };
    let Some(path) = place(build_id) else {
        return Some(Err(remote(&urls, "no place to keep it: neither HOME nor DEBUGINFOD_CACHE_PATH is set".into())));
    };
    let age = fs::metadata(&path).and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
    if age.is_some_and(|age| age < MISS) {
        return None;
    }
    let mut failed = None;
    for server in urls.split_whitespace() {
        let url = format!("{}/buildid/{}/debuginfo", server.trim_end_matches('/'), build_id.to_ascii_lowercase());
        match download(&url, build_id, &path, progress) {
            Ok(true) => return Some(Ok(path)),
            Ok(false) => {}
            Err(why) => failed = failed.or(Some(remote(&url, why))),
        }
    }
    match failed {
        Some(why) => Some(Err(why)),
        None => {
            // told once, and kept: every module would ask again
            let _ = path.parent().map(fs::create_dir_all);
            let _ = File::create(&path);
            let build_id = build_id.to_ascii_lowercase();
            Some(Err(remote(&urls, format!("no server has debug information of build-id {build_id}"))))
        }
    }
}

/// What the thread that talks to a server says.
enum Said {
    /// it has no such file
    Nothing,
    /// it has one, of that many bytes
    Size(Option<u64>),
    Data(Vec<u8>),
    End,
    Failed(String),
}

/// Fetches one file. False if the server does not have it.
fn download(url: &str, build_id: &str, to: &Path, progress: Option<Progress>) -> Result<bool, String> {
    // without blocking here, so that Ctrl-C and a server that falls silent are noticed; a thread that is left behind
    // ends with its next message
    let (say, said) = mpsc::sync_channel(16);
    let request = url.to_owned();
    std::thread::spawn(move || ask(&request, &say));
    let Transfer::Came(file) = receive(&said, url, to, progress)? else { return Ok(false) };
    let fetched = DebugFile::open(file.path()).map_err(|e| format!("what came is of no use: {e}"))?;
    match fetched.build_id().map(hex) {
        Some(id) if id.eq_ignore_ascii_case(build_id) => {}
        other => return Err(format!("what came is of another build: {}", other.as_deref().unwrap_or("no build-id"))),
    }
    drop(fetched);
    file.persist(to).map_err(|e| format!("{}: {}", to.display(), e.error))?;
    Ok(true)
}

enum Transfer {
    Nothing,
    Came(tempfile::NamedTempFile),
}

/// Takes down what the thread says, beside the place where it will be kept. On any failure nothing stays.
fn receive(said: &Receiver<Said>, url: &str, to: &Path, progress: Option<Progress>) -> Result<Transfer, String> {
    let silence = Duration::from_secs(number("DEBUGINFOD_TIMEOUT").unwrap_or(TIMEOUT));
    let longest = number("DEBUGINFOD_MAXTIME").map(Duration::from_secs);
    let most = number("DEBUGINFOD_MAXSIZE").unwrap_or(MAX_SIZE);
    let (begun, mut heard, mut told) = (Instant::now(), Instant::now(), None::<Instant>);
    let (mut done, mut size, mut file) = (0u64, None, None);
    let local = |e: std::io::Error| format!("{}: {e}", to.display());
    loop {
        if told.is_none_or(|time| time.elapsed() >= TICK) {
            told = Some(Instant::now());
            if progress.is_some_and(|go_on| !go_on(url, done, size)) {
                return Err("interrupted".into());
            }
        }
        let next = match said.recv_timeout(TICK) {
            Ok(next) => next,
            Err(RecvTimeoutError::Disconnected) => return Err("the connection broke".into()),
            Err(RecvTimeoutError::Timeout) if heard.elapsed() > silence => {
                return Err(format!("no answer for {} seconds", silence.as_secs()));
            }
            Err(RecvTimeoutError::Timeout) => continue,
        };
        heard = Instant::now();
        match next {
            Said::Nothing => return Ok(Transfer::Nothing),
            Said::Failed(why) => return Err(why),
            Said::Size(known) => {
                size = known;
                let dir = to.parent().unwrap_or(Path::new("."));
                fs::create_dir_all(dir).map_err(local)?;
                file = Some(tempfile::Builder::new().prefix("debuginfo.").tempfile_in(dir).map_err(local)?);
            }
            Said::Data(data) => {
                done = done.saturating_add(data.len() as u64);
                if let Some(file) = &mut file {
                    file.write_all(&data).map_err(local)?;
                }
            }
            Said::End if size.is_some_and(|size| size != done) => {
                return Err(format!("it broke off after {done} bytes"));
            }
            Said::End => return file.map(Transfer::Came).ok_or_else(|| "an empty answer".into()),
        }
        if done.max(size.unwrap_or(0)) > most {
            return Err(format!("more than {most} bytes"));
        }
        if longest.is_some_and(|longest| begun.elapsed() > longest) {
            return Err(format!("not done after {} seconds", begun.elapsed().as_secs()));
        }
    }
}

/// Asks, and says what comes until nobody listens.
fn ask(url: &str, say: &SyncSender<Said>) {
    let said = answer(url, say).unwrap_or_else(|why| Some(Said::Failed(why)));
    // whoever has left needs no last word
    if let Some(said) = said {
        let _ = say.send(said);
    }
}

fn answer(url: &str, say: &SyncSender<Said>) -> Result<Option<Said>, String> {
    const PIECE: usize = 1 << 17;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .user_agent(concat!("kmdb/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .build()
        .into();
    let mut response = agent.get(url).call().map_err(|e| e.to_string())?;
    match response.status().as_u16() {
        200 => {}
        404 => return Ok(Some(Said::Nothing)),
        status => return Err(format!("the server answers {status}")),
    }
    let size = response.body().content_length();
    if say.send(Said::Size(size)).is_err() {
        return Ok(None);
    }
    let mut body = response.body_mut().as_reader();
    loop {
        let mut data = vec![0; PIECE];
        let len = body.read(&mut data).map_err(|e| format!("it broke off: {e}"))?;
        if len == 0 {
            return Ok(Some(Said::End));
        }
        data.truncate(len);
        if say.send(Said::Data(data)).is_err() {
            return Ok(None);
        }
    }
}
