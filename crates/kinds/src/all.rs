//! Every kind that has behaviour of its own.

use crate::{Kind, core};

/// The rows, by group and name.
pub const ALL: &[&dyn Kind] = &[&core::configmap::ConfigMap];

/// The behaviour of a resource, if it has any of its own.
pub fn find(group: &str, resource: &str) -> Option<&'static dyn Kind> {
    ALL.iter().copied().find(|kind| kind.group() == group && kind.resource() == resource)
}
