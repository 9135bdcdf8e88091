//! What API values mean, apart from any kind: field errors and Status, names, labels, selectors, quantities, times.

pub mod field;
pub mod names;
pub mod status;
pub mod time;
