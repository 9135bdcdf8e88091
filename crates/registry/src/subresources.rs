//! Subresources with rules of their own: what they may change, and the objects that they take instead of the
//! resource's own.

use std::sync::Arc;

use admission::Operation;
use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::selector::Selector;
use api_semantics::status::{Cause, GroupResource, Status};
use kinds::autoscaling::scale;

use crate::codec;
use crate::delete::Deleted;
use crate::options::DeleteOptions;
use crate::registry::Registry;
use crate::storage::{Served, Storage};
use crate::write::{Context, Part, Written};

/// Prepares an update through `subresource`.
pub(crate) fn prepare(storage: &Storage, subresource: &str, new: &mut Value, old: &Value) {
    match (&*storage.group_resource.resource, subresource) {
        ("pods", "ephemeralcontainers") => kinds::pod::prepare_ephemeral_containers_update(new, old),
        ("pods", "resize") => kinds::pod::prepare_resize(new, old),
        ("namespaces", "finalize") => {
            // Only the namespace's own finalizers may change.
            let finalizers = new.at(&["spec", "finalizers"]).cloned();
            keep_all_but(new, old, &["spec"]);
            if let Some(spec) = old.get("spec").cloned() {
                new.set(&["spec"], spec);
            }
            match finalizers {
                Some(finalizers) => new.set(&["spec", "finalizers"], finalizers),
                None => drop(new.remove(&["spec", "finalizers"])),
            }
        }
        ("certificatesigningrequests", "approval") => {
            let conditions = new.at(&["status", "conditions"]).cloned();
            keep_all_but(new, old, &[]);
            match conditions {
                Some(conditions) => new.set(&["status", "conditions"], conditions),
                None => drop(new.remove(&["status", "conditions"])),
            }
            storage.kind.prepare_subresource_update(subresource, new, old);
        }
        _ => storage.kind.prepare_subresource_update(subresource, new, old),
    }
}

/// Puts back everything but metadata and `fields`.
fn keep_all_but(new: &mut Value, old: &Value, fields: &[&str]) {
    let mut kept = old.clone();
    for field in fields.iter().chain(&["metadata"]) {
        match new.as_map_mut().and_then(|map| map.remove(field)) {
            Some(value) => drop(kept.make_map().insert(*field, value)),
            None => drop(kept.make_map().remove(field)),
        }
    }
    *new = kept;
}

/// Checks an update through `subresource`.
pub(crate) fn validate(storage: &Storage, subresource: &str, new: &Value, old: &Value) -> ErrorList {
    match (&*storage.group_resource.resource, subresource) {
        ("pods", "ephemeralcontainers") => kinds::pod::validate_ephemeral_containers_update(new, old),
        ("pods", "resize") => kinds::pod::validate_resize(new, old),
        _ => storage.kind.validate_subresource_update(subresource, new, old),
    }
}

impl Registry {
    /// Reads the Scale of an object.
    ///
    /// # Errors
    /// As [`Registry::get`].
    pub async fn get_scale(&self, served: &Served, namespace: &str, name: &str) -> Result<Value, Status> {
        let found = self.get(served, namespace, name, "").await?;
        Ok(scale::of(&codec::decode_stored(&served.storage, &found.bytes, found.revision)?))
    }

    /// Changes the number of replicas by a Scale; `make` turns the present Scale into the wanted one.
    ///
    /// # Errors
    /// As [`Registry::update`].
    pub async fn update_scale(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        name: &str,
        mut make: impl FnMut(&Value) -> Result<Value, Status>,
    ) -> Result<Value, Status> {
        let resource = served.storage.group_resource.clone();
        let written = self
            .modify(served, cx, namespace, name, Part::Scale, |existing, _| {
                let wanted = make(&scale::of(&existing.value))?;
                crate::write::check_name(&wanted, namespace, name)?;
                let version = wanted.str_at(&["metadata", "resourceVersion"]);
                if !version.is_empty() && version != existing.revision.to_string() {
                    return Err(Status::modified(&resource, name));
                }
                let uid = wanted.str_at(&["metadata", "uid"]);
                let own_uid = existing.value.str_at(&["metadata", "uid"]);
                if !uid.is_empty() && uid != own_uid {
                    return Err(crate::write::uid_conflict(&served.storage, namespace, name, uid, own_uid));
                }
                crate::write::refuse(("autoscaling", "Scale"), name, scale::validate(&wanted))?;
                let mut object = existing.value.clone();
                scale::apply(&wanted, &mut object);
                if version.is_empty() {
                    // Whoever states no version overwrites whatever is there, but not what a racer writes meanwhile.
                    codec::set_version(&mut object, existing.revision);
                }
                Ok(object)
            })
            .await?;
        Ok(scale::of(&written.value))
    }

