//! The entries of `metadata.managedFields`: reading, writing, identity and order.

use api_schema::{Map, SmolStr, Value, format_smolstr};
use api_semantics::field::quoted;
use api_semantics::time::rfc3339;

use crate::field_set::FieldSet;
use crate::json;

/// Where the entries are.
pub(crate) const PATH: &[&str] = &["metadata", "managedFields"];

/// By what sort of request a manager came to its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else: create, update, the classic patches.
    Update,
}

impl Operation {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who a manager is. Appliers keep their identity across versions of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// The name that the client gave.
    pub name: SmolStr,
    /// By what sort of request.
    pub operation: Operation,
    /// The version that the fields are named in.
    pub api_version: SmolStr,
    /// The subresource that it wrote through; empty if none.
    pub subresource: SmolStr,
}

impl Manager {
    /// Whether two are one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// The text that upstream knows a manager by, which decides some orders.
    pub(crate) fn identifier(&self) -> String {
        let mut out = String::from("{");
        let version = if self.operation == Operation::Apply { "" } else { self.api_version.as_str() };
        let fields = [
            ("manager", self.name.as_str()),
            ("operation", self.operation.name()),
            ("apiVersion", version),
            ("subresource", self.subresource.as_str()),
        ];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            if out.len() > 1 {
                out.push(',');
            }
            json::write_string(name, true, &mut out);
            out.push(':');
            json::write_string(value, true, &mut out);
        }
        out.push('}');
        out
    }
}

impl std::fmt::Display for Manager {
    /// As conflicts name it: `"kubectl" with subresource "status" using apps/v1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&quoted(&self.name))?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {}", quoted(&self.subresource))?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// One manager and its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who.
    pub manager: Manager,
    /// When the entry last changed, RFC 3339; empty if unknown.
    pub time: SmolStr,
    /// What it owns.
    pub fields: FieldSet,
}

impl Entry {
    /// Reads one entry; an error says what upstream says.
    fn decode(at: usize, value: &Value) -> Result<Self, String> {
        let operation = match value.str_at(&["operation"]) {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        let text = |name: &str| match value.get(name) {
            Some(Value::Str(text)) => text.clone(),
            _ => SmolStr::default(),
        };
        let manager = Manager {
            name: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
        };
        if manager.api_version.is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match value.str_at(&["fieldsType"]) {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
            other => return Err(format!("invalid fieldsType {} in managed fields entry {at}", quoted(other))),
        }
        let fields = match value.get("fieldsV1") {
            None => Ok(FieldSet::new()),
            Some(Value::Raw(text)) => FieldSet::parse(text),
            Some(tree) => {
                let mut text = String::new();
                json::write(tree, &mut text);
                FieldSet::parse(&text)
            }
        };
        let fields = fields.map_err(|error| format!("error decoding set: {error}"))?;
        Ok(Self { manager, time: text("time"), fields })
    }

    fn encode(&self) -> Value {
        let mut map = Map::with_capacity(7);
        map.insert("apiVersion", self.manager.api_version.clone());
        map.insert("fieldsType", "FieldsV1");
        map.insert("fieldsV1", Value::Raw(self.fields.to_text().into()));
        map.insert("manager", self.manager.name.clone());
        map.insert("operation", self.manager.operation.name());
        if !self.manager.subresource.is_empty() {
            map.insert("subresource", self.manager.subresource.clone());
        }
        if !self.time.is_empty() {
            map.insert("time", self.time.clone());
        }
        Value::Map(map)
    }

    /// The time in seconds; 0 if unknown.
    pub(crate) fn seconds(&self) -> i64 {
        if self.time.is_empty() { 0 } else { rfc3339(&self.time).unwrap_or_default() }
    }
}

/// Reads all entries; of two with one identity the later counts.
pub fn decode(entries: &[Value]) -> Result<Vec<Entry>, String> {
    let mut decoded: Vec<Entry> = Vec::with_capacity(entries.len() + 1);
    for (at, value) in entries.iter().enumerate() {
        let entry = Entry::decode(at, value)?;
        match decoded.iter_mut().find(|known| known.manager.is(&entry.manager)) {
            Some(known) => *known = entry,
            None => decoded.push(entry),
        }
    }
    Ok(decoded)
}

/// Writes all entries that own something, in upstream's order; `None` if none does.
pub fn encode(mut entries: Vec<Entry>) -> Option<Value> {
    if entries.is_empty() {
        return None;
    }
    if entries.len() > 1 {
        entries.sort_by(|l, r| {
            let by_name = |entry: &Entry| (entry.manager.operation, entry.seconds());
            by_name(l)
                .cmp(&by_name(r))
                .then_with(|| l.manager.name.as_str().cmp(r.manager.name.as_str()))
                .then_with(|| l.manager.api_version.as_str().cmp(r.manager.api_version.as_str()))
                .then_with(|| l.manager.subresource.as_str().cmp(r.manager.subresource.as_str()))
        });
    }
    Some(Value::List(entries.iter().map(Entry::encode).collect()))
}

/// How many Update managers an object keeps.
pub const UPDATE_MANAGERS_MAX: usize = 10;

/// The name under which the oldest Update managers are folded together.
const ANCIENT: SmolStr = SmolStr::new_static("ancient-changes");

/// Folds the oldest Update managers of each version together until there are no more than allowed.
pub(crate) fn cap(entries: &mut Vec<Entry>) {
    let mut count = entries.iter().filter(|entry| entry.manager.operation == Operation::Update).count();
    if count <= UPDATE_MANAGERS_MAX {
        return;
    }
    let mut updaters: Vec<Manager> = {
        let mut oldest: Vec<&Entry> =
            entries.iter().filter(|entry| entry.manager.operation == Operation::Update).collect();
        oldest.sort_by_cached_key(|entry| (entry.seconds(), entry.manager.identifier()));
        oldest.into_iter().map(|entry| entry.manager.clone()).collect()
    };
    // A version's first manager stays as it is until a second one is found to fold it with.
    let mut first_of_version: Vec<Manager> = Vec::new();
    for manager in updaters.drain(..) {
        if count <= UPDATE_MANAGERS_MAX {
            return;
        }
        let Some(first) = first_of_version.iter().find(|first| first.api_version == manager.api_version) else {
            first_of_version.push(manager);
            continue;
        };
        let bucket = Manager {
            name: ANCIENT,
            operation: Operation::Update,
            api_version: manager.api_version.clone(),
            subresource: SmolStr::default(),
        };
        if manager.is(&bucket) {
            continue;
        }
        if !entries.iter().any(|entry| entry.manager.is(&bucket))
            && let Some(entry) = entries.iter_mut().find(|entry| entry.manager.is(first))
        {
            entry.manager = bucket.clone();
        }
        let Some(at) = entries.iter().position(|entry| entry.manager.is(&manager)) else { continue };
        let folded = entries.remove(at);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.manager.is(&bucket)) {
            entry.fields.add(folded.fields);
            entry.time = folded.time;
            count -= 1;
        }
    }
}

