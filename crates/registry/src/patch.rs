//! Patches of every type: read, change, write, with the flow that all updates share.

use api_codec::json;
use api_patch::{json_patch, merge_patch, strategic};
use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, Path, quoted};
use api_semantics::status::Status;

use crate::codec;
use crate::options::FieldValidation;
use crate::ownership;
use crate::registry::Registry;
use crate::storage::{Served, StoredAs};
use crate::write::{Context, Part, Written, check_name};

/// The types of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Upstream's own, by the tables.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl PatchType {
    /// The type of a Content-Type.
    pub fn from_media_type(text: &str) -> Option<Self> {
        match text.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

/// A patch that is read once and applied as often as needed.
enum Ready {
    Json(json_patch::JsonPatch),
    Merge,
    Strategic,
}

/// A patch with what is wrong with it and yet tolerable.
struct Patch {
    ready: Ready,
    /// The patch as it was sent.
    sent: Value,
    /// Fields that stand twice in it, or that no operation has.
    problems: Vec<String>,
}

impl Registry {
    /// Patches an object (or, by apply, creates it).
    ///
    /// # Errors
    /// Any of the API's errors; nothing is changed then.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    pub async fn patch(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        name: &str,
        subresource: &str,
        ty: PatchType,
        body: &[u8],
    ) -> Result<Written, Status> {
        if ty == PatchType::Apply {
            return self.apply(served, cx, namespace, name, subresource, body).await;
        }
        cx.patches = true;
        let patch = read_patch(served, ty, body, cx)?;
        let part = Part::new(subresource);
        self.modify(served, cx, namespace, name, part, |existing, cx| {
            let versioned = codec::to_served(served, existing.value.clone())?;
            let patched = apply_to(served, &patch, versioned, cx)?;
            check_name(&patched, namespace, name)?;
            let mut object = codec::to_stored(served, patched)?;
            served.storage.kind.default(&mut object);
            Ok(object)
        })
        .await
    }

    /// Patches something that is no stored object of its own (a Scale): `ty` is its type.
    ///
    /// # Errors
    /// As [`Registry::patch`].
    pub fn patch_value(
        &self,
        api_version: &str,
        kind: &str,
        patch: PatchType,
        body: &[u8],
        object: &Value,
        cx: &mut Context,
    ) -> Result<Value, Status> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let type_id = api_types::struct_id(&api_types::type_name(group, version, kind));
        let patched = match patch {
            PatchType::Json => {
                let mut object = object.clone();
                read_json_patch(body)?.apply(&mut object)?;
                object
            }
            PatchType::Merge | PatchType::Apply => {
                let mut object = object.clone();
                merge_patch::apply(&mut object, &parse(body)?, true)?;
                object
            }
            PatchType::Strategic => strategic::apply(api_types::schema(), type_id, object.clone(), &parse(body)?)?,
        };
        retype(api_codec::builtin().of(type_id), &patched, cx)
    }

    async fn apply(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &[u8],
    ) -> Result<Written, Status> {
        let applied = ownership::decode_applied(served, body, cx)?;
        cx.applies = true;
        cx.patches = true;
        let storage = &*served.storage;
        let part = Part::new(subresource);
        loop {
            if self.existing(storage, namespace, name).await?.is_some() {
                let result = self
                    .modify(served, cx, namespace, name, part, |existing, cx| {
                        let live = codec::to_served(served, existing.value.clone())?;
                        let now = self.world().clock.now();
                        let merged = ownership::apply(served, cx, Some(&live), &applied, subresource, now)?;
                        check_name(&merged, namespace, name)?;
                        let merged = codec::retype(served, &merged, cx)?;
                        let mut object = codec::to_stored(served, merged)?;
                        storage.kind.default(&mut object);
                        Ok(object)
                    })
                    .await;
                match result {
                    // Deleted between the look and the change: apply makes it anew.
                    Err(status) if status.reason == "NotFound" && part == Part::Main => {}
                    done => return done,
                }
            } else if part != Part::Main {
                return Err(Status::not_found(&storage.group_resource, name));
            }
            if !applied.str_at(&["metadata", "uid"]).is_empty() {
                let uid = applied.str_at(&["metadata", "uid"]);
                return Err(Status::conflict(
                    &storage.group_resource,
                    name,
                    format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found"),
                ));
            }
            let now = self.world().clock.now();
            let merged = ownership::apply(served, cx, None, &applied, subresource, now)?;
            check_name(&merged, namespace, name)?;
            let merged = codec::retype(served, &merged, cx)?;
            match self.create(served, cx, namespace, merged).await {
                // Created between the look and now: apply changes it.
                Err(status) if status.reason == "AlreadyExists" => {}
                done => return done,
            }
        }
    }
}

