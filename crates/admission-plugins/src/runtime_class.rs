//! A Pod that names a RuntimeClass takes over the class's overhead and where it may be scheduled.

use admission::{Attributes, BoxFuture, Operation, Plugin, View};
use api_schema::{Map, Value};
use api_semantics::status::{GroupResource, Status};

use crate::refusal::forbidden;

/// See the module.
pub(crate) struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, resource: &GroupResource, subresource: &str, operation: Operation) -> bool {
        operation == Operation::Create
            && resource.resource == "pods"
            && resource.group.is_empty()
            && subresource.is_empty()
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
        Box::pin(async move {
            let Some(class) = class_of(attributes, view).await? else { return Ok(()) };
            take_overhead(attributes, &class)?;
            take_scheduling(attributes, &class)
        })
    }

    fn validate<'a>(&'a self, attributes: &'a Attributes<'_>, view: &'a dyn View) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let class = class_of(attributes, view).await?;
            let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
            let has = pod.at(&["spec", "overhead"]);
            match class.as_ref().and_then(overhead) {
                Some(wants) if !is_same(has, wants) => Err(forbidden(attributes, MISMATCH)),
                None if has.is_some() => Err(forbidden(
                    attributes,
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
                )),
                _ => Ok(()),
            }
        })
    }
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// The class that the Pod names. Classes are often made just before their Pods, so a cached miss is looked after.
async fn class_of(attributes: &Attributes<'_>, view: &dyn View) -> Result<Option<Value>, Status> {
    let name = attributes.object.as_deref().and_then(|pod| pod.at(&["spec", "runtimeClassName"])?.as_str());
    let Some(name) = name else { return Ok(None) };
    let (group, resource) = ("node.k8s.io", "runtimeclasses");
    let class = match view.get(group, resource, "", name) {
        None => view.get_fresh(group, resource, "", name).await,
        class => class,
    };
    let missing = || forbidden(attributes, format!("pod rejected: RuntimeClass \"{name}\" not found"));
    class.map(Some).ok_or_else(missing)
}

/// What the class says of overhead, if it says anything.
fn overhead(class: &Value) -> Option<Option<&Value>> {
    class.at(&["overhead"]).map(|overhead| overhead.at(&["podFixed"]))
}

/// Whether two amounts are the same; none is as good as an empty one.
fn is_same(one: Option<&Value>, other: Option<&Value>) -> bool {
    let filled = |value: &&Value| value.as_map().is_some_and(|map| !map.is_empty());
    one.filter(filled) == other.filter(filled)
}

fn take_overhead(attributes: &mut Attributes<'_>, class: &Value) -> Result<(), Status> {
    let Some(wants) = overhead(class) else { return Ok(()) };
    let has = attributes.object.as_deref().and_then(|pod| pod.at(&["spec", "overhead"]));
    if !is_same(has, None) && !is_same(has, wants) {
        return Err(forbidden(attributes, MISMATCH));
    }
    let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
    match wants {
        Some(wants) => pod.set(&["spec", "overhead"], wants.clone()),
        None => {
            pod.remove(&["spec", "overhead"]);
        }
    }
    Ok(())
}

fn take_scheduling(attributes: &mut Attributes<'_>, class: &Value) -> Result<(), Status> {
    let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
    for (key, wants) in class.map_at(&["scheduling", "nodeSelector"]).into_iter().flat_map(Map::iter) {
        let wants = wants.as_str().unwrap_or_default();
        if let Some(has) = pod.at(&["spec", "nodeSelector", key]).and_then(Value::as_str)
            && has != wants
        {
            return Err(forbidden(
                attributes,
                format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wants}; pod.spec.nodeSelector[{key}] = {has}"
                ),
            ));
        }
    }
    let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
    for (key, wants) in class.map_at(&["scheduling", "nodeSelector"]).into_iter().flat_map(Map::iter) {
        pod.set(&["spec", "nodeSelector", key], wants.clone());
    }
    if class.at(&["scheduling"]).is_some() {
        let all = [pod.list_at(&["spec", "tolerations"]), class.list_at(&["scheduling", "tolerations"])].concat();
        if !all.is_empty() {
            pod.set(&["spec", "tolerations"], Value::from(merge(all)));
        }
    }
    Ok(())
}

/// The tolerations without those that another one of them covers; of equal ones the first stays.
fn merge(all: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(all.len());
    for (index, toleration) in all.iter().enumerate() {
        let mut later = all[index + 1..].iter().filter(|other| *other != toleration);
        if !merged.iter().any(|kept| covers(kept, toleration)) && !later.any(|other| covers(other, toleration)) {
            merged.push(toleration.clone());
        }
    }
    merged
}

/// Whether one toleration tolerates at least what another one does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    let of = |toleration: &Value, field: &str| toleration.str_at(&[field]).to_owned();
    let (key, effect, operator) = (of(wide, "key"), of(wide, "effect"), of(wide, "operator"));
    if wide == narrow {
        return true;
    }
    let any_key = key.is_empty() && operator == "Exists";
    if of(narrow, "key") != key && !any_key || of(narrow, "effect") != effect && !effect.is_empty() {
        return false;
    }
    if effect == "NoExecute"
        && let Some(seconds) = wide.int_at(&["tolerationSeconds"])
        && narrow.int_at(&["tolerationSeconds"]).is_none_or(|other| other > seconds)
    {
        return false;
    }
    match operator.as_str() {
        "Exists" => true,
        "" | "Equal" => of(narrow, "operator") == "Equal" && of(narrow, "value") == of(wide, "value"),
        _ => false,
    }
}
