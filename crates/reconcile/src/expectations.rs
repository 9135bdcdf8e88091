//! What a controller has done and not seen yet (client-go's UIDTrackingControllerExpectations).
//!
//! A cache lags behind its controller's own writes. Whoever has just made three pods and sees none of them must not
//! make three more: it waits until the cache has shown them, or until five minutes have passed, for a watch may never
//! show what came and went meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::SmolStr;
use parking_lot::Mutex;
use world::{Clock, Monotonic, World};

/// After this long, what was expected is not waited for any more.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What is expected for each key.
pub struct Expectations<K> {
    clock: Arc<dyn Clock>,
    by_key: Mutex<BTreeMap<K, Expected>>,
}

struct Expected {
    creations: i64,
    deletions: BTreeSet<SmolStr>,
    since: Monotonic,
}

impl<K> std::fmt::Debug for Expectations<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Expectations({} keys)", self.by_key.lock().len())
    }
}

impl<K: Clone + Ord> Expectations<K> {
    /// Nothing is expected yet.
    pub fn new(world: &World) -> Self {
        Self { clock: Arc::clone(&world.clock), by_key: Mutex::default() }
    }

    /// Expects so many creations, and nothing else. To be said before they are asked for.
    pub fn expect_creations(&self, key: &K, count: usize) {
        self.set(key, i64::try_from(count).unwrap_or(i64::MAX), BTreeSet::new());
    }

    /// Expects the deletion of objects by uid, and nothing else. To be said before they are asked for.
    pub fn expect_deletions(&self, key: &K, uids: impl IntoIterator<Item = SmolStr>) {
        self.set(key, 0, uids.into_iter().collect());
    }

    fn set(&self, key: &K, creations: i64, deletions: BTreeSet<SmolStr>) {
        let expected = Expected { creations, deletions, since: self.clock.monotonic() };
        self.by_key.lock().insert(key.clone(), expected);
    }

    /// One creation was seen, or has failed.
    pub fn creation_seen(&self, key: &K) {
        if let Some(expected) = self.by_key.lock().get_mut(key) {
            expected.creations -= 1;
        }
    }

    /// So many creations will not be tried after all.
    pub fn creations_skipped(&self, key: &K, count: usize) {
        if let Some(expected) = self.by_key.lock().get_mut(key) {
            expected.creations -= i64::try_from(count).unwrap_or(i64::MAX);
        }
    }

    /// The deletion of an object was seen (its end, or that it is being deleted), or has failed. Counts once.
    pub fn deletion_seen(&self, key: &K, uid: &str) {
        if let Some(expected) = self.by_key.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// Whether all that was expected has been seen, or will not be waited for: the controller may count again.
    pub fn satisfied(&self, key: &K) -> bool {
        self.by_key.lock().get(key).is_none_or(|expected| {
            let seen = expected.creations <= 0 && expected.deletions.is_empty();
            seen || self.clock.monotonic().saturating_since(expected.since) > TIMEOUT
        })
    }

    /// Forgets a key whose object is gone.
    pub fn forget(&self, key: &K) {
        self.by_key.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use world::{ManualClock, Timestamp};

    use super::*;

    #[test]
    fn a_controller_waits_for_what_it_has_done() {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let expectations = Expectations::new(&World { clock: clock.clone(), ..World::system() });
        assert!(expectations.satisfied(&"rs"), "nothing is expected");
        expectations.expect_creations(&"rs", 4);
        expectations.creation_seen(&"rs");
        expectations.creation_seen(&"other");
        expectations.creations_skipped(&"rs", 2);
        assert!(!expectations.satisfied(&"rs"));
        expectations.creation_seen(&"rs");
        assert!(expectations.satisfied(&"rs"));
        expectations.expect_deletions(&"rs", ["a".into(), "b".into()]);
        expectations.deletion_seen(&"rs", "a");
        expectations.deletion_seen(&"rs", "a");
        expectations.deletion_seen(&"rs", "c");
        assert!(!expectations.satisfied(&"rs"), "each counts once");
        clock.advance(TIMEOUT + Duration::from_secs(1));
        assert!(expectations.satisfied(&"rs"), "it may never be seen");
        expectations.expect_deletions(&"rs", ["a".into()]);
        assert!(!expectations.satisfied(&"rs"));
        expectations.forget(&"rs");
        assert!(expectations.satisfied(&"rs"));
    }
}
