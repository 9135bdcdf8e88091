//! The image store against a real kernel and real registries; as root, in mount namespaces of the tests' own.

mod import;
mod layers;
mod snapshots;
mod support;
