//! The corruption zoo: each sin of `corpus/lab/zoo` is found where the guest says that it was committed, and clean dumps
//! have none.
//!
//! The zoo's dumps are those of the corpus and, with `KMDB_LAB` set to a folder that `corpus/lab/make.sh` has filled, all
//! of the lab's `zoo-*`; clean are the lab's `*-dbg` and `*-plain`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Dumps under `dir` of whose names `wanted` says so.
fn dumps(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| wanted(path.file_name().unwrap().to_str().unwrap()))
        .filter_map(|path| ["vmcore.elf", "vmcore.zst"].iter().map(|file| path.join(file)).find(|file| file.exists()))
        .collect();
    found.sort();
    found
}

fn lab() -> Option<PathBuf> {
    let lab = std::env::var_os("KMDB_LAB").map(|lab| PathBuf::from(lab).join("dumps"));
    if lab.is_none() {
        println!("skipped: KMDB_LAB names no lab");
    }
    lab
}

fn zoos() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let is_zoo = |name: &str| name.contains("zoo");
    let mut found = dumps(&corpus, |name| is_zoo(name) && name != "lab");
    found.extend(lab().map(|lab| dumps(&lab, is_zoo)).unwrap_or_default());
    found.retain(|dump| dump.with_file_name("truth").join("zoo.txt").exists());
    found
}

fn rows(dump: &Path, command: &str) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .args(["-S", "--no-debuginfo", "-o", "json"])
        .arg(dump)
        .args(["-e", command])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(output.status.code(), Some(i32::from(!rows.is_empty())), "{command} on {}", dump.display());
    rows
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// What the guest says of one sin.
struct Sin<'a> {
    name: &'a str,
    words: HashMap<&'a str, &'a str>,
}

impl Sin<'_> {
    fn addr(&self, key: &str) -> u64 {
        number(self.words[key]).unwrap()
    }
}

fn sins(truth: &str) -> impl Iterator<Item = Sin<'_>> {
    truth.lines().map(|line| {
        let (name, rest) = line.split_once(' ').unwrap();
        Sin { name, words: rest.split(' ').filter_map(|word| word.split_once('=')).collect() }
    })
}

/// A row that must be there.
struct Wanted {
    finding: &'static str,
    /// a column, and the address in it
    at: Option<(&'static str, u64)>,
    /// the cache, and words of the judgement
    cache: String,
    says: String,
}

impl Wanted {
    fn is(&self, row: &Value) -> bool {
        let text = |column: &str| row[column].as_str().unwrap_or_default();
        let place = text("cache").to_owned() + text("place");
        // the same object may be gone for more than one
        let follows = row["history"].as_array().into_iter().flatten().filter_map(Value::as_str).any(|line| {
            line.starts_with("from it follows") && line.contains(self.finding) && line.contains(&self.says)
        });
        (follows && self.at.is_none_or(|(_, addr)| row.to_string().contains(&format!("{addr:x}"))))
            || text("finding") == self.finding
                && self.at.is_none_or(|(column, addr)| number(text(column)) == Some(addr))
                && place.contains(&self.cache)
                && text("verdict").contains(&self.says)
    }

