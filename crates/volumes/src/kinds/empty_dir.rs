//! `emptyDir`: an empty folder that lives as long as the Pod, on disk or in memory.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use api_semantics::quantity::Quantity;

use super::{Context, Kind};
use crate::{Ready, mounts};

pub(super) const KIND: Kind = Kind { field: "emptyDir", folder: "kubernetes.io~empty-dir", takes_group: true, set_up };

fn set_up(context: &Context<'_>) -> Result<Ready, String> {
    let ready = Ready { path: context.path.to_owned(), read_only: false };
    let is_new = !context.path.exists();
    fs::create_dir_all(context.path).map_err(|error| error.to_string())?;
    match context.source.str_at(&["medium"]) {
        "" => {
            // What containers did to it stays.
            if is_new {
                let open = fs::Permissions::from_mode(0o777);
                fs::set_permissions(context.path, open).map_err(|error| error.to_string())?;
            }
        }
        "Memory" => {
            let size = size_bytes(context);
            mounts::tmpfs(context.path, size, 0o777).map_err(|error| error.to_string())?;
        }
        medium => return Err(format!("unknown storage medium {medium:?}")),
    }
    Ok(ready)
}

/// The least of the volume's limit and the memory that the Pod may use, if either is given.
fn size_bytes(context: &Context<'_>) -> Option<u64> {
    let bytes = |text: &str| {
        Quantity::parse(text).ok().and_then(|size| u64::try_from(size.value()).ok()).filter(|size| *size > 0)
    };
    let limit = bytes(context.source.str_at(&["sizeLimit"]));
    let containers = context.pod.list_at(&["spec", "containers"]);
    let memory: Option<u64> =
        containers.iter().map(|container| bytes(container.str_at(&["resources", "limits", "memory"]))).sum();
    match (limit, memory.filter(|memory| *memory > 0)) {
        (Some(limit), Some(memory)) => Some(limit.min(memory)),
        (limit, memory) => limit.or(memory),
    }
}
