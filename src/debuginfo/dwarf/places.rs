//! Where a function's parameters are at an instruction of it.
//!
//! A parameter's location (DWARF 5, 2.6) is an expression, or a list of them by ranges of code. Of expressions those are
//! understood that compilers write for parameters: registers, memory beside one, parts, numbers. What is computed in more
//! steps is [`Place::Unknown`].

use std::ops::ControlFlow;
use std::sync::OnceLock;

use bytes::Bytes;
use gimli::{
    AttributeValue, DebugLoc, DebugLocLists, EndianSlice, Expression, LocationLists, LocationListsOffset, Operation,
};

use super::units::{Entry, Slice, Unit, Units, Value};
use super::{Dwarf, decode};
use crate::types::TypeId;

/// Parts that one value is in, at most.
const MAX_PIECES: usize = 16;
/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// in a register, by the number that DWARF has for it
    Register(u16),
    /// it is a register's value plus that
    Sum(u16, i64),
    /// in memory, so many bytes behind where a register points
    Memory(u16, i64),
    /// in memory, so many bytes behind where the stack stood in front of the call (`DW_OP_call_frame_cfa`)
    Frame(i64),
    /// that number
    Constant(u64),
    /// parts, one behind the other, each with its bytes
    Pieces(Vec<(u64, Place)>),
    /// nowhere: the compiler did not keep it
    Gone,
    /// somewhere that is not understood here
    Unknown,
}

/// A parameter at an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// its name
    pub name: String,
    /// its type
    pub ty: TypeId,
    /// where it is
    pub place: Place,
}

/// Sections that nobody else reads.
#[derive(Default)]
pub(super) struct Lists(OnceLock<Vec<Bytes>>);

pub(super) type Locations<'a> = LocationLists<Slice<'a>>;

impl Dwarf {
    /// The parameters, at that instruction, of the function that it belongs to, not counting inlined ones. None where no
    /// function is known.
    pub fn parameters_at(&self, addr: u64) -> Option<Vec<Parameter>> {
        let linked = addr.wrapping_sub(self.file().slide());
        self.with(|parsed| {
            let local = self.subprogram_at(parsed, linked)?;
            let lists = self.locations(&parsed.units);
            Some(self.parameters(&parsed.units, &lists, local, linked))
        })
        .ok()?
    }

    /// Whether the code at an address was written in Rust, which hands arguments over by rules of its own.
    pub fn is_rust(&self, addr: u64) -> bool {
        let linked = addr.wrapping_sub(self.file().slide());
        let language = self.with(|parsed| {
            let unit = parsed.units.unit_of(self.subprogram_at(parsed, linked)?)?;
            let mut entries = unit.parsed(&parsed.units)?.entries();
            match entries.next_dfs().ok()??.attr_value(gimli::DW_AT_language)? {
                AttributeValue::Language(language) => Some(language),
                _ => None,
            }
        });
        language.is_ok_and(|language| language == Some(gimli::DW_LANG_Rust))
    }

    pub(super) fn locations<'s, 'a: 's>(&'s self, _: &Units<'a>) -> Locations<'s> {
        let sections =
            self.lists.0.get_or_init(|| self.file().load(&[".debug_loc", ".debug_loclists"]).unwrap_or_default());
        let endian = if self.file().little_endian() { gimli::RunTimeEndian::Little } else { gimli::RunTimeEndian::Big };
        let section = |at: usize| EndianSlice::new(sections.get(at).map_or(&[][..], |bytes| bytes), endian);
        LocationLists::new(DebugLoc::from(section(0)), DebugLocLists::from(section(1)))
    }

