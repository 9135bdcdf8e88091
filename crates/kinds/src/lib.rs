//! What differs between kinds. Everything else is the registry's one generic flow.
//!
//! A kind is one file (a folder once it needs rooms) and one row in [`all`]. A kind without a file has no
//! behaviour of its own: the tables say all there is.

mod admissionregistration;
pub mod all;
mod apiextensions;
mod apiregistration;
mod apps;
mod authorization;
pub mod autoscaling;
mod batch;
mod certificates;
mod checks;
pub mod convert;
mod coordination;
mod core;
mod discovery;
mod events;
mod flowcontrol;
mod kind;
pub mod meta;
mod networking;
mod node;
pub mod policy;
mod rbac;
mod resource;
mod scheduling;
pub mod schema_rules;
mod storage;

pub use core::{pod, service};
pub use kind::{Kind, Plain};
