//! All ways to change an object by a patch, and who owns which field of it.
//!
//! The three classic patches ([`json_patch`], [`merge_patch`], [`strategic`]) and server-side apply
//! ([`managed_fields::FieldManager::apply`]) turn one tree into another. Their result has the shape that the patch
//! gave it: whoever calls them decodes it by its schema, which finds unknown fields and wrong types and drops nulls
//! and zero values.

pub mod json_patch;
pub mod managed_fields;
pub mod merge_patch;
pub mod strategic;

mod error;
mod field_set;
mod fields_v1;
mod go;
mod json;
mod typed;

pub use error::PatchError;
pub use field_set::{FieldSet, Path, PathElement};
pub use fields_v1::FieldsV1Error;
pub use typed::{Comparison, ObjectType, ValidationError, ValidationErrors};

use api_schema::Value;

/// All fields of an object: its leaves, the items of its lists and the entries of its maps, as their types say.
pub fn fields_of(ty: ObjectType<'_>, object: &Value) -> FieldSet {
    typed::fields_of(ty.ty(), object)
}

/// The fields in which two objects of one type differ.
pub fn compare(ty: ObjectType<'_>, old: &Value, new: &Value) -> Result<Comparison, ValidationErrors> {
    typed::compare(ty.ty(), old, new)
}
