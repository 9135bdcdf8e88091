//! One watcher: a position in the ring of events.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::cache::ResourceCache;
use crate::object::{Event, EventType};
use crate::selection::Selection;

/// The events from the watcher's position on are no longer kept: it started too far back, or was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the events from there on are no longer kept")]
pub struct Expired;

/// At most this many events at once.
const BATCH_MAX: usize = 512;

/// Some events in order, each with what it is to the watcher.
pub type Batch = Vec<(EventType, Arc<Event>)>;

/// Follows the events of one resource.
#[derive(Debug)]
pub struct Watcher {
    cache: Arc<ResourceCache>,
    selection: Selection,
    next: u64,
    /// Where it sleeps.
    place: usize,
    scratch: Vec<Arc<Event>>,
}

impl Watcher {
    pub(crate) fn new(cache: Arc<ResourceCache>, selection: Selection, next: u64) -> Self {
        let place = cache.sleepers.join();
        Self { cache, selection, next, place, scratch: Vec::new() }
    }

    /// The events that are there by now; empty if there are none.
    pub fn try_next(&mut self) -> Result<Batch, Expired> {
        let mut batch = Batch::new();
        while batch.is_empty() {
            self.scratch.clear();
            self.next = self.cache.events_from(self.next, &mut self.scratch, BATCH_MAX)?;
            if self.scratch.is_empty() {
                break;
            }
            let selection = &self.selection;
            batch.extend(self.scratch.drain(..).filter_map(|event| selection.view(&event).map(|ty| (ty, event))));
        }
        Ok(batch)
    }

