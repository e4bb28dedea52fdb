//! Names of an enumeration's values. Enumerations whose values are all single bits are sets of flags.

use debuginfo::EnumValue;

/// Whether the enumerators are flags: each is zero or one bit, and there is a bit.
pub fn is_flags(values: &[EnumValue]) -> bool {
    values.iter().all(|v| v.value >= 0 && (v.value & (v.value - 1)) == 0) && values.iter().any(|v| v.value != 0)
}

/// The name of a value: an enumerator, or for flags all that are set.
///
/// Flags share their common prefix, as mdb writes them: `PFX_{A|B}`; bits without a name follow as a number.
pub fn name(values: &[EnumValue], value: i64) -> Option<String> {
    if let Some(exact) = values.iter().find(|v| v.value == value) {
        return Some(exact.name.to_string());
    }
    if value == 0 || !is_flags(values) {
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    let mut left = value;
    for v in values.iter().filter(|v| v.value != 0) {
        // a second name of the same bit finds it gone
        if left & v.value != 0 {
            left &= !v.value;
            names.push(&v.name);
        }
    }
    let prefix = common_prefix(values);
    let mut text = match names.as_slice() {
        [] => return Some(format!("{left:#x}")),
        [one] => (*one).to_owned(),
        many if prefix == 0 => many.join("|"),
        many => {
            let tails: Vec<_> = many.iter().map(|n| tail(n, prefix)).collect();
            format!("{}{{{}}}", &many[0][..prefix], tails.join("|"))
        }
    };
    if left != 0 {
        text.push_str(&format!("|{left:#x}"));
    }
    Some(text)
}

/// `name` without the first `prefix` bytes, unless that would leave nothing.
pub fn tail(name: &str, prefix: usize) -> &str {
    name.get(prefix..).filter(|t| !t.is_empty()).unwrap_or(name)
}

/// Length in bytes of what all names begin with; never a whole name.
pub fn common_prefix(values: &[EnumValue]) -> usize {
    let Some((first, rest)) = values.split_first() else { return 0 };
    let mut len = rest.iter().fold(first.name.len(), |len, v| {
        len.min(first.name.bytes().zip(v.name.bytes()).take_while(|(a, b)| a == b).count())
    });
    if values.iter().any(|v| v.name.len() == len) {
        len = len.saturating_sub(1);
    }
    if values.iter().all(|v| v.name.is_char_boundary(len)) { len } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(list: &[(&str, i64)]) -> Vec<EnumValue> {
        list.iter().map(|&(n, value)| EnumValue { name: n.into(), value }).collect()
    }

    #[test]
    fn flags_and_plain_enums() {
        let flags = values(&[("F_NONE", 0), ("F_READ", 1), ("F_WRITE", 2), ("F_W", 2), ("F_EXEC", 4)]);
        assert!(is_flags(&flags));
        assert_eq!(name(&flags, 0).as_deref(), Some("F_NONE"));
        assert_eq!(name(&flags, 2).as_deref(), Some("F_WRITE"));
        assert_eq!(name(&flags, 5).as_deref(), Some("F_{READ|EXEC}"));
        assert_eq!(name(&flags, 0x15).as_deref(), Some("F_{READ|EXEC}|0x10"));
        assert_eq!(name(&flags, 0x30).as_deref(), Some("0x30"));
        let plain = values(&[("RED", 1), ("GREEN", 2), ("BLUE", 3)]);
        assert!(!is_flags(&plain));
        assert_eq!(name(&plain, 3).as_deref(), Some("BLUE"));
        assert_eq!(name(&plain, 4), None);
        assert!(!is_flags(&values(&[("ZERO", 0)])));
        assert!(!is_flags(&values(&[("NEGATIVE", i64::MIN), ("ONE", 1)])));
        assert!(!is_flags(&[]));
    }

    #[test]
    fn prefixes_leave_a_name() {
        assert_eq!(common_prefix(&values(&[("AB", 1), ("ABC", 2)])), 1);
        assert_eq!(common_prefix(&values(&[("ONLY", 1)])), 3);
        assert_eq!(common_prefix(&[]), 0);
        assert_eq!(tail("ABC", 3), "ABC");
    }
}
