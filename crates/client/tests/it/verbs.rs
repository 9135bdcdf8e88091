//! Every verb, both ways.

use client::{
    ApiResource, Client, DeleteOptions, Error, Event, FieldValidation, ListOptions, Patch, Propagation, Value,
    VersionMatch, WatchOptions, WriteOptions,
};

use crate::harness::{Server, config_map, next_change, soon};

fn named(name: &str) -> Value {
    let mut object = Value::default();
    object.set(&["metadata", "name"], name);
    object
}

/// Makes a namespace with the service account that pods need.
async fn namespace(client: &Client, name: &str) {
    client.resource("", "v1", "namespaces").create(&named(name)).await.expect("the namespace is made");
    let accounts = client.resource("", "v1", "serviceaccounts").namespace(name);
    accounts.create(&named("default")).await.expect("the service account is made");
}

fn pod(name: &str) -> Value {
    let mut pod = named(name);
    pod.set(&["metadata", "labels"], [("app", "web")]);
    pod.set(&["spec", "containers"], vec![Value::from([("name", "c"), ("image", "nginx")])]);
    pod
}

fn names(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item.str_at(&["metadata", "name"])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_works_both_ways() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(dir.path()).await;
    for (way, client) in server.both() {
        namespace(&client, way).await;
        reads_and_writes(&client, way).await;
        patches(&client, way).await;
        subresources(&client, way).await;
        deletions(&client, way).await;
        watches(&client, way).await;
        refusals(&client, way).await;
        assert!(client.text("/version").await.expect("the version").contains("gitVersion"), "{way}");
    }
    server.stop().await;
}

async fn reads_and_writes(client: &Client, namespace: &str) {
    let all = client.resource("", "v1", "configmaps");
    let maps = all.namespace(namespace);
    // An Api of all namespaces asks the object.
    let mut map = config_map("a", "1");
    map.set(&["metadata", "namespace"], namespace);
    let made = all.create(&map).await.expect("it is made");
    assert_eq!((made.str_at(&["apiVersion"]), made.str_at(&["kind"])), ("v1", "ConfigMap"));
    assert_eq!(maps.get("a").await.expect("it is there"), made);
    assert_eq!(maps.get_if_exists("b").await.expect("a clear answer"), None);
    // An old state is no longer accepted.
    let mut newer = made.clone();
    newer.set(&["data", "key"], "2");
    let newer = maps.update(&newer).await.expect("it is changed");
    assert!(maps.update(&made).await.expect_err("it is old").is_conflict());
    // Managed fields name the client.
    assert_eq!(newer.list_at(&["metadata", "managedFields"])[0].str_at(&["manager"]), "it");
    // What is not to be stored is not.
    let dry = WriteOptions { dry_run: true, field_manager: Some("tester".into()), ..WriteOptions::default() };
    let tried = maps.create_with(&config_map("dry", ""), &dry).await.expect("it would be made");
    assert_eq!(tried.list_at(&["metadata", "managedFields"])[0].str_at(&["manager"]), "tester");
    assert!(maps.get("dry").await.expect_err("it was not made").is_not_found());
    // Lists: whole, by label, by field, in pages, of a certain state.
    for name in ["b", "c", "d", "e"] {
        let mut map = config_map(name, "x");
        map.set(&["metadata", "labels"], [("vowel", if name == "e" { "yes" } else { "no" })]);
        maps.create(&map).await.expect("it is made");
    }
    let list = maps.list(&ListOptions::default()).await.expect("a list");
    assert_eq!(names(&list.items), ["a", "b", "c", "d", "e"]);
    assert_eq!(list.items[0], newer, "a list shows what a read shows");
    let by_label = ListOptions { label_selector: "vowel in (yes)".into(), ..ListOptions::default() };
    assert_eq!(names(&maps.list(&by_label).await.expect("a list").items), ["e"]);
    let by_field = ListOptions { field_selector: "metadata.name=c".into(), ..ListOptions::default() };
    assert_eq!(names(&maps.list(&by_field).await.expect("a list").items), ["c"]);
    let page = maps.list(&ListOptions { limit: 2, ..ListOptions::default() }).await.expect("a page");
    assert_eq!((names(&page.items), page.remaining_item_count), (vec!["a", "b"], Some(3)));
    let pages = maps.list_all(&ListOptions { limit: 2, ..ListOptions::default() }).await.expect("all pages");
    assert_eq!((names(&pages.items), &pages.continue_token[..]), (vec!["a", "b", "c", "d", "e"], ""));
    let then = ListOptions {
        resource_version: newer.str_at(&["metadata", "resourceVersion"]).into(),
        version_match: VersionMatch::Exact,
        limit: 10,
        ..ListOptions::default()
    };
    assert_eq!(names(&maps.list(&then).await.expect("an older state").items), ["a"]);
    let ahead = ListOptions {
        resource_version: "999999999".into(),
        version_match: VersionMatch::NotOlderThan,
        ..ListOptions::default()
    };
    let error = soon(maps.list(&ahead)).await.expect_err("nobody is there yet");
    assert!(error.is_too_large_resource_version() && error.retry_after().is_some(), "{error:?}");
}

