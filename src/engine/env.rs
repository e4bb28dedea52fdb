//! What the language remembers between commands: dot, the increment, variables, the radix, options.

use crate::{
    error::{Error, Result},
    lang::ast::Stage,
    macros::Macro,
};
use std::{
    any::{Any, TypeId},
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};
use targets::Space;

/// The mutable side of a session; one per prompt, never shared between threads.
pub struct Env {
    /// `.`
    pub dot: Cell<u64>,
    /// `&`: dot when the most recent command began
    pub last_dot: Cell<u64>,
    /// bytes that the last format or print consumed
    pub increment: Cell<u64>,
    /// how often the statement that runs repeats its first command; one that does so by itself answers
    /// [`Stop`](crate::Error::Stop)
    pub count: Cell<u64>,
    /// default radix, 2 to 16
    pub radix: Cell<u32>,
    /// user variables
    pub vars: RefCell<BTreeMap<String, u64>>,
    /// those of them that `::typeset -t` tagged
    pub tagged: RefCell<BTreeSet<String>>,
    /// what `::set` sets
    pub options: Options,
    /// saved pipelines
    pub macros: RefCell<BTreeMap<String, Macro>>,
    /// what a bare expression runs again
    pub last_stages: RefCell<Vec<Stage>>,
    /// how deep `::eval`, `::map` and `$<` have nested
    pub depth: Cell<u32>,
    /// the space that `/` and `::print` read: the kernel's, or a process's after `::context`
    pub space: Cell<Space>,
    /// columns of the output, for formats that wrap
    pub width: Cell<usize>,
    /// what commands that look for damage have found: if any, kmdb's exit status is 1
    pub findings: Cell<u64>,
    kept: RefCell<HashMap<TypeId, Rc<dyn Any>>>,
}

impl Env {
    /// Moves dot behind what the last command consumed.
    pub fn step(&self) {
        self.dot.set(self.dot.get().wrapping_add(self.increment.get()));
    }

    /// Sets a variable. That of the representative thread cannot be.
    pub fn set_var(&self, name: &str, value: u64) -> Result<()> {
        if name == "." {
            self.dot.set(value);
            return Ok(());
        }
        if name == "thread" {
            return Err(Error::Usage(format!("`{name}` cannot be set: it tells of the target"))
                .hint("any other name is free: `value>name`"));
        }
        self.vars.borrow_mut().insert(name.to_owned(), value);
        Ok(())
    }

    /// Remembers something for commands that come later, in place of what was of that type.
    pub fn keep<T: Any>(&self, value: T) {
        let _before = self.kept.borrow_mut().insert(TypeId::of::<T>(), Rc::new(value));
    }

    /// What a command remembered.
    pub fn kept<T: Any>(&self) -> Option<Rc<T>> {
        self.kept.borrow().get(&TypeId::of::<T>())?.clone().downcast().ok()
    }

    /// A command that looks for damage found some.
    pub fn found(&self) {
        self.findings.set(self.findings.get().saturating_add(1));
    }
}

impl Default for Env {
    fn default() -> Self {
        Env {
            dot: Cell::new(0),
            last_dot: Cell::new(0),
            increment: Cell::new(0),
            count: Cell::new(1),
            radix: Cell::new(16),
            vars: RefCell::default(),
            tagged: RefCell::default(),
            options: Options::default(),
            macros: RefCell::default(),
            last_stages: RefCell::default(),
            depth: Cell::new(0),
            space: Cell::new(Space::Kernel),
            width: Cell::new(80),
            findings: Cell::new(0),
            kept: RefCell::default(),
        }
    }
}

/// What `::set` sets.
pub struct Options {
    /// `::printf` breaks lines at the width of the output
    pub autowrap: Cell<bool>,
    /// Ctrl-D at the prompt does not end kmdb
    pub ignoreeof: Cell<bool>,
    /// long answers go through a pager
    pub pager: Cell<bool>,
    /// an empty line runs the last command again, at the next address
    pub repeatlast: Cell<bool>,
    /// elements of an array that `::print` shows
    pub elements: Cell<u64>,
    /// characters of an array that `::print` shows
    pub chars: Cell<u64>,
    /// what stands before a line that is being typed
    pub prompt: RefCell<String>,
    /// the file that `::log` named, and whether it is written now
    pub log: RefCell<Option<(String, bool)>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            autowrap: Cell::new(false),
            ignoreeof: Cell::new(false),
            pager: Cell::new(true),
            repeatlast: Cell::new(false),
            elements: Cell::new(32),
            chars: Cell::new(1024),
            prompt: RefCell::new("> ".into()),
            log: RefCell::default(),
        }
    }
}
