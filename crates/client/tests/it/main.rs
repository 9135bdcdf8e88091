//! The client against a real API server, over HTTPS and in process.

mod harness;
mod plain;
mod reconnect;
mod resumption;
mod retries;
mod tokens;
mod verbs;
