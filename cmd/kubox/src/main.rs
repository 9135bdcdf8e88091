//! The kubox program: one binary, many names.

fn main() {}
