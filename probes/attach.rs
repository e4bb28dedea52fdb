//! How programs come to the places where they run: one program for each, or one for many that differ in nothing but where
//! they are.
//!
//! At a few functions of the kernel programs stand right where these begin or return ([`Direct`]), if what is asked for
//! can be had there. A pattern names hundreds, and what is done at each is mostly the same. Where the kernel can, one program
//! is attached to all of them by one link (`kprobe_multi` since Linux 5.18, `uprobe_multi` since 6.6); else to an event for
//! each, with a number that tells them apart (since 5.15); else each has a program of its own. A uprobe that is alone has a
//! link, too, whose program is called sooner than an event's. Which of these a kernel can is asked by trying.

use crate::{
    Error, Result,
    direct::Direct,
    emit::Tables,
    expr::{Current, Int, Value},
    program::{Action, How, Join, Program, Spec},
    recording::{Limits, Recording, Rings, Stacks, left},
    source::Source,
};
use bpf::{Link, Table, prog::Use};
use std::{ffi::CString, os::fd::OwnedFd, os::unix::ffi::OsStrExt};

/// How a program came to its probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// it has one probe
    Each,
    /// it has one, and is called by that function of the kernel itself
    Direct,
    /// it is at an event for each of several
    Events,
    /// it is at many functions of the kernel, by one link
    Functions,
    /// it is at many places of a program, by one link
    Places,
}

/// A program with the probes that it stands at, by their numbers.
pub struct Loaded {
    /// the program
    pub program: Program,
    /// whose hits it sees
    pub members: Vec<usize>,
    /// how it came there
    pub way: Way,
    /// whether which of several probes it was comes first in its keys
    pub shared: bool,
}

impl Loaded {
    fn one(program: Program, member: usize, way: Way) -> Loaded {
        Loaded { program, members: vec![member], way, shared: false }
    }
}

/// What is attached.
#[derive(Default)]
pub(crate) struct Attached {
    pub(crate) programs: Vec<Loaded>,
    /// those that leave something for the others
    pub(crate) begins: Vec<Program>,
    /// kept open: closing them detaches
    pub(crate) events: Vec<OwnedFd>,
    /// probes that the kernel refused
    pub(crate) missing: Vec<Error>,
}

/// A way that was tried did not take all of the probes: those that are left.
type Rest = Vec<usize>;

/// More functions get a link together: one that calls its program itself is cheaper when it is hit, and costs more to set.
const FEW: usize = 4;
/// Attempts at a link that was refused, with half of it each time: some of its functions may be of another kind.
const HALVES: usize = 24;

/// Sets probes.
pub(crate) struct Attach<'a> {
    pub(crate) probes: &'a [(Source, Spec)],
    pub(crate) limits: Limits,
    /// where events go, and the processes of a command
    pub(crate) tables: Tables,
    pub(crate) done: Attached,
}