    fn text(&self) -> String {
        format!("no {} at {:x?} saying {:?}", self.finding, self.at, self.says)
    }
}

/// What a dump lets one see.
struct Sight {
    /// `slub_debug` was on
    fenced: bool,
    /// the kernel keeps who allocated and freed: before 6.2 not of caches with `SLAB_NOLEAKTRACE`, which the zoo's have
    /// where there is no `SLAB_NO_MERGE`
    tracked: bool,
    /// what is freed is filled with zeros: `init_on_free=1`
    zeroed: bool,
    /// what `kmalloc()` was not asked for is fenced: since Linux 6.2 (946fa0dbf2d8)
    tails: bool,
    /// the module's types are known: modules of Debian's 5.10 have no BTF
    typed: bool,
}

/// What must be found for a sin.
enum Judged {
    /// these rows, of `::kmem_verify` and `::verify`
    Rows(Vec<Wanted>),
    /// these addresses, by `::walk leakbuf`
    Leaks(Vec<u64>),
    /// per-CPU memory, by `::findleaks`
    Percpu,
    /// these threads, by `::blocked`, and of whom it says that they hold what is waited for
    Blocked(Vec<(String, String)>),
    /// such a report, by `::kmalog`, with the sin's function in it
    Told(&'static str, &'static str),
    /// nothing may be said of these addresses: it only looks like a sin
    None(Vec<u64>),
    /// it cannot be seen, for this reason
    Unseen(&'static str),
}

/// Of a sin against memory that has no fence.
const NO_FENCE: &str = "without slub_debug nothing says what bytes of an object of no known shape should be";
/// Of a sin against free memory.
const NO_POISON: &str = "without slub_debug nothing says what bytes of a free object should be";

fn objects(sin: &Sin<'_>, key: &str) -> Vec<u64> {
    sin.words[key].split(',').map(|word| number(word).unwrap()).collect()
}

fn judged(sin: &Sin<'_>, sight: &Sight) -> Judged {
    let row = |finding, at, says: &str| Wanted {
        finding,
        at,
        cache: sin.words.get("cache").copied().unwrap_or_default().into(),
        says: says.into(),
    };
    let object = |key| Some(("object", sin.addr(key)));
    let at = |key, plus| Some(("addr", sin.addr(key) + plus));
    let rows = Judged::Rows;
    let one = |finding, place, says: &str| Judged::Rows(vec![row(finding, place, says)]);
    let fence = |finding, says: &str| match sight.fenced {
        true => one(finding, object("object"), says),
        false => Judged::Unseen(NO_FENCE),
    };
    let poison = |says: &str| match sight.fenced || sight.zeroed {
        true => one("poison", object("object"), says),
        false => Judged::Unseen(NO_POISON),
    };
    let typed = |finding, place, says: &str| match sight.typed {
        true => one(finding, place, says),
        false => Judged::Unseen("the module's types are not known: there is no BTF of modules before Linux 5.11"),
    };
    match sin.name {
        "overflow" => fence("redzone-right", "overflow: 5 bytes"),
        "overflow_far" if sight.fenced => {
            one("redzone-right", object("object"), &format!("into the next object, {:x}", sin.addr("victim")))
        }
        "overflow_far" => one("list-overwritten", at("victim", 0), "overflow from the neighbour in front"),
        "overflow_free" if sight.fenced => {
            one("redzone-right", object("object"), &format!("into the next object, {:x}", sin.addr("victim")))
        }
        "overflow_free" => one("freelist", object("victim"), "overflow from the neighbour in front"),
        "overflow_short" if sight.tails => one("redzone-kmalloc", object("object"), "overflow: 3 bytes"),
        "overflow_short" => Judged::Unseen("what kmalloc() was not asked for is fenced since Linux 6.2, by slub_debug"),
        "underflow" => fence("redzone-left", "underflow: 4 bytes"),
        "uaf_write" => poison("written 0x10"),
        "uaf_pointer" => poison("a pointer to a zoo_uafptr object"),
        "uaf_read" | "dangling" => {
            rows(vec![Wanted { cache: "zoo".into(), ..row("dangling", at("pointer", 0), "freed") }])
        }
        // before Linux 5.14 the log has the object's address only hashed
        "double_free" if sight.fenced => one("reported", None, "double free"),
        "double_free" => one("freelist", None, "free twice"),
        "wrong_cache" => one("reported", None, "freed to the wrong cache, zoo_other"),
        "wrong_list" => one("freelist", object("object"), "an object of zoo_guest"),
        "link_text" => one("freelist", object("object"), "/etc/pas"),
        "link_pointer" => one("freelist", object("object"), "a pointer to zoo`zoo_reader"),
        "link_flip" => one("freelist", object("object"), "bit 21"),
        "link_user" => one("freelist", object("object"), "overwritten"),
        "link_end" => one("counter", None, "the slab counts"),
        "bit_flip" => poison("bit flip: bit 3"),
        "wild" if sight.zeroed => poison("written"),
        "wild" if sight.fenced => one("redzone-right", object("object"), "wild write"),
        "wild" => one("freelist", object("object"), "overwritten"),
        "track" if sin.words.contains_key("at") => one("track", object("object"), "written over"),
        "track" => Judged::Unseen("without slub_debug there are no records to write over"),
        "cache_field" | "cache_bit" => one("cache", at("object", 0), "written over"),
        "slab_count" => one("counter", None, "the slab counts"),
        "slab_list" => one("node", at("at", 0), "zoo_reader"),
        "slab_owner" => rows(vec![Wanted { cache: String::new(), ..row("node", None, "zoo_robber") }]),
        "slab_stranger" => one("node", None, "a slab of zoo_alien"),
        "ctor_write" => one("constructed", object("object"), "written when it was free"),
        // near the start of a small block the page is soon in use again
        "page_write" if sight.zeroed && sin.addr("at") - sin.addr("object") > 100_000 => {
            one("free-page", at("at", 0), "written when it was free")
        }
        "page_write" => {
            Judged::Unseen("what a free page should hold is known with init_on_free=1 or page_poison=1 only")
        }
        "page_count_low" => one("page-count", None, "is -3"),
        "list_cycle" => one("list-cycle", at("at", 0), "never ends"),
        "list_poison" => one("list-poison", at("from", 0), "taken off"),
        "list_torn" => one("list-torn", at("at", 8), "prev should be"),
        "list_text" => one("list-overwritten", at("at", 0), "GET /ind"),
        "list_flip" => one("list-overwritten", at("at", 0), "bit 17"),
        "list_twice" => one("list-overwritten", at("at", 0), "both neighbours lead here"),
        "list_freed" => {
            rows(vec![Wanted { at: Some(("freed", sin.addr("object"))), ..row("list-freed", None, "freed while") }])
        }
        "list_errptr" => one("list-overwritten", at("at", 0), "an error pointer, -12"),
        "head_null" => one("list-overwritten", at("at", 0), "it is 0"),
        "hlist_torn" => one("list-torn", at("at", 8), "prev should be"),
        "hlist_poison" => one("list-poison", None, &format!("{:x}", sin.addr("at"))),
        "bl_torn" => one("list-torn", at("at", 8), "prev should be"),
        "stale_write" => one("list-overwritten", at("at", 0), "both neighbours lead here"),
        "memset_three" if sight.fenced => one("redzone-right", None, "over a whole object"),
        "memset_three" => one("list-overwritten", at("victim", 0), "2 objects in a row"),
        "nul_past" if sight.fenced => one("redzone-right", object("object"), "overflow: 1 byte"),
        "nul_past" if sin.addr("victim") & 0xff == 0x40 || sin.words.contains_key("none") => {
            Judged::Unseen("the byte was 0 before")
        }
        "nul_past" => one("list-overwritten", at("victim", 0), "the end of a string"),
        "off_by_8" => fence("redzone-right", "overflow: 8 bytes"),
        "refcount" => typed("refcount", at("at", 0), "saturated"),
        "count_minus" => typed("refcount", at("at", 0), "the count is -1"),
        "cred_count" => one("refcount", at("at", 0), "has this cred, whose count is"),
        "rb_red" => typed("tree", at("at", 0), "red"),
        "rb_parent" => typed("tree", at("at", 0), "parent of this node"),
        "rb_order" => typed("tree", at("item", 0), "out of order: id is"),
        "rb_same" => typed("tree", at("at", 0), "both children"),
        "rb_loop" => typed("tree", at("top", 0), "parent of this node should be"),
        "xarray" => rows(vec![row("xarray", None, "slots in use"), row("xarray", at("parent_of", 0), "slot 1")]),
        "xa_offset" => one("xarray", at("at", 0), "which says slot 5"),
        "xa_freed" => rows(vec![Wanted {
            at: Some(("freed", sin.addr("object"))),
            cache: String::new(),
            ..row("xarray", None, "slot 6 holds")
        }]),
        "maple_order" => one("tree", at("node", 0), "pivots do not grow"),
        "maple_dead" => one("tree", at("node", 0), "dead"),
        "timer_freed" => {
            rows(vec![Wanted { at: Some(("freed", sin.addr("object"))), ..row("pending", None, "a timer") }])
        }
        "work_freed" => {
            rows(vec![Wanted { at: Some(("freed", sin.addr("object"))), ..row("pending", None, "a work") }])
        }
        "timer_code" => one("pending", at("at", 0), "which is no code"),
        "wait_below" => one("list-freed", at("head", 0), "its function returned"),
        "wait_gone" => one("dangling", at("head", 0), ""),
        "stack_end" => one("stack-end", at("at", 0), "STACK_END_MAGIC"),
        "area_gone" => one("dangling", at("pointer", 0), "vmalloc memory that was given back"),
        "task_text" => one("pointer", at("at", 0), "password"),
        "skb_qlen" => one("queue", None, "counts 3 packets, it has 0"),
        "free_inside" if sight.fenced => one("reported", None, "a member's"),
        "free_inside" => one("freelist", None, "the address of a member was freed"),
        "vfree_twice" => one("reported", None, "freed twice"),
        "destroy_left" => rows(vec![Wanted { cache: String::new(), ..row("reported", None, "destroyed while") }]),
        "fence_oob" => Judged::Told("kfence", "out-of-bounds write"),
        "fence_uaf" => Judged::Told("kfence", "use-after-free write"),
        "fence_past" => one("redzone-right", object("object"), "KFENCE's canary"),
        "fence_past_freed" => Judged::Told("kfence", "memory corruption"),
        "deadlock" => Judged::Blocked(vec![("zoo_ab".into(), "zoo_ba".into()), ("zoo_ba".into(), "zoo_ab".into())]),
        // the memory of a task that has ended is soon another's
        "owner_gone" => Judged::Blocked(vec![("zoo_wants".into(), String::new())]),
        "leak_page" | "leak_one_page" => {
            Judged::Unseen("pages that the kernel allocates for itself need no pointer: ::walk lonepage has them all")
        }
        "leak_percpu" => Judged::Percpu,
        "dentry_leak" => one("refcount", object("dentry"), "references too many"),
        "file_leak" => Judged::Leaks(objects(sin, "file")),
        "leak_large" | "leak_vmalloc" => Judged::Leaks(objects(sin, "object")),
        name if name.starts_with("leak_") => Judged::Leaks(objects(sin, "objects")),
        "interior" => Judged::None(objects(sin, "kept")),
        "list_good" => Judged::None(vec![sin.addr("head")]),
        "rb_good" => Judged::None(vec![sin.addr("tree")]),
        name => panic!("nobody has said what is to be found for {name}"),
    }
}

/// What kmdb says of a dump.
struct Said {
    dump: PathBuf,
    /// rows of findings
    found: Vec<Value>,
    /// leaked objects
    leaks: HashSet<u64>,
    /// the kernel's reports
    told: Vec<Value>,
    /// leaked pieces of per-CPU memory
    percpu: u64,
    /// who waits, and who holds it
    blocked: Vec<(String, String)>,
}

impl Said {
    fn of(dump: &Path) -> Said {
        let text = |row: &Value, column: &str| row[column].as_str().unwrap_or_default().to_owned();
        let leaks = ask(dump, "::walk leakbuf");
        Said {
            dump: dump.to_owned(),
            found: ["::kmem_verify", "::verify -v"].iter().flat_map(|command| rows(dump, command)).collect(),
            leaks: leaks.iter().filter_map(|row| number(row["addr"].as_str()?)).collect(),
            told: ask(dump, "::kmalog -v"),
            percpu: ask(dump, "::findleaks").iter().filter(|row| row["cache"] == "[percpu]").count() as u64,
            blocked: ask(dump, "::blocked").iter().map(|row| (text(row, "name"), text(row, "holder_name"))).collect(),
        }
    }

