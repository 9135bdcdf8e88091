//! Deletion: at once, gracefully, or when the last finalizer is gone.

use admission::Operation;
use api_schema::{SmolStr, Value};
use api_semantics::status::{GroupResource, Status};
use store::{Revision, Txn};

use crate::codec;
use crate::options::{DeleteOptions, ListOptions, Propagation};
use crate::read::StoredObject;
use crate::registry::Registry;
use crate::storage::{Served, Storage};
use crate::write::{Context, Existing};

/// How often a deletion is tried again when somebody else changed the object.
const TRIES: usize = 100;
/// How many objects of a collection are looked at in one step.
const PAGE: usize = 500;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a deletion led to.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone; its last state, in its stored version.
    Gone(Value),
    /// The object is on its way: finalizers, a grace period, or contents of a namespace remain.
    Pending(Value),
}

impl Deleted {
    /// The object's last or present state.
    pub fn value(&self) -> &Value {
        match self {
            Self::Gone(value) | Self::Pending(value) => value,
        }
    }
}

/// What the next step of a deletion is.
enum Plan {
    /// Remove the object; its last state as the client shall see it.
    Now(Value),
    /// Store this state.
    Mark(Value),
    /// It is being deleted already.
    Wait,
}

impl Registry {
    /// Deletes one object.
    ///
    /// # Errors
    /// 404, 409 for preconditions, refusals of admission.
    pub async fn delete(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let storage = &*served.storage;
        cx.options.dry_run |= options.dry_run;
        if options.propagation.is_none() && options.orphan_dependents.is_none() {
            let warning =
                storage.kind.deletion_warning().filter(|warning| !cx.warnings.iter().any(|said| said == warning));
            cx.warnings.extend(warning.map(Into::into));
        }
        let mut admitted = false;
        for _ in 0..TRIES {
            let Some(existing) = self.existing(storage, namespace, name).await? else {
                return Err(Status::not_found(&storage.group_resource, name));
            };
            check_preconditions(storage, name, &existing, options)?;
            if !admitted {
                self.admit(storage, cx, Operation::Delete, "", namespace, name, None, Some(&existing.value)).await?;
                self.admit_validating(storage, cx, Operation::Delete, "", namespace, name, None, Some(&existing.value))
                    .await?;
                admitted = true;
            }
            let now = self.world.clock.now();
            let step = match plan(storage, &existing.value, options, now) {
                Plan::Wait => return Ok(Deleted::Pending(existing.value)),
                Plan::Now(last) => self.remove(storage, cx, namespace, name, &existing, last).await?,
                Plan::Mark(value) => self.mark(storage, cx, namespace, name, &existing, value).await?,
            };
            if let Some(deleted) = step {
                return Ok(deleted);
            }
        }
        Err(Status::modified(&storage.group_resource, name))
    }

    async fn remove(
        &self,
        storage: &Storage,
        cx: &Context,
        namespace: &str,
        name: &str,
        existing: &Existing,
        last: Value,
    ) -> Result<Option<Deleted>, Status> {
        if cx.options.dry_run {
            return Ok(Some(Deleted::Gone(last)));
        }
        let mut claim = self.hooks.before_delete(self, storage, &existing.value);
        let txn = Txn::delete_if(storage.key(namespace, name), Revision(existing.revision));
        let Some(revision) = self.commit(txn, &mut claim).await? else { return Ok(None) };
        claim.done();
        let mut value = last;
        codec::set_version(&mut value, revision);
        Ok(Some(Deleted::Gone(value)))
    }

    async fn mark(
        &self,
        storage: &Storage,
        cx: &Context,
        namespace: &str,
        name: &str,
        existing: &Existing,
        mut value: Value,
    ) -> Result<Option<Deleted>, Status> {
        let bytes = codec::encode_stored(storage, &value)?;
        if cx.options.dry_run || bytes == existing.bytes {
            return Ok(Some(Deleted::Pending(value)));
        }
        let txn = Txn::update(storage.key(namespace, name), bytes, Revision(existing.revision));
        let Some(revision) = self.commit(txn, &mut crate::hooks::Claim::default()).await? else { return Ok(None) };
        codec::set_version(&mut value, revision);
        Ok(Some(Deleted::Pending(value)))
    }

    /// Deletes every selected object; gives their states as the answer lists them.
    ///
    /// # Errors
    /// The first error that is not about an object having gone meanwhile.
    pub async fn delete_collection(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(Vec<Value>, u64), Status> {
        let mut page = ListOptions { limit: if list.limit > 0 { list.limit } else { PAGE as i64 }, ..list.clone() };
        let mut deleted = Vec::new();
        loop {
            let answer = self.list(served, namespace, &page).await?;
            for object in &answer.objects {
                let found = StoredObject { bytes: object.bytes.clone(), revision: object.revision };
                let value = codec::decode_stored(&served.storage, &found.bytes, found.revision)?;
                let (object_namespace, name) = (
                    SmolStr::new(value.str_at(&["metadata", "namespace"])),
                    SmolStr::new(value.str_at(&["metadata", "name"])),
                );
                // Each object gets the whole deletion; one that has gone meanwhile is as good as deleted.
                match Box::pin(self.delete(served, cx, &object_namespace, &name, options)).await {
                    Ok(_) => {}
                    Err(status) if status.reason == "NotFound" => {}
                    Err(status) => return Err(status),
                }
                deleted.push(value);
            }
            if answer.continue_token.is_empty() || list.limit > 0 {
                return Ok((deleted, answer.revision));
            }
            page.continue_token = answer.continue_token.into();
            page.resource_version = SmolStr::default();
            page.version_match = SmolStr::default();
        }
    }
}

pub(crate) fn check_preconditions(
    storage: &Storage,
    name: &str,
    existing: &Existing,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let conflict = |what: &str, wanted: &str, found: &str, done: &str| {
        // Upstream names the kind here, as if it were the resource.
        Err(Status::conflict(
            &GroupResource::new(storage.group_resource.group.clone(), storage.kind_name.clone()),
            name,
            format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). \
                 The object might have been {done}"
            ),
        ))
    };
    let uid = existing.value.str_at(&["metadata", "uid"]);
    match &options.uid {
        Some(wanted) if wanted != uid => return conflict("UID", wanted, uid, "deleted and then recreated"),
        _ => {}
    }
    let version = existing.revision.to_string();
    match &options.resource_version {
        Some(wanted) if *wanted != version => conflict("ResourceVersion", wanted, &version, "modified"),
        _ => Ok(()),
    }
}

