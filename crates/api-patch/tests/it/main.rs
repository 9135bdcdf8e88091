//! The behaviour of the crate as data.

mod classic;
mod recorded;
mod support;
