//! Informers over the real API server.

use std::sync::Arc;
use std::time::Duration;

use apiserver::start::{Options as ServerOptions, start};
use client::{Client, Config, DeleteOptions, Options, Value};
use informer::{Change, Informers, Selection};
use parking_lot::Mutex;
use world::World;

fn map(name: &str, colour: &str) -> Value {
    let mut map = Value::default();
    map.set(&["metadata", "name"], name);
    map.set(&["metadata", "labels"], [("colour", colour)]);
    map
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("after a minute it is still not so that {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informers_follow_the_real_server_both_ways() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = ServerOptions::new(dir.path());
    options.secure_port = 0;
    let server = start(options, World::system()).await.unwrap_or_else(|error| panic!("the server starts: {error}"));
    let config = Config::from_kubeconfig(&dir.path().join("admin.kubeconfig"), None).expect("a kubeconfig");
    let https = Client::http(&config, Options::new("it")).expect("a client");
    let admin = authn::UserInfo::new("admin", &["system:masters"]);
    let process = Client::new(server.in_process(admin), Options::new("it"));
    for (way, client) in [("https", https), ("process", process)] {
        let maps = client.resource("", "v1", "configmaps").namespace("default");
        maps.create(&map("before", "red")).await.expect("it is made");
        maps.create(&map("blue", "blue")).await.expect("it is made");
        let informers = Informers::new(client.clone());
        let all = informers.of::<Value>("", "v1", "configmaps");
        let resource = all.api().resource().clone();
        let red = informers.select::<Value>(Selection {
            namespace: "default".into(),
            label_selector: "colour=red".into(),
            ..Selection::all(resource)
        });
        let seen = Arc::new(Mutex::new(Vec::new()));
        red.subscribe({
            let seen = Arc::clone(&seen);
            move |change: &Change<Value>| {
                let sign = format!("{change:?}").remove(0);
                seen.lock().push(format!("{sign}{}", change.object().name));
            }
        });
        informers.synced().await;
        assert_eq!(red.get("default", "before").map(|map| map.content.clone()), maps.get("before").await.ok());
        assert_eq!(all.index_label("colour").count("blue"), 1, "{way}");
        let mut made = maps.create(&map("later", "red")).await.expect("it is made");
        made.set(&["data"], [("key", "value")]);
        let mut made = maps.update(&made).await.expect("it is changed");
        made.set(&["metadata", "labels", "colour"], "blue");
        maps.update(&made).await.expect("it is changed");
        maps.delete("before", &DeleteOptions::default()).await.expect("it is deleted");
        until("five changes were seen", || seen.lock().len() == 5).await;
        assert_eq!(*seen.lock(), ["+before", "+later", "~later", "-later", "-before"], "{way}");
        assert!(red.is_empty());
        assert_eq!((red.stats().lists, red.stats().watches, red.stats().failures), (1, 1, 0), "{way}");
        for name in ["later", "blue"] {
            maps.delete(name, &DeleteOptions::default()).await.expect("it is deleted");
        }
    }
    server.stop().await;
}
