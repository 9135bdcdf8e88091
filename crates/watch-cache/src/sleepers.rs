//! The watchers of one resource that have seen everything, and wait.

use std::task::{Context, Waker};

use parking_lot::Mutex;

/// Each watcher has a place here for as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Sleepers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// The sequence number behind the newest event that was published.
    published: u64,
    /// Reused from one waking to the next.
    woken: Vec<Waker>,
}

impl Sleepers {
    /// A place for one more watcher.
    pub(crate) fn join(&self) -> usize {
        let mut inner = self.0.lock();
        inner.free.pop().unwrap_or_else(|| {
            inner.places.push(None);
            inner.places.len() - 1
        })
    }

    pub(crate) fn leave(&self, place: usize) {
        let mut inner = self.0.lock();
        inner.places[place] = None;
        inner.free.push(place);
    }

    /// Has the watcher woken by the next event; false if there are some from `next` on already.
    pub(crate) fn sleep(&self, place: usize, next: u64, context: &Context<'_>) -> bool {
        let mut inner = self.0.lock();
        if inner.published > next {
            return false;
        }
        match &mut inner.places[place] {
            Some(waker) => waker.clone_from(context.waker()),
            empty => *empty = Some(context.waker().clone()),
        }
        true
    }

    /// Wakes everybody, if there are events up to `end` that nobody was told of.
    pub(crate) fn wake(&self, end: u64) {
        let mut inner = self.0.lock();
        if std::mem::replace(&mut inner.published, end) == end {
            return;
        }
        let mut woken = std::mem::take(&mut inner.woken);
        woken.extend(inner.places.iter_mut().filter_map(Option::take));
        drop(inner);
        // Outside the lock: who is woken wants it, too.
        for waker in woken.drain(..) {
            waker.wake();
        }
        self.0.lock().woken = woken;
    }
}
