//! `downwardAPI`: fields of the Pod as files, brought up to date when they change.

use api_schema::Value;

use super::{Context, Kind, MODE_DEFAULT, for_group, mode_of, write};
use crate::{File, Files, Ready};

pub(super) const KIND: Kind =
    Kind { field: "downwardAPI", folder: "kubernetes.io~downward-api", takes_group: false, set_up };

fn set_up(context: &Context<'_>) -> Result<Ready, String> {
    let mode = context.source.int_at(&["defaultMode"]).unwrap_or(MODE_DEFAULT);
    write(context, &files(context, context.source, mode)?)
}

/// The files of a list of items: a volume's or a projected source's.
pub(super) fn files(context: &Context<'_>, source: &Value, mode: i64) -> Result<Files, String> {
    let mut files = Files::new();
    for item in source.list_at(&["items"]) {
        let text = match (item.get("fieldRef"), item.get("resourceFieldRef")) {
            (Some(field), _) => context.objects.field(field.str_at(&["fieldPath"]))?,
            (None, Some(resource)) => context.objects.resource(resource)?,
            (None, None) => continue,
        };
        let mode = for_group(mode_of(item.int_at(&["mode"]), mode), context.group);
        files.insert(item.str_at(&["path"]).to_owned(), File { content: text.into_bytes(), mode, owner: None });
    }
    Ok(files)
}
