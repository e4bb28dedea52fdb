//! What a program computes at a hit: numbers, texts, conditions. Every name has been resolved by whoever makes these:
//! what is left are offsets, widths and signs.
//!
//! ```
//! use probes::expr::{Current, Int, Space};
//! // the name behind a struct qstr whose address is a function's second argument
//! let name = Int::load(Space::Kernel, Int::context(104, 8, false), 8, 8, false);
//! let mine = Int::Current(Current::Pid).equals(42);
//! # let _ = (name, mine);
//! ```

/// Whose memory an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// the kernel's
    Kernel,
    /// the current process's
    User,
}

/// Facts of the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Current {
    /// process id, as the initial namespace counts
    Pid,
    /// thread id
    Tid,
    /// both in one word, the process in its upper half
    Thread,
    /// user id
    Uid,
    /// number of the CPU
    Cpu,
    /// CLOCK_MONOTONIC in ns
    Time,
    /// address of the struct task_struct
    Task,
    /// the number of the probe, where one program is attached to several
    Probe,
    /// tells calls of a function apart that are under way: where the words lie that a program at it is given
    Call,
}

/// A number of 64 bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Int {
    /// that number
    Const(i64),
    /// of the moment
    Current(Current),
    /// bytes of what the program is given: registers, or a tracepoint's record
    Context {
        /// in bytes
        offset: u16,
        /// 1, 2, 4 or 8
        size: u8,
        /// extended by its sign
        signed: bool,
    },
    /// bytes of what an earlier hit left for this one
    Saved {
        /// in bytes
        offset: u16,
        /// 1, 2, 4 or 8
        size: u8,
        /// extended by its sign
        signed: bool,
    },
    /// bytes of memory
    Load {
        /// whose
        space: Space,
        /// where
        at: Box<Int>,
        /// bytes behind that
        offset: i32,
        /// 1, 2, 4 or 8
        size: u8,
        /// extended by its sign
        signed: bool,
    },
    /// one operand
    Unary(Unary, Box<Int>),
    /// two operands
    Binary(Binary, Box<Int>, Box<Int>),
    /// a bucket by powers of two: 0 for 0, `n` for 2^(n-1) up to 2^n-1, negative for what is below zero
    Bucket(Box<Int>),
}

/// Operations on one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    /// `-`
    Neg,
    /// `~`
    BitNot,
    /// `!`
    Not,
}

/// Operations on two numbers. Comparisons and the logical ones give 0 or 1; the latter leave the right side alone where
/// the left decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    /// without signs
    Div,
    /// without signs
    Rem,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    /// keeps the sign
    Sar,
    Eq,
    Ne,
    Lt {
        signed: bool,
    },
    Le {
        signed: bool,
    },
    Gt {
        signed: bool,
    },
    Ge {
        signed: bool,
    },
    LogicalAnd,
    LogicalOr,
}

/// What takes a number's place, if anything does.
pub type Other<'a, E> = &'a dyn Fn(&Int) -> Result<Option<Int>, E>;

impl Int {
    /// Bytes of the context.
    pub fn context(offset: u16, size: u8, signed: bool) -> Int {
        Int::Context { offset, size, signed }
    }

    /// Bytes of what an earlier hit left.
    pub fn saved(offset: u16, size: u8, signed: bool) -> Int {
        Int::Saved { offset, size, signed }
    }

    /// Bytes of memory.
    pub fn load(space: Space, at: Int, offset: i32, size: u8, signed: bool) -> Int {
        Int::Load { space, at: Box::new(at), offset, size, signed }
    }

    /// Two operands.
    pub fn binary(op: Binary, left: Int, right: Int) -> Int {
        Int::Binary(op, Box::new(left), Box::new(right))
    }

    /// Whether it is that number.
    pub fn equals(self, number: i64) -> Int {
        Int::binary(Binary::Eq, self, Int::Const(number))
    }

