//! The roles and bindings that every cluster starts with, and how those of an earlier start are brought up to date.

use api_schema::{Map, SmolStr, Value};

use crate::rbac::GROUP;
use crate::rule::{Rule, uncovered};

const TABLE: &str = include_str!("bootstrap.tsv");
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// All default objects, each with the resource it is of, roles before the bindings that name them. Roles that aggregate
/// have the rules they gather from the default ones.
pub fn objects() -> Vec<(&'static str, Value)> {
    let mut objects = parse(TABLE);
    let roles: Vec<Value> =
        objects.iter().filter(|(resource, _)| *resource == "clusterroles").map(|(_, role)| role.clone()).collect();
    // `admin` gathers `edit`, which gathers for itself: as many rounds as it takes.
    let mut roles = roles;
    loop {
        let gathered: Vec<Option<Vec<Value>>> =
            roles.iter().map(|role| crate::aggregation::aggregate(role, roles.iter())).collect();
        let mut changed = false;
        for (role, rules) in roles.iter_mut().zip(gathered) {
            if let Some(rules) = rules.filter(|rules| role.list_at(&["rules"]) != rules) {
                role.set(&["rules"], rules);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let mut roles = roles.into_iter();
    for (_, object) in objects.iter_mut().filter(|(resource, _)| *resource == "clusterroles") {
        if let Some(role) = roles.next() {
            *object = role;
        }
    }
    objects
}

/// The rules of the ClusterRole `system:node`, which the Node authorizer grants beside what depends on the object.
pub fn node_rules() -> Vec<Rule> {
    let objects = parse(TABLE);
    let role = objects.iter().find(|(_, object)| object.str_at(&["metadata", "name"]) == "system:node");
    role.map(|(_, role)| Rule::list(role)).unwrap_or_default()
}

/// What must be written so that `existing` grants what `wanted` does: missing labels, annotations, rules, selectors and
/// subjects are added, others stay. `None` if nothing is to be done, also because the existing object has the annotation
/// `rbac.authorization.kubernetes.io/autoupdate: "false"`.
///
/// An answer without `metadata.uid` is a new object: if one exists (a binding to another role), it must be deleted first.
pub fn reconcile(existing: Option<&Value>, wanted: &Value) -> Option<Value> {
    let Some(existing) = existing else { return Some(wanted.clone()) };
    if existing.map_at(&["metadata", "annotations"]).and_then(|all| all.get(AUTO_UPDATE)).and_then(Value::as_str)
        == Some("false")
    {
        return None;
    }
    if existing.get("roleRef") != wanted.get("roleRef") {
        return Some(wanted.clone());
    }
    let mut result = existing.clone();
    for field in ["annotations", "labels"] {
        for (key, value) in wanted.map_at(&["metadata", field]).into_iter().flat_map(Map::iter) {
            if !existing.map_at(&["metadata", field]).is_some_and(|own| own.contains_key(key)) {
                result.entry(&["metadata", field]).make_map().insert(key.clone(), value.clone());
            }
        }
    }
    match (existing.get("aggregationRule"), wanted.get("aggregationRule")) {
        (_, Some(aggregation)) => add_missing(
            &mut result,
            &["aggregationRule", "clusterRoleSelectors"],
            aggregation.list_at(&["clusterRoleSelectors"]),
        ),
        (Some(_), None) => {
            result.remove(&["aggregationRule"]);
        }
        (None, None) => {}
    }
    // What an aggregating role gathered is its controller's business.
    if wanted.get("aggregationRule").is_none() {
        let missing = uncovered(&Rule::list(existing), &Rule::list(wanted));
        append(&mut result, &["rules"], missing.iter().map(Rule::to_value));
    }
    add_missing(&mut result, &["subjects"], wanted.list_at(&["subjects"]));
    (result != *existing).then_some(result)
}

fn add_missing(object: &mut Value, path: &[&str], wanted: &[Value]) {
    let missing: Vec<Value> = wanted.iter().filter(|one| !object.list_at(path).contains(one)).cloned().collect();
    append(object, path, missing.into_iter());
}

fn append(object: &mut Value, path: &[&str], items: impl ExactSizeIterator<Item = Value>) {
    if items.len() == 0 {
        return;
    }
    let list = object.entry(path);
    match list.as_list_mut() {
        Some(list) => list.extend(items),
        None => *list = Value::List(items.collect()),
    }
}

/// Reads the table; its head says how it is written.
fn parse(table: &str) -> Vec<(&'static str, Value)> {
    let mut objects: Vec<(&'static str, Value)> = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let columns: Vec<&str> = line.split('\t').collect();
        let last = objects.last_mut().map(|(_, object)| object);
        match (&columns[..], last) {
            (["", "rule", groups, resources, verbs, names @ ..], Some(role)) => {
                let names = names.first().map(|names| list(names)).unwrap_or_default();
                let rule = Rule {
                    verbs: list(verbs),
                    api_groups: list(groups),
                    resources: list(resources),
                    resource_names: names,
                    ..Rule::default()
                };
                append(role, &["rules"], [rule.to_value()].into_iter());
            }
            (["", "urls", urls, verbs], Some(role)) => {
                let rule = Rule { verbs: list(verbs), non_resource_urls: list(urls), ..Rule::default() };
                append(role, &["rules"], [rule.to_value()].into_iter());
            }
            (["", "aggregate", labels @ ..], Some(role)) => {
                let selector = Value::from([("matchLabels", labels_map(labels))]);
                append(role, &["aggregationRule", "clusterRoleSelectors"], [selector].into_iter());
            }
            (["", "of", kind, name], Some(binding)) => {
                binding.set(&["roleRef"], [("apiGroup", GROUP), ("kind", *kind), ("name", *name)]);
            }
            (["", "to", kind, "-", name], Some(binding)) => {
                let subject = Value::from([("apiGroup", GROUP), ("kind", *kind), ("name", *name)]);
                append(binding, &["subjects"], [subject].into_iter());
            }
            (["", "to", kind, namespace, name], Some(binding)) => {
                let subject = Value::from([("kind", *kind), ("name", *name), ("namespace", *namespace)]);
                append(binding, &["subjects"], [subject].into_iter());
            }
            (
                [kind @ ("ClusterRole" | "Role" | "ClusterRoleBinding" | "RoleBinding"), namespace, name, labels @ ..],
                _,
            ) => {
                objects.push(head(kind, namespace, name, labels));
            }
            // The table is ours, and a test reads it: nothing else can be in it.
            _ => unreachable!("the table of default roles has the line {line:?}"),
        }
    }
    objects
}

fn head(kind: &str, namespace: &str, name: &str, labels: &[&str]) -> (&'static str, Value) {
    let resource = match kind {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        "ClusterRoleBinding" => "clusterrolebindings",
        _ => "rolebindings",
    };
    let mut object = Value::from([("apiVersion", "rbac.authorization.k8s.io/v1"), ("kind", kind)]);
    object.set(&["metadata", "name"], name);
    if namespace != "-" {
        object.set(&["metadata", "namespace"], namespace);
    }
    let mut labels = labels_map(labels);
    labels.insert("kubernetes.io/bootstrapping", "rbac-defaults");
    object.set(&["metadata", "labels"], labels);
    object.set(&["metadata", "annotations"], [(AUTO_UPDATE, "true")]);
    (resource, object)
}

fn labels_map(labels: &[&str]) -> Map {
    labels
        .iter()
        .filter_map(|label| label.split_once('='))
        .map(|(key, value)| (SmolStr::new(key), Value::str(value)))
        .collect()
}

fn list(text: &str) -> Vec<SmolStr> {
    text.split(',').map(|one| if one == "core" { SmolStr::default() } else { one.into() }).collect()
}
