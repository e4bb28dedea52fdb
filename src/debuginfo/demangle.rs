//! Names of functions as their sources have them: Rust's and C++'s are mangled in symbol tables.
//!
//! ```
//! use debuginfo::demangle::demangle;
//! assert_eq!(demangle("_ZN5boost6threadC1Ei"), "boost::thread::thread");
//! assert_eq!(demangle("malloc"), "malloc");
//! ```

use std::borrow::Cow;

/// The name without the types of its parameters; what is not mangled stays as it is.
pub fn demangle(name: &str) -> Cow<'_, str> {
    if !name.starts_with("_Z") && !name.starts_with("_R") {
        return Cow::Borrowed(name);
    }
    if let Ok(path) = rustc_demangle::try_demangle(name)
        && (name.starts_with("_R") || is_hashed(name))
    {
        return Cow::Owned(format!("{path:#}"));
    }
    let short = cpp_demangle::DemangleOptions::new().no_params().no_return_type();
    let Ok(symbol) = cpp_demangle::Symbol::new(name) else { return Cow::Borrowed(name) };
    // some templates cannot be spelled without what their parameters are made of
    let spelled = symbol.demangle_with_options(&short).or_else(|_| symbol.demangle());
    spelled.map_or(Cow::Borrowed(name), Cow::Owned)
}

/// Whether a function whose path is that is meant by a name: all of it, or its end, with or without what fills templates.
pub fn is_called(path: &str, name: &str) -> bool {
    let ends = |path: &str| path.strip_suffix(name).is_some_and(|front| front.is_empty() || front.ends_with("::"));
    ends(path) || path.contains('<') && ends(&without_templates(path))
}

/// `twice<int>` is `twice`; what operators are called is left alone.
fn without_templates(path: &str) -> Cow<'_, str> {
    if path.contains("operator") {
        return Cow::Borrowed(path);
    }
    let mut depth = 0usize;
    path.chars()
        .filter(|c| {
            match c {
                '<' => depth += 1,
                '>' => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
        })
        .collect::<String>()
        .into()
}

/// Rust's older names look like C++'s, but end in a hash: `17h`, sixteen digits, `E`. LLVM may add more behind a dot.
fn is_hashed(name: &str) -> bool {
    let hash = name.rsplit_once("17h").and_then(|(_, hash)| hash.split_once('E'));
    hash.is_some_and(|(hash, more)| {
        hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) && (more.is_empty() || more.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::{demangle, is_called};

    #[test]
    fn names_of_both_languages() {
        assert_eq!(demangle("_ZNSt6vectorIiSaIiEE9push_backERKi"), "std::vector<int, std::allocator<int> >::push_back");
        assert_eq!(demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
        let method = "_ZN36_$LT$rs..Re$u20$as$u20$rs..Shape$GT$4area17h8700e1b6e41dff68E";
        assert_eq!(demangle(method), "<rs::Re as rs::Shape>::area");
        assert_eq!(demangle(&format!("{method}.llvm.123")), "<rs::Re as rs::Shape>::area");
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(demangle("_Zinvalid"), "_Zinvalid");
    }

    #[test]
    fn the_end_of_a_path_names_a_function() {
        assert!(is_called("shop::Cart::add", "Cart::add"));
        assert!(is_called("shop::Cart::add", "add"));
        assert!(!is_called("shop::Cart::add", "art::add"));
        assert!(is_called("twice<int>", "twice"));
        assert!(is_called("std::vector<int, std::allocator<int> >::push_back", "vector::push_back"));
        assert!(!is_called("operator<", "operator"));
    }
}
