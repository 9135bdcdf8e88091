//! The work queue: each key at most once, each key with one worker at a time, some keys later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use client::{Bucket, Rate};
use informer::Flag;
use parking_lot::Mutex;
use tokio::sync::Notify;
use world::{Clock, Monotonic, World};

/// How failed keys come again (client-go's figures).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// After the first failure of a key; doubled each time.
    pub first: Duration,
    /// At most this.
    pub max: Duration,
    /// For all keys together.
    pub overall: Rate,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(5),
            max: Duration::from_secs(1000),
            overall: Rate { per_second: 10.0, burst: 100 },
        }
    }
}

/// A queue of keys. A key is in it at most once, however often it is added; it needs room for as many keys as there are
/// objects, and no more. A key that is added while a worker has it comes again when the worker is done. Clones share
/// the queue.
pub struct Queue<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    clock: Arc<dyn Clock>,
    retry: Retry,
    overall: Bucket,
    state: Mutex<State<K>>,
    wake: Notify,
    closing: Flag,
}

struct State<K> {
    /// In the order of their turn.
    ready: VecDeque<K>,
    /// Those in `ready`, and those to come again when their worker is done.
    dirty: BTreeSet<K>,
    working: BTreeSet<K>,
    /// Those that come later: when, and in which order at the same time.
    later: BTreeSet<(Monotonic, u64, K)>,
    due: BTreeMap<K, (Monotonic, u64)>,
    added: u64,
    failures: BTreeMap<K, u32>,
    closed: bool,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K> Debug for Queue<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.inner.state.lock();
        f.debug_struct("Queue")
            .field("ready", &state.ready.len())
            .field("working", &state.working.len())
            .field("later", &state.later.len())
            .finish_non_exhaustive()
    }
}

impl<K: Clone + Ord + Debug> Queue<K> {
    /// An empty queue.
    pub fn new(world: &World) -> Self {
        Self::with_retry(world, Retry::default())
    }

    /// An empty queue whose failed keys come again in a way of their own.
    pub fn with_retry(world: &World, retry: Retry) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: BTreeSet::new(),
            working: BTreeSet::new(),
            later: BTreeSet::new(),
            due: BTreeMap::new(),
            added: 0,
            failures: BTreeMap::new(),
            closed: false,
        };
        Self {
            inner: Arc::new(Inner {
                clock: Arc::clone(&world.clock),
                retry,
                overall: Bucket::new(retry.overall),
                state: Mutex::new(state),
                wake: Notify::new(),
                closing: Flag::default(),
            }),
        }
    }

    /// Adds a key.
    pub fn add(&self, key: K) {
        self.inner.state.lock().add(key);
        self.inner.wake.notify_one();
    }

    /// Adds a key after a while. If it is to come sooner already, that stays.
    pub fn add_after(&self, key: K, after: Duration) {
        if after.is_zero() {
            return self.add(key);
        }
        let at = self.inner.clock.monotonic().saturating_add(after);
        self.inner.state.lock().add_later(key, at);
        self.inner.wake.notify_one();
    }

    /// Adds a key that has failed, later each time.
    pub fn retry(&self, key: K) {
        let after = self.next_retry(&key);
        self.add_after(key, after);
    }

    fn next_retry(&self, key: &K) -> Duration {
        let Inner { clock, retry, overall, state, .. } = &*self.inner;
        let failures = {
            let mut state = state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        let own = retry.first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(retry.max);
        own.max(overall.take(clock.monotonic()))
    }

    /// Forgets the failures of a key: it has succeeded, or is given up.
    pub fn forget(&self, key: &K) {
        self.inner.state.lock().failures.remove(key);
    }

    /// How often a key has failed since it was forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.inner.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// How many keys wait for their turn now.
    pub fn len(&self) -> usize {
        self.inner.state.lock().ready.len()
    }

    /// Whether no key waits for its turn now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is nothing to do, now or later: no key waits, none is being worked on.
    pub fn is_idle(&self) -> bool {
        let state = self.inner.state.lock();
        state.ready.is_empty() && state.working.is_empty() && state.later.is_empty()
    }

    /// The next key, once there is one; it is this worker's until the claim is dropped. `None` when the queue is closed.
    pub async fn next(&self) -> Option<Claimed<K>> {
        loop {
            let due = {
                let mut state = self.inner.state.lock();
                if state.closed {
                    self.inner.wake.notify_one();
                    return None;
                }
                state.promote(self.inner.clock.monotonic());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.inner.wake.notify_one();
                    }
                    return Some(Claimed { queue: self.clone(), key: Some(key) });
                }
                state.later.first().map(|(at, ..)| *at)
            };
            let woken = self.inner.wake.notified();
            match due {
                None => woken.await,
                Some(at) => tokio::select! {
                    biased;
                    () = woken => {}
                    () = world::timer::sleep_until(&*self.inner.clock, at) => {}
                },
            }
        }
    }

    /// Closes the queue: nobody is given a key any more.
    pub fn close(&self) {
        self.inner.state.lock().closed = true;
        self.inner.closing.raise();
        self.inner.wake.notify_one();
    }

    /// Waits until the queue is closed.
    pub async fn closed(&self) {
        self.inner.closing.wait().await;
    }

    fn done(&self, key: &K) {
        let mut state = self.inner.state.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            self.inner.wake.notify_one();
        }
    }
}

