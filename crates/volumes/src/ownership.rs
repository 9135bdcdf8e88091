//! Who owns what is in a volume.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Gives a path to a user and a group; `None` leaves either as it is.
pub(crate) fn chown(path: &Path, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, user, group)
}

/// Gives a volume to a group, as `fsGroup` asks: the group owns everything, may do what the owner may, and new files in
/// folders belong to it, too. A volume whose top is right already is left alone if `only_if_changed`
/// (`fsGroupChangePolicy: OnRootMismatch`).
pub(crate) fn give_to_group(folder: &Path, group: u32, only_if_changed: bool) -> io::Result<()> {
    let metadata = fs::symlink_metadata(folder)?;
    let is_right = metadata.gid() == group && metadata.mode() & 0o2070 == 0o2070;
    if only_if_changed && is_right {
        return Ok(());
    }
    give(folder, group)
}

fn give(path: &Path, group: u32) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if metadata.file_type().is_symlink() {
        return Ok(());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), group)?;
        }
    }
    if metadata.gid() != group {
        chown(path, None, Some(group))?;
    }
    let extra = if metadata.is_dir() { 0o2070 } else { 0o060 };
    let mode = metadata.mode() & 0o7777;
    if mode | extra != mode || metadata.gid() != group {
        fs::set_permissions(path, fs::Permissions::from_mode(mode | extra))?;
    }
    Ok(())
}
