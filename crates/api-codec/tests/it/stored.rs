//! Reading and changing the metadata of stored bytes; lists and watch frames made of them.

use api_codec::proto::envelope;
use api_codec::{json, list, meta, proto, transcode, watch};
use api_schema::Value;

use crate::golden::{all, golden};

/// The objects that have ObjectMeta.
fn with_metadata() -> impl Iterator<Item = crate::golden::Golden> {
    all().into_iter().filter(|golden| golden.name != "core.v1.WatchEvent").filter(|golden| {
        let value = proto::decode_object(golden.ty(), &golden.proto).expect("a golden object");
        value.at(&["metadata", "uid"]).is_some()
    })
}

#[test]
fn metadata_is_read_alike_from_both_forms() {
    let mut count = 0;
    for golden in with_metadata() {
        let envelope = envelope::split(&golden.proto).expect("an envelope");
        let view = meta::scan(envelope.raw).expect("metadata");
        assert_eq!(view, meta::scan_json(&golden.json).expect("metadata"), "{}", golden.name);
        assert_eq!((&*view.name, &*view.namespace, &*view.uid), ("nameValue", "namespaceValue", "uidValue"));
        assert_eq!(view.label("labelsKey"), Some("labelsValue"));
        assert_eq!(view.owner_references[0].kind, "kindValue");
        assert!(view.owner_references[0].controller);
        assert_eq!(view.finalizers, ["finalizersValue"]);
        assert_eq!(view.creation_timestamp, Some(1_199_149_261));
        count += 1;
    }
    assert!(count > 150, "{count}");
}

#[test]
fn a_resource_version_is_put_in_and_nothing_else_changes() {
    for golden in with_metadata() {
        for version in [1, 99, 18_446_744_073_709_551_615u64] {
            let mut expected = proto::decode_object(golden.ty(), &golden.proto).expect("a golden object");
            expected.set(&["metadata", "resourceVersion"], version.to_string());
            let spliced = meta::splice_resource_version(&golden.proto, version).expect("spliced");
            assert_eq!(spliced, proto::encode_object(golden.ty(), &expected).expect("encoded"), "{}", golden.name);

            let raw = envelope::split(&golden.proto).expect("an envelope").raw;
            let stamp = meta::Stamp::of(&golden.proto).expect("metadata");
            let mut message = Vec::new();
            stamp.put_message(&golden.proto, version, &mut message);
            assert_eq!(message, envelope::split(&spliced).expect("an envelope").raw, "{}", golden.name);
            assert_eq!(message.len(), stamp.message_len(version));

            let (mut shown, mut text) = (Vec::new(), Vec::new());
            transcode::proto_to_json(golden.ty(), "v1", "K", &message, &mut text).expect("JSON");
            for stamp in [None, Some(&stamp)] {
                shown.clear();
                transcode::stored_to_json(golden.ty(), "v1", "K", raw, version, stamp, &mut shown).expect("JSON");
                assert_eq!(String::from_utf8_lossy(&shown), String::from_utf8_lossy(&text), "{}", golden.name);
            }

            let spliced = meta::splice_resource_version_json(&golden.json, version).expect("spliced");
            let read = json::decode(Some(golden.ty()), &spliced, json::Options::STRICT).expect("JSON").value;
            assert_eq!(read, expected, "{}", golden.name);
        }
    }
}