impl<K: Clone + Ord> State<K> {
    fn add(&mut self, key: K) {
        if !self.closed && self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_later(&mut self, key: K, at: Monotonic) {
        if self.closed {
            return;
        }
        if let Some((sooner, number)) = self.due.get(&key).copied() {
            if sooner <= at {
                return;
            }
            self.later.remove(&(sooner, number, key.clone()));
        }
        self.added += 1;
        self.due.insert(key.clone(), (at, self.added));
        self.later.insert((at, self.added, key));
    }

    /// Adds what is due.
    fn promote(&mut self, now: Monotonic) {
        while self.later.first().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, _, key)) = self.later.pop_first()
        {
            self.due.remove(&key);
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
}

/// A key in a worker's hands.
pub struct Claimed<K: Clone + Ord + Debug> {
    queue: Queue<K>,
    key: Option<K>,
}

impl<K: Clone + Ord + Debug> Deref for Claimed<K> {
    type Target = K;

    fn deref(&self) -> &K {
        self.key.as_ref().expect("it is taken out only when dropped")
    }
}

impl<K: Clone + Ord + Debug> Debug for Claimed<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.key.fmt(f)
    }
}

impl<K: Clone + Ord + Debug> Drop for Claimed<K> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.queue.done(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use world::{Timestamp, TokioClock};

    use super::*;

    fn queue() -> (Queue<&'static str>, World) {
        let world = World { clock: Arc::new(TokioClock::new(Timestamp::default())), ..World::system() };
        (Queue::new(&world), world)
    }

    fn millis(world: &World) -> u128 {
        world.clock.monotonic().saturating_since(Monotonic::START).as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_given_once_and_again_only_after_its_worker_is_done() {
        let (queue, _) = queue();
        for key in ["a", "b", "a"] {
            queue.add(key);
        }
        let first = queue.next().await.expect("a key");
        assert_eq!((*first, queue.len()), ("a", 1));
        queue.add("a");
        let second = queue.next().await.expect("a key");
        assert_eq!((*second, queue.len()), ("b", 0), "a is being worked on");
        drop(first);
        assert_eq!(*queue.next().await.expect("a key"), "a");
        drop(second);
        assert!(queue.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn later_keys_come_by_their_time_and_the_sooner_time_wins() {
        let (queue, world) = queue();
        queue.add_after("c", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(1));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("b", Duration::from_secs(3));
        let mut seen = Vec::new();
        for _ in 0..3 {
            let key = queue.next().await.expect("a key");
            seen.push((*key, millis(&world) / 1000));
        }
        assert_eq!(seen, [("a", 1), ("c", 3), ("b", 3)]);
        assert!(queue.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn failed_keys_come_ever_later_until_they_are_forgotten() {
        let (queue, world) = queue();
        let mut waits = Vec::new();
        for _ in 0..6 {
            let before = millis(&world);
            queue.retry("a");
            drop(queue.next().await);
            waits.push(millis(&world) - before);
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160]);
        for _ in 0..40 {
            assert!(queue.next_retry(&"a") <= Duration::from_secs(1000));
        }
        assert_eq!(queue.next_retry(&"a"), Duration::from_secs(1000));
        queue.forget(&"a");
        assert_eq!(queue.next_retry(&"a"), Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn all_failures_together_are_bounded() {
        let (queue, _) = queue();
        let keys: Vec<String> = (0..130).map(|number| number.to_string()).collect();
        let keys: Vec<&'static str> = keys.into_iter().map(|key| &*key.leak()).collect();
        let waits: Vec<Duration> = keys.iter().map(|key| queue.next_retry(key)).collect();
        assert!(waits[..100].iter().all(|wait| *wait == Duration::from_millis(5)), "a burst");
        assert_eq!(waits[129], Duration::from_secs(3), "then ten a second");
    }

    #[tokio::test(start_paused = true)]
    async fn workers_share_the_keys_and_end_when_the_queue_is_closed() {
        let (queue, _) = queue();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut seen = 0;
                    while let Some(_key) = queue.next().await {
                        seen += 1;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    seen
                })
            })
            .collect();
        for key in ["a", "b", "c", "d", "e", "f"] {
            queue.add(key);
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
        assert_eq!(queue.len(), 0, "two rounds for three workers");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(queue.is_idle());
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.expect("no panic"), 2);
        }
        queue.add("g");
        assert!(queue.is_empty(), "a closed queue takes no keys");
    }
}
