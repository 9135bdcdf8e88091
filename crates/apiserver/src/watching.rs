//! The body of a watch: initial objects, changes, bookmarks, until its time is up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api_semantics::status::Status;
use bytes::{Bytes, BytesMut};
use registry::WatchAnswer;
use tokio::time::{Instant, Sleep};
use watch_cache::{Event, EventType, FrameKey, Object, Progress, Watcher};

use crate::body::Chunks;
use crate::encode::{Show, Source, frame, write_value};
use crate::negotiate::{Encoding, Transform};

/// Bookmarks come about this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// And once more this long before the end.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// A chunk of initial objects is sent once it is this large.
const CHUNK_BYTES: usize = 64 * 1024;

/// How a watch is shown, and for how long.
#[derive(Debug)]
pub struct WatchPlan {
    /// The form of the objects.
    pub show: Show,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// When the watch ends, from now.
    pub deadline: Duration,
    /// How far the caches are.
    pub progress: Arc<Progress>,
    /// Becomes true when the server ends, and the watch with it.
    pub ending: tokio::sync::watch::Receiver<bool>,
}

/// A running watch.
#[derive(Debug)]
pub struct WatchBody(State);

/// How frames are told apart in an event's cache of them; none if they are not shared.
fn form_id(show: &Show) -> Option<u32> {
    let transform = match show.form.transform {
        Transform::None => 0,
        Transform::PartialObjectMetadata { beta } | Transform::PartialObjectMetadataList { beta } => {
            1 + u32::from(beta)
        }
        // Rows show ages, and the first event has the columns: tables are made for each watcher.
        Transform::Table { .. } => return None,
    };
    let encoding = match show.form.encoding {
        Encoding::Json => 0,
        Encoding::Yaml => 1,
        Encoding::Protobuf => 2,
    };
    Some(encoding | transform << 2 | u32::from(show.served.converts()) << 5)
}

/// Comes when the server ends.
struct Ending(Pin<Box<dyn Future<Output = ()> + Send>>);

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ending")
    }
}

#[derive(Debug)]
struct State {
    ending: Ending,
    plan: WatchPlan,
    form: Option<u32>,
    initial: std::vec::IntoIter<Arc<Object>>,
    marks_initial_end: Option<u64>,
    source: Changes,
    first: bool,
    end: Instant,
    /// Whether bookmarks are due.
    bookmarks: bool,
    /// When the next bookmark is due, or the end.
    alarm: Pin<Box<Sleep>>,
    bookmarked: u64,
}

/// Where changes come from.
#[derive(Debug)]
enum Changes {
    Watcher(Watcher),
    /// Nowhere: the watch was refused or cut off, and says so.
    Refused(Status),
    /// It has said all.
    Over,
}

impl WatchBody {
    /// A watch that begins as the registry said; a refusal is its only event.
    pub fn new(plan: WatchPlan, started: Result<WatchAnswer, Status>) -> Self {
        let now = Instant::now();
        let end = now + plan.deadline;
        let form = form_id(&plan.show);
        let (initial, marks_initial_end, source) = match started {
            Ok(answer) => (
                answer.initial.map(|snapshot| snapshot.objects).unwrap_or_default(),
                answer.marks_initial_end.then_some(answer.revision),
                Changes::Watcher(answer.watcher),
            ),
            Err(status) => (Vec::new(), None, Changes::Refused(status)),
        };
        let bookmarks = plan.bookmarks;
        let due = if bookmarks { bookmark_after(now, end).min(end) } else { end };
        let mut ending = plan.ending.clone();
        let ending = Ending(Box::pin(async move { drop(ending.wait_for(|ending| *ending).await) }));
        Self(State {
            ending,
            plan,
            form,
            initial: initial.into_iter(),
            marks_initial_end,
            source,
            first: true,
            end,
            bookmarks,
            alarm: Box::pin(tokio::time::sleep_until(due)),
            bookmarked: 0,
        })
    }
}

fn bookmark_after(now: Instant, end: Instant) -> Instant {
    let last = end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(end);
    let regular = now + BOOKMARK_EVERY;
    if now < last { regular.min(last) } else { end + BOOKMARK_EVERY }
}

impl Chunks for WatchBody {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_next(context)
    }
}

