//! The behaviour of the crate as data.

mod classic;
mod field_set;
mod ownership;
mod random;
mod recorded;
mod support;
