//! The admission plugins: one file each, one row in `all.rs` each.

mod all;
mod amounts;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod rbac_escalation;
mod refusal;
mod resource_quota;
mod runtime_class;
mod service_account;
mod taint_nodes_by_condition;

pub use all::{Config, ConfigError, NAMES, all, default_names};
