//! Workers that reconcile keys.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use client::BoxError;
use tokio::task::JoinSet;

use crate::queue::Queue;

/// What a reconciler wants next for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: the next change brings the key again.
    Done,
    /// To look again after a while, even if nothing changes.
    Again(Duration),
}

/// Makes the world of a key as it should be.
pub trait Reconciler<K>: Send + Sync + 'static {
    /// Looks at the world, plans, acts. Running it twice does what running it once did. After an error (or a panic) the
    /// key comes again, ever later.
    fn reconcile(&self, key: &K) -> impl Future<Output = Result<Outcome, BoxError>> + Send;
}

/// A reconciler with its queue and workers, before it runs.
#[derive(Debug)]
pub struct Controller<K> {
    name: &'static str,
    queue: Queue<K>,
    workers: usize,
    attempts_max: Option<u32>,
}

/// What a controller has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys reconciled, with or without success.
    pub runs: u64,
    /// Of these, those that failed.
    pub failures: u64,
    /// Of these, those that panicked.
    pub panics: u64,
}

#[derive(Debug, Default)]
struct Counters {
    runs: AtomicU64,
    failures: AtomicU64,
    panics: AtomicU64,
}

/// A running controller; dropping it stops it at once.
#[derive(Debug)]
pub struct Running {
    tasks: JoinSet<()>,
    counters: Arc<Counters>,
    close: Box<dyn Close>,
}

trait Close: Debug + Send + Sync {
    fn close(&self);
}

impl<K: Clone + Ord + Debug + Send + Sync> Close for Queue<K> {
    fn close(&self) {
        Queue::close(self);
    }
}

impl<K: Clone + Ord + Debug + Send + Sync + 'static> Controller<K> {
    /// A controller of this name, for logs, with one worker.
    pub fn new(name: &'static str, queue: Queue<K>) -> Self {
        Self { name, queue, workers: 1, attempts_max: None }
    }

    /// With so many workers. Each key is with one of them at a time.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers: workers.max(1), ..self }
    }

    /// Gives a key up after so many failures in a row, until it changes; otherwise it is tried for ever.
    #[must_use]
    pub fn attempts_max(self, attempts: u32) -> Self {
        Self { attempts_max: Some(attempts), ..self }
    }

    /// Runs once `ready` resolves: when the informers that the reconciler reads have synced.
    pub fn spawn(self, ready: impl Future<Output = ()> + Send + 'static, reconciler: impl Reconciler<K>) -> Running {
        let counters = Arc::new(Counters::default());
        let close = Box::new(self.queue.clone());
        let mut tasks = JoinSet::new();
        let (shared, workers) = (Arc::new((self, reconciler)), Arc::clone(&counters));
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = ready => {}
                () = shared.0.queue.closed() => return,
            }
            tracing::debug!(controller = shared.0.name, workers = shared.0.workers, "begins to work");
            let mut tasks = JoinSet::new();
            for _ in 0..shared.0.workers {
                let (shared, counters) = (Arc::clone(&shared), Arc::clone(&workers));
                tasks.spawn(async move { work(&shared.0, &shared.1, &counters).await });
            }
            while tasks.join_next().await.is_some() {}
        });
        Running { tasks, counters, close }
    }
}

impl Running {
    /// Lets the workers finish the keys that they have.
    pub async fn stop(mut self) {
        self.close.close();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Waits until the controller ends, which it does when its queue is closed.
    pub async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { runs, failures, panics } = &*self.counters;
        Counts { runs: get(runs), failures: get(failures), panics: get(panics) }
    }
}