    /// The same with other numbers in place of those for which there are any: the outermost are asked about first.
    pub fn with<E>(&self, other: Other<'_, E>) -> Result<Int, E> {
        if let Some(int) = other(self)? {
            return Ok(int);
        }
        Ok(match self {
            Int::Const(_) | Int::Current(_) | Int::Context { .. } | Int::Saved { .. } => self.clone(),
            Int::Load { space, at, offset, size, signed } => {
                Int::load(*space, at.with(other)?, *offset, *size, *signed)
            }
            Int::Unary(op, of) => Int::Unary(*op, Box::new(of.with(other)?)),
            Int::Binary(op, left, right) => Int::binary(*op, left.with(other)?, right.with(other)?),
            Int::Bucket(of) => Int::Bucket(Box::new(of.with(other)?)),
        })
    }

    /// Whether memory is read for it.
    pub fn reads(&self) -> bool {
        match self {
            Int::Const(_) | Int::Context { .. } | Int::Current(_) | Int::Saved { .. } => false,
            Int::Load { .. } => true,
            Int::Unary(_, of) | Int::Bucket(of) => of.reads(),
            Int::Binary(_, left, right) => left.reads() || right.reads(),
        }
    }

    /// Whether it is the same throughout a call of a function: no memory, which may change, and nothing of the moment.
    fn lasts(&self) -> bool {
        match self {
            Int::Const(_) | Int::Context { .. } => true,
            Int::Current(what) => !matches!(what, Current::Cpu | Current::Time),
            Int::Saved { .. } | Int::Load { .. } => false,
            Int::Unary(_, of) | Int::Bucket(of) => of.lasts(),
            Int::Binary(_, left, right) => left.lasts() && right.lasts(),
        }
    }
}

/// Where a text is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Text {
    /// name of the current task
    Comm,
    /// in the context itself, so many bytes at most
    Context {
        /// in bytes
        offset: u16,
        /// in bytes
        len: u16,
    },
    /// in the context, where a word of it says: its low half counts from the context's start, or from behind the word
    Located {
        /// of the word
        word: u16,
        /// counted from behind the word
        behind: bool,
    },
    /// in what an earlier hit left, so many bytes at most
    Saved {
        /// in bytes
        offset: u16,
        /// in bytes
        len: u16,
    },
    /// in memory
    Memory {
        /// whose
        space: Space,
        /// where
        at: Int,
    },
}

impl Text {
    /// Whether it is in a process's memory.
    pub fn is_users(&self) -> bool {
        matches!(self, Text::Memory { space: Space::User, .. })
    }

    /// The same with other numbers.
    pub(crate) fn with<E>(&self, other: Other<'_, E>) -> Result<Text, E> {
        Ok(match self {
            Text::Memory { space, at } => Text::Memory { space: *space, at: at.with(other)? },
            text => text.clone(),
        })
    }
}

/// Whether something passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// a number other than zero
    Int(Int),
    /// a text that is this one, or begins so
    Text {
        /// which
        text: Text,
        /// what it is compared with
        with: Vec<u8>,
        /// only the beginning
        prefix: bool,
    },
    /// the process is the command that was started, or descends from it
    Family,
    /// not that
    Not(Box<Test>),
    /// all of them
    All(Vec<Test>),
    /// one of them
    Any(Vec<Test>),
}

impl Test {
    /// Whether a text of a process's memory is looked at.
    pub fn reads_users_texts(&self) -> bool {
        match self {
            Test::Int(_) | Test::Family => false,
            Test::Text { text, .. } => text.is_users(),
            Test::Not(test) => test.reads_users_texts(),
            Test::All(tests) | Test::Any(tests) => tests.iter().any(Test::reads_users_texts),
        }
    }

    /// The same with other numbers.
    pub(crate) fn with<E>(&self, other: Other<'_, E>) -> Result<Test, E> {
        let each = |of: &[Test]| of.iter().map(|test| test.with(other)).collect::<Result<Vec<_>, E>>();
        Ok(match self {
            Test::Int(int) => Test::Int(int.with(other)?),
            Test::Text { text, with, prefix } => {
                Test::Text { text: text.with(other)?, with: with.clone(), prefix: *prefix }
            }
            Test::Family => Test::Family,
            Test::Not(of) => Test::Not(Box::new(of.with(other)?)),
            Test::All(of) => Test::All(each(of)?),
            Test::Any(of) => Test::Any(each(of)?),
        })
    }

