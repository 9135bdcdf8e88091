//! Prints what keeping managed fields costs, in microseconds: `cargo run --release -p api-patch --example speed`.

use std::hint::black_box;
use std::time::Instant;

use api_patch::ObjectType;
use api_patch::managed_fields::{FieldManager, ResetFields};
use api_schema::{Map, SmolStr, Value, format_smolstr};

const TIME: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T00:00:01Z";

fn config_map() -> Value {
    let mut object = Value::from([("apiVersion", "v1"), ("kind", "ConfigMap")]);
    object.set(&["metadata", "name"], "speed");
    object.set(&["metadata", "namespace"], "default");
    object.set(&["metadata", "uid"], "6f1e8f2a-7b1c-4d53-9a55-0f6f2f6d4f10");
    object.set(&["metadata", "labels", "app"], "speed");
    let data: Map = (0..10).map(|at| (format_smolstr!("key-{at}"), SmolStr::new("x".repeat(90)))).collect();
    object.set(&["data"], data);
    object
}

fn pod() -> Value {
    let container = |name: &str| {
        let mut container = Value::from([("name", name), ("image", "registry/image:1"), ("imagePullPolicy", "Always")]);
        let mut port = Value::from([("protocol", "TCP")]);
        port.set(&["containerPort"], 80);
        container.set(&["ports"], vec![port]);
        container.set(
            &["env"],
            vec![Value::from([("name", "A"), ("value", "1")]), Value::from([("name", "B"), ("value", "2")])],
        );
        container.set(&["resources", "requests", "cpu"], "100m");
        container.set(&["resources", "requests", "memory"], "64Mi");
        container.set(&["terminationMessagePath"], "/dev/termination-log");
        container.set(&["terminationMessagePolicy"], "File");
        container.set(&["volumeMounts"], vec![Value::from([("mountPath", "/data"), ("name", "data")])]);
        container
    };
    let mut object = Value::from([("apiVersion", "v1"), ("kind", "Pod")]);
    object.set(&["metadata", "name"], "speed");
    object.set(&["metadata", "namespace"], "default");
    object.set(&["metadata", "uid"], "6f1e8f2a-7b1c-4d53-9a55-0f6f2f6d4f10");
    object.set(&["metadata", "labels", "app"], "speed");
    object.set(&["spec", "containers"], vec![container("a"), container("b")]);
    object.set(&["spec", "dnsPolicy"], "ClusterFirst");
    object.set(&["spec", "restartPolicy"], "Always");
    object.set(&["spec", "schedulerName"], "default-scheduler");
    object.set(&["spec", "securityContext"], Map::new());
    object.set(&["spec", "terminationGracePeriodSeconds"], 30);
    object.set(&["status"], Map::new());
    object
}

/// Prints the best of many batches, for the machine has others to serve.
fn measure(what: &str, runs: usize, mut prepare: impl FnMut() -> Value, mut run: impl FnMut(&mut Value)) {
    let mut best = f64::MAX;
    for _ in 0..100 {
        let mut objects: Vec<Value> = (0..runs).map(|_| prepare()).collect();
        let start = Instant::now();
        for object in &mut objects {
            run(black_box(object));
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e6 / runs as f64);
        black_box(objects);
    }
    println!("{what:40} {best:8.2} us");
}

fn main() {
    let schema = api_types::schema();
    let reset = ResetFields::exclude(&[&["status"]]);
    for (kind, object, change) in
        [("ConfigMap", config_map(), &["data", "key-3"][..]), ("Pod", pod(), &["metadata", "labels", "app"])]
    {
        let manager = FieldManager {
            ty: ObjectType::Struct(schema, api_types::struct_id(&format!("io.k8s.api.core.v1.{kind}"))),
            api_version: "v1",
            kind,
            subresource: "",
            reset: &reset,
            versions: None,
        };
        let mut live = object.clone();
        manager.update(None, &mut live, "kubectl", TIME);
        let mut other = live.clone();
        other.set(change, "by another");
        manager.update(Some(&live), &mut other, "other", LATER);
        let mut new = live.clone();
        new.set(change, "changed");
        let mut applied = object.clone();
        applied.remove(&["status"]);

        measure(&format!("{kind}: create"), 100, || object.clone(), |new| manager.update(None, new, "kubectl", TIME));
        measure(
            &format!("{kind}: update, same manager"),
            2000,
            || new.clone(),
            |new| {
                manager.update(Some(&live), new, "kubectl", LATER);
            },
        );
        measure(
            &format!("{kind}: update, another manager"),
            2000,
            || new.clone(),
            |new| {
                manager.update(Some(&live), new, "another", LATER);
            },
        );
        measure(
            &format!("{kind}: update, two entries"),
            2000,
            || new.clone(),
            |new| {
                manager.update(Some(&other), new, "kubectl", LATER);
            },
        );
        measure(
            &format!("{kind}: update, nothing changes"),
            2000,
            || live.clone(),
            |new| {
                manager.update(Some(&live), new, "kubectl", LATER);
            },
        );
        let create = |new: &mut Value| *new = manager.apply(None, &applied, "me", false, TIME).expect("no conflict");
        measure(&format!("{kind}: apply, create"), 50, || Value::Null, create);
        let mut live = manager.apply(None, &applied, "me", false, TIME).expect("no conflict");
        measure(
            &format!("{kind}: apply, nothing changes"),
            500,
            || Value::Null,
            |new| {
                *new = manager.apply(Some(&live), &applied, "me", false, LATER).expect("no conflict");
            },
        );
        live.set(change, "before");
        measure(
            &format!("{kind}: apply, one change"),
            500,
            || Value::Null,
            |new| {
                *new = manager.apply(Some(&live), &applied, "me", false, LATER).expect("no conflict");
            },
        );
    }
}