impl Attach<'_> {
    /// Sets all of them, or says why one cannot be.
    pub(crate) fn all(mut self) -> Result<Attached> {
        /// Descriptors that a probe takes: its program, two tables, its event.
        const EACH: usize = 4;
        if self.probes.len() * EACH > 512 {
            lift_file_limit();
        }
        for group in groups(self.probes) {
            let rest = if group.len() <= FEW { self.directly(group) } else { group };
            let rest = if rest.len() > 1 { self.together(rest) } else { rest };
            for member in rest {
                if !self.by_link(member) {
                    self.alone(member)?;
                }
            }
        }
        Ok(self.done)
    }

    /// Programs at the functions themselves; says which are left.
    fn directly(&mut self, group: Vec<usize>) -> Rest {
        group.into_iter().filter(|member| self.direct(*member).is_err()).collect()
    }

    /// A program at a function itself, or why that cannot be.
    fn direct(&mut self, member: usize) -> Result<()> {
        let (direct, tables, _left) = self.prepared(member)?;
        let mut programs = vec![Program::load(direct.how, &direct.spec, tables, &self.limits)?];
        if let Some((how, spec)) = &direct.begin {
            programs.push(Program::load(*how, spec, tables, &self.limits)?);
        }
        // what ends comes first here, too
        let links: std::io::Result<Vec<_>> = programs.iter().map(|one| one.program.attach_function()).collect();
        self.done.events.extend(links.map_err(refused())?);
        self.done.begins.extend(programs.drain(1..));
        let loaded = programs.into_iter().map(|program| Loaded::one(program, member, Way::Direct));
        self.done.programs.extend(loaded);
        Ok(())
    }

    /// What a program at the function itself would do, with its tables.
    fn prepared(&self, member: usize) -> Result<(Direct, Tables, Option<Table>)> {
        let probe = self.probes.get(member).and_then(|(source, spec)| Direct::of(source, spec));
        let direct = probe.unwrap_or(Err("it is no function of the kernel")).map_err(|why| Error::Wrong(why.into()))?;
        let left = direct.spec.join.as_ref().map(|join| left(join, self.limits.keys)).transpose()?;
        let tables = Tables { left: left.as_ref().map_or(-1, Table::fd), ..self.tables };
        Ok((direct, tables, left))
    }

    /// A program of its own.
    fn alone(&mut self, member: usize) -> Result<()> {
        let Some((source, spec)) = self.probes.get(member) else { return Ok(()) };
        let left = spec.join.as_ref().map(|join| left(join, self.limits.keys)).transpose()?;
        let tables = Tables { left: left.as_ref().map_or(-1, Table::fd), ..self.tables };
        let pid = self.limits.bound();
        let program = Program::load(How::alone(source), spec, tables, &self.limits)?;
        // what ends comes before what begins: else something left by what ended meanwhile would be found by another end
        match source.attach(&program.program, pid) {
            Ok(fds) => self.done.events.extend(fds),
            Err(error) => self.refused(error)?,
        }
        self.done.programs.push(Loaded::one(program, member, Way::Each));
        for (source, spec) in spec.join.iter().flat_map(|join| &join.begins) {
            let program = Program::load(How::alone(source), spec, tables, &self.limits)?;
            if let Err(error) = source.attach(&program.program, pid).map(|fds| self.done.events.extend(fds))
                && !self.limits.some
            {
                return Err(error);
            }
            self.done.begins.push(program);
        }
        Ok(())
    }

    /// A link of its own, if it is a uprobe and the kernel can: its program is called sooner than that of an event, and it
    /// takes CAP_PERFMON, where an event takes CAP_SYS_ADMIN. Says whether it has one.
    fn by_link(&mut self, member: usize) -> bool {
        self.is_open(Way::Places, &[member]) && self.by(Way::Places, &[member]).is_ok_and(|rest| rest.is_empty())
    }

    fn refused(&mut self, error: Error) -> Result<()> {
        if !self.limits.some || self.done.missing.len() + 1 >= self.probes.len() {
            return Err(error);
        }
        self.done.missing.push(error);
        Ok(())
    }

    /// One program for all of a group, as far as that goes; says which are left.
    fn together(&mut self, group: Vec<usize>) -> Rest {
        let mut rest = group;
        for way in [Way::Functions, Way::Places, Way::Events] {
            if rest.len() > 1 && self.is_open(way, &rest) {
                rest = self.by(way, &rest).unwrap_or(rest);
            }
        }
        rest
    }

    fn sources(&self, members: &[usize]) -> impl Iterator<Item = &Source> {
        members.iter().filter_map(|member| self.probes.get(*member)).map(|(source, _)| source)
    }

    /// Whether a way leads to these probes.
    fn is_open(&self, way: Way, members: &[usize]) -> bool {
        let Some((_, spec)) = members.first().and_then(|first| self.probes.get(*first)) else { return false };
        let every = |can: fn(&Source) -> bool| self.sources(members).all(can);
        match way {
            Way::Each | Way::Direct => false,
            Way::Events => {
                every(|source| matches!(source, Source::Kernel { .. } | Source::User { .. } | Source::Tracepoint(_)))
            }
            // there the registers are those of ftrace, from which frames are neither told apart nor followed
            Way::Functions => {
                let stacks = spec.action.values().iter().any(|value| matches!(value, Value::KernelStack(_)));
                let plain = spec.join.is_none() && !stacks && !spec.reads_frame();
                plain && every(|source| matches!(source, Source::Kernel { offset: 0, at: Some(_), .. }))
            }
            // a link for a process takes its first thread for all of it on kernels before Linux 6.10 (46ba0e49b642)
            Way::Places => self.limits.bound().is_none() && every(|source| matches!(source, Source::User { .. })),
        }
    }

    fn by(&mut self, way: Way, members: &[usize]) -> Result<Rest> {
        let Some((source, spec)) = members.first().and_then(|first| self.probes.get(*first)) else {
            return Ok(Vec::new());
        };
        let keys = keys(&self.limits, members.len());
        let together = members.len() > 1;
        let (limits, spec) = (Limits { keys, ..self.limits }, if together { shared(spec) } else { spec.clone() });
        let left = spec.join.as_ref().map(|join| left(join, limits.keys)).transpose()?;
        let tables = Tables { left: left.as_ref().map_or(-1, Table::fd), ..self.tables };
        let how = |source: &Source| How { kind: source.program(), way: way.program(), shared: together };
        let program = Program::load(how(source), &spec, tables, &limits)?;
        let places: Vec<_> =
            members.iter().map(|member| (*member, self.probes.get(*member).map(|(source, _)| source))).collect();
        let (mut events, rest) = self.link(way, &program, &places)?;
        let mut begins = Vec::new();
        for (n, (source, begin)) in spec.join.iter().flat_map(|join| &join.begins).enumerate() {
            let program = Program::load(how(source), begin, tables, &limits)?;
            let begun = members.iter().map(|member| (*member, self.begin(*member, n))).collect::<Vec<_>>();
            let (links, left) = self.link(way, &program, &begun)?;
            if !left.is_empty() {
                return Ok(members.to_vec());
            }
            events.extend(links);
            begins.push(program);
        }
        self.done.events.append(&mut events);
        self.done.begins.append(&mut begins);
        let members = members.iter().copied().filter(|member| !rest.contains(member)).collect();
        self.done.programs.push(Loaded { program, members, way, shared: together });
        Ok(rest)
    }

    fn begin(&self, member: usize, n: usize) -> Option<&Source> {
        let (_, spec) = self.probes.get(member)?;
        Some(&spec.join.as_ref()?.begins.get(n)?.0)
    }

    /// Attaches a program to these places, and says which of them are left.
    fn link(&self, way: Way, program: &Program, places: &[(usize, Option<&Source>)]) -> Result<(Vec<OwnedFd>, Rest)> {
        let (mut links, mut rest, mut attempts) = (Vec::new(), Vec::new(), 0);
        if way == Way::Events {
            for (member, source) in places {
                match source.map(|source| self.event(program, source, *member as u64)) {
                    Some(Ok(fds)) => links.extend(fds),
                    // a kernel that has no such links has none for any
                    Some(Err(error)) if links.is_empty() => return Err(error),
                    _ => rest.push(*member),
                }
            }
            return Ok((links, rest));
        }
        let mut waiting = vec![places];
        while let Some(some) = waiting.pop() {
            attempts += 1;
            match attach(way, program, some) {
                Ok(link) => links.push(OwnedFd::from(link)),
                Err(_) if some.len() > 1 && attempts < HALVES => {
                    let (front, back) = some.split_at(some.len() / 2);
                    waiting.extend([back, front]);
                }
                Err(_) => rest.extend(some.iter().map(|(member, _)| *member)),
            }
        }
        if links.is_empty() {
            return Err(Error::Wrong("no such link".into()));
        }
        Ok((links, rest))
    }

    /// An event of its own, with a number for the program.
    fn event(&self, program: &Program, source: &Source, cookie: u64) -> Result<Vec<OwnedFd>> {
        let refused = || Error::refused(source.name());
        let mut fds = Vec::new();
        for event in source.events(self.limits.bound())? {
            fds.push(OwnedFd::from(Link::event(&program.program, event.fd(), cookie).map_err(refused())?));
            event.enable().map_err(refused())?;
            fds.push(OwnedFd::from(event));
        }
        Ok(fds)
    }
}

