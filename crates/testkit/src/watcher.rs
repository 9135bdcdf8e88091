//! Watches of the simulated server.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api_codec::{json, watch};
use api_schema::Value;
use bytes::Bytes;
use client::{Body, BoxError};
use http_body::Frame;
use tokio::sync::mpsc;
use world::Monotonic;

use crate::path::Filter;
use crate::server::{Change, Inner, key_of};

/// Bookmarks come this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct Plan {
    pub(crate) resource: &'static api_types::Resource,
    pub(crate) filter: Filter,
    pub(crate) from: u64,
    pub(crate) shows_all: bool,
    pub(crate) marks_end: bool,
    pub(crate) timeout: Duration,
    pub(crate) faulty: bool,
}

/// A piece of a watch: a frame, or its breaking off.
type Piece = Result<Bytes, BoxError>;

struct Pieces(mpsc::Receiver<Piece>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Starts a watch.
pub(crate) fn start(inner: Arc<Inner>, plan: Plan) -> Body {
    let (pieces, received) = mpsc::channel(1);
    tokio::spawn(async move {
        // Whoever watches has gone: so does the watch.
        let _ = Watcher { inner, plan, pieces, seen: 0 }.run().await;
    });
    Body::new(Pieces(received))
}

/// Nobody watches any more.
struct Gone;

struct Watcher {
    inner: Arc<Inner>,
    plan: Plan,
    pieces: mpsc::Sender<Piece>,
    seen: u64,
}

impl Watcher {
    async fn run(mut self) -> Result<(), Gone> {
        let clock = Arc::clone(&self.inner.world.clock);
        let end = clock.monotonic().saturating_add(self.plan.timeout);
        let life = self.inner.state.lock().life;
        self.seen = self.plan.from;
        if self.plan.shows_all {
            self.show_all().await?;
        }
        let mut bookmark_at = clock.monotonic().saturating_add(BOOKMARK_EVERY);
        loop {
            let inner = Arc::clone(&self.inner);
            let mut changed = std::pin::pin!(inner.changed.notified());
            changed.as_mut().enable();
            let (changes, revision, now_life) = {
                let state = self.inner.state.lock();
                let of_ours = |change: &&Change| change.resource == key_of(self.plan.resource);
                let new = state.log.iter().filter(|change| change.revision > self.seen).filter(of_ours);
                (new.cloned().collect::<Vec<_>>(), state.revision, state.life)
            };
            if now_life != life {
                return self.break_off().await;
            }
            for change in changes {
                self.show(&change).await?;
            }
            self.seen = self.seen.max(revision);
            let wake: Monotonic = bookmark_at.min(end);
            tokio::select! {
                biased;
                () = changed => {}
                () = self.pieces.closed() => return Err(Gone),
                () = world::timer::sleep_until(&*clock, wake) => {
                    if clock.monotonic() >= end {
                        return Ok(());
                    }
                    bookmark_at = clock.monotonic().saturating_add(BOOKMARK_EVERY);
                    self.bookmark(false).await?;
                }
            }
        }
    }

    async fn show_all(&mut self) -> Result<(), Gone> {
        let (objects, revision) = {
            let state = self.inner.state.lock();
            let all = state.objects.get(key_of(self.plan.resource));
            let all = all.into_iter().flat_map(|all| all.values()).filter(|object| self.plan.filter.matches(object));
            (all.cloned().collect::<Vec<_>>(), state.revision)
        };
        for object in objects {
            self.event("ADDED", &object).await?;
        }
        self.seen = revision;
        if self.plan.marks_end { self.bookmark(true).await } else { Ok(()) }
    }

    async fn show(&mut self, change: &Change) -> Result<(), Gone> {
        let matches =
            |object: &Option<Arc<Value>>| object.as_ref().is_some_and(|object| self.plan.filter.matches(object));
        let (before, after) = (matches(&change.old), matches(&change.new));
        let kind = match (before, after) {
            (false, false) => return Ok(()),
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let object = Arc::clone(&change.last);
        self.event(kind, &object).await
    }

    async fn event(&mut self, kind: &str, object: &Value) -> Result<(), Gone> {
        if self.plan.faulty {
            self.inner.delay().await;
            if self.inner.happens(|faults| faults.broken_watch) {
                self.break_off().await?;
                return Err(Gone);
            }
            if self.inner.happens(|faults| faults.ended_watch) {
                return Err(Gone);
            }
        }
        self.frame(kind, object).await?;
        if self.plan.faulty && self.inner.happens(|faults| faults.doubled_event) {
            self.frame(kind, object).await?;
        }
        Ok(())
    }

    async fn bookmark(&mut self, ends: bool) -> Result<(), Gone> {
        let mut object =
            Value::from([("apiVersion", self.plan.resource.api_version()), ("kind", self.plan.resource.kind.clone())]);
        object.set(&["metadata", "resourceVersion"], self.seen.to_string());
        if ends {
            object.set(&["metadata", "annotations"], [("k8s.io/initial-events-end", "true")]);
        }
        self.frame("BOOKMARK", &object).await
    }

    async fn frame(&mut self, kind: &str, object: &Value) -> Result<(), Gone> {
        let (mut text, mut frame) = (Vec::new(), Vec::new());
        json::encode(None, object, &mut text);
        watch::json_frame(kind, &text, &mut frame);
        self.pieces.send(Ok(frame.into())).await.map_err(|_| Gone)
    }

    async fn break_off(&mut self) -> Result<(), Gone> {
        let reset = "connection reset by peer".into();
        self.pieces.send(Err(reset)).await.map_err(|_| Gone)
    }
}
