//! Objects, lists and watch events in the form that the client asked for.

use std::sync::Arc;

use api_codec::meta::Stamp;
use api_schema::{Map, SmolStr, Value, format_smolstr};
use api_semantics::status::Status;
use bytes::Bytes;
use registry::table::{self, IncludeObject};
use registry::{Served, codec};
use watch_cache::Object;

use crate::api::Content;
use crate::listing::{Item, ListBody};
use crate::negotiate::{Encoding, Form, Transform};

/// Where an object's content comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Stored bytes, their revision, and what the cache knows of them.
    Stored(&'a Bytes, u64, Option<&'a Stamp>),
    /// A tree in the stored version.
    Tree(&'a Value),
}

impl<'a> From<&'a Object> for Source<'a> {
    fn from(object: &'a Object) -> Self {
        Self::Stored(&object.bytes, object.revision, Some(&object.index.stamp))
    }
}

/// How objects of one resource are shown to one client.
#[derive(Clone, Debug)]
pub struct Show {
    /// The resource in the version asked for.
    pub served: Arc<Served>,
    /// The form asked for.
    pub form: Form,
    /// What table rows carry.
    pub include: IncludeObject,
    /// The time for ages, in Unix seconds.
    pub now: i64,
}

impl Show {
    fn stored(&self, source: Source<'_>) -> Result<Value, Status> {
        match source {
            Source::Stored(bytes, revision, _) => codec::decode_stored(&self.served.storage, bytes, revision),
            Source::Tree(value) => Ok(value.clone()),
        }
    }

    /// What a table row carries of an object in the stored version.
    fn included(&self, object: &Value, beta: bool) -> Result<Option<Value>, Status> {
        Ok(match self.include {
            IncludeObject::None => None,
            IncludeObject::Metadata => Some(table::partial(object, beta)),
            IncludeObject::Object => Some(codec::to_served(&self.served, object.clone())?),
        })
    }

    /// A tree as the client shall see it: the object itself, its metadata, or a table of it.
    fn transformed(&self, object: Value, with_columns: bool) -> Result<Value, Status> {
        Ok(match self.form.transform {
            Transform::None => codec::to_served(&self.served, object)?,
            Transform::PartialObjectMetadata { beta } | Transform::PartialObjectMetadataList { beta } => {
                table::partial(&object, beta)
            }
            Transform::Table { beta } => {
                let storage = &self.served.storage;
                let row = table::row(storage, &object, self.included(&object, beta)?, self.now);
                let mut metadata = Map::new();
                metadata.insert("resourceVersion", object.str_at(&["metadata", "resourceVersion"]));
                table::table(with_columns.then(|| table::columns(storage)), vec![row], metadata, beta)
            }
        })
    }

    /// 406 for a list where an object was wanted, or the other way round; it names the type that upstream has in hand.
    fn other_shape(&self, why: &str, suffix: &str) -> Status {
        let storage = &self.served.storage;
        let package = match storage.group_resource.group.split('.').next().unwrap_or_default() {
            _ if storage.stored_as == registry::StoredAs::Json => "unstructured",
            "" | "events" => "core",
            group => group,
        };
        let kind = if package == "unstructured" { "Unstructured" } else { &*storage.kind_name };
        Status::new(406, "NotAcceptable", format!("{why} (*{package}.{kind}{suffix})"))
    }

    /// One object.
    ///
    /// # Errors
    /// 406 if a list was asked for, 500 if stored bytes are no object.
    pub fn object(&self, source: Source<'_>) -> Result<Bytes, Status> {
        if let Transform::PartialObjectMetadataList { .. } = self.form.transform {
            return Err(
                self.other_shape("you requested PartialObjectMetadataList, but the requested object is not a list", "")
            );
        }
        let mut out = Vec::new();
        self.write_object(source, true, &mut out)?;
        finish(self.form, out)
    }

