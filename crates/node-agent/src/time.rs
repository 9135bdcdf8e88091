//! Wall time in the units of the CRI.

use world::Timestamp;

/// Nanoseconds since 1970.
pub(crate) fn nanos(time: Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}
