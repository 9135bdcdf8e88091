//! The tests of the crate's public functions.

mod fuzz;
mod golden;
mod mutate;
mod stored;
mod upstream;
mod yaml;
