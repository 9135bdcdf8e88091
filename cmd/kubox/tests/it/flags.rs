//! Flags: honoured, or refused with one line.

use std::process::Command;

use crate::harness::{Server, run};

fn kubox(args: &[&str]) -> (bool, String, String) {
    run(Command::new(env!("CARGO_BIN_EXE_kubox")).args(args))
}

#[test]
fn bad_flags_are_refused_with_one_line() {
    for (args, line) in [
        (vec!["server"], "--data-dir is needed: the folder where everything is kept"),
        (vec!["server", "--nonsense"], "--nonsense is not known; see `kubox server --help`"),
        (vec!["server", "--secure-port", "x"], "--secure-port: \"x\" is not of the right form"),
        (vec!["server", "--data-dir"], "--data-dir needs a value"),
        (
            vec!["server", "--etcd-servers=http://127.0.0.1:2379"],
            "--etcd-servers cannot be honoured: an etcd back end is not there yet; state is kept in --data-dir",
        ),
        (vec!["nonsense"], "there is no command \"nonsense\"; see `kubox help`"),
    ] {
        let (good, _, complaint) = kubox(&args);
        assert!(!good, "{args:?} was accepted");
        assert_eq!(complaint.trim(), format!("kubox: {line}"), "{args:?}");
    }
}

#[test]
fn a_second_server_over_one_folder_is_refused_and_changes_nothing() {
    let server = Server::new(&[]);
    let dir = server.dir.to_str().expect("a path of text");
    let (good, _, complaint) = kubox(&["server", "--data-dir", dir, "--secure-port", "0"]);
    assert!(!good);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains("in use by another process"), "{complaint}");
}

#[test]
fn files_that_hold_keys_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::new(&[]);
    let mode =
        |path: std::path::PathBuf| std::fs::metadata(&path).expect("the file is there").permissions().mode() & 0o777;
    assert_eq!(mode(server.kubeconfig()), 0o600);
    for key in ["ca.key", "apiserver.key", "sa.key", "front-proxy-ca.key", "apiserver-kubelet-client.key"] {
        assert_eq!(mode(server.dir.join("pki").join(key)), 0o600, "{key}");
    }
}
