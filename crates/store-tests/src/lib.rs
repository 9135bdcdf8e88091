//! What every back end of the store must pass.
//!
//! * [`conformance`]: each promise by its name, for any back end.
//! * [`history`]: checks what concurrent clients and watches saw against one order of events.
//! * [`driver`]: runs seeded operations, faults, kills and power failures on the embedded store beside the model.
//!
//! A failure prints its seed. `KUBOX_LONG=1` runs far more of them.

pub mod conformance;
pub mod driver;
pub mod history;

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use store::{Batch, Store, StoreError, Watch, WatchItem};

/// A back end under test.
pub struct Subject {
    /// The store, empty.
    pub store: Arc<dyn Store>,
    /// Lets time pass: by moving a clock, or, where the back end has its own, by waiting.
    pub advance: Box<dyn Fn(Duration) + Send + Sync>,
}

/// Whether the long mode was asked for.
pub fn is_long() -> bool {
    std::env::var_os("KUBOX_LONG").is_some_and(|value| value == "1")
}

/// As many as given, or as many as the long mode wants.
pub fn repeats(normal: u64, long: u64) -> u64 {
    if is_long() { long } else { normal }
}

/// Runs a future on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for the next batch of a watch; passes over progress.
pub fn next_batch(watch: &mut Watch) -> Result<Arc<Batch>, StoreError> {
    loop {
        if let WatchItem::Batch(batch) = block_on(watch.recv())? {
            return Ok(batch);
        }
    }
}
