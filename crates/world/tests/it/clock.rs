//! Time arithmetic and the hand-moved clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use world::{Clock, ManualClock, SystemClock, Timestamp};

#[test]
fn timestamps_carry_nanoseconds_into_seconds() {
    let check = |start: (i64, u32), add: Duration, expect: (i64, u32)| {
        let start = Timestamp { seconds: start.0, nanos: start.1 };
        let end = Timestamp { seconds: expect.0, nanos: expect.1 };
        assert_eq!(start.saturating_add(add), end);
        if end < Timestamp::from_seconds(i64::MAX) {
            assert_eq!(end.saturating_since(start), add);
            assert_eq!(start.saturating_since(end), Duration::ZERO);
        }
    };
    check((0, 0), Duration::from_millis(1500), (1, 500_000_000));
    check((10, 600_000_000), Duration::from_millis(500), (11, 100_000_000));
    check((-1, 500_000_000), Duration::from_millis(500), (0, 0));
    check((-5, 0), Duration::from_nanos(1), (-5, 1));
    check((i64::MAX, 0), Duration::from_secs(5), (i64::MAX, 0));
}

#[test]
fn system_time_converts_on_both_sides_of_the_epoch() {
    let check = |time: SystemTime, seconds: i64, nanos: u32| {
        assert_eq!(Timestamp::from(time), Timestamp { seconds, nanos });
    };
    check(UNIX_EPOCH, 0, 0);
    check(UNIX_EPOCH + Duration::from_millis(2250), 2, 250_000_000);
    check(UNIX_EPOCH - Duration::from_secs(3), -3, 0);
    check(UNIX_EPOCH - Duration::from_millis(250), -1, 750_000_000);
}

#[test]
fn a_manual_clock_moves_only_by_hand_and_says_so() {
    let clock = ManualClock::new(Timestamp::from_seconds(100));
    let wakes = Arc::new(AtomicU32::new(0));
    let waker: Arc<dyn Fn() + Send + Sync> = {
        let wakes = Arc::clone(&wakes);
        Arc::new(move || {
            wakes.fetch_add(1, Ordering::Relaxed);
        })
    };
    clock.on_advance(Arc::downgrade(&waker));
    let start = clock.monotonic();
    let deadline = start.saturating_add(Duration::from_secs(5));
    assert_eq!(clock.sleep_until(deadline), None);

    clock.advance(Duration::from_secs(5));
    assert_eq!(clock.now(), Timestamp::from_seconds(105));
    assert_eq!(clock.monotonic().saturating_since(start), Duration::from_secs(5));
    assert_eq!(clock.sleep_until(deadline), Some(Duration::ZERO));
    assert_eq!(wakes.load(Ordering::Relaxed), 1);

    clock.set_wall(Timestamp::from_seconds(1));
    assert_eq!(
        clock.monotonic().saturating_since(start),
        Duration::from_secs(5),
        "setting the calendar lets no time pass"
    );

    drop(waker);
    clock.advance(Duration::from_secs(1));
    assert_eq!(wakes.load(Ordering::Relaxed), 1, "a dropped waker is forgotten");
}

#[test]
fn the_system_clock_does_not_run_backwards() {
    let clock = SystemClock::new();
    let first = clock.monotonic();
    let second = clock.monotonic();
    assert!(second >= first);
    let deadline = second.saturating_add(Duration::from_secs(60));
    assert!(clock.sleep_until(deadline).is_some_and(|sleep| sleep <= Duration::from_secs(60)));
    assert!(clock.now() > Timestamp::from_seconds(1_700_000_000));
}
