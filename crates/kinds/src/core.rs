//! The core group.

pub(crate) mod configmap;
