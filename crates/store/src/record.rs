//! What is stored: a key's value with its revisions.

use std::fmt;

use bytes::Bytes;

use crate::LeaseId;

/// A point in the store's history. 0 is before everything: no record has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Before everything. As the expected revision of a [`Compare`](crate::Compare): the key must not exist.
    pub const ZERO: Revision = Revision(0);

    /// The revision of an empty store.
    pub const FIRST: Revision = Revision(1);

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key and its value as of some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision at which the key came into being (again).
    pub create_revision: Revision,
    /// The revision of this value.
    pub mod_revision: Revision,
    /// How many times the key was put since it came into being: 1 for a new key.
    pub version: u64,
    /// The lease that the key lives under.
    pub lease: Option<LeaseId>,
}
