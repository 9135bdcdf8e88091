//! Sets of fields and their text.

use api_patch::{FieldSet, ObjectType, Path, PathElement, compare, fields_of};
use api_schema::{Schema, Value};

use crate::support::{built_in, tree};

fn set(text: &str) -> FieldSet {
    FieldSet::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn pod() -> ObjectType<'static> {
    ObjectType::Struct(api_types::schema(), built_in("core.v1.Pod"))
}

#[test]
fn text_is_read_and_written_in_upstreams_order() {
    for (text, expect) in [
        ("{}", "{}"),
        (r#"{"f:b":{},"f:a":{}}"#, r#"{"f:a":{},"f:b":{}}"#),
        // Names come before keys, keys before values, values before indexes.
        (
            r#"{"i:1":{},"v:\"x\"":{},"k:{\"name\":\"x\"}":{},"f:z":{}}"#,
            r#"{"f:z":{},"k:{\"name\":\"x\"}":{},"v:\"x\"":{},"i:1":{}}"#,
        ),
        (r#"{"v:\"b\"":{},"v:10":{},"v:9":{},"v:true":{}}"#, r#"{"v:9":{},"v:10":{},"v:\"b\"":{},"v:true":{}}"#),
        (r#"{"k:{\"b\":1,\"a\":2}":{".":{}}}"#, r#"{"k:{\"a\":2,\"b\":1}":{}}"#),
        (r#"{"f:a":{"f:b":{},".":{}}}"#, r#"{"f:a":{".":{},"f:b":{}}}"#),
        (r#" { "f:a" : { } } "#, r#"{"f:a":{}}"#),
        (r#"{"f:a":null}"#, r#"{"f:a":{}}"#),
        (r#"{"f:a\u002fb\"c<":{}}"#, r#"{"f:a/b\"c<":{}}"#),
        (r#"{"v:\"<\"":{}}"#, r#"{"v:\"\\u003c\"":{}}"#),
        // What a newer version may write is dropped; what held only such is a field alone.
        (r#"{"x:new":{"f:a":{}},"f:b":{"x:new":{}}}"#, r#"{"f:b":{}}"#),
        (r#"{"f:a":{},"f:a":{"f:b":{}}}"#, r#"{"f:a":{".":{},"f:b":{}}}"#),
    ] {
        assert_eq!(set(text).to_text(), expect, "{text}");
    }
}

#[test]
fn other_text_is_refused() {
    for text in [
        "",
        "[]",
        "7",
        "{",
        r#"{"f:a":{}"#,
        r#"{"f":{}}"#,
        r#"{"f:a":7}"#,
        r#"{"fa":{}}"#,
        r#"{"k:7":{}}"#,
        r#"{"k:{":{}}"#,
        r#"{"v:x":{}}"#,
        r#"{"i:x":{}}"#,
        r#"{"f:a":{}}x"#,
        r#"{"":{}}"#,
        r#"{"f:a":{},}"#,
    ] {
        assert!(FieldSet::parse(text).is_err(), "{text}");
    }
    assert!(FieldSet::parse(&"{\"f:a\":".repeat(100_000)).is_err(), "deep nesting must not exhaust the stack");
}

#[test]
fn sets_are_combined() {
    let a = set(r#"{"f:a":{".":{},"f:b":{},"f:c":{}},"f:d":{}}"#);
    let b = set(r#"{"f:a":{"f:b":{},"f:x":{}},"f:d":{"f:e":{}}}"#);
    for (what, got, expect) in [
        ("union", a.union(&b), r#"{"f:a":{".":{},"f:b":{},"f:c":{},"f:x":{}},"f:d":{".":{},"f:e":{}}}"#),
        ("intersection", a.intersection(&b), r#"{"f:a":{"f:b":{}}}"#),
        ("difference", a.difference(&b), r#"{"f:a":{".":{},"f:c":{}},"f:d":{}}"#),
        ("its reverse", b.difference(&a), r#"{"f:a":{"f:x":{}},"f:d":{"f:e":{}}}"#),
        ("recursive difference", b.recursive_difference(&a), "{}"),
        (
            "recursive difference by a leaf",
            a.recursive_difference(&set(r#"{"f:d":{}}"#)),
            r#"{"f:a":{".":{},"f:b":{},"f:c":{}}}"#,
        ),
        (
            "recursive difference by an inner field",
            a.recursive_difference(&set(r#"{"f:a":{"f:b":{}}}"#)),
            r#"{"f:a":{".":{},"f:c":{}},"f:d":{}}"#,
        ),
    ] {
        assert_eq!(got.to_text(), expect, "{what}");
    }
    assert!(a.intersects(&b));
    assert!(!set(r#"{"f:a":{}}"#).intersects(&set(r#"{"f:a":{"f:b":{}}}"#)));
    assert!(a.has(&Path::of_names(&["a", "b"])) && !a.has(&Path::of_names(&["a", "x"])) && !a.has(&Path::default()));
    assert_eq!((a.len(), b.len()), (4, 3));
    assert_eq!(a.within(&PathElement::name("a")).map(FieldSet::to_text).as_deref(), Some(r#"{"f:b":{},"f:c":{}}"#));
}

#[test]
fn paths_print_as_upstream_prints_them() {
    let fields = set(
        r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{}}}}},"f:metadata":{"f:finalizers":{"v:\"a/b\"":{}}},"f:list":{"i:3":{}}}"#,
    );
    assert_eq!(
        fields.to_string(),
        r#".list[3]
.metadata.finalizers[="a/b"]
.spec.containers[name="c"]
.spec.containers[name="c"].image
.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"]"#
    );
}

#[test]
fn the_fields_of_an_object_follow_its_types() {
    let fields = |object: &str| fields_of(pod(), &tree(object)).to_text();
    for (object, expect) in [
        (r#"{"metadata":{"labels":{"a":"b"}}}"#, r#"{"f:metadata":{"f:labels":{"f:a":{}}}}"#),
        // A missing key field stands for its default.
        (
            r#"{"spec":{"containers":[{"name":"c","ports":[{"containerPort":80}]}]}}"#,
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}"#,
        ),
        // Sets, atomic lists, atomic structs, null, empty map, empty list.
        (r#"{"metadata":{"finalizers":["b","a"]}}"#, r#"{"f:metadata":{"f:finalizers":{"v:\"a\"":{},"v:\"b\"":{}}}}"#),
        (r#"{"spec":{"tolerations":[{"key":"a"}]}}"#, r#"{"f:spec":{"f:tolerations":{}}}"#),
        (r#"{"spec":{"nodeSelector":{"a":"b"}}}"#, r#"{"f:spec":{"f:nodeSelector":{}}}"#),
        (
            r#"{"spec":{"hostname":null,"securityContext":{}}}"#,
            r#"{"f:spec":{"f:hostname":{},"f:securityContext":{}}}"#,
        ),
        (r#"{"metadata":{"finalizers":[]}}"#, "{}"),
        // Duplicates are one field.
        (
            r#"{"spec":{"containers":[{"name":"c","image":"a"},{"name":"c"}]}}"#,
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{}}}}"#,
        ),
    ] {
        assert_eq!(fields(object), expect, "{object}");
    }
    let unknown = fields_of(ObjectType::Unknown, &tree(r#"{"spec":{"a":{"b":[{"c":1}]},"d":{}}}"#));
    assert_eq!(unknown.to_text(), r#"{"f:spec":{".":{},"f:a":{".":{},"f:b":{}},"f:d":{}}}"#);
}

/// Added, modified and removed fields.
fn difference(ty: ObjectType<'_>, old: &str, new: &str) -> String {
    let comparison = compare(ty, &tree(old), &tree(new)).expect("they fit the type");
    format!("+{} ~{} -{}", comparison.added.to_text(), comparison.modified.to_text(), comparison.removed.to_text())
}

#[test]
fn a_comparison_says_what_came_changed_and_went() {
    for (old, new, expect) in [
        (r#"{"spec":{"hostname":"a"}}"#, r#"{"spec":{"hostname":"b"}}"#, r#"+{} ~{"f:spec":{"f:hostname":{}}} -{}"#),
        (r#"{}"#, r#"{"metadata":{"labels":{"a":"b"}}}"#, r#"+{"f:metadata":{"f:labels":{".":{},"f:a":{}}}} ~{} -{}"#),
        (
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
            r#"{"metadata":{}}"#,
            r#"+{} ~{} -{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}"#,
        ),
        (
            r#"{"spec":{"tolerations":[{"key":"a"}]}}"#,
            r#"{"spec":{"tolerations":[{"key":"b"}]}}"#,
            r#"+{} ~{"f:spec":{"f:tolerations":{}}} -{}"#,
        ),
        // Go's zero values count as present: `containers` and `resources` are neither added nor removed.
        (
            r#"{"spec":{}}"#,
            r#"{"spec":{"containers":[{"name":"c"}]}}"#,
            r#"+{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{}}}}} ~{} -{}"#,
        ),
        (
            r#"{"spec":{"containers":[{"name":"c"}]}}"#,
            r#"{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1"}}}]}}"#,
            r#"+{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:resources":{"f:limits":{".":{},"f:cpu":{}}}}}}} ~{} -{}"#,
        ),
        // The order of keyed lists is nobody's.
        (
            r#"{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}"#,
            r#"{"spec":{"containers":[{"name":"b"},{"name":"a"}]}}"#,
            "+{} ~{} -{}",
        ),
    ] {
        assert_eq!(difference(pod(), old, new), expect, "{old} {new}");
    }
    assert_eq!(
        difference(ObjectType::Unknown, r#"{"a":{"b":1},"c":[1],"d":1}"#, r#"{"a":2,"c":[2],"d":1.0}"#),
        r#"+{} ~{"f:a":{},"f:c":{}} -{"f:a":{"f:b":{}}}"#
    );
}

#[test]
fn embedded_text_is_compared_by_what_it_says() {
    let schema = Schema::parse("T\n\tdata\t0\traw\tp\n").expect("it is well-formed");
    let ty = ObjectType::Struct(&schema, schema.find("T").expect("it is there"));
    let mut old = Value::default();
    old.set(&["data"], Value::Raw(r#"{"a":1,"b":2}"#.into()));
    assert!(compare(ty, &old, &tree(r#"{"data":{"b":2,"a":1}}"#)).expect("they fit").is_empty());
    assert_eq!(
        compare(ty, &old, &tree(r#"{"data":{"b":3}}"#)).expect("they fit").modified.to_text(),
        r#"{"f:data":{}}"#
    );
}
