//! Authorization, seen from outside.

mod bootstrap;
mod escalation;
mod node;
mod rbac;
mod support;
