//! Files and folders that are not what they should be: one line, and nothing is overwritten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::own_pki::{OwnPki, now};
use super::refusal;
use crate::harness::{Server, run};

/// Everything in a folder, but for the lock.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map_while(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else {
                found.insert(entry.path(), std::fs::read(entry.path()).expect("a file"));
            }
        }
    }
    found
}

/// A data folder of a server that has ended.
fn used_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    Server::over(dir.path(), &[]).kill();
    // The next one takes away what the killed one had begun (a segment of the log), and adds nothing.
    Server::over(dir.path(), &[]).kill();
    dir
}

/// Refused in one line with these words, and nothing has changed.
#[track_caller]
fn refused_unchanged(dir: &Path, words: &[&str]) {
    let before = contents(dir);
    let data = format!("--data-dir={}", dir.display());
    let line = refusal(&[&data, "--secure-port=0"]);
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
    let after = contents(dir);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{line}");
    assert!(before == after, "files changed: {line}");
}

/// The same, where the store is opened before the flaw is found: what a crash left there may be tidied.
#[track_caller]
fn refused_but_for_the_store(dir: &Path, words: &[&str]) {
    let outside = |all: BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<PathBuf, Vec<u8>> {
        all.into_iter().filter(|(path, _)| !path.starts_with(dir.join("store"))).collect()
    };
    let before = outside(contents(dir));
    let line = refusal(&[&format!("--data-dir={}", dir.display()), "--secure-port=0"]);
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
    assert!(before == outside(contents(dir)), "files changed: {line}");
}

