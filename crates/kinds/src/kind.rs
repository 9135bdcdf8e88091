//! The one shape that every kind has.

use api_schema::{SmolStr, Value};
use api_semantics::field::ErrorList;

/// What one kind adds to the generic flow. Every method has a default: a kind states only what differs.
///
/// Objects come in their versioned (wire) form, already decoded and normalised by schema. The registry has done
/// what holds for all kinds before it asks: metadata rules (names, labels, annotations, owner references,
/// finalizers), uid and creationTimestamp, generation, dropping or keeping `status`, immutable metadata.
pub trait Kind: Send + Sync {
    /// The API group; empty for core.
    fn group(&self) -> &str;

    /// The plural name in paths.
    fn resource(&self) -> &str;

    /// Fills what the client left out. Doing it twice is doing it once. Runs on every decoded body and on every
    /// object that an older version may have stored.
    fn default(&self, _object: &mut Value) {}

    /// Prepares a new object: clears what clients may not set, derives what is derived.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Prepares an update of the main resource (`status` is already the old one where the kind has a status
    /// subresource).
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// Prepares an update through the `status` subresource (everything but `status` is already the old one, but
    /// for the metadata that status updates may change).
    fn prepare_status_update(&self, _new: &mut Value, _old: &Value) {}

    /// Checks a new object; metadata is already checked.
    fn validate(&self, _object: &Value) -> ErrorList {
        ErrorList::new()
    }

    /// Checks an update of the main resource: all that [`Kind::validate`] checks and what may not change.
    fn validate_update(&self, new: &Value, _old: &Value) -> ErrorList {
        self.validate(new)
    }

    /// Checks an update through the `status` subresource.
    fn validate_status_update(&self, _new: &Value, _old: &Value) -> ErrorList {
        ErrorList::new()
    }

    /// Warnings for the client (HTTP `Warning` headers) on create (`old` is none) and update.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// The warning that every request for a deprecated kind gets.
    fn deprecation(&self) -> Option<&'static str> {
        None
    }

    /// Checks `metadata.name`; gives upstream's messages. `prefix` says that it is a generateName.
    fn check_name(&self, name: &str, prefix: bool) -> Vec<String> {
        api_semantics::names::dns1123_subdomain(name, prefix)
    }

    /// Whether an update without resourceVersion overwrites whatever is there.
    fn unconditional_update(&self) -> bool {
        true
    }

    /// Whether an update of a missing object creates it.
    fn create_on_update(&self) -> bool {
        false
    }

    /// Whether `metadata.generation` counts the changes of everything but metadata and status.
    fn has_generation(&self) -> bool {
        true
    }

    /// The table cells of an object, one for each of `api_types::columns(kind)`; none if the kind has no printer.
    /// `now` is in Unix seconds.
    fn cells(&self, _object: &Value, _now: i64) -> Option<Vec<Value>> {
        None
    }

    /// What is added to a stored object whenever it is read: facts that protobuf has no place for. Most kinds have none.
    fn on_read(&self) -> Option<fn(&mut Value)> {
        None
    }

    /// The field selector labels beside metadata.name and metadata.namespace.
    fn selectable_fields(&self) -> &[&'static str] {
        &[]
    }

    /// The value of a selectable field.
    fn selectable_field(&self, object: &Value, label: &str) -> SmolStr {
        let path: Vec<&str> = label.split('.').collect();
        match object.at(&path) {
            Some(Value::Str(text)) => text.clone(),
            Some(Value::Bool(flag)) => SmolStr::new(if *flag { "true" } else { "false" }),
            Some(Value::Int(number)) => api_schema::format_smolstr!("{number}"),
            _ => SmolStr::default(),
        }
    }

    /// The grace period for deleting this object, in seconds, given what the client asked for; `None` if the kind
    /// is deleted at once. 0 means at once, too. Pods differ.
    fn grace_period_seconds(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether a new object may bring its `status` along (the few kinds whose status clients report at creation).
    fn keeps_status_on_create(&self) -> bool {
        false
    }

    /// Whether [`Kind::validate`] checks everything, so that the rules of the tables ([`crate::schema_rules`]) need
    /// not be asked. A kind with a file of its own does, unless it says otherwise.
    fn full_validation(&self) -> bool {
        true
    }

    /// Whether an update of the main resource checks the metadata as that of a new object, with [`Kind::check_name`]
    /// (all that it can say beside the generic rules is about generateName).
    fn checks_metadata_on_update(&self) -> bool {
        true
    }

    /// The conditions of an object's table row, such as `Completed` of a finished Pod.
    fn row_conditions(&self, _object: &Value) -> Vec<Value> {
        Vec::new()
    }

    /// Prepares an update through a subresource other than `status`, such as `approval`.
    fn prepare_subresource_update(&self, _subresource: &str, _new: &mut Value, _old: &Value) {}

    /// Checks an update through a subresource other than `status`.
    fn validate_subresource_update(&self, _subresource: &str, _new: &Value, _old: &Value) -> ErrorList {
        ErrorList::new()
    }

    /// Fills in times that are the server's to give. Runs after the preparation of every create (`old` is none) and
    /// update, through whatever subresource; `now` is as in metadata.
    fn stamp(&self, _new: &mut Value, _old: Option<&Value>, _now: &str) {}

    /// Whether a deletion answers with the object rather than with a Status.
    fn returns_deleted_object(&self) -> bool {
        false
    }

    /// Whether a deletion that says nothing about dependents leaves them where they are.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// The warning for a deletion that says nothing about dependents.
    fn deletion_warning(&self) -> Option<&'static str> {
        None
    }
}

/// A kind with no behaviour of its own.
#[derive(Debug)]
pub struct Plain {
    /// The API group.
    pub group: SmolStr,
    /// The plural name.
    pub resource: SmolStr,
}

impl Kind for Plain {
    fn group(&self) -> &str {
        &self.group
    }

    fn resource(&self) -> &str {
        &self.resource
    }

    fn full_validation(&self) -> bool {
        false
    }
}
