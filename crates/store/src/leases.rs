//! Leases: keys that go when nobody keeps them, and one lease shared by many keys.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use world::{Clock, Monotonic};

use crate::{Result, SharedStore};

/// The name of a lease. Positive, as etcd's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As etcd prints them.
        write!(f, "{:016x}", self.0)
    }
}

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// The time to live it was granted.
    pub ttl: Duration,
    /// What is left of it.
    pub remaining: Duration,
    /// The keys attached to it, in order.
    pub keys: Vec<Bytes>,
}

/// For how long a lease is given to further keys, so that a key lives up to this much longer than its time to live.
pub const SHARED_LEASE_REUSE: Duration = Duration::from_secs(60);

/// How many keys share a lease at most, so that its end is no large transaction.
pub const SHARED_LEASE_KEYS_MAX: usize = 1000;

/// Gives many short-lived keys (Kubernetes' Events) one lease, as the upstream API server does.
#[derive(Debug)]
pub struct SharedLeases {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    by_ttl: Mutex<HashMap<Duration, Shared>>,
}

#[derive(Debug)]
struct Shared {
    lease: LeaseId,
    reuse_until: Monotonic,
    keys: usize,
}

impl SharedLeases {
    /// Shares the leases of `store`.
    pub fn new(store: SharedStore, clock: Arc<dyn Clock>) -> SharedLeases {
        SharedLeases { store, clock, by_ttl: Mutex::new(HashMap::new()) }
    }

    /// A lease for one more key, which will live for `ttl` and at most [`SHARED_LEASE_REUSE`] longer.
    pub async fn lease(&self, ttl: Duration) -> Result<LeaseId> {
        let now = self.clock.monotonic();
        if let Some(shared) = self.by_ttl.lock().get_mut(&ttl)
            && now < shared.reuse_until
            && shared.keys < SHARED_LEASE_KEYS_MAX
        {
            shared.keys += 1;
            return Ok(shared.lease);
        }
        // Two tasks that come here together get a lease each, and the later one is shared.
        let lease = self.store.grant_lease(ttl + SHARED_LEASE_REUSE).await?;
        let shared = Shared { lease, reuse_until: now.saturating_add(SHARED_LEASE_REUSE), keys: 1 };
        self.by_ttl.lock().insert(ttl, shared);
        Ok(lease)
    }
}