#[test]
fn a_resource_version_finds_its_place_where_there_is_none() {
    let check = |text: &str, expected: &str| {
        let spliced = meta::splice_resource_version_json(text.as_bytes(), 5).expect("spliced");
        assert_eq!(String::from_utf8(spliced).expect("text"), expected, "{text}");
    };
    check("{}", r#"{"metadata":{"resourceVersion":"5"}}"#);
    check(r#"{"apiVersion":"v1"}"#, r#"{"apiVersion":"v1","metadata":{"resourceVersion":"5"}}"#);
    check(r#"{"a":1,"spec":{}}"#, r#"{"a":1,"metadata":{"resourceVersion":"5"},"spec":{}}"#);
    check(r#"{"metadata":null}"#, r#"{"metadata":{"resourceVersion":"5"}}"#);
    check(r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"5"}}"#);
    check(r#"{"metadata":{"name":"n","uid":"u"}}"#, r#"{"metadata":{"name":"n","resourceVersion":"5","uid":"u"}}"#);
    check(r#"{"metadata":{"resourceVersion":"4711","uid":"u"}}"#, r#"{"metadata":{"resourceVersion":"5","uid":"u"}}"#);

    let empty = envelope::wrap("v1", "ConfigMap", b"");
    let spliced = meta::splice_resource_version(&empty, 5).expect("spliced");
    assert_eq!(
        meta::scan(envelope::split(&spliced).expect("an envelope").raw).expect("metadata").resource_version,
        "5"
    );
}

#[test]
fn the_kind_of_a_text_is_read_as_upstream_reads_it() {
    let check = |text: &str, expected: Result<(&str, &str), &str>| {
        let found = meta::type_meta(text.as_bytes());
        let found = found.as_ref().map(|meta| (&*meta.api_version, &*meta.kind)).map_err(ToString::to_string);
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    };
    check(r#"{"apiVersion":"v1","kind":"Pod"}"#, Ok(("v1", "Pod")));
    check(r#"{"Kind":"Pod","kind":null}"#, Ok(("", "Pod")));
    check("null", Ok(("", "")));
    check("", Err("unexpected end of JSON input"));
    check("{\"a\":1", Err("unexpected end of JSON input"));
    check("x", Err("invalid character 'x' looking for beginning of value"));
    check(r#"{"kind":5}"#, Err("json: cannot unmarshal number into Go struct field .kind of type string"));
    check(
        "[]",
        Err("json: cannot unmarshal array into Go value of type struct { APIVersion string \
             \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }"),
    );
}

#[test]
fn a_list_of_bytes_is_the_list_of_objects() {
    let pod = golden("core.v1.Pod");
    let ty = api_codec::builtin().find("io.k8s.api.core.v1.PodList").expect("PodList");
    let raw = envelope::split(&pod.proto).expect("an envelope").raw;
    let mut item = Vec::new();
    transcode::proto_to_json(pod.ty(), "", "", raw, &mut item).expect("JSON");

    for (meta, count) in [
        (list::ListMeta { resource_version: "7", continue_token: "abc", remaining_item_count: Some(3) }, 2),
        (list::ListMeta { resource_version: "7", ..list::ListMeta::default() }, 1),
        (list::ListMeta::default(), 0),
    ] {
        let (mut as_json, mut as_proto, mut again) = (Vec::new(), Vec::new(), Vec::new());
        list::json(list::Order::Declared, "v1", "PodList", meta, vec![&*item; count], &mut as_json);
        list::proto("v1", "PodList", meta, vec![raw; count], &mut as_proto);
        let from_json = json::decode(Some(ty), &as_json, json::Options::STRICT).expect("a list").value;
        assert_eq!(from_json.list_at(&["items"]).len(), count);
        assert_eq!(as_proto, proto::encode_object(ty, &from_json).expect("encoded"));
        json::encode(Some(ty), &from_json, &mut again);
        assert_eq!(String::from_utf8_lossy(&as_json), String::from_utf8_lossy(&again));
    }
}

#[test]
fn a_list_of_custom_resources_is_sorted_by_name() {
    let mut out = Vec::new();
    let meta = list::ListMeta { resource_version: "7", remaining_item_count: Some(1), ..list::ListMeta::default() };
    list::json(list::Order::Sorted, "example.com/v1", "TabList", meta, [&b"{\"a\":1}"[..], b"{}"], &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        r#"{"apiVersion":"example.com/v1","items":[{"a":1},{}],"kind":"TabList","metadata":{"continue":"","remainingItemCount":1,"resourceVersion":"7"}}"#
    );
}

#[test]
fn watch_frames_hold_the_object() {
    let pod = golden("core.v1.Pod");
    let mut frame = Vec::new();
    watch::json_frame("ADDED", b"{\"kind\":\"Pod\"}", &mut frame);
    assert_eq!(frame, b"{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\"}}\n");

    frame.clear();
    watch::proto_frame("MODIFIED", &pod.proto, &mut frame);
    let (length, event) = frame.split_at(4);
    assert_eq!(u32::from_be_bytes(length.try_into().expect("four bytes")) as usize, event.len());
    let ty = api_codec::builtin().find("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent").expect("WatchEvent");
    let event = proto::decode(ty, event).expect("an event");
    assert_eq!(event.str_at(&["type"]), "MODIFIED");
    // The enveloped object inside is shown as the JSON it stands for.
    let Some(Value::Raw(object)) = event.get("object") else { panic!("{event:?}") };
    let read = json::decode(Some(pod.ty()), object.as_bytes(), json::Options::STRICT).expect("JSON").value;
    assert_eq!(read, proto::decode_object(pod.ty(), &pod.proto).expect("a pod"));
}

#[test]
fn fields_of_later_versions_are_kept_in_protobuf_and_not_shown_in_json() {
    let check = |ty: &str, message: &[u8], text: &str| {
        let ty = api_codec::builtin().find(ty).expect("a type");
        let value = proto::decode(ty, message).expect("a message");
        let (mut again, mut as_json, mut directly) = (Vec::new(), Vec::new(), Vec::new());
        proto::encode(ty, &value, &mut again).expect("what was read can be written");
        assert_eq!(again, message);
        json::encode(Some(ty), &value, &mut as_json);
        assert_eq!(String::from_utf8_lossy(&as_json), text);
        transcode::proto_to_json(ty, "", "", message, &mut directly).expect("JSON");
        assert_eq!(String::from_utf8_lossy(&directly), text);
    };
    // Field 1000 with the number 1, in the struct itself and in one that is flattened into it.
    let unknown = [0xc0, 0x3e, 1];
    let local = "io.k8s.api.core.v1.LocalObjectReference";
    check(local, &[&[0x0a, 1, b'n'][..], &unknown].concat(), r#"{"name":"n"}"#);
    let selector = "io.k8s.api.core.v1.ConfigMapKeySelector";
    let inner = [&[0x0a, 1, b'n'][..], &unknown].concat();
    let message = [&[0x0a, inner.len() as u8][..], &inner, &[0x12, 1, b'k'], &unknown].concat();
    check(selector, &message, r#"{"name":"n","key":"k"}"#);
}

#[test]
fn a_value_split_over_a_message_is_read_as_one() {
    let ty = api_codec::builtin().find("io.k8s.api.core.v1.ConfigMap").expect("ConfigMap");
    let entry = |key: u8| [0x0a, 1, key, 0x12, 1, b'v'];
    let data = |key: u8| [&[0x12, 6][..], &entry(key)].concat();
    let labels = |key: u8| [&[0x0a, 8, 0x5a, 6][..], &entry(key)].concat();
    let message = [data(b'b'), labels(b'y'), data(b'a'), labels(b'x')].concat();
    let value = proto::decode(ty, &message).expect("a message");
    let mut text = Vec::new();
    transcode::proto_to_json(ty, "", "", &message, &mut text).expect("JSON");
    let expected = r#"{"metadata":{"labels":{"x":"v","y":"v"}},"data":{"a":"v","b":"v"}}"#;
    assert_eq!(String::from_utf8_lossy(&text), expected);
    assert_eq!(json::decode(Some(ty), expected.as_bytes(), json::Options::STRICT).expect("JSON").value, value);
}

#[test]
fn a_tree_of_another_shape_is_not_written_as_protobuf() {
    let ty = api_codec::builtin().find("io.k8s.api.apps.v1.Deployment").expect("Deployment");
    let mut value = ty.zero();
    value.set(&["spec", "replicas"], "three");
    let error = proto::encode_object(ty, &value).expect_err("no number");
    assert_eq!(
        error.to_string(),
        "field \"replicas\" of io.k8s.api.apps.v1.DeploymentSpec holds a value that is no whole number"
    );
    assert_eq!(
        json::retype(ty, &value, json::Options::default()).expect_err("no number").to_string(),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
}

#[test]
fn sets_of_fields_are_copied_only_where_they_may_be() {
    let ty = api_codec::builtin().find("io.k8s.api.apps.v1.Deployment").expect("a type");
    let check = |own: &str, of_template: &str| {
        let text = format!(
            r#"{{"metadata":{{"name":"d","managedFields":[{{"manager":"m"}},{{"manager":"n","fieldsV1":{own}}}]}},
                "spec":{{"selector":{{}},"template":{{"metadata":{{"managedFields":[{{"fieldsV1":{of_template}}}]}}}}}}}}"#
        );
        let value = json::decode(Some(ty), text.as_bytes(), json::Options::STRICT).expect("JSON").value;
        let enveloped = proto::encode_object(ty, &value).expect("encoded");
        let raw = envelope::split(&enveloped).expect("an envelope").raw;
        let stamp = meta::Stamp::of(&enveloped).expect("metadata");
        let mut shown = Vec::new();
        transcode::stored_to_json(ty, "", "", raw, 5, Some(&stamp), &mut shown).expect("JSON");
        let mut expected = Vec::new();
        let mut value = proto::decode(ty, raw).expect("a tree");
        value.set(&["metadata", "resourceVersion"], "5");
        json::encode(Some(ty), &value, &mut expected);
        assert_eq!(String::from_utf8_lossy(&shown), String::from_utf8_lossy(&expected));
    };
    let (plain, escaped) = (r#"{"f:a":{}}"#, r#"{"f:<":{},"n":1}"#);
    check(plain, plain);
    check(plain, escaped);
    check(escaped, plain);
    check(escaped, escaped);
}
