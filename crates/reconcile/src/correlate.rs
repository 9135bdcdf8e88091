//! Which events are written, and how (client-go's EventCorrelator): equal ones are counted, similar ones combined, and
//! objects that never come to rest do not flood the cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use client::{Bucket, Rate, SmolStr};
use world::{Monotonic, Timestamp};

use crate::events::{EventType, Reference};
use crate::lru::Lru;

/// So many kinds of events are remembered (client-go's figures, here and below).
const REMEMBERED_MAX: usize = 4096;
/// So many events that differ by their message alone, each within ten minutes of the one before, are combined.
const SIMILAR_MAX: usize = 10;
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
/// An object may have this many events at once, and then one every five minutes.
const SPAM: Rate = Rate { per_second: 1.0 / 300.0, burst: 25 };

/// An event as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) regarding: Reference,
    pub(crate) ty: EventType,
    pub(crate) reason: SmolStr,
    pub(crate) message: String,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) count: i64,
}

/// What an event is about and of which sort: the message is beside.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Sort {
    object: [SmolStr; 5],
    ty: EventType,
    /// Empty for all reasons together.
    reason: SmolStr,
}

impl Sort {
    fn of(record: &Record, reason: &SmolStr) -> Self {
        let Reference { api_version, kind, namespace, name, uid, .. } = &record.regarding;
        let object = [api_version, kind, namespace, name, uid].map(SmolStr::clone);
        Self { object, ty: record.ty, reason: reason.clone() }
    }
}

/// One line in the list of events: equal ones are counted.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Line {
    sort: Sort,
    /// Field path and message; none where similar events are combined.
    text: Option<(SmolStr, String)>,
}

struct Similar {
    messages: BTreeSet<String>,
    last: Monotonic,
}

struct Written {
    name: String,
    first: Timestamp,
    count: i64,
}

pub(crate) struct Correlator {
    similar: Lru<Sort, Similar>,
    written: Lru<Line, Written>,
    spam: Lru<Sort, Bucket>,
}

impl Correlator {
    pub(crate) fn new() -> Self {
        Self { similar: Lru::new(REMEMBERED_MAX), written: Lru::new(REMEMBERED_MAX), spam: Lru::new(REMEMBERED_MAX) }
    }

    /// What to write: an event with `count` 1 is new, one with more changes the one of its name. `None` if it is one too
    /// many.
    pub(crate) fn correlate(&mut self, mut record: Record, now: Monotonic) -> Option<Record> {
        let sort = Sort::of(&record, &record.reason);
        let similar = self.similar.get_or(&sort, || Similar { messages: BTreeSet::new(), last: now });
        if now.saturating_since(similar.last) > SIMILAR_WITHIN {
            similar.messages.clear();
        }
        similar.messages.insert(record.message.clone());
        similar.last = now;
        let text = if similar.messages.len() < SIMILAR_MAX {
            Some((record.regarding.field_path.clone(), record.message.clone()))
        } else {
            similar.messages.pop_first();
            record.message.insert_str(0, "(combined from similar events): ");
            None
        };
        let line = Line { sort, text };
        if let Some(written) = self.written.get(&line) {
            written.count += 1;
            record.name.clone_from(&written.name);
            (record.first, record.count) = (written.first, written.count);
        } else {
            let written = Written { name: record.name.clone(), first: record.first, count: 1 };
            self.written.insert(line, written);
        }
        let bucket = self.spam.get_or(&Sort::of(&record, &SmolStr::default()), || Bucket::new(SPAM));
        bucket.try_take(now).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds events `second reason message` and shows what is written: `+` new, `~` changed, `.` dropped.
    fn check(events: &[(u64, &str, &str)], expect: &str) {
        let mut correlator = Correlator::new();
        let shown: Vec<String> = events
            .iter()
            .enumerate()
            .map(|(number, (second, reason, message))| {
                let now = Monotonic::START.saturating_add(Duration::from_secs(*second));
                let time = Timestamp::from_seconds(i64::try_from(*second).expect("a small number"));
                let record = Record {
                    name: format!("e{number}"),
                    regarding: Reference { kind: "Pod".into(), name: "web".into(), ..Reference::default() },
                    ty: EventType::Normal,
                    reason: (*reason).into(),
                    message: (*message).to_owned(),
                    first: time,
                    last: time,
                    count: 1,
                };
                match correlator.correlate(record, now) {
                    None => ".".to_owned(),
                    Some(record) if record.count == 1 => format!("+{} {:?}", record.name, record.message),
                    Some(record) => format!("~{} {:?} x{}", record.name, record.message, record.count),
                }
            })
            .collect();
        assert_eq!(shown.join("; "), expect);
    }

    #[test]
    fn equal_events_are_counted() {
        check(
            &[(0, "Pulled", "a"), (1, "Pulled", "a"), (2, "Started", "a"), (3, "Pulled", "a")],
            "+e0 \"a\"; ~e0 \"a\" x2; +e2 \"a\"; ~e0 \"a\" x3",
        );
    }

    #[test]
    fn similar_events_are_combined_from_the_tenth_on_and_anew_after_a_quiet_time() {
        let messages = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
        let mut events: Vec<(u64, &str, &str)> = messages.iter().map(|message| (0, "Failed", *message)).collect();
        events.push((601, "Failed", "l"));
        check(
            &events,
            "+e0 \"a\"; +e1 \"b\"; +e2 \"c\"; +e3 \"d\"; +e4 \"e\"; +e5 \"f\"; +e6 \"g\"; +e7 \"h\"; +e8 \"i\"; \
             +e9 \"(combined from similar events): j\"; ~e9 \"(combined from similar events): k\" x2; +e11 \"l\"",
        );
    }

    #[test]
    fn an_object_has_25_events_at_once_and_one_every_five_minutes() {
        let mut events = vec![(0, "Failed", "a"); 27];
        events.extend([(299, "Failed", "a"), (301, "Failed", "a"), (302, "Failed", "a")]);
        let mut expect = vec!["+e0 \"a\"".to_owned()];
        expect.extend((2..=25).map(|count| format!("~e0 \"a\" x{count}")));
        // What is not written is counted all the same.
        expect.extend([".".into(), ".".into(), ".".into(), "~e0 \"a\" x29".into(), ".".into()]);
        check(&events, &expect.join("; "));
    }
}
