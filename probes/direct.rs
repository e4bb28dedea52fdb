//! The cheaper way to a function of the kernel: a program right at its entry or its return (fentry, fexit), which is given
//! the words of the arguments, and no registers.
//!
//! What is wanted is said in terms of a kprobe's registers. Here it becomes a matter of words: an argument's register is its
//! word, and what a function's entry would leave for its return is among the words that the return has. A call is told from
//! others by where its words lie, which is the same for entry and return, as both programs are called by one piece of code
//! (the trampoline) in one frame. What needs other registers stays with kprobes. Whether a kernel can is asked by trying.

use crate::{
    expr::{Current, Int, Value},
    program::{Action, How, Join, Spec, room},
    source::{self, Prototype, Source},
};
use bpf::prog::{Kind, Use};
use std::cell::Cell;

/// Functions that end the thread that calls them. What waits for their return keeps a piece of the kernel's memory for ever,
/// so that newer kernels refuse it (`noreturn_deny` of the verifier) and older ones are not asked.
const NORETURN: &[&str] = &[
    "__ia32_sys_exit",
    "__ia32_sys_exit_group",
    "__x64_sys_exit",
    "__x64_sys_exit_group",
    "__arm64_sys_exit",
    "__arm64_sys_exit_group",
    "do_exit",
    "do_group_exit",
    "kthread_complete_and_exit",
    "kthread_exit",
    "make_task_dead",
];

/// Programs that do the same without registers.
pub(crate) struct Direct {
    pub(crate) how: How,
    pub(crate) spec: Spec,
    /// the one at the entry that leaves for this one what no word tells: when it was
    pub(crate) begin: Option<(How, Spec)>,
}

const REGISTERS: &str = "it asks for registers, which only a kprobe sees";
const STACK: &str = "the kernel's stack is followed from a kprobe's registers";
const PROTOTYPE: &str = "the kernel's BTF has no plain prototype of that function";
const INSIDE: &str = "it does not stand where a function begins or returns";
const NEVER: &str = "that function never returns";
const OTHERS: &str = "it is joined with other probes";

impl Direct {
    /// What does the same as this spec; or why that needs a kprobe. `None` of what is no function of the kernel.
    pub(crate) fn of(source: &Source, spec: &Spec) -> Option<Result<Direct, &'static str>> {
        let Source::Kernel { function, prototype, on_return, offset, inlined, .. } = source else { return None };
        if *offset > 0 || *inlined {
            return Some(Err(INSIDE));
        }
        let Some(prototype) = prototype else { return Some(Err(PROTOTYPE)) };
        if *on_return && NORETURN.contains(&function.as_str()) {
            return Some(Err(NEVER));
        }
        if asks_for_stack(spec) {
            return Some(Err(STACK));
        }
        Some(if *on_return { at_return(*prototype, spec) } else { at_entry(*prototype, spec) })
    }
}

/// Whether the kernel's stack is wanted, here or where the call began. Seen from here it would begin with the trampoline and
/// the program itself.
fn asks_for_stack(spec: &Spec) -> bool {
    let is_stack = |spec: &Spec| spec.action.values().iter().any(|value| matches!(value, Value::KernelStack(_)));
    is_stack(spec) || spec.join.iter().flat_map(|join| &join.begins).any(|(_, begin)| is_stack(begin))
}

fn how(way: Use) -> How {
    How { kind: Kind::Tracing, way, shared: false }
}

/// The word of an argument, in place of its register.
fn word(prototype: Prototype, int: &Int) -> Result<Option<Int>, &'static str> {
    let Int::Context { offset, size, signed } = int else { return Ok(None) };
    let index = (0..prototype.arguments).find(|index| source::argument((*index).into()) == Some(*offset));
    index.map(|index| Some(Int::context(u16::from(index) * 8, *size, *signed))).ok_or(REGISTERS)
}

fn at_entry(prototype: Prototype, spec: &Spec) -> Result<Direct, &'static str> {
    if spec.join.is_some() {
        return Err(OTHERS);
    }
    let spec = spec.with(&|int| word(prototype, int))?;
    Ok(Direct { how: how(Use::Entry(prototype.number)), spec, begin: None })
}

