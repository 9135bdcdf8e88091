//! Conversations with a real kube-apiserver, recorded once, repeated against any other.
//!
//! `scripts/` holds raw requests by theme, each with the answer that the reference server gave, its volatile parts
//! masked. [`run`] sends them again, case by case in fresh namespaces, and compares status, headers and body.
//! The client is the crate's own and shares nothing with the server under test.

mod expand;
mod http;
mod invalid;
mod mask;
mod render;
mod run;
mod script;
mod template;

pub mod mutate;

use std::path::PathBuf;

pub use http::{Credentials, Target};
pub use run::{Failure, Mode, Report, run};

/// What can go wrong before or beside an answer that differs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target's address or credentials are of no use.
    #[error("target: {0}")]
    Target(String),
    /// A script cannot be read as one.
    #[error("{file}:{line}: {what}")]
    Script {
        /// The script's file name.
        file: String,
        /// The offending line.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server could not be talked to at all.
    #[error("{request}")]
    Talk {
        /// The request that got no answer.
        request: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A base object of the mutation tool is not what it should be.
    #[error("{what}")]
    Base {
        /// What is wrong.
        what: String,
    },
}
