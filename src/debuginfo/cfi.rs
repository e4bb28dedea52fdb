//! Call frame information of user programs: from a frame's registers to its caller's, by `.eh_frame`, which every program
//! carries along in memory for its exceptions.
//!
//! Rules are in the DWARF standard, 6.4, and the Linux Standard Base (`.eh_frame_hdr`). Registers are numbered as DWARF
//! numbers them on the architecture.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, EvaluationResult, LittleEndian, Register, RegisterRule,
    UnwindContext, UnwindExpression, UnwindSection, UnwindTableRow, Value,
};

/// Registers that rules are followed for: all that calls preserve on x86-64 (16 and the return address) and arm64.
pub const REGISTERS: usize = 33;
/// More operations than any rule needs.
const MAX_OPERATIONS: u32 = 256;

/// The registers of a frame; `None` where one is not known.
pub type Registers = [Option<u64>; REGISTERS];

/// The tables of a program, or library, as they lie in memory.
pub struct Tables<'a> {
    /// `.eh_frame_hdr`, and where that is; without it, tables are looked through from the start
    pub header: Option<(&'a [u8], u64)>,
    /// `.eh_frame`, as far as it is there; what lies behind it does not matter
    pub frames: &'a [u8],
    /// where that is
    pub frames_at: u64,
    /// whether it is of arm64, which may sign return addresses
    pub arm: bool,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// the caller's registers; that of the return address is where it goes on
    Caller {
        /// all that are known
        registers: Box<Registers>,
        /// its stack pointer
        sp: u64,
        /// where it goes on
        pc: u64,
        /// a signal interrupted it there: it did not call
        signal: bool,
    },
    /// There is none: the outermost frame.
    Outermost,
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Where `.eh_frame` is, by its header, which lies at an address.
pub fn frames_at(header: &[u8], header_at: u64) -> Option<u64> {
    let bases = BaseAddresses::default().set_eh_frame_hdr(header_at);
    let parsed = EhFrameHdr::new(header, LittleEndian).parse(&bases, 8).ok()?;
    match parsed.eh_frame_ptr() {
        gimli::Pointer::Direct(at) => Some(at),
        gimli::Pointer::Indirect(_) => None,
    }
}

/// Steps from a frame to its caller. `place` is an address in the frame's function: where it was interrupted, or one less
/// than where it goes on. `stack` is DWARF's number of the stack pointer. `read` reads a word of the process's memory.
pub fn step(
    tables: &Tables<'_>,
    place: u64,
    registers: &Registers,
    stack: u16,
    read: &dyn Fn(u64) -> Option<u64>,
) -> Result<Step, String> {
    let bases = BaseAddresses::default().set_eh_frame(tables.frames_at);
    let mut frames = EhFrame::new(tables.frames, LittleEndian);
    if tables.arm {
        frames.set_vendor(gimli::Vendor::AArch64);
    }
    let text = |e: gimli::Error| e.to_string();
    let fde = match tables.header {
        Some((header, at)) => {
            let bases = bases.clone().set_eh_frame_hdr(at);
            let header = EhFrameHdr::new(header, LittleEndian).parse(&bases, 8).map_err(text)?;
            let table = header.table().ok_or("its .eh_frame_hdr has no table")?;
            table.fde_for_address(&frames, &bases, place, EhFrame::cie_from_offset)
        }
        None => frames.fde_for_address(&bases, place, EhFrame::cie_from_offset),
    };
    let fde = fde.map_err(|_| format!("no frame information for {place:x}"))?;
    let mut context = UnwindContext::new();
    let row = fde.unwind_info_for_address(&frames, &bases, &mut context, place).map_err(text)?;
    let rules = Rules { frames: &frames, encoding: fde.cie().encoding(), registers, read };
    let cfa = rules.cfa(row.cfa()).ok_or("the frame's address is not known")?;
    rules.caller(row, cfa, stack, fde.cie().return_address_register(), fde.is_signal_trampoline())
}

/// DWARF's numbers of the stack pointer and the frame pointer.
pub fn stack_registers(arm: bool) -> (u16, usize) {
    if arm { (31, 29) } else { (7, 6) }
}

/// A frame's caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// its registers, as far as they are known
    pub registers: Registers,
    /// its stack pointer
    pub sp: u64,
    /// where it goes on
    pub pc: u64,
    /// a signal interrupted it there: it did not call
    pub signal: bool,
    /// it was found by a frame pointer, where nothing says that there is one
    pub guess: bool,
}

