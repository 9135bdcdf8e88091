//! What must hold for every object and every patch, tried on many random ones. A failure prints its seed.

use api_patch::json_patch::JsonPatch;
use api_patch::managed_fields::{self, FieldManager, ResetFields};
use api_patch::{FieldSet, ObjectType, Path, PathElement, compare, fields_of, merge_patch, strategic};
use api_schema::{Map, Schema, SmolStr, StructId, Type, Value};
use fastrand::Rng;

use crate::support::{built_in, text};

const TIME: &str = "2026-01-01T00:00:00Z";
const KINDS: &[(&str, &str, &str)] = &[
    ("core.v1.Pod", "v1", "Pod"),
    ("core.v1.Service", "v1", "Service"),
    ("apps.v1.Deployment", "apps/v1", "Deployment"),
    ("networking.v1.NetworkPolicy", "networking.k8s.io/v1", "NetworkPolicy"),
];

/// The fields that items of lists may be known by.
const KEYS: &[&str] = &["name", "type", "mountPath", "devicePath", "uid", "port", "containerPort", "ip", "topologyKey"];

/// Makes random values of types.
struct Maker<'s> {
    rng: Rng,
    schema: &'s Schema,
    /// One in how many values is of any other type; 0 for none.
    wild: usize,
}

impl Maker<'_> {
    fn one_in(&mut self, n: usize) -> bool {
        n > 0 && self.rng.usize(0..n) == 0
    }

    fn word(&mut self) -> SmolStr {
        SmolStr::new(["a", "b", "c", "d", "/", "~", "\"", "<é>"][self.rng.usize(0..8)])
    }

    fn anything(&mut self, depth: usize) -> Value {
        match self.rng.usize(0..if depth > 3 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => Value::Bool(self.rng.bool()),
            2 => Value::Int(self.rng.i64(-2..3)),
            3 => Value::Float(1.5),
            4 => Value::Raw(r#"{"a":{"b":[1]}}"#.into()),
            5 => Value::Str(self.word()),
            6 => (0..self.rng.usize(0..4)).map(|_| self.anything(depth + 1)).collect::<Vec<_>>().into(),
            _ => {
                let keys = ["a", "name", "$patch", "$retainKeys", "$setElementOrder/containers", "spec", "metadata"];
                let entries = (0..self.rng.usize(0..4)).map(|_| (keys[self.rng.usize(0..7)], self.anything(depth + 1)));
                Value::Map(entries.collect())
            }
        }
    }

    fn of(&mut self, ty: &Type, depth: usize) -> Value {
        if self.one_in(self.wild) {
            return self.anything(depth);
        }
        match ty {
            Type::Bool => Value::Bool(self.rng.bool()),
            Type::Int32 | Type::Int64 => Value::Int(self.rng.i64(0..4)),
            Type::Double => Value::Float(0.5),
            Type::IntOrString if self.rng.bool() => Value::Int(80),
            Type::List(item) | Type::Wrapped(item) => {
                // An empty list of a keyed list has no owner, and would stay where it should go.
                let least = usize::from(self.wild == 0);
                let items: Vec<Value> = (0..self.rng.usize(least..4)).map(|_| self.of(item, depth + 1)).collect();
                Value::List(items)
            }
            Type::Map(item) => {
                let entries: Map = (0..self.rng.usize(0..4)).map(|_| (self.word(), self.of(item, depth + 1))).collect();
                Value::Map(entries)
            }
            Type::Struct(id) => self.object(*id, depth + 1),
            Type::RawExtension => Value::Raw(r#"{"a":1}"#.into()),
            _ => Value::Str(self.word()),
        }
    }

    fn object(&mut self, id: StructId, depth: usize) -> Value {
        let mut map = Map::new();
        let schema = self.schema;
        for field in schema.json_fields(id) {
            // Keys of lists are always there; the deeper, the less of the rest.
            let is_key = KEYS.contains(&field.json.as_str());
            if field.json == "managedFields" || (!is_key && !self.one_in(3 + depth)) {
                continue;
            }
            let value = self.of(&field.ty, depth);
            map.insert(field.json.clone(), value);
        }
        Value::Map(map)
    }

    /// An object of a kind, without duplicates in its keyed lists.
    fn of_kind(&mut self, (ty, api_version, kind): (&str, &str, &str)) -> Value {
        let mut object = self.object(built_in(ty), 0);
        object.set(&["apiVersion"], api_version);
        object.set(&["kind"], kind);
        if self.wild == 0 {
            without_duplicates(&mut object);
            object.set(&["metadata", "name"], "x");
        }
        object
    }
}

/// Keeps the first of list items that agree in any field that may be their key.
fn without_duplicates(value: &mut Value) {
    match value {
        Value::Map(map) => map.iter_mut().for_each(|(_, value)| without_duplicates(value)),
        Value::List(items) => {
            let mut seen: Vec<Value> = Vec::new();
            items.retain(|item| {
                let clashes = |other: &Value| {
                    item == other || KEYS.iter().any(|key| item.get(key).is_some() && item.get(key) == other.get(key))
                };
                let is_new = !seen.iter().any(clashes);
                seen.push(item.clone());
                is_new
            });
            items.iter_mut().for_each(without_duplicates);
        }
        _ => {}
    }
}

fn manager<'a>((ty, api_version, kind): (&str, &'a str, &'a str)) -> FieldManager<'a> {
    FieldManager {
        ty: ObjectType::Struct(api_types::schema(), built_in(ty)),
        api_version,
        kind,
        subresource: "",
        reset: &ResetFields::None,
        versions: None,
    }
}

/// Runs a property for many seeds.
fn for_seeds(count: u64, property: impl Fn(&mut Maker<'_>)) {
    for seed in 0..count {
        let run = || property(&mut Maker { rng: Rng::with_seed(seed), schema: api_types::schema(), wild: 0 });
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn applying_twice_is_applying_once() {
    for_seeds(300, |maker| {
        let kind = KINDS[maker.rng.usize(0..KINDS.len())];
        let manager = manager(kind);
        let mut live = maker.of_kind(kind);
        live.set(&["metadata", "uid"], "u");
        let mut created = live.clone();
        manager.update(None, &mut created, "creator", TIME);
        let configuration = maker.of_kind(kind);
        let Ok(once) = manager.apply(Some(&created), &configuration, "me", true, TIME) else { return };
        let twice = manager.apply(Some(&once), &configuration, "me", false, "2026-01-01T00:00:09Z");
        assert_eq!(text(&twice.expect("nothing is left to conflict")), text(&once));
    });
}

#[test]
fn what_is_no_longer_applied_is_gone() {
    let applied = std::cell::Cell::new(0);
    for_seeds(300, |maker| {
        let kind = KINDS[maker.rng.usize(0..KINDS.len())];
        let manager = manager(kind);
        let configuration = maker.of_kind(kind);
        let Ok(live) = manager.apply(None, &configuration, "me", false, TIME) else { return };
        let mut less = Value::from([("apiVersion", kind.1), ("kind", kind.2)]);
        less.set(&["metadata", "name"], "x");
        let rest = manager.apply(Some(&live), &less, "me", false, TIME).expect("nobody else owns anything");
        let left = fields_of(manager.ty, &rest);
        let mut unowned = FieldSet::of_paths(&[&["apiVersion"], &["kind"]]);
        for name in ["name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "resourceVersion"] {
            unowned.insert(&Path::of_names(&["metadata", name]));
        }
        // What became empty is null, or a struct that Go always shows.
        let left: Vec<Path> = left.recursive_difference(&unowned).paths();
        for path in &left {
            let value = path.0.iter().try_fold(&rest, |value, element| match element {
                PathElement::Name(name) => value.as_map().and_then(|map| map.get(name)),
                _ => None,
            });
            assert!(value.is_some_and(Value::is_zero), "{path} is left");
        }
        assert_eq!(rest.at(&["metadata", "managedFields"]), None);
        applied.set(applied.get() + 1);
    });
    assert!(applied.get() > 200, "only {} configurations were valid", applied.get());
}

#[test]
fn an_update_accounts_for_every_difference() {
    for_seeds(300, |maker| {
        let kind = KINDS[maker.rng.usize(0..KINDS.len())];
        let manager = manager(kind);
        let (old, new) = (maker.of_kind(kind), maker.of_kind(kind));
        let comparison = compare(manager.ty, &old, &new).expect("they fit their type");
        let reverse = compare(manager.ty, &new, &old).expect("they fit their type");
        assert_eq!((&comparison.added, &comparison.removed), (&reverse.removed, &reverse.added));
        assert_eq!(comparison.modified, reverse.modified);
        assert!(compare(manager.ty, &new, &new).expect("it fits its type").is_empty());

        let mut live = old.clone();
        live.set(&["metadata", "uid"], "u");
        manager.update(None, &mut live, "one", TIME);
        let mut changed = new.clone();
        changed.set(&["metadata", "uid"], "u");
        manager.update(Some(&live), &mut changed, "two", TIME);
        // Nobody owns what is not there, and no field has two owners by updates.
        let entries =
            managed_fields::decode(changed.list_at(&["metadata", "managedFields"])).expect("they are well-formed");
        let mut all = FieldSet::new();
        for entry in entries {
            assert!(!all.intersects(&entry.fields));
            assert!(!entry.fields.intersects(&comparison.removed));
            all.add(entry.fields);
        }
    });
}

#[test]
fn sets_survive_their_text_and_obey_the_laws_of_sets() {
    for_seeds(300, |maker| {
        let kind = KINDS[maker.rng.usize(0..KINDS.len())];
        let ty = manager(kind).ty;
        let (a, b) = (fields_of(ty, &maker.of_kind(kind)), fields_of(ty, &maker.of_kind(kind)));
        let text = a.to_text();
        let again = FieldSet::parse(&text).expect("we wrote it");
        assert_eq!((&again, again.to_text()), (&a, text));
        assert_eq!(a.difference(&b).union(&a.intersection(&b)), a);
        assert_eq!(a.union(&b), b.union(&a));
        assert_eq!(a.union(&b).len() + a.intersection(&b).len(), a.len() + b.len());
        assert!(!a.difference(&b).intersects(&b));
        assert_eq!(a.intersects(&b), !a.intersection(&b).is_empty());
        assert!(a.paths().iter().all(|path| a.has(path)));
        assert_eq!(a.paths().len(), a.len());
    });
}

#[test]
fn a_patch_applied_twice_is_applied_once() {
    for_seeds(300, |maker| {
        let kind = KINDS[maker.rng.usize(0..KINDS.len())];
        let (object, patch) = (maker.of_kind(kind), maker.of_kind(kind));
        let apply = |object: &Value| strategic::apply(api_types::schema(), built_in(kind.0), object.clone(), &patch);
        // Items without their key are refused.
        if let Ok(once) = apply(&object) {
            assert_eq!(text(&apply(&once).expect("it fits as before")), text(&once));
        }

        let mut once = object.clone();
        merge_patch::apply(&mut once, &patch, true).expect("it is an object");
        let mut twice = once.clone();
        merge_patch::apply(&mut twice, &patch, true).expect("it is an object");
        assert_eq!(text(&twice), text(&once));
    });
}

#[test]
fn nothing_makes_a_patch_panic() {
    for_seeds(1500, |maker| {
        maker.wild = 8;
        let kind = KINDS[maker.rng.usize(0..KINDS.len())];
        let manager = manager(kind);
        let (object, mut patch) = (maker.of_kind(kind), maker.of_kind(kind));
        for _ in 0..maker.rng.usize(0..4) {
            let directive =
                ["$patch", "$retainKeys", "$deleteFromPrimitiveList/finalizers", "$setElementOrder/containers"];
            let (path, value) = (["metadata", "spec"][maker.rng.usize(0..2)], maker.anything(0));
            patch.set(&[path, directive[maker.rng.usize(0..4)]], value);
        }
        let _ = strategic::apply(api_types::schema(), built_in(kind.0), object.clone(), &patch);
        let _ = merge_patch::apply(&mut object.clone(), &patch, false);
        let _ = merge_patch::apply(&mut object.clone(), &maker.anything(0), true);

        let operations: Vec<Value> = (0..maker.rng.usize(0..6))
            .map(|_| {
                let mut operation = Map::new();
                let kinds = ["add", "remove", "replace", "move", "copy", "test", "?"];
                operation.insert("op", kinds[maker.rng.usize(0..7)]);
                for field in ["path", "from"] {
                    let parts =
                        ["", "/spec", "/metadata", "/containers", "/0", "/-", "/-1", "/name", "/a~1b", "x", "/~"];
                    let path: String = (0..maker.rng.usize(0..5)).map(|_| parts[maker.rng.usize(0..11)]).collect();
                    operation.insert(field, path);
                }
                operation.insert("value", maker.anything(0));
                if maker.one_in(9) { maker.anything(0) } else { Value::Map(operation) }
            })
            .collect();
        for checked in [true, false] {
            let patch = JsonPatch::decode(&Value::List(operations.clone()), checked);
            let _ = patch.and_then(|patch| patch.apply(&mut object.clone()));
        }

        for ty in [manager.ty, ObjectType::Unknown] {
            let manager = FieldManager { ty, ..manager };
            let mut created = object.clone();
            manager.update(None, &mut created, "one", TIME);
            let mut changed = patch.clone();
            manager.update(Some(&created), &mut changed, "two", TIME);
            let mut named = patch.clone();
            named.set(&["apiVersion"], kind.1);
            named.set(&["kind"], kind.2);
            let _ = manager.apply(Some(&created), &named, "kubectl", false, TIME);
            let _ = manager.apply(Some(&changed), &named, "kubectl", true, TIME);
        }
        let broken: String = fields_of(ObjectType::Unknown, &object).to_text();
        let mut bytes = broken.into_bytes();
        for _ in 0..3 {
            if !bytes.is_empty() {
                let at = maker.rng.usize(0..bytes.len());
                bytes[at] = b"{}\":.,fkvi1\\"[maker.rng.usize(0..12)];
            }
        }
        let _ = FieldSet::parse(&String::from_utf8_lossy(&bytes));
    });
}
