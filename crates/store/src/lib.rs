//! Where the cluster's state is kept: keys and values under one revision number, with etcd v3's semantics.
//!
//! A [`Store`] promises, for every back end:
//!
//! * **One history.** Each [`Txn`] that changes something gets the next [`Revision`]; all its changes carry it. Revisions
//!   grow across restarts and never repeat. An empty store is at revision 1.
//! * **Durable before visible.** A write's future resolves once the write would survive a power failure. No read and no
//!   watch shows a write before that. After it, every read at the latest revision does.
//! * **Reads at a revision.** [`Store::get`] and [`Store::range`] read one atomic snapshot: the latest, or any that is not
//!   compacted.
//! * **Compare and swap.** The [`Compare`]s of a transaction and its changes are one step.
//! * **Watches** deliver the changes of a key range from a revision on: in order, one [`Batch`] per revision, none missing,
//!   none twice. A watcher that falls behind what is kept is cut off with [`StoreError::Compacted`]; nothing is queued for it.
//! * **Leases.** Keys attached to a lease are deleted when it ends.
//!
//! Records are shared ([`Arc<Record>`](Record)), and their keys and values are [`Bytes`]: reads, watches and caches hold the
//! same memory.

mod error;
mod leases;
pub mod model;
mod range;
mod record;
mod txn;
mod watch;

pub use bytes::Bytes;
pub use error::StoreError;
pub use leases::{LeaseId, LeaseStatus, SHARED_LEASE_KEYS_MAX, SHARED_LEASE_REUSE, SharedLeases};
pub use range::{GetResponse, KeyRange, RangeRequest, RangeResponse};
pub use record::{Record, Revision};
pub use txn::{Change, Compare, Op, TXN_BYTES_MAX, Txn, TxnResponse};
pub use watch::{Batch, Event, EventKind, Subscription, Watch, WatchItem, WatchRequest, WatchSink, WatchSource};

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What a store's operations answer.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A future that borrows nothing, so that it can be given to any task.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A back end. The operation starts when the method is called, not when its future is first polled; dropping the future
/// of a write does not undo it.
pub trait Store: Debug + Send + Sync {
    /// The revision of the latest change: every write acknowledged before this call is at or below it.
    fn current_revision(&self) -> BoxFuture<Result<Revision>>;

    /// Reads one key, at the latest revision or at an older one.
    fn get(&self, key: &[u8], at: Option<Revision>) -> BoxFuture<Result<GetResponse>>;

    /// Reads the keys of a range in order.
    fn range(&self, request: RangeRequest) -> BoxFuture<Result<RangeResponse>>;

    /// Compares and, if all compares hold, changes, in one step.
    fn txn(&self, txn: Txn) -> BoxFuture<Result<TxnResponse>>;

    /// Follows the changes of a range. Errors, such as a start that is compacted, come as the watch's first item.
    fn watch(&self, request: WatchRequest) -> Watch;

    /// Follows the changes of a range by having `sink` called, in order, for each. A back end in this process calls it on
    /// its own thread as soon as reads show the change, and before the write that caused it is acknowledged.
    ///
    /// The sink must be quick and must not wait for this store. Ends when the answer is dropped; no call is running or
    /// comes after that (unless the sink itself drops it).
    fn subscribe(&self, request: WatchRequest, sink: Box<dyn WatchSink>) -> Subscription {
        Subscription::from_watch(self.watch(request), sink)
    }

    /// Makes every open watch and subscription answer [`WatchItem::Progress`] once it has delivered all changes up to the revision
    /// that is current now (or a later one).
    fn request_progress(&self);

    /// Forgets what only revisions before `revision` can see. Reads before it, and watches that start at or before it, may
    /// answer [`StoreError::Compacted`] from now on, across restarts too. Compacting again what is compacted is such an error.
    fn compact(&self, revision: Revision) -> BoxFuture<Result<()>>;

    /// Makes a lease that ends after `ttl` unless kept alive.
    fn grant_lease(&self, ttl: Duration) -> BoxFuture<Result<LeaseId>>;

    /// Ends a lease now, and deletes the keys attached to it, all at one revision.
    fn revoke_lease(&self, lease: LeaseId) -> BoxFuture<Result<()>>;

    /// Starts a lease's time to live anew.
    fn keep_lease_alive(&self, lease: LeaseId) -> BoxFuture<Result<()>>;

    /// What is known of a lease.
    fn lease(&self, lease: LeaseId) -> BoxFuture<Result<LeaseStatus>>;
}

/// A store that others share.
pub type SharedStore = Arc<dyn Store>;
