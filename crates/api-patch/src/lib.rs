//! All ways to change an object by a patch, and who owns which field of it.
//!
//! The three classic patches ([`json_patch`], [`merge_patch`], [`strategic`]) turn one tree into another. Their
//! result has the shape that the patch gave it: whoever calls them decodes it by its schema, which finds unknown
//! fields and wrong types and drops nulls and zero values.

pub mod json_patch;
pub mod merge_patch;
pub mod strategic;

mod error;
mod go;
mod json;

pub use error::PatchError;
