//! The tests of `store`: its vocabulary. What a back end must do is tested by `store-tests`.

mod leases;
mod range;
mod txn;
mod watch;

use std::task::{Context, Poll, Waker};

/// Runs a future that needs no waiting.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the future waits for something"),
    }
}
