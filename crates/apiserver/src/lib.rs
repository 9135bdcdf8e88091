//! The API server: HTTP in front of the registry.
//!
//! A request goes through [`handler::Chain`]: who asks (authn), may they (authz), what is it about; then to the
//! registry, a virtual resource, discovery, or on to a node.

pub mod api;
mod api_services;
pub mod authorization;
pub mod body;
pub mod bootstrap;
mod credentials;
pub mod discovery;
mod edge;
mod encode;
mod files;
pub mod handler;
pub mod health;
pub mod in_process;
pub mod listing;
pub mod metrics;
mod negotiate;
pub mod options;
pub mod proxy;
pub mod query;
mod request_info;
pub mod serve;
pub mod start;
mod virtual_tables;
pub mod virtuals;
mod watching;
