//! A new Node is not ready: nothing is scheduled on it until its controller says so.

use admission::{Attributes, BoxFuture, Operation, Plugin, View};
use api_schema::Value;
use api_semantics::status::{GroupResource, Status};

use crate::refusal::ready;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

/// See the module.
pub(crate) struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, resource: &GroupResource, subresource: &str, operation: Operation) -> bool {
        operation == Operation::Create
            && resource.resource == "nodes"
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
        if let Some(node) = attributes.object.as_deref_mut() {
            add_taint(node);
        }
        ready(Ok(()))
    }
}

fn add_taint(node: &mut Value) {
    let is_it = |taint: &Value| taint.str_at(&["key"]) == NOT_READY && taint.str_at(&["effect"]) == NO_SCHEDULE;
    if node.list_at(&["spec", "taints"]).iter().any(is_it) {
        return;
    }
    let taint = Value::from([("effect", NO_SCHEDULE), ("key", NOT_READY)]);
    let taints = node.entry(&["spec", "taints"]);
    match taints.as_list_mut() {
        Some(taints) => taints.push(taint),
        None => *taints = vec![taint].into(),
    }
}