fn parse(body: &[u8]) -> Result<Value, Status> {
    let decoded = json::decode(None, body, json::Options::default())
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    Ok(decoded.value)
}

fn read_json_patch(body: &[u8]) -> Result<json_patch::JsonPatch, Status> {
    Ok(json_patch::JsonPatch::decode(&parse(body)?, true)?)
}

fn read_patch(served: &Served, ty: PatchType, body: &[u8], cx: &Context) -> Result<Patch, Status> {
    let checked = cx.options.field_validation != FieldValidation::Ignore;
    if ty == PatchType::Strategic && served.storage.stored_as == StoredAs::Json {
        return Err(Status::unsupported_media_type(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ]));
    }
    let prefix = if ty == PatchType::Strategic { "" } else { "error decoding patch: " };
    let decoded = json::decode(None, body, json::Options { problems: checked })
        .map_err(|error| Status::bad_request(format!("{prefix}{error}")))?;
    let mut problems: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
    let sent = decoded.value;
    let ready = match ty {
        PatchType::Json => {
            let patch = json_patch::JsonPatch::decode(&sent, checked)?;
            // Operations are checked for fields of their own; within their values, nothing stands twice.
            problems.clone_from(&patch.unknown_fields);
            Ready::Json(patch)
        }
        PatchType::Merge | PatchType::Apply => Ready::Merge,
        PatchType::Strategic => Ready::Strategic,
    };
    Ok(Patch { ready, sent, problems })
}

fn apply_to(served: &Served, patch: &Patch, object: Value, cx: &mut Context) -> Result<Value, Status> {
    let mut patched = object.clone();
    match &patch.ready {
        Ready::Json(operations) => operations.apply(&mut patched)?,
        Ready::Merge => merge_patch::apply(&mut patched, &patch.sent, true)?,
        Ready::Strategic => {
            patched = strategic::apply(&served.storage.schema, served.type_id, patched, &patch.sent)?;
        }
    }
    let refuse = |why: String| {
        let shown = match &patch.ready {
            Ready::Strategic => go_text(&patch.sent),
            Ready::Merge => json_text(served, &object, &patched, &patch.sent),
            Ready::Json(_) => json_text(served, &object, &patched, &touched(&patch.sent)),
        };
        Status::invalid("", "", "", &[Error::invalid(&Path::new("patch"), shown, why)])
    };
    if !matches!(patch.ready, Ready::Strategic) && served.storage.stored_as == StoredAs::Protobuf {
        check_type(served, &patched).map_err(&refuse)?;
    }
    let validation = cx.options.field_validation;
    let options = json::Options { problems: validation != FieldValidation::Ignore };
    let decoded = json::retype(served.codec(), &patched, options).map_err(|error| {
        let why = error.to_string();
        refuse(if matches!(patch.ready, Ready::Strategic) { restoring(&why) } else { why })
    })?;
    let mut problems = patch.problems.clone();
    problems.extend(decoded.problems.iter().map(ToString::to_string));
    if !problems.is_empty() {
        if validation == FieldValidation::Strict {
            return Err(refuse(format!("strict decoding error: {}", problems.join(", "))));
        }
        cx.warnings.extend(problems);
    }
    let mut value = decoded.value;
    ownership::keep_untracked(&patched, &mut value);
    let map = value.make_map();
    map.insert("apiVersion", served.api_version.clone());
    map.insert("kind", served.info.kind.clone());
    Ok(value)
}

