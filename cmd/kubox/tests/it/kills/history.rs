//! Checks what clients and watches saw of a server that is killed again and again against one order of events.
//!
//! With the names of etcd's promises:
//!
//! * **Ordered, unique, reliable**: each watch has exactly the events between where it began and where it ended; each event
//!   follows from the one before it of the same key; no two sources tell of one revision differently.
//! * **Durable**: each write that was acknowledged is an event, at the revision that the answer named.
//! * **Honest**: each event is a write of somebody, once; a write that was refused is none. A write whose answer was lost may
//!   be one.
//! * **Linearizable**: what is asked after something was answered (or seen by a watch) happens after it. A read shows what
//!   was there at its revision, a refusal is true at some revision between its question and its answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use anyhow::{Result, bail, ensure};

/// A moment of the test's own clock, which ticks with every question and answer.
pub(crate) type Moment = u64;

/// A version of the server's store.
pub(crate) type Revision = u64;

/// An object as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Object {
    /// The revision of its last change.
    pub(crate) revision: Revision,
    /// No two writes write the same one.
    pub(crate) value: String,
    /// No two lives of a key have the same one.
    pub(crate) uid: String,
}

/// All objects, by key.
pub(crate) type Objects = BTreeMap<String, Object>;

/// What a client wanted.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Make an object that is not there.
    Create { value: String },
    /// Change an object: if it is still of a revision, or whatever it is.
    Update { value: String, over: Option<Revision> },
    /// Delete an object if it is still of a revision.
    Delete { over: Revision },
    /// Read an object.
    Get,
}

/// What the client was told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// The object as it is now.
    Object(Object),
    /// The object of this uid was deleted.
    Deleted { uid: String },
    /// There is no such object.
    NotFound,
    /// There is one already.
    Exists,
    /// It is not of that revision.
    Conflict,
    /// Nothing: the connection ended.
    Nothing,
}

/// A question about one key, and the answer.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) begin: Moment,
    pub(crate) end: Moment,
    pub(crate) key: String,
    pub(crate) ask: Ask,
    pub(crate) told: Told,
}

/// A list of all keys.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) begin: Moment,
    pub(crate) end: Moment,
    pub(crate) revision: Revision,
    pub(crate) objects: Objects,
    /// Whether it had to show all that was acknowledged before; otherwise it was of a revision that the client chose.
    pub(crate) fresh: bool,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Added,
    Modified,
    Deleted,
}

/// An event of a watch.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// When it was seen.
    pub(crate) seen: Moment,
    pub(crate) kind: Kind,
    pub(crate) key: String,
    /// What the object became; of a deletion, what it was, at the revision of the deletion.
    pub(crate) object: Object,
}

/// One watch, from its beginning to its end.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// It shows what comes after this revision.
    pub(crate) after: Revision,
    pub(crate) events: Vec<Event>,
    /// A bookmark that it ended with: nothing is missing up to there.
    pub(crate) bookmark: Option<Revision>,
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: Vec<Call>,
    pub(crate) lists: Vec<List>,
    pub(crate) sessions: Vec<Session>,
}

impl Seen {
    /// Adds what another saw.
    pub(crate) fn extend(&mut self, other: Seen) {
        self.calls.extend(other.calls);
        self.lists.extend(other.lists);
        self.sessions.extend(other.sessions);
    }
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    key: String,
    /// What it became; none if it was deleted.
    object: Option<Object>,
}

/// What can be said of a history that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// How many changes there were.
    pub(crate) changes: usize,
    /// How many writes were acknowledged.
    pub(crate) acknowledged: usize,
    /// How many writes were refused: conflicts, objects that were there, or not.
    pub(crate) refused: usize,
    /// How many writes had no answer and were done.
    pub(crate) lost_done: usize,
    /// How many writes had no answer and were not done.
    pub(crate) lost_not_done: usize,
    /// How many reads there were.
    pub(crate) reads: usize,
    /// How many watches there were.
    pub(crate) sessions: usize,
    /// How many events they saw.
    pub(crate) events: usize,
}

