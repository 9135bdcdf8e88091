//! Packs the doc comments of the crate `k8s-openapi` into one blob.
//!
//! Cargo locks and downloads that crate for us but never compiles it (see the manifest): compiling it takes minutes,
//! and only its comments are of use. Where Cargo has not downloaded it, this script asks it to.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const CRATE: &str = "k8s-openapi";
/// The folder of the API level that `api-types` describes.
const LEVEL: &str = "v1_36";
/// Fewer descriptions than this mean that the sources look different from what the reader expects.
const DESCRIPTIONS_MIN: usize = 3000;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Err(problem) = run() {
        println!("cargo::error=no descriptions for OpenAPI: {problem}");
    }
}

fn run() -> Result<(), String> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let sources = locate(&manifest)?.join("src").join(LEVEL);
    println!("cargo::rerun-if-changed={}", sources.display());

    let mut found = BTreeMap::new();
    walk(&sources, &mut found)?;
    if found.len() < DESCRIPTIONS_MIN {
        return Err(format!("{} holds only {} descriptions", sources.display(), found.len()));
    }
    let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    for ((ty, field), text) in found {
        writeln!(packer, "{ty}\t{field}\t{text}").map_err(|error| format!("pack: {error}"))?;
    }
    let blob = packer.finish().map_err(|error| format!("pack: {error}"))?;
    fs::write(out.join("descriptions.deflate"), blob).map_err(|error| format!("write the blob: {error}"))
}

/// The folder of the locked version of the crate. `cargo metadata` downloads it (checked against Cargo.lock) if this
/// machine has not seen it yet; offline is tried first, for it is quick and needs no lock on the registry.
fn locate(manifest: &Path) -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").ok_or("CARGO is not set")?;
    let mut problem = String::new();
    for offline in [true, false] {
        let mut command = Command::new(&cargo);
        command.args(["metadata", "--format-version=1", "--manifest-path"]).arg(manifest.join("Cargo.toml"));
        if offline {
            command.arg("--offline");
        }
        let output = command.output().map_err(|error| format!("run cargo metadata: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if let Some(folder) = folder_in(&text) {
            return Ok(folder);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        problem = stderr.lines().rfind(|line| !line.is_empty()).unwrap_or("cargo metadata does not list it").into();
    }
    Err(format!("the sources of {CRATE} cannot be had from crates.io: {problem}"))
}

/// Finds `"manifest_path":".../k8s-openapi-<version>/Cargo.toml"` without a JSON reader.
fn folder_in(metadata: &str) -> Option<PathBuf> {
    metadata
        .split("\"manifest_path\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(|path| PathBuf::from(path.replace("\\\\", "\\")))
        .filter_map(|path| path.parent().map(Path::to_path_buf))
        .find(|folder| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix(CRATE).is_some_and(|rest| rest.starts_with('-'))
                && folder.join("src").join(LEVEL).is_dir()
        })
}

type Found = BTreeMap<(String, String), String>;

fn walk(folder: &Path, found: &mut Found) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            read(&fs::read_to_string(&path).map_err(failed)?, found);
        }
    }
    Ok(())
}

/// Reads one generated file: a head line with the type's name, a documented struct or enum, and further down the
/// deserializer, which tells the JSON name of each field.
fn read(source: &str, found: &mut Found) {
    let Some(ty) = source.lines().find_map(|line| line.strip_prefix("// Generated from definition ")) else { return };
    let json_names: BTreeMap<&str, &str> = source
        .lines()
        .filter_map(|line| {
            let (json, field) = line.trim().strip_prefix('"')?.split_once("\" => Field::Key_")?;
            Some((field.trim_end_matches(','), json))
        })
        .collect();
    let mut comment: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in source.lines() {
        let text = line.trim_start();
        if let Some(doc) = text.strip_prefix("///") {
            comment.push(doc.strip_prefix(' ').unwrap_or(doc));
            continue;
        }
        if !inside {
            if text.starts_with("pub struct ") || text.starts_with("pub enum ") {
                insert(found, ty, "", &comment);
                if !text.ends_with('{') || text.starts_with("pub enum ") {
                    return;
                }
                inside = true;
            } else if text.starts_with("#[") {
                continue;
            }
        } else if line.starts_with('}') {
            return;
        } else if let Some((field, _)) = text.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) {
            let key = field.trim_start_matches("r#");
            if let Some(json) = json_names.get(key) {
                insert(found, ty, json, &comment);
            }
        }
        comment.clear();
    }
}

fn insert(found: &mut Found, ty: &str, field: &str, comment: &[&str]) {
    let text = comment.join("\u{1}");
    let text = text.trim();
    if !text.is_empty() {
        found.insert((ty.trim().to_owned(), field.to_owned()), unescape(text));
    }
}

/// Undoes what the generator did for rustdoc: a backslash before brackets of both kinds and backslashes.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('[' | ']' | '<' | '>' | '\\')) => plain.extend(chars.next()),
            ('\t', _) => plain.push(' '),
            _ => plain.push(c),
        }
    }
    plain
}
