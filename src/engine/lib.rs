//! The pipe.
pub mod lang;
