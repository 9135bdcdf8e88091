//! Writes the statuses of Pods to the API: the newest one only, each Pod's in order, several Pods side by side; and
//! deletes Pods whose end is complete.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api_schema::{Map, Value};
use client::{Client, DeleteOptions, Error, Patch};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tracing::{debug, warn};

use crate::pod::{Pod, PodKey, Uid};
use crate::ports::Statuses;
use crate::status::OWN_CONDITIONS;

/// How many statuses are on their way at once.
const IN_FLIGHT_MAX: usize = 16;
/// How long a status waits after the API could not be asked.
const RETRY: Duration = Duration::from_secs(1);

/// What is to be told of one Pod.
struct Entry {
    key: PodKey,
    /// The newest status, if the API has not got it yet.
    pending: Option<Arc<Value>>,
    /// Whether nothing of the Pod is left.
    finished: bool,
    /// Whether somebody is telling it now.
    busy: bool,
}

/// The writer. Cheap to clone through its `Arc`.
pub struct StatusWriter {
    client: Client,
    entries: Mutex<HashMap<Uid, Entry>>,
    changed: Notify,
    permits: Arc<Semaphore>,
}

impl StatusWriter {
    /// A writer in the node's name; [`StatusWriter::run`] does the work.
    pub fn new(client: Client) -> Arc<StatusWriter> {
        Arc::new(StatusWriter {
            client,
            entries: Mutex::default(),
            changed: Notify::new(),
            permits: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        })
    }

    /// Writes until the future is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut running = tokio::task::JoinSet::new();
        loop {
            while let Some(uid) = self.next() {
                let Ok(permit) = self.permits.clone().acquire_owned().await else { return };
                let writer = self.clone();
                running.spawn(async move {
                    writer.tell(&uid).await;
                    drop(permit);
                });
            }
            while running.try_join_next().is_some() {}
            self.changed.notified().await;
        }
    }

    /// Waits until everything that was reported has been written, or the API said that it does not want it.
    pub async fn flush(&self) {
        loop {
            let changed = self.changed.notified();
            if self.entries.lock().is_empty() {
                return;
            }
            tokio::select! {
                () = changed => {}
                // Another waiter may have taken the notice.
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// A Pod with something to tell that nobody is telling.
    fn next(&self) -> Option<Uid> {
        let mut entries = self.entries.lock();
        let (uid, entry) =
            entries.iter_mut().find(|(_, entry)| !entry.busy && (entry.pending.is_some() || entry.finished))?;
        entry.busy = true;
        Some(uid.clone())
    }

    async fn tell(&self, uid: &Uid) {
        loop {
            let (key, pending, finished) = {
                let mut entries = self.entries.lock();
                let Some(entry) = entries.get_mut(uid) else { return };
                if entry.pending.is_none() && !entry.finished {
                    entries.remove(uid);
                    break;
                }
                (entry.key.clone(), entry.pending.take(), entry.finished)
            };
            let result = match &pending {
                Some(status) => self.write(&key, uid, status).await,
                None => self.delete(&key, uid).await,
            };
            match result {
                Ok(()) if pending.is_none() && finished => {
                    self.entries.lock().remove(uid);
                    break;
                }
                Ok(()) => {}
                // The Pod is gone, or another one bears its name: nobody waits for this status any more.
                Err(error) if error.is_not_found() || error.is_conflict() => {
                    debug!(pod = %key, %error, "the status is not wanted any more");
                    self.entries.lock().remove(uid);
                    break;
                }
                Err(error) => {
                    warn!(pod = %key, %error, "cannot write the status");
                    if let Some(entry) = self.entries.lock().get_mut(uid)
                        && entry.pending.is_none()
                    {
                        entry.pending = pending;
                    }
                    tokio::time::sleep(error.retry_after().unwrap_or(RETRY)).await;
                }
            }
        }
        self.changed.notify_one();
    }

    async fn write(&self, key: &PodKey, uid: &Uid, status: &Value) -> Result<(), Error> {
        let pods = self.client.resource("", "v1", "pods").namespace(&key.namespace);
        pods.patch_status(&key.name, &Patch::Strategic(&patch(uid, status))).await.map(drop)
    }

    async fn delete(&self, key: &PodKey, uid: &Uid) -> Result<(), Error> {
        let pods = self.client.resource("", "v1", "pods").namespace(&key.namespace);
        let options =
            DeleteOptions { grace_period_seconds: Some(0), uid: Some(uid.0.clone()), ..DeleteOptions::default() };
        pods.delete(&key.name, &options).await.map(drop)
    }
}

impl Statuses for StatusWriter {
    fn report(&self, pod: &Pod, status: Arc<Value>) {
        self.set(pod, |entry| entry.pending = Some(status));
    }

    fn finished(&self, pod: &Pod) {
        self.set(pod, |entry| entry.finished = true);
    }
}

impl StatusWriter {
    fn set(&self, pod: &Pod, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.entries.lock();
        let fresh = || Entry { key: pod.key().clone(), pending: None, finished: false, busy: false };
        change(entries.entry(pod.uid().clone()).or_insert_with(fresh));
        drop(entries);
        self.changed.notify_one();
    }
}

/// The strategic merge patch that makes the API's status this one. It names the Pod's uid, so that it cannot hit another
/// Pod of the same name; leaves the conditions of others alone; and takes away what is not there any more.
pub fn patch(uid: &Uid, status: &Value) -> Value {
    let mut fields = Map::default();
    for name in [
        "reason",
        "message",
        "podIP",
        "podIPs",
        "hostIP",
        "hostIPs",
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ] {
        fields.insert(name, Value::Null);
    }
    for (name, value) in status.as_map().into_iter().flat_map(Map::iter) {
        match name.as_str() {
            // These are written by others.
            "nominatedNodeName" | "resourceClaimStatuses" | "resize" => {}
            "conditions" => {
                fields.insert(name.clone(), conditions(value));
            }
            // Lists that would be merged by address.
            "podIPs" | "hostIPs" => {
                let replace = Value::from([("$patch", "replace")]);
                let list = value.as_list().unwrap_or_default().iter().cloned();
                fields.insert(name.clone(), std::iter::once(replace).chain(list).collect::<Vec<_>>());
            }
            _ => {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    Value::from([("metadata", Value::from([("uid", uid.0.clone())])), ("status", Value::Map(fields))])
}

fn conditions(conditions: &Value) -> Vec<Value> {
    let own = conditions.as_list().unwrap_or_default().iter();
    let own = own.filter(|condition| OWN_CONDITIONS.contains(&condition.str_at(&["type"])));
    own.map(|condition| {
        let mut patch = condition.clone();
        for field in ["reason", "message"] {
            if patch.get(field).is_none() {
                patch.set(&[field], Value::Null);
            }
        }
        patch
    })
    .collect()
}
