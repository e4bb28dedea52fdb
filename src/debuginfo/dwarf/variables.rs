//! Global variables: types, addresses, and the files that define them.

use gimli::AttributeValue;

use super::index::Kind;
use super::units::{Entry, Unit, Units};
use super::{Dwarf, decode};
use crate::types::TypeId;

/// A variable outside functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// as declared
    pub name: String,
    /// its type
    pub ty: TypeId,
    /// where it was loaded; of a per-CPU variable, its symbol's value. `None` if it was optimised away or is only
    /// declared
    pub addr: Option<u64>,
    /// the source file of the unit that describes it, as the compiler was told
    pub file: String,
    /// whether other files may refer to it
    pub external: bool,
}

impl Dwarf {
    /// Every variable of that name: one that other files see first, then statics in the order of their files. If there
    /// is no definition, the declaration that is most frequent.
    pub fn variables(&self, name: &str) -> Vec<Variable> {
        let found = self.with(|parsed| {
            let found = self.index(parsed).find(Kind::Variable, name.as_bytes());
            found.into_iter().filter_map(|local| self.describe(&parsed.units, local)).collect()
        });
        found.unwrap_or_default()
    }

    /// Visits every defined variable.
    pub fn each_variable(&self, visit: &mut dyn FnMut(Variable)) {
        // An error is met again, and told, by whoever asks for a type.
        let _ = self.with(|parsed| {
            self.index(parsed).each_variable(|_, local| {
                if let Some(variable) = self.describe(&parsed.units, local) {
                    visit(variable);
                }
            });
        });
    }

    fn describe(&self, units: &Units<'_>, local: u32) -> Option<Variable> {
        let (unit, entry) = units.entry(local)?;
        let file = unit.parsed(units).and_then(|u| u.name).map(|name| decode::text(name.slice()).to_string());
        let external = units.inherited(unit, &entry, gimli::DW_AT_external);
        Some(Variable {
            name: decode::text(units.name(unit, &entry)?).to_string(),
            ty: self.type_of(units, unit, &entry),
            addr: address(units, unit, &entry).map(|addr| self.file.loaded(addr)),
            file: file.unwrap_or_default(),
            external: matches!(external, Some((_, AttributeValue::Flag(true)))),
        })
    }
}

/// The address a variable was linked at, if its location is one.
fn address<'a>(units: &Units<'a>, unit: &Unit<'a>, entry: &Entry<'a>) -> Option<u64> {
    let Some(AttributeValue::Exprloc(expr)) = entry.get(gimli::DW_AT_location) else { return None };
    let mut operations = expr.operations(unit.header.encoding());
    let base = match operations.next().ok()?? {
        gimli::Operation::Address { address } => address,
        gimli::Operation::AddressIndex { index } => units.dwarf_of(unit).address(unit.parsed(units)?, index).ok()?,
        _ => return None,
    };
    match operations.next().ok()? {
        None => Some(base),
        Some(gimli::Operation::PlusConstant { value }) => Some(base.wrapping_add(value)),
        Some(_) => None,
    }
}
