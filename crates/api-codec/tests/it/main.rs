//! The tests of the crate's public functions.

mod golden;
mod stored;
mod yaml;
