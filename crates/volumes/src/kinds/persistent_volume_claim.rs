//! `persistentVolumeClaim`: the volume that a claim is bound to.

use std::path::{Path, PathBuf};

use super::{Context, Kind, host_path, local};
use crate::{Ready, ownership};

pub(super) const KIND: Kind =
    Kind { field: "persistentVolumeClaim", folder: "kubernetes.io~local-volume", takes_group: false, set_up };

fn set_up(context: &Context<'_>) -> Result<Ready, String> {
    let name = context.source.str_at(&["claimName"]);
    let claim = context.objects.claim(name).ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
    if !claim.str_at(&["metadata", "deletionTimestamp"]).is_empty() {
        return Err("PVC is being deleted".to_owned());
    }
    let volume_name = claim.str_at(&["spec", "volumeName"]);
    if claim.str_at(&["status", "phase"]) != "Bound" || volume_name.is_empty() {
        return Err("PVC is not bound".to_owned());
    }
    let volume = context
        .objects
        .persistent_volume(volume_name)
        .ok_or_else(|| format!("persistentvolume {volume_name:?} not found"))?;
    if volume.str_at(&["spec", "claimRef", "uid"]) != claim.str_at(&["metadata", "uid"]) {
        return Err(format!("PV {volume_name} is bound to a different PVC"));
    }
    let mut ready = if let Some(source) = volume.at(&["spec", "hostPath"]) {
        let path = source.str_at(&["path"]);
        host_path::check(Path::new(path), source.str_at(&["type"]))?;
        Ready { path: PathBuf::from(path), read_only: false }
    } else if let Some(source) = volume.at(&["spec", "local"]) {
        let ready = local::set_up(source)?;
        let read_only = context.source.bool_at(&["readOnly"]).unwrap_or(false);
        // A path of the host keeps its owner; a local volume is the Pod's to use.
        if let Some(group) = context.group.filter(|_| !read_only) {
            let policy = context.pod.str_at(&["spec", "securityContext", "fsGroupChangePolicy"]);
            let given = ownership::give_to_group(&ready.path, group, policy == "OnRootMismatch");
            given.map_err(|error| format!("applying volume ownership to {}: {error}", ready.path.display()))?;
        }
        ready
    } else {
        return Err("no volume plugin matched".to_owned());
    };
    ready.read_only |= context.source.bool_at(&["readOnly"]).unwrap_or(false);
    Ok(ready)
}
