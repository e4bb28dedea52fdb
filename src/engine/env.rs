//! What the language remembers between commands: dot, the increment, variables, the radix, options.

use crate::{lang::ast::Stage, macros::Macro};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
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
}

impl Env {
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
            macros: RefCell::default(),
            last_stages: RefCell::default(),
            depth: Cell::new(0),
            space: Cell::new(Space::Kernel),
            width: Cell::new(80),
            findings: Cell::new(0),
        }
    }
}
