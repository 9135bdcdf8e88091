//! Rules for all rows of the table, tried on upstream's fully populated objects and on random changes of them.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use api_codec::{builtin, json};
use api_schema::{Map, SmolStr, Value};
use api_types::Resource;
use kinds::Kind;

/// The kinds with behaviour, each with its stable resource.
fn kinds_with_resource() -> impl Iterator<Item = (&'static dyn Kind, &'static Resource)> {
    api_types::resources().iter().filter_map(|resource| {
        let kind = kinds::all::find(&resource.group, &resource.resource)?;
        (resource.stability() == api_types::Stability::Stable).then_some((kind, resource))
    })
}

/// The golden object of a resource, beside the repository; none for the few kinds that have none.
fn golden(resource: &Resource) -> Option<Value> {
    let group = if resource.group.is_empty() { "core" } else { &resource.group };
    let name = format!("../../../shared/data/golden/{group}.{}.{}.json", resource.version, resource.kind);
    let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).ok()?;
    let ty = builtin().find(&resource.type_name)?;
    Some(json::decode(Some(ty), &text, json::Options::STRICT).expect("a golden object").value)
}

#[test]
fn a_row_is_a_resource_and_stands_once() {
    let mut seen = HashSet::new();
    for kind in kinds::all::ALL {
        let name = (kind.group(), kind.resource());
        assert!(seen.insert(name), "{name:?} twice");
        let mut resources = api_types::resources().iter();
        assert!(resources.any(|r| (r.group.as_str(), r.resource.as_str()) == name), "{name:?} is no resource");
    }
}

/// Kinds with a printer whose columns `api-types` does not know by the kind's name yet. The list may only shrink.
const COLUMNS_UNKNOWN: [&str; 3] = ["APIService", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

#[test]
fn a_row_has_a_cell_for_each_column() {
    let mut wrong = Vec::new();
    for (kind, resource) in kinds_with_resource() {
        let object = golden(resource).unwrap_or_else(|| Map::new().into());
        for object in [object, Map::new().into()] {
            let cells = kind.cells(&object, 0).map(|cells| cells.len());
            let columns = api_types::columns(&resource.kind).map(<[_]>::len);
            let unknown = columns.is_none() && COLUMNS_UNKNOWN.contains(&resource.kind.as_str());
            if cells != columns && !unknown {
                wrong.push(format!("{}: {cells:?} cells, {columns:?} columns", resource.type_name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_table_has_a_kind_that_fills_it() {
    for (kind, resource) in kinds_with_resource() {
        if api_types::columns(&resource.kind).is_some() {
            assert!(kind.cells(&Map::new().into(), 0).is_some(), "{}", resource.type_name);
        }
    }
}

#[test]
fn defaulting_twice_is_defaulting_once() {
    for (kind, resource) in kinds_with_resource() {
        for object in golden(resource).into_iter().chain([Map::new().into()]) {
            let mut once = object;
            kind.default(&mut once);
            let mut twice = once.clone();
            kind.default(&mut twice);
            assert_eq!(once, twice, "{}", resource.type_name);
        }
    }
}

/// Everything a request may ask of a kind.
fn exercise(kind: &dyn Kind, resource: &Resource, object: &Value, old: &Value) {
    let (mut new, mut old) = (object.clone(), old.clone());
    kind.default(&mut new);
    kind.default(&mut old);
    let mut created = new.clone();
    kind.prepare_create(&mut created);
    kinds::meta::validate(&created, true, &|name, prefix| kind.check_name(name, prefix));
    kind.validate(&created);
    kinds::schema_rules::validate(api_types::schema(), api_types::struct_id(&resource.type_name), &created);
    kind.warnings(&created, None);
    let mut updated = new.clone();
    kind.prepare_update(&mut updated, &old);
    kinds::meta::validate_update(&updated, &old);
    kind.validate_update(&updated, &old);
    kind.warnings(&updated, Some(&old));
    let mut status = new.clone();
    kind.prepare_status_update(&mut status, &old);
    kind.validate_status_update(&status, &old);
    for subresource in &resource.subresources {
        let mut changed = new.clone();
        kind.prepare_subresource_update(&subresource.name, &mut changed, &old);
        kind.validate_subresource_update(&subresource.name, &changed, &old);
    }
    kind.cells(&new, 1_700_000_000);
    kind.row_conditions(&new);
    for label in kind.selectable_fields() {
        kind.selectable_field(&new, label);
    }
    kind.grace_period_seconds(&new, Some(5));
}

#[test]
fn a_valid_looking_object_survives_everything() {
    for (kind, resource) in kinds_with_resource() {
        let object = golden(resource).unwrap_or_else(|| Map::new().into());
        exercise(kind, resource, &object, &object);
        exercise(kind, resource, &object, &Map::new().into());
        exercise(kind, resource, &Map::new().into(), &object);
    }
}

/// A value that a hostile or careless client may send where another stood. Types stay what the schema says, as the
/// codec sees to that.
fn other_value(value: &Value, random: &mut fastrand::Rng) -> Value {
    const TEXTS: [&str; 16] = [
        "",
        "a",
        "-",
        "..",
        "a/b/c",
        "é\u{301}",
        "\u{0}",
        "10.0.0.300/99",
        "::ffff:1.2.3.4/128",
        "1e999999999",
        "-1Ki",
        "100%",
        "2024-02-30T25:61:61Z",
        "$(X)",
        "[]",
        "*.*",
    ];
    match value {
        Value::Bool(flag) => (!flag).into(),
        Value::Int(_) => [0, -1, 1, 65_536, i64::MAX, i64::MIN][random.usize(..6)].into(),
        Value::Str(_) if random.bool() => "x".repeat(random.usize(..400)).into(),
        Value::Str(_) => TEXTS[random.usize(..TEXTS.len())].into(),
        Value::List(items) if items.is_empty() || random.bool() => Vec::new().into(),
        Value::List(items) => [items.clone(), items.clone()].concat().into(),
        Value::Map(_) => Map::new().into(),
        _ => Value::Null,
    }
}

/// Changes one random place.
fn change(value: &mut Value, random: &mut fastrand::Rng) {
    let deeper = random.usize(..6) > 0;
    match value {
        Value::Map(map) if deeper && !map.is_empty() => {
            let at = random.usize(..map.len());
            let key: Option<SmolStr> = map.keys().nth(at).cloned();
            let Some(key) = key else { return };
            if random.usize(..8) == 0 {
                map.remove(&key);
            } else if let Some(value) = map.get_mut(&key) {
                change(value, random);
            }
        }
        Value::List(items) if deeper && !items.is_empty() => {
            let at = random.usize(..items.len());
            change(&mut items[at], random);
        }
        value => *value = other_value(value, random),
    }
}

#[test]
fn no_object_makes_a_kind_panic() {
    for (kind, resource) in kinds_with_resource() {
        let Some(object) = golden(resource) else { continue };
        for seed in 0..150 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut changed = object.clone();
            for _ in 0..=random.usize(..6) {
                change(&mut changed, &mut random);
            }
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| exercise(kind, resource, &changed, &object)));
            assert!(outcome.is_ok(), "{} with seed {seed}: {changed:?}", resource.type_name);
        }
    }
}
