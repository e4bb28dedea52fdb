//! A guest behind a QMP socket: a server that says what QEMU 7.2 says, and has the tiny machine's memory.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use targets::{Evidence, OpenError, OpenOptions, RegSource, Space, Target};

use crate::synth::{Memory, PAGE};

/// What the server can do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Skill {
    /// `pmemsave`
    Save,
    /// `xp` alone
    Print,
    /// hangs up after the registers
    Dies,
}

struct Server {
    dir: tempfile::TempDir,
    /// commands that came
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(memory: &Memory, skill: Skill) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("qmp")).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let bytes: Vec<u8> = memory.pages.values().flatten().copied().collect();
        let log = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                let mut out = stream.try_clone().unwrap();
                let mut say = |text: &str| out.write_all(format!("{text}\r\n").as_bytes()).is_ok();
                say(r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#);
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let request: serde_json::Value = serde_json::from_str(&line).unwrap();
                    let name = request["execute"].as_str().unwrap().to_owned();
                    log.lock().unwrap().push(name.clone());
                    say(r#"{"timestamp": {}, "event": "NIC_RX_FILTER_CHANGED"}"#);
                    let Some(answer) = answer(&name, &request["arguments"], &bytes, skill) else { break };
                    if !say(&answer) {
                        break;
                    }
                }
            }
        });
        Server { dir, heard }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("qmp")
    }

    fn heard(&self, name: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|heard| *heard == name).count()
    }
}

fn answer(name: &str, arguments: &serde_json::Value, bytes: &[u8], skill: Skill) -> Option<String> {
    let error = |what: &str| serde_json::json!({ "error": { "class": "GenericError", "desc": what } }).to_string();
    let told = |value: serde_json::Value| serde_json::json!({ "return": value }).to_string();
    let human = arguments["command-line"].as_str().unwrap_or_default();
    Some(match name {
        "qmp_capabilities" | "stop" | "cont" => told(serde_json::json!({})),
        "query-target" => told(serde_json::json!({ "arch": "x86_64" })),
        "query-status" => told(serde_json::json!({ "status": "running", "running": true })),
        "pmemsave" if skill == Skill::Dies => return None,
        "pmemsave" if skill == Skill::Save => {
            let at = arguments["val"].as_u64().unwrap() as usize;
            let len = arguments["size"].as_u64().unwrap() as usize;
            std::fs::write(arguments["filename"].as_str().unwrap(), &bytes[at..at + len]).unwrap();
            told(serde_json::json!({}))
        }
        "human-monitor-command" if human == "info mtree -f" => told(serde_json::json!(format!(
            "FlatView #0\r\n AS \"memory\", root: system\r\n Root memory region: system\r\n  \
             0000000000000000-{:016x} (prio 0, ram): pc.ram KVM\r\n",
            bytes.len() - 1
        ))),
        "human-monitor-command" if human == "info registers -a" => told(serde_json::json!(
            "\r\nCPU#0\r\nRAX=0000000000000001 RBX=0000000000000002 RCX=0000000000000003 RDX=0000000000000004\r\n\
             R8 =0000000000000008 R9 =0000000000000009 R10=000000000000000a R11=000000000000000b\r\n\
             RIP=ffffffff83000010 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n\
             CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]\r\n\
             GS =0000 ffff888000000000 ffffffff 00c00000\r\nTR =0040 fffffe0000003000 00004087 00008b00\r\n\
             GDT=     fffffe0000001000 0000007f\r\nCR0=80050033 CR2=0000000000000000 CR3=0000000000002000 CR4=000006f0\r\n\
             \r\nCPU#1\r\nRAX=0000000000000011 RBX=0000000000000012\r\n"
        )),
        "human-monitor-command" if human.starts_with("xp ") && skill == Skill::Print => {
            let (count, at) = human["xp /".len()..].split_once("xb 0x").unwrap();
            let at = usize::from_str_radix(at, 16).unwrap();
            let bytes = &bytes[at..at + count.parse::<usize>().unwrap()];
            let lines = bytes.chunks(8).enumerate().map(|(i, bytes)| {
                let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:#04x}")).collect();
                format!("{:016x}: {}\r\n", at + 8 * i, words.join(" "))
            });
            told(serde_json::json!(lines.collect::<String>()))
        }
        "human-monitor-command" => told(serde_json::json!("unknown command\r\n")),
        _ => error("no such command"),
    })
}

