//! `local`: a folder of this node that a PersistentVolume names.

use std::path::{Path, PathBuf};

use api_schema::Value;

use crate::Ready;

/// The folder of a `local` source.
pub(super) fn set_up(source: &Value) -> Result<Ready, String> {
    let path = source.str_at(&["path"]);
    if !Path::new(path).exists() {
        return Err(format!("path {path:?} does not exist"));
    }
    Ok(Ready { path: PathBuf::from(path), read_only: false })
}
