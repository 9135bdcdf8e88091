//! Pods stay on a Node that is not ready or out of reach for five minutes, unless they say otherwise.

use admission::{Attributes, BoxFuture, Operation, Plugin, View};
use api_schema::Value;
use api_semantics::status::{GroupResource, Status};

use crate::refusal::ready;

const NO_EXECUTE: &str = "NoExecute";

/// See the module.
pub(crate) struct DefaultTolerationSeconds {
    pub(crate) not_ready_seconds: i64,
    pub(crate) unreachable_seconds: i64,
}

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, resource: &GroupResource, subresource: &str, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && resource.resource == "pods"
            && resource.group.is_empty()
            && subresource.is_empty()
    }

    fn mutates(&self) -> bool {
        true
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a mut Attributes<'_>,
        _view: &'a dyn View,
    ) -> BoxFuture<'a, Result<(), Status>> {
        if let Some(pod) = attributes.object.as_deref_mut() {
            let missing: Vec<Value> = [
                ("node.kubernetes.io/not-ready", self.not_ready_seconds),
                ("node.kubernetes.io/unreachable", self.unreachable_seconds),
            ]
            .into_iter()
            .filter(|(taint, _)| !tolerates(pod, taint))
            .map(|(taint, seconds)| toleration(taint, seconds))
            .collect();
            if !missing.is_empty() {
                let tolerations = pod.entry(&["spec", "tolerations"]);
                match tolerations.as_list_mut() {
                    Some(tolerations) => tolerations.extend(missing),
                    None => *tolerations = missing.into(),
                }
            }
        }
        ready(Ok(()))
    }
}

/// Whether the Pod says anything about eviction because of this taint.
fn tolerates(pod: &Value, taint: &str) -> bool {
    pod.list_at(&["spec", "tolerations"]).iter().any(|toleration| {
        let (key, effect) = (toleration.str_at(&["key"]), toleration.str_at(&["effect"]));
        (key == taint || key.is_empty()) && (effect == NO_EXECUTE || effect.is_empty())
    })
}

fn toleration(taint: &str, seconds: i64) -> Value {
    let mut toleration = Value::from([("effect", NO_EXECUTE), ("key", taint), ("operator", "Exists")]);
    toleration.set(&["tolerationSeconds"], seconds);
    toleration
}
