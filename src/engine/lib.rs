//! The engine: what a dcmd, a walker and a session are, and how items flow between them.
//!
//! **Invariant:** it prints nothing and knows no kernel structure.

extern crate self as engine;

pub mod arg;
pub mod cprint;
pub mod cscope;
pub mod ctree;
pub mod cx;
pub mod env;
pub mod error;
pub mod frame;
pub mod globals;
pub mod interrupt;
pub mod item;
pub mod kernelfile;
pub mod lang;
pub(crate) mod lost;
pub mod macros;
pub mod modfiles;
pub mod names;
pub mod notes;
pub mod open;
pub mod pipeline;
pub mod refused;
pub mod registry;
pub mod scope;
pub mod session;
pub mod symbols;
pub mod text;
pub mod verbs;
pub mod view;

pub use arg::ExprArg;
pub use clap::Args;
pub use cx::{Cx, Face, Out, Sink};
pub use debuginfo::{self, Tag, Type, TypeId};
pub use derive::{Row, View};
pub use env::Env;
pub use error::{Doing, Error, Result};
pub use interrupt::Interrupt;
pub use item::{Addr, Cell, Column, Hex, IntoCell, IntoRow, Item, Kind, Object, Row, Schema};
pub use modfiles::Sections;
pub use registry::{
    Address, Dcmd, DcmdEntry, DynamicWalker, DynamicWalkers, Filter, Gather, Origin, Registry, Stage, Visit,
    WalkerEntry,
};
pub use session::Session;
pub use symbols::Module;
pub use targets::{self, Space};
pub use view::{At, Field, FieldReader, FieldSpec, FromField, Layout, View, ViewEntry};

/// What a file of dcmds or walkers starts with.
pub mod prelude {
    pub use crate::{
        Addr, Address, Args, At, Cell, Cx, Dcmd, DcmdEntry, Doing, Error, ExprArg, Filter, Gather, Hex, Item, Object,
        Origin, Out, Result, Row, Session, Space, View, Visit, WalkerEntry,
    };
    pub use crate::{FromField as _, IntoCell as _, IntoRow as _};
}
