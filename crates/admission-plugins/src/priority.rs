//! A Pod's priority follows from its PriorityClass; only one class is the default.

use admission::{Attributes, BoxFuture, Operation, Plugin, View};
use api_schema::Value;
use api_semantics::status::{GroupResource, Status};

use crate::refusal::{forbidden, ready};

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: &str = "priorityclasses";

/// See the module.
pub(crate) struct Priority;

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, resource: &GroupResource, subresource: &str, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && subresource.is_empty()
            && matches!((&*resource.group, &*resource.resource), ("", "pods") | (GROUP, CLASSES))
    }

    fn mutates(&self) -> bool {
        true
    }

    fn validates(&self) -> bool {
        true
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a mut Attributes<'_>,
        view: &'a dyn View,
    ) -> BoxFuture<'a, Result<(), Status>> {
        if attributes.resource.resource != "pods" {
            return ready(Ok(()));
        }
        ready(if attributes.operation == Operation::Create {
            set_priority(attributes, view)
        } else {
            keep_priority(attributes);
            Ok(())
        })
    }

    fn validate<'a>(&'a self, attributes: &'a Attributes<'_>, view: &'a dyn View) -> BoxFuture<'a, Result<(), Status>> {
        let Some(class) = attributes.object.as_deref().filter(|_| attributes.resource.resource == CLASSES) else {
            return ready(Ok(()));
        };
        if class.bool_at(&["globalDefault"]) != Some(true) {
            return ready(Ok(()));
        }
        let name = class.str_at(&["metadata", "name"]);
        let other = default_class(view).map(|class| class.str_at(&["metadata", "name"]).to_owned());
        ready(match other {
            Some(other) if attributes.operation == Operation::Create || other != name => Err(forbidden(
                attributes,
                format!("PriorityClass {other} is already marked as default. Only one default can exist"),
            )),
            _ => Ok(()),
        })
    }
}

/// Clients that do not know the fields leave them out of updates.
fn keep_priority(attributes: &mut Attributes<'_>) {
    let (Some(pod), Some(old)) = (attributes.object.as_deref_mut(), attributes.old) else { return };
    for field in ["priority", "preemptionPolicy"] {
        if let Some(value) = old.at(&["spec", field]).filter(|_| pod.at(&["spec", field]).is_none()) {
            pod.set(&["spec", field], value.clone());
        }
    }
}

fn set_priority(attributes: &mut Attributes<'_>, view: &dyn View) -> Result<(), Status> {
    let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
    let name = pod.str_at(&["spec", "priorityClassName"]);
    let class = if name.is_empty() {
        default_class(view)
    } else {
        let class = view.get(GROUP, CLASSES, "", name);
        Some(class.ok_or_else(|| forbidden(attributes, format!("no PriorityClass with name {name} was found")))?)
    };
    let (name, priority, policy) = match &class {
        Some(class) => (
            class.str_at(&["metadata", "name"]),
            class.int_at(&["value"]).unwrap_or_default(),
            class.at(&["preemptionPolicy"]).and_then(Value::as_str),
        ),
        None => ("", 0, Some("PreemptLowerPriority")),
    };
    if let Some(given) = pod.int_at(&["spec", "priority"]).filter(|given| *given != priority) {
        return Err(forbidden(
            attributes,
            format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            ),
        ));
    }
    let given = pod.at(&["spec", "preemptionPolicy"]).and_then(Value::as_str);
    if let (Some(given), Some(policy)) = (given, policy)
        && given != policy
    {
        return Err(forbidden(
            attributes,
            format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            ),
        ));
    }
    let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
    if !name.is_empty() {
        pod.set(&["spec", "priorityClassName"], name);
    }
    pod.set(&["spec", "priority"], priority);
    if let Some(policy) = policy {
        pod.set(&["spec", "preemptionPolicy"], policy);
    }
    Ok(())
}

/// The class that is marked as default; the lowest, should a race have left several.
fn default_class(view: &dyn View) -> Option<Value> {
    let classes = view.list(GROUP, CLASSES, "").into_iter();
    classes
        .filter(|class| class.bool_at(&["globalDefault"]) == Some(true))
        .min_by_key(|class| class.int_at(&["value"]).unwrap_or_default())
}
