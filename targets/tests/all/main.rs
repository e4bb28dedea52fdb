//! Tests of the target layer from outside: synthetic dumps of every format, damaged ones, and the lab's real ones.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cuts;
mod formats;
mod headers;
mod hostile;
mod kernel;
mod lab;
mod lies;
mod qmp;
mod raw;
mod sets;
mod synth;
