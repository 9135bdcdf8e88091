//! Writing: compares and changes in one step.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::{LeaseId, Record, Result, Revision, StoreError};

/// The most bytes of keys and values that one transaction may hold. The API server refuses larger objects long before.
pub const TXN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What one operation adds to its key and value when sizes are counted, so that many tiny ones have a bound too.
const OP_BYTES: usize = 64;

/// Changes that are made together, and only if all compares hold. A key may be changed once.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What is then done.
    pub ops: Vec<Op>,
}

/// Demands that a key's record is of a certain revision.
#[derive(Clone, Debug)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// The revision that its record must have; [`Revision::ZERO`] if the key must not exist.
    pub mod_revision: Revision,
}

/// One change.
#[derive(Clone, Debug)]
pub enum Op {
    /// Gives a key a value, whether it exists or not.
    Put {
        /// The key.
        key: Bytes,
        /// The value. A store in this process keeps it as it is: a slice keeps all of its buffer.
        value: Bytes,
        /// The lease to live under; `None` also detaches from an earlier one.
        lease: Option<LeaseId>,
    },
    /// Removes a key; nothing happens if it does not exist.
    Delete {
        /// The key.
        key: Bytes,
    },
}

impl Op {
    /// The key that is changed.
    pub fn key(&self) -> &Bytes {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
        }
    }
}

impl Txn {
    /// Puts a key that must not exist.
    pub fn create(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Txn {
        Txn::update(key, value, Revision::ZERO)
    }

    /// Puts a key whose record must be of the given revision.
    pub fn update(key: impl Into<Bytes>, value: impl Into<Bytes>, mod_revision: Revision) -> Txn {
        let key = key.into();
        let compare = Compare { key: key.clone(), mod_revision };
        Txn { compares: vec![compare], ..Txn::put(key, value) }
    }

    /// Puts a key, whatever was there.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Txn {
        Txn { compares: Vec::new(), ops: vec![Op::Put { key: key.into(), value: value.into(), lease: None }] }
    }

    /// Deletes a key whose record must be of the given revision.
    pub fn delete_if(key: impl Into<Bytes>, mod_revision: Revision) -> Txn {
        let key = key.into();
        Txn { compares: vec![Compare { key: key.clone(), mod_revision }], ..Txn::delete(key) }
    }

    /// Deletes a key, if it exists.
    pub fn delete(key: impl Into<Bytes>) -> Txn {
        Txn { compares: Vec::new(), ops: vec![Op::Delete { key: key.into() }] }
    }

    /// The same with every put under a lease.
    #[must_use]
    pub fn with_lease(mut self, id: LeaseId) -> Txn {
        for op in &mut self.ops {
            if let Op::Put { lease, .. } = op {
                *lease = Some(id);
            }
        }
        self
    }

    /// The compares and changes of both.
    #[must_use]
    pub fn and(mut self, other: Txn) -> Txn {
        self.compares.extend(other.compares);
        self.ops.extend(other.ops);
        self
    }

    /// The bytes that the transaction holds.
    pub fn size(&self) -> usize {
        let compares = self.compares.iter().map(|compare| compare.key.len() + OP_BYTES);
        let ops = self.ops.iter().map(|op| match op {
            Op::Put { key, value, .. } => key.len() + value.len() + OP_BYTES,
            Op::Delete { key } => key.len() + OP_BYTES,
        });
        compares.chain(ops).sum()
    }

    /// Checks what can be checked without a store. Every back end calls it first.
    pub fn validate(&self) -> Result<()> {
        let size = self.size();
        if size > TXN_BYTES_MAX {
            return Err(StoreError::TooLarge { size, max: TXN_BYTES_MAX });
        }
        if self.ops.len() > 1 {
            let mut keys = HashSet::with_capacity(self.ops.len());
            if !self.ops.iter().all(|op| keys.insert(op.key())) {
                return Err(StoreError::DuplicateKey);
            }
        }
        Ok(())
    }
}

/// What became of a transaction.
#[derive(Clone, Debug)]
pub enum TxnResponse {
    /// All compares held, and the changes are durable.
    Committed {
        /// The revision of the changes; if nothing changed, the latest.
        revision: Revision,
        /// For each operation, in order, what it did.
        changes: Vec<Change>,
    },
    /// A compare did not hold, and nothing was changed.
    Refused {
        /// The latest revision.
        revision: Revision,
        /// For each compare, in order, the record that its key has.
        current: Vec<Option<Arc<Record>>>,
    },
}

impl TxnResponse {
    /// Whether the changes were made.
    pub fn is_committed(&self) -> bool {
        matches!(self, TxnResponse::Committed { .. })
    }

    /// The revision at which the changes were made or refused.
    pub fn revision(&self) -> Revision {
        match self {
            TxnResponse::Committed { revision, .. } | TxnResponse::Refused { revision, .. } => *revision,
        }
    }
}

/// What one operation did to its key.
#[derive(Clone, Debug)]
pub struct Change {
    /// The record before, if the key existed.
    pub previous: Option<Arc<Record>>,
    /// The record after, if the key exists.
    pub record: Option<Arc<Record>>,
}
