//! Managed fields on updates, and server-side apply: what the recorded requests do not show.

use api_patch::managed_fields::{self, ApplyError, FieldManager, ResetFields, Versions};
use api_patch::{FieldSet, ObjectType};
use api_schema::{Schema, Value};

use crate::support::{built_in, text, tree};

const TIME: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T00:00:01Z";

fn manager<'a>(kind: &'a str, ty: ObjectType<'a>) -> FieldManager<'a> {
    FieldManager { ty, api_version: "v1", kind, subresource: "", reset: &ResetFields::None, versions: None }
}

fn config_map() -> FieldManager<'static> {
    manager("ConfigMap", ObjectType::Struct(api_types::schema(), built_in("core.v1.ConfigMap")))
}

/// A ConfigMap with a UID and this data: `a=1 b=2`.
fn object(data: &str) -> Value {
    let mut object = tree(r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","uid":"u"}}"#);
    for entry in data.split_whitespace() {
        let (key, value) = entry.split_once('=').expect("key=value");
        object.set(&["data", key], value);
    }
    object
}

/// A configuration of a ConfigMap with this data.
fn configuration(data: &str) -> Value {
    let mut object = object(data);
    object.remove(&["metadata", "uid"]);
    object
}

fn data(object: &Value) -> String {
    let entries = object.map_at(&["data"]).into_iter().flat_map(api_schema::Map::iter);
    entries.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("?"))).collect::<Vec<_>>().join(" ")
}

