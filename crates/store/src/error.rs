//! What can go wrong with a store, whatever its back end.

use std::io;
use std::sync::Arc;

use crate::{LeaseId, Revision};

/// Why an operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The revision asked for is no longer kept.
    #[error("revision {requested} is compacted: history starts at {compacted}")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// The oldest revision that can be read.
        compacted: Revision,
    },
    /// The revision asked for has not come yet.
    #[error("revision {requested} is in the future: the latest is {current}")]
    FutureRevision {
        /// What was asked for.
        requested: Revision,
        /// The latest revision.
        current: Revision,
    },
    /// The lease does not exist, or has ended.
    #[error("lease {0} not found")]
    LeaseNotFound(LeaseId),
    /// The transaction changes one key twice.
    #[error("the transaction changes a key twice")]
    DuplicateKey,
    /// The transaction holds more than a store takes at once.
    #[error("the transaction holds {size} bytes, more than {max}")]
    TooLarge {
        /// The bytes of its keys and values.
        size: usize,
        /// The most allowed.
        max: usize,
    },
    /// Too many writes are waiting; none of this one was done.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The disk is full; the write was not done, and later ones may be once there is room.
    #[error("no space left for the write")]
    NoSpace(#[source] Arc<io::Error>),
    /// The write could not be done, and was not; later ones may be.
    #[error("the write failed and was taken back")]
    WriteFailed(#[source] Arc<io::Error>),
    /// An earlier failure left the disk in an unknown state: no more writes are accepted until the store is opened again.
    /// The write that met the failure, and it alone, may turn out to have been done.
    #[error("the store accepts no more writes: its disk failed")]
    Stopped(#[source] Arc<io::Error>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}
