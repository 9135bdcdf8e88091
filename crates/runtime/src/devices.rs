//! The device nodes of the host, for privileged containers and for those that ask for one.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use shim::spec::DeviceSpec;

/// Folders of /dev that a container has of its own.
const OWN: [&str; 5] = ["pts", "shm", "fd", "mqueue", ".lxc"];

/// Every device node under /dev.
pub(crate) fn host() -> Vec<DeviceSpec> {
    let mut out = Vec::new();
    walk(Path::new("/dev"), true, &mut out);
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out
}

fn walk(folder: &Path, is_top: bool, out: &mut Vec<DeviceSpec>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // What vanishes while we look is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        let (kind, path) = (metadata.file_type(), entry.path());
        if kind.is_dir() {
            if !(is_top && OWN.iter().any(|own| entry.file_name() == *own)) {
                walk(&path, false, out);
            }
            continue;
        }
        // The console is the terminal of a container that has one.
        if !(kind.is_char_device() || kind.is_block_device()) || path == Path::new("/dev/console") {
            continue;
        }
        let number = metadata.rdev();
        out.push(DeviceSpec {
            path,
            kind: if kind.is_block_device() { 'b' } else { 'c' },
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        });
    }
}
