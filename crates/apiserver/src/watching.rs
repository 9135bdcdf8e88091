//! The body of a watch: initial objects, changes, bookmarks, until its time is up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api_semantics::status::Status;
use bytes::{Bytes, BytesMut};
use registry::WatchAnswer;
use tokio::time::Instant;
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
}

/// A running watch.
pub struct WatchBody {
    state: Option<Box<State>>,
    step: Option<Step>,
}

type Step = Pin<Box<dyn Future<Output = (Option<Box<State>>, Option<Bytes>)> + Send>>;

impl std::fmt::Debug for WatchBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchBody")
    }
}

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

struct State {
    plan: WatchPlan,
    form: Option<u32>,
    initial: std::vec::IntoIter<Arc<Object>>,
    marks_initial_end: Option<u64>,
    watcher: Result<Watcher, Option<Status>>,
    first: bool,
    end: Instant,
    next_bookmark: Option<Instant>,
    bookmarked: u64,
}

impl WatchBody {
    /// A watch that begins as the registry said; a refusal is its only event.
    pub fn new(plan: WatchPlan, started: Result<WatchAnswer, Status>) -> Self {
        let now = Instant::now();
        let end = now + plan.deadline;
        let next_bookmark = plan.bookmarks.then(|| bookmark_after(now, end));
        let form = form_id(&plan.show);
        let state = match started {
            Ok(answer) => State {
                form,
                initial: answer.initial.map(|snapshot| snapshot.objects).unwrap_or_default().into_iter(),
                marks_initial_end: answer.marks_initial_end.then_some(answer.revision),
                watcher: Ok(answer.watcher),
                first: true,
                end,
                next_bookmark,
                bookmarked: 0,
                plan,
            },
            Err(status) => State {
                form,
                initial: Vec::new().into_iter(),
                marks_initial_end: None,
                watcher: Err(Some(status)),
                first: true,
                end,
                next_bookmark: None,
                bookmarked: 0,
                plan,
            },
        };
        Self { state: Some(Box::new(state)), step: None }
    }
}

fn bookmark_after(now: Instant, end: Instant) -> Instant {
    let last = end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(end);
    let regular = now + BOOKMARK_EVERY;
    if now < last { regular.min(last) } else { end + BOOKMARK_EVERY }
}

impl Chunks for WatchBody {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let step = match (&mut self.step, self.state.take()) {
            (Some(step), _) => step,
            (None, Some(state)) => self.step.insert(Box::pin(advance(state))),
            (None, None) => return Poll::Ready(None),
        };
        let (state, chunk) = std::task::ready!(step.as_mut().poll(context));
        self.step = None;
        self.state = state;
        Poll::Ready(chunk)
    }
}

/// Makes the next chunk; without a state after it the watch is over.
async fn advance(mut state: Box<State>) -> (Option<Box<State>>, Option<Bytes>) {
    loop {
        let chunk = state.initial_chunk();
        if !chunk.is_empty() {
            return (Some(state), Some(chunk));
        }
        let watcher = match &mut state.watcher {
            Ok(watcher) => watcher,
            Err(status) => {
                let Some(status) = status.take() else { return (None, None) };
                let chunk = state.error(&status);
                return (Some(state), Some(chunk));
            }
        };
        let wake = state.next_bookmark.unwrap_or(state.end).min(state.end);
        tokio::select! {
            biased;
            batch = watcher.next() => match batch {
                Ok(batch) => {
                    let chunk = state.events(&batch);
                    if !chunk.is_empty() {
                        return (Some(state), Some(chunk));
                    }
                }
                Err(_) => {
                    // Too slow: what it has not seen is gone. The client lists again.
                    let status = Status::expired("The resourceVersion for the provided watch is too old.");
                    state.watcher = Err(Some(status));
                }
            },
            () = tokio::time::sleep_until(wake) => {
                let now = Instant::now();
                if now >= state.end {
                    return (None, None);
                }
                state.next_bookmark = Some(bookmark_after(now, state.end));
                let revision = state.plan.progress.revision();
                // Events up to there may be waiting: they come first.
                let chunk = match &mut state.watcher {
                    Ok(watcher) => match watcher.try_next() {
                        Ok(batch) if batch.is_empty() && revision > state.bookmarked => {
                            state.bookmarked = revision;
                            state.plan.show.bookmark(revision, false).unwrap_or_default()
                        }
                        Ok(batch) => state.events(&batch),
                        Err(_) => continue,
                    },
                    Err(_) => continue,
                };
                if !chunk.is_empty() {
                    return (Some(state), Some(chunk));
                }
            }
        }
    }
}

impl State {
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
        let source = Source::Stored(&object.bytes, event.revision);
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
