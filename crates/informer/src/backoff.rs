//! Ever longer pauses between attempts, each client at another time.

use std::time::Duration;

use world::{Monotonic, World};

/// Pauses that double from `first` to `max`, each up to twice as long by chance; a quiet time starts them anew.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause, before chance.
    pub max: Duration,
    /// After so long without a pause the next one is the first.
    pub reset_after: Duration,
    next: Duration,
    last: Option<Monotonic>,
}

impl Backoff {
    /// Pauses from `first` to `max`.
    pub fn new(first: Duration, max: Duration, reset_after: Duration) -> Self {
        Self { first, max, reset_after, next: first, last: None }
    }

    /// How long to wait now.
    pub fn pause(&mut self, world: &World) -> Duration {
        let now = world.clock.monotonic();
        if self.last.is_some_and(|last| now.saturating_since(last) > self.reset_after) {
            self.next = self.first;
        }
        let pause = self.next;
        self.next = (self.next * 2).min(self.max);
        let chance = Duration::from_nanos(world.random.u64() % (pause.as_nanos() as u64).max(1));
        self.last = Some(now.saturating_add(pause + chance));
        pause + chance
    }

    /// Waits.
    pub async fn wait(&mut self, world: &World) {
        let pause = self.pause(world);
        world::timer::sleep(&*world.clock, pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use world::{ManualClock, SeededRandom, Timestamp};

    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_start_anew_after_a_quiet_time() {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let world = World { clock: clock.clone(), random: Arc::new(SeededRandom::new(1)), ..World::system() };
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 4 * second, 60 * second);
        for expect in [1, 2, 4, 4] {
            let pause = backoff.pause(&world);
            assert!(pause >= expect * second && pause < 2 * expect * second, "{expect}: {pause:?}");
            clock.advance(pause);
        }
        clock.advance(61 * second);
        assert!(backoff.pause(&world) < 2 * second);
    }
}