async fn work<K: Clone + Ord + Debug + Send + Sync>(
    controller: &Controller<K>,
    reconciler: &impl Reconciler<K>,
    counters: &Counters,
) {
    let Controller { name, queue, attempts_max, .. } = controller;
    while let Some(key) = queue.next().await {
        counters.runs.fetch_add(1, Ordering::Relaxed);
        let error = match caught(reconciler.reconcile(&key)).await {
            Ok(Ok(outcome)) => {
                queue.forget(&key);
                if let Outcome::Again(after) = outcome {
                    queue.add_after(key.clone(), after);
                }
                continue;
            }
            Ok(Err(error)) => error,
            Err(panic) => {
                counters.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(controller = name, ?key, panic, "the reconciler panicked");
                panic.into()
            }
        };
        counters.failures.fetch_add(1, Ordering::Relaxed);
        let failures = queue.failures(&key) + 1;
        if attempts_max.is_some_and(|max| failures >= max) {
            tracing::warn!(controller = name, ?key, error = %chain(&*error), "gave the key up");
            queue.forget(&key);
            continue;
        }
        // Another writer was faster: that is the rule of the game, and the next try sees what it wrote.
        let conflict = error.downcast_ref::<client::Error>().is_some_and(client::Error::is_conflict);
        if conflict {
            tracing::debug!(controller = name, ?key, error = %chain(&*error), "will try again");
        } else {
            tracing::warn!(controller = name, ?key, failures, error = %chain(&*error), "failed, will try again");
        }
        queue.retry(key.clone());
    }
}

/// Runs a future to its end, or to its panic.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Poll::Ready(Err(text.unwrap_or_else(|| "a panic without words".to_owned())))
        }
    })
    .await
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use world::{Timestamp, TokioClock, World};

    use super::*;

    /// Does for each key what its letters say, one at each run: `.` succeeds, `e` fails, `p` panics, `a` asks to come
    /// again; after the last it succeeds.
    struct Script {
        world: World,
        runs: Mutex<Vec<String>>,
    }

    impl Reconciler<(&'static str, &'static str)> for Arc<Script> {
        async fn reconcile(&self, key: &(&'static str, &'static str)) -> Result<Outcome, BoxError> {
            let run = {
                let mut runs = self.runs.lock();
                let at = self.world.clock.monotonic().saturating_since(world::Monotonic::START).as_millis();
                runs.push(format!("{}@{at}", key.0));
                runs.iter().filter(|run| run.starts_with(key.0)).count() - 1
            };
            tokio::task::yield_now().await;
            match key.1.chars().nth(run) {
                Some('e') => Err("told to fail".into()),
                Some('p') => panic!("told to panic"),
                Some('a') => Ok(Outcome::Again(Duration::from_secs(1))),
                _ => Ok(Outcome::Done),
            }
        }
    }

    async fn check(keys: &[(&'static str, &'static str)], attempts_max: Option<u32>, expect: &str, counts: Counts) {
        let world = World { clock: Arc::new(TokioClock::new(Timestamp::default())), ..World::system() };
        let script = Arc::new(Script { world: world.clone(), runs: Mutex::default() });
        let queue = Queue::new(&world);
        for key in keys {
            queue.add(*key);
        }
        let controller = Controller { attempts_max, ..Controller::new("test", queue.clone()) };
        let (begin, begun) = tokio::sync::oneshot::channel();
        let ready = async move { begun.await.expect("it begins") };
        let running = controller.spawn(ready, Arc::clone(&script));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(script.runs.lock().is_empty(), "nothing is done before the caches are full");
        begin.send(()).expect("it waits");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(queue.is_idle());
        assert_eq!(running.counts(), counts);
        running.stop().await;
        assert_eq!(script.runs.lock().join(" "), expect);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_come_again_until_they_succeed() {
        let counts = |runs, failures, panics| Counts { runs, failures, panics };
        check(&[("x", ".")], None, "x@1", counts(1, 0, 0)).await;
        check(&[("x", "ee"), ("y", "")], None, "x@1 y@1 x@6 x@16", counts(4, 2, 0)).await;
        check(&[("x", "p")], None, "x@1 x@6", counts(2, 1, 1)).await;
        check(&[("x", "ae")], None, "x@1 x@1001 x@1006", counts(3, 1, 0)).await;
        check(&[("x", "eeeee")], Some(2), "x@1 x@6", counts(2, 2, 0)).await;
    }
}
