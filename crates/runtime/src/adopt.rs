//! What a new daemon does first: it takes over what an earlier one left, and removes what was half made.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use cri::v1;

use crate::error::chain;
use crate::record::{ContainerRecord, Phase, SandboxRecord};
use crate::runtime::{Container, MOUNT_POINT, Runtime, Sandbox};
use crate::sandbox::{Orphan, clear_folder};

pub(crate) async fn adopt(runtime: &Runtime) -> io::Result<()> {
    let run_folder = &runtime.0.config.run_folder;
    let mut half_made = Vec::new();
    for (id, record) in runtime.0.sandbox_records.all::<SandboxRecord>()? {
        // A record that cannot be read stands for something half made, whose id is known.
        let record = record.filter(|record| record.id == id);
        let is_made = record.as_ref().is_some_and(|record| record.phase() != Phase::Making);
        let record = record.unwrap_or_else(|| SandboxRecord { id, networked: true, ..SandboxRecord::default() });
        let sandbox = Arc::new(Sandbox::new(record, run_folder));
        if is_made {
            let mut tables = runtime.0.tables.lock();
            tables.names.insert(sandbox_name(&sandbox), sandbox.id.clone());
            tables.sandboxes.insert(sandbox.id.clone(), sandbox);
        } else {
            half_made.push(sandbox);
        }
    }
    let mut orphans = Vec::new();
    for (id, record) in runtime.0.container_records.all::<ContainerRecord>()? {
        let record = record.filter(|record| record.id == id);
        let container =
            Arc::new(Container::new(record.unwrap_or_else(|| ContainerRecord { id, ..Default::default() })));
        let has_snapshot = runtime.0.config.images.snapshot(&container.id).is_some();
        let mut tables = runtime.0.tables.lock();
        if has_snapshot && let Some(sandbox) = tables.sandboxes.get(&container.sandbox) {
            let name = container_name(&container, sandbox);
            tables.names.insert(name, container.id.clone());
            tables.containers.insert(container.id.clone(), container);
        } else {
            orphans.push(container);
        }
    }
    let sandboxes: Vec<Arc<Sandbox>> = runtime.0.tables.lock().sandboxes.values().cloned().collect();
    for sandbox in sandboxes.iter().filter(|sandbox| sandbox.is_ready()) {
        if let Err(e) = runtime.watch_shim(sandbox).await {
            tracing::warn!(sandbox = %sandbox.id, error = %e, "the sandbox's shim is gone");
            for container in runtime.containers_of(&sandbox.id) {
                runtime.end_orphan(sandbox, &container, Orphan::FoundDead).await;
            }
            let cgroup = sandbox.record.lock().cgroup.clone();
            runtime.remove_cgroup(&cgroup).await;
            runtime.change_sandbox(sandbox, |record| record.phase = Phase::Stopped as i32);
        }
    }
    for sandbox in &half_made {
        match runtime.take_down(sandbox).await {
            Ok(()) => runtime.forget_sandbox(sandbox),
            Err(e) => {
                tracing::warn!(sandbox = %sandbox.id, error = %e, "a half-made sandbox could not be cleared away")
            }
        }
    }
    for container in &orphans {
        runtime.forget_container(container).await;
    }
    remove_leftovers(runtime, &half_made).await
}

/// Folders and snapshots that no record speaks of.
async fn remove_leftovers(runtime: &Runtime, half_made: &[Arc<Sandbox>]) -> io::Result<()> {
    let mut known: BTreeSet<String> = runtime.0.tables.lock().sandboxes.keys().cloned().collect();
    known.extend(half_made.iter().map(|sandbox| sandbox.id.clone()));
    known.insert(MOUNT_POINT.to_owned());
    for entry in std::fs::read_dir(&runtime.0.config.run_folder)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.len() == 64 && !known.contains(name));
        if !is_ours {
            continue;
        }
        let path = entry.path();
        let cleared = tokio::task::spawn_blocking(move || clear_folder(&path, 0)).await;
        if let Ok(Err(e)) = cleared {
            tracing::warn!(folder = %entry.path().display(), error = %e, "a leftover folder could not be removed");
        }
    }
    let containers: BTreeSet<String> = runtime.0.tables.lock().containers.keys().cloned().collect();
    for snapshot in runtime.0.config.images.snapshots() {
        if containers.contains(&snapshot.key) || snapshot.key.len() != 64 {
            continue;
        }
        if let Err(e) = runtime.0.config.images.remove_snapshot(&snapshot.key) {
            tracing::warn!(snapshot = %snapshot.key, error = %chain(&e), "a leftover snapshot could not be removed");
        }
    }
    Ok(())
}

fn sandbox_name(sandbox: &Sandbox) -> String {
    let metadata = sandbox.config().metadata.unwrap_or_default();
    format!("{}_{}_{}_{}", metadata.name, metadata.namespace, metadata.uid, metadata.attempt)
}

fn container_name(container: &Container, sandbox: &Sandbox) -> String {
    let metadata: v1::ContainerMetadata = container.config().metadata.unwrap_or_default();
    let pod = sandbox.config().metadata.unwrap_or_default();
    format!("{}_{}_{}_{}_{}", metadata.name, pod.name, pod.namespace, pod.uid, metadata.attempt)
}
