//! Events on virtual time.

use std::time::Duration;

use client::{SmolStr, Value};
use reconcile::{EventType, Recorder, Reference};
use testkit::{Simulation, simulate};

fn pod() -> Reference {
    Reference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: "shop".into(),
        name: "web".into(),
        uid: "u1".into(),
        resource_version: "7".into(),
        field_path: SmolStr::default(),
    }
}

/// Events by name: count, message.
fn written(sim: &Simulation) -> Vec<(i64, String)> {
    let events = sim.server.objects("", "v1", "events");
    let shown = |event: &Value| (event.int_at(&["count"]).unwrap_or_default(), event.str_at(&["message"]).to_owned());
    events.iter().map(|event| shown(event)).collect()
}

#[test]
fn repeated_events_are_one_whose_count_is_patched() {
    let ((), trace) = simulate(1, async |sim| {
        let recorder = Recorder::start(&sim.client("it"), "it-controller", "");
        for _ in 0..3 {
            recorder.warning(&pod().field("spec.containers{c}"), "BackOff", "Back-off");
            sim.pass(Duration::from_secs(1)).await;
        }
        recorder.normal(&Reference { namespace: "".into(), kind: "Node".into(), ..pod() }, "Ready", "is ready");
        sim.pass(Duration::from_secs(1)).await;
        assert_eq!(written(sim), [(1, "is ready".to_owned()), (3, "Back-off".to_owned())]);
        let event = &sim.server.objects("", "v1", "events")[1];
        for (path, expect) in [
            (&["metadata", "namespace"][..], "shop"),
            (&["metadata", "name"], "web.18867251edfa0000"),
            (&["type"], "Warning"),
            (&["reason"], "BackOff"),
            (&["firstTimestamp"], "2026-01-01T00:00:00Z"),
            (&["lastTimestamp"], "2026-01-01T00:00:02Z"),
            (&["source", "component"], "it-controller"),
            (&["reportingComponent"], "it-controller"),
            (&["involvedObject", "uid"], "u1"),
            (&["involvedObject", "fieldPath"], "spec.containers{c}"),
        ] {
            assert_eq!(event.str_at(path), expect, "{path:?}");
        }
    });
    let requests: Vec<&str> = trace.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(requests, ["POST", "PATCH", "PATCH", "POST"]);
    assert!(trace.contains("POST /api/v1/namespaces/default/events"), "events of nodes are in `default`");
}

#[test]
fn events_wait_for_a_server_that_is_down_and_come_back_where_they_were_deleted() {
    simulate(1, async |sim| {
        let recorder = Recorder::start(&sim.client("it"), "it-controller", "");
        sim.server.stop();
        recorder.normal(&pod(), "Pulled", "first");
        recorder.normal(&pod(), "Started", "second");
        sim.pass(Duration::from_secs(45)).await;
        sim.server.start();
        sim.wait_for("both are written", Duration::from_secs(30), || written(sim).len() == 2).await;
        let name = sim.server.objects("", "v1", "events")[0].str_at(&["metadata", "name"]).to_owned();
        let events = sim.tester().resource("", "v1", "events").namespace("shop");
        events.delete(&name, &Default::default()).await.expect("it is deleted");
        recorder.normal(&pod(), "Pulled", "first");
        sim.wait_for("it is back", Duration::from_secs(5), || written(sim).contains(&(2, "first".to_owned()))).await;
    });
}

#[test]
fn a_server_that_stays_away_costs_an_event_after_some_tries() {
    simulate(1, async |sim| {
        let recorder = Recorder::start(&sim.client("it"), "it-controller", "");
        sim.server.stop();
        recorder.normal(&pod(), "Pulled", "lost");
        sim.pass(Duration::from_secs(3_600)).await;
        assert_eq!(sim.server.requests(), 12);
        sim.server.start();
        sim.pass(Duration::from_secs(60)).await;
        recorder.normal(&pod(), "Pulled", "kept");
        sim.wait_for("the next is written", Duration::from_secs(5), || written(sim).len() == 1).await;
    });
}

#[test]
fn repeated_actions_are_a_series() {
    let ((), trace) = simulate(1, async |sim| {
        let recorder = Recorder::start(&sim.client("it"), "default-scheduler", "");
        for _ in 0..5 {
            let note = "0/1 nodes are available";
            recorder.action(&pod(), None, EventType::Warning, "FailedScheduling", "Scheduling", note);
            sim.pass(Duration::from_secs(10)).await;
        }
        let event = || sim.server.objects("events.k8s.io", "v1", "events")[0].clone();
        assert_eq!(event().int_at(&["series", "count"]), Some(2), "the others are written when the series ends");
        assert_eq!(event().str_at(&["eventTime"]), "2026-01-01T00:00:00.000000Z");
        assert_eq!(event().str_at(&["reportingController"]), "default-scheduler");
        sim.pass(Duration::from_secs(15 * 60)).await;
        assert_eq!(event().int_at(&["series", "count"]), Some(5));
        assert_eq!(event().str_at(&["series", "lastObservedTime"]), "2026-01-01T00:00:40.000000Z");
        let before = sim.server.requests();
        sim.pass(Duration::from_secs(24 * 3_600)).await;
        assert_eq!(sim.server.requests(), before, "what has ended is left alone");
    });
    let requests: Vec<&str> = trace.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(requests, ["POST", "PATCH", "PATCH"]);
}
