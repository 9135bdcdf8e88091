//! What API values mean, apart from any kind: field errors and Status, names, labels, selectors, quantities, times.

pub mod field;
pub mod int_or_string;
pub mod ip;
pub mod names;
pub mod quantity;
pub mod selector;
pub mod status;
pub mod time;
