//! The admission plugins, seen from outside: objects before and after, and refusals.

mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod pods;
mod priority;
mod rbac_escalation;
mod resource_quota;
mod runtime_class;
mod service_account;
mod support;
mod table;
