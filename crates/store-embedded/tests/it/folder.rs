//! The data folder: what is in it, who may have it, and what is said if it cannot be used.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use expect_test::{Expect, expect};
use store::Revision;
use store_embedded::{EmbeddedStore, Options};
use world::World;

fn open(dir: &Path) -> Result<EmbeddedStore, store_embedded::OpenError> {
    EmbeddedStore::open(&World::system(), dir, Options::default())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("list");
    let names: BTreeSet<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.into_iter().collect()
}

#[test]
fn a_new_folder_is_small_and_private() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let dir = parent.path().join("a/b");
    let store = open(&dir).expect("open");
    assert_eq!(store.stats().revision, Revision::FIRST);
    assert_eq!(names(&dir), ["FORMAT", "LOCK", "log-0000000000000001"]);
    assert_eq!(std::fs::read_to_string(dir.join("FORMAT")).expect("read"), "kubox-store 1\n");
    let mode = |path: &Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for name in names(&dir) {
        assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(dir.join("log-0000000000000001")).expect("metadata").len(), 256 * 1024);
    assert_eq!(store.stats().disk_bytes, 256 * 1024);
}

fn check_refused(change: impl Fn(&Path), expect: Expect) {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let dir = parent.path().join("data");
    drop(open(&dir).expect("open"));
    change(&dir);
    let before = names(&dir);
    let mut text = Vec::new();
    let error = open(&dir).expect_err("refused");
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        text.push(error.to_string());
        cause = error.source();
    }
    expect.assert_eq(&text.join(": ").replace(&parent.path().display().to_string(), "/tmp"));
    assert_eq!(names(&dir), before);
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let write =
        |name: &'static str, text: &'static str| move |dir: &Path| std::fs::write(dir.join(name), text).expect("write");
    check_refused(
        write("FORMAT", "kubox-store 17\n"),
        expect!["the data folder /tmp/data has format 17, but this program knows formats up to 1: use a newer kubox"],
    );
    check_refused(write("FORMAT", "16\n"), expect!["/tmp/data/FORMAT does not say that its folder is a kubox store"]);
    check_refused(
        |dir| std::fs::remove_file(dir.join("log-0000000000000001")).expect("remove"),
        expect!["the data folder /tmp/data has lost its log; nothing was changed"],
    );
    check_refused(
        write(
            "log-0000000000000001",
            "not a log, and longer than the header of a segment is, by far as one sees from this",
        ),
        expect![
            "/tmp/data/log-0000000000000001 is damaged at byte 0: the segment's header is wrong; nothing was changed"
        ],
    );
    check_refused(
        write("snapshot-0000000000000009", "x"),
        expect!["/tmp/data/snapshot-0000000000000009 is damaged at byte 0: the snapshot is wrong; nothing was changed"],
    );
    check_refused(
        |dir| {
            std::fs::remove_file(dir.join("FORMAT")).expect("remove");
            std::fs::create_dir(dir.join("FORMAT")).expect("make a folder");
        },
        expect!["cannot read /tmp/data/FORMAT: Is a directory (os error 21)"],
    );
}

#[test]
fn a_folder_in_use_is_refused_and_named() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let first = open(parent.path()).expect("open");
    let error = open(parent.path()).expect_err("in use");
    assert_eq!(error.to_string(), format!("the data folder {} is in use by another process", parent.path().display()));
    drop(first);
    open(parent.path()).expect("free again");
}

#[test]
fn foreign_files_are_left_alone() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    for name in ["lost+found", "log-1", "snapshot-zzzzzzzzzzzzzzzz", "log-000000000000000A"] {
        std::fs::write(parent.path().join(name), name).expect("write");
    }
    drop(open(parent.path()).expect("open"));
    drop(open(parent.path()).expect("open again"));
    for name in ["lost+found", "log-1", "snapshot-zzzzzzzzzzzzzzzz", "log-000000000000000A"] {
        assert_eq!(std::fs::read_to_string(parent.path().join(name)).expect("read"), name);
    }
}
