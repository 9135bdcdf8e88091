//! The documents and answers of this crate.

mod answers;
mod documents;
