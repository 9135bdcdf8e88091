//! The image store against a real kernel and real registries; as root, in mount namespaces of the tests' own.

mod disk;
mod drop_folder;
mod faults;
mod hostile;
mod import;
mod kills;
mod layers;
mod proxies;
mod pull;
mod snapshots;
mod support;
