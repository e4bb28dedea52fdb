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

/// Rust's older names look like C++'s, but end in a hash: `17h`, sixteen digits, `E`.
fn is_hashed(name: &str) -> bool {
    let name = name.split('.').next().unwrap_or(name);
    let hash = name.strip_suffix('E').and_then(|name| name.rsplit_once("17h")).map(|(_, hash)| hash);
    hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::demangle;

    #[test]
    fn names_of_both_languages() {
        assert_eq!(demangle("_ZNSt6vectorIiSaIiEE9push_backERKi"), "std::vector<int, std::allocator<int> >::push_back");
        assert_eq!(demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(demangle("_Zinvalid"), "_Zinvalid");
    }
}