fn at_return(prototype: Prototype, spec: &Spec) -> Result<Direct, &'static str> {
    let begin = match spec.join.as_ref().map(|join| (join.who, &join.begins[..])) {
        None => None,
        // the entry of the same call
        Some((None, [(_, begin)])) => Some(begin),
        Some(_) => return Err(OTHERS),
    };
    let left = begin.map_or(&[][..], |begin| begin.action.values());
    let asks = Cell::new(false);
    let mut direct = spec.with(&|int| match int {
        Int::Context { offset, size, signed } if Some(*offset) == source::return_value() => {
            Ok(Some(Int::context(u16::from(prototype.arguments) * 8, *size, *signed)))
        }
        Int::Context { .. } => Err(REGISTERS),
        Int::Saved { offset, size, signed } => match at(left, usize::from(*offset)) {
            Some(Int::Context { offset, .. }) => word(prototype, &Int::context(*offset, *size, *signed)),
            _ => {
                asks.set(true);
                Ok(None)
            }
        },
        _ => Ok(None),
    })?;
    direct.join = None;
    let how = how(Use::Return(prototype.number));
    let Some(begin) = begin.filter(|_| asks.get()) else { return Ok(Direct { how, spec: direct, begin: None }) };
    // arguments need not be left, and come behind what must be
    let rest: Vec<_> =
        left.iter().take_while(|value| !matches!(value, Value::Int(Int::Context { .. }))).cloned().collect();
    let key = || vec![Value::Int(Int::Current(Current::Thread)), Value::Int(Int::Current(Current::Call))];
    direct.join = Some(Join { begins: Vec::new(), key: key(), room: room(&rest), who: None });
    let test = begin.test.as_ref().map(|test| test.with(&|int| word(prototype, int))).transpose()?;
    let action = Action::Leave { key: key(), what: rest };
    let begin = Spec { test, action, ..begin.clone() };
    Ok(Direct { how, spec: direct, begin: Some((self::how(Use::Entry(prototype.number)), begin)) })
}

/// The number that begins so many bytes behind the first of these values.
fn at(values: &[Value], offset: usize) -> Option<&Int> {
    let mut at = 0;
    for value in values {
        if at == offset
            && let Value::Int(int) = value
        {
            return Some(int);
        }
        at += value.room();
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::expr::{Binary, Space, Test};

    const PROTOTYPE: Prototype = Prototype { number: 7, arguments: 3 };

    fn probe(on_return: bool) -> Source {
        Source::Kernel {
            function: "vfs_read".into(),
            at: None,
            several: false,
            inlined: false,
            offset: 0,
            on_return,
            prototype: Some(PROTOTYPE),
        }
    }

    fn argument(index: usize) -> Int {
        Int::context(source::argument(index).unwrap(), 8, false)
    }

    fn spec(value: Int, join: Option<Join>) -> Spec {
        Spec { id: 0, join, test: None, action: Action::Emit(vec![Value::Int(value)]), result: 0 }
    }

    /// What an entry leaves: the time, then two arguments.
    fn call() -> Join {
        let time = Int::Current(Current::Time);
        let what = [time, argument(0), argument(1)].map(Value::Int).to_vec();
        let test = Some(Test::Int(argument(1)));
        let leaves = Spec { id: 0, join: None, test, action: Action::Leave { key: Vec::new(), what }, result: 0 };
        Join { begins: vec![(probe(false), leaves)], key: Vec::new(), room: 24, who: None }
    }

    #[test]
    fn arguments_are_words() {
        let value = Int::load(Space::Kernel, argument(2), 40, 8, false);
        let direct = Direct::of(&probe(false), &spec(value, None)).unwrap().unwrap();
        let word = Int::load(Space::Kernel, Int::context(16, 8, false), 40, 8, false);
        assert_eq!(direct.spec.action, Action::Emit(vec![Value::Int(word)]));
        // the prototype has three
        assert_eq!(Direct::of(&probe(false), &spec(argument(3), None)).unwrap().err(), Some(REGISTERS));
    }

    #[test]
    fn a_return_has_the_arguments_and_needs_no_entry_for_them() {
        let result = Int::context(source::return_value().unwrap(), 4, true);
        let value = Int::binary(Binary::Sub, result, Int::saved(16, 2, false));
        let direct = Direct::of(&probe(true), &spec(value, Some(call()))).unwrap().unwrap();
        let words = Int::binary(Binary::Sub, Int::context(24, 4, true), Int::context(8, 2, false));
        assert_eq!(direct.spec.action, Action::Emit(vec![Value::Int(words)]));
        assert!(direct.spec.join.is_none() && direct.begin.is_none());
    }

    #[test]
    fn when_a_call_began_is_left_by_its_entry() {
        let direct = Direct::of(&probe(true), &spec(Int::saved(0, 8, false), Some(call()))).unwrap().unwrap();
        assert_eq!(direct.spec.join.unwrap().room, 8);
        let (_, begin) = direct.begin.unwrap();
        assert_eq!(begin.test, Some(Test::Int(Int::context(8, 8, false))));
        let Action::Leave { what, .. } = begin.action else { unreachable!() };
        assert_eq!(what, [Value::Int(Int::Current(Current::Time))]);
    }
}