    /// Binds a Pod to a node (`pods/binding`, `bindings`).
    ///
    /// # Errors
    /// 404, 409 if the Pod is bound or being deleted, 422 for a bad Binding.
    pub async fn bind(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        binding: &Value,
    ) -> Result<(), Status> {
        let name = SmolStr::new(binding.str_at(&["metadata", "name"]));
        let errors = binding_errors(binding);
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let text = texts.join(", ");
            return Err(Status::plain(if texts.len() == 1 { text } else { format!("[{text}]") }));
        }
        let storage = &*served.storage;
        let mut body = binding.clone();
        self.admit(storage, cx, Operation::Create, "binding", namespace, &name, Some(&mut body), None).await?;
        let conflict = |why: String| Status::conflict(&GroupResource::new("", "pods/binding"), &name, why);
        let now = self.world.clock.now();
        let result = self
            .modify(served, cx, namespace, &name, Part::Other("binding"), |existing, _| {
                let uid = binding.str_at(&["metadata", "uid"]);
                let own_uid = existing.value.str_at(&["metadata", "uid"]);
                if !uid.is_empty() && uid != own_uid {
                    return Err(crate::write::uid_conflict(storage, namespace, &name, uid, own_uid));
                }
                if existing.value.at(&["metadata", "deletionTimestamp"]).is_some() {
                    return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
                }
                let bound = existing.value.str_at(&["spec", "nodeName"]);
                if !bound.is_empty() {
                    return Err(conflict(format!(
                        "pod {name} is already assigned to node {}",
                        api_semantics::field::quoted(bound)
                    )));
                }
                if !existing.value.list_at(&["spec", "schedulingGates"]).is_empty() {
                    return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
                }
                let mut pod = existing.value.clone();
                kinds::pod::bind(&mut pod, binding, &codec::time(now));
                Ok(pod)
            })
            .await;
        result.map(drop)
    }

    /// Evicts a Pod (`pods/eviction`) unless a PodDisruptionBudget forbids it.
    ///
    /// # Errors
    /// 404, 429 with the cause DisruptionBudget, 500 for more than one budget.
    pub async fn evict(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        name: &str,
        eviction: &Value,
    ) -> Result<Option<Deleted>, Status> {
        let mut options = match eviction.get("deleteOptions") {
            Some(options) => DeleteOptions::from_value(options)?,
            None => DeleteOptions::default(),
        };
        let storage = &*served.storage;
        let mut body = eviction.clone();
        self.admit(storage, cx, Operation::Create, "eviction", namespace, name, Some(&mut body), None).await?;
        let Some(pod) = self.existing(storage, namespace, name).await? else {
            return Err(Status::not_found(&storage.group_resource, name));
        };
        // Pods that no longer or not yet serve can go without asking.
        let phase = pod.value.str_at(&["status", "phase"]);
        let asks = !matches!(phase, "Succeeded" | "Failed" | "Pending")
            && pod.value.at(&["metadata", "deletionTimestamp"]).is_none();
        if asks {
            self.take_disruption(cx, namespace, name, &pod.value).await?;
            // The budget was taken for this very Pod.
            options.uid.get_or_insert_with(|| SmolStr::new(pod.value.str_at(&["metadata", "uid"])));
        }
        options.dry_run |= cx.options.dry_run;
        if !options.dry_run {
            self.mark_evicted(served, cx, namespace, name, &mut options).await?;
        }
        self.delete(served, cx, namespace, name, &options).await.map(Some)
    }

    /// Notes in a Pod's status that it is evicted, for controllers that look at why it ended.
    async fn mark_evicted(
        &self,
        served: &Served,
        cx: &Context,
        namespace: &str,
        name: &str,
        options: &mut DeleteOptions,
    ) -> Result<(), Status> {
        let storage = &*served.storage;
        let now = codec::time(self.world.clock.now());
        // The server's own change: nobody owns the fields.
        let mut own = Context::new(Arc::clone(&cx.user), cx.options.clone());
        own.applies = true;
        let written = self
            .modify(served, &mut own, namespace, name, Part::Status, |existing, _| {
                crate::delete::check_preconditions(storage, name, existing, options)?;
                let mut pod = existing.value.clone();
                let mut condition = Value::from([
                    ("type", "DisruptionTarget"),
                    ("status", "True"),
                    ("reason", "EvictionByEvictionAPI"),
                    ("message", "Eviction API: evicting"),
                ]);
                condition.set(&["lastTransitionTime"], now.clone());
                set_condition(&mut pod, condition);
                codec::normalize(storage, pod)
            })
            .await?;
        if let Some(version) = &mut options.resource_version {
            *version = api_schema::format_smolstr!("{}", written.revision);
        }
        Ok(())
    }

    /// Takes one disruption out of the budget that covers a Pod, if one does.
    async fn take_disruption(&self, cx: &mut Context, namespace: &str, name: &str, pod: &Value) -> Result<(), Status> {
        let Some(budgets) = self.served("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
        self.freshen().await?;
        let matching: Vec<Value> = self
            .cached_list("policy", "poddisruptionbudgets", namespace)
            .into_iter()
            .filter(|budget| {
                Selector::from_value(budget.at(&["spec", "selector"]))
                    .is_ok_and(|selector| selector.matches_object(pod))
            })
            .collect();
        let budget = match matching.as_slice() {
            [] => return Ok(()),
            [budget] => SmolStr::new(budget.str_at(&["metadata", "name"])),
            _ => {
                return Err(Status::plain(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let ready = pod
            .list_at(&["status", "conditions"])
            .iter()
            .any(|c| c.str_at(&["type"]) == "Ready" && c.str_at(&["status"]) == "True");
        let now = self.world.clock.now();
        let taken = self
            .modify(&budgets, cx, namespace, &budget, Part::Status, |existing, _| {
                let mut object = existing.value.clone();
                let status = |field: &str| existing.value.int_at(&["status", field]).unwrap_or(0);
                let always = existing.value.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
                let healthy_enough =
                    status("currentHealthy") >= status("desiredHealthy") && status("desiredHealthy") > 0;
                if !ready && (always || healthy_enough) {
                    return Ok(object);
                }
                if status("observedGeneration") < existing.value.int_at(&["metadata", "generation"]).unwrap_or(0) {
                    return Err(disruption_refused(
                        "Cannot evict pod as it would violate the pod's disruption budget.",
                        format!("The disruption budget {budget} is still being processed by the server."),
                        10,
                    ));
                }
                let allowed = status("disruptionsAllowed");
                if allowed <= 0 {
                    return Err(disruption_refused(
                        "Cannot evict pod as it would violate the pod's disruption budget.",
                        format!(
                            "The disruption budget {budget} needs {} healthy pods and has {} currently",
                            status("desiredHealthy"),
                            status("currentHealthy")
                        ),
                        0,
                    ));
                }
                object.set(&["status", "disruptionsAllowed"], allowed - 1);
                object.set(&["status", "disruptedPods", name], codec::time(now));
                if allowed == 1 {
                    let mut condition = Value::from([
                        ("type", "DisruptionAllowed"),
                        ("status", "False"),
                        ("reason", "InsufficientPods"),
                        ("message", ""),
                    ]);
                    condition.set(&["lastTransitionTime"], codec::time(now));
                    condition.set(&["observedGeneration"], status("observedGeneration"));
                    set_condition(&mut object, condition);
                }
                codec::normalize(&budgets.storage, object)
            })
            .await;
        taken.map(drop)
    }

    /// Replaces a namespace's finalizers (`namespaces/finalize`).
    ///
    /// # Errors
    /// As [`Registry::update`].
    pub async fn finalize(
        &self,
        served: &Served,
        cx: &mut Context,
        name: &str,
        object: Value,
    ) -> Result<Written, Status> {
        self.update(served, cx, "", name, "finalize", object).await
    }
}

/// Puts a condition into an object's status in the place of the one of its type; the time of its transition stays
/// unless its status changes.
fn set_condition(object: &mut Value, mut condition: Value) {
    let mut conditions = object.list_at(&["status", "conditions"]).to_vec();
    match conditions.iter_mut().find(|old| old.str_at(&["type"]) == condition.str_at(&["type"])) {
        Some(old) => {
            if old.str_at(&["status"]) == condition.str_at(&["status"])
                && let Some(time) = old.get("lastTransitionTime").cloned()
            {
                condition.set(&["lastTransitionTime"], time);
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    object.set(&["status", "conditions"], conditions);
}

fn disruption_refused(message: &str, cause: String, retry_after_seconds: u32) -> Status {
    let mut status = Status::too_many_requests(message, retry_after_seconds);
    status.causes = vec![Cause { reason: "DisruptionBudget".into(), message: cause.into(), field: SmolStr::default() }];
    status
}

fn binding_errors(binding: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let kind = binding.str_at(&["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.push(Error::not_supported(&Path::new("target.kind"), kind, &["Node", "<empty>"]));
    }
    if binding.str_at(&["target", "name"]).is_empty() {
        errors.push(Error::required(&Path::new("target.name"), ""));
    }
    errors
}
