//! Types as C declares them: `struct list_head *`, `int (*)(void)`, `char comm[16]`.

use std::sync::Arc;

use super::{Types, base};
use crate::types::{Tag, Type, TypeId};

/// Nodes one spelling may visit; a prototype of the kernel has a dozen. Past it the rest is `…`.
const FUEL: u32 = 256;

impl Types {
    /// The type's name in C, without a declared name: `struct list_head *`, `char [16]`.
    pub fn spell(&self, id: TypeId) -> String {
        self.spell_decl(id, "")
    }

    /// A declaration of `name` with that type: `struct list_head *next`, `char comm[16]`, `int (*fn)(void)`.
    pub fn spell_decl(&self, id: TypeId, name: &str) -> String {
        self.declare(id, name.to_owned(), Vec::new(), &mut FUEL.clone())
    }

    /// Wraps the declarator `decl` from inside out until a type with a name ends it. `quals` are the qualifiers met
    /// since the last declarator: they belong to a pointer's star, or to the type that ends the declaration.
    fn declare(&self, id: TypeId, decl: String, mut quals: Vec<Arc<str>>, fuel: &mut u32) -> String {
        *fuel = fuel.saturating_sub(1);
        let node = if *fuel > 0 { self.get(id) } else { None };
        let Some(node) = node else { return join(&["…", &decl]) };
        let named = match &*node {
            Type::Qualified { qualifier, to } => {
                // pahole writes an array of const as a const array of const; C says it once
                if !quals.contains(qualifier) {
                    quals.push(qualifier.clone());
                }
                return self.declare(*to, decl, quals, fuel);
            }
            Type::Pointer { to } => {
                let mut star = format!("*{}", quals.join(" "));
                if !quals.is_empty() && !decl.is_empty() {
                    star.push(' ');
                }
                star.push_str(&decl);
                if self.binds_tighter(*to) {
                    star = format!("({star})");
                }
                return self.declare(*to, star, Vec::new(), fuel);
            }
            Type::Array { elem, count } => {
                let length = count.map(|n| n.to_string()).unwrap_or_default();
                return self.declare(*elem, format!("{decl}[{length}]"), quals, fuel);
            }
            Type::Func { ret, params, variadic } => {
                let mut list = Vec::new();
                for p in params.iter().take(*fuel as usize) {
                    list.push(self.declare(p.ty, p.name.to_string(), Vec::new(), fuel));
                }
                if *variadic {
                    list.push("...".to_owned());
                }
                if list.is_empty() {
                    list.push("void".to_owned());
                }
                return self.declare(*ret, format!("{decl}({})", list.join(", ")), Vec::new(), fuel);
            }
            Type::Void => "void".to_owned(),
            Type::Int { name, .. } | Type::Float { name, .. } => {
                base::spelling(name).map_or_else(|| name.to_string(), str::to_owned)
            }
            Type::Typedef { name, .. } => name.to_string(),
            Type::Struct { name, union, .. } => tagged(if *union { Tag::Union } else { Tag::Struct }, name.as_deref()),
            Type::Enum { name, .. } => tagged(Tag::Enum, name.as_deref()),
            Type::Forward { tag, name } => tagged(*tag, Some(name)),
        };
        join(&[&quals.join(" "), &named, &decl])
    }

    /// Whether `*` needs parentheses before this type's own declarator.
    fn binds_tighter(&self, id: TypeId) -> bool {
        let mut at = id;
        for _ in 0..super::MAX_DEPTH {
            match self.get(at).as_deref() {
                Some(Type::Qualified { to, .. }) => at = *to,
                Some(Type::Array { .. } | Type::Func { .. }) => return true,
                _ => return false,
            }
        }
        false
    }
}

fn tagged(tag: Tag, name: Option<&str>) -> String {
    let word = match tag {
        Tag::Struct => "struct ",
        Tag::Union => "union ",
        Tag::Enum => "enum ",
        Tag::Name => "",
    };
    format!("{word}{}", name.unwrap_or("{...}"))
}

fn join(parts: &[&str]) -> String {
    parts.iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>().join(" ")
}
