//! Servers come and go.

use std::path::Path;

use client::{Client, Error, Options, TransportError, WatchOptions};

use crate::harness::{Server, config_map, next_change, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_finds_a_server_that_was_restarted_at_the_same_port() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(dir.path()).await;
    let port = server.address().port();
    let client = server.http();
    let maps = client.resource("", "v1", "configmaps").namespace("default");
    maps.create(&config_map("a", "1")).await.expect("it is made");
    let from = maps.list(&Default::default()).await.expect("a list").resource_version;
    let options = WatchOptions { resource_version: from.clone(), ..WatchOptions::default() };
    let mut watch = maps.watch(&options).await.expect("a watch");
    server.stop().await;
    // The watch ends, and requests say that nobody is there.
    assert_eq!(next_change(&mut watch).await, None);
    let error = soon(maps.get("a")).await.expect_err("nobody listens");
    assert!(matches!(error, Error::Transport(TransportError::Connect { .. })), "{error:?}");
    assert!(error.had_no_effect());
    // Another server with the same keys takes its place.
    let other = tempfile::tempdir().expect("a folder");
    copy(&dir.path().join("pki"), &other.path().join("pki"));
    let server = Server::start_with(other.path(), |options| options.secure_port = port).await;
    soon(maps.create(&config_map("a", "2"))).await.expect("somebody listens again");
    let map = soon(maps.get("a")).await.expect("it is there");
    assert_eq!(map.str_at(&["data", "key"]), "2");
    server.stop().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the folder is made");
    for entry in std::fs::read_dir(from).expect("the folder is read") {
        let entry = entry.expect("the folder is read");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("the file is copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_watches_than_a_connection_holds_are_spread_over_several() {
    const WATCHES: usize = 260;
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(dir.path()).await;
    let client = server.http();
    let maps = client.resource("", "v1", "configmaps").namespace("default");
    let from = maps.list(&Default::default()).await.expect("a list").resource_version;
    let options = WatchOptions { resource_version: from, ..WatchOptions::default() };
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        watches.push(soon(maps.watch(&options)).await.expect("a watch"));
    }
    maps.create(&config_map("a", "1")).await.expect("there is room for a request");
    for watch in &mut watches {
        assert_eq!(next_change(watch).await.as_deref(), Some("+a=1"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_trusted_by_their_authority_and_name_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let other = tempfile::tempdir().expect("a folder");
    let server = Server::start(dir.path()).await;
    let stranger = Server::start(other.path()).await;
    let check = async |change: &dyn Fn(&mut client::Config), works: bool| {
        let mut config = server.config();
        change(&mut config);
        let client = Client::http(&config, Options::new("it")).expect("the client is set up");
        let result = soon(client.text("/version")).await;
        assert_eq!(result.is_ok(), works, "{result:?}");
    };
    check(&|_| {}, true).await;
    check(&|config| config.authority = stranger.config().authority, false).await;
    check(&|config| config.server_name = Some("kubernetes.default.svc".into()), true).await;
    check(&|config| config.server_name = Some("example.com".into()), false).await;
    check(
        &|config| {
            config.authority = stranger.config().authority;
            config.insecure = true;
        },
        true,
    )
    .await;
    server.stop().await;
    stranger.stop().await;
}
