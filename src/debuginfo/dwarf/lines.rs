//! From an address to function, file and line, with the functions that were inlined there.

use std::sync::{Mutex, PoisonError};

use super::bounds::Bounds;
use super::units::{Slice, Units};
use super::{Dwarf, Parsed, decode};
use crate::elf::Error;
use crate::types::TypeId;

/// One function at an address: the innermost inlined one, or a caller that it was inlined into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// its name in the source, in Rust its path
    pub function: Option<String>,
    /// its prototype, a [`Type::Func`](crate::Type::Func)
    pub ty: Option<TypeId>,
    /// source file, relative to the kernel's source tree if it lies in it
    pub file: Option<String>,
    /// counted from 1
    pub line: Option<u32>,
    /// counted from 1
    pub column: Option<u32>,
    /// whether its code stands inside the function of the next frame
    pub inlined: bool,
}

type Context<'a> = addr2line::Context<Slice<'a>>;

/// What look-ups by address need.
pub(super) struct Lines<'a> {
    context: Mutex<Context<'a>>,
    bounds: Bounds,
}

impl<'a> Lines<'a> {
    fn new(units: &Units<'a>) -> Result<Lines<'a>, String> {
        let bounds = Bounds::survey(units)?;
        let context = Context::from_arc_dwarf(units.dwarf.clone()).map_err(|e| e.to_string())?;
        Ok(Lines { context: Mutex::new(context), bounds })
    }
}

impl Dwarf {
    /// What the kernel's code at `addr` (an address after relocation) was compiled from: the innermost inlined
    /// function first, then those it was inlined into. Empty where there is no code that the file knows.
    pub fn frames(&self, addr: u64) -> Result<Vec<Frame>, Error> {
        self.with(|parsed| {
            let lines = parsed.lines.get_or_init(|| Lines::new(&parsed.units)).as_ref().map_err(String::clone)?;
            let linked = addr.wrapping_sub(self.file.slide());
            lines.bounds.allow(&parsed.units, linked)?;
            let context = lines.context.lock().unwrap_or_else(PoisonError::into_inner);
            self.look_up(&parsed.units, &context, linked)
        })?
        .map_err(|why| self.error(why))
    }

    /// The prototype of the function that covers `addr`, not counting inlined ones.
    pub fn function_at(&self, addr: u64) -> Option<TypeId> {
        self.frames(addr).ok()?.last()?.ty
    }

    /// The entry of the function, not an inlined one, that an address before relocation belongs to.
    pub(super) fn subprogram_at(&self, parsed: &Parsed<'_>, linked: u64) -> Option<u32> {
        let lines = parsed.lines.get_or_init(|| Lines::new(&parsed.units)).as_ref().ok()?;
        lines.bounds.allow(&parsed.units, linked).ok()?;
        let context = lines.context.lock().unwrap_or_else(PoisonError::into_inner);
        let start = context.find_dwarf_and_unit(linked).skip_all_loads()?.header.debug_info_offset()?.0;
        let mut frames = context.find_frames(linked).skip_all_loads().ok()?;
        let mut last = None;
        while let Some(frame) = frames.next().ok()? {
            last = frame.dw_die_offset;
        }
        u32::try_from(start + last?.0).ok()
    }

    fn look_up<'a>(&self, units: &Units<'a>, context: &Context<'a>, addr: u64) -> Result<Vec<Frame>, String> {
        let unit = context.find_dwarf_and_unit(addr).skip_all_loads();
        let start = unit.and_then(|u| u.header.debug_info_offset()).map(|at| at.0);
        let tree = unit.and_then(|u| u.comp_dir).map(|dir| decode::text(dir.slice()));
        let mut frames = context.find_frames(addr).skip_all_loads().map_err(|e| e.to_string())?;
        let mut out: Vec<Frame> = Vec::new();
        while let Some(frame) = frames.next().map_err(|e| e.to_string())? {
            if let Some(callee) = out.last_mut() {
                callee.inlined = true;
            }
            let die = start.zip(frame.dw_die_offset).and_then(|(start, at)| u32::try_from(start + at.0).ok());
            let place = frame.location;
            out.push(Frame {
                function: frame.function.map(|f| spelled(&decode::text(f.name.slice()), f.language)),
                ty: die.map(|local| self.id(units.origin(local))),
                file: place.as_ref().and_then(|p| p.file).map(|file| relative(file, tree.as_deref()).to_owned()),
                line: place.as_ref().and_then(|p| p.line),
                column: place.as_ref().and_then(|p| p.column).filter(|&column| column > 0),
                inlined: false,
            });
        }
        Ok(out)
    }
}

/// A function's name as its source has it: Rust's are mangled, with a hash that says nothing to people.
fn spelled(name: &str, language: Option<gimli::DwLang>) -> String {
    match rustc_demangle::try_demangle(name) {
        Ok(path) if language == Some(gimli::DW_LANG_Rust) => format!("{path:#}"),
        _ => name.to_owned(),
    }
}

/// The kernel is compiled in the top directory of its tree, so that names of files there need not say where it was.
fn relative<'p>(file: &'p str, tree: Option<&str>) -> &'p str {
    let inside = tree.and_then(|tree| file.strip_prefix(tree)).and_then(|rest| rest.strip_prefix('/'));
    let file = inside.unwrap_or(file);
    file.strip_prefix("./").unwrap_or(file)
}