/// A patched object must still say that it is what it was. If it says something else, it is read as that.
fn check_type(served: &Served, patched: &Value) -> Result<(), String> {
    // What is left out is what the request says.
    let or = |text: &str, default: &SmolStr| if text.is_empty() { default.clone() } else { SmolStr::new(text) };
    let api_version = &*or(patched.str_at(&["apiVersion"]), &served.api_version);
    let kind = &*or(patched.str_at(&["kind"]), &SmolStr::new(&*served.info.kind));
    if api_version == served.api_version && kind == served.info.kind {
        return Ok(());
    }
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let Some(other) = api_codec::builtin().find(&api_types::type_name(group, version, kind)) else {
        return Err(format!(
            "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            quoted(kind),
            quoted(api_version)
        ));
    };
    json::retype(other, patched, json::Options::default()).map_err(|error| error.to_string())?;
    let internal = served.storage.group_resource.group.split('.').next().filter(|group| !group.is_empty());
    Err(format!(
        "converting ({version}.{kind}) to ({}.{}): unknown conversion",
        internal.unwrap_or("core"),
        served.info.kind
    ))
}

/// What a strategic patch of a wrong type is told: it is not read as JSON, but put into the fields one by one.
fn restoring(why: &str) -> String {
    let Some((_, rest)) = why.split_once("cannot unmarshal ") else { return why.to_owned() };
    let (Some(found), Some((_, wanted))) = (rest.split(' ').next(), rest.rsplit_once(" of type ")) else {
        return why.to_owned();
    };
    let found = match found {
        "object" => "map",
        "array" => "slice",
        "number" => "int64",
        other => other,
    };
    if wanted.starts_with("[]") {
        format!("cannot restore slice from {found}")
    } else if wanted.starts_with("map[") {
        format!("cannot restore map from {found}")
    } else if wanted.contains('.') {
        format!("cannot restore struct from: {found}")
    } else {
        format!("unrecognized type: {wanted}")
    }
}

/// A value as Go's `%+v` shows it.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Str(text) => text.to_string(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(map) => {
            let fields: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => {
            let mut text = Vec::new();
            json::encode(None, other, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        }
    }
}

/// The maps that a JSON patch looks into, as a tree of them.
fn touched(operations: &Value) -> Value {
    let mut tree = Value::Map(api_schema::Map::new());
    for operation in operations.as_list().unwrap_or_default() {
        let steps: Vec<String> = operation
            .str_at(&["path"])
            .split('/')
            .skip(1)
            .map(|step| step.replace("~1", "/").replace("~0", "~"))
            .collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        if !steps.is_empty() && tree.at(&steps).is_none() {
            tree.set(&steps, Value::Null);
        }
    }
    tree
}

/// A patched object as upstream's JSON patchers write it: the maps that the patch looks into are sorted, the rest is
/// as the object was encoded.
fn json_text(served: &Served, object: &Value, patched: &Value, patch: &Value) -> String {
    let mut original = Vec::new();
    codec::write_json(served, object, &mut original);
    let original = String::from_utf8_lossy(&original);
    let mut out = String::new();
    merge_text(original.trim(), patched, patch, &mut out);
    out
}

fn merge_text(original: &str, patched: &Value, patch: &Value, out: &mut String) {
    let (Value::Map(fields), Some(members), Value::Map(patch)) = (patched, members(original), patch) else {
        let mut text = Vec::new();
        json::encode(None, patched, &mut text);
        out.push_str(&String::from_utf8_lossy(&text));
        return;
    };
    out.push('{');
    for (at, (key, value)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&quoted(key));
        out.push(':');
        let before = members.iter().find(|(name, _)| name == key).map(|(_, text)| *text);
        match (patch.get(key), before) {
            (None, Some(text)) => out.push_str(text),
            (Some(patch), Some(text)) => merge_text(text, value, patch, out),
            (_, None) => merge_text("", value, &Value::Null, out),
        }
    }
    out.push('}');
}

