//! Controllers in a simulated world with faults, and their tools against the real API server.

mod election;
mod events;
mod real;
mod replicas;
