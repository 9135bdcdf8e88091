//! A server in this process, and clients to it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use apiserver::start::{Options as ServerOptions, Running, start};
use authn::UserInfo;
use client::{Client, Config, Event, Options, Value, Watch};
use tokio::runtime::Runtime;
use world::World;

/// A running API server over a folder, with threads of its own that end with it.
pub(crate) struct Server {
    runtime: Runtime,
    running: Running,
    dir: PathBuf,
}

impl Server {
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, |_| {}).await
    }

    pub(crate) async fn start_with(dir: &Path, change: impl FnOnce(&mut ServerOptions)) -> Self {
        let mut options = ServerOptions::new(dir);
        options.secure_port = 0;
        change(&mut options);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let starting = runtime.spawn(start(options, World::system()));
        let running = starting.await.expect("no panic").unwrap_or_else(|error| panic!("the server starts: {error}"));
        Self { runtime, running, dir: dir.to_owned() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }

    pub(crate) async fn stop(self) {
        self.runtime.spawn(self.running.stop()).await.expect("no panic");
        // What has not ended by now breaks off, as when a process ends.
        let ended = tokio::task::spawn_blocking(|| self.runtime.shutdown_timeout(Duration::from_secs(10)));
        ended.await.expect("no panic");
    }

    /// How the administrator speaks to it.
    pub(crate) fn config(&self) -> Config {
        Config::from_kubeconfig(&self.dir.join("admin.kubeconfig"), None).expect("the kubeconfig is read")
    }

    /// The administrator, over HTTPS.
    pub(crate) fn http(&self) -> Client {
        Client::http(&self.config(), Options::new("it")).expect("the client is set up")
    }

    /// A user, in process.
    pub(crate) fn in_process(&self, user: &str, groups: &[&str]) -> Client {
        Client::new(self.running.in_process(UserInfo::new(user, groups)), Options::new("it"))
    }

    /// The administrator both ways, with a name for each.
    pub(crate) fn both(&self) -> [(&'static str, Client); 2] {
        [("https", self.http()), ("process", self.in_process("admin", &["system:masters", "system:authenticated"]))]
    }
}

/// What must happen soon.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it happens within a minute")
}

/// A ConfigMap with one entry.
pub(crate) fn config_map(name: &str, value: &str) -> Value {
    let mut map = Value::from([("data", Value::from([("key", value)]))]);
    map.set(&["metadata", "name"], name);
    map
}

/// The next change that a watch shows, as `+name=value@revision`; bookmarks are passed over.
pub(crate) async fn next_change(watch: &mut Watch) -> Option<String> {
    loop {
        let (sign, object) = match soon(watch.next()).await? {
            Ok(Event::Added(object)) => ('+', object),
            Ok(Event::Modified(object)) => ('~', object),
            Ok(Event::Deleted(object)) => ('-', object),
            Ok(Event::Bookmark { .. }) => continue,
            Err(_) => return None,
        };
        return Some(format!("{sign}{}={}", object.str_at(&["metadata", "name"]), object.str_at(&["data", "key"])));
    }
}
