//! The core group.

pub(crate) mod configmap;
pub mod pod;
