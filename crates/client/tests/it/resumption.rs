//! Watches that break off and go on.

use client::{Event, WatchOptions};

use crate::harness::{Server, config_map, soon};

/// Changes go on while a watch is broken off again and again, at each point of an event; each change is seen once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_without_a_lost_or_doubled_event() {
    const CHANGES: usize = 200;
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(dir.path()).await;
    for (way, client) in server.both() {
        let maps = client.resource("", "v1", "configmaps").namespace("default");
        let made = maps.create(&config_map(way, "0")).await.expect("it is made");
        let mut options = WatchOptions {
            resource_version: made.str_at(&["metadata", "resourceVersion"]).into(),
            field_selector: api_schema::format_smolstr!("metadata.name={way}"),
            ..WatchOptions::default()
        };
        let writer = tokio::spawn({
            let maps = maps.clone();
            async move {
                let mut map = made;
                for number in 1..=CHANGES {
                    map.set(&["data", "key"], number.to_string());
                    map = maps.update(&map).await.expect("it is changed");
                }
            }
        });
        let mut seen = Vec::new();
        let mut watches = 0;
        while seen.len() < CHANGES {
            watches += 1;
            let mut watch = soon(maps.watch(&options)).await.expect("a watch");
            // Each watch is dropped after another number of events.
            for _ in 0..=watches % 7 {
                match soon(watch.next()).await {
                    Some(Ok(Event::Modified(map))) => {
                        options.resource_version = map.str_at(&["metadata", "resourceVersion"]).into();
                        seen.push(map.str_at(&["data", "key"]).parse::<usize>().expect("a number"));
                    }
                    Some(Ok(Event::Bookmark { resource_version, .. })) => options.resource_version = resource_version,
                    other => panic!("{way}: {other:?}"),
                }
                if seen.len() == CHANGES {
                    break;
                }
            }
        }
        writer.await.expect("the writer ends");
        assert_eq!(seen, (1..=CHANGES).collect::<Vec<_>>(), "{way}");
        assert!(watches > 20, "{way}: it was broken off often");
    }
    server.stop().await;
}