/// The one order of events, put together from all that was seen.
#[derive(Default)]
struct History {
    changes: BTreeMap<Revision, Change>,
    lives: HashMap<String, BTreeMap<Revision, Option<Object>>>,
}

impl History {
    fn add(&mut self, revision: Revision, key: &str, object: Option<Object>) -> Result<()> {
        let change = Change { key: key.to_owned(), object };
        let known = self.changes.entry(revision).or_insert_with(|| change.clone());
        ensure!(*known == change, "broke Unique: revision {revision} is {known:?} and {change:?}");
        Ok(())
    }

    /// Orders what was added by key; each change must follow from the one before it.
    fn close(&mut self) -> Result<()> {
        for (revision, change) in &self.changes {
            let life = self.lives.entry(change.key.clone()).or_default();
            let before = life.last_key_value().and_then(|(_, object)| object.as_ref());
            match (before, &change.object) {
                (None, None) => bail!("broke Reliable: {} is deleted twice at {revision}", change.key),
                (Some(before), Some(object)) => {
                    ensure!(
                        before.uid == object.uid,
                        "broke Reliable: {} at {revision} is another object, and nobody saw the first one go",
                        change.key
                    );
                }
                _ => {}
            }
            life.insert(*revision, change.object.clone());
        }
        Ok(())
    }

    fn at(&self, key: &str, revision: Revision) -> Option<&Object> {
        self.lives.get(key)?.range(..=revision).next_back()?.1.as_ref()
    }

    fn before(&self, key: &str, revision: Revision) -> Option<&Object> {
        self.at(key, revision - 1)
    }

    fn all_at(&self, revision: Revision) -> Objects {
        let now = |key: &String| Some((key.clone(), self.at(key, revision)?.clone()));
        self.lives.keys().filter_map(now).collect()
    }

    /// Whether something holds of a key at a revision in a range.
    fn holds(&self, key: &str, range: (Revision, Revision), holds: impl Fn(Option<&Object>) -> bool) -> bool {
        let (least, most) = range;
        if least > most {
            return false;
        }
        let later = self.lives.get(key).into_iter().flat_map(|life| life.range(least..=most));
        holds(self.at(key, least)) || later.into_iter().any(|(_, object)| holds(object.as_ref()))
    }
}

/// What was certain when.
#[derive(Default)]
struct Bounds {
    /// What had been seen by then.
    floor: BTreeMap<Moment, Revision>,
    /// What began then and came later.
    ceiling: BTreeMap<Moment, Revision>,
}

impl Bounds {
    fn new(ended: &[(Moment, Revision)], begun: &[(Moment, Revision)]) -> Self {
        let mut bounds = Self::default();
        let mut ended = ended.to_vec();
        ended.sort_unstable();
        let mut most = 0;
        for (moment, revision) in ended {
            most = most.max(revision);
            bounds.floor.insert(moment, most);
        }
        let mut begun = begun.to_vec();
        begun.sort_unstable();
        let mut least = Revision::MAX;
        for (moment, revision) in begun.into_iter().rev() {
            least = least.min(revision);
            bounds.ceiling.insert(moment, least);
        }
        bounds
    }

    /// The highest revision that somebody had seen before a moment.
    fn least(&self, begin: Moment) -> Revision {
        self.floor.range(..begin).next_back().map_or(0, |(_, revision)| *revision)
    }

    /// The lowest revision that somebody came to who asked after a moment.
    fn most(&self, end: Moment) -> Revision {
        self.ceiling.range(end + 1..).next().map_or(Revision::MAX, |(_, revision)| *revision)
    }
}

/// Checks everything that was seen.
///
/// # Errors
/// Which promise was broken, and by what.
pub(crate) fn check(seen: &Seen) -> Result<Report> {
    let history = collect(seen)?;
    check_sessions(seen, &history)?;
    let writers = check_origins(seen, &history)?;
    let mut report = check_order(seen, &history, &writers)?;
    report.changes = history.changes.len();
    report.sessions = seen.sessions.len();
    report.events = seen.sessions.iter().map(|session| session.events.len()).sum();
    Ok(report)
}

