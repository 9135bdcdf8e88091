//! `cargo xtask <chore>`: everything about the workspace that is not the product.

mod codegen;
mod conformance;
mod dependencies;
mod tidy;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const HELP: &str = "cargo xtask <chore>

  up [FLAGS]                       build kubox and run `kubox server` in the foreground (data in target/up)
  test                             every test: format, tidy, generated files, lints, all crates, real clients
  bench                            the figures of docs/bench.md, measured on this machine
  conformance --e2e BINARY         run upstream's e2e.test against kubox and write docs/conformance.md
    [--focus RE] [--kubeconfig F] [--jobs N] [--all]
  codegen [--check] [--data DIR]   write the tables of crates/api-types from the API facts (or compare)
  tidy                             check layers, manifests, lints and licences
";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("up") => up(rest),
        Some("test") => test(),
        Some("bench") => {
            cargo(&[&["run", "--profile", "bench", "--package", "bench", "--"], strs(rest).as_slice()].concat())
        }
        Some("conformance") => conformance::run(rest),
        Some("codegen") => codegen::run(rest),
        Some("tidy") => tidy::run(),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("no chore named {other:?}; see `cargo xtask help`"),
    }
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Runs a program in the workspace's folder; its failure is ours.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<()> {
    println!("+ {program} {}", args.join(" "));
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    let status = command.status().with_context(|| format!("run {program}"))?;
    ensure!(status.success(), "{program} {} failed", args.join(" "));
    Ok(())
}

/// What cargo knows of the workspace.
pub(crate) fn metadata(args: &[&str]) -> Result<serde_json::Value> {
    let output = Command::new(cargo_program())
        .args(["metadata", "--format-version=1"])
        .args(args)
        .current_dir(root())
        .output()
        .context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The cargo that runs us.
fn cargo_program() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

pub(crate) fn cargo(args: &[&str]) -> Result<()> {
    run(&cargo_program(), args)
}

fn up(args: &[String]) -> Result<()> {
    cargo(&["build", "--release", "--package", "kubox"])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let data = target.join("up");
    println!("kubectl --kubeconfig {} get namespaces", data.join("admin.kubeconfig").display());
    // The server takes our place: its one line is the last word, and Ctrl-C is for it alone.
    let mut server = Command::new(target.join("release/kubox"));
    let error = server.arg("server").arg("--data-dir").arg(&data).args(args).exec();
    Err(error).with_context(|| format!("run {}", server.get_program().display()))
}

fn test() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    tidy::run()?;
    // The facts lie beside the checkout; without them there is nothing to compare with.
    if root().join("../shared/data").is_dir() {
        codegen::run(&["--check".to_owned()])?;
    } else {
        println!("! ../shared/data is not here: the generated tables are not compared with their source");
    }
    cargo(&["test", "--workspace", "--no-fail-fast"])
}
