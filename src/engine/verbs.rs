//! The verbs `/ \ ? =` as stages: a format list over memory, or over dot itself.

use crate::{
    cx::{Cx, Out},
    error::{Error, Result},
    item::Item,
    lang::ast::{FormatItem, Span},
    registry::Stage,
};

/// A verb with its format list.
pub struct VerbStage {
    verb: char,
    format: Vec<FormatItem>,
    span: Span,
}

impl VerbStage {
    /// A verb stage.
    pub fn new(verb: char, format: Vec<FormatItem>, span: Span) -> VerbStage {
        VerbStage { verb, format, span }
    }
}

impl Stage for VerbStage {
    fn item(&mut self, _: &Cx<'_>, _: Option<Item>, _: &mut Out<'_>) -> Result<()> {
        let _ = &self.format;
        Err(Error::Syntax { span: self.span.clone(), message: format!("verb {}", self.verb), hint: None })
    }
}
