//! The Python client against kubox: each test runs one chapter of `python_story.py` against a server of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Server, fetch, run, tools_dir};

/// The version of the client that the story was written for.
const CLIENT: &str = "kubernetes==37.0.2";

/// A Python that has the client: made once, then kept.
fn python() -> PathBuf {
    let dir = tools_dir().join(format!("python-{CLIENT}"));
    if !dir.join("bin/python").exists() {
        let install = format!("bin/python -m pip install --quiet {CLIENT}");
        fetch(&dir, &["python3 -m venv .", &install, "bin/python -c 'import kubernetes'"]);
    }
    dir.join("bin/python")
}

fn chapter(name: &str) {
    let server = Server::new(&[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/python_story.py");
    let mut command = Command::new(python());
    command.arg("-B").arg(script).arg(name).env("KUBECONFIG", server.kubeconfig());
    let (good, out, complaint) = run(&mut command);
    assert!(good, "{name}: {complaint}{out}");
    assert_eq!(out, format!("{name} is told\n"), "the chapter ran to its end");
}

#[test]
fn objects_live_their_lives() {
    chapter("objects");
}

#[test]
fn a_watch_begins_where_it_is_told_to() {
    chapter("watch");
}

#[test]
fn fields_are_owned_by_who_applies_them() {
    chapter("apply");
}

#[test]
fn errors_say_what_is_wrong() {
    chapter("errors");
}

#[test]
fn long_lists_come_in_pages() {
    chapter("pages");
}
