//! What a group of requests does to the store, decided before anything is done: the answers, the frame to write, and
//! the effects to make visible once the frame is durable. And the reverse: from a frame back to the effects.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{Change, Event, EventKind, LeaseId, Op, Record, Result, Revision, StoreError, Txn, TxnResponse};
use world::{Clock, Timestamp};

use crate::codec::{Put, Take};
use crate::frame::FrameBuffer;
use crate::state::{Effect, Lease, State, event, found_end};

const CHANGES: u8 = 1;
const GRANT_LEASE: u8 = 2;
const KEEP_LEASE: u8 = 3;
const END_LEASE: u8 = 4;

const PUT: u8 = 1;
const PUT_WITH_LEASE: u8 = 2;
const DELETE: u8 = 3;

/// Requests decided on top of a state, each seeing what those before it will have done.
pub(crate) struct Plan<'a> {
    state: &'a State,
    clock: &'a dyn Clock,
    revision: Revision,
    compacted: Revision,
    /// What the keys changed by this plan will be.
    changed: HashMap<Bytes, Option<Arc<Record>>>,
    last_lease: i64,
    frame: FrameBuffer,
    effects: Vec<Effect>,
}

/// What is to be done.
pub(crate) struct Planned {
    pub(crate) frame: FrameBuffer,
    pub(crate) effects: Vec<Effect>,
    /// The oldest readable revision when it is done.
    pub(crate) compacted: Revision,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(state: &'a State, clock: &'a dyn Clock) -> Plan<'a> {
        Plan {
            state,
            clock,
            revision: state.revision,
            compacted: state.compacted,
            changed: HashMap::new(),
            last_lease: state.leases.last_id,
            frame: FrameBuffer::new(),
            effects: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// The length of the frame so far.
    pub(crate) fn len(&self) -> usize {
        self.frame.len()
    }

    pub(crate) fn finish(self) -> Planned {
        Planned { frame: self.frame, effects: self.effects, compacted: self.compacted }
    }

    pub(crate) fn txn(&mut self, txn: &Txn) -> Result<TxnResponse> {
        for op in &txn.ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && self.state.leases.get(*lease).is_none()
            {
                return Err(StoreError::LeaseNotFound(*lease));
            }
        }
        let holds = txn.compares.iter().all(|compare| {
            self.current(&compare.key).map_or(Revision::ZERO, |record| record.mod_revision) == compare.mod_revision
        });
        if !holds {
            let current = txn.compares.iter().map(|compare| self.current(&compare.key).cloned()).collect();
            return Ok(TxnResponse::Refused { revision: self.revision, current });
        }
        let changes = self.change(&txn.ops);
        Ok(TxnResponse::Committed { revision: self.revision, changes })
    }

    pub(crate) fn compact(&mut self, revision: Revision) -> Result<()> {
        if revision <= self.compacted {
            return Err(StoreError::Compacted { requested: revision, compacted: self.compacted });
        }
        if revision > self.revision {
            return Err(StoreError::FutureRevision { requested: revision, current: self.revision });
        }
        self.compacted = revision;
        self.effects.push(Effect::Compact { revision });
        Ok(())
    }

    pub(crate) fn grant_lease(&mut self, ttl: Duration) -> LeaseId {
        self.last_lease += 1;
        let id = LeaseId(self.last_lease);
        let lease = Lease::new(ttl, self.clock);
        let payload = self.frame.payload();
        payload.put_u8(GRANT_LEASE);
        put_lease(payload, id, &lease);
        self.effects.push(Effect::GrantLease { id, lease });
        id
    }

    pub(crate) fn keep_lease_alive(&mut self, id: LeaseId) -> Result<()> {
        let lease = self.state.leases.get(id).ok_or(StoreError::LeaseNotFound(id))?;
        let kept = Lease::new(lease.ttl, self.clock);
        let payload = self.frame.payload();
        payload.put_u8(KEEP_LEASE);
        put_lease(payload, id, &kept);
        self.effects.push(Effect::KeepLease { id, ends: kept.ends, ends_wall: kept.ends_wall });
        Ok(())
    }

    /// Ends a lease and its keys. It must be alone in its plan: the plan's own changes to the lease's keys are not looked at.
    pub(crate) fn end_lease(&mut self, id: LeaseId) -> Result<()> {
        debug_assert!(self.is_empty());
        let lease = self.state.leases.get(id).ok_or(StoreError::LeaseNotFound(id))?;
        let ops: Vec<_> = lease.keys.iter().map(|key| Op::Delete { key: key.clone() }).collect();
        self.change(&ops);
        let payload = self.frame.payload();
        payload.put_u8(END_LEASE);
        payload.put_u64(id.0.cast_unsigned());
        self.effects.push(Effect::EndLease { id });
        Ok(())
    }