fn attach(socket: &Path, stop: bool) -> Result<Target, OpenError> {
    Target::guest(socket.to_str().unwrap(), stop, &OpenOptions::default())
}

#[test]
fn memory_and_registers_come_through_the_monitor() {
    let memory = Memory::new(4);
    for (skill, way) in [(Skill::Save, "pmemsave"), (Skill::Print, "monitor")] {
        let server = Server::start(&memory, skill);
        let target = attach(&server.socket(), false).unwrap();
        assert!(target.info().format.contains(way), "{}", target.info().format);
        assert_eq!(target.kernel_layout().unwrap().evidence, Evidence::Memory(22 << 12));
        for at in [0u64, 4088, 9 << 12, (24 << 12) - 8] {
            assert_eq!(target.u64(Space::Phys, at), Ok(memory.u64(at)), "{at:#x}");
        }
        assert_eq!(target.bytes(Space::Phys, 3 << 12, 20 * PAGE).unwrap()[..PAGE], memory.pages[&3]);
        assert!(target.u64(Space::Phys, 24 << 12).is_err());
        assert!(target.is_live().is_some());
        let cpu = &target.cpus()[0];
        assert_eq!((cpu.cpu, cpu.source, cpu.ip()), (0, RegSource::Qemu, Some(0xffff_ffff_8300_0010)));
        for (name, value) in [("r8", 8), ("r9", 9), ("rdx", 4), ("rflags", 0x246), ("cs", 0x10), ("cr3", 0x2000)] {
            assert_eq!(cpu.get(name), Some(value), "{name}");
        }
        assert_eq!(cpu.get("gs_base"), Some(0xffff_8880_0000_0000));
        assert_eq!(cpu.get("tr_base"), Some(0xffff_fe00_0000_3000));
        assert_eq!(cpu.get("gdt_base"), Some(0xffff_fe00_0000_1000));
        assert_eq!((target.cpus().len(), target.cpus()[1].get("rbx")), (2, Some(0x12)));
        assert_eq!(target.strangers(), [0u32; 0], "it runs the kernel at 0x2000");
    }
}

#[test]
fn a_stopped_guest_goes_on_afterwards() {
    let server = Server::start(&Memory::new(4), Skill::Save);
    let target = attach(&server.socket(), true).unwrap();
    assert!(target.is_live().is_none(), "it does not change");
    assert_eq!((server.heard("stop"), server.heard("cont")), (1, 0));
    drop(target);
    assert_eq!(server.heard("cont"), 1);
    drop(attach(&server.socket(), false).unwrap());
    assert_eq!(server.heard("stop"), 1, "it is not stopped unless asked for");
}

#[test]
fn what_is_no_guest_is_told_from_what_it_is() {
    let says = |socket: &Path| attach(socket, false).err().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    assert!(says(&path("none")).contains("no such socket"));
    std::fs::write(path("file"), "x").unwrap();
    assert!(says(&path("file")).contains("not a socket"));
    drop(UnixListener::bind(path("dead")).unwrap());
    assert!(says(&path("dead")).contains("nobody listens"));
    let other = UnixListener::bind(path("other")).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
    });
    assert!(says(&path("other")).contains("not a QMP socket"));
    let server = Server::start(&Memory::new(4), Skill::Dies);
    assert!(says(&server.socket()).contains("gone"), "{}", says(&server.socket()));
}
