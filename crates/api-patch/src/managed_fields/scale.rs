//! Managed fields between a resource and its scale: one field, `replicas`, under two names.

use api_schema::{SmolStr, Value};

use super::entry::{self, Entry, Manager};
use crate::field_set::{FieldSet, Path};

/// The version of every scale.
const SCALE_VERSION: &str = "autoscaling/v1";

/// The replicas of a resource, by the version it is in; `None` where that version has no scale.
pub type ReplicasPaths<'a> = &'a [(&'a str, Option<&'a [&'a str]>)];

fn in_scale() -> Path {
    Path::of_names(&["spec", "replicas"])
}

/// The path for a version: `None` if the version is unknown, `Some(None)` if it has no scale.
fn path_in(paths: ReplicasPaths<'_>, api_version: &str) -> Option<Option<Path>> {
    paths.iter().find(|(version, _)| *version == api_version).map(|(_, path)| path.map(Path::of_names))
}

/// The entries of a scale: those of the resource that own its replicas.
pub fn to_scale(entries: &[Value], paths: ReplicasPaths<'_>) -> Result<Option<Value>, String> {
    let mut scale = Vec::new();
    for mut entry in entry::decode(entries)? {
        if let Some(Some(path)) = path_in(paths, &entry.manager.api_version)
            && entry.fields.has(&path)
        {
            let mut fields = FieldSet::new();
            fields.insert(&in_scale());
            entry.manager.api_version = SmolStr::new_static(SCALE_VERSION);
            entry.fields = fields;
            scale.push(entry);
        }
    }
    Ok(entry::encode(scale))
}

/// The entries of a resource after its scale was written: who no longer owns the scale's replicas loses the
/// resource's; who does now gets them, in the resource's `api_version`.
pub fn to_resource(
    entries: &[Value],
    scale: &[Value],
    api_version: &str,
    paths: ReplicasPaths<'_>,
) -> Result<Option<Value>, String> {
    let mut scale = entry::decode(scale)?;
    let mut kept: Vec<Entry> = Vec::new();
    let known = entry::decode(entries)?;
    let times: Vec<(Manager, SmolStr)> =
        known.iter().map(|entry| (entry.manager.clone(), entry.time.clone())).collect();
    for mut entry in known {
        let Some(path) = path_in(paths, &entry.manager.api_version) else { continue };
        if let Some(path) = path.filter(|path| entry.fields.has(path)) {
            let mut as_scale = entry.manager.clone();
            as_scale.api_version = SmolStr::new_static(SCALE_VERSION);
            match scale.iter().position(|entry| entry.manager.is(&as_scale)) {
                Some(at) => {
                    scale.remove(at);
                }
                None => {
                    let mut replicas = FieldSet::new();
                    replicas.insert(&path);
                    entry.fields.subtract(&replicas);
                }
            }
        }
        if !entry.fields.is_empty() {
            kept.push(entry);
        }
    }
    for mut entry in scale {
        let Some(Some(path)) = path_in(paths, api_version) else { continue };
        if !entry.fields.has(&in_scale()) {
            continue;
        }
        let mut fields = FieldSet::new();
        fields.insert(&path);
        // Upstream loses the time of managers that are new to the resource.
        let time = times.iter().find(|(manager, _)| manager.is(&entry.manager)).map(|(_, time)| time.clone());
        entry.time = time.unwrap_or_default();
        entry.manager.api_version = api_version.into();
        entry.fields = fields;
        kept.push(entry);
    }
    Ok(entry::encode(kept))
}