fn collect(seen: &Seen) -> Result<History> {
    let mut history = History::default();
    for event in seen.sessions.iter().flat_map(|session| &session.events) {
        let object = (event.kind != Kind::Deleted).then(|| event.object.clone());
        history.add(event.object.revision, &event.key, object)?;
    }
    for call in &seen.calls {
        if let (Ask::Create { .. } | Ask::Update { .. }, Told::Object(object)) = (&call.ask, &call.told) {
            history.add(object.revision, &call.key, Some(object.clone()))?;
        }
    }
    // What lists show was written at its revision; and what is in one list and not in one of the next revision was
    // deleted at that revision.
    let mut lists: BTreeMap<Revision, &Objects> = BTreeMap::new();
    for list in &seen.lists {
        for (key, object) in &list.objects {
            history.add(object.revision, key, Some(object.clone()))?;
        }
        let other = lists.insert(list.revision, &list.objects);
        ensure!(
            other.is_none_or(|other| *other == list.objects),
            "broke Linearizable: two lists at {} differ: {other:?} and {:?}",
            list.revision,
            list.objects
        );
    }
    for ((before, objects), (after, next)) in lists.iter().zip(lists.iter().skip(1)) {
        if before + 1 == *after {
            for (key, _) in objects.iter().filter(|(key, _)| !next.contains_key(*key)) {
                history.add(*after, key, None)?;
            }
        }
    }
    history.close()?;
    Ok(history)
}

fn check_sessions(seen: &Seen, history: &History) -> Result<()> {
    for session in &seen.sessions {
        let end = session.events.last().map_or(session.after, |event| event.object.revision);
        let end = end.max(session.bookmark.unwrap_or(end)).max(session.after);
        let mut expected = history.changes.range((Bound::Excluded(session.after), Bound::Included(end)));
        for event in &session.events {
            let revision = event.object.revision;
            let Some((at, change)) = expected.next() else {
                bail!("broke Ordered or Unique: {event:?} after {end} was seen");
            };
            ensure!(
                *at == revision,
                "broke Ordered or Reliable: a watch after {} saw {event:?} instead of {change:?} at {at}",
                session.after
            );
            ensure!(change.key == event.key, "broke Unique: {event:?} is {change:?}");
            let before = history.before(&event.key, revision);
            let kind = match (before, &change.object) {
                (None, _) => Kind::Added,
                (Some(_), Some(_)) => Kind::Modified,
                (Some(_), None) => Kind::Deleted,
            };
            ensure!(kind == event.kind, "broke Reliable: {event:?} should be {kind:?} after {before:?}");
            if let (Kind::Deleted, Some(before)) = (kind, before) {
                ensure!(
                    (&before.value, &before.uid) == (&event.object.value, &event.object.uid),
                    "a deletion shows another object than {before:?}: {event:?}"
                );
            }
        }
        if let Some((revision, change)) = expected.next() {
            bail!("broke Reliable: a watch that was told {end} never saw {change:?} at {revision}");
        }
    }
    Ok(())
}