impl State {
    /// Makes the next chunk; none once the watch is over.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let chunk = self.initial_chunk();
            if !chunk.is_empty() {
                return Poll::Ready(Some(chunk));
            }
            let changes = match &mut self.source {
                // However much there is to show.
                Changes::Watcher(_) if Instant::now() >= self.end => return Poll::Ready(None),
                Changes::Watcher(watcher) => watcher.poll_next(context),
                Changes::Refused(status) => {
                    let status = std::mem::take(status);
                    self.source = Changes::Over;
                    return Poll::Ready(Some(self.error(&status)));
                }
                Changes::Over => return Poll::Ready(None),
            };
            let chunk = match changes {
                Poll::Ready(Ok(batch)) => self.events(&batch),
                Poll::Ready(Err(_)) => {
                    // Too slow: what it has not seen is gone. The client lists again.
                    let status = Status::expired("The resourceVersion for the provided watch is too old.");
                    self.source = Changes::Refused(status);
                    continue;
                }
                Poll::Pending => {
                    // All that has happened is told; then whoever watches may ask the next server.
                    if self.ending.0.as_mut().poll(context).is_ready() {
                        self.source = Changes::Over;
                        continue;
                    }
                    std::task::ready!(self.alarm.as_mut().poll(context));
                    let now = Instant::now();
                    if now >= self.end {
                        return Poll::Ready(None);
                    }
                    let due = if self.bookmarks { bookmark_after(now, self.end).min(self.end) } else { self.end };
                    self.alarm.as_mut().reset(due);
                    self.bookmark()
                }
            };
            if !chunk.is_empty() {
                return Poll::Ready(Some(chunk));
            }
        }
    }

    /// A bookmark of where all caches are, with the events before it.
    fn bookmark(&mut self) -> Bytes {
        let revision = self.plan.progress.revision();
        let Changes::Watcher(watcher) = &mut self.source else { return Bytes::new() };
        match watcher.try_next() {
            // Events up to there may be waiting: they come first, and the bookmark another time.
            Ok(batch) if !batch.is_empty() => self.events(&batch),
            Ok(_) if revision > self.bookmarked => {
                self.bookmarked = revision;
                self.plan.show.bookmark(revision, false).unwrap_or_default()
            }
            // Who was too slow is told so when it is asked for more.
            _ => Bytes::new(),
        }
    }

    fn initial_chunk(&mut self) -> Bytes {
        let mut chunk = BytesMut::new();
        while chunk.len() < CHUNK_BYTES {
            let Some(object) = self.initial.next() else {
                if let Some(revision) = self.marks_initial_end.take() {
                    self.bookmarked = revision;
                    if let Ok(bookmark) = self.plan.show.bookmark(revision, true) {
                        chunk.extend_from_slice(&bookmark);
                    }
                }
                break;
            };
            if let Ok(frame) = self.plan.show.event("ADDED", Source::from(&*object), self.first) {
                self.first = false;
                chunk.extend_from_slice(&frame);
            }
        }
        chunk.freeze()
    }

    fn events(&mut self, batch: &[(EventType, Arc<Event>)]) -> Bytes {
        let mut frames: Vec<Bytes> = Vec::with_capacity(batch.len());
        for (ty, event) in batch {
            frames.extend(self.frame(*ty, event));
        }
        match frames.len() {
            1 => frames.remove(0),
            _ => frames.concat().into(),
        }
    }

    fn frame(&mut self, ty: EventType, event: &Event) -> Option<Bytes> {
        let object = match ty {
            EventType::Deleted => event.previous.as_ref()?,
            EventType::Added | EventType::Modified => event.object.as_ref()?,
        };
        let first = std::mem::replace(&mut self.first, false);
        // What is deleted shows its last state, at the revision of its deletion.
        let source = Source::Stored(&object.bytes, event.revision, Some(&object.index.stamp));
        let show = &self.plan.show;
        let make = || show.event(ty.name(), source, first).unwrap_or_default();
        Some(match self.form {
            Some(form) => event.frame(FrameKey { ty, form }, make),
            None => make(),
        })
    }

    fn error(&self, status: &Status) -> Bytes {
        let encoding = self.plan.show.form.encoding;
        let mut object = Vec::new();
        write_value(&status.to_value(), None, encoding, &mut object);
        frame("ERROR", &object, encoding)
    }
}
