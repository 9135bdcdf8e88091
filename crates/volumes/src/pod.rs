//! All volumes of one Pod.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use api_schema::Value;

use crate::error::VolumeError;
use crate::kinds::{self, Context, Kind};
use crate::{Objects, Ready, mounts, ownership, sub_path};

/// The volumes of a Pod, in its folder. All methods touch the disk and may take a while: call them where blocking is fine.
#[derive(Clone, Debug)]
pub struct PodVolumes {
    folder: PathBuf,
}

impl PodVolumes {
    /// The volumes in a Pod's folder, `<root>/pods/<uid>`.
    pub fn new(folder: impl Into<PathBuf>) -> PodVolumes {
        PodVolumes { folder: folder.into() }
    }

    /// Sets every volume of the Pod up, or brings it up to date. What is ready already is not touched.
    ///
    /// # Errors
    /// For the first volume that is not ready.
    pub fn set_up(&self, pod: &Value, objects: &dyn Objects) -> Result<BTreeMap<String, Ready>, VolumeError> {
        let mut ready = BTreeMap::new();
        for volume in pod.list_at(&["spec", "volumes"]) {
            let name = volume.str_at(&["name"]);
            let kind = kinds::of(volume).ok_or_else(|| VolumeError::set_up(name, "no volume plugin matched"))?;
            let made = self.set_up_one(pod, volume, name, kind, objects);
            ready.insert(name.to_owned(), made.map_err(|why| VolumeError::set_up(name, why))?);
        }
        Ok(ready)
    }

    fn set_up_one(
        &self,
        pod: &Value,
        volume: &Value,
        name: &str,
        kind: &Kind,
        objects: &dyn Objects,
    ) -> Result<Ready, String> {
        let path = self.path(kind, name);
        let group = fs_group(pod);
        let context =
            Context { pod, name, source: volume.get(kind.field).unwrap_or(&Value::Null), path: &path, group, objects };
        let ready = (kind.set_up)(&context)?;
        if let (Some(group), true) = (group, kind.takes_group && !ready.read_only) {
            let policy = pod.str_at(&["spec", "securityContext", "fsGroupChangePolicy"]);
            let given = ownership::give_to_group(&ready.path, group, policy == "OnRootMismatch");
            given.map_err(|error| format!("applying volume ownership to {}: {error}", ready.path.display()))?;
        }
        Ok(ready)
    }

    /// The folder of a sub-path of a volume, for the mount of this number of a container; made if it is not there.
    ///
    /// # Errors
    /// If the sub-path leads out of the volume, or the disk refuses.
    pub fn sub_path(
        &self,
        volume: &Ready,
        name: &str,
        container: &str,
        number: usize,
        sub_path: &str,
    ) -> Result<PathBuf, String> {
        let target = self.folder.join("volume-subpaths").join(name).join(container).join(number.to_string());
        sub_path::mount(&volume.path, sub_path, &target).map_err(|error| error.to_string())?;
        Ok(target)
    }

    /// Takes every volume down: unmounts and removes what belongs to the Pod alone.
    ///
    /// # Errors
    /// If something cannot be unmounted or removed; it can be tried again.
    pub fn tear_down(&self) -> Result<(), VolumeError> {
        for part in ["volume-subpaths", "volumes"] {
            let folder = self.folder.join(part);
            clear(&folder).map_err(|error| VolumeError::tear_down(&folder.to_string_lossy(), error))?;
        }
        Ok(())
    }

    fn path(&self, kind: &Kind, name: &str) -> PathBuf {
        self.folder.join("volumes").join(kind.folder).join(name)
    }
}

/// Unmounts what is below a folder, then removes it: in this order nothing behind a mount can be lost.
fn clear(folder: &Path) -> io::Result<()> {
    mounts::unmount_all(folder)?;
    let left = mounts::below(folder)?;
    if !left.is_empty() {
        return Err(io::Error::other(format!("{} is still mounted", left[0].display())));
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn fs_group(pod: &Value) -> Option<u32> {
    pod.int_at(&["spec", "securityContext", "fsGroup"]).and_then(|group| u32::try_from(group).ok())
}
