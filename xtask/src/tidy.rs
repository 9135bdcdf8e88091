//! Checks of the workspace that the compiler does not make.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Crates with lints of their own: the workspace forbids unsafe code, and these need some, with a note at each use.
const OWN_LINTS: &[&str] = &["shim"];

/// Checks that every crate states its layer, depends only on layers that it may, and inherits the lints; and that
/// outside crates are what they may be.
pub(crate) fn run() -> Result<()> {
    let metadata = crate::metadata(&["--no-deps"])?;
    let layers = metadata["metadata"]["layers"].as_object().context("the root manifest lists the layers")?;
    let packages = metadata["packages"].as_array().context("packages are a list")?;
    let layer_of: BTreeMap<&str, &str> = packages
        .iter()
        .filter_map(|package| Some((package["name"].as_str()?, package["metadata"]["layer"].as_str()?)))
        .collect();
    let mut problems = crate::dependencies::problems()?;
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = layer_of.get(name) else {
            problems.push(format!("{name} states no layer"));
            continue;
        };
        let Some(below) = layers.get(*layer).and_then(Value::as_array) else {
            problems.push(format!("{name} is in layer {layer:?}, which the root manifest does not list"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let other = dependency["name"].as_str().unwrap_or_default();
            let Some(other_layer) = layer_of.get(other) else { continue };
            let allowed = other_layer == layer || below.iter().any(|l| l.as_str() == Some(other_layer));
            if !allowed {
                problems.push(format!("{name} ({layer}) may not depend on {other} ({other_layer})"));
            }
        }
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let text = std::fs::read_to_string(manifest).with_context(|| format!("read {manifest}"))?;
        if !text.contains("[lints]\nworkspace = true") && !OWN_LINTS.contains(&name) {
            problems.push(format!("{name} does not inherit the workspace's lints"));
        }
        if !manifest.contains(&format!("/{name}/Cargo.toml")) {
            problems.push(format!("{name} is not in a folder of its name"));
        }
    }
    ensure!(problems.is_empty(), "tidy:\n  {}", problems.join("\n  "));
    Ok(())
}