/// What the kernel says of a function that no program may stand at.
fn refused() -> impl FnOnce(std::io::Error) -> Error {
    Error::refused("the kernel lets no program stand at the function itself")
}

/// Keys that a table holds which so many probes share.
pub fn keys(limits: &Limits, probes: usize) -> usize {
    const MOST: usize = 16384;
    limits.keys.saturating_mul(probes).min(MOST.max(limits.keys))
}

impl Way {
    fn program(self) -> Use {
        match self {
            Way::Each | Way::Direct | Way::Events => Use::Any,
            Way::Functions => Use::Functions,
            Way::Places => Use::Places,
        }
    }
}

/// A process may have 1,024 open files by default, and more if it asks. Whether that was enough shows when they are opened.
#[allow(unsafe_code)]
fn lift_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is written and read, and only during the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// One link for all.
fn attach(way: Way, program: &Program, places: &[(usize, Option<&Source>)]) -> std::io::Result<Link> {
    let wrong = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let returns = |source: &&Source| {
        matches!(source, Source::Kernel { on_return: true, .. } | Source::User { on_return: true, .. })
    };
    let on_return = places.first().and_then(|(_, source)| source.as_ref()).is_some_and(returns);
    if way == Way::Functions {
        let place = |(member, source): &(usize, Option<&Source>)| match source {
            Some(Source::Kernel { at: Some(at), .. }) => Some((*at, *member as u64)),
            _ => None,
        };
        let places: Option<Vec<_>> = places.iter().map(place).collect();
        return Link::functions(&program.program, on_return, &places.ok_or_else(wrong)?);
    }
    let Some((_, Some(Source::User { file, .. }))) = places.first() else { return Err(wrong()) };
    let file = CString::new(file.as_os_str().as_bytes())?;
    let place = |(member, source): &(usize, Option<&Source>)| match source {
        Some(Source::User { site, .. }) => Some((site.offset, site.semaphore.unwrap_or(0), *member as u64)),
        _ => None,
    };
    let places: Option<Vec<_>> = places.iter().map(place).collect();
    Link::places(&program.program, &file, on_return, &places.ok_or_else(wrong)?)
}

