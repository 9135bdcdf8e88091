//! JSON patch, merge patch and strategic merge patch.

use api_patch::json_patch::JsonPatch;
use api_patch::{PatchError, merge_patch, strategic};
use api_schema::Value;

use crate::support::{built_in, text, tree};

/// What came of it: the object as text, or the code and the message of the error.
fn outcome(result: Result<Value, PatchError>) -> String {
    match result {
        Ok(object) => text(&object),
        Err(error) => format!("{} {error}", error.to_status().code),
    }
}

fn json_patch(object: &str, patch: &str) -> String {
    let mut object = tree(object);
    outcome(JsonPatch::decode(&tree(patch), true).and_then(|patch| patch.apply(&mut object)).map(|()| object))
}

#[test]
fn json_patch_does_what_the_rfc_says() {
    for (object, patch, expect) in [
        (r#"{"a":1}"#, r#"[{"op":"add","path":"/b","value":[1]}]"#, r#"{"a":1,"b":[1]}"#),
        (r#"{"l":[1,3]}"#, r#"[{"op":"add","path":"/l/1","value":2}]"#, r#"{"l":[1,2,3]}"#),
        (r#"{"l":[1]}"#, r#"[{"op":"add","path":"/l/-","value":2}]"#, r#"{"l":[1,2]}"#),
        (r#"{"l":[1,2,3]}"#, r#"[{"op":"remove","path":"/l/1"}]"#, r#"{"l":[1,3]}"#),
        (r#"{"a/b":{"c~d":1}}"#, r#"[{"op":"replace","path":"/a~1b/c~0d","value":2}]"#, r#"{"a/b":{"c~d":2}}"#),
        (r#"{"~1":1}"#, r#"[{"op":"remove","path":"/~01"}]"#, "{}"),
        (r#"{"a":{"b":1},"c":{}}"#, r#"[{"op":"move","from":"/a/b","path":"/c/d"}]"#, r#"{"a":{},"c":{"d":1}}"#),
        (
            r#"{"a":[1]}"#,
            r#"[{"op":"copy","from":"/a","path":"/b"},{"op":"add","path":"/b/-","value":2}]"#,
            r#"{"a":[1],"b":[1,2]}"#,
        ),
        (r#"{"a":{"b":[1,"x"]}}"#, r#"[{"op":"test","path":"/a","value":{"b":[1,"x"]}}]"#, r#"{"a":{"b":[1,"x"]}}"#),
        (r#"{"a":1}"#, r#"[{"op":"replace","path":"","value":{"b":2}}]"#, r#"{"b":2}"#),
        (r#"{"a":1}"#, "null", r#"{"a":1}"#),
    ] {
        assert_eq!(json_patch(object, patch), expect, "{object} {patch}");
    }
}

#[test]
fn json_patch_is_as_lenient_as_upstreams_library() {
    for (object, patch, expect) in [
        // Replacing what is not there adds it.
        (r#"{"a":1}"#, r#"[{"op":"replace","path":"/b","value":2}]"#, r#"{"a":1,"b":2}"#),
        (r#"{"l":[1,2]}"#, r#"[{"op":"replace","path":"/l/-1","value":3}]"#, r#"{"l":[1,3]}"#),
        (r#"{"l":[1,2]}"#, r#"[{"op":"add","path":"/l/-1","value":3}]"#, r#"{"l":[1,2,3]}"#),
        (r#"{"l":[1,2]}"#, r#"[{"op":"remove","path":"/l/-2"}]"#, r#"{"l":[2]}"#),
        (r#"{"a":1}"#, r#"[{"op":"test","path":"/b","value":null}]"#, r#"{"a":1}"#),
        (r#"{"a":1}"#, r#"[{"op":"test","path":"/b"}]"#, r#"{"a":1}"#),
        (r#"{"a":1}"#, r#"[{"op":"add","path":"/b"}]"#, r#"{"a":1,"b":null}"#),
        (r#"{"a":1}"#, r#"[{"op":"copy","from":"/x","path":"/b"}]"#, r#"{"a":1,"b":null}"#),
        (r#"{"a":1}"#, r#"[{"op":"remove","path":"x/a"}]"#, "{}"),
    ] {
        assert_eq!(json_patch(object, patch), expect, "{object} {patch}");
    }
}

#[test]
fn json_patch_that_does_not_apply_is_422() {
    for (object, patch) in [
        (r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":2}]"#),
        (r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":1.0}]"#),
        (r#"{"a":1}"#, r#"[{"op":"remove","path":"/b"}]"#),
        (r#"{"a":1}"#, r#"[{"op":"add","path":"/b/c","value":2}]"#),
        (r#"{"a":1}"#, r#"[{"op":"add","path":"/a/c","value":2}]"#),
        (r#"{"a":1}"#, r#"[{"op":"add","path":"","value":{}}]"#),
        (r#"{"a":1}"#, r#"[{"op":"replace","path":"","value":1}]"#),
        (r#"{"a":1}"#, r#"[{"op":"frobnicate","path":"/a"}]"#),
        (r#"{"a":1}"#, r#"[{"path":"/a"}]"#),
        (r#"{"a":1}"#, r#"[{"op":"add"}]"#),
        (r#"{"a":1}"#, r#"[null]"#),
        (r#"{"l":[1]}"#, r#"[{"op":"add","path":"/l/2","value":2}]"#),
        (r#"{"l":[1]}"#, r#"[{"op":"add","path":"/l/-3","value":2}]"#),
        (r#"{"l":[1]}"#, r#"[{"op":"replace","path":"/l/1","value":2}]"#),
        (r#"{"l":[1]}"#, r#"[{"op":"remove","path":"/l/x"}]"#),
        (r#"{"l":[1]}"#, r#"[{"op":"replace","path":"/l/-","value":2}]"#),
        (r#"{"a":{"b":1}}"#, r#"[{"op":"move","from":"/a","path":"/a/b"}]"#),
    ] {
        let got = json_patch(object, patch);
        assert!(got.starts_with("422 "), "{object} {patch}: {got}");
    }
    let status = PatchError::NotApplicable("why".into()).to_status();
    assert_eq!(status.message, "the server rejected our request due to an error in our request");
    assert_eq!(status.reason, "Invalid");
}

#[test]
fn json_patch_that_is_none_is_400() {
    for (patch, expect) in [
        (
            r#"{"op":"add"}"#,
            "400 error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            r#"["x"]"#,
            "400 error decoding patch: json: cannot unmarshal string into Go value of type handlers.jsonPatchOp",
        ),
        (
            r#"[{"op":"add","path":7}]"#,
            "400 error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.path of type string",
        ),
    ] {
        assert_eq!(json_patch("{}", patch), expect);
    }
    let unchecked = JsonPatch::decode(&tree("{}"), false).expect_err("it is no list");
    assert_eq!(unchecked.to_string(), "json: cannot unmarshal object into Go value of type jsonpatch.Patch");
    let patch = JsonPatch::decode(&tree(r#"[{"op":"test","path":"/x","why":1}]"#), true).expect("it is lenient");
    assert_eq!(patch.unknown_fields, [r#"json patch unknown field "[0].why""#]);
}

#[test]
fn json_patch_has_bounds() {
    let operation = tree(r#"{"op":"test","path":"/x","value":null}"#);
    let many = Value::List(vec![operation.clone(); 10_001]);
    let status = JsonPatch::decode(&many, true).expect_err("too many").to_status();
    assert_eq!((status.code, status.reason.as_str()), (413, "RequestEntityTooLarge"));
    assert_eq!(
        status.message,
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
    JsonPatch::decode(&Value::List(vec![operation; 10_000]), true).expect("just enough");

    // Doubling a megabyte thrice passes 3 MiB.
    let object = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
    let copy = |times: usize| {
        let copies: Vec<String> =
            (0..times).map(|at| format!(r#"{{"op":"copy","from":"/a","path":"/b{at}"}}"#)).collect();
        json_patch(&object, &format!("[{}]", copies.join(",")))
    };
    assert!(copy(2).starts_with('{'));
    assert!(copy(3).starts_with("422 Unable to complete the copy"));
}

#[test]
fn json_patch_looks_into_embedded_text() {
    let mut object = Value::default();
    object.set(&["data"], Value::Raw(r#"{"a":[1]}"#.into()));
    let patch = tree(r#"[{"op":"test","path":"/data","value":{"a":[1]}},{"op":"add","path":"/data/a/-","value":2}]"#);
    JsonPatch::decode(&patch, true).and_then(|patch| patch.apply(&mut object)).expect("it applies");
    assert_eq!(text(&object), r#"{"data":{"a":[1,2]}}"#);
}

fn merge(object: &str, patch: &str) -> String {
    let mut object = tree(object);
    outcome(merge_patch::apply(&mut object, &tree(patch), true).map(|()| object))
}

#[test]
fn merge_patch_merges_maps_and_replaces_the_rest() {
    for (object, patch, expect) in [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        (r#"{"a":"x"}"#, r#"{"a":{"b":{"c":null,"d":1}}}"#, r#"{"a":{"b":{"d":1}}}"#),
        (r#"{"a":1}"#, "null", "400 Invalid JSON Patch"),
        (
            r#"{"a":1}"#,
            "[1]",
            "400 error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
    ] {
        assert_eq!(merge(object, patch), expect, "{object} {patch}");
    }
}

fn strategic(kind: &str, object: &str, patch: &str) -> String {
    outcome(strategic::apply(api_types::schema(), built_in(kind), tree(object), &tree(patch)))
}

/// A Pod with these containers: `a=1 b=2` are their names and images.
fn pod(containers: &str) -> String {
    let items: Vec<String> = containers
        .split_whitespace()
        .map(|item| {
            let (name, image) = item.split_once('=').expect("name=image");
            format!(r#"{{"name":"{name}","image":"{image}"}}"#)
        })
        .collect();
    format!(r#"{{"spec":{{"containers":[{}]}}}}"#, items.join(","))
}

/// The names and images of a Pod's containers in their order, or the error.
fn containers(containers: &str, patch: &str) -> String {
    let patch = format!(r#"{{"spec":{patch}}}"#);
    match strategic::apply(api_types::schema(), built_in("core.v1.Pod"), tree(&pod(containers)), &tree(&patch)) {
        Ok(object) => {
            let items = object.list_at(&["spec", "containers"]);
            let shown: Vec<String> =
                items.iter().map(|item| format!("{}={}", item.str_at(&["name"]), item.str_at(&["image"]))).collect();
            shown.join(" ")
        }
        Err(error) => format!("{} {error}", error.to_status().code),
    }
}

#[test]
fn lists_of_maps_merge_by_their_key() {
    for (live, patch, expect) in [
        ("a=1 b=2", r#"{"containers":[{"name":"b","image":"3"}]}"#, "a=1 b=3"),
        ("a=1", r#"{"containers":[{"name":"b","image":"2"}]}"#, "b=2 a=1"),
        ("a=1 b=2", r#"{"containers":[{"$patch":"delete","name":"a"}]}"#, "b=2"),
        ("a=1 b=2", r#"{"containers":[{"$patch":"replace"},{"name":"c","image":"3"}]}"#, "c=3"),
        ("a=1 b=2", r#"{"containers":[{"name":"a","$patch":"delete"},{"name":"c","image":"3"}]}"#, "c=3 b=2"),
        ("a=1 b=2", r#"{"containers":null}"#, ""),
        ("a=1 b=2", r#"{"$patch":"replace","containers":[{"name":"c","image":"3"}]}"#, "c=3"),
        ("a=1 b=2", r#"{"$patch":"delete"}"#, ""),
        // A patch in another order than the live list leads.
        ("a=1 b=2 c=3", r#"{"containers":[{"name":"c","image":"4"},{"name":"a","image":"5"}]}"#, "b=2 c=4 a=5"),
    ] {
        assert_eq!(containers(live, patch), expect, "{live} {patch}");
    }
}

#[test]
fn the_patch_may_set_the_order_of_a_list() {
    for (live, patch, expect) in [
        ("a=1 b=2 c=3", r#"{"$setElementOrder/containers":[{"name":"c"},{"name":"a"},{"name":"b"}]}"#, "c=3 a=1 b=2"),
        (
            "a=1 b=2",
            r#"{"$setElementOrder/containers":[{"name":"c"},{"name":"a"}],"containers":[{"name":"c","image":"3"}]}"#,
            "c=3 a=1 b=2",
        ),
        (
            "a=1 x=9 b=2",
            r#"{"$setElementOrder/containers":[{"name":"a"},{"name":"b"},{"name":"c"}],"containers":[{"name":"c","image":"3"}]}"#,
            "a=1 x=9 b=2 c=3",
        ),
        (
            "a=1 b=2",
            r#"{"$setElementOrder/containers":[{"name":"b"}],"containers":[{"$patch":"delete","name":"a"}]}"#,
            "b=2",
        ),
        // What is added where something is deleted takes its place in the live order.
        (
            "x=1 b=2",
            r#"{"$setElementOrder/containers":[{"name":"q"},{"name":"z"}],"containers":[{"$patch":"delete","name":"x"},{"name":"z","image":"3"}]}"#,
            "b=2 z=3",
        ),
        (
            "b=2",
            r#"{"$setElementOrder/containers":[{"name":"q"},{"name":"z"}],"containers":[{"name":"z","image":"3"}]}"#,
            "z=3 b=2",
        ),
        (
            "a=1",
            r#"{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"z","image":"3"}]}"#,
            "500 The order in patch list:\n[map[image:3 name:z]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
        ),
        ("a=1", r#"{"$setElementOrder/containers":7}"#, "500 expected a []interface {}, but received a int64"),
        ("a=1", r#"{"$setElementOrdercontainers":[]}"#, "400 invalid patch format of setElementOrder list"),
    ] {
        assert_eq!(containers(live, patch), expect, "{live} {patch}");
    }
}

#[test]
fn lists_of_scalars_merge_as_sets() {
    let finalizers = |live: &str, patch: &str| {
        strategic(
            "core.v1.Pod",
            &format!(r#"{{"metadata":{{"finalizers":{live}}}}}"#),
            &format!(r#"{{"metadata":{patch}}}"#),
        )
    };
    for (live, patch, expect) in [
        (r#"["a","b"]"#, r#"{"finalizers":["b","c"]}"#, r#"["a","b","c"]"#),
        (r#"["a","b"]"#, r#"{"$deleteFromPrimitiveList/finalizers":["a"]}"#, r#"["b"]"#),
        (r#"["a","b"]"#, r#"{"$deleteFromPrimitiveList/finalizers":["a"],"finalizers":["c"]}"#, r#"["c","b"]"#),
        (r#"["a","b"]"#, r#"{"$setElementOrder/finalizers":["b","a","c"],"finalizers":["c"]}"#, r#"["b","a","c"]"#),
        (r#"["a","b"]"#, r#"{"$deleteFromPrimitiveList/other":["a"]}"#, r#"["a","b"]"#),
    ] {
        assert_eq!(finalizers(live, patch), format!(r#"{{"metadata":{{"finalizers":{expect}}}}}"#), "{live} {patch}");
    }
    assert_eq!(
        finalizers(r#"["a"]"#, r#"{"finalizers":["b",7]}"#),
        "500 list element types are not identical: [[a] [b 7]]"
    );
    assert_eq!(
        finalizers(r#"["a"]"#, r#"{"finalizers":[["b"]]}"#),
        "500 list element types are not identical: [[a] [[b]]]"
    );
    assert_eq!(finalizers("[]", r#"{"finalizers":[["b"]]}"#), "422 lists of lists are not supported");
    assert_eq!(
        finalizers("[]", r#"{"$deleteFromPrimitiveListfinalizers":[]}"#),
        "400 invalid patch format of primitive list"
    );
}

#[test]
fn maps_merge_and_other_lists_are_replaced() {
    for (kind, object, patch, expect) in [
        (
            "core.v1.ConfigMap",
            r#"{"data":{"a":"1","b":"2"}}"#,
            r#"{"data":{"a":null,"c":"3"}}"#,
            r#"{"data":{"b":"2","c":"3"}}"#,
        ),
        ("core.v1.ConfigMap", r#"{}"#, r#"{"data":{"a":"1","b":null}}"#, r#"{"data":{"a":"1"}}"#),
        (
            "core.v1.Pod",
            r#"{"spec":{"tolerations":[{"key":"a"}]}}"#,
            r#"{"spec":{"tolerations":[{"key":"b"}]}}"#,
            r#"{"spec":{"tolerations":[{"key":"b"}]}}"#,
        ),
        // retainKeys: what the directive does not name goes.
        (
            "apps.v1.Deployment",
            r#"{"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}}"#,
            r#"{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}"#,
            r#"{"spec":{"strategy":{"type":"Recreate"}}}"#,
        ),
        (
            "core.v1.Pod",
            r#"{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}"#,
            r#"{"spec":{"volumes":[{"name":"v","$retainKeys":["name","hostPath"],"hostPath":{"path":"/x"}}]}}"#,
            r#"{"spec":{"volumes":[{"hostPath":{"path":"/x"},"name":"v"}]}}"#,
        ),
        (
            "core.v1.Service",
            r#"{"spec":{"ports":[{"port":80,"targetPort":1},{"port":81}]}}"#,
            r#"{"spec":{"ports":[{"port":80,"targetPort":2}]}}"#,
            r#"{"spec":{"ports":[{"port":80,"targetPort":2},{"port":81}]}}"#,
        ),
        ("core.v1.Pod", r#"{"kind":"Pod"}"#, "null", r#"{"kind":"Pod"}"#),
    ] {
        assert_eq!(strategic(kind, object, patch), expect, "{kind} {object} {patch}");
    }
}

#[test]
fn a_strategic_patch_that_contradicts_the_type_is_refused() {
    for (kind, object, patch, expect) in [
        (
            "apps.v1.Deployment",
            r#"{"spec":{"strategy":{"type":"RollingUpdate"}}}"#,
            r#"{"spec":{"strategy":{"$retainKeys":["rollingUpdate"],"type":"Recreate"}}}"#,
            "400 invalid patch format of retainKeys",
        ),
        (
            "apps.v1.Deployment",
            r#"{"spec":{"strategy":{}}}"#,
            r#"{"spec":{"strategy":{"$retainKeys":"type"}}}"#,
            "400 invalid patch format of retainKeys",
        ),
        (
            "core.v1.Pod",
            r#"{"spec":{"containers":[{"name":"a"}]}}"#,
            r#"{"spec":{"containers":[{"image":"x"}]}}"#,
            "500 map: map[image:x] does not contain declared merge key: name",
        ),
        (
            "core.v1.Pod",
            r#"{"spec":{"containers":[{"name":"a"}]}}"#,
            r#"{"spec":{"containers":["x"]}}"#,
            "500 list element types are not identical: [[map[name:a]] [x]]",
        ),
        (
            "core.v1.Pod",
            r#"{"spec":{"containers":[]}}"#,
            r#"{"spec":{"containers":["x"]}}"#,
            "500 expected a map[string]interface {}, but received a string",
        ),
        (
            "core.v1.Pod",
            r#"{"spec":{"a":1}}"#,
            r#"{"spec":{"$patch":"frobnicate"}}"#,
            "500 unknown patch type: frobnicate in map: map[$patch:frobnicate]",
        ),
        (
            "core.v1.Pod",
            r#"{"spec":{"wrong":{"a":1}}}"#,
            r#"{"spec":{"wrong":{"a":2}}}"#,
            "500 unable to find api field in struct PodSpec for the json field \"wrong\"",
        ),
        (
            "core.v1.Pod",
            r#"{"metadata":{"labels":{"a":{"b":1}}}}"#,
            r#"{"metadata":{"labels":{"a":{"b":2}}}}"#,
            "500 merging an object in json but data type is not struct, instead is: map",
        ),
        (
            "core.v1.Pod",
            r#"{"spec":{"containers":[{"name":"a"}]}}"#,
            r#"{"spec":{"containers":[{"name":"a","$patch":"merge"}]}}"#,
            "500 merging lists cannot yet be specified in the patch",
        ),
        ("core.v1.Pod", "{}", "[]", "400 json: cannot unmarshal array into Go value of type map[string]interface {}"),
    ] {
        assert_eq!(strategic(kind, object, patch), expect, "{kind} {object} {patch}");
    }
}