    /// Writes one object in the encoding, without a newline or indentation; protobuf with its envelope.
    fn write_object(&self, source: Source<'_>, with_columns: bool, out: &mut Vec<u8>) -> Result<(), Status> {
        if let (true, Source::Stored(bytes, revision, stamp)) = (self.is_direct(), source) {
            match self.form.encoding {
                Encoding::Json | Encoding::Yaml => {
                    return codec::stored_to_json(&self.served.storage, bytes, revision, stamp, out);
                }
                Encoding::Protobuf => return codec::stored_to_protobuf(&self.served.storage, bytes, revision, out),
            }
        }
        let value = self.transformed(self.stored(source)?, with_columns)?;
        let served = (self.form.transform == Transform::None).then_some(&*self.served);
        write_value(&value, served, self.form.encoding, out);
        Ok(())
    }

    /// A list.
    ///
    /// # Errors
    /// 406 if an object was asked for, 500 if stored bytes are no object.
    pub fn list(self, items: Vec<Item>, metadata: ListMeta) -> Result<Content, Status> {
        let storage = &self.served.storage;
        let mut out = Vec::new();
        match self.form.transform {
            Transform::None => return ListBody::content(self, items, metadata),
            Transform::Table { beta } => {
                let mut rows = Vec::with_capacity(items.len());
                for item in &items {
                    let object = self.stored(item.source())?;
                    let shown = self.included(&object, beta)?;
                    rows.push(table::row(storage, &object, shown, self.now));
                }
                let table = table::table(Some(table::columns(storage)), rows, metadata.to_map(), beta);
                write_value(&table, None, self.form.encoding, &mut out);
            }
            Transform::PartialObjectMetadata { .. } => {
                let why = "you requested PartialObjectMetadata, but the requested object is a list";
                return Err(self.other_shape(why, "List"));
            }
            Transform::PartialObjectMetadataList { beta } => {
                let api_version = if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" };
                let mut partials = Vec::with_capacity(items.len());
                for item in &items {
                    let partial = table::partial(&self.stored(item.source())?, beta);
                    partials.push(partial);
                }
                let mut list = Map::new();
                list.insert("apiVersion", api_version);
                list.insert("kind", "PartialObjectMetadataList");
                list.insert("metadata", metadata.to_map());
                list.insert("items", if partials.is_empty() { Value::Null } else { partials.into() });
                write_value(&list.into(), None, self.form.encoding, &mut out);
            }
        }
        Ok(Content::Whole(finish(self.form, out)?))
    }

    /// Whether what is stored is what is shown.
    pub(crate) fn is_direct(&self) -> bool {
        self.form.transform == Transform::None && !self.served.converts()
    }

    /// Writes an item of a list as JSON.
    pub(crate) fn write_item(&self, source: Source<'_>, out: &mut Vec<u8>) -> Result<(), Status> {
        let storage = &self.served.storage;
        if let (true, Source::Stored(bytes, revision, stamp)) = (self.is_direct(), source) {
            return codec::stored_item_to_json(storage, bytes, revision, stamp, out);
        }
        let mut value = codec::to_served(&self.served, self.stored(source)?)?;
        if storage.stored_as == registry::StoredAs::Protobuf {
            for field in ["apiVersion", "kind"] {
                value.remove(&[field]);
            }
        }
        codec::write_json(&self.served, &value, out);
        Ok(())
    }

    /// An item of a list as a protobuf message, by way of its tree.
    pub(crate) fn raw_message(&self, source: Source<'_>) -> Result<Vec<u8>, Status> {
        let mut out = Vec::new();
        let value = codec::to_served(&self.served, self.stored(source)?)?;
        codec::write_message(&self.served, &value, &mut out);
        Ok(out)
    }

    /// One watch event. `first` says that the table's columns come with it.
    ///
    /// # Errors
    /// 500 if stored bytes are no object.
    pub fn event(&self, ty: &str, source: Source<'_>, first: bool) -> Result<Bytes, Status> {
        let mut object = Vec::new();
        self.write_object(source, first, &mut object)?;
        Ok(frame(ty, &object, self.form.encoding))
    }

