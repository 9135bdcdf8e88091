//! Reading: which keys, at which revision, how many.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Record, Revision};

/// The keys from `start` on and before `end`, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub start: Bytes,
    /// The first key beyond; `None` if all keys from the start on are meant.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange { start: Bytes::new(), end: None }
    }

    /// One key.
    pub fn key(key: &[u8]) -> KeyRange {
        let end = [key, b"\0"].concat();
        KeyRange { start: Bytes::copy_from_slice(key), end: Some(Bytes::from(end)) }
    }

    /// The keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        // The first key beyond the prefix is the prefix with its last byte that can grow grown, and cut off after it.
        let mut end = prefix.to_vec();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        let end = end.pop().map(|last| {
            end.push(last + 1);
            Bytes::from(end)
        });
        KeyRange { start: Bytes::copy_from_slice(prefix), end }
    }

    /// The rest of this range from `start` on: the next page.
    #[must_use]
    pub fn starting_at(self, start: &[u8]) -> KeyRange {
        let start = Bytes::copy_from_slice(start).max(self.start);
        KeyRange { start, end: self.end }
    }

    /// Whether the range has the key.
    pub fn contains(&self, key: &[u8]) -> bool {
        *key >= *self.start && self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// Whether no key can be in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// A question for the records of a range.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    /// Which keys.
    pub keys: KeyRange,
    /// At which revision; `None` for the latest.
    pub revision: Option<Revision>,
    /// How many records to answer at most; 0 for all.
    pub limit: usize,
    /// Whether to answer no records and only count them.
    pub count_only: bool,
}

impl RangeRequest {
    /// All records of a range at the latest revision.
    pub fn new(keys: KeyRange) -> RangeRequest {
        RangeRequest { keys, revision: None, limit: 0, count_only: false }
    }

    /// All records whose key starts with `prefix`, at the latest revision.
    pub fn prefix(prefix: &[u8]) -> RangeRequest {
        RangeRequest::new(KeyRange::prefix(prefix))
    }

    /// The same at a revision.
    #[must_use]
    pub fn at(self, revision: Revision) -> RangeRequest {
        RangeRequest { revision: Some(revision), ..self }
    }

    /// The same with at most so many records; 0 for all.
    #[must_use]
    pub fn limit(self, limit: usize) -> RangeRequest {
        RangeRequest { limit, ..self }
    }

    /// The number of records alone.
    #[must_use]
    pub fn count_only(self) -> RangeRequest {
        RangeRequest { count_only: true, ..self }
    }
}

/// The records of a range in one atomic snapshot.
#[derive(Clone, Debug)]
pub struct RangeResponse {
    /// The records in the order of their keys.
    pub records: Vec<Arc<Record>>,
    /// The revision of the snapshot: the one asked for, or the latest.
    pub revision: Revision,
    /// How many records of the range follow those answered (all of them, if only the count was asked for).
    pub remaining: usize,
}

impl RangeResponse {
    /// Whether the limit has cut records off.
    pub fn more(&self) -> bool {
        self.remaining > 0
    }
}

/// One key in one snapshot.
#[derive(Clone, Debug)]
pub struct GetResponse {
    /// The record, if the key exists.
    pub record: Option<Arc<Record>>,
    /// The revision of the snapshot.
    pub revision: Revision,
}
