//! The `kube` crate against kubox. Its story is a program of its own (tests/kube-story), so that no other build waits
//! for what it depends on; this builds it, once, and runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Server, run, tools_dir};

/// The program that tells the story.
fn program() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-story/Cargo.toml");
    let target = tools_dir().join("kube-story");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(&target);
    let (good, _, complaint) = run(&mut build);
    assert!(good, "kube-story is built: {complaint}");
    target.join("debug/kube-story")
}

#[test]
fn the_kube_crate_works() {
    let program = program();
    let server = Server::new(&[]);
    let (good, out, complaint) = run(Command::new(program).env("KUBECONFIG", server.kubeconfig()));
    assert!(good, "{complaint}{out}");
    assert_eq!(out, "the story is told\n");
}