/// What would be loaded for some probes.
pub struct Tried {
    /// the probes that it stands at
    pub members: Vec<usize>,
    /// how it comes there, as far as that can be told without doing it
    pub way: Way,
    /// how long it is, or why the kernel refuses it
    pub instructions: Result<usize>,
    /// why it is not at the function itself, if it is at one
    pub indirect: Option<String>,
    /// whether programs where each begins leave something for it
    pub begins: bool,
}

/// Loads the programs of probes, and leaves nothing attached.
pub fn dry(probes: &[(Source, Spec)], limits: Limits) -> Result<Vec<Tried>> {
    let rings = Rings::new(0, Stacks::None)?;
    let family = Table::new(bpf::Shape::Hash, 8, 8, 1).map_err(Error::refused("BPF needs CAP_BPF or root"))?;
    let tables = Tables {
        rings: rings.table().fd(),
        left: -1,
        family: family.fd(),
        reach: Recording::reach(probes, &limits),
        lost: -1,
    };
    let attach = Attach { probes, limits, tables, done: Attached::default() };
    let mut tried = Vec::new();
    for mut group in groups(probes) {
        let few = group.len() <= FEW;
        let mut indirect = None;
        if few {
            group.retain(|member| match attach.tried_directly(*member) {
                Ok(one) => {
                    tried.push(one);
                    false
                }
                Err(why) => {
                    indirect = why;
                    true
                }
            });
        }
        let ways = [Way::Functions, Way::Places, Way::Events];
        let takes = |way: &Way| group.len() > 1 || (group.len() == 1 && *way == Way::Places);
        let open = ways.into_iter().filter(|way| takes(way) && attach.is_open(*way, &group));
        let found = open.filter_map(|way| Some((way, attach.tried(way, &group).ok()?))).next();
        let begins = group.iter().any(|member| probes.get(*member).is_some_and(|(_, spec)| spec.join.is_some()));
        match found {
            Some((way, n)) => tried.push(Tried { members: group, way, instructions: Ok(n), indirect, begins }),
            None => tried.extend(group.into_iter().map(|member| {
                let instructions = attach.tried(Way::Each, &[member]);
                Tried { members: vec![member], way: Way::Each, instructions, indirect: indirect.clone(), begins }
            })),
        }
    }
    Ok(tried)
}

