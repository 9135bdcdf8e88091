//! Objects and events as the cache keeps them.

use std::sync::Arc;

use api_codec::meta::Stamp;
use api_schema::SmolStr;
use bytes::Bytes;
use parking_lot::Mutex;

/// What the cache knows of an object beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: SmolStr,
    /// `metadata.name`.
    pub name: SmolStr,
    /// `metadata.labels`, sorted.
    pub labels: Box<[(SmolStr, SmolStr)]>,
    /// The values of the kind's selectable fields, in the order in which the kind lists them.
    pub fields: Box<[SmolStr]>,
    /// Where the bytes take their resourceVersion, so that nobody needs to look for it again; for JSON it says nothing.
    pub stamp: Stamp,
}

/// One version of one object.
#[derive(Debug)]
pub struct Object {
    /// The revision of its last change, which is its resourceVersion.
    pub revision: u64,
    /// The stored bytes, shared with the store: the protobuf envelope, or JSON for custom resources. They carry no
    /// resourceVersion; whoever writes them out puts it in where [`Index::stamp`] says.
    pub bytes: Bytes,
    /// What selectors look at.
    pub index: Index,
}

impl Object {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = &self.index.labels;
        labels.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok().map(|at| labels[at].1.as_str())
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// It is new, or new to the watcher's selection.
    Added,
    /// It changed.
    Modified,
    /// It is gone, or gone from the watcher's selection.
    Deleted,
}

impl EventType {
    /// The name in watch frames.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// Which of an event's frames: they differ by type (selectors turn a change into an addition) and by form, a
/// number that the server gives its encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameKey {
    /// The type that the frame says.
    pub ty: EventType,
    /// The encoding, version and transformation of the frame.
    pub form: u32,
}

/// One change of one object.
#[derive(Debug)]
pub struct Event {
    /// The revision of the change.
    pub revision: u64,
    /// The object after the change; none if it was deleted.
    pub object: Option<Arc<Object>>,
    /// The object before the change; none if it is new.
    pub previous: Option<Arc<Object>>,
    pub(crate) frames: Mutex<Vec<(FrameKey, Bytes)>>,
}

/// No more than this many frames of one event are kept; further forms are made for each watcher.
const FRAMES_MAX: usize = 8;

impl Event {
    pub(crate) fn new(revision: u64, object: Option<Arc<Object>>, previous: Option<Arc<Object>>) -> Self {
        Self { revision, object, previous, frames: Mutex::default() }
    }

    /// The frame of a form: made by the first who asks, shared with all others.
    pub fn frame(&self, key: FrameKey, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut frames = self.frames.lock();
        if let Some((_, frame)) = frames.iter().find(|(k, _)| *k == key) {
            return frame.clone();
        }
        // Made under the lock, so that of 200 watchers woken at once one encodes and the others wait for it.
        let frame = make();
        if frames.len() < FRAMES_MAX {
            frames.push((key, frame.clone()));
        }
        frame
    }

    pub(crate) fn forget_frames(&self) {
        *self.frames.lock() = Vec::new();
    }

    /// The bytes that this event keeps alive, about.
    pub(crate) fn weight(&self) -> usize {
        let weigh = |object: &Option<Arc<Object>>| object.as_ref().map_or(0, |o| o.bytes.len() + 160);
        64 + weigh(&self.previous).max(weigh(&self.object))
    }
}