/// Finds the revision of each write that was done: by its place in the list of calls.
fn check_origins(seen: &Seen, history: &History) -> Result<HashMap<usize, Revision>> {
    let mut revisions: HashMap<usize, Revision> = HashMap::new();
    let mut by_value: HashMap<&str, Revision> = HashMap::new();
    let mut deletions: HashMap<(&str, Revision), Revision> = HashMap::new();
    for (revision, change) in &history.changes {
        match (&change.object, history.before(&change.key, *revision)) {
            (Some(object), _) => {
                let other = by_value.insert(&object.value, *revision);
                ensure!(other.is_none(), "broke Unique: {object:?} was written at {other:?} and at {revision}");
            }
            (None, Some(before)) => {
                deletions.insert((&change.key, before.revision), *revision);
            }
            (None, None) => {}
        }
    }
    let mut explained = BTreeSet::new();
    // Those who were told that they did it come first: what is left may be of those who had no answer.
    let (lost, told): (Vec<_>, Vec<_>) =
        seen.calls.iter().enumerate().partition(|(_, call)| matches!(call.told, Told::Nothing));
    for (index, call) in told.into_iter().chain(lost) {
        let found = match &call.ask {
            Ask::Create { value } | Ask::Update { value, .. } => by_value.get(&**value).copied(),
            Ask::Delete { over } => deletions.get(&(&*call.key, *over)).copied(),
            Ask::Get => None,
        };
        let revision = match (&call.ask, &call.told, found) {
            (Ask::Get, ..) | (_, Told::Nothing, None) => continue,
            (Ask::Delete { .. }, Told::Deleted { uid }, Some(revision)) => {
                let before = history.before(&call.key, revision);
                ensure!(before.is_some_and(|before| before.uid == *uid), "{call:?} deleted {before:?}");
                revision
            }
            (Ask::Create { .. } | Ask::Update { .. }, Told::Object(object), Some(revision)) => {
                ensure!(object.revision == revision, "broke Durable: {call:?} is there at {revision}");
                revision
            }
            (_, Told::Nothing, Some(revision)) => revision,
            (_, Told::Object(_) | Told::Deleted { .. }, None) => {
                bail!("broke Durable: {call:?} was acknowledged and never happened");
            }
            // Another may have deleted the same version.
            (Ask::Delete { .. }, Told::NotFound | Told::Conflict, _) | (_, _, None) => continue,
            (_, told, Some(revision)) => {
                bail!("broke Honest: {call:?} was told {told:?} and is there at {revision}");
            }
        };
        let before = history.before(&call.key, revision).map(|before| before.revision);
        let wanted = match &call.ask {
            Ask::Create { .. } => None,
            Ask::Update { over: Some(over), .. } | Ask::Delete { over } => Some(*over),
            Ask::Update { over: None, .. } | Ask::Get => before,
        };
        ensure!(before == wanted, "broke Atomic: {call:?} was done at {revision} over {before:?}");
        ensure!(history.changes[&revision].key == call.key, "{call:?} was done to another key");
        // Of several who wanted to delete one version and had no answer, one did.
        let first = explained.insert(revision);
        ensure!(
            first || matches!((&call.ask, &call.told), (Ask::Delete { .. }, Told::Nothing)),
            "broke Unique: {call:?} was done by another call too"
        );
        if first {
            revisions.insert(index, revision);
        }
    }
    let nobodys = history.changes.iter().find(|(revision, _)| !explained.contains(*revision));
    ensure!(nobodys.is_none(), "broke Honest: nobody wrote {nobodys:?}");
    Ok(revisions)
}

