//! Mounts of the node.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

/// Whether something is mounted at a path.
pub(crate) fn is_mounted(path: &Path) -> io::Result<bool> {
    Ok(below(path)?.iter().any(|mounted| mounted == path))
}

/// What is mounted at a path or below it, the deepest first.
pub(crate) fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mounts = fs::read("/proc/thread-self/mountinfo")?;
    let points = mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let mut found: Vec<PathBuf> = points.map(unescape).filter(|point| point.starts_with(path)).collect();
    found.reverse();
    Ok(found)
}

/// The kernel writes blanks and the like as `\040`.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from(std::ffi::OsStr::from_bytes(&bytes)))
}

/// Mounts a file system in memory, of at most so many bytes.
pub(crate) fn tmpfs(path: &Path, size_bytes: Option<u64>, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if is_mounted(path)? {
        return Ok(());
    }
    let size = size_bytes.map_or(String::new(), |size| format!(",size={size}"));
    let data = CString::new(format!("mode={mode:o}{size}"))?;
    mount("tmpfs", path, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, Some(data.as_c_str()))?;
    Ok(())
}

/// Shows a file or folder at another place as well.
pub(crate) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    rustix::mount::mount_bind(source, target)?;
    mount_change(target, MountPropagationFlags::PRIVATE)?;
    Ok(())
}

/// Unmounts everything at a path and below it, even if somebody still uses it.
pub(crate) fn unmount_all(path: &Path) -> io::Result<()> {
    for point in below(path)? {
        match unmount(&point, UnmountFlags::DETACH) {
            // Whatever was mounted over it is gone with it.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            other => other?,
        }
    }
    Ok(())
}