    fn current(&self, key: &[u8]) -> Option<&Arc<Record>> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.state.latest(key),
        }
    }

    /// Does the operations at the next revision, if any of them changes something.
    fn change(&mut self, ops: &[Op]) -> Vec<Change> {
        let revision = self.revision.next();
        let mut changes = Vec::with_capacity(ops.len());
        let mut events: Vec<Event> = Vec::with_capacity(ops.len());
        for op in ops {
            let previous = self.current(op.key()).cloned();
            let event = event(op, revision, previous.clone());
            let put = event.as_ref().filter(|event| event.kind == EventKind::Put);
            changes.push(Change { previous, record: put.map(|event| Arc::clone(&event.record)) });
            events.extend(event);
        }
        if events.is_empty() {
            return changes;
        }
        self.revision = revision;
        let payload = self.frame.payload();
        payload.put_u8(CHANGES);
        payload.put_u64(revision.0);
        payload.put_u32(u32::try_from(events.len()).expect("a transaction has far fewer operations"));
        for event in &events {
            put_event(payload, event);
            let record = (event.kind == EventKind::Put).then(|| Arc::clone(&event.record));
            self.changed.insert(event.record.key.clone(), record);
        }
        self.effects.push(Effect::Changes { revision, events });
        changes
    }
}

fn put_event(payload: &mut Vec<u8>, event: &Event) {
    let Record { key, value, lease, .. } = &*event.record;
    match (event.kind, lease) {
        (EventKind::Put, None) => payload.put_u8(PUT),
        (EventKind::Put, Some(lease)) => {
            payload.put_u8(PUT_WITH_LEASE);
            payload.put_u64(lease.0.cast_unsigned());
        }
        (EventKind::Delete, _) => payload.put_u8(DELETE),
    }
    payload.put_bytes(key);
    if event.kind == EventKind::Put {
        payload.put_bytes(value);
    }
}

pub(crate) fn put_lease(payload: &mut Vec<u8>, id: LeaseId, lease: &Lease) {
    payload.put_u64(id.0.cast_unsigned());
    payload.put_u64(lease.ttl.as_secs());
    payload.put_u32(lease.ttl.subsec_nanos());
    payload.put_u64(lease.ends_wall.seconds.cast_unsigned());
    payload.put_u32(lease.ends_wall.nanos);
}

pub(crate) fn take_lease(take: &mut Take<'_>, clock: &dyn Clock) -> Option<(LeaseId, Lease)> {
    let id = LeaseId(take.u64()?.cast_signed());
    let ttl = take_duration(take)?;
    let ends_wall = Timestamp { seconds: take.u64()?.cast_signed(), nanos: take.u32()? };
    Some((id, Lease::found(ttl, ends_wall, clock)))
}

/// A duration whose nanoseconds do not carry, as they were written.
fn take_duration(take: &mut Take<'_>) -> Option<Duration> {
    let (seconds, nanos) = (take.u64()?, take.u32()?);
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

/// What a frame says was done.
pub(crate) enum Done {
    /// A transaction's changes. Those of deleted keys were there.
    Changes {
        revision: Revision,
        ops: Vec<Op>,
    },
    Other(Effect),
}

/// Takes what was done next out of a frame's payload. `None` if the payload is not what [`Plan`] writes.
pub(crate) fn take_done(take: &mut Take<'_>, clock: &dyn Clock) -> Option<Done> {
    let effect = match take.u8()? {
        CHANGES => return take_changes(take),
        GRANT_LEASE => {
            let (id, lease) = take_lease(take, clock)?;
            Effect::GrantLease { id, lease }
        }
        KEEP_LEASE => {
            let (id, Lease { ttl, ends_wall, .. }) = take_lease(take, clock)?;
            Effect::KeepLease { id, ends: found_end(ttl, ends_wall, clock), ends_wall }
        }
        END_LEASE => Effect::EndLease { id: LeaseId(take.u64()?.cast_signed()) },
        _ => return None,
    };
    Some(Done::Other(effect))
}

fn take_changes(take: &mut Take<'_>) -> Option<Done> {
    let revision = Revision(take.u64()?);
    let count = take.u32()?;
    let mut ops = Vec::new();
    for _ in 0..count {
        ops.push(match take.u8()? {
            PUT => Op::Put { lease: None, key: take.bytes()?, value: take.bytes()? },
            PUT_WITH_LEASE => {
                let lease = LeaseId(take.u64()?.cast_signed());
                Op::Put { lease: Some(lease), key: take.bytes()?, value: take.bytes()? }
            }
            DELETE => Op::Delete { key: take.bytes()? },
            _ => return None,
        });
    }
    Some(Done::Changes { revision, ops })
}
