//! The node agent: registers a Node and runs the Pods bound to it.
//!
//! It sees the cluster through the API and containers through the CRI, and is split into *plan* (pure: what is next for
//! a Pod, given its spec, its containers and its probes) and *act* (thin).

pub mod admit;
pub mod agent;
pub mod backoff;
pub mod dns;
pub mod env;
mod hooks;
pub mod images;
pub mod machine;
pub mod make;
pub mod node;
pub mod objects;
pub mod observed;
pub mod plan;
pub mod pod;
pub mod pod_cgroups;
pub mod ports;
pub mod probes;
pub mod resources;
pub mod security;
pub mod status;
pub mod statuses;
mod time;
mod tls;
pub mod tokens;
pub mod volume_manager;
pub mod worker;