/// Whether entries are well-formed, as they must be after admission plugins had the object; the error is the
/// sentence for the warning.
pub fn check(object: &Value) -> Result<(), String> {
    decode(object.list_at(PATH)).map(drop)
}

/// Gives an object the old times of its entries if nothing but these times changed, so that the write is none.
pub fn keep_times_of_unchanged(old: &Value, new: &mut Value) {
    let (old_entries, new_entries) = (old.list_at(PATH), new.list_at(PATH));
    if new_entries.is_empty() || old_entries.len() != new_entries.len() || old_entries == new_entries {
        return;
    }
    let same_but_time = |old: &Value, new: &Value| match (old, new) {
        (Value::Map(old), Value::Map(new)) => {
            let rest = |map: &Map| {
                map.iter().filter(|(key, _)| *key != "time").map(|(k, v)| (k.clone(), v.clone())).collect::<Map>()
            };
            rest(old) == rest(new)
        }
        _ => false,
    };
    if !old_entries.iter().zip(new_entries).all(|(old, new)| same_but_time(old, new)) {
        return;
    }
    // Maps are equal entry by entry; in these two, one entry is left out.
    let same_without = |old: &Map, new: &Map, left_out: &str| {
        old.len() == new.len()
            && old.iter().zip(new.iter()).all(|((ok, ov), (nk, nv))| ok == nk && (ok == left_out || ov == nv))
    };
    let (Value::Map(old_map), Value::Map(new_map)) = (old, &*new) else { return };
    let (Some(old_meta), Some(new_meta)) = (old.map_at(&["metadata"]), new.map_at(&["metadata"])) else { return };
    if same_without(old_map, new_map, "metadata") && same_without(old_meta, new_meta, "managedFields") {
        new.set(PATH, old_entries.to_vec());
    }
}

/// The identity of an update or an applier of this name.
pub(crate) fn manager(name: &str, operation: Operation, api_version: &str, subresource: &str) -> Manager {
    Manager {
        name: if name.is_empty() { SmolStr::new_static("unknown") } else { format_smolstr!("{name}") },
        operation,
        api_version: api_version.into(),
        subresource: subresource.into(),
    }
}