    /// The children of an instance that are its parameters.
    pub(super) fn parameters(&self, units: &Units<'_>, lists: &Locations<'_>, local: u32, at: u64) -> Vec<Parameter> {
        let mut found = Vec::new();
        let Some((unit, entry)) = units.entry(local) else { return found };
        let frame = frame_base(unit, &entry);
        units.children(local, |child| {
            match child.tag {
                // Go's compiler lists results so
                gimli::DW_TAG_formal_parameter if is_result(child) => {}
                gimli::DW_TAG_formal_parameter => found.push(Parameter {
                    name: units.name(unit, child).map(|name| decode::text(name).to_string()).unwrap_or_default(),
                    ty: self.type_of(units, unit, child),
                    place: place(units, lists, (unit, frame), child, at).unwrap_or(Place::Unknown),
                }),
                gimli::DW_TAG_variable | gimli::DW_TAG_lexical_block | gimli::DW_TAG_inlined_subroutine => {
                    return ControlFlow::Break(());
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        found
    }
}

/// Whether a parameter is handed back and not handed over.
fn is_result(entry: &Entry<'_>) -> bool {
    matches!(entry.get(gimli::DW_AT_variable_parameter), Some(AttributeValue::Flag(true)))
}

/// Where a parameter is when the instruction at `at` comes next.
fn place<'s, 'a: 's>(
    units: &Units<'a>,
    lists: &Locations<'s>,
    (unit, frame): (&Unit<'a>, Option<i64>),
    entry: &Entry<'a>,
    at: u64,
) -> Option<Place> {
    if let Some(value) = entry.get(gimli::DW_AT_const_value) {
        return Some(constant(value));
    }
    let parsed = unit.parsed(units)?;
    let offset = match entry.get(gimli::DW_AT_location) {
        None => return Some(Place::Gone),
        Some(AttributeValue::Exprloc(expression)) => return Some(evaluated(unit, frame, expression)),
        Some(AttributeValue::LocationListsRef(offset)) => offset,
        Some(AttributeValue::DebugLocListsIndex(index)) => {
            lists.get_offset(parsed.encoding(), parsed.loclists_base, index).ok()?
        }
        Some(AttributeValue::SecOffset(offset)) => LocationListsOffset(offset),
        Some(_) => return Some(Place::Unknown),
    };
    let addresses: gimli::DebugAddr<Slice<'s>> = units.dwarf_of(unit).debug_addr;
    let mut entries = lists.locations(offset, parsed.encoding(), parsed.low_pc, &addresses, parsed.addr_base).ok()?;
    while let Some(one) = entries.next().ok()? {
        if (one.range.begin..one.range.end).contains(&at) {
            return Some(evaluated(unit, frame, one.data));
        }
    }
    Some(Place::Gone)
}

/// How far from where the stack stood in front of the call a function's own places count.
fn frame_base<'a>(unit: &Unit<'a>, entry: &Entry<'a>) -> Option<i64> {
    const RBP: u16 = 6;
    let Some(AttributeValue::Exprloc(expression)) = entry.get(gimli::DW_AT_frame_base) else { return None };
    match expression.operations(unit.header.encoding()).next().ok()?? {
        Operation::CallFrameCFA => Some(0),
        // return address and the caller's frame pointer lie between, on x86-64
        Operation::Register { register: gimli::Register(RBP) } => Some(-16),
        _ => None,
    }
}

fn constant(value: Value<'_>) -> Place {
    let number = value.sdata_value().map(|n| n as u64).or_else(|| value.udata_value());
    match (number, value) {
        (Some(number), _) => Place::Constant(number),
        (None, AttributeValue::Block(bytes)) => whole(bytes.slice()).map_or(Place::Unknown, Place::Constant),
        _ => Place::Unknown,
    }
}

fn whole(bytes: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(word))
}

/// What an expression leads to.
fn evaluated<'s>(unit: &Unit<'_>, frame: Option<i64>, expression: Expression<Slice<'s>>) -> Place {
    let mut operations = expression.operations(unit.header.encoding());
    let (mut here, mut pieces) = (Place::Gone, Vec::new());
    // a number that has been pushed, until something says that it is the value and no address
    let mut pushed = None;
    while let Ok(Some(operation)) = operations.next() {
        here = match (operation, here) {
            (Operation::Nop, before) => before,
            (Operation::Register { register }, Place::Gone) => Place::Register(register.0),
            (Operation::RegisterOffset { register, offset, .. }, Place::Gone) => Place::Memory(register.0, offset),
            (Operation::FrameOffset { offset }, Place::Gone) => match frame {
                Some(base) => Place::Frame(offset.wrapping_add(base)),
                None => return Place::Unknown,
            },
            (Operation::CallFrameCFA, Place::Gone) => Place::Frame(0),
            (Operation::PlusConstant { value }, Place::Memory(register, offset)) => {
                Place::Memory(register, offset.wrapping_add(value as i64))
            }
            (Operation::PlusConstant { value }, Place::Frame(offset)) => {
                Place::Frame(offset.wrapping_add(value as i64))
            }
            (Operation::StackValue, Place::Memory(register, offset)) => Place::Sum(register, offset),
            (Operation::UnsignedConstant { value }, Place::Gone) => {
                pushed = Some(value);
                Place::Unknown
            }
            (Operation::SignedConstant { value }, Place::Gone) => {
                pushed = Some(value as u64);
                Place::Unknown
            }
            (Operation::StackValue, Place::Unknown) if pushed.is_some() => {
                pushed.take().map_or(Place::Unknown, Place::Constant)
            }
            (Operation::ImplicitValue { data }, Place::Gone) => {
                whole(data.slice()).map_or(Place::Unknown, Place::Constant)
            }
            (Operation::ImplicitPointer { .. }, Place::Gone) => Place::Gone,
            (Operation::Piece { size_in_bits, bit_offset: None | Some(0) }, before) if size_in_bits % 8 == 0 => {
                pieces.push((size_in_bits / 8, before));
                if pieces.len() > MAX_PIECES {
                    return Place::Unknown;
                }
                Place::Gone
            }
            _ => return Place::Unknown,
        };
    }
    match pieces.is_empty() {
        true => here,
        false if pieces.iter().all(|(_, place)| *place == Place::Gone) => Place::Gone,
        false => Place::Pieces(pieces),
    }
}
