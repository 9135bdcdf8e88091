//! Who owns which field: managedFields on every write, and server-side apply.

use api_codec::{json, yaml};
use api_patch::ObjectType;
use api_patch::managed_fields::{FieldManager, ResetFields};
use api_schema::Value;
use api_semantics::status::Status;
use world::Timestamp;

use crate::body::Layout;
use crate::codec;
use crate::options::FieldValidation;
use crate::storage::Served;
use crate::write::Context;

const MANAGED_FIELDS: &[&str] = &["metadata", "managedFields"];

/// What writes through a resource and through its subresources reset, and so nobody can own there.
#[derive(Debug)]
pub struct Resets {
    main: ResetFields,
    status: ResetFields,
    none: ResetFields,
}

impl Resets {
    /// The resets of a kind with or without a status subresource.
    pub(crate) fn new(has_status: bool) -> Self {
        let main = if has_status { ResetFields::exclude(&[&["status"]]) } else { ResetFields::None };
        Self { main, status: ResetFields::exclude(&[&["spec"]]), none: ResetFields::None }
    }

    fn of(&self, subresource: &str) -> &ResetFields {
        match subresource {
            "" | "scale" => &self.main,
            "status" => &self.status,
            _ => &self.none,
        }
    }
}

fn manager<'a>(served: &'a Served, subresource: &'a str) -> FieldManager<'a> {
    FieldManager {
        ty: ObjectType::Struct(&served.storage.schema, served.type_id),
        api_version: &served.api_version,
        kind: &served.info.kind,
        subresource,
        reset: served.storage.resets.of(subresource),
        versions: None,
    }
}

/// Notes who made a new object. Objects are in the stored version.
pub(crate) fn on_create(served: &Served, cx: &Context, object: &mut Value, now: Timestamp) -> Result<(), Status> {
    note(served, cx, None, object, "", now)
}

/// Notes who changed an object, and how. Objects are in the stored version.
pub(crate) fn on_update(
    served: &Served,
    cx: &Context,
    old: &Value,
    new: &mut Value,
    subresource: &str,
    now: Timestamp,
) -> Result<(), Status> {
    note(served, cx, Some(old), new, subresource, now)?;
    if subresource == "scale"
        && let Some(Value::List(entries)) = new.at_mut(MANAGED_FIELDS)
    {
        // What is owned through a Scale is taken over from it, which leaves the time behind.
        for entry in entries.iter_mut().filter(|entry| entry.str_at(&["subresource"]) == "scale") {
            entry.remove(&["time"]);
        }
    }
    Ok(())
}

fn note(
    served: &Served,
    cx: &Context,
    old: Option<&Value>,
    new: &mut Value,
    subresource: &str,
    now: Timestamp,
) -> Result<(), Status> {
    if cx.applies {
        // Apply has noted its fields itself.
        return Ok(());
    }
    let (field_manager, now) = (manager(served, subresource), codec::time(now));
    if !served.converts() {
        field_manager.update(old, new, &cx.options.field_manager, &now);
        return Ok(());
    }
    let old = old.map(|old| codec::to_served(served, old.clone())).transpose()?;
    let mut shown = codec::to_served(served, new.clone())?;
    field_manager.update(old.as_ref(), &mut shown, &cx.options.field_manager, &now);
    match shown.remove(MANAGED_FIELDS) {
        Some(entries) => new.set(MANAGED_FIELDS, entries),
        None => drop(new.remove(MANAGED_FIELDS)),
    }
    Ok(())
}

/// Problems as warnings: those of a YAML reader are lines under a headline, each a warning of its own.
pub(crate) fn problem_warnings(problems: &[json::Problem]) -> Vec<String> {
    let mut warnings = Vec::new();
    for problem in problems {
        match problem {
            json::Problem::Yaml(text) => {
                let lines = text.lines().map(str::trim).filter(|line| !line.ends_with("unmarshal errors:"));
                warnings.extend(lines.map(str::to_owned));
            }
            problem => warnings.push(problem.to_string()),
        }
    }
    warnings
}

/// Keeps an empty list of managed fields, by which a client stops their tracking and which no type keeps.
pub(crate) fn keep_untracked(stated: &Value, decoded: &mut Value) {
    if matches!(stated.at(MANAGED_FIELDS), Some(Value::List(entries)) if entries.is_empty()) {
        decoded.set(MANAGED_FIELDS, Vec::<Value>::new());
    }
}

/// [`keep_untracked`] for an object that was decoded from `body`.
pub fn keep_untracked_body(layout: Layout, body: &[u8], decoded: &mut Value) {
    const FIELD: &[u8] = b"managedFields";
    if decoded.at(MANAGED_FIELDS).is_some() || !body.windows(FIELD.len()).any(|part| part == FIELD) {
        return;
    }
    let stated = match layout {
        Layout::Json => json::decode(None, body, json::Options::default()).ok(),
        Layout::Yaml => yaml::decode(None, body, json::Options::default()).ok(),
        Layout::Protobuf => None,
    };
    if let Some(stated) = stated {
        keep_untracked(&stated.value, decoded);
    }
}

/// Reads an applied configuration: YAML or JSON, without defaults and zero values of its own.
pub(crate) fn decode_applied(served: &Served, body: &[u8], cx: &mut Context) -> Result<Value, Status> {
    let validation = cx.options.field_validation;
    let options = json::Options { problems: validation != FieldValidation::Ignore };
    let decoded = yaml::decode(None, body, options)
        .map_err(|error| Status::bad_request(format!("error decoding YAML: error converting YAML to JSON: {error}")))?;
    // Unknown fields are found by the type; here only what stands twice.
    if !decoded.problems.is_empty() {
        if validation == FieldValidation::Strict {
            let texts: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
            let why = texts.join(", ");
            return Err(Status::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: {why}"
            )));
        }
        cx.warnings.extend(problem_warnings(&decoded.problems));
    }
    if !matches!(decoded.value, Value::Map(_) | Value::Null) {
        return Err(Status::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go \
             value of type map[string]interface {{}}",
            decoded.value.type_name()
        )));
    }
    let stated = decoded.value.str_at(&["apiVersion"]);
    if stated != served.api_version && !stated.is_empty() {
        let (group, version) = stated.rsplit_once('/').unwrap_or(("", stated));
        let kind = decoded.value.str_at(&["kind"]);
        return Err(Status::bad_request(format!("invalid object type: {group}/{version}, Kind={kind}")));
    }
    Ok(decoded.value)
}

/// Lays a configuration over the live object, both in the served version.
pub(crate) fn apply(
    served: &Served,
    cx: &Context,
    live: Option<&Value>,
    applied: &Value,
    subresource: &str,
    now: Timestamp,
) -> Result<Value, Status> {
    let options = &cx.options;
    manager(served, subresource)
        .apply(live, applied, &options.field_manager, options.force == Some(true), &codec::time(now))
        .map_err(|error| error.to_status())
}

/// Takes back an update of times alone, so that a write that changes nothing is none.
pub(crate) fn keep_times(old: &Value, new: &mut Value) {
    api_patch::managed_fields::keep_times_of_unchanged(old, new);
}
