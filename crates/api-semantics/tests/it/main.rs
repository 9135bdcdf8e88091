//! The meaning of values against what upstream's own code says.

mod quantities;
