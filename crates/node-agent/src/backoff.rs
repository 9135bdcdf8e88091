//! How long to wait before the next try: doubling from a least to a greatest delay, forgotten after a quiet time.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

/// Delays by key. Times are nanoseconds since 1970.
#[derive(Debug)]
pub struct BackOff<K> {
    first: Duration,
    max: Duration,
    entries: Mutex<HashMap<K, Entry>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    delay: Duration,
    updated: i64,
}

impl<K: Eq + Hash + Clone> BackOff<K> {
    /// Delays from `first`, doubling, up to `max`; after twice `max` without a failure they begin anew (client-go's
    /// `flowcontrol.Backoff`).
    pub fn new(first: Duration, max: Duration) -> BackOff<K> {
        BackOff { first, max, entries: Mutex::default() }
    }

    /// What is left to wait at `now`, if the last failure was at `since`.
    pub fn remaining(&self, key: &K, since: i64, now: i64) -> Option<Duration> {
        let entries = self.entries.lock();
        let entry = entries.get(key)?;
        if self.is_stale(entry, now) {
            return None;
        }
        let until = since.saturating_add(nanos(entry.delay));
        (now < until).then(|| Duration::from_nanos(u64::try_from(until - now).unwrap_or(0)))
    }

    /// The present delay of a key.
    pub fn delay(&self, key: &K) -> Duration {
        self.entries.lock().get(key).map_or(Duration::ZERO, |entry| entry.delay)
    }

    /// Notes a failure at `since`, seen at `now`: the delay begins or doubles.
    pub fn next(&self, key: &K, now: i64) {
        let mut entries = self.entries.lock();
        let max = self.max;
        let fresh = Entry { delay: self.first, updated: now };
        let stale = entries.get(key).is_none_or(|entry| self.is_stale(entry, now));
        let entry = entries.entry(key.clone()).or_insert(fresh);
        if stale {
            *entry = fresh;
        } else {
            *entry = Entry { delay: (entry.delay * 2).min(max), updated: now };
        }
    }

    /// Forgets a key.
    pub fn forget(&self, key: &K) {
        self.entries.lock().remove(key);
    }

    /// Keeps only keys of which `keep` says so.
    pub fn retain(&self, mut keep: impl FnMut(&K) -> bool) {
        self.entries.lock().retain(|key, _| keep(key));
    }

    fn is_stale(&self, entry: &Entry, now: i64) -> bool {
        now.saturating_sub(entry.updated) > nanos(self.max).saturating_mul(2)
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A duration as Go prints it, whole seconds and more: `10s`, `2m40s`.
pub fn shown(duration: Duration) -> String {
    api_semantics::time::format_duration(nanos(duration))
}
