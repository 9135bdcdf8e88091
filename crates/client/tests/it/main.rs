//! The client against a real API server, over HTTPS and in process.

mod harness;
mod reconnect;
mod resumption;
mod tokens;
mod verbs;
