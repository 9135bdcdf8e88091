//! `hostPath`: a file or folder of the node.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Context, Kind};
use crate::Ready;

pub(super) const KIND: Kind = Kind { field: "hostPath", folder: "kubernetes.io~host-path", takes_group: false, set_up };

fn set_up(context: &Context<'_>) -> Result<Ready, String> {
    let path = context.source.str_at(&["path"]);
    check(Path::new(path), context.source.str_at(&["type"]))?;
    Ok(Ready { path: PathBuf::from(path), read_only: false })
}

/// Makes sure that a path is what its type says; the `OrCreate` types make it.
pub(super) fn check(path: &Path, kind: &str) -> Result<(), String> {
    let failed = |why: &str| Err(format!("hostPath type check failed: {} {why}", path.display()));
    let found = fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let made = |result: std::io::Result<()>| result.map_err(|error| format!("create {}: {error}", path.display()));
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_none() => made(fs::DirBuilder::new().recursive(true).mode(0o755).create(path)),
        "DirectoryOrCreate" | "Directory" => {
            if found.is_some_and(|found| found.is_dir()) {
                Ok(())
            } else {
                failed("is not a directory")
            }
        }
        "FileOrCreate" if found.is_none() => {
            made(fs::OpenOptions::new().create(true).append(true).mode(0o644).open(path).map(drop))
        }
        "FileOrCreate" | "File" => {
            if found.is_some_and(|found| found.is_file()) {
                Ok(())
            } else {
                failed("is not a file")
            }
        }
        "Socket" => {
            if found.is_some_and(|found| found.is_socket()) {
                Ok(())
            } else {
                failed("is not a socket file")
            }
        }
        "CharDevice" => {
            if found.is_some_and(|found| found.is_char_device()) {
                Ok(())
            } else {
                failed("is not a character device")
            }
        }
        "BlockDevice" => {
            if found.is_some_and(|found| found.is_block_device()) {
                Ok(())
            } else {
                failed("is not a block device")
            }
        }
        other => Err(format!("{other:?} is an invalid volume type")),
    }
}
