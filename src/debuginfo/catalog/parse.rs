//! C type names: `struct foo *`, `unsigned long`, `char [16]`, `int (*)(struct foo *, ...)`.
//!
//! As in mdb, a bare name that is no typedef is tried as a struct, union and enum: `task_struct` is
//! `struct task_struct`.

use super::{MAX_DEPTH, Types, base};
use crate::types::{Member, Tag, Type, TypeId};

impl Types {
    /// The type that `text` names in C, or why there is none.
    pub fn parse(&self, text: &str) -> Result<TypeId, String> {
        let mut parser = Parser { types: self, tokens: tokens(text)?, at: 0, depth: 0, name: None };
        let id = parser.type_name()?;
        match parser.peek() {
            None => Ok(id),
            Some(token) => Err(format!("`{token}` does not belong after the type in `{text}`")),
        }
    }

    /// The type and the name of a declaration: `void **white`, `uintptr_t stone[7]`, `int (*call)(void *)`.
    pub fn parse_declaration(&self, text: &str) -> Result<(TypeId, String), String> {
        let mut parser = Parser { types: self, tokens: tokens(text)?, at: 0, depth: 0, name: Some("") };
        let id = parser.type_name()?;
        match (parser.peek(), parser.name) {
            (Some(token), _) => Err(format!("`{token}` does not belong in `{}`", text.trim())),
            (None, Some(name)) if !name.is_empty() => Ok((id, name.to_owned())),
            _ => Err(format!("a name is missing in `{}`", text.trim())),
        }
    }

    /// `name` as a typedef, base type or, failing that, a tag.
    fn name(&self, name: &str) -> Result<TypeId, String> {
        if let Some(id) = [Tag::Name, Tag::Struct, Tag::Union, Tag::Enum].iter().find_map(|&tag| self.first(tag, name))
        {
            return Ok(id);
        }
        let Some(to) = base::typedef(name).and_then(base::ctype) else { return Err(format!("no type `{name}`")) };
        let to = self.make(to);
        Ok(self.make(Type::Typedef { name: name.into(), to }))
    }

    fn first(&self, tag: Tag, name: &str) -> Option<TypeId> {
        self.find(tag, name).first().copied()
    }

    /// A base type as the sources know it (they know whether `char` is signed), else as C defines it.
    fn base(&self, spelling: &'static str) -> Result<TypeId, String> {
        if spelling == "void" {
            return Ok(TypeId::VOID);
        }
        self.first(Tag::Name, spelling)
            .or_else(|| self.first(Tag::Name, base::gcc_spelling(spelling)))
            .or_else(|| base::ctype(spelling).map(|node| self.make(node)))
            .ok_or_else(|| format!("no type `{spelling}`"))
    }
}

/// What wraps a type, in the order in which it is applied to it.
enum Wrap {
    Pointer,
    Qualifier(String),
    Array(Option<u64>),
    Func(Vec<Member>, bool),
}

