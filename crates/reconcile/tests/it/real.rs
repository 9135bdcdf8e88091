//! Events, leases and owner references as the real API server sees them.

use std::time::Duration;

use api_semantics::selector::Selector;
use apiserver::start::{Options as ServerOptions, start};
use client::{Client, Options, Value};
use informer::Informers;
use reconcile::{Election, ElectionTimes, EventType, Owner, Recorder, Reference};
use world::World;

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("after a minute it is still not so that {what}");
}

fn labelled(name: &str, app: &str) -> Value {
    let mut object = Value::default();
    object.set(&["metadata", "name"], name);
    object.set(&["metadata", "labels"], [("app", app)]);
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_server_takes_events_leases_and_owners() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = ServerOptions::new(dir.path());
    options.secure_port = 0;
    let server = start(options, World::system()).await.unwrap_or_else(|error| panic!("the server starts: {error}"));
    let admin = authn::UserInfo::new("admin", &["system:masters"]);
    let client = Client::new(server.in_process(admin), Options::new("it"));
    events(&client).await;
    leases(&client).await;
    owners(&client).await;
    server.stop().await;
}

async fn events(client: &Client) {
    let map = client.resource("", "v1", "configmaps").namespace("default").create(&labelled("map", "x")).await;
    let map = Reference::of(&map.expect("it is made"));
    let node = client.resource("", "v1", "nodes").create(&labelled("node", "x")).await.expect("it is made");
    let recorder = Recorder::start(client, "it-controller", "");
    for _ in 0..2 {
        recorder.normal(&map, "Told", "twice");
        recorder.action(&map, Some(&Reference::of(&node)), EventType::Warning, "Failed", "Trying", "twice");
    }
    recorder.warning(&Reference::of(&node), "Told", "of a node");
    let events = client.resource("", "v1", "events").namespace("default");
    let find = async |reason: &str, kind: &str| {
        let all = events.list(&Default::default()).await.expect("a list").items;
        let is_it =
            |event: &Value| event.str_at(&["reason"]) == reason && event.str_at(&["involvedObject", "kind"]) == kind;
        all.into_iter().find(is_it).unwrap_or_default()
    };
    until("both events of the map are counted", async || {
        find("Told", "ConfigMap").await.int_at(&["count"]) == Some(2)
            && find("Failed", "ConfigMap").await.int_at(&["series", "count"]) == Some(2)
    })
    .await;
    until("the event of the node is there", async || find("Told", "Node").await.get("metadata").is_some()).await;
}

async fn leases(client: &Client) {
    let election = |name| Election::new(client, "kube-system", "it", name, ElectionTimes::default());
    let (first, second) = (election("first"), election("second"));
    assert_eq!(first.run(async { first.leader() }).await.as_deref(), Ok("first"));
    let holder = async || {
        let leases = client.resource("coordination.k8s.io", "v1", "leases").namespace("kube-system");
        leases.get("it").await.expect("the lease is there").str_at(&["spec", "holderIdentity"]).to_owned()
    };
    assert_eq!(holder().await, "", "it was given up");
    assert_eq!(second.run(holder()).await.as_deref(), Ok("second"));
}

async fn owners(client: &Client) {
    let maps = client.resource("", "v1", "configmaps").namespace("default");
    let owner = Owner::of(&maps.create(&labelled("owner", "none")).await.expect("it is made"));
    let stranger = Owner::of(&maps.create(&labelled("stranger", "none")).await.expect("it is made"));
    let secrets = client.resource("", "v1", "secrets").namespace("default");
    for (name, app, controller) in [
        ("orphan", "web", None),
        ("other", "db", None),
        ("mine", "web", Some(&owner)),
        ("stray", "db", Some(&owner)),
        ("theirs", "web", Some(&stranger)),
    ] {
        let mut secret = labelled(name, app);
        if let Some(controller) = controller {
            secret.set(&["metadata", "ownerReferences"], vec![controller.reference()]);
        }
        secrets.create(&secret).await.expect("it is made");
    }
    let informers = Informers::new(client.clone());
    let cached = informers.of::<()>("", "v1", "secrets");
    informers.synced().await;
    let selector = Selector::parse("app=web").expect("a selector");
    let claimed = owner.claim(&secrets, &selector, cached.list_in("default"), async { Ok(()) }).await;
    let names: Vec<_> = claimed.expect("all goes well").iter().map(|object| object.name.to_string()).collect();
    assert_eq!(names, ["mine", "orphan"]);
    let list = secrets.list(&Default::default()).await.expect("a list").items;
    let owned: Vec<String> = list
        .iter()
        .map(|secret| {
            let owners = secret.list_at(&["metadata", "ownerReferences"]);
            let owner = owners.first().map_or("", |owner| owner.str_at(&["name"]));
            format!("{}:{owner}", secret.str_at(&["metadata", "name"]))
        })
        .collect();
    assert_eq!(owned, ["mine:owner", "orphan:owner", "other:", "stray:", "theirs:stranger"]);
    // What somebody else has taken over meanwhile is not torn away.
    let theirs = cached.get("default", "theirs").expect("it is there");
    assert!(owner.adopt(&secrets, &theirs).await.expect_err("it is theirs").is_invalid());
    // An owner that may not adopt keeps what it has.
    secrets.create(&labelled("orphan2", "web")).await.expect("it is made");
    until("the orphan is seen", async || cached.get("default", "orphan2").is_some()).await;
    let forbidden = async { secrets.get("nothing").await.map(drop) };
    let error = owner.claim(&secrets, &selector, cached.list_in("default"), forbidden).await;
    assert!(error.expect_err("it may not").is_not_found());
}