fn check_order(seen: &Seen, history: &History, writers: &HashMap<usize, Revision>) -> Result<Report> {
    let (mut ended, mut begun) = (Vec::new(), Vec::new());
    for (index, revision) in writers {
        let call = &seen.calls[*index];
        if !matches!(call.told, Told::Nothing) {
            ended.push((call.end, *revision));
        }
        // What was asked before it began was done before it.
        begun.push((call.begin, revision - 1));
    }
    for list in &seen.lists {
        ended.push((list.end, list.revision));
        if list.fresh {
            begun.push((list.begin, list.revision));
        }
    }
    for call in &seen.calls {
        if let (Ask::Get, Told::Object(object)) = (&call.ask, &call.told) {
            ended.push((call.end, object.revision));
        }
    }
    for event in seen.sessions.iter().flat_map(|session| &session.events) {
        ended.push((event.seen, event.object.revision));
    }
    let bounds = Bounds::new(&ended, &begun);

    let mut report = Report::default();
    for list in &seen.lists {
        let least = if list.fresh { bounds.least(list.begin) } else { 0 };
        ensure!(list.revision >= least, "broke Linearizable: {least} was known, and a list was of {}", list.revision);
        let expected = history.all_at(list.revision);
        ensure!(
            expected == list.objects,
            "broke Linearizable: a list at {} shows {:?} instead of {expected:?}",
            list.revision,
            list.objects
        );
        report.reads += 1;
    }
    for (index, call) in seen.calls.iter().enumerate() {
        let range = (bounds.least(call.begin), bounds.most(call.end));
        let holds = |holds: &dyn Fn(Option<&Object>) -> bool| history.holds(&call.key, range, holds);
        let true_then = match (&call.ask, &call.told, writers.get(&index)) {
            (_, told, Some(revision)) => {
                let lost = matches!(told, Told::Nothing);
                report.lost_done += usize::from(lost);
                report.acknowledged += usize::from(!lost);
                range.0 < *revision && *revision <= range.1
            }
            (Ask::Get, Told::Object(object), None) => {
                report.reads += 1;
                holds(&|now| now == Some(object))
            }
            (Ask::Get, Told::NotFound, None) => {
                report.reads += 1;
                holds(&|now| now.is_none())
            }
            (Ask::Get, Told::Nothing, None) => true,
            (_, Told::Nothing, None) => {
                report.lost_not_done += 1;
                true
            }
            (_, Told::NotFound, None) => {
                report.refused += 1;
                holds(&|now| now.is_none())
            }
            (Ask::Create { .. }, Told::Exists, None) => {
                report.refused += 1;
                holds(&|now| now.is_some())
            }
            (Ask::Update { over: Some(over), .. } | Ask::Delete { over }, Told::Conflict, None) => {
                report.refused += 1;
                holds(&|now| now.is_some_and(|now| now.revision != *over))
            }
            _ => bail!("that is no answer: {call:?}"),
        };
        ensure!(true_then, "broke Linearizable: {call:?} at {:?} is not true of {range:?}", writers.get(&index));
    }
    Ok(report)
}

mod tests {
    use super::*;

    fn object(revision: Revision, value: &str, uid: &str) -> Object {
        Object { revision, value: value.into(), uid: uid.into() }
    }

    fn event(kind: Kind, revision: Revision, value: &str, uid: &str) -> Event {
        Event { seen: 100 + revision, kind, key: "k".into(), object: object(revision, value, uid) }
    }

    /// The life of one key: made, changed, deleted, made again, and changed by somebody who never had an answer.
    fn good() -> Seen {
        let create = |value: &str| Ask::Create { value: value.into() };
        let update = |value: &str, over| Ask::Update { value: value.into(), over: Some(over) };
        let calls = [
            (create("v1"), Told::Object(object(10, "v1", "u1"))),
            (update("v2", 10), Told::Object(object(11, "v2", "u1"))),
            (Ask::Get, Told::Object(object(11, "v2", "u1"))),
            (update("v3", 10), Told::Conflict),
            (Ask::Delete { over: 11 }, Told::Deleted { uid: "u1".into() }),
            (Ask::Get, Told::NotFound),
            (create("v4"), Told::Object(object(13, "v4", "u2"))),
            (create("v5"), Told::Exists),
            (update("v6", 13), Told::Nothing),
            (update("v7", 13), Told::Nothing),
        ];
        let calls = (0..).zip(calls).map(|(at, (ask, told))| {
            let (begin, end) = (10 * at, 10 * at + 5);
            Call { begin, end, key: "k".into(), ask, told }
        });
        let events = vec![
            event(Kind::Added, 10, "v1", "u1"),
            event(Kind::Modified, 11, "v2", "u1"),
            event(Kind::Deleted, 12, "v2", "u1"),
            event(Kind::Added, 13, "v4", "u2"),
            event(Kind::Modified, 14, "v6", "u2"),
        ];
        let objects: Objects = [("k".into(), object(14, "v6", "u2"))].into();
        let early: Objects = [("k".into(), object(11, "v2", "u1"))].into();
        Seen {
            calls: calls.collect(),
            lists: vec![
                List { begin: 200, end: 201, revision: 14, objects, fresh: true },
                List { begin: 202, end: 203, revision: 11, objects: early, fresh: false },
            ],
            sessions: vec![
                Session { after: 9, events: events.clone(), bookmark: None },
                Session { after: 11, events: events[2..].to_vec(), bookmark: Some(14) },
            ],
        }
    }

