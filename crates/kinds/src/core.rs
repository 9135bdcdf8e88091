//! The core group.

pub(crate) mod configmap;
pub mod pod;
pub(crate) mod podtemplate;
pub(crate) mod replicationcontroller;
