//! Arguments of dcmds that are expressions.

use crate::{cx::Cx, error::Result, pipeline::eval_text};
use std::{convert::Infallible, str::FromStr};

/// A word to be evaluated as an expression when the dcmd runs: `::bufctl -a init_task+8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprArg(pub String);

impl FromStr for ExprArg {
    type Err = Infallible;
    fn from_str(s: &str) -> Result<Self, Infallible> {
        Ok(ExprArg(s.to_owned()))
    }
}

impl ExprArg {
    /// The value, in the default radix.
    pub fn eval(&self, cx: &Cx<'_>) -> Result<u64> {
        eval_text(cx, &self.0)
    }
}
