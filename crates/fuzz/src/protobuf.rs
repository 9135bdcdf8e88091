//! Bodies in protobuf.

use api_codec::{TypeCodec, json, meta, proto, transcode};
use api_schema::Type;

use crate::objects::{golden, type_of};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    golden().iter().map(|golden| golden.proto.clone()).collect()
}

fn is_object(ty: TypeCodec<'_>) -> bool {
    let schema = api_types::schema();
    let metadata = schema.find(ty.name()).and_then(|id| schema.json_field(id, "metadata"));
    metadata.is_some_and(|field| field.ty == Type::Struct(api_types::meta("ObjectMeta")))
}

pub(crate) fn check(bytes: &[u8]) -> bool {
    let envelope = match proto::envelope::split(bytes) {
        Ok(envelope) => envelope,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let named = type_of(&envelope.api_version, &envelope.kind);
    let ty = named.or_else(|| type_of("v1", "Pod")).expect("there are Pods");
    let _ = (meta::scan(envelope.raw), meta::splice_message(envelope.raw, 7), meta::splice_resource_version(bytes, 7));
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    let transcoded = transcode::object_to_json(ty, bytes, &mut fast);
    match proto::decode_object(ty, bytes) {
        Ok(value) => {
            transcoded.expect("what can be read");
            json::encode(Some(ty), &value, &mut slow);
            assert_eq!(String::from_utf8_lossy(&slow), String::from_utf8_lossy(&fast));
            let again = proto::encode_object(ty, &value).expect("what was read can be written");
            assert_eq!(proto::decode_object(ty, &again).as_ref(), Ok(&value));
            // Only objects have a version of their own, and only what we wrote is spliced.
            let spliced = meta::splice_resource_version(&again, 7);
            if let (true, Ok(spliced)) = (is_object(ty), spliced) {
                let spliced = proto::decode_object(ty, &spliced).expect("what was read can still be read");
                assert_eq!(spliced.str_at(&["metadata", "resourceVersion"]), "7");
            }
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(transcoded, Err(error));
            false
        }
    }
}
