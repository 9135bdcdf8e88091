//! Patches of every type: read, change, write, with the flow that all updates share.

use api_codec::json;
use api_patch::{json_patch, merge_patch, strategic};
use api_schema::Value;
use api_semantics::field::{Error, Path};
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
    Merge(Value),
    Strategic(Value),
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
        let ready = read_patch(served, ty, body, cx)?;
        let part = Part::new(subresource);
        self.modify(served, cx, namespace, name, part, |existing, cx| {
            let versioned = codec::to_served(served, existing.value.clone())?;
            let patched = apply_to(served, &ready, versioned, cx)?;
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

fn read_patch(served: &Served, ty: PatchType, body: &[u8], cx: &mut Context) -> Result<Ready, Status> {
    let _ = cx;
    Ok(match ty {
        PatchType::Json => Ready::Json(read_json_patch(body)?),
        PatchType::Merge | PatchType::Apply => Ready::Merge(parse(body)?),
        PatchType::Strategic if served.storage.stored_as == StoredAs::Json => {
            return Err(Status::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            ]));
        }
        PatchType::Strategic => Ready::Strategic(parse(body)?),
    })
}

fn apply_to(served: &Served, ready: &Ready, mut object: Value, cx: &mut Context) -> Result<Value, Status> {
    match ready {
        Ready::Json(patch) => patch.apply(&mut object)?,
        Ready::Merge(patch) => merge_patch::apply(&mut object, patch, true)?,
        Ready::Strategic(patch) => {
            object = strategic::apply(&served.storage.schema, served.type_id, object, patch)?;
        }
    }
    codec::retype(served, &object, cx)
}

/// Brings a patched tree back into the normal form of its type.
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
