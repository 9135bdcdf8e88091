//! Something that becomes true once, for any number of waiters, who go on in the order in which they came.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Something that becomes true once.
#[derive(Debug, Default)]
pub struct Flag {
    raised: AtomicBool,
    waiters: Notify,
}

impl Flag {
    /// Makes it true.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waiters.notify_waiters();
    }

    /// Whether it is true.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Waits until it is true.
    pub async fn wait(&self) {
        let mut notified = std::pin::pin!(self.waiters.notified());
        // Waits in line before looking, so that no raise is missed.
        notified.as_mut().enable();
        if !self.is_raised() {
            notified.await;
        }
    }
}
