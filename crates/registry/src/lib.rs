//! The registry: one flow for get, list, watch, create, update, patch and delete, for every kind.
//!
//! A kind adds what differs by its row in `kinds`; a few kinds with allocations or subresources of their own add
//! hooks. Objects are read from and written to the store as bytes; the watch caches are fed from the store's one
//! stream of changes. Nothing here knows HTTP.

pub mod body;
pub mod codec;
mod continuation;
mod delete;
mod hooks;
mod options;
mod ownership;
mod patch;
mod read;
mod registry;
mod services;
mod storage;
mod subresources;
pub mod table;
mod view;
mod write;

pub use continuation::Continuation;
pub use delete::Deleted;
pub use hooks::Hooks;
pub use options::{
    DeleteOptions, FieldValidation, ListOptions, Propagation, VersionMatch, WriteOptions, dry_run_errors,
    field_manager_errors,
};
pub use ownership::keep_untracked_body;
pub use patch::PatchType;
pub use read::{ListAnswer, StoredObject, WatchAnswer, parse_version};
pub use registry::{Observer, Observers, ROOT, Registration, Registry, StartError};
pub use services::{Cidr, Services, parse_cidrs};
pub use storage::{KindRef, SchemaRef, Served, Storage, StoredAs};
pub use write::{Context, Written};
