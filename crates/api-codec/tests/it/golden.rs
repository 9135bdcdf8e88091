//! The fully populated objects of upstream's own compatibility tests, in JSON and protobuf.

use std::path::{Path, PathBuf};

use api_codec::{TypeCodec, builtin, json, proto, transcode};
use api_schema::Value;

/// Where the pairs are: beside the repository.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/golden")
}

/// One pair.
pub(crate) struct Golden {
    /// The file name without its ending: `apps.v1.Deployment`.
    pub(crate) name: String,
    pub(crate) json: Vec<u8>,
    pub(crate) proto: Vec<u8>,
}

impl Golden {
    /// The type of the object.
    pub(crate) fn ty(&self) -> TypeCodec<'static> {
        let (group_version, kind) = self.name.rsplit_once('.').expect("group.version.Kind");
        let (group, version) = group_version.rsplit_once('.').expect("group.version");
        // The files say `core` for the empty group, and keep the options and answers of meta/v1 there.
        let group = if group == "core" { "" } else { group };
        let candidates = [api_types::type_name(group, version, kind), api_types::type_name("meta.k8s.io", "v1", kind)];
        candidates.iter().find_map(|name| builtin().find(name)).unwrap_or_else(|| panic!("no type for {}", self.name))
    }
}

/// All pairs, by name.
pub(crate) fn all() -> Vec<Golden> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the golden objects beside the repository")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    let read = |name: &str, ending: &str| std::fs::read(folder().join(format!("{name}.{ending}"))).expect("read");
    names.into_iter().map(|name| Golden { json: read(&name, "json"), proto: read(&name, "pb"), name }).collect()
}

pub(crate) fn golden(name: &str) -> Golden {
    all().into_iter().find(|golden| golden.name == name).expect("a golden object of this name")
}

/// Runs a check on every pair, and reports all that fail at once.
fn check_all(check: impl Fn(&Golden) -> Result<(), String>) {
    let all = all();
    assert_eq!(all.len(), 185);
    let failed: Vec<String> =
        all.iter().filter_map(|golden| check(golden).err().map(|error| format!("{}: {error}", golden.name))).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), all.len(), failed.join("\n"));
}

fn decode_json(golden: &Golden) -> Result<Value, String> {
    let decoded =
        json::decode(Some(golden.ty()), &golden.json, json::Options::STRICT).map_err(|error| error.to_string())?;
    match decoded.problems.first() {
        None => Ok(decoded.value),
        Some(problem) => Err(problem.to_string()),
    }
}

/// The first place where two texts differ, with what stands around it.
fn difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let around =
        |bytes: &[u8]| String::from_utf8_lossy(&bytes[at.saturating_sub(60)..bytes.len().min(at + 60)]).into_owned();
    format!("at {at}\n  ours   {:?}\n  theirs {:?}", around(ours), around(theirs))
}

fn same(ours: &[u8], theirs: &[u8]) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(difference(ours, theirs)) }
}

#[test]
fn json_becomes_protobuf_byte_for_byte() {
    check_all(|golden| {
        let ours = proto::encode_object(golden.ty(), &decode_json(golden)?).map_err(|error| error.to_string())?;
        same(&ours, &golden.proto)
    });
}

#[test]
fn json_is_written_as_it_was_read() {
    check_all(|golden| {
        let (mut compact, mut ours) = (Vec::new(), Vec::new());
        json::encode(Some(golden.ty()), &decode_json(golden)?, &mut compact);
        json::pretty(&compact, &mut ours);
        same(&ours, &golden.json)
    });
}

#[test]
fn protobuf_becomes_the_same_json_and_the_same_protobuf() {
    check_all(|golden| {
        let value = proto::decode_object(golden.ty(), &golden.proto).map_err(|error| error.to_string())?;
        let again = proto::encode_object(golden.ty(), &value).map_err(|error| error.to_string())?;
        same(&again, &golden.proto)?;
        let (mut compact, mut ours) = (Vec::new(), Vec::new());
        json::encode(Some(golden.ty()), &value, &mut compact);
        json::pretty(&compact, &mut ours);
        same(&ours, &golden.json)
    });
}

#[test]
fn protobuf_becomes_the_same_json_without_a_tree() {
    check_all(|golden| {
        let (mut compact, mut ours) = (Vec::new(), Vec::new());
        transcode::object_to_json(golden.ty(), &golden.proto, &mut compact).map_err(|error| error.to_string())?;
        json::pretty(&compact, &mut ours);
        same(&ours, &golden.json)
    });
}