    /// Whether it says the same when a function is entered and when it returns, so that it may be asked at the former.
    pub fn lasts(&self) -> bool {
        match self {
            Test::Int(int) => int.lasts(),
            Test::Text { text, .. } => *text == Text::Comm,
            Test::Family => true,
            Test::Not(of) => of.lasts(),
            Test::All(of) | Test::Any(of) => of.iter().all(Test::lasts),
        }
    }
}

/// A way up through a tree of files, and through what that tree is mounted in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    /// address of where it begins, a node
    pub dentry: Int,
    /// address of the mount that this is in, of the part of it that nodes point at; without, the way ends at the tree's root
    pub mount: Option<Int>,
    /// where things lie
    pub layout: WayLayout,
}

/// Where members lie, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WayLayout {
    /// of a node: its parent, itself at the root
    pub parent: i32,
    /// of a node: the address of its name
    pub name: i32,
    /// of a mount: the root of its tree
    pub root: i32,
    /// of a mount: the mount that it is mounted in, itself for the outermost
    pub outer: i32,
    /// of a mount: the node there that it covers
    pub place: i32,
    /// from a mount's beginning to the part that pointers lead to
    pub inner: i32,
}

impl Way {
    /// Bytes of all names; the last name begins so far before their end that it fits.
    pub(crate) const NAMES: usize = 1024;
    /// A name with its NUL is no longer (`NAME_MAX`).
    pub(crate) const NAME: usize = 256;
    /// Names and mounts that are gone through at most.
    pub(crate) const STEPS: usize = 20;
    /// Behind the names a word that is not zero if there are more.
    const ROOM: usize = Way::NAMES + 8;
}

/// A value that leaves the kernel: a field of an event, or a part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// a number
    Int(Int),
    /// a text, cut to so many bytes
    Text(Text, u16),
    /// names that lead up from a place in a tree of files: the last one first, each with its NUL
    Path(Box<Way>),
    /// addresses of the kernel's frames, so many at most
    KernelStack(u16),
    /// addresses of the process's frames, as far as frame pointers lead; of an event, none: its stack itself is copied
    UserStack(u16),
    /// the same at a probe in a program, which has the process's registers in hand
    UserFrames {
        /// so many at most
        frames: u16,
        /// whether a function begins there
        entry: bool,
    },
    /// frames that an earlier hit left, so many at most
    SavedStack {
        /// where in what was left, in bytes
        offset: u16,
        /// how many
        frames: u16,
    },
}

impl Value {
    /// Whether nothing of it is behind the first word that is zero: it is addresses of frames, or a text.
    pub fn ends_in_zero(&self) -> bool {
        matches!(
            self,
            Value::KernelStack(_)
                | Value::UserStack(_)
                | Value::UserFrames { .. }
                | Value::SavedStack { .. }
                | Value::Text(..)
        )
    }

    /// The same with other numbers.
    pub(crate) fn with<E>(&self, other: Other<'_, E>) -> Result<Value, E> {
        Ok(match self {
            Value::Int(int) => Value::Int(int.with(other)?),
            Value::Text(text, max) => Value::Text(text.with(other)?, *max),
            Value::Path(way) => {
                let mount = way.mount.as_ref().map(|mount| mount.with(other)).transpose()?;
                Value::Path(Box::new(Way { dentry: way.dentry.with(other)?, mount, layout: way.layout }))
            }
            stack => stack.clone(),
        })
    }

    /// Whether taking it may fail: it lies in memory.
    pub fn may_fail(&self) -> bool {
        match self {
            Value::Int(int) => int.reads(),
            Value::Text(text, _) => matches!(text, Text::Memory { .. }),
            Value::Path(_) => true,
            Value::KernelStack(_) | Value::UserStack(_) | Value::UserFrames { .. } | Value::SavedStack { .. } => false,
        }
    }

    /// Room it takes in a record, in bytes: a multiple of eight.
    pub fn room(&self) -> usize {
        match self {
            Value::Int(_) => 8,
            Value::Text(_, max) => usize::from(*max).next_multiple_of(8),
            Value::Path(_) => Way::ROOM,
            Value::KernelStack(frames)
            | Value::UserStack(frames)
            | Value::UserFrames { frames, .. }
            | Value::SavedStack { frames, .. } => usize::from(*frames) * 8,
        }
    }
}
