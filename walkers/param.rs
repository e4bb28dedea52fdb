//! Parameters of the kernel and its modules: `struct kernel_param` (include/linux/moduleparam.h).
//!
//! Where the value is, and how it is written, the operations of a parameter tell: the functions that show integers,
//! strings and such are the kernel's own, known by their names (kernel/params.c).
//!
//! ```console
//! > ::walk module | ::print struct module name num_kp | ::head -n 2
//! name = [ "veth" ]
//! num_kp = 0
//! ```

use engine::{ViewEntry, prelude::*};

/// `struct kernel_param`.
#[derive(View, Clone, Debug)]
#[ctype("kernel_param")]
pub struct Param {
    /// its address
    #[addr]
    pub addr: u64,
    name: u64,
    ops: u64,
    perm: u16,
    arg: u64,
}

/// `struct kparam_array`.
#[derive(View)]
#[ctype("kparam_array")]
struct Array {
    max: u32,
    elemsize: u32,
    num: u64,
    ops: u64,
    elem: u64,
}

/// `struct kparam_string`.
#[derive(View)]
#[ctype("kparam_string")]
struct Text {
    maxlen: u32,
    string: u64,
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// a number
    Int(i64),
    /// one that is never negative
    Uint(u64),
    /// yes or no; the other way round for an `invbool`
    Bool(bool),
    /// a text
    Text(String),
    /// several
    List(Vec<Value>),
    /// a type of its own: what reads and writes it
    Other(String),
}

/// More parameters than any module has, and more elements than any has in one.
const MAX: u32 = 4096;

impl Param {
    /// Its name, with that of the module in front if it is the kernel's own.
    pub fn name(&self, session: &Session) -> Result<String> {
        session.cstr(self.name, 128)
    }

    /// Who may see and change it in /sys/module: a file's mode; 0 if it is not there.
    pub fn mode(&self) -> u16 {
        self.perm
    }

    /// Its value.
    pub fn value(&self, session: &Session) -> Result<Value> {
        value(session, self.ops, self.arg, 0)
    }
}

/// `struct kernel_param_ops`.
#[derive(View)]
#[ctype("kernel_param_ops")]
struct Ops {
    /// makes a text of the value
    get: u64,
}

fn value(session: &Session, ops: u64, at: u64, depth: u32) -> Result<Value> {
    let name = |at: u64| session.symbols.by_addr(session, at).filter(|s| s.addr == at).map(|s| s.name);
    // a parameter with a check of its own when it is set is mostly shown by one of the kernel's functions
    let get = name(session.view::<Ops>(ops)?.get).unwrap_or_default();
    Ok(match get.trim_start_matches("param_get_") {
        "byte" => Value::Uint(session.u8(at)?.into()),
        "short" => Value::Int((session.u16(at)? as i16).into()),
        "ushort" => Value::Uint(session.u16(at)?.into()),
        "int" => Value::Int((session.u32(at)? as i32).into()),
        "uint" | "hexint" => Value::Uint(session.u32(at)?.into()),
        "long" => Value::Int(session.u64(at)? as i64),
        "ulong" | "ullong" => Value::Uint(session.u64(at)?),
        "bool" => Value::Bool(session.u8(at)? != 0),
        "invbool" => Value::Bool(session.u8(at)? == 0),
        "charp" => match session.u64(at)? {
            0 => Value::Text("(null)".into()),
            text => Value::Text(session.cstr(text, 1024)?),
        },
        "string" => {
            let text: Text = session.view(at)?;
            Value::Text(session.cstr(text.string, text.maxlen.min(MAX) as usize)?)
        }
        "param_array_get" if depth == 0 => {
            let array: Array = session.view(at)?;
            let count = if array.num == 0 { array.max } else { session.u32(array.num)? };
            let size = u64::from(array.elemsize);
            let count = u64::from(count.min(array.max).min(MAX));
            let all = (0..count).map(|i| value(session, array.ops, array.elem.wrapping_add(i * size), 1));
            Value::List(all.collect::<Result<_>>()?)
        }
        _ => Value::Other(name(ops).unwrap_or_else(|| format!("{ops:#x}"))),
    })
}

/// `struct module`, what of it tells of its parameters.
#[derive(View)]
#[ctype("module")]
struct Owner {
    kp: u64,
    num_kp: u32,
}

/// The parameters of a module.
pub fn of_module(session: &Session, module: u64) -> Result<Vec<Param>> {
    let owner: Owner = session.view(module)?;
    let size = session.size_of("kernel_param")?;
    (0..u64::from(owner.num_kp.min(MAX))).map(|i| session.view(owner.kp.wrapping_add(i * size))).collect()
}

/// The parameters of the kernel proper: an array that the linker makes.
pub fn of_kernel(session: &Session) -> Result<Vec<Param>> {
    let (start, end) = (session.symbol("__start___param")?, session.symbol("__stop___param")?);
    let size = session.size_of("kernel_param")?.max(1);
    let count = end.saturating_sub(start) / size;
    (0..count.min(MAX.into())).map(|i| session.view(start.wrapping_add(i * size))).collect()
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<Param>(), ViewEntry::of::<Array>(), ViewEntry::of::<Text>(), ViewEntry::of::<Owner>()];
