//! The object tree ([`Value`]) and the tables that describe it ([`Schema`]).
//!
//! Every API object that logic looks into is a [`Value`]: built-ins and custom resources alike. What a field is
//! called on the wire, how lists merge and what may be missing is said by the [`Schema`], never by code.

mod schema;
mod value;

pub use schema::{Field, FieldRef, ListKind, PatchStrategy, Schema, SchemaError, StructId, StructType, Type};
pub use smol_str::{SmolStr, ToSmolStr, format_smolstr};
pub use value::{Map, UNKNOWN, Value};
