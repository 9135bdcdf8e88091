//! The core group.

pub(crate) mod binding;
pub(crate) mod componentstatus;
pub(crate) mod configmap;
pub(crate) mod endpoints;
pub(crate) mod event;
mod go_json;
pub(crate) mod limitrange;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod persistentvolume;
pub(crate) mod persistentvolumeclaim;
pub mod pod;
pub(crate) mod podtemplate;
pub(crate) mod replicationcontroller;
pub(crate) mod resourcequota;
pub(crate) mod secret;
pub mod service;
pub(crate) mod serviceaccount;
pub(crate) mod shared;
mod tls_pair;
mod volume_sources;
