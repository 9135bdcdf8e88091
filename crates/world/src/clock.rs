//! Time: what the calendar says ([`Timestamp`]) and what has passed ([`Monotonic`]).

use std::fmt::Debug;
use std::sync::Weak;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// A point of wall time: seconds since 1970 in UTC, and the nanoseconds of the running second.
///
/// Wall time can jump. It is for what people and other machines see, never for measuring how long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds since the Unix epoch; negative before it.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// The start of the given second.
    pub const fn from_seconds(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    /// The point `duration` later; stops at the end of representable time.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Timestamp {
        let nanos = self.nanos + duration.subsec_nanos();
        let carry = i64::from(nanos >= 1_000_000_000);
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Timestamp { seconds: self.seconds.saturating_add(seconds).saturating_add(carry), nanos: nanos % 1_000_000_000 }
    }

    /// How long after `earlier` this point lies; zero if it does not.
    #[must_use]
    pub fn saturating_since(self, earlier: Timestamp) -> Duration {
        if self <= earlier {
            return Duration::ZERO;
        }
        let nanos = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
            - i128::from(earlier.seconds) * 1_000_000_000
            - i128::from(earlier.nanos);
        let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp::default().saturating_add(after),
            Err(before) => {
                let before = before.duration();
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Timestamp { seconds: -seconds, nanos: 0 },
                    nanos => Timestamp { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
                }
            }
        }
    }
}

/// A point on a clock that never jumps and never runs backwards, counted from an arbitrary start.
/// Points of different clocks cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The start of every clock.
    pub const START: Monotonic = Monotonic(Duration::ZERO);

    /// The point `duration` later; stops at the end of representable time.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(duration))
    }

    /// How long after `earlier` this point lies; zero if it does not.
    #[must_use]
    pub fn saturating_since(self, earlier: Monotonic) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// What the calendar says.
    fn now(&self) -> Timestamp;

    /// What has passed since some start of this clock.
    fn monotonic(&self) -> Monotonic;

    /// How long a thread must sleep for `deadline` to come. `None` if sleeping does not bring it nearer,
    /// because somebody moves this clock by hand; such a clock calls the wakers given to [`Clock::on_advance`].
    fn sleep_until(&self, deadline: Monotonic) -> Option<Duration>;

    /// Has `waker` called whenever the clock is moved by hand. It may be called from any thread, and is
    /// forgotten once its owner dropped it.
    fn on_advance(&self, waker: Weak<dyn Fn() + Send + Sync>);
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from(SystemTime::now())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.start.elapsed())
    }

    fn sleep_until(&self, deadline: Monotonic) -> Option<Duration> {
        Some(deadline.saturating_since(self.monotonic()))
    }

    fn on_advance(&self, _waker: Weak<dyn Fn() + Send + Sync>) {}
}

/// A clock that stands still until it is moved.
pub struct ManualClock {
    state: Mutex<ManualState>,
}

struct ManualState {
    now: Timestamp,
    monotonic: Monotonic,
    wakers: Vec<Weak<dyn Fn() + Send + Sync>>,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> ManualClock {
        ManualClock { state: Mutex::new(ManualState { now, monotonic: Monotonic::default(), wakers: Vec::new() }) }
    }

    /// Lets `duration` pass, then calls the wakers.
    pub fn advance(&self, duration: Duration) {
        let wakers: Vec<_> = {
            let mut state = self.state.lock();
            state.now = state.now.saturating_add(duration);
            state.monotonic = state.monotonic.saturating_add(duration);
            state.wakers.retain(|waker| waker.strong_count() > 0);
            state.wakers.iter().filter_map(Weak::upgrade).collect()
        };
        for waker in wakers {
            waker();
        }
    }

    /// Sets wall time alone, as an administrator or a time server would; no time passes.
    pub fn set_wall(&self, now: Timestamp) {
        self.state.lock().now = now;
    }
}

impl Debug for ManualClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("ManualClock").field("now", &state.now).field("monotonic", &state.monotonic).finish()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().now
    }

    fn monotonic(&self) -> Monotonic {
        self.state.lock().monotonic
    }

    fn sleep_until(&self, deadline: Monotonic) -> Option<Duration> {
        (deadline <= self.monotonic()).then_some(Duration::ZERO)
    }

    fn on_advance(&self, waker: Weak<dyn Fn() + Send + Sync>) {
        self.state.lock().wakers.push(waker);
    }
}