#[test]
fn what_operators_bring_must_be_good() {
    let pki = OwnPki::new();
    let ca = pki.authority("ca", now());
    let old = pki.authority("old", now() - 3 * 24 * 3600);
    pki.server(&ca, "good");
    pki.server(&ca, "other");
    pki.write("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    pki.write("empty", "");
    pki.write("expired.crt", &old.certificate().to_pem());
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path().join("data");
    let path = |name: &str| pki.path(name).display().to_string();
    for (flags, file, words) in [
        (vec![pki.flag("client-ca-file", "nothing")], "nothing", "No such file or directory"),
        (vec![pki.flag("client-ca-file", "garbage")], "garbage", "certificate: "),
        (vec![pki.flag("client-ca-file", "empty")], "empty", "certificate: "),
        (vec![pki.flag("client-ca-file", "expired.crt")], "expired.crt", "it expired at 20"),
        (vec![pki.flag("requestheader-client-ca-file", "garbage")], "garbage", "certificate: "),
        (vec![pki.flag("kubelet-certificate-authority", "expired.crt")], "expired.crt", "it expired at 20"),
        (vec![pki.flag("service-account-key-file", "garbage")], "garbage", ""),
        (vec![pki.flag("service-account-signing-key-file", "good.crt")], "good.crt", "key: "),
    ] {
        let data = format!("--data-dir={}", folder.display());
        let line =
            refusal(&[&[data.as_str()], flags.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
        let flag = flags[0].split('=').next().unwrap_or_default();
        assert!(line.starts_with(&format!("{flag} {}: ", path(file))) && line.contains(words), "{line}");
        assert!(!folder.exists(), "nothing is made");
    }
    for [certificate_flag, key_flag] in [
        ["tls-cert-file", "tls-private-key-file"],
        ["kubelet-client-certificate", "kubelet-client-key"],
        ["proxy-client-cert-file", "proxy-client-key-file"],
    ] {
        let data = format!("--data-dir={}", folder.display());
        let line = refusal(&[&data, &pki.flag(certificate_flag, "good.crt"), &pki.flag(key_flag, "other.key")]);
        let expected =
            format!("--{certificate_flag} {}: it is not for the key in {}", path("good.crt"), path("other.key"));
        assert_eq!(line, expected);
        assert!(!folder.exists(), "nothing is made");
    }
    // Who may name users must not be everybody with a certificate.
    refused_unchanged_new(
        &folder,
        &[&pki.flag("client-ca-file", "ca.crt"), &pki.flag("requestheader-client-ca-file", "ca.crt")],
    );
}

/// The two authorities are known to overlap once both are read; no folder is made for it.
#[track_caller]
fn refused_unchanged_new(folder: &Path, flags: &[&str]) {
    let data = format!("--data-dir={}", folder.display());
    let line = refusal(&[&[data.as_str()], flags].concat());
    assert!(line.starts_with("--requestheader-client-ca-file and --client-ca-file contain overlapping"), "{line}");
    assert!(!folder.exists(), "nothing is made");
}

#[test]
fn a_second_server_over_one_folder_is_refused_and_changes_nothing() {
    let server = Server::new(&[]);
    let before = std::fs::read(server.kubeconfig()).expect("the kubeconfig is there");
    let data = format!("--data-dir={}", server.dir.display());
    let line = refusal(&[&data, "--secure-port=0"]);
    assert!(line.contains("in use by another process"), "{line}");
    assert_eq!(std::fs::read(server.kubeconfig()).expect("the kubeconfig is there"), before);
}

#[test]
fn damaged_keys_and_certificates_stay_as_they_are() {
    let folder = used_folder();
    let dir = folder.path();
    for (name, words) in [
        ("pki/ca.crt", "ca.crt is not usable"),
        ("pki/ca.key", "ca.key is not usable"),
        ("pki/apiserver.key", "apiserver.key is not usable"),
        ("pki/sa.pub", "sa.pub is not usable"),
        ("admin.kubeconfig", "admin.kubeconfig is not usable"),
    ] {
        let path = dir.join(name);
        let good = std::fs::read(&path).expect("the file is there");
        std::fs::write(&path, &good[..good.len() / 2]).expect("the folder can be written");
        refused_but_for_the_store(dir, &[words, "move it away to have it made anew"]);
        std::fs::write(&path, &good).expect("the folder can be written");
    }
    // An authority that is over, and whose key is elsewhere, must be renewed elsewhere.
    let pki = OwnPki::new();
    let old = pki.authority("old", now() - 3 * 24 * 3600);
    std::fs::write(dir.join("pki/ca.crt"), old.certificate().to_pem()).expect("the folder can be written");
    std::fs::remove_file(dir.join("pki/ca.key")).expect("the key is there");
    refused_but_for_the_store(dir, &["ca.crt: it expired at 20", "ca.key, which could renew it, is missing"]);
}

#[test]
fn a_damaged_or_newer_store_stays_as_it_is() {
    let folder = used_folder();
    let dir = folder.path();
    // Logs are made larger than what they hold; the one that holds most is damaged in its midst.
    let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap_or_default();
    let log = contents(&dir.join("store")).into_iter().max_by_key(|(_, bytes)| used(bytes)).expect("a log");
    let (path, good) = log;
    let mut damaged = good.clone();
    damaged[used(&good) / 2] ^= 0xff;
    std::fs::write(&path, &damaged).expect("the folder can be written");
    refused_unchanged(dir, &["store", "damaged"]);
    std::fs::write(&path, &good).expect("the folder can be written");

    let path = dir.join("store/FORMAT");
    let good = std::fs::read_to_string(&path).expect("the folder has a format");
    std::fs::write(&path, good.replace('1', "2")).expect("the folder can be written");
    refused_unchanged(dir, &["has format 2", "use a newer kubox"]);
    std::fs::write(&path, &good).expect("the folder can be written");
    Server::over(dir, &[]).kill();
}

#[test]
fn a_full_disk_is_said_in_one_line() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    // A limit on the size of files stands for the disk: writes fail in the same way, and nobody needs to mount.
    let start = |blocks: &str| {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" server --secure-port 0 --data-dir \"$1\"");
        run(Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_kubox")]).arg(&data))
    };
    let (good, _, complaint) = start("0");
    assert!(!good, "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains(&data.display().to_string()) && complaint.contains("File too large"), "{complaint}");
    // Nothing half-made is in the way once there is room.
    Server::over(&data, &[]).kill();
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("the folder can be written");
    let line = refusal(&[&format!("--data-dir={}", file.join("data").display()), "--secure-port=0"]);
    assert!(line.starts_with(&format!("data folder {}: ", file.join("data").display())), "{line}");
    // Even root cannot make folders there.
    let line = refusal(&["--data-dir=/proc/kubox", "--secure-port=0"]);
    assert!(line.starts_with("data folder /proc/kubox: "), "{line}");
}

#[test]
fn files_that_hold_keys_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::new(&[]);
    let mode = |path: PathBuf| std::fs::metadata(&path).expect("the file is there").permissions().mode() & 0o777;
    assert_eq!(mode(server.kubeconfig()), 0o600);
    for key in ["ca.key", "apiserver.key", "sa.key", "front-proxy-ca.key", "apiserver-kubelet-client.key"] {
        assert_eq!(mode(server.dir.join("pki").join(key)), 0o600, "{key}");
    }
}
