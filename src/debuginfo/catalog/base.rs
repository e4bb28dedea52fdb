//! C's base types and the kernel's fixed-width names, for sessions and corners without a type source.
//!
//! Sizes are those of LP64, the model of every 64-bit Linux.

use std::sync::Arc;

use crate::types::Type;

/// How C programmers spell a base type whose words may come in any order (`long unsigned int` → `unsigned long`).
/// `None` if the words are none.
pub(super) fn spelling(words: &str) -> Option<&'static str> {
    let (mut signed, mut unsigned, mut long, mut short, mut int, mut other) = (0, 0, 0, 0, 0, None);
    for word in words.split_whitespace() {
        match word {
            "signed" | "__signed__" => signed += 1,
            "unsigned" => unsigned += 1,
            "long" => long += 1,
            "short" => short += 1,
            "int" => int += 1,
            "char" | "_Bool" | "float" | "double" | "void" | "__int128" if other.is_none() => other = Some(word),
            _ => return None,
        }
    }
    if signed + unsigned > 1 || short > 1 || int > 1 || (short > 0 && long > 0) {
        return None;
    }
    let sign = if unsigned > 0 { 'u' } else { 's' };
    let plain = signed + unsigned + long + short + int == 0;
    match (other, sign, long, short) {
        (None, ..) if plain => None,
        (None, 's', 0, 0) => Some("int"),
        (None, _, 0, 0) => Some("unsigned int"),
        (None, 's', 0, 1) => Some("short"),
        (None, _, 0, 1) => Some("unsigned short"),
        (None, 's', 1, 0) => Some("long"),
        (None, _, 1, 0) => Some("unsigned long"),
        (None, 's', 2, 0) => Some("long long"),
        (None, _, 2, 0) => Some("unsigned long long"),
        (Some("char"), ..) if plain => Some("char"),
        (Some("char"), 's', 0, 0) if int == 0 => Some("signed char"),
        (Some("char"), _, 0, 0) if int == 0 => Some("unsigned char"),
        (Some("__int128"), 's', 0, 0) if int == 0 => Some("__int128"),
        (Some("__int128"), _, 0, 0) if int == 0 => Some("unsigned __int128"),
        (Some("double"), 's', 1, 0) if signed + int == 0 => Some("long double"),
        (Some("void"), ..) if plain => Some("void"),
        (Some("_Bool"), ..) if plain => Some("_Bool"),
        (Some("float"), ..) if plain => Some("float"),
        (Some("double"), ..) if plain => Some("double"),
        _ => None,
    }
}

/// The spelling GCC writes into DWARF, and so pahole into BTF, where it differs from ours.
pub(super) fn gcc_spelling(name: &'static str) -> &'static str {
    match name {
        "short" => "short int",
        "unsigned short" => "short unsigned int",
        "long" => "long int",
        "unsigned long" => "long unsigned int",
        "long long" => "long long int",
        "unsigned long long" => "long long unsigned int",
        "unsigned __int128" => "__int128 unsigned",
        other => other,
    }
}

/// The node of a base type in our spelling.
pub(super) fn ctype(name: &str) -> Option<Type> {
    let (size, signed) = match name {
        "void" => return Some(Type::Void),
        "float" => return Some(Type::Float { name: name.into(), size: 4 }),
        "double" => return Some(Type::Float { name: name.into(), size: 8 }),
        "long double" => return Some(Type::Float { name: name.into(), size: 16 }),
        "_Bool" | "unsigned char" => (1, false),
        "char" | "signed char" => (1, true),
        "short" => (2, true),
        "unsigned short" => (2, false),
        "int" => (4, true),
        "unsigned int" => (4, false),
        "long" | "long long" => (8, true),
        "unsigned long" | "unsigned long long" => (8, false),
        "__int128" => (16, true),
        "unsigned __int128" => (16, false),
        _ => return None,
    };
    let name: Arc<str> = name.into();
    let (char, boolean) = (name.ends_with("char"), &*name == "_Bool");
    Some(Type::Int { name, size, signed, char, boolean })
}

/// What the well-known typedefs of include/linux/types.h and of <stdint.h> stand for.
pub(super) fn typedef(name: &str) -> Option<&'static str> {
    Some(match name {
        "bool" => "_Bool",
        "s8" | "__s8" | "int8_t" => "signed char",
        "u8" | "__u8" | "u_int8_t" | "uint8_t" | "unchar" | "u_char" | "uchar" => "unsigned char",
        "s16" | "__s16" | "int16_t" => "short",
        "u16" | "__u16" | "u_int16_t" | "uint16_t" | "ushort" | "u_short" => "unsigned short",
        "s32" | "__s32" | "int32_t" => "int",
        "u32" | "__u32" | "u_int32_t" | "uint32_t" | "uint" | "u_int" => "unsigned int",
        "s64" | "__s64" | "int64_t" => "long long",
        "u64" | "__u64" | "u_int64_t" | "uint64_t" => "unsigned long long",
        "ssize_t" | "ptrdiff_t" | "intptr_t" | "off_t" => "long",
        "size_t" | "ulong" | "u_long" | "uintptr_t" => "unsigned long",
        _ => return None,
    })
}