async fn patches(client: &Client, namespace: &str) {
    let maps = client.resource("", "v1", "configmaps").namespace(namespace);
    let operation = Value::from([("op", "replace"), ("path", "/data/key"), ("value", "json")]);
    let patched = maps.patch("b", &Patch::Json(&vec![operation].into())).await.expect("it is patched");
    assert_eq!(patched.str_at(&["data", "key"]), "json");
    let mut merge = Value::from([("data", Value::from([("key", Value::Null), ("other", "merge".into())]))]);
    let patched = maps.patch("b", &Patch::Merge(&merge)).await.expect("it is patched");
    assert_eq!((patched.at(&["data", "key"]), patched.str_at(&["data", "other"])), (None, "merge"));
    merge.set(&["metadata", "resourceVersion"], "1");
    assert!(maps.patch("b", &Patch::Merge(&merge)).await.expect_err("it is old").is_conflict());
    let pods = client.resource("", "v1", "pods").namespace(namespace);
    pods.create(&pod("p")).await.expect("the pod is made");
    let container = Value::from([("name", "c"), ("image", "nginx:2")]);
    let strategic = Value::from([("spec", Value::from([("containers", vec![container])]))]);
    let patched = pods.patch("p", &Patch::Strategic(&strategic)).await.expect("it is patched");
    let containers = patched.list_at(&["spec", "containers"]);
    assert_eq!((containers.len(), containers[0].str_at(&["image"])), (1, "nginx:2"));
    assert_eq!(containers[0].str_at(&["terminationMessagePath"]), "/dev/termination-log", "the rest is kept");
    // Apply makes what is not there, and asks before it takes fields over.
    let mut applied = config_map("applied", "mine");
    applied.set(&["apiVersion"], "v1");
    applied.set(&["kind"], "ConfigMap");
    let apply = Patch::Apply { object: &applied, force: false };
    let made = maps.patch("applied", &apply).await.expect("it is applied");
    assert_eq!(made.list_at(&["metadata", "managedFields"])[0].str_at(&["operation"]), "Apply");
    let mut theirs = made.clone();
    theirs.set(&["data", "key"], "theirs");
    let other = WriteOptions { field_manager: Some("other".into()), ..WriteOptions::default() };
    maps.update_with(&theirs, &other).await.expect("it is changed");
    let error = maps.patch("applied", &apply).await.expect_err("the field is theirs");
    assert!(error.is_conflict() && error.has_cause("FieldManagerConflict"), "{error:?}");
    let force = Patch::Apply { object: &applied, force: true };
    let taken = maps.patch("applied", &force).await.expect("it is taken over");
    assert_eq!(taken.str_at(&["data", "key"]), "mine");
}

async fn subresources(client: &Client, namespace: &str) {
    let pods = client.resource("", "v1", "pods").namespace(namespace);
    let mut running = pods.get("p").await.expect("the pod");
    running.set(&["status", "phase"], "Running");
    running.set(&["spec", "nodeName"], "ignored");
    let updated = pods.update_status(&running).await.expect("the status is written");
    assert_eq!((updated.str_at(&["status", "phase"]), updated.str_at(&["spec", "nodeName"])), ("Running", ""));
    let reason = Value::from([("status", Value::from([("reason", "Tested")]))]);
    let patched = pods.patch_status("p", &Patch::Strategic(&reason)).await.expect("the status is patched");
    assert_eq!(patched.str_at(&["status", "reason"]), "Tested");
    let mut binding = named("p");
    binding.set(&["target"], [("kind", "Node"), ("name", "n1")]);
    let answer = pods.create_sub("p", "binding", &binding).await.expect("it is bound");
    assert_eq!((answer.str_at(&["kind"]), answer.str_at(&["status"])), ("Status", "Success"));
    assert!(pods.create_sub("p", "binding", &binding).await.expect_err("it is bound already").is_conflict());
    // Scale.
    let template = Value::from([
        ("metadata", Value::from([("labels", Value::from([("app", "web")]))])),
        ("spec", pod("x").remove(&["spec"]).expect("a spec")),
    ]);
    let mut set = named("set");
    set.set(&["spec", "selector", "matchLabels"], [("app", "web")]);
    set.set(&["spec", "template"], template);
    let sets = client.resource("apps", "v1", "replicasets").namespace(namespace);
    sets.create(&set).await.expect("the set is made");
    let mut scale = sets.get_sub("set", "scale").await.expect("the scale");
    assert_eq!((scale.str_at(&["kind"]), scale.int_at(&["spec", "replicas"])), ("Scale", Some(1)));
    scale.set(&["spec", "replicas"], 3);
    assert_eq!(sets.update_sub(&scale, "scale").await.expect("it scales").int_at(&["spec", "replicas"]), Some(3));
    let four = Value::from([("spec", Value::from([("replicas", 4)]))]);
    let patched = sets.patch_with("set", "scale", &Patch::Merge(&four), &WriteOptions::default()).await;
    assert_eq!(patched.expect("it scales").int_at(&["spec", "replicas"]), Some(4));
    // A token of a service account.
    let accounts = client.resource("", "v1", "serviceaccounts").namespace(namespace);
    let request = Value::from([("spec", Value::from([("expirationSeconds", 600)]))]);
    let token = accounts.create_sub("default", "token", &request).await.expect("a token");
    assert_eq!(token.str_at(&["status", "token"]).matches('.').count(), 2);
    // Who am I, by a resource that is not stored.
    let reviews = client.resource("authentication.k8s.io", "v1", "selfsubjectreviews");
    let review = reviews.create(&Value::default()).await.expect("a review");
    assert!(!review.str_at(&["status", "userInfo", "username"]).is_empty());
    // An eviction deletes.
    pods.create(&pod("evicted")).await.expect("the pod is made");
    let answer = pods.create_sub("evicted", "eviction", &named("evicted")).await.expect("it is evicted");
    assert_eq!(answer.str_at(&["status"]), "Success");
}

