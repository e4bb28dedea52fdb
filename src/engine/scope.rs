//! What names mean in an expression: variables, registers, symbols, memory.

use crate::{
    cx::Cx,
    lang::{eval::Scope, printf::Names},
};

/// The scope of a command.
pub struct CxScope<'c, 'a>(pub &'c Cx<'a>);

impl Scope for CxScope<'_, '_> {
    fn dot(&self) -> u64 {
        self.0.env.dot.get()
    }
    fn last_dot(&self) -> u64 {
        self.0.env.last_dot.get()
    }
    fn increment(&self) -> u64 {
        self.0.env.increment.get()
    }
    fn radix(&self) -> u32 {
        self.0.env.radix.get()
    }

    /// A variable, else a register of the representative CPU: the one that crashed.
    fn var(&self, name: &str) -> Option<u64> {
        let found = self.0.env.vars.borrow().get(name).copied();
        found.or_else(|| self.0.registers()?.get(name))
    }

    fn symbol(&self, scopes: &[String], name: &str) -> Option<u64> {
        match scopes.first() {
            Some(module) => self.0.symbols.in_module(self.0, module, name),
            None => self.0.symbols.address(self.0, name),
        }
    }

    fn read(&self, _object: bool, addr: u64, size: u8) -> Result<u64, String> {
        let mut buf = [0; 8];
        let size = usize::from(size).clamp(1, 8);
        self.0.read_in(self.0.env.space.get(), addr, &mut buf[..size]).map_err(|e| e.kind())?;
        Ok(u64::from_le_bytes(buf))
    }
}

impl Names for CxScope<'_, '_> {
    fn symbol(&self, addr: u64) -> Option<(String, u64)> {
        let symbol = self.0.symbols.by_addr(self.0, addr)?;
        let name = match &symbol.module {
            Some(module) => format!("{module}`{}", symbol.name),
            None => symbol.name,
        };
        Some((name, addr.wrapping_sub(symbol.addr)))
    }

    fn time(&self, seconds: i64) -> Option<String> {
        crate::cprint::scalar::date(seconds)
    }

    fn radix(&self) -> u32 {
        self.0.env.radix.get()
    }
}
