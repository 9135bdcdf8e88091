//! Following changes: as a stream that is asked ([`Watch`]), or as calls ([`WatchSink`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::{KeyRange, Record, Revision, StoreError};

/// What to follow.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// Which keys.
    pub keys: KeyRange,
    /// The first revision to deliver; `None` for the changes that come after the call.
    pub start: Option<Revision>,
}

impl WatchRequest {
    /// The changes of keys with a prefix that come after `revision`, usually that of a list.
    pub fn prefix_after(prefix: &[u8], revision: Revision) -> WatchRequest {
        WatchRequest { keys: KeyRange::prefix(prefix), start: Some(revision.next()) }
    }
}

/// All changes of one revision that a watch asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The revision.
    pub revision: Revision,
    /// The changes in the order the transaction made them, no key twice.
    pub events: Vec<Event>,
}

/// A key was put or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which of the two.
    pub kind: EventKind,
    /// The record after the change. Of a deleted key: its key, the revision of the deletion, and nothing else.
    pub record: Arc<Record>,
    /// The record before the change, if the key existed.
    pub previous: Option<Arc<Record>>,
}

impl Event {
    /// Whether the key came into being.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.previous.is_none()
    }
}

/// The sort of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The key has a new value.
    Put,
    /// The key is gone.
    Delete,
}

impl Batch {
    /// This batch with the events of a range alone; `None` if there are none. A batch that is all in the range is shared.
    pub fn filter(self: &Arc<Batch>, keys: &KeyRange) -> Option<Arc<Batch>> {
        let inside = |event: &&Event| keys.contains(&event.record.key);
        match self.events.iter().filter(inside).count() {
            0 => None,
            count if count == self.events.len() => Some(Arc::clone(self)),
            _ => {
                let events = self.events.iter().filter(inside).cloned().collect();
                Some(Arc::new(Batch { revision: self.revision, events }))
            }
        }
    }
}

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// The changes of one revision.
    Batch(Arc<Batch>),
    /// All changes up to this revision have been delivered.
    Progress(Revision),
}

/// An open watch. Dropping it ends it.
pub struct Watch {
    source: Box<dyn WatchSource>,
    ended: bool,
}

/// The side of a back end that feeds a [`Watch`].
pub trait WatchSource: Send {
    /// The next item or why there is none any more. As for any future, `context` is woken when another poll may bring more.
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchItem, StoreError>>;
}

impl Watch {
    /// A watch fed by `source`.
    pub fn new(source: Box<dyn WatchSource>) -> Watch {
        Watch { source, ended: false }
    }

    /// Waits for the next item. The error is the end: after it comes [`StoreError::Closed`].
    pub fn recv(&mut self) -> impl Future<Output = Result<WatchItem, StoreError>> + Send {
        std::future::poll_fn(|context| self.poll_recv(context))
    }

    /// As [`Watch::recv`], for callers that poll.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchItem, StoreError>> {
        if self.ended {
            return Poll::Ready(Err(StoreError::Closed));
        }
        let polled = self.source.poll_recv(context);
        self.ended = matches!(polled, Poll::Ready(Err(_)));
        polled
    }

    /// The next item if there is one now.
    pub fn try_recv(&mut self) -> Option<Result<WatchItem, StoreError>> {
        match self.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(item) => Some(item),
            Poll::Pending => None,
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// Is called for each change of a subscription.
pub trait WatchSink: Send {
    /// The changes of one revision.
    fn batch(&mut self, batch: &Arc<Batch>);

    /// All changes up to this revision have been delivered.
    fn progress(&mut self, revision: Revision) {
        let _ = revision;
    }

    /// Nothing more will come.
    fn end(&mut self, error: StoreError);
}

/// Keeps a sink subscribed until dropped.
#[must_use = "dropping it ends the subscription"]
pub struct Subscription {
    cancel: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Subscription {
    /// A subscription that is ended by calling `cancel`.
    pub fn new(cancel: impl FnOnce() + Send + Sync + 'static) -> Subscription {
        Subscription { cancel: Some(Box::new(cancel)) }
    }

    /// Moves what a watch delivers to a sink, on a thread of its own.
    pub fn from_watch(mut watch: Watch, mut sink: Box<dyn WatchSink>) -> Subscription {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pump = thread::Builder::new().name("watch-pump".to_owned()).spawn(move || {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            while !stopped.load(Ordering::Acquire) {
                match watch.poll_recv(&mut Context::from_waker(&waker)) {
                    Poll::Ready(Ok(WatchItem::Batch(batch))) => sink.batch(&batch),
                    Poll::Ready(Ok(WatchItem::Progress(revision))) => sink.progress(revision),
                    Poll::Ready(Err(error)) => return sink.end(error),
                    Poll::Pending => thread::park(),
                }
            }
        });
        let pump = pump.expect("the system gives a thread");
        Subscription::new(move || {
            stop.store(true, Ordering::Release);
            pump.thread().unpark();
            if pump.thread().id() != thread::current().id() {
                // A sink that panicked has said so already.
                let _ = pump.join();
            }
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            cancel();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
