//! Debug information from servers: asked only if the user has set some, kept only if it is whole and the right one.
//!
//! The server is a few lines here, on the loopback; what it serves is the debug file of the module in a corpus dump.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

const DUMP: &str = "k612-uaf";

/// labmod's, in that dump.
const MODULE: &str = "b0f16a7b05e31363970e02c10252121a693fafd1";

const RECORDS: &str = "::walk kmem_log | ::bufctl -c lab_open | ::bufctl -v";

fn corpus(dump: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(dump).join(file)
}

fn module_of(dump: &str) -> Vec<u8> {
    zstd::decode_all(fs::File::open(corpus(dump, "labmod.ko.zst")).unwrap()).unwrap()
}

/// How the server answers those who ask for the module; all else it does not have.
#[derive(Clone)]
enum Answers {
    With(Vec<u8>),
    /// announces all, and breaks off
    Half(Vec<u8>),
    Status(u16),
    /// takes the question and says nothing
    Silence,
}

struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answers: Answers) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
                let Some(Ok(line)) = lines.next() else { continue };
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                let ours = path == format!("/buildid/{MODULE}/debuginfo");
                log.lock().unwrap().push(path);
                let head =
                    |status, len| format!("HTTP/1.1 {status} X\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
                // whoever asked may have left
                let _ = match &answers {
                    _ if !ours => connection.write_all(head(404, 0).as_bytes()),
                    Answers::With(file) => connection.write_all(&[head(200, file.len()).as_bytes(), file].concat()),
                    Answers::Half(file) => {
                        let half = &file[..file.len() / 2];
                        connection.write_all(&[head(200, file.len()).as_bytes(), half].concat())
                    }
                    Answers::Status(status) => connection.write_all(head(*status, 0).as_bytes()),
                    Answers::Silence => {
                        silent.push(connection);
                        Ok(())
                    }
                };
            }
        });
        Server { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

struct Answer {
    out: String,
    err: String,
    status: Option<i32>,
}

/// Asks with a home of its own, and these settings.
fn ask(home: &TempDir, settings: &[(&str, &str)]) -> Answer {
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .arg("-S")
        .arg(corpus(DUMP, "vmcore.zst"))
        .args(["-e", RECORDS])
        .env_clear()
        .env("HOME", home.path())
        .env("NO_COLOR", "1")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { out: text(output.stdout), err: text(output.stderr), status: output.status.code() }
}

fn kept(cache: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(cache.join(MODULE).join("debuginfo")).ok()?.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

#[test]
fn no_server_is_asked_unless_the_user_names_one() {
    let server = Server::start(Answers::With(module_of(DUMP)));
    let home = tempfile::tempdir().unwrap();
    for settings in [&[][..], &[("DEBUGINFOD_URLS", " ")], &[("DEBUGINFOD_SERVERS", &*server.url)]] {
        let answer = ask(&home, settings);
        assert_eq!(answer.status, Some(0), "{}", answer.err);
        assert!(answer.out.contains("labmod`lab_open+") && !answer.out.contains("labmod.c"), "{}", answer.out);
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    // and not if debug information is not wanted
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .arg("-S")
        .arg("--no-debuginfo")
        .arg(corpus(DUMP, "vmcore.zst"))
        .args(["-e", RECORDS])
        .env("DEBUGINFOD_URLS", &server.url)
        .env("HOME", home.path())
        .output()
        .unwrap();
    assert!(output.status.success() && server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
fn what_a_server_has_is_fetched_once_and_kept_where_others_keep_it() {
    let module = module_of(DUMP);
    let empty = Server::start(Answers::Status(404));
    let server = Server::start(Answers::With(module.clone()));
    let home = tempfile::tempdir().unwrap();
    let urls = format!("{} {}", empty.url, server.url);
    let cache = home.path().join(".cache/debuginfod_client");
    let answer = ask(&home, &[("DEBUGINFOD_URLS", &urls)]);
    assert_eq!(answer.status, Some(0), "{}", answer.err);
    assert!(answer.out.contains("labmod.c:"), "{}{}", answer.out, answer.err);
    assert!(kept(&cache).unwrap() == module);
    let wanted = format!("/buildid/{MODULE}/debuginfo");
    assert_eq!(server.asked().iter().filter(|path| **path == wanted).count(), 1, "{:?}", server.asked());
    // the kernel's own it has not, which is told
    assert!(answer.err.contains("no server has debug information of build-id 7f76"), "{}", answer.err);
    // from now on without a server, and what is not there is not asked for again
    let before = server.asked().len();
    for settings in [&[][..], &[("DEBUGINFOD_URLS", &*urls)]] {
        let answer = ask(&home, settings);
        assert!(answer.out.contains("labmod.c:"), "{}{}", answer.out, answer.err);
        assert!(!answer.err.contains("no server"), "{}", answer.err);
    }
    assert_eq!(server.asked().len(), before, "{:?}", server.asked());
    // elsewhere if the user says so
    let other = tempfile::tempdir().unwrap();
    let place = other.path().to_str().unwrap();
    ask(&home, &[("DEBUGINFOD_URLS", &server.url), ("DEBUGINFOD_CACHE_PATH", place)]);
    assert!(kept(other.path()).unwrap() == module);
}

#[test]
fn what_is_broken_or_foreign_is_not_kept() {
    let module = module_of(DUMP);
    let cases = [
        (Answers::Half(module.clone()), "it broke off"),
        (Answers::With(module_of("k61-uaf")), "of another build: 455f3defdce4e0cad1ab92c98f02d668df17c022"),
        (Answers::With(b"<html>".to_vec()), "not an ELF file"),
        (Answers::Status(500), "the server answers 500"),
        (Answers::Silence, "no answer for 1 seconds"),
        (Answers::With(module.clone()), "more than 1000 bytes"),
    ];
    for (answers, why) in cases {
        let server = Server::start(answers);
        let home = tempfile::tempdir().unwrap();
        let most = if why.contains("1000") { "1000" } else { "100000000" };
        let settings = [("DEBUGINFOD_URLS", &*server.url), ("DEBUGINFOD_TIMEOUT", "1"), ("DEBUGINFOD_MAXSIZE", most)];
        let answer = ask(&home, &settings);
        // the answer is as good as without a server
        assert_eq!(answer.status, Some(0), "{why}: {}", answer.err);
        assert!(answer.out.contains("labmod`lab_open+") && !answer.out.contains("labmod.c"), "{why}: {}", answer.out);
        assert!(answer.err.contains(why), "{why}: {}", answer.err);
        let folder = home.path().join(".cache/debuginfod_client").join(MODULE);
        let left = fs::read_dir(folder).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{why}");
    }
    // nobody listens there
    let home = tempfile::tempdir().unwrap();
    let answer = ask(&home, &[("DEBUGINFOD_URLS", "http://127.0.0.1:1")]);
    assert_eq!(answer.status, Some(0), "{}", answer.err);
    assert!(answer.err.contains("http://127.0.0.1:1/buildid/"), "{}", answer.err);
}
