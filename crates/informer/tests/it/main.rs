//! Informers against a simulated server with faults, and against the real one.

mod real;
mod simulated;