    #[test]
    fn a_history_that_holds_is_counted() {
        let report = check(&good()).expect("it holds");
        let expected = Report {
            changes: 5,
            acknowledged: 4,
            refused: 2,
            lost_done: 1,
            lost_not_done: 1,
            reads: 4,
            sessions: 2,
            events: 8,
        };
        assert_eq!(report, expected);
    }

    /// Breaks a good history; it must be noticed.
    fn broken(expected: &str, break_it: impl FnOnce(&mut Seen)) {
        let mut seen = good();
        break_it(&mut seen);
        let error = check(&seen).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
    }

    #[test]
    fn what_breaks_a_promise_is_named() {
        // A gap in one watch; a gap at its end, where a bookmark said that there is nothing.
        broken("broke Ordered or Reliable", |seen| drop(seen.sessions[0].events.remove(1)));
        broken("broke Reliable: a watch that was told 14", |seen| drop(seen.sessions[1].events.pop()));
        // A duplicate; two events in the wrong order; an event from before the watch began.
        broken("broke Ordered or Reliable", |seen| {
            let again = seen.sessions[0].events[1].clone();
            seen.sessions[0].events.insert(2, again);
        });
        broken("broke Ordered or Reliable", |seen| seen.sessions[0].events.swap(0, 1));
        broken("broke Ordered or", |seen| {
            let early = seen.sessions[0].events[1].clone();
            seen.sessions[1].events.insert(0, early);
        });
        // The wrong kind; the wrong object.
        broken("broke Reliable", |seen| seen.sessions[0].events[1].kind = Kind::Added);
        broken("a deletion shows another object", |seen| {
            seen.sessions[0].events[2].object.value = "v1".into();
        });
        broken("broke Unique: revision 11 is", |seen| seen.sessions[0].events[1].object.value = "v3".into());
        // A deletion that nobody saw.
        broken("broke Reliable", |seen| {
            seen.sessions[0].events.remove(2);
            seen.sessions[1].events.remove(0);
        });
        // An acknowledged write that is gone, of a value and of a deletion.
        broken("broke Durable", |seen| {
            seen.calls.push(Call {
                begin: 90,
                end: 91,
                key: "k".into(),
                ask: Ask::Delete { over: 14 },
                told: Told::Deleted { uid: "u2".into() },
            });
        });
        broken("broke Durable", |seen| {
            seen.calls[8].told = Told::Object(object(14, "v9", "u2"));
            (seen.sessions, seen.lists) = (vec![seen.sessions.remove(0)], Vec::new());
            seen.sessions[0].events.pop();
        });
        // A write that was refused, and one of nobody.
        broken("broke Honest", |seen| seen.calls[8].told = Told::Conflict);
        broken("broke Honest: nobody wrote", |seen| drop(seen.calls.remove(8)));
        // A compare that was not kept.
        broken("broke Atomic", |seen| {
            seen.calls[1].ask = Ask::Update { value: "v2".into(), over: Some(9) };
        });
        // A write before one that was acknowledged; a stale read, a read of nothing, a stale list, a wrong list.
        broken("broke Linearizable", |seen| {
            (seen.calls[0].begin, seen.calls[0].end) = (300, 301);
        });
        broken("broke Linearizable", |seen| seen.calls[2].told = Told::Object(object(10, "v1", "u1")));
        broken("broke Linearizable", |seen| seen.calls[2].told = Told::NotFound);
        broken("broke Linearizable: 14 was known", |seen| seen.lists[1].fresh = true);
        broken("broke Linearizable: a list at 11", |seen| seen.lists[1].objects.clear());
        // A conflict where there was none.
        broken("broke Linearizable", |seen| seen.calls[3].ask = Ask::Update { value: "v3".into(), over: Some(11) });
        broken("broke Linearizable", |seen| seen.calls[5].told = Told::Object(object(13, "v4", "u2")));
    }
}
