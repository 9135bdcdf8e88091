//! Container events: told to whoever listens, none is kept.

use cri::{Error, ReplyStream, v1};
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

/// How many events a slow listener may lag behind.
const BACKLOG_MAX: usize = 1024;

/// The fan-out.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<v1::ContainerEventResponse>,
}

impl Events {
    pub(crate) fn new() -> Events {
        Events { sender: broadcast::Sender::new(BACKLOG_MAX) }
    }

    pub(crate) fn tell(&self, event: v1::ContainerEventResponse) {
        // Nobody listening is fine: who comes later lists first.
        let _ = self.sender.send(event);
    }

    /// Every event from now on. One who lags too far is cut off: after connecting again it lists.
    pub(crate) fn listen(&self) -> ReplyStream<v1::ContainerEventResponse> {
        let events = BroadcastStream::new(self.sender.subscribe());
        Box::pin(events.map(|event| event.map_err(|e| Error::unknown(format!("events were lost: {e}")))))
    }
}
