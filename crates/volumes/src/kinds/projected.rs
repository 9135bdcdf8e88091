//! `projected`: several sources in one folder in memory; tokens in it are renewed before they expire.

use super::{Context, Kind, MODE_DEFAULT, config_map, downward_api, in_memory, mode_of, secret};
use crate::{File, Files, Ready};

pub(super) const KIND: Kind =
    Kind { field: "projected", folder: "kubernetes.io~projected", takes_group: false, set_up };

/// How long a token lives if nothing is said.
const TOKEN_SECONDS: i64 = 3600;

fn set_up(context: &Context<'_>) -> Result<Ready, String> {
    let mode = context.source.int_at(&["defaultMode"]).unwrap_or(MODE_DEFAULT);
    let mut files = Files::new();
    for source in context.source.list_at(&["sources"]) {
        if let Some(source) = source.get("secret") {
            files.extend(secret::files(context, source, source.str_at(&["name"]), mode)?);
        } else if let Some(source) = source.get("configMap") {
            files.extend(config_map::files(context, source, mode)?);
        } else if let Some(source) = source.get("downwardAPI") {
            files.extend(downward_api::files(context, source, mode)?);
        } else if let Some(source) = source.get("serviceAccountToken") {
            let seconds = source.int_at(&["expirationSeconds"]).unwrap_or(TOKEN_SECONDS);
            let token = context.objects.token(source.str_at(&["audience"]), seconds)?;
            let (mode, owner) = token_access(context, mode);
            let file = File { content: token.into_bytes(), mode, owner };
            files.insert(source.str_at(&["path"]).to_owned(), file);
        } else if let Some(source) = source.get("clusterTrustBundle") {
            let content = context.objects.trust_bundle(source)?;
            files.insert(source.str_at(&["path"]).to_owned(), File { content, mode: mode_of(None, mode), owner: None });
        }
    }
    in_memory(context, &files)
}

/// A token is its reader's alone: with an `fsGroup` the group's, with one user for all containers that user's, else
/// readable as the volume says (KEP-1205).
fn token_access(context: &Context<'_>, default: i64) -> (u32, Option<u32>) {
    if context.group.is_some() {
        return (0o640, None);
    }
    match common_user(context) {
        Some(user) => (0o600, Some(user)),
        None => (mode_of(None, default), None),
    }
}

/// The user that every container runs as, if all say the same one.
fn common_user(context: &Context<'_>) -> Option<u32> {
    let of_pod = context.pod.int_at(&["spec", "securityContext", "runAsUser"]);
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let containers = lists.iter().flat_map(|list| context.pod.list_at(&["spec", list]));
    let mut common = None;
    for container in containers {
        let user = container.int_at(&["securityContext", "runAsUser"]).or(of_pod)?;
        if common.is_some_and(|common| common != user) {
            return None;
        }
        common = Some(user);
    }
    common.and_then(|user| u32::try_from(user).ok())
}