    /// The next events; has the task woken once there are any.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Batch, Expired>> {
        loop {
            let batch = self.try_next()?;
            if !batch.is_empty() {
                return Poll::Ready(Ok(batch));
            }
            if self.cache.sleepers.sleep(self.place, self.next, context) {
                return Poll::Pending;
            }
        }
    }

    /// The next events; waits until there is one. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Batch, Expired> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// The cache that this watcher follows.
    pub fn cache(&self) -> &Arc<ResourceCache> {
        &self.cache
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.cache.sleepers.leave(self.place);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{EventType, History, Index, Progress, ResourceCache, Selection, Watcher};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};
    use std::time::Duration;

    use world::{ManualClock, Timestamp};

    /// A minute of events, or this many: each weighs 225 to 227 bytes.
    fn cache(events_max: usize) -> Arc<ResourceCache> {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        cache_of(&Arc::new(History::new(clock, Duration::from_secs(60), events_max * 227)))
    }

    /// Objects in these tests are the text `name` or `name label`.
    fn cache_of(history: &Arc<History>) -> Arc<ResourceCache> {
        let index = Box::new(|bytes: &Bytes| {
            let text = std::str::from_utf8(bytes).ok()?;
            let (name, label) = text.split_once(' ').unwrap_or((text, ""));
            Some(Index {
                name: name.into(),
                labels: if label.is_empty() { Box::default() } else { Box::new([("l".into(), label.into())]) },
                ..Index::default()
            })
        });
        Arc::new(ResourceCache::new(index, Arc::new(Progress::default()), Arc::clone(history)))
    }

    fn put(cache: &Arc<ResourceCache>, revision: u64, object: &'static str) {
        let name = object.split(' ').next().unwrap_or_default();
        cache.apply(name, revision, Some(Bytes::from_static(object.as_bytes())));
        cache.progress().advance(revision);
        cache.publish();
    }

    fn delete(cache: &Arc<ResourceCache>, revision: u64, name: &str) {
        cache.apply(name, revision, None);
        cache.progress().advance(revision);
        cache.publish();
    }

    fn seen(watcher: &mut Watcher) -> String {
        let batch = watcher.try_next().expect("the watcher keeps up");
        let words: Vec<String> = batch
            .iter()
            .map(|(ty, event)| {
                let sign = match ty {
                    EventType::Added => '+',
                    EventType::Modified => '~',
                    EventType::Deleted => '-',
                };
                let object = event.object.as_ref().or(event.previous.as_ref()).expect("an event has an object");
                format!("{sign}{}@{}", object.index.name, event.revision)
            })
            .collect();
        words.join(" ")
    }

    #[test]
    fn a_watch_sees_every_change_after_its_revision_once() {
        let cache = cache(100);
        put(&cache, 1, "a");
        put(&cache, 2, "b");
        let mut watcher = cache.watch_from(Selection::default(), 1).expect("revision 1 is kept");
        put(&cache, 3, "a");
        delete(&cache, 4, "b");
        assert_eq!(seen(&mut watcher), "+b@2 ~a@3 -b@4");
        assert_eq!(seen(&mut watcher), "");
    }

    #[test]
    fn a_snapshot_and_its_watch_have_no_gap_and_no_overlap() {
        let cache = cache(100);
        put(&cache, 1, "a");
        let (snapshot, mut watcher) = cache.watch_with_snapshot(Selection::default());
        assert_eq!((snapshot.objects.len(), snapshot.revision), (1, 1));
        put(&cache, 2, "b");
        assert_eq!(seen(&mut watcher), "+b@2");
    }

    #[test]
    fn objects_that_start_or_stop_matching_are_added_or_deleted() {
        let cache = cache(100);
        let selection = Selection {
            labels: Some(Arc::new(|object: &crate::Object| object.label("l") == Some("x"))),
            ..Selection::default()
        };
        let mut watcher = cache.watch_from(selection, 0).expect("nothing is forgotten");
        put(&cache, 1, "a y");
        put(&cache, 2, "a x");
        put(&cache, 3, "a x");
        put(&cache, 4, "a y");
        delete(&cache, 5, "a");
        assert_eq!(seen(&mut watcher), "+a@2 ~a@3 -a@4");
    }

    #[test]
    fn a_slow_watcher_is_cut_off_and_an_old_revision_refused() {
        let cache = cache(2);
        let mut slow = cache.watch_from(Selection::default(), 0).expect("nothing is forgotten");
        for revision in 1..=4 {
            put(&cache, revision, "a");
        }
        assert!(slow.try_next().is_err());
        assert!(cache.watch_from(Selection::default(), 1).is_err());
        let mut kept = cache.watch_from(Selection::default(), 2).expect("revision 3 is kept");
        assert_eq!(seen(&mut kept), "~a@3 ~a@4");
    }

    #[test]
    fn events_go_when_they_are_too_old_or_too_much_whosever_they_are() {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let history = Arc::new(History::new(Arc::clone(&clock) as _, Duration::from_secs(60), 3 * 227));
        let (one, other) = (cache_of(&history), cache_of(&history));
        let can_watch = |cache: &Arc<ResourceCache>, revision| cache.watch_from(Selection::default(), revision).is_ok();
        put(&one, 1, "a");
        clock.advance(Duration::from_secs(30));
        put(&other, 2, "b");
        history.trim();
        assert!(can_watch(&one, 0) && can_watch(&other, 0), "a minute has not passed");
        clock.advance(Duration::from_secs(30));
        history.trim();
        assert!(!can_watch(&one, 0), "a minute after revision 1");
        assert!(can_watch(&one, 1) && can_watch(&other, 0), "what came since is kept");
        assert_eq!(history.next_due(), Some(world::Monotonic::START.saturating_add(Duration::from_secs(90))));
        for revision in 3..=6 {
            put(&one, revision, "a");
        }
        assert!(!can_watch(&other, 0) && !can_watch(&one, 2), "the last three of all are kept");
        assert!(can_watch(&one, 3));
        clock.advance(Duration::from_secs(60));
        history.trim();
        assert_eq!(history.next_due(), None);
        assert!(!can_watch(&one, 5) && can_watch(&one, 6));
    }

    /// Counts how often it was called.
    #[derive(Default)]
    struct Alarm(AtomicUsize);

    impl Wake for Alarm {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_watcher_that_waits_is_woken_once_by_what_comes() {
        let cache = cache(100);
        let alarm = Arc::new(Alarm::default());
        let waker = Waker::from(Arc::clone(&alarm));
        let mut context = Context::from_waker(&waker);
        let mut watcher = cache.watch_from(Selection { name: "b".into(), ..Selection::default() }, 0).expect("kept");
        assert!(watcher.poll_next(&mut context).is_pending());
        assert!(watcher.poll_next(&mut context).is_pending());
        put(&cache, 1, "a");
        put(&cache, 2, "a");
        assert_eq!(alarm.0.load(Ordering::Relaxed), 1, "nobody waited for the second");
        assert!(watcher.poll_next(&mut context).is_pending(), "both are for others");
        put(&cache, 3, "b");
        assert_eq!(alarm.0.load(Ordering::Relaxed), 2);
        assert!(watcher.poll_next(&mut context).is_ready());
        assert!(watcher.poll_next(&mut context).is_pending());
        drop(watcher);
        put(&cache, 4, "b");
        assert_eq!(alarm.0.load(Ordering::Relaxed), 2, "who has gone is not woken");
    }

    #[test]
    fn pages_follow_each_other() {
        let cache = cache(100);
        for (revision, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            put(&cache, revision as u64 + 1, name);
        }
        let mut after = None;
        let mut pages = Vec::new();
        loop {
            let page = cache.list(&Selection::default(), after.as_deref(), 2);
            pages.push((page.objects.iter().map(|o| o.index.name.to_string()).collect::<String>(), page.remaining));
            after = page.continue_after;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(pages, [("ab".into(), 3), ("cd".into(), 1), ("e".into(), 0)]);
    }
}