    /// Whether a stack still has an old word that leads to an object, or to what leads to it, or the pointer that another
    /// sin damaged happens to: a leak that looks like none.
    fn is_hidden(&self, leak: u64) -> bool {
        let way = ask(&self.dump, &format!("{leak:x}::refs"));
        way.first().is_some_and(|row| row["kind"] == "stack" || row.to_string().contains("zoo`zoo_flip_list"))
    }

    /// Why a sin is not seen for what it is, if it lies where chance has made it invisible.
    fn excuse(&self, sin: &Sin<'_>, sight: &Sight) -> Option<&'static str> {
        match sin.name {
            "link_end" if !sight.fenced => {
                let cache = ask(&self.dump, "::kmem_cache").into_iter().find(|row| row["name"] == "zoo_linkend")?;
                let slabs = format!("{}::walk kmem_slab | ::print frozen", cache["addr"].as_str()?);
                let is_one_a_cpus = ask(&self.dump, &slabs).iter().any(|row| row["value"] == 1);
                is_one_a_cpus.then_some("a slab that a CPU has does not count its objects")
            }
            "timer_code" => {
                let hangs =
                    |row: &Value| row.to_string().contains(&format!("from it follows, at {:x}", sin.addr("at") + 8));
                ask(&self.dump, "::verify -v")
                    .into_iter()
                    .find(hangs)
                    .map(|_| "it hangs behind a timer that was freed, which is what is found")
            }
            _ => None,
        }
    }

    /// What is missing of a sin, if anything, and whether the culprit's stack is there.
    fn judge(&self, sin: &Sin<'_>, sight: &Sight) -> (Vec<String>, &'static str) {
        match judged(sin, sight) {
            Judged::Rows(wanted) => {
                let missing = |wanted: &&Wanted| !self.found.iter().any(|row| wanted.is(row));
                let missed: Vec<String> = wanted.iter().filter(missing).map(Wanted::text).collect();
                let caught = format!("`{}", sin.name);
                let is_caught =
                    |row: &&Value| wanted.iter().any(|wanted| wanted.is(row)) && row.to_string().contains(&caught);
                let is_caught = self.found.iter().any(|row| is_caught(&row));
                if !missed.is_empty()
                    && let Some(why) = self.excuse(sin, sight)
                {
                    return (Vec::new(), why);
                }
                (missed, if is_caught { "with its stack" } else { "found" })
            }
            Judged::Leaks(wanted) => {
                let missing = wanted.iter().filter(|leak| !self.leaks.contains(leak) && !self.is_hidden(**leak));
                (missing.map(|leak| format!("{leak:x} is no leak")).collect(), "leak")
            }
            Judged::Percpu => {
                let is_there = self.percpu > 0;
                ((!is_there).then(|| "no leak of per-CPU memory".to_owned()).into_iter().collect(), "leak")
            }
            Judged::Blocked(wanted) => {
                let is = |(name, holder): &(String, String), row: &(String, String)| {
                    row.0.contains(name.as_str()) && row.1.contains(holder.as_str())
                };
                let missing = wanted.iter().filter(|wanted| !self.blocked.iter().any(|row| is(wanted, row)));
                (missing.map(|(name, holder)| format!("{name} does not wait for {holder}")).collect(), "blocked")
            }
            Judged::Told(kind, says) => {
                let is = |row: &&Value| {
                    row["kind"] == kind && row.to_string().contains(says) && row.to_string().contains(sin.name)
                };
                match self.told.iter().find(is) {
                    Some(_) => (Vec::new(), "with its stack"),
                    None => (vec![format!("no report of {kind} saying {says:?} of {}", sin.name)], "MISSED"),
                }
            }
            Judged::None(addrs) => {
                let said = |addr: &&u64| {
                    let text = format!("{addr:x}");
                    self.leaks.contains(addr) || self.found.iter().any(|row| row["addr"].as_str() == Some(&text))
                };
                (addrs.iter().filter(said).map(|addr| format!("{addr:x} is no sin")).collect(), "left alone")
            }
            Judged::Unseen(why) => (Vec::new(), why),
        }
    }
}

#[test]
fn every_sin_is_found_and_named() {
    let (mut wrong, mut table) = (Vec::new(), BTreeMap::<String, Vec<(String, String)>>::new());
    let mut reasons = BTreeMap::<String, &str>::new();
    for dump in zoos() {
        let name = dump.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let truth = fs::read_to_string(dump.with_file_name("truth").join("zoo.txt")).unwrap();
        let said = Said::of(&dump);
        let caches = ask(&dump, "::kmem_cache");
        let fenced =
            caches.iter().any(|row| row["name"] == "zoo_overflow" && row["flags"].to_string().contains("RED_ZONE"));
        // where one fenced tail is seen, or one member named, all must be
        let tails = said.found.iter().any(|row| row["finding"] == "redzone-kmalloc");
        let typed = said.found.iter().any(|row| {
            row["place"].as_str().is_some_and(|place| place.starts_with("zoo_item") && place.contains(".link"))
        });
        let zeroed = name.contains("zeroed");
        let tracked =
            caches.iter().any(|row| row["name"] == "zoo_overflow" && row["flags"].to_string().contains("STORE_USER"));
        let sight = Sight { fenced, tracked, zeroed, tails, typed };
        for sin in sins(&truth) {
            let (missed, how) = said.judge(&sin, &sight);
            let how = match missed.is_empty() {
                true if how.contains(' ') && how != "with its stack" && how != "left alone" => {
                    reasons.insert(sin.name.to_owned(), how);
                    "-"
                }
                true => how,
                false => "MISSED",
            };
            table.entry(sin.name.into()).or_default().push((name.clone(), how.into()));
            wrong.extend(missed.into_iter().map(|missed| format!("{name}: {}: {missed}", sin.name)));
            if sight.tracked && how == "found" && HAS_TRACK.contains(&sin.name) {
                wrong.push(format!("{name}: {}: the culprit's stack is not there", sin.name));
            }
        }
        let told = truth.split([' ', '=', ',', '\n']).filter_map(number).filter(|addr| addr >> 32 != 0).collect();
        let others = said.found.iter().filter(|row| !is_of_the_zoo(row, &told));
        wrong.extend(others.map(|row| format!("{name}: not of the zoo: {row}")));
    }
    for (sin, dumps) in table {
        let cells: Vec<String> = dumps.iter().map(|(dump, how)| format!("{dump}: {how}")).collect();
        println!("{sin:16} {}", cells.join(", "));
    }
    reasons.iter().for_each(|(sin, why)| println!("{sin:16} not seen where it says -: {why}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sins of which an object that they damaged, or freed, has a record.
const HAS_TRACK: &[&str] = &[
    "overflow",
    "overflow_far",
    "overflow_free",
    "overflow_short",
    "underflow",
    "uaf_write",
    "uaf_pointer",
    "bit_flip",
    "wild",
    "link_text",
    "link_pointer",
    "link_flip",
    "list_cycle",
    "list_poison",
    "list_torn",
    "list_text",
    "list_flip",
    "list_freed",
    "hlist_torn",
    "refcount",
    "nul_past",
    "off_by_8",
    "stale_write",
    "list_errptr",
];

/// Rows of a command that may have none.
fn ask(dump: &Path, command: &str) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .args(["-S", "--no-debuginfo", "-o", "json"])
        .arg(dump)
        .args(["-e", command])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether a row is about something that the zoo made: its caches, variables and objects, an address that it has told, an
/// array's nodes, or the kernel's words about it.
fn is_of_the_zoo(row: &Value, told: &HashSet<u64>) -> bool {
    let text = row.to_string();
    let nameless = ["redzone-kmalloc", "xarray", "reported", "page-count"];
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    text.contains("zoo")
        || nameless.iter().any(|finding| row["finding"] == *finding)
        || words.any(|word| number(word).is_some_and(|addr| told.contains(&addr)))
}

#[test]
fn clean_dumps_have_no_findings() {
    let Some(lab) = lab() else { return };
    let clean = |name: &str| {
        let kinds = ["-dbg", "-plain", "-busy", "-machine", "-netfilter", "-memory"];
        !name.contains("zoo") && kinds.iter().any(|kind| name.ends_with(kind)) && !name.starts_with("big")
    };
    for dump in dumps(&lab, clean) {
        for command in ["::kmem_verify", "::verify"] {
            let found = rows(&dump, command);
            assert!(found.is_empty(), "{command} on {}: {found:#?}", dump.display());
        }
    }
}
