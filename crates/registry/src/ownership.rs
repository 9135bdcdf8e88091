//! Who owns which field: managedFields on every write, and server-side apply.

use api_codec::{json, yaml};
use api_patch::ObjectType;
use api_patch::managed_fields::{FieldManager, ResetFields};
use api_schema::Value;
use api_semantics::status::Status;
use world::Timestamp;

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
            "" => &self.main,
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
    note(served, cx, Some(old), new, subresource, now)
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

/// Reads an applied configuration: YAML or JSON, without defaults and zero values of its own.
pub(crate) fn decode_applied(served: &Served, body: &[u8], cx: &mut Context) -> Result<Value, Status> {
    let validation = cx.options.field_validation;
    let options = json::Options { problems: validation != FieldValidation::Ignore };
    let decoded = yaml::decode(None, body, options)
        .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    // Unknown fields are found by the type; here only what stands twice.
    let texts: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
    if !texts.is_empty() {
        if validation == FieldValidation::Strict {
            return Err(Status::bad_request(format!("error strict decoding YAML: {}", texts.join(", "))));
        }
        cx.warnings.extend(texts);
    }
    let stated = decoded.value.str_at(&["apiVersion"]);
    if stated != served.api_version && !stated.is_empty() {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {stated}, expected: {}",
            served.api_version
        )));
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
