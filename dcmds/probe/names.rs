//! What names mean where a probe sits: its arguments and fields, and the facts of the moment.

use super::{
    compile::Looks,
    convention, join, syscalls,
    typed::{self, Held, Parameter, Typed},
};
use engine::{
    Type,
    debuginfo::{Place, TypeId, dwarf},
    prelude::*,
};
use probes::{
    expr::{Binary, Current, Int, Space as Whose, Text},
    printed::Printed,
    source::{self, Source},
    tracefs::{self, Shape},
};
use std::cell::Cell;

/// What an expression stands for, before it is turned into a value.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// a number
    Int {
        /// how it is computed
        int: Int,
        /// whether it has a sign
        signed: bool,
    },
    /// a number with a fraction, as its bits; it can be shown, and counted by
    Fraction {
        /// the bits
        bits: Int,
        /// bytes
        size: u32,
    },
    /// a number that people read otherwise
    Shown {
        /// how it is computed
        int: Int,
        /// how it looks
        looks: Looks,
    },
    /// an address with the type of what is there
    Pointer {
        /// whose memory
        whose: Whose,
        /// the address
        to: Int,
        /// of what
        ctype: TypeId,
    },
    /// something in memory
    Memory {
        /// whose memory
        whose: Whose,
        /// the address
        at: Int,
        /// bytes behind it
        offset: u64,
        /// its type, and which bits
        place: Place,
    },
    /// the number of a system call, which is shown by name
    Syscall(Int),
    /// an address of code, which is shown by name
    Code {
        /// whose code
        whose: Whose,
        /// the address
        int: Int,
    },
    /// something in registers, eight bytes in each
    Held {
        /// the registers; none for a part that is elsewhere
        words: Vec<Option<Int>>,
        /// its type, and which bits
        place: Place,
    },
    /// something that cannot be had, and why
    Missing(String),
    /// a text that comes from the kernel
    Text(Text),
    /// a text that was written down: it can be compared with, and no more
    Literal,
}

impl Meaning {
    /// A number without a sign.
    pub fn number(int: Int) -> Meaning {
        Meaning::Int { int, signed: false }
    }
}

/// The names at a source.
pub struct Names<'a> {
    cx: &'a Cx<'a>,
    source: &'a Source,
    /// whether hits of other probes came first (`::latency`)
    behind: bool,
    /// whether a name was asked for that an earlier hit must leave
    joined: Cell<bool>,
}

/// Names that mean the same everywhere, with what they are.
pub const COMMON: &[(&str, &str)] = &[
    ("pid", "process id"),
    ("tid", "thread id"),
    ("uid", "user id"),
    ("cpu", "number of the CPU"),
    ("comm", "name of the thread"),
    ("curtask", "its struct task_struct"),
];

/// What a tracepoint hands over at most (MAX_BPF_FUNC_ARGS).
const MOST_HANDED: usize = 12;
const RETVAL: &str = "what a function returns is not known without types: `retval` is all 64 bits of its register, or an int \
                      where that is an error number; `(int)retval` is an int in any case";