struct Parser<'a> {
    types: &'a Types,
    tokens: Vec<&'a str>,
    at: usize,
    depth: usize,
    /// in a parameter, its name, empty until it is met; elsewhere a name is an error
    name: Option<&'a str>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).copied()
    }

    fn accept(&mut self, token: &str) -> bool {
        let hit = self.peek() == Some(token);
        self.at += usize::from(hit);
        hit
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        match self.accept(token) {
            true => Ok(()),
            false => Err(format!("expected `{token}` before {}", self.here())),
        }
    }

    fn here(&self) -> String {
        self.peek().map_or_else(|| "the end".to_owned(), |t| format!("`{t}`"))
    }

    fn word(&mut self) -> Option<&'a str> {
        let word = self.peek().filter(|t| is_word(t))?;
        self.at += 1;
        Some(word)
    }

    fn type_name(&mut self) -> Result<TypeId, String> {
        let mut id = self.specifiers()?;
        for wrap in self.declarator()? {
            id = self.types.make(match wrap {
                Wrap::Pointer => Type::Pointer { to: id },
                Wrap::Qualifier(q) => Type::Qualified { qualifier: q.into(), to: id },
                Wrap::Array(count) => Type::Array { elem: id, count },
                Wrap::Func(params, variadic) => Type::Func { ret: id, params: params.into(), variadic },
            });
        }
        Ok(id)
    }

    /// `const struct foo`, `unsigned long`, `foo_t`, with qualifiers on either side.
    fn specifiers(&mut self) -> Result<TypeId, String> {
        let (mut quals, mut base_words, mut id) = (Vec::new(), Vec::new(), None);
        while let Some(word) = self.peek().filter(|t| is_word(t)) {
            match word {
                "const" | "volatile" | "restrict" | "_Atomic" => quals.push(word),
                "struct" | "union" | "enum" if id.is_none() && base_words.is_empty() => {
                    self.at += 1;
                    let name = self.word().ok_or_else(|| format!("`{word}` needs a name before {}", self.here()))?;
                    let tag = match word {
                        "struct" => Tag::Struct,
                        "union" => Tag::Union,
                        _ => Tag::Enum,
                    };
                    id = Some(self.types.first(tag, name).ok_or_else(|| format!("no type `{word} {name}`"))?);
                    continue;
                }
                _ if id.is_none() && is_base_word(word) => base_words.push(word),
                _ if id.is_none() && base_words.is_empty() => id = Some(self.types.name(word)?),
                _ if self.name.is_some() => break,
                _ => return Err(format!("`{word}` does not belong after the type")),
            }
            self.at += 1;
        }
        let mut id = match id {
            Some(id) => id,
            None if base_words.is_empty() => return Err(format!("expected a type before {}", self.here())),
            None => {
                let words = base_words.join(" ");
                self.types.base(base::spelling(&words).ok_or_else(|| format!("no type `{words}`"))?)?
            }
        };
        for qual in quals.into_iter().rev() {
            id = self.types.make(Type::Qualified { qualifier: qual.into(), to: id });
        }
        Ok(id)
    }

    /// An abstract declarator, as the list of what to wrap the type in: stars first, then the suffixes from right to
    /// left, then what stood in parentheses.
    fn declarator(&mut self) -> Result<Vec<Wrap>, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("this type is nested too deeply".to_owned());
        }
        let mut wraps = Vec::new();
        while self.accept("*") {
            wraps.push(Wrap::Pointer);
            let from = wraps.len();
            while let Some(q) = self.peek().filter(|t| matches!(*t, "const" | "volatile" | "restrict" | "_Atomic")) {
                self.at += 1;
                // the last one is applied first, so that the first is outermost, as it is spelled
                wraps.insert(from, Wrap::Qualifier(q.to_owned()));
            }
        }
        // `(*…)`, `([…` group; `(int)` and `()` are parameters
        let grouped = self.peek() == Some("(") && matches!(self.tokens.get(self.at + 1), Some(&"*" | &"(" | &"["));
        let inner = if grouped {
            self.at += 1;
            let inner = self.declarator()?;
            self.expect(")")?;
            inner
        } else {
            Vec::new()
        };
        if !grouped && self.name == Some("") {
            self.name = self.word().or(self.name);
        }
        let mut suffixes = Vec::new();
        loop {
            if self.accept("[") {
                suffixes.push(Wrap::Array(self.length()?));
            } else if self.accept("(") {
                suffixes.push(self.parameters()?);
            } else {
                break;
            }
        }
        wraps.extend(suffixes.into_iter().rev());
        wraps.extend(inner);
        self.depth -= 1;
        Ok(wraps)
    }

    fn length(&mut self) -> Result<Option<u64>, String> {
        if self.accept("]") {
            return Ok(None);
        }
        let text = self.word().ok_or_else(|| format!("expected a length before {}", self.here()))?;
        let count = super::number(text).ok_or_else(|| format!("`{text}` is no array length"))?;
        self.expect("]")?;
        Ok(Some(count))
    }

    fn parameters(&mut self) -> Result<Wrap, String> {
        let mut params = Vec::new();
        if self.accept(")") {
            return Ok(Wrap::Func(params, false));
        }
        loop {
            if self.accept("...") {
                self.expect(")")?;
                return Ok(Wrap::Func(params, true));
            }
            let outer = self.name.replace("");
            let ty = self.type_name()?;
            let name = std::mem::replace(&mut self.name, outer).unwrap_or_default();
            params.push(Member { name: name.into(), ty, bit_offset: 0, bit_size: None });
            if self.accept(")") {
                break;
            }
            self.expect(",")?;
        }
        if matches!(params.as_slice(), [only] if only.ty == TypeId::VOID) {
            params.clear();
        }
        Ok(Wrap::Func(params, false))
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn is_base_word(word: &str) -> bool {
    matches!(
        word,
        "signed"
            | "__signed__"
            | "unsigned"
            | "long"
            | "short"
            | "int"
            | "char"
            | "_Bool"
            | "float"
            | "double"
            | "void"
            | "__int128"
    )
}

fn tokens(text: &str) -> Result<Vec<&str>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '*' | '(' | ')' | '[' | ']' | ',' => 1,
            '.' if rest.starts_with("...") => 3,
            c if c.is_alphanumeric() || c == '_' => {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
            }
            c => return Err(format!("`{c}` cannot be part of a type name")),
        };
        let (token, after) = rest.split_at(len);
        out.push(token);
        rest = after.trim_start();
    }
    Ok(out)
}
