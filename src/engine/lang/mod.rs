//! The language: one line of text becomes a chain of stages.

pub mod ast;
