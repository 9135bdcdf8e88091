//! The image store against a real kernel and real registries; as root, in mount namespaces of the tests' own.

mod faults;
mod import;
mod layers;
mod pull;
mod snapshots;
mod support;