async fn deletions(client: &Client, namespace: &str) {
    let maps = client.resource("", "v1", "configmaps").namespace(namespace);
    let wrong = DeleteOptions { uid: Some("other".into()), ..DeleteOptions::default() };
    assert!(maps.delete("a", &wrong).await.expect_err("it is another").is_conflict());
    let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    maps.delete("a", &dry).await.expect("it would be deleted");
    assert_eq!(maps.delete("a", &DeleteOptions::default()).await.expect("it is deleted"), None);
    assert!(maps.delete("a", &DeleteOptions::default()).await.expect_err("it is gone").is_not_found());
    // A pod on a node has time to end.
    let pods = client.resource("", "v1", "pods").namespace(namespace);
    let slow = DeleteOptions { grace_period_seconds: Some(7), ..DeleteOptions::default() };
    let ending = pods.delete("p", &slow).await.expect("it is being deleted").expect("it is still there");
    assert_eq!(ending.int_at(&["metadata", "deletionGracePeriodSeconds"]), Some(7));
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    pods.delete("p", &now).await.expect("it is deleted");
    assert_eq!(pods.get_if_exists("p").await.expect("a clear answer"), None);
    // Foreground deletion waits for a controller that is not here.
    let sets = client.resource("apps", "v1", "replicasets").namespace(namespace);
    let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    let waiting = sets.delete("set", &foreground).await.expect("it is being deleted").expect("it is still there");
    assert_eq!(waiting.list_at(&["metadata", "finalizers"])[0].as_str(), Some("foregroundDeletion"));
    let labelled = ListOptions { label_selector: "vowel=no".into(), ..ListOptions::default() };
    maps.delete_collection(&DeleteOptions::default(), &labelled).await.expect("they are deleted");
    let left = maps.list(&ListOptions::default()).await.expect("a list").items;
    assert!(names(&left).contains(&"e") && !names(&left).contains(&"c"), "{:?}", names(&left));
}

async fn watches(client: &Client, namespace: &str) {
    let maps = client.resource("", "v1", "configmaps").namespace(namespace);
    let from = maps.list(&ListOptions::default()).await.expect("a list").resource_version;
    let selector = || "watched=yes".into();
    let options = WatchOptions { resource_version: from, label_selector: selector(), ..WatchOptions::default() };
    let mut watch = maps.watch(&options).await.expect("a watch");
    let mut map = config_map("w", "1");
    map.set(&["metadata", "labels"], [("watched", "yes")]);
    let mut map = maps.create(&map).await.expect("it is made");
    map.set(&["data", "key"], "2");
    let mut map = maps.update(&map).await.expect("it is changed");
    map.set(&["metadata", "labels", "watched"], "no");
    maps.update(&map).await.expect("it no longer matches");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(next_change(&mut watch).await.expect("the watch goes on"));
    }
    assert_eq!(seen, ["+w=1", "~w=2", "-w=2"]);
    // WatchList: what is there first, then a mark.
    let options =
        WatchOptions { send_initial_events: true, field_selector: "metadata.name=w".into(), ..WatchOptions::default() };
    let mut watch = maps.watch(&options).await.expect("a watch");
    let Some(Ok(Event::Added(first))) = soon(watch.next()).await else { panic!("the object comes first") };
    assert_eq!(first, maps.get("w").await.expect("it is there"), "a watch shows what a read shows");
    let Some(Ok(Event::Bookmark { initial_events_end: true, .. })) = soon(watch.next()).await else {
        panic!("then the mark")
    };
    // Watches end in good order when their time is up.
    let options = WatchOptions { timeout: Some(std::time::Duration::from_secs(1)), ..WatchOptions::default() };
    let mut watch = client.resource("", "v1", "nodes").watch(&options).await.expect("a watch");
    while let Some(event) = soon(watch.next()).await {
        assert!(matches!(event, Ok(Event::Bookmark { .. })), "{event:?}");
    }
}

