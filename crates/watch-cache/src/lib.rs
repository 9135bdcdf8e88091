//! The watch cache: every object of one resource in memory, as the bytes that the store holds, with the events
//! that led there.
//!
//! Lists are one snapshot with its revision. Watchers share one ring of events and hold only a position in it:
//! a slow watcher costs no memory, and is cut off once its position has left the ring. The JSON or protobuf
//! frame of an event is made once, by the first watcher that needs it, for all of them.

mod cache;
mod history;
mod object;
mod selection;
mod sleepers;
mod watcher;

pub use cache::{Indexer, Progress, ResourceCache, Snapshot};
pub use history::History;
pub use object::{Event, EventType, FrameKey, Index, Object};
pub use selection::{FieldTest, LabelTest, Selection};
pub use watcher::{Batch, Expired, Watcher};
