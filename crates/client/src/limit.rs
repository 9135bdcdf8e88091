//! A token bucket: so many requests a second, and so many at once.

use std::time::Duration;

use parking_lot::Mutex;
use world::{Clock, Monotonic};

/// How often a client may ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Requests a second in the long run.
    pub per_second: f64,
    /// Requests at once after a rest.
    pub burst: u32,
}

/// Hands out tokens in the order in which they are asked for.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    /// When the bucket is full again.
    full_at: Mutex<Monotonic>,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        Self { rate, full_at: Mutex::new(Monotonic::START) }
    }

    /// Takes a token and says how long to wait until it may be used.
    pub fn take(&self, now: Monotonic) -> Duration {
        let each = self.each();
        let burst = each.saturating_mul(self.rate.burst.max(1));
        let mut full_at = self.full_at.lock();
        *full_at = (*full_at).max(now).saturating_add(each);
        full_at.saturating_since(now.saturating_add(burst))
    }

    /// Takes a token if it may be used now.
    pub fn try_take(&self, now: Monotonic) -> bool {
        let each = self.each();
        let burst = each.saturating_mul(self.rate.burst.max(1));
        let mut full_at = self.full_at.lock();
        let after = (*full_at).max(now).saturating_add(each);
        let may = after <= now.saturating_add(burst);
        if may {
            *full_at = after;
        }
        may
    }

    fn each(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.rate.per_second.max(1e-6))
    }

    /// Takes a token and waits until it may be used.
    pub async fn wait(&self, clock: &dyn Clock) {
        let wait = self.take(clock.monotonic());
        if !wait.is_zero() {
            world::timer::sleep(clock, wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_the_rest_comes_at_the_rate() {
        let bucket = Bucket::new(Rate { per_second: 10.0, burst: 3 });
        let at = |millis: u64| Monotonic::START.saturating_add(Duration::from_millis(millis));
        let waits = |now, count| -> Vec<u128> { (0..count).map(|_| bucket.take(at(now)).as_millis()).collect() };
        assert_eq!(waits(0, 5), [0, 0, 0, 100, 200]);
        assert_eq!(waits(200, 1), [100]);
        // After a rest the bucket is full again, and not fuller.
        assert_eq!(waits(60_000, 4), [0, 0, 0, 100]);
        // Who does not wait takes nothing where there is nothing.
        assert!(!bucket.try_take(at(60_000)) && !bucket.try_take(at(60_199)) && bucket.try_take(at(60_200)));
    }
}