/// Decides the next step (upstream's BeforeDelete and its callers).
fn plan(storage: &Storage, object: &Value, options: &DeleteOptions, now: world::Timestamp) -> Plan {
    if is_namespace(&storage.group_resource) {
        return plan_namespace(storage, object, options, now);
    }
    let mut marked = object.clone();
    let requested = options.grace_period_seconds;
    let being_deleted = object.at(&["metadata", "deletionTimestamp"]).is_some();
    let graceful = if being_deleted {
        let left = object.int_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
        match requested {
            _ if left == 0 => false,
            Some(shorter) if shorter < left => {
                // The period may only become shorter; it still counts from the first deletion.
                let until = api_semantics::time::rfc3339(object.str_at(&["metadata", "deletionTimestamp"]));
                let until = until.unwrap_or(now.seconds) - left + shorter;
                marked.set(&["metadata", "deletionTimestamp"], codec::time(world::Timestamp::from_seconds(until)));
                marked.set(&["metadata", "deletionGracePeriodSeconds"], shorter);
                true
            }
            _ => return Plan::Wait,
        }
    } else {
        match storage.kind.grace_period_seconds(object, requested) {
            None => false,
            Some(seconds) => {
                mark_deleted(&mut marked, now, seconds);
                true
            }
        }
    };
    let pending_finalizers = set_finalizers(storage, &mut marked, options);
    match (graceful, pending_finalizers) {
        (false, true) => {
            if !being_deleted {
                mark_deleted(&mut marked, now, 0);
            }
            marked.set(&["metadata", "deletionGracePeriodSeconds"], 0);
            Plan::Mark(marked)
        }
        (true, false) if marked.int_at(&["metadata", "deletionGracePeriodSeconds"]) == Some(0) => Plan::Now(marked),
        (true, _) => Plan::Mark(marked),
        (false, false) => Plan::Now(marked),
    }
}

fn mark_deleted(object: &mut Value, now: world::Timestamp, grace: i64) {
    let until = world::Timestamp::from_seconds(now.seconds + grace);
    object.set(&["metadata", "deletionTimestamp"], codec::time(until));
    object.set(&["metadata", "deletionGracePeriodSeconds"], grace);
    // Controllers shall look at it again.
    if let Some(generation) = object.int_at(&["metadata", "generation"]).filter(|g| *g > 0) {
        object.set(&["metadata", "generation"], generation + 1);
    }
}

/// Sets the garbage collector's finalizers as the options say; tells whether any finalizer is left.
fn set_finalizers(storage: &Storage, object: &mut Value, options: &DeleteOptions) -> bool {
    let has = |name: &str| object.list_at(&["metadata", "finalizers"]).iter().any(|f| f.as_str() == Some(name));
    let orphan = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => orphan,
        (None, Some(propagation)) => propagation == Propagation::Orphan,
        (None, None) => has(ORPHAN) || (storage.kind.orphans_by_default() && !has(FOREGROUND)),
    };
    let foreground = match (options.orphan_dependents, options.propagation) {
        (Some(_), _) => false,
        (None, Some(propagation)) => propagation == Propagation::Foreground,
        (None, None) => has(FOREGROUND),
    };
    let mut finalizers: Vec<Value> = object
        .list_at(&["metadata", "finalizers"])
        .iter()
        .filter(|f| !matches!(f.as_str(), Some(ORPHAN | FOREGROUND)))
        .cloned()
        .collect();
    finalizers.extend(orphan.then(|| ORPHAN.into()));
    finalizers.extend(foreground.then(|| FOREGROUND.into()));
    let pending = !finalizers.is_empty();
    if pending {
        object.set(&["metadata", "finalizers"], finalizers);
    } else {
        object.remove(&["metadata", "finalizers"]);
    }
    pending
}

fn is_namespace(resource: &GroupResource) -> bool {
    resource.group.is_empty() && resource.resource == "namespaces"
}

/// A namespace goes through `Terminating` until its own finalizers (`spec.finalizers`) are gone.
fn plan_namespace(storage: &Storage, object: &Value, options: &DeleteOptions, now: world::Timestamp) -> Plan {
    let mut marked = object.clone();
    if object.at(&["metadata", "deletionTimestamp"]).is_none() {
        set_finalizers(storage, &mut marked, options);
        let content = !object.list_at(&["spec", "finalizers"]).is_empty();
        let held = !marked.list_at(&["metadata", "finalizers"]).is_empty();
        marked.set(&["metadata", "deletionTimestamp"], codec::time(now));
        marked.set(&["status", "phase"], "Terminating");
        return if content || held { Plan::Mark(marked) } else { Plan::Now(marked) };
    }
    if !object.list_at(&["spec", "finalizers"]).is_empty() || !object.list_at(&["metadata", "finalizers"]).is_empty() {
        return Plan::Wait;
    }
    Plan::Now(marked)
}