/// The members of a compact JSON object, each value as its text.
fn members(text: &str) -> Option<Vec<(String, &str)>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut members = Vec::new();
    let (mut start, mut colon, mut depth, mut in_text, mut escaped) = (0, None, 0usize, false, false);
    for (at, byte) in inner.bytes().chain(std::iter::once(b',')).enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b':' if depth == 0 && colon.is_none() => colon = Some(at),
            b',' if depth == 0 && at > start => {
                let colon = colon.take()?;
                let name = json::decode(None, &inner.as_bytes()[start..colon], json::Options::default()).ok()?.value;
                members.push((name.as_str()?.to_owned(), &inner[colon + 1..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    Some(members)
}

/// Brings a merged tree back into the normal form of its type.
pub(crate) fn retype(ty: api_codec::TypeCodec<'_>, object: &Value, cx: &mut Context) -> Result<Value, Status> {
    let validation = cx.options.field_validation;
    let options = json::Options { problems: validation != FieldValidation::Ignore };
    let refuse = |why: String| {
        let mut text = Vec::new();
        json::encode(None, object, &mut text);
        let text = String::from_utf8_lossy(&text).into_owned();
        Status::invalid("", "", "", &[Error::invalid(&Path::new("patch"), text, why)])
    };
    let decoded = json::retype(ty, object, options).map_err(|error| refuse(error.to_string()))?;
    if !decoded.problems.is_empty() {
        let texts: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
        if validation == FieldValidation::Strict {
            return Err(refuse(format!("strict decoding error: {}", texts.join(", "))));
        }
        cx.warnings.extend(texts);
    }
    Ok(decoded.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Value {
        json::decode(None, text.as_bytes(), json::Options::default()).expect("JSON").value
    }

    #[test]
    fn members_are_split_at_the_top_only() {
        let found = members(r#"{"a":{"b":[1,2],"c":"x,\"}"},"d\"":3}"#).expect("an object");
        let texts: Vec<(&str, &str)> = found.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        assert_eq!(texts, [("a", r#"{"b":[1,2],"c":"x,\"}"}"#), ("d\"", "3")]);
        assert_eq!(members("{}").map(|found| found.len()), Some(0));
        assert!(members("[]").is_none());
    }

    #[test]
    fn maps_that_a_patch_looks_into_are_sorted() {
        #[track_caller]
        fn check(original: &str, patched: &str, patch: &str, expect: &str) {
            let mut out = String::new();
            merge_text(original, &parsed(patched), &parsed(patch), &mut out);
            assert_eq!(out, expect);
        }
        let original = r#"{"z":{"y":1,"x":2},"a":{"c":1,"b":2}}"#;
        check(
            original,
            r#"{"z":{"y":1,"x":2},"a":{"c":1,"b":3}}"#,
            r#"{"a":{"b":3}}"#,
            r#"{"a":{"b":3,"c":1},"z":{"y":1,"x":2}}"#,
        );
        check(original, r#"{"z":{"y":1,"x":2},"a":5}"#, r#"{"a":5}"#, r#"{"a":5,"z":{"y":1,"x":2}}"#);
    }

    #[test]
    fn values_are_shown_as_go_shows_them() {
        assert_eq!(go_text(&parsed(r#"{"b":[1,"x",null],"a":{"c":true}}"#)), "map[a:map[c:true] b:[1 x <nil>]]");
    }

    #[test]
    fn wrong_types_in_strategic_patches_have_words_of_their_own() {
        let json = |found: &str, wanted: &str| {
            restoring(&format!("json: cannot unmarshal {found} into Go struct field S.spec.x of type {wanted}"))
        };
        assert_eq!(json("object", "[]v1.Container"), "cannot restore slice from map");
        assert_eq!(json("string", "int32"), "unrecognized type: int32");
        assert_eq!(json("string", "v1.DeploymentSpec"), "cannot restore struct from: string");
    }
}