    /// A bookmark: an empty object with a resourceVersion, and a mark if it ends the initial events.
    ///
    /// # Errors
    /// Never in practice; the object is ours.
    pub fn bookmark(&self, revision: u64, ends_initial: bool) -> Result<Bytes, Status> {
        let mut object = Map::new();
        object.insert("apiVersion", self.served.storage.api_version.clone());
        object.insert("kind", self.served.storage.kind_name.clone());
        let mut object = Value::Map(object);
        object.set(&["metadata", "resourceVersion"], format_smolstr!("{revision}"));
        if ends_initial {
            object.set(&["metadata", "annotations", "k8s.io/initial-events-end"], "true");
        }
        let mut out = Vec::new();
        match self.form.transform {
            Transform::Table { beta } => {
                let mut row = Map::new();
                row.insert(
                    "cells",
                    table::row(&self.served.storage, &object, None, self.now)
                        .at(&["cells"])
                        .cloned()
                        .unwrap_or_default(),
                );
                row.insert("object", table::partial(&object, beta));
                let mut metadata = Map::new();
                metadata.insert("resourceVersion", format_smolstr!("{revision}"));
                let table = table::table(None, vec![row.into()], metadata, beta);
                write_value(&table, None, self.form.encoding, &mut out);
            }
            _ => {
                let normal = codec::normalize(&self.served.storage, object)?;
                self.write_object(Source::Tree(&normal), false, &mut out)?;
            }
        }
        Ok(frame("BOOKMARK", &out, self.form.encoding))
    }
}

/// One watch frame around an encoded object.
pub(crate) fn frame(ty: &str, object: &[u8], encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Protobuf => codec::watch_frame_protobuf(ty, object).into(),
        Encoding::Json | Encoding::Yaml => {
            let out = codec::watch_frame_json(ty, object);
            if encoding == Encoding::Yaml {
                // YAML streams are documents.
                let yaml = codec::json_to_yaml(&out);
                let mut document = b"---\n".to_vec();
                document.extend_from_slice(&yaml);
                return document.into();
            }
            out.into()
        }
    }
}

/// Writes a tree; `served` gives its type, otherwise apiVersion and kind do (meta types).
pub(crate) fn write_value(value: &Value, served: Option<&Served>, encoding: Encoding, out: &mut Vec<u8>) {
    match (encoding, served) {
        (Encoding::Protobuf, Some(served)) => codec::write_protobuf(served, value, out),
        (Encoding::Protobuf, None) => codec::write_typed_protobuf(value, out),
        (_, Some(served)) => codec::write_json(served, value, out),
        (_, None) => codec::write_typed_json(value, out),
    }
}

/// A value of any built-in type (by its apiVersion and kind) as a whole answer.
pub(crate) fn typed(value: &Value, form: Form) -> Bytes {
    let mut out = Vec::new();
    write_value(value, None, form.encoding, &mut out);
    finish(form, out).unwrap_or_default()
}

/// Turns compact JSON into the answer's final form.
pub(crate) fn finish(form: Form, out: Vec<u8>) -> Result<Bytes, Status> {
    Ok(match form.encoding {
        Encoding::Protobuf => out.into(),
        Encoding::Yaml => codec::json_to_yaml(&out).into(),
        Encoding::Json if form.pretty => {
            let mut pretty = Vec::with_capacity(out.len() * 2);
            codec::pretty_json(&out, &mut pretty);
            pretty.into()
        }
        Encoding::Json => {
            let mut out = out;
            out.push(b'\n');
            out.into()
        }
    })
}

/// The metadata of a list.
#[derive(Clone, Debug, Default)]
pub struct ListMeta {
    /// The list's resourceVersion.
    resource_version_text: SmolStr,
    /// The token of the next page.
    pub continue_token: SmolStr,
    /// How many items follow.
    pub remaining: Option<usize>,
}

impl ListMeta {
    /// Metadata with a resourceVersion, and perhaps a next page.
    pub fn new(revision: u64, continue_token: String, remaining: Option<usize>) -> Self {
        Self { resource_version_text: format_smolstr!("{revision}"), continue_token: continue_token.into(), remaining }
    }

    /// As a tree.
    pub fn to_map(&self) -> Map {
        let mut map = Map::new();
        map.insert("resourceVersion", self.resource_version_text.clone());
        if !self.continue_token.is_empty() {
            map.insert("continue", self.continue_token.clone());
        }
        if let Some(remaining) = self.remaining {
            map.insert("remainingItemCount", remaining as i64);
        }
        map
    }

    pub(crate) fn view(&self) -> codec::ListMeta<'_> {
        codec::ListMeta {
            resource_version: &self.resource_version_text,
            continue_token: &self.continue_token,
            remaining_item_count: self.remaining.map(|n| n as i64),
        }
    }
}