async fn refusals(client: &Client, namespace: &str) {
    let maps = client.resource("", "v1", "configmaps").namespace(namespace);
    assert!(maps.create(&config_map("e", "")).await.expect_err("the name is taken").is_already_exists());
    let error = maps.create(&config_map("Not A Name", "")).await.expect_err("no such name");
    assert!(error.is_invalid() && error.had_no_effect());
    let cause = &error.status().expect("a refusal").causes[0];
    assert_eq!((&*cause.field, &*cause.reason), ("metadata.name", "FieldValueInvalid"));
    let pods = client.resource("", "v1", "pods").namespace("nowhere");
    assert!(pods.create(&pod("p")).await.expect_err("no such namespace").is_not_found());
    // Unknown fields, as far as protobuf can carry them: in a patch.
    let strict = WriteOptions { field_validation: Some(FieldValidation::Strict), ..WriteOptions::default() };
    let patch = Value::from([("oddity", 1)]);
    let error = maps.patch_with("e", "", &Patch::Merge(&patch), &strict).await.expect_err("it has an unknown field");
    assert!(error.is_bad_request() || error.is_invalid(), "{error:?}");
    assert!(matches!(maps.get("").await, Err(Error::Request { .. })), "a read without a name is no list");
    let widgets = ApiResource {
        group: "example.com".into(),
        version: "v1".into(),
        plural: "widgets".into(),
        kind: "Widget".into(),
        namespaced: true,
    };
    let error = client.api(widgets).namespace(namespace).get("w").await.expect_err("no such resource");
    assert!(error.is_not_found(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_process_users_may_do_what_they_may_over_https() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(dir.path()).await;
    let maps = |client: &Client| client.resource("", "v1", "configmaps").namespace("default");
    let admin = server.in_process("admin", &["system:masters"]);
    let nobody = server.in_process("nobody", &["system:authenticated"]);
    let error = maps(&nobody).get("x").await.expect_err("nobody may read");
    assert_eq!(
        (error.is_forbidden(), &*error.to_string()),
        (
            true,
            "configmaps \"x\" is forbidden: User \"nobody\" cannot get resource \"configmaps\" in API group \"\" in \
             the namespace \"default\""
        )
    );
    assert!(maps(&nobody).watch(&WatchOptions::default()).await.expect_err("nobody may watch").is_forbidden());
    let mut role = named("reader");
    let rule = Value::from([
        ("apiGroups", vec![Value::from("")]),
        ("resources", vec!["configmaps".into()]),
        ("verbs", vec!["get".into()]),
    ]);
    role.set(&["rules"], vec![rule]);
    let roles = admin.resource("rbac.authorization.k8s.io", "v1", "roles").namespace("default");
    roles.create(&role).await.expect("the role is made");
    let mut binding = named("reader");
    binding.set(&["roleRef"], [("apiGroup", "rbac.authorization.k8s.io"), ("kind", "Role"), ("name", "reader")]);
    let subject = Value::from([("apiGroup", "rbac.authorization.k8s.io"), ("kind", "User"), ("name", "nobody")]);
    binding.set(&["subjects"], vec![subject]);
    let bindings = admin.resource("rbac.authorization.k8s.io", "v1", "rolebindings").namespace("default");
    bindings.create(&binding).await.expect("the binding is made");
    assert!(maps(&nobody).get("x").await.expect_err("there is none").is_not_found(), "the right holds at once");
    // Admission sees them, too: a node may not touch another node's object.
    let node = server.in_process("system:node:n1", &["system:nodes", "system:authenticated"]);
    let error = node.resource("", "v1", "nodes").create(&named("n2")).await.expect_err("another node's object");
    assert!(error.is_forbidden() && error.to_string().contains("is not allowed to modify node"), "{error}");
    node.resource("", "v1", "nodes").create(&named("n1")).await.expect("its own");
    server.stop().await;
    let error = maps(&admin).get("x").await.expect_err("nobody is there");
    assert!(matches!(error, Error::Transport(client::TransportError::Connect { .. })), "{error:?}");
}