impl<'a> Names<'a> {
    /// The names at `source`.
    pub fn at(cx: &'a Cx<'a>, source: &'a Source) -> Names<'a> {
        Names { cx, source, behind: false, joined: Cell::new(false) }
    }

    /// The names at `source`, whose hits end what hits of other probes began, if `behind`.
    pub fn behind(cx: &'a Cx<'a>, source: &'a Source, behind: bool) -> Names<'a> {
        Names { behind, ..Names::at(cx, source) }
    }

    /// Whether a name was asked for that only an earlier hit can tell.
    pub fn joined(&self) -> bool {
        self.joined.get()
    }

    /// What a name means there.
    pub fn find(&self, name: &str) -> Option<Meaning> {
        self.own(name).or_else(|| self.common(name))
    }

    /// Names of what the source itself has, in order: what is shown if nothing else is asked for.
    pub fn own_names(&self) -> Vec<String> {
        match self.source {
            Source::Tracepoint(point) => {
                let shown = point.fields.iter().filter(|f| f.shape != Shape::Bytes && f.name != "__syscall_nr");
                shown.map(|f| f.name.clone()).collect()
            }
            Source::Kernel { on_return: true, .. } | Source::User { on_return: true, .. } => vec!["retval".into()],
            Source::Kernel { .. } => self.kernel_parameters().into_iter().map(|p| p.name).collect(),
            Source::User { site, .. } if !site.args.is_empty() => {
                (0..site.args.len()).map(|i| format!("arg{i}")).collect()
            }
            Source::User { .. } => self.user_parameters().into_iter().map(|p| p.name).collect(),
            Source::Raw { name } => self.raw(name).into_iter().map(|(name, _)| name).collect(),
            Source::Syscall { numbers, parameters, .. } => {
                let many = (numbers.len() != 1).then(|| "name".to_owned());
                let own = parameters.iter().map(|(name, _)| name.clone());
                many.into_iter().chain(own).chain(["ret".to_owned()]).collect()
            }
            Source::Software { .. } | Source::Clock { .. } => Vec::new(),
        }
    }

    /// All names of the source: on a return those of what the function was called with, too.
    pub fn all(&self) -> Vec<String> {
        let mut all = self.own_names();
        match self.source {
            Source::Kernel { on_return: true, function, .. } => {
                all.extend(self.parameters(function).into_iter().map(|(name, _)| name));
            }
            Source::User { on_return: true, .. } => all.extend(self.user_parameters().into_iter().map(|p| p.name)),
            _ => return all,
        }
        all.push("elapsed".into());
        all
    }

    /// Whether parameters have no names as the kernel tells nothing of its types.
    pub fn is_untyped(&self) -> bool {
        let is_kernels = matches!(self.source, Source::Kernel { .. } | Source::Raw { .. });
        is_kernels && self.cx.types.btf().is_none() && self.cx.struct_type("task_struct").is_none()
    }

    /// Whether it is one system call whose parameters nobody tells.
    pub fn lacks_declaration(&self) -> bool {
        let Source::Syscall { name, numbers, parameters } = self.source else { return false };
        let [number] = numbers[..] else { return false };
        parameters.is_empty() && !syscalls::is_declared(self.cx, number, name)
    }

    /// Whose memory a bare number most likely is an address of.
    pub fn whose(&self) -> Whose {
        match self.source {
            Source::User { .. } | Source::Syscall { .. } => Whose::User,
            Source::Tracepoint(point) if point.group == "syscalls" => Whose::User,
            _ => Whose::Kernel,
        }
    }

    fn common(&self, name: &str) -> Option<Meaning> {
        let now = |what| Some(Meaning::number(Int::Current(what)));
        match name {
            "caller" => self.caller(),
            "elapsed" if self.behind => Some(self.elapsed()),
            "pid" | "tid" if self.behind => Some(Meaning::number(join::beginner(name == "tid"))),
            "comm" if self.behind => Some(Meaning::Text(join::beginners_name())),
            "pid" => now(Current::Pid),
            "tid" => now(Current::Tid),
            "uid" => now(Current::Uid),
            "cpu" => now(Current::Cpu),
            "comm" | "execname" => Some(Meaning::Text(Text::Comm)),
            "curtask" => {
                let to = Int::Current(Current::Task);
                Some(match self.cx.struct_type("task_struct") {
                    Some(ctype) => Meaning::Pointer { whose: Whose::Kernel, to, ctype },
                    None => Meaning::number(to),
                })
            }
            _ => None,
        }
    }

    fn own(&self, name: &str) -> Option<Meaning> {
        match self.source {
            Source::Tracepoint(point) => point.field(name).and_then(|field| self.field(field)),
            Source::Kernel { on_return: true, function, .. } if is_result(name) => match self.returned(function) {
                Some(ctype) => {
                    let held = convention::returned(self.cx, ctype);
                    self.parameter(Parameter { name: "retval".into(), ctype, held })
                }
                None => {
                    if self.is_untyped() {
                        self.cx.notes.once(0, RETVAL);
                    }
                    Some(Meaning::Int { int: bare_result()?, signed: true })
                }
            },
            Source::Kernel { on_return: true, .. } | Source::User { on_return: true, .. } if name == "elapsed" => {
                Some(self.elapsed())
            }
            Source::Raw { name: point } => {
                let arguments = self.raw(point);
                let index = numbered(name).or_else(|| arguments.iter().position(|(n, _)| n == name))?;
                let int = Int::context(u16::try_from(index).ok()?.checked_mul(8)?, 8, false);
                match arguments.get(index) {
                    Some((_, ctype)) => self.typed(int, Some(*ctype), Whose::Kernel),
                    None if self.is_untyped() && index < MOST_HANDED => Some(Meaning::Int { int, signed: true }),
                    None => None,
                }
            }
            Source::Syscall { .. } => self.syscall(name),
            Source::User { on_return: true, file, site } if is_result(name) => {
                let size = if site.narrow { 4 } else { 8 };
                let typed = Typed::of(self.cx, file);
                match typed.and_then(|typed| typed.returned(self.cx, site.offset)) {
                    Some(held) => self.parameter(held),
                    None => Some(Meaning::Int {
                        int: Int::context(source::return_value()?, size, site.narrow),
                        signed: true,
                    }),
                }
            }
            Source::User { on_return: true, site, .. } if site.narrow && numbered(name).is_some() => {
                Some(Meaning::Missing(
                    "a program of 32 bits has its arguments on the stack, where its return no longer finds them".into(),
                ))
            }
            Source::User { on_return: true, .. } => match numbered(name) {
                Some(index) => self.left(Meaning::Int { int: join::argument(index)?, signed: true }),
                None => {
                    let parameter = self.user_parameters().into_iter().find(|p| p.name == name)?;
                    self.left(self.parameter(parameter.left())?)
                }
            },
            Source::Kernel { .. } => self.kernel(name),
            Source::User { site, .. } if site.usdt => usdt(site.args.get(numbered(name)?)?),
            Source::User { on_return: false, .. } if numbered(name).is_none() => {
                let parameter = self.user_parameters().into_iter().find(|p| p.name == name)?;
                self.parameter(parameter)
            }
            // behind the return address, in words of four bytes
            Source::User { on_return: false, site, .. } if site.narrow => {
                let at = 4 + 4 * i32::try_from(numbered(name)?).ok()?;
                let sp = Int::context(source::register("rsp")?, 4, false);
                Some(Meaning::Int { int: Int::load(Whose::User, sp, at, 4, true), signed: true })
            }
            Source::User { on_return: false, .. } => {
                Some(Meaning::Int { int: Int::context(source::argument(numbered(name)?)?, 8, false), signed: true })
            }
            _ => None,
        }
    }

    /// The address that the function returns to.
    fn caller(&self) -> Option<Meaning> {
        let whose = match self.source {
            Source::Kernel { .. } if self.source.is_entry() => Whose::Kernel,
            Source::User { .. } if self.source.is_entry() => Whose::User,
            _ => return None,
        };
        Some(Meaning::Code { whose, int: source::caller(whose)? })
    }

    fn left(&self, meaning: Meaning) -> Option<Meaning> {
        self.joined.set(true);
        Some(meaning)
    }

    fn elapsed(&self) -> Meaning {
        self.joined.set(true);
        Meaning::number(join::elapsed())
    }

    /// What a system call has: arguments and result, which number it is.
    fn syscall(&self, name: &str) -> Option<Meaning> {
        let Source::Syscall { parameters, .. } = self.source else { return None };
        match name {
            "elapsed" => Some(self.elapsed()),
            "nr" => Some(Meaning::number(join::number())),
            // some take a parameter of that name
            "name" if !parameters.iter().any(|(n, _)| n == name) => Some(Meaning::Syscall(join::number())),
            name if is_result(name) => Some(Meaning::Int { int: Int::context(8, 8, true), signed: true }),
            "file" if !parameters.iter().any(|(n, _)| n == name) => self.open_file(parameters),
            _ => {
                let index = numbered(name).or_else(|| parameters.iter().position(|(n, _)| n == name))?;
                let ctype = parameters.get(index).and_then(|(_, ctype)| self.cx.ctype(ctype.trim()).ok());
                self.typed(join::argument(index)?, ctype, Whose::User)
            }
        }
    }

    /// The open file that a system call's descriptor stands for, as the process has it when the call returns.
    fn open_file(&self, parameters: &[(String, String)]) -> Option<Meaning> {
        let fd = join::argument(parameters.iter().position(|(name, _)| name == "fd")?)?;
        let follow = |at: Int, ctype: &str, member: &str| {
            Some(Int::load(Whose::Kernel, at, i32::try_from(self.cx.offset(ctype, member).ok()?).ok()?, 8, false))
        };
        let files = follow(Int::Current(Current::Task), "task_struct", "files")?;
        let table = follow(files, "files_struct", "fdt")?;
        let all = follow(table, "fdtable", "fd")?;
        let at = Int::binary(Binary::Add, all, Int::binary(Binary::Mul, cut(fd, 4, false), Int::Const(8)));
        let to = Int::load(Whose::Kernel, at, 0, 8, false);
        Some(Meaning::Pointer { whose: Whose::Kernel, to, ctype: self.cx.struct_type("file")? })
    }

    /// Why names that one would expect are not there.
    pub fn why_not(&self) -> Option<String> {
        match self.source {
            Source::Syscall { numbers, parameters, .. } if numbers.len() == 1 && parameters.is_empty() => {
                let why = tracefs::root().err()?;
                Some(format!("arguments are arg0 to arg5 here: what they are called is told by tracefs ({why})"))
            }
            Source::User { site, .. } if site.narrow => Some("it is a program of 32 bits".into()),
            _ => None,
        }
    }

    /// What the code at a tracepoint hands over: the parameters of the function that calls all who listen, which every
    /// tracepoint has since Linux 5.10 (d25e37d89dd2), but for the first, which is the listener's own.
    fn raw(&self, point: &str) -> Vec<(String, TypeId)> {
        self.parameters(&format!("__traceiter_{point}")).into_iter().skip(1).collect()
    }

    /// A function's parameters by its prototype.
    fn parameters(&self, function: &str) -> Vec<(String, TypeId)> {
        let types = &self.cx.types;
        match types.function(function).and_then(|f| types.get(f)).as_deref() {
            Some(Type::Func { params, .. }) => params.iter().map(|p| (p.name.to_string(), p.ty)).collect(),
            _ => Vec::new(),
        }
    }

    /// What a function of the kernel returns.
    fn returned(&self, function: &str) -> Option<TypeId> {
        let types = &self.cx.types;
        match &*types.get(types.function(function)?)? {
            Type::Func { ret, .. } => Some(*ret),
            _ => None,
        }
    }

    /// A program's function's parameters by its DWARF.
    fn user_parameters(&self) -> Vec<Parameter> {
        let Source::User { file, site, on_return } = self.source else { return Vec::new() };
        let Some(typed) = Typed::of(self.cx, file) else { return Vec::new() };
        match site.inlined {
            true => typed.inlined(&site.name, site.offset),
            false => typed.parameters(self.cx, site.offset, *on_return || self.source.is_entry()),
        }
    }

    /// A parameter of a function of the kernel by its name, or an argument by its number, which is that of its register.
    fn kernel(&self, name: &str) -> Option<Meaning> {
        let on_return = matches!(self.source, Source::Kernel { on_return: true, .. });
        let mut parameters = self.kernel_parameters().into_iter();
        let found = match numbered(name) {
            None => parameters.find(|parameter| parameter.name == name),
            Some(index) => {
                let held = Held::Words(vec![Some(Int::context(source::argument(index)?, 8, false))]);
                let name = name.to_owned();
                // of no type that is known
                let bare = || Parameter { name, ctype: TypeId::VOID, held: held.clone() };
                Some(parameters.find(|parameter| parameter.held == held).unwrap_or_else(bare))
            }
        };
        match found {
            Some(parameter) if on_return => self.left(self.parameter(parameter.left())?),
            Some(parameter) => self.parameter(parameter),
            None => self.cut_off(name),
        }
    }

    /// Says of a parameter that a piece of a function no longer has, as far as is known, where it went.
    fn cut_off(&self, name: &str) -> Option<Meaning> {
        let Source::Kernel { function, .. } = self.source else { return None };
        let (whole, _) = function.split_once('.')?;
        let known = self.parameters(whole).iter().any(|(parameter, _)| parameter == name);
        known.then(|| {
            Meaning::Missing(format!(
                "`{name}` of {whole}: the compiler made {function} of that, and where it left this only a vmlinux with \
                 debug information says"
            ))
        })
    }

    /// The parameters of a function of the kernel, where the probe finds them: where the function begins, by its
    /// debug information or the calling convention; inside, by the former.
    fn kernel_parameters(&self) -> Vec<Parameter> {
        let Source::Kernel { function, at, offset, inlined, .. } = self.source else { return Vec::new() };
        let at = at.map(|at| at.wrapping_add(*offset));
        let dwarf = at.and_then(|at| Some((self.cx.dwarf_at(at)?, at)));
        let inside = |found: &[dwarf::Parameter]| {
            found.iter().map(|parameter| Parameter::inside(parameter, Whose::Kernel)).collect::<Vec<_>>()
        };
        let Some((dwarf, at)) = dwarf else {
            return if *offset > 0 || *inlined { Vec::new() } else { self.conventional(function) };
        };
        if *inlined {
            let copies = typed::copies(dwarf, function);
            let copy = copies.iter().find(|copy| copy.at == Some(at));
            return copy.map(|copy| inside(&copy.parameters)).unwrap_or_default();
        }
        // a piece of a function follows no convention
        let piece = *offset > 0 || function.contains('.');
        match dwarf.parameters_at(at) {
            Some(found) if piece => inside(&found),
            Some(found) => typed::at_entry(self.cx, dwarf, at, &found, Whose::Kernel),
            None if piece => Vec::new(),
            None => self.conventional(function),
        }
    }

    /// A function's parameters by its prototype and the calling convention.
    fn conventional(&self, function: &str) -> Vec<Parameter> {
        let parameters = self.parameters(function);
        let types: Vec<_> = parameters.iter().map(|(_, ctype)| *ctype).collect();
        let held = convention::parameters(self.cx, self.returned(function), &types, false);
        let all = parameters.into_iter().zip(held);
        all.map(|((name, ctype), held)| Parameter { name, ctype, held }).collect()
    }

    /// A parameter, where it is.
    fn parameter(&self, parameter: Parameter) -> Option<Meaning> {
        let place = Place { ty: parameter.ctype, bit_offset: 0, bit_size: None };
        let whose = if matches!(self.source, Source::User { .. }) { Whose::User } else { Whose::Kernel };
        Some(match parameter.held {
            Held::Words(mut words) => match self.cx.shape(parameter.ctype).as_deref() {
                Some(Type::Struct { .. }) => Meaning::Held { words, place },
                Some(Type::Float { .. }) => Meaning::Missing(typed::no_fraction(&parameter.name)),
                _ => match words.pop() {
                    Some(Some(word)) => return self.typed(word, Some(parameter.ctype), whose),
                    _ => Meaning::Missing(format!("`{}` {}", parameter.name, typed::GONE)),
                },
            },
            Held::Memory(at) => Meaning::Memory { whose, at, offset: 0, place },
            Held::Nowhere(why) => Meaning::Missing(format!("`{}` {why}", parameter.name)),
        })
    }

    /// The word of a register, taken for what it is declared as.
    fn typed(&self, int: Int, ctype: Option<TypeId>, whose: Whose) -> Option<Meaning> {
        let shape = ctype.and_then(|ctype| self.cx.shape(ctype));
        Some(match shape.as_deref() {
            Some(Type::Pointer { to }) => Meaning::Pointer { whose, to: int, ctype: *to },
            Some(Type::Int { size, signed, .. }) => {
                Meaning::Int { int: cut(int, *size as u8, *signed), signed: *signed }
            }
            // it has a name
            Some(Type::Enum { .. }) => {
                Meaning::Held { words: vec![Some(int)], place: Place { ty: ctype?, bit_offset: 0, bit_size: None } }
            }
            Some(Type::Float { .. }) => Meaning::Missing("a number with a fraction is in a register of its own".into()),
            Some(Type::Struct { size: 1..=8, .. }) => {
                let place = Place { ty: ctype?, bit_offset: 0, bit_size: None };
                Meaning::Held { words: vec![Some(int)], place }
            }
            _ => Meaning::Int { int, signed: true },
        })
    }

    fn field(&self, field: &tracefs::Field) -> Option<Meaning> {
        let tracefs::Field { offset, size, signed, .. } = *field;
        match field.shape {
            Shape::Text => Some(Meaning::Text(Text::Context { offset, len: size })),
            Shape::Located => Some(Meaning::Text(Text::Located { word: offset, behind: false })),
            Shape::LocatedBehind => Some(Meaning::Text(Text::Located { word: offset, behind: true })),
            Shape::Bytes if field.printed == Printed::Network && size == 4 => {
                Some(Meaning::Shown { int: Int::context(offset, 4, false), looks: Looks::Network })
            }
            Shape::Bytes => None,
            Shape::Number => {
                let int = Int::context(offset, size as u8, signed);
                match (field.printed, &*field.ctype) {
                    (Printed::Code, _) if size == 8 => return Some(Meaning::Shown { int, looks: Looks::Symbol }),
                    (Printed::Address, ctype) if size == 8 && !ctype.contains('*') => {
                        return Some(Meaning::Shown { int, looks: Looks::Address });
                    }
                    (_, "dev_t") => return Some(Meaning::Shown { int, looks: Looks::Device }),
                    _ => {}
                }
                if field.is_char_pointer() && self.whose() == Whose::User {
                    return Some(Meaning::Text(Text::Memory { space: Whose::User, at: int }));
                }
                let pointee = field.ctype.strip_suffix('*').map(|t| t.trim().trim_start_matches("const "));
                let ctype = pointee.and_then(|t| self.cx.ctype(t).ok());
                Some(match ctype.filter(|_| size == 8) {
                    Some(ctype) => Meaning::Pointer { whose: self.whose(), to: int, ctype },
                    None => Meaning::Int { int, signed },
                })
            }
        }
    }
}

/// What a function of the kernel returns whose type is not known: its register, whose upper half means nothing if it returns
/// an int. Where that would be an error number (-MAX_ERRNO and up, include/linux/err.h) it is taken for one.
fn bare_result() -> Option<Int> {
    const ERRORS: i64 = 4095;
    const INTS: i64 = 1 << 32;
    let word = || Some(Int::context(source::return_value()?, 8, false));
    let above = Int::binary(Binary::Sub, word()?, Int::Const(INTS - ERRORS));
    let is_error = Int::binary(Binary::Lt { signed: false }, above, Int::Const(ERRORS));
    Some(Int::binary(Binary::Sub, word()?, Int::binary(Binary::Shl, is_error, Int::Const(32))))
}

fn is_result(name: &str) -> bool {
    matches!(name, "retval" | "ret")
}

/// `arg0` is the first.
fn numbered(name: &str) -> Option<usize> {
    name.strip_prefix("arg")?.parse().ok()
}

/// The low bytes of a word; what is above them means nothing.
fn cut(int: Int, size: u8, signed: bool) -> Int {
    match int {
        Int::Context { offset, .. } if matches!(size, 1 | 2 | 4 | 8) => Int::context(offset, size, signed),
        Int::Saved { offset, .. } if matches!(size, 1 | 2 | 4 | 8) => Int::saved(offset, size, signed),
        int => int,
    }
}

fn usdt(arg: &probes::usdt::UsdtArg) -> Option<Meaning> {
    use probes::usdt::UsdtPlace;
    let register = |name: &str| Some(Int::context(source::register(name)?, 8, false));
    let int = match &arg.place {
        UsdtPlace::Elsewhere(text) => {
            return Some(Meaning::Missing(format!("this argument is at `{text}`, where probes do not look")));
        }
        UsdtPlace::Constant(value) => Int::Const(*value),
        UsdtPlace::Register(name) => cut(register(name)?, arg.size, arg.signed),
        UsdtPlace::Memory { base, offset, index } => {
            let mut at = register(base)?;
            if let Some((index, scale)) = index {
                let index = Int::binary(Binary::Mul, register(index)?, Int::Const((*scale).into()));
                at = Int::binary(Binary::Add, at, index);
            }
            Int::load(Whose::User, at, i32::try_from(*offset).ok()?, arg.size, arg.signed)
        }
    };
    Some(match arg.fraction {
        true => Meaning::Fraction { bits: int, size: arg.size.into() },
        false => Meaning::Int { int, signed: arg.signed },
    })
}