/// Who owns which keys of the data, one manager a line: `Apply kubectl 00:00 a b`.
fn owners(object: &Value) -> String {
    let entries = managed_fields::decode(object.list_at(&["metadata", "managedFields"])).expect("they are well-formed");
    let line = |entry: &managed_fields::Entry| {
        let fields: Vec<String> = entry
            .fields
            .paths()
            .iter()
            .map(|path| path.to_string().replace(".data.", "").replace(".data", "."))
            .collect();
        let time = entry.time.get(14..19).unwrap_or("-");
        format!("{} {} {time} {}", entry.manager.operation.name(), entry.manager.name, fields.join(" "))
    };
    entries.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn apply(live: Option<&Value>, data: &str, name: &str, force: bool) -> Result<Value, ApplyError> {
    let mut applied = config_map().apply(live, &configuration(data), name, force, TIME)?;
    applied.set(&["metadata", "uid"], "u");
    Ok(applied)
}

#[test]
fn an_update_takes_what_it_changes() {
    let manager = config_map();
    let mut live = object("a=1 b=2");
    manager.update(None, &mut live, "one", TIME);
    assert_eq!(owners(&live), "Update one 00:00 . a b");

    let mut new = live.clone();
    new.set(&["data", "a"], "9");
    manager.update(Some(&live), &mut new, "two", LATER);
    assert_eq!(owners(&new), "Update one 00:00 . b\nUpdate two 00:01 a");

    // Nothing changes: no entry and no time does.
    let mut same = new.clone();
    manager.update(Some(&new), &mut same, "three", LATER);
    assert_eq!(same, new);

    // Removing takes from the others and gives nothing.
    let mut less = new.clone();
    less.remove(&["data", "b"]);
    manager.update(Some(&new), &mut less, "three", LATER);
    assert_eq!(owners(&less), "Update one 00:00 .\nUpdate two 00:01 a");
}

#[test]
fn clients_may_reset_but_not_break_the_tracking() {
    let manager = config_map();
    let mut live = object("a=1");
    manager.update(None, &mut live, "one", TIME);
    for (sent, expect) in [
        ("[]", ""),
        ("[{}]", ""),
        (r#"[{"manager":"x","operation":"Wish"}]"#, "Update one 00:00 .\nUpdate two 00:01 a"),
        (r#"[{"manager":"x","operation":"Update","apiVersion":"v1"}]"#, "Update one 00:00 .\nUpdate two 00:01 a"),
        (
            r#"[{"manager":"x","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:":7}}]"#,
            "Update one 00:00 .\nUpdate two 00:01 a",
        ),
        (
            r#"[{"manager":"x","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:b":{}}}}]"#,
            "Apply x - b\nUpdate two 00:01 a",
        ),
    ] {
        let mut new = object("a=2");
        new.set(&["metadata", "managedFields"], tree(sent));
        manager.update(Some(&live), &mut new, "two", LATER);
        assert_eq!(owners(&new), expect, "{sent}");
    }
    // What they send is put in order, though nothing else changes.
    let mut new = object("a=1");
    let sent = r#"[{"manager":"y","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:b":{},"f:a":{}}}},
        {"manager":"z","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{}},
        {"manager":"x","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{}}}]"#;
    new.set(&["metadata", "managedFields"], tree(sent));
    manager.update(Some(&live), &mut new, "two", LATER);
    assert_eq!(owners(&new), "Update x - .\nUpdate y - a b");
    // Through a subresource they may not even change it.
    let mut new = object("a=2");
    new.set(&["metadata", "managedFields"], tree("[]"));
    FieldManager { subresource: "status", ..manager }.update(Some(&live), &mut new, "two", LATER);
    assert_eq!(owners(&new), "Update one 00:00 .\nUpdate two 00:01 a");

    // What is not tracked stays so until it is applied to.
    let mut new = object("a=2");
    manager.update(Some(&object("a=1")), &mut new, "two", LATER);
    assert_eq!(owners(&new), "");
    let applied = apply(Some(&object("a=1")), "b=2", "me", false).expect("no conflict");
    assert_eq!(owners(&applied), "Apply me 00:00 b\nUpdate before-first-apply 00:00 . a");
}

#[test]
fn an_applier_owns_what_it_applies_and_removes_what_it_no_longer_does() {
    let live = apply(None, "a=1 b=2", "one", false).expect("no conflict");
    assert_eq!((data(&live).as_str(), owners(&live).as_str()), ("a=1 b=2", "Apply one 00:00 a b"));

    let live = apply(Some(&live), "b=2 c=3", "one", false).expect("no conflict");
    assert_eq!((data(&live).as_str(), owners(&live).as_str()), ("b=2 c=3", "Apply one 00:00 b c"));

    // Equal values are owned together, and stay while anybody applies them.
    let live = apply(Some(&live), "c=3", "two", false).expect("equal values do not conflict");
    assert_eq!(owners(&live), "Apply two - c\nApply one 00:00 b c");
    let live = apply(Some(&live), "b=2", "one", false).expect("no conflict");
    assert_eq!((data(&live).as_str(), owners(&live).as_str()), ("b=2 c=3", "Apply two - c\nApply one 00:00 b"));
    let live = apply(Some(&live), "", "two", false).expect("no conflict");
    assert_eq!((data(&live).as_str(), owners(&live).as_str()), ("b=2", "Apply one 00:00 b"));
}

#[test]
fn conflicts_name_the_owners_and_force_takes_over() {
    let live = apply(None, "a=1 b=2", "one", false).expect("no conflict");
    let conflict = apply(Some(&live), "a=9", "two", false).expect_err("another owns it");
    assert_eq!(conflict.to_string(), r#"Apply failed with 1 conflict: conflict with "one": .data.a"#);
    let status = conflict.to_status();
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let cause = &status.causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.message.as_str(), cause.field.as_str()),
        ("FieldManagerConflict", r#"conflict with "one""#, ".data.a")
    );

    let mut changed = live.clone();
    changed.set(&["data", "b"], "8");
    config_map().update(Some(&live), &mut changed, "editor", LATER);
    let conflict = apply(Some(&changed), "a=9 b=9", "two", false).expect_err("others own them");
    assert_eq!(
        conflict.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"editor\" using v1:\n- .data.b\nconflicts with \"one\":\n- .data.a"
    );

    let forced = apply(Some(&changed), "a=9 b=9", "two", true).expect("force takes all");
    assert_eq!((data(&forced).as_str(), owners(&forced).as_str()), ("a=9 b=9", "Apply two 00:00 a b"));
}

#[test]
fn what_is_no_configuration_is_refused() {
    let pods = manager("Pod", ObjectType::Struct(api_types::schema(), built_in("core.v1.Pod")));
    for (configuration, expect) in [
        (r#"{"kind":"Pod"}"#, "400 invalid object type: /, Kind=Pod"),
        (r#"{"apiVersion":"apps/v1","kind":"Pod"}"#, "400 invalid object type: apps/v1, Kind=Pod"),
        (
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"managedFields":[]}}"#,
            "400 metadata.managedFields must be nil",
        ),
        (
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"n"},"spec":{"containers":[{"name":"c"},{"name":"c"}]}}"#,
            "500 failed to create typed patch object (n/p; /v1, Kind=Pod): .spec.containers: duplicate entries for key [name=\"c\"]",
        ),
        (
            r#"{"apiVersion":"v1","kind":"Pod","spec":{"containers":[7]}}"#,
            "500 failed to create typed patch object (/; /v1, Kind=Pod): .spec.containers: element 0: associative list with keys may not have non-map elements",
        ),
        (
            r#"{"apiVersion":"v1","kind":"Pod","spec":{"ephemeralContainers":{"a":1},"hostname":["x"],"priority":"y"}}"#,
            "500 failed to create typed patch object (/; /v1, Kind=Pod): errors:\n  .spec.ephemeralContainers: expected list, got &{map[a:1]}\n  .spec.hostname: expected string, got &value.valueUnstructured{Value:[]interface {}{\"x\"}}\n  .spec.priority: expected numeric (int or float), got string",
        ),
        (
            r#"{"apiVersion":"v1","kind":"Pod","spec":{"volumes":[{"name":"v","hostPath":{"paht":"/"}}]}}"#,
            "500 failed to create typed patch object (/; /v1, Kind=Pod): .spec.volumes[name=\"v\"].hostPath.paht: field not declared in schema",
        ),
    ] {
        let error = pods.apply(None, &tree(configuration), "me", false, TIME).expect_err(configuration);
        assert_eq!(format!("{} {error}", error.to_status().code), expect);
    }
    let mut broken = object("a=1");
    broken.set(&["metadata", "managedFields"], tree(r#"[{"operation":"Wish"}]"#));
    let error = apply(Some(&broken), "a=1", "me", false).expect_err("its managed fields are malformed");
    assert_eq!(error.to_string(), "failed to decode managed fields: operation must be `Apply` or `Update`");
}

#[test]
fn keyed_lists_keep_the_live_order_where_the_applied_one_leaves_it_open() {
    let pods = manager("Pod", ObjectType::Struct(api_types::schema(), built_in("core.v1.Pod")));
    let containers = |names: &str| {
        let mut pod = tree(r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","uid":"u"}}"#);
        let items: Vec<Value> = names.split_whitespace().map(|name| Value::from([("name", name)])).collect();
        pod.set(&["spec", "containers"], items);
        pod
    };
    for (live, applied, expect) in [
        ("a b", "c", "a b c"),
        ("a b c", "c a", "b c a"),
        ("a b", "b a", "b a"),
        ("a b c", "b x c", "a b x c"),
        ("a b c d", "x b y d", "a x b c y d"),
        ("", "b a", "b a"),
        ("a b c", "a c b", "a c b"),
    ] {
        let merged = pods.apply(Some(&containers(live)), &containers(applied), "me", true, TIME).expect("no conflict");
        let names: Vec<&str> =
            merged.list_at(&["spec", "containers"]).iter().map(|item| item.str_at(&["name"])).collect();
        assert_eq!(names.join(" "), expect, "{live} <- {applied}");
    }
}

#[test]
fn resets_keep_fields_without_owner() {
    let whole = tree(
        r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","labels":{"a":"b"}},"spec":{"replicas":1},"status":{"replicas":1}}"#,
    );
    let fields = |reset: ResetFields| {
        let manager = FieldManager {
            ty: ObjectType::Struct(api_types::schema(), built_in("apps.v1.Deployment")),
            api_version: "apps/v1",
            kind: "Deployment",
            subresource: "",
            reset: &reset,
            versions: None,
        };
        let mut object = whole.clone();
        manager.update(None, &mut object, "me", TIME);
        text(object.list_at(&["metadata", "managedFields"])[0].get("fieldsV1").expect("it has fields"))
    };
    assert_eq!(
        fields(ResetFields::exclude(&[&["status"]])),
        r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:replicas":{}}}"#
    );
    assert_eq!(
        fields(ResetFields::exclude(&[&["spec"], &["metadata", "labels"]])),
        r#"{"f:status":{"f:replicas":{}}}"#
    );
    assert_eq!(fields(ResetFields::include(&[&["spec", "*"]])), r#"{"f:spec":{"f:replicas":{}}}"#);
    assert_eq!(
        fields(ResetFields::include(&[&["metadata", "labels"]])),
        r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}"#
    );
}

#[test]
fn the_oldest_updaters_are_folded_together() {
    let manager = config_map();
    let mut live = object("k=0");
    manager.update(None, &mut live, "m0", "2026-01-01T00:00:00Z");
    for at in 1..=11 {
        let mut new = live.clone();
        new.set(&["data", &format!("k{at:02}")], "1");
        manager.update(Some(&live), &mut new, &format!("m{at}"), &format!("2026-01-01T00:00:{at:02}Z"));
        live = new;
    }
    let shown = owners(&live);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), managed_fields::UPDATE_MANAGERS_MAX);
    assert_eq!(lines[0], "Update ancient-changes 00:02 . k k01 k02");
    assert_eq!(lines[9], "Update m11 00:11 k11");
}

/// Two versions of a kind: `a` of v1 is `b` in v2.
struct TwoVersions<'s> {
    schema: &'s Schema,
}

impl Versions for TwoVersions<'_> {
    fn object_type(&self, api_version: &str) -> Option<ObjectType<'_>> {
        let name = match api_version {
            "v1" => "V1",
            "v2" => "V2",
            _ => return None,
        };
        Some(ObjectType::Struct(self.schema, self.schema.find(name)?))
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        let (from, to) = match api_version {
            "v1" => ("b", "a"),
            "v2" => ("a", "b"),
            _ => return None,
        };
        let mut object = object.clone();
        object.set(&["apiVersion"], api_version);
        if let Some(value) = object.remove(&[from]) {
            object.set(&[to], value);
        }
        Some(object)
    }
}

#[test]
fn managers_of_other_versions_are_judged_in_theirs() {
    let schema = Schema::parse(
        "V1\n\tapiVersion\t0\tstring\tp\n\tkind\t0\tstring\tp\n\tmetadata\t0\tany\tp\n\ta\t0\tstring\tp\n\tc\t0\tstring\tp\n\
         V2\n\tapiVersion\t0\tstring\tp\n\tkind\t0\tstring\tp\n\tmetadata\t0\tany\tp\n\tb\t0\tstring\tp\n\tc\t0\tstring\tp\n",
    )
    .expect("it is well-formed");
    let versions = TwoVersions { schema: &schema };
    let manager = |api_version| FieldManager {
        ty: versions.object_type(api_version).expect("it is there"),
        api_version,
        kind: "T",
        subresource: "",
        reset: &ResetFields::None,
        versions: Some(&versions),
    };
    let v1 = tree(r#"{"apiVersion":"v1","kind":"T","metadata":{"name":"x","uid":"u"},"a":"1","c":"1"}"#);
    let live = manager("v1").apply(None, &v1, "one", false, TIME).expect("no conflict");
    let as_v2 = versions.convert(&live, "v2").expect("it is there");

    let patch = tree(r#"{"apiVersion":"v2","kind":"T","metadata":{"name":"x"},"b":"2"}"#);
    let conflict = manager("v2").apply(Some(&as_v2), &patch, "two", false, TIME).expect_err("one owns it as `a`");
    assert_eq!(conflict.to_string(), r#"Apply failed with 1 conflict: conflict with "one": .a"#);

    // The applier itself may change versions: what it no longer applies goes.
    let patch = tree(r#"{"apiVersion":"v2","kind":"T","metadata":{"name":"x"},"b":"1"}"#);
    let moved = manager("v2").apply(Some(&as_v2), &patch, "one", false, TIME).expect("no conflict");
    assert_eq!((moved.str_at(&["b"]), moved.get("c")), ("1", None));

    // Entries of versions that are gone are dropped.
    let mut old = as_v2.clone();
    old.set(
        &["metadata", "managedFields"],
        tree(
            r#"[{"manager":"x","operation":"Update","apiVersion":"v0","fieldsType":"FieldsV1","fieldsV1":{"f:z":{}}}]"#,
        ),
    );
    let mut new = old.clone();
    new.set(&["c"], "2");
    manager("v2").update(Some(&old), &mut new, "me", LATER);
    assert_eq!(owners(&new), "Update me 00:01 .c");
}

#[test]
fn fields_that_have_become_atomic_are_owned_as_one() {
    let live = {
        let mut live = tree(
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","uid":"u"},"spec":{"nodeSelector":{"a":"b"},"hostname":"h"}}"#,
        );
        live.set(
            &["metadata", "managedFields"],
            tree(
                r#"[{"manager":"x","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:nodeSelector":{".":{},"f:a":{}}}}}]"#,
            ),
        );
        live
    };
    let pods = manager("Pod", ObjectType::Struct(api_types::schema(), built_in("core.v1.Pod")));
    let mut new = live.clone();
    new.set(&["spec", "hostname"], "i");
    pods.update(Some(&live), &mut new, "me", LATER);
    assert_eq!(owners(&new), "Apply x - .spec.nodeSelector\nUpdate me 00:01 .spec.hostname");
}

#[test]
fn times_alone_are_no_change() {
    let with_time = |time: &str, data: &str| {
        let mut object = object(data);
        config_map().update(None, &mut object, "me", time);
        object
    };
    let old = with_time(TIME, "a=1");
    for (mut new, expect) in [
        (with_time(LATER, "a=1"), TIME),
        // The same fields with another value, or other fields: the new time counts.
        (with_time(LATER, "a=2"), LATER),
        (with_time(LATER, "b=1"), LATER),
    ] {
        managed_fields::keep_times_of_unchanged(&old, &mut new);
        assert_eq!(new.list_at(&["metadata", "managedFields"])[0].str_at(&["time"]), expect);
    }
}

#[test]
fn malformed_entries_are_found() {
    assert_eq!(managed_fields::check(&object("a=1")), Ok(()));
    for (entry, expect) in [
        ("{}", "operation must be `Apply` or `Update`"),
        (r#"{"operation":"Apply"}"#, "apiVersion must not be empty"),
        (r#"{"operation":"Apply","apiVersion":"v1"}"#, "missing fieldsType in managed fields entry 0"),
        (
            r#"{"operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV2"}"#,
            "invalid fieldsType \"FieldsV2\" in managed fields entry 0",
        ),
    ] {
        let mut broken = object("a=1");
        broken.set(&["metadata", "managedFields"], vec![tree(entry)]);
        assert_eq!(managed_fields::check(&broken), Err(expect.to_owned()));
    }
}

#[test]
fn a_custom_resource_without_schema_has_granular_maps_and_atomic_lists() {
    let manager = manager("T", ObjectType::Unknown);
    let live =
        tree(r#"{"apiVersion":"v1","kind":"T","metadata":{"name":"x","uid":"u"},"spec":{"list":[1],"map":{"a":1}}}"#);
    let mut created = live.clone();
    manager.update(None, &mut created, "one", TIME);
    assert_eq!(owners(&created), "Update one 00:00 .spec .spec.list .spec.map .spec.map.a");
    let patch = tree(r#"{"apiVersion":"v1","kind":"T","metadata":{"name":"x"},"spec":{"list":[2],"map":{"b":2}}}"#);
    let conflict = manager.apply(Some(&created), &patch, "two", false, TIME).expect_err("the list is one value");
    assert_eq!(conflict.to_string(), r#"Apply failed with 1 conflict: conflict with "one" using v1: .spec.list"#);
    let forced = manager.apply(Some(&created), &patch, "two", true, TIME).expect("force takes all");
    assert_eq!(text(forced.get("spec").expect("it is there")), r#"{"list":[2],"map":{"a":1,"b":2}}"#);
}

#[test]
fn fields_of_a_set_are_those_of_its_paths() {
    let set = FieldSet::of_paths(&[&["spec"], &["metadata", "labels"]]);
    assert_eq!(set.to_text(), r#"{"f:metadata":{"f:labels":{}},"f:spec":{}}"#);
}