impl Attach<'_> {
    /// What would stand at a function itself; or why there can be nothing, if it is a function. It stands there for a moment:
    /// only then does the kernel say whether it lets it.
    fn tried_directly(&self, member: usize) -> Result<Tried, Option<String>> {
        let is_function = self.sources(&[member]).any(|source| matches!(source, Source::Kernel { .. }));
        let attach = |(direct, tables, _left): (Direct, Tables, Option<Table>)| {
            let program = Program::load(direct.how, &direct.spec, tables, &self.limits)?;
            program.program.attach_function().map_err(refused())?;
            Ok((program.instructions, direct.begin.is_some()))
        };
        let tried = self.prepared(member).and_then(attach);
        let (instructions, begins) = tried.map_err(|error| is_function.then(|| error.to_string()))?;
        Ok(Tried { members: vec![member], way: Way::Direct, instructions: Ok(instructions), indirect: None, begins })
    }

    /// How long the program is that would be attached in that way.
    fn tried(&self, way: Way, members: &[usize]) -> Result<usize> {
        let Some((source, spec)) = members.first().and_then(|first| self.probes.get(*first)) else { return Ok(0) };
        let together = members.len() > 1;
        let spec = if together { shared(spec) } else { spec.clone() };
        let left = spec.join.as_ref().map(|join| left(join, self.limits.keys)).transpose()?;
        let tables = Tables { left: left.as_ref().map_or(-1, Table::fd), ..self.tables };
        let how = How { kind: source.program(), way: way.program(), shared: together };
        let program = Program::load(how, &spec, tables, &self.limits)?;
        let is_known = match way {
            Way::Each | Way::Direct | Way::Events => true,
            Way::Functions => Link::knows_functions(&program.program),
            Way::Places => Link::knows_places(&program.program),
        };
        if is_known { Ok(program.instructions) } else { Err(Error::Wrong("no such link".into())) }
    }
}

/// The probes, those together that one program can serve.
pub(crate) fn groups(probes: &[(Source, Spec)]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (number, probe) in probes.iter().enumerate() {
        let like = |group: &&mut Vec<usize>| {
            group.first().and_then(|first| probes.get(*first)).is_some_and(|first| is_alike(first, probe))
        };
        match groups.iter_mut().find(like) {
            Some(group) => group.push(number),
            None => groups.push(vec![number]),
        }
    }
    groups
}

/// Whether two probes differ in nothing but where they are.
fn is_alike((source, spec): &(Source, Spec), (other_source, other): &(Source, Spec)) -> bool {
    let join = |one: &Join, other: &Join| {
        one.key == other.key
            && (one.room, one.who, one.begins.len()) == (other.room, other.who, other.begins.len())
            && one.begins.iter().zip(&other.begins).all(|(one, other)| is_alike(one, other))
    };
    let kind = match (source, other_source) {
        (Source::Kernel { on_return: a, .. }, Source::Kernel { on_return: b, .. }) => a == b,
        (Source::User { on_return: a, file: one, .. }, Source::User { on_return: b, file: other, .. }) => {
            a == b && one == other
        }
        (Source::Tracepoint(_), Source::Tracepoint(_)) => true,
        _ => false,
    };
    let joins = match (&spec.join, &other.join) {
        (None, None) => true,
        (Some(one), Some(other)) => join(one, other),
        _ => false,
    };
    kind && joins && spec.result == other.result && spec.test == other.test && spec.action == other.action
}

/// What a program does that stands at several probes: which one it is comes first in all keys.
fn shared(spec: &Spec) -> Spec {
    let keyed = |key: &[Value]| {
        let probe = Value::Int(Int::Current(Current::Probe));
        std::iter::once(probe).chain(key.iter().cloned()).collect::<Vec<_>>()
    };
    let mut spec = spec.clone();
    spec.action = match spec.action {
        Action::Emit(values) => Action::Emit(values),
        Action::Aggregate { key, of } => Action::Aggregate { key: keyed(&key), of },
        Action::Leave { key, what } => Action::Leave { key: keyed(&key), what },
    };
    if let Some(join) = &mut spec.join {
        join.key = keyed(&join.key);
        for (_, begin) in &mut join.begins {
            *begin = shared(begin);
        }
    }
    spec
}
