//! Waiting: tasks that sleep by a [`Clock`], and a clock that follows tokio's own time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Clock, Monotonic, Timestamp};

/// Sleeps until a clock's monotonic time has come to `deadline`. Must be called within a tokio runtime.
pub async fn sleep_until(clock: &dyn Clock, deadline: Monotonic) {
    while clock.monotonic() < deadline {
        match clock.sleep_until(deadline) {
            Some(duration) => tokio::time::sleep(duration).await,
            None => {
                let moved = Arc::new(Notify::new());
                let waker: Arc<dyn Fn() + Send + Sync> = {
                    let moved = Arc::clone(&moved);
                    Arc::new(move || moved.notify_one())
                };
                clock.on_advance(Arc::downgrade(&waker));
                // Looked at after the waker is in place, so that no move is missed.
                while clock.monotonic() < deadline {
                    moved.notified().await;
                }
            }
        }
    }
}

/// Sleeps for a while of a clock's monotonic time. Must be called within a tokio runtime.
pub async fn sleep(clock: &dyn Clock, duration: Duration) {
    sleep_until(clock, clock.monotonic().saturating_add(duration)).await;
}

/// Waits for a future at most so long; `None` if it took longer.
pub async fn timeout<T>(clock: &dyn Clock, duration: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        result = future => Some(result),
        () = sleep(clock, duration) => None,
    }
}

/// A clock that follows the time of the tokio runtime it is used in. Where that time is paused (`start_paused`), it
/// jumps to the next deadline whenever nothing is left to do: hours pass in milliseconds, in the same order each time.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: Instant,
    began: Timestamp,
}

impl TokioClock {
    /// A clock that shows `now`. Must be called within a tokio runtime.
    pub fn new(now: Timestamp) -> TokioClock {
        TokioClock { start: Instant::now(), began: now }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.began.saturating_add(self.start.elapsed())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::START.saturating_add(self.start.elapsed())
    }

    fn sleep_until(&self, deadline: Monotonic) -> Option<Duration> {
        Some(deadline.saturating_since(self.monotonic()))
    }

    fn on_advance(&self, _waker: Weak<dyn Fn() + Send + Sync>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    #[tokio::test(start_paused = true)]
    async fn sleepers_on_tokios_clock_wake_in_order_without_waiting() {
        let clock = TokioClock::new(Timestamp::from_seconds(1_000));
        sleep(&clock, Duration::from_secs(3_600)).await;
        assert_eq!(clock.now(), Timestamp::from_seconds(4_600));
        let late = timeout(&clock, Duration::from_secs(1), sleep(&clock, Duration::from_secs(2))).await;
        assert_eq!(late, None);
        assert_eq!(clock.monotonic(), Monotonic::START.saturating_add(Duration::from_secs(3_601)));
    }

    #[tokio::test]
    async fn sleepers_on_a_manual_clock_wake_when_it_has_been_moved_far_enough() {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let sleeper = {
            let clock = Arc::clone(&clock);
            tokio::spawn(async move { sleep(&*clock, Duration::from_secs(10)).await })
        };
        while !sleeper.is_finished() {
            clock.advance(Duration::from_secs(3));
            tokio::task::yield_now().await;
        }
        assert!(clock.monotonic() >= Monotonic::START.saturating_add(Duration::from_secs(10)));
    }
}
