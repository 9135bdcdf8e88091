//! How far back the events of all caches go: so many minutes or so many bytes, whichever is less.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use world::{Clock, Monotonic};

use crate::cache::ResourceCache;

/// The bounds of the events that all caches keep together. The oldest go first, whosever they are.
#[derive(Debug)]
pub struct History {
    clock: Arc<dyn Clock>,
    age_max: Duration,
    bytes_max: usize,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    events: VecDeque<Note>,
    bytes: usize,
}

/// What is remembered of an event that some cache keeps.
#[derive(Debug)]
struct Note {
    cache: Weak<ResourceCache>,
    revision: u64,
    bytes: usize,
    until: Monotonic,
}

impl History {
    /// Events are kept for `age_max`, unless there are more than `bytes_max` of them.
    pub fn new(clock: Arc<dyn Clock>, age_max: Duration, bytes_max: usize) -> Self {
        Self { clock, age_max, bytes_max, past: Mutex::default() }
    }

    /// An event was added to a cache, which does not hold its lock.
    pub(crate) fn add(&self, cache: &Arc<ResourceCache>, revision: u64, bytes: usize) {
        let now = self.clock.monotonic();
        let until = now.saturating_add(self.age_max);
        {
            let mut past = self.past.lock();
            past.bytes += bytes;
            past.events.push_back(Note { cache: Arc::downgrade(cache), revision, bytes, until });
        }
        self.trim_at(now);
    }

    /// Lets go of what is too old or too much.
    pub fn trim(&self) {
        self.trim_at(self.clock.monotonic());
    }

    fn trim_at(&self, now: Monotonic) {
        loop {
            let mut past = self.past.lock();
            let goes = past.events.front().is_some_and(|note| note.until <= now || past.bytes > self.bytes_max);
            let Some(note) = goes.then(|| past.events.pop_front()).flatten() else { return };
            past.bytes -= note.bytes;
            drop(past);
            if let Some(cache) = note.cache.upgrade() {
                cache.forget(note.revision);
            }
        }
    }

    /// When the oldest event is to go; none if there is no event.
    pub fn next_due(&self) -> Option<Monotonic> {
        self.past.lock().events.front().map(|note| note.until)
    }
}
