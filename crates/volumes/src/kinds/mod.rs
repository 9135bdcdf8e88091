//! The types of volumes.

mod config_map;
mod downward_api;
mod empty_dir;
mod host_path;
mod local;
mod persistent_volume_claim;
mod projected;
mod secret;

use std::path::Path;

use api_schema::Value;

use crate::{File, Files, Objects, Ready};

/// A type of volume.
pub struct Kind {
    /// The field of the volume that says so.
    pub field: &'static str,
    /// The folder of its volumes: kubelet's name of the plugin.
    pub folder: &'static str,
    /// Whether `fsGroup` is applied to its content.
    pub takes_group: bool,
    /// Sets one up or brings it up to date; the error is in upstream's words.
    pub set_up: fn(&Context<'_>) -> Result<Ready, String>,
}

/// What a volume is set up from.
pub struct Context<'a> {
    /// The Pod.
    pub pod: &'a Value,
    /// The volume's name.
    pub name: &'a str,
    /// The volume's own fields.
    pub source: &'a Value,
    /// Where it is to be.
    pub path: &'a Path,
    /// The Pod's `fsGroup`.
    pub group: Option<u32>,
    /// What it may show.
    pub objects: &'a dyn Objects,
}

/// Every type, in the order of the API.
pub const ALL: &[Kind] = &[
    host_path::KIND,
    empty_dir::KIND,
    secret::KIND,
    config_map::KIND,
    downward_api::KIND,
    projected::KIND,
    persistent_volume_claim::KIND,
];

/// The type of a volume.
pub fn of(volume: &Value) -> Option<&'static Kind> {
    ALL.iter().find(|kind| volume.get(kind.field).is_some())
}

/// The permissions of files that nothing else is said of.
const MODE_DEFAULT: i64 = 0o644;

fn mode_of(value: Option<i64>, default: i64) -> u32 {
    u32::try_from(value.unwrap_or(default) & 0o777).unwrap_or(0o644)
}

/// With a group that is to read it, a file is readable for it.
fn for_group(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

/// Picks the files of a ConfigMap or Secret: all keys, or those of `items` under their paths.
fn pick<'a>(
    data: impl Iterator<Item = (&'a str, Vec<u8>)>,
    source: &Value,
    default_mode: i64,
    group: Option<u32>,
    what: &str,
) -> Result<Files, String> {
    let data: std::collections::BTreeMap<&str, Vec<u8>> = data.collect();
    let file = |content: &[u8], mode: Option<i64>| File {
        content: content.to_vec(),
        mode: for_group(mode_of(mode, default_mode), group),
        owner: None,
    };
    let items = source.list_at(&["items"]);
    if items.is_empty() {
        return Ok(data.iter().map(|(key, content)| ((*key).to_owned(), file(content, None))).collect());
    }
    let is_optional = source.bool_at(&["optional"]).unwrap_or(false);
    let mut files = Files::new();
    for item in items {
        let key = item.str_at(&["key"]);
        match data.get(key) {
            Some(content) => {
                files.insert(item.str_at(&["path"]).to_owned(), file(content, item.int_at(&["mode"])));
            }
            None if is_optional => {}
            None => return Err(format!("{what} references non-existent {what} key: {key}", what = what)),
        }
    }
    Ok(files)
}

/// Writes files into a volume in memory.
fn in_memory(context: &Context<'_>, files: &Files) -> Result<Ready, String> {
    crate::mounts::tmpfs(context.path, None, 0o1777).map_err(|error| error.to_string())?;
    write(context, files)
}

fn write(context: &Context<'_>, files: &Files) -> Result<Ready, String> {
    crate::atomic::write(context.path, files, context.group).map_err(|error| error.to_string())?;
    Ok(Ready { path: context.path.to_owned(), read_only: true })
}
