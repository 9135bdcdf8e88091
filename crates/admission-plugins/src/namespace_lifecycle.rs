//! Nothing is made in a namespace that is missing or on its way out, and three namespaces are for ever.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use admission::{Attributes, BoxFuture, Operation, Plugin, View};
use api_schema::SmolStr;
use api_semantics::status::{Cause, GroupResource, Status};

use crate::refusal::{forbidden, ready};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// How long a deleted namespace is read from the store itself, for the cache may not know yet.
const DOUBT_SECONDS: i64 = 30;
/// How many namespaces are doubted at once; the oldest is forgotten.
const DOUBTED_MAX: usize = 100;

/// See the module.
#[derive(Default)]
pub(crate) struct NamespaceLifecycle {
    /// Namespaces whose deletion was asked for, with the second until which they are doubted.
    doubted: Mutex<VecDeque<(SmolStr, i64)>>,
}

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, resource: &GroupResource, _subresource: &str, operation: Operation) -> bool {
        match operation {
            Operation::Create | Operation::Update => !is_namespaces(resource),
            Operation::Delete => is_namespaces(resource),
            Operation::Connect => false,
        }
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a mut Attributes<'_>,
        view: &'a dyn View,
    ) -> BoxFuture<'a, Result<(), Status>> {
        if is_namespaces(attributes.resource) {
            return ready(self.delete(attributes, view.now()));
        }
        // Whether a namespace exists is no business of somebody who asks what they may do in it.
        if attributes.namespace.is_empty() || attributes.resource.resource == "localsubjectaccessreviews" {
            return ready(Ok(()));
        }
        let cached = view.get("", "namespaces", "", attributes.namespace);
        let phase = cached.as_ref().map(|namespace| namespace.str_at(&["status", "phase"]));
        match phase {
            Some("Active") if self.is_doubted(attributes.namespace, view.now()) => {}
            Some(phase) => return ready(decide(attributes, phase)),
            None => {}
        }
        Box::pin(async move {
            match view.get_fresh("", "namespaces", "", attributes.namespace).await {
                Some(namespace) => decide(attributes, namespace.str_at(&["status", "phase"])),
                None => Err(Status::not_found(&GroupResource::new("", "namespaces"), attributes.namespace)),
            }
        })
    }
}

impl NamespaceLifecycle {
    fn delete(&self, attributes: &Attributes<'_>, now: i64) -> Result<(), Status> {
        if attributes.operation != Operation::Delete {
            return Ok(());
        }
        if IMMORTAL.contains(&attributes.name) {
            return Err(forbidden(attributes, "this namespace may not be deleted"));
        }
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        doubted.retain(|(name, until)| *until > now && name != attributes.name);
        if doubted.len() >= DOUBTED_MAX {
            doubted.pop_front();
        }
        doubted.push_back((attributes.name.into(), now + DOUBT_SECONDS));
        Ok(())
    }

    fn is_doubted(&self, namespace: &str, now: i64) -> bool {
        let doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        doubted.iter().any(|(name, until)| name == namespace && *until > now)
    }
}

fn is_namespaces(resource: &GroupResource) -> bool {
    resource.resource == "namespaces" && resource.group.is_empty()
}

fn decide(attributes: &Attributes<'_>, phase: &str) -> Result<(), Status> {
    if attributes.operation != Operation::Create || phase != "Terminating" {
        return Ok(());
    }
    let namespace = attributes.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut refusal = forbidden(attributes, why);
    refusal.causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {namespace} is being terminated").into(),
        field: "metadata.namespace".into(),
    });
    Err(refusal)
}