/// Steps from a frame, whose stack pointer is `sp`, to its caller: by its tables, or by the frame pointer where they say
/// nothing. `None`: it is the outermost.
pub fn caller(
    tables: Option<&Tables<'_>>,
    place: u64,
    registers: &Registers,
    sp: u64,
    arm: bool,
    read: &dyn Fn(u64) -> Option<u64>,
) -> Result<Option<Caller>, String> {
    let (stack, frame_pointer) = stack_registers(arm);
    let mut why = "there is no call frame information".to_owned();
    if let Some(tables) = tables {
        match step(tables, place, registers, stack, read) {
            Ok(Step::Caller { registers, sp, pc, signal }) => {
                return Ok(Some(Caller { registers: *registers, sp, pc, signal, guess: false }));
            }
            Ok(Step::Outermost) => return Ok(None),
            Err(reason) => why = reason,
        }
    }
    // the frame pointer points at the caller's, with the return address behind it
    let frame = registers.get(frame_pointer).copied().flatten().filter(|f| *f >= sp && f % 8 == 0);
    let found = frame.and_then(|frame| Some((frame, read(frame)?, read(frame.wrapping_add(8))?)));
    let Some((frame, next, pc)) = found else { return Err(why) };
    if pc == 0 {
        return Ok(None);
    }
    let (mut registers, sp) = (*registers, frame.wrapping_add(16));
    for (number, value) in [(frame_pointer, next), (usize::from(stack), sp)] {
        if let Some(register) = registers.get_mut(number) {
            *register = Some(value);
        }
    }
    Ok(Some(Caller { registers, sp, pc, signal: false, guess: true }))
}

/// The rules of a row, and what they are applied to.
struct Rules<'a, 'r> {
    frames: &'r EhFrame<Slice<'a>>,
    encoding: gimli::Encoding,
    registers: &'r Registers,
    read: &'r dyn Fn(u64) -> Option<u64>,
}

impl<'a> Rules<'a, '_> {
    fn get(&self, register: Register) -> Option<u64> {
        self.registers.get(usize::from(register.0)).copied().flatten()
    }

    fn cfa(&self, rule: &CfaRule<usize>) -> Option<u64> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => Some(self.get(*register)?.wrapping_add_signed(*offset)),
            CfaRule::Expression(expression) => self.evaluate(expression, None),
        }
    }

    fn caller(
        &self,
        row: &UnwindTableRow<usize>,
        cfa: u64,
        stack: u16,
        back: Register,
        signal: bool,
    ) -> Result<Step, String> {
        if matches!(row.register(back), Some(RegisterRule::Undefined)) {
            return Ok(Step::Outermost);
        }
        let mut registers = *self.registers;
        for (number, value) in registers.iter_mut().enumerate() {
            let register = Register(number as u16);
            *value = match row.register(register) {
                Some(rule) => self.value(&rule, register, cfa),
                // the stack pointer is where the frame begins, others are as they were
                None if register.0 == stack => Some(cfa),
                None => *value,
            };
        }
        let of = |register: Register| registers.get(usize::from(register.0)).copied().flatten();
        let pc = of(back).ok_or("the return address is not there")?;
        let sp = of(Register(stack)).unwrap_or(cfa);
        match pc {
            0 => Ok(Step::Outermost),
            pc => Ok(Step::Caller { registers: Box::new(registers), sp, pc, signal }),
        }
    }

    fn value(&self, rule: &RegisterRule<usize>, register: Register, cfa: u64) -> Option<u64> {
        match rule {
            RegisterRule::SameValue => self.get(register),
            RegisterRule::Offset(offset) => (self.read)(cfa.wrapping_add_signed(*offset)),
            RegisterRule::ValOffset(offset) => Some(cfa.wrapping_add_signed(*offset)),
            RegisterRule::Register(other) => self.get(*other),
            RegisterRule::Expression(expression) => (self.read)(self.evaluate(expression, Some(cfa))?),
            RegisterRule::ValExpression(expression) => self.evaluate(expression, Some(cfa)),
            RegisterRule::Constant(value) => Some(*value),
            _ => None,
        }
    }

    /// Evaluates an expression. `start` is on the stack when it begins.
    fn evaluate(&self, expression: &UnwindExpression<usize>, start: Option<u64>) -> Option<u64> {
        let expression = expression.get(self.frames).ok()?;
        let mut evaluation = expression.evaluation(self.encoding);
        evaluation.set_max_iterations(MAX_OPERATIONS);
        if let Some(start) = start {
            evaluation.set_initial_value(start);
        }
        let mut state = evaluation.evaluate().ok()?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let word = (self.read)(address)?;
                    let bits = u32::from(size.min(8)) * 8;
                    let value = if bits == 64 { word } else { word & ((1 << bits) - 1) };
                    evaluation.resume_with_memory(Value::Generic(value)).ok()?
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    evaluation.resume_with_register(Value::Generic(self.get(register)?)).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.result().first()?.location {
            gimli::Location::Address { address } => Some(address),
            gimli::Location::Register { register } => self.get(register),
            gimli::Location::Value { value } => value.to_u64(u64::MAX).ok(),
            _ => None,
        }
    }
}
