//! The story that tests/it/kube_client.rs tells with the `kube` crate: a Rust client that shares no code with kubox.

use std::fmt::Debug;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::Status;
use kube::discovery::{Discovery, Scope};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Error, ResourceExt as _};
use serde_json::{Value, json};

fn same<T: PartialEq + Debug>(found: T, expected: T) -> Result<()> {
    ensure!(found == expected, "found {found:?}, expected {expected:?}");
    Ok(())
}

/// What a call is refused with.
fn refused<T: Debug>(answer: kube::Result<T>, code: u16, reason: &str) -> Result<Status> {
    match answer {
        Err(Error::Api(status)) => {
            same((status.code, status.reason.as_str()), (code, reason))?;
            Ok(*status)
        }
        other => bail!("not refused with {reason}, but: {other:?}"),
    }
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).context("the object is as the client knows it")
}

fn config_map(name: &str, data: Value) -> Result<ConfigMap> {
    object(json!({ "metadata": { "name": name, "labels": { "of": "us" } }, "data": data }))
}

fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "nginx", "image": "nginx:1.27" }] },
            },
        },
    })
}

async fn discovery(client: &Client) -> Result<()> {
    let version = client.apiserver_version().await?;
    same(version.major.as_str(), "1")?;
    // The two ways of asking what there is must agree.
    let asked = Discovery::new(client.clone()).run().await?;
    let aggregated = Discovery::new(client.clone()).run_aggregated().await?;
    let known = |discovery: &Discovery| {
        let resources = discovery.groups().flat_map(|group| group.recommended_resources());
        let mut known: Vec<_> = resources.map(|(it, _)| (it.group, it.version, it.plural, it.kind)).collect();
        known.sort();
        known
    };
    same(known(&asked), known(&aggregated))?;
    let group = aggregated.get("apps").context("there is a group apps")?;
    let (resource, capabilities) = group.recommended_kind("Deployment").context("there are deployments")?;
    same((resource.plural.as_str(), &capabilities.scope), ("deployments", &Scope::Namespaced))?;
    ensure!(capabilities.supports_operation("watch"), "deployments can be watched");
    ensure!(capabilities.subresources.iter().any(|(it, _)| it.plural.ends_with("scale")), "{capabilities:?}");
    Ok(())
}

async fn objects(client: &Client) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &object(json!({ "metadata": { "name": "rust" } }))?).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "rust");
    let made = maps.create(&PostParams::default(), &config_map("c", json!({ "a": "1" }))?).await?;
    same(maps.get("c").await?, made.clone())?;
    same(maps.get_opt("none").await?, None)?;
    let patched = maps.patch("c", &PatchParams::default(), &Patch::Merge(json!({ "data": { "b": "2" } }))).await?;
    same(serde_json::to_value(&patched.data)?, json!({ "a": "1", "b": "2" }))?;
    let stale = refused(maps.replace("c", &PostParams::default(), &made).await, 409, "Conflict")?;
    ensure!(stale.message.contains("the object has been modified"), "{stale}");
    let meta = maps.get_metadata("c").await?;
    same(meta.resource_version(), patched.resource_version())?;
    same(meta.types.as_ref().map(|it| it.kind.as_str()), Some("PartialObjectMetadata"))?;
    same(maps.list_metadata(&ListParams::default().labels("of=us")).await?.items.len(), 1)?;

    let exists =
        refused(maps.create(&PostParams::default(), &config_map("c", json!({}))?).await, 409, "AlreadyExists")?;
    same(exists.message.as_str(), "configmaps \"c\" already exists")?;
    let invalid = refused(maps.create(&PostParams::default(), &config_map("C_", json!({}))?).await, 422, "Invalid")?;
    let causes = invalid.details.context("details")?.causes;
    same(causes.iter().map(|it| it.field.as_str()).collect(), vec!["metadata.name"])?;
    let other = Preconditions { uid: Some("other".into()), ..Preconditions::default() };
    refused(maps.delete("c", &DeleteParams::default().preconditions(other)).await, 409, "Conflict")?;
    let gone = maps.delete("c", &DeleteParams::default()).await?;
    ensure!(gone.right().is_some_and(|status| status.is_success()), "a Status says that it is gone");
    refused(maps.get("c").await, 404, "NotFound")?;

    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "rust");
    let apply = PatchParams::apply("one");
    let made = deployments.patch("web", &apply, &Patch::Apply(deployment("web", 2))).await?;
    same(made.managed_fields().iter().map(|it| it.operation.as_deref()).collect(), vec![Some("Apply")])?;
    let again = deployments.patch("web", &apply, &Patch::Apply(deployment("web", 2))).await?;
    same(again.resource_version(), made.resource_version())?;
    let taken = deployments.patch("web", &PatchParams::apply("two"), &Patch::Apply(deployment("web", 3))).await;
    let taken = refused(taken, 409, "Conflict")?;
    same(taken.message.as_str(), "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas")?;
    let forced = PatchParams::apply("two").force();
    deployments.patch("web", &forced, &Patch::Apply(deployment("web", 3))).await?;
    let mut scale = deployments.get_scale("web").await?;
    same(scale.spec.as_ref().and_then(|spec| spec.replicas), Some(3))?;
    scale.spec.as_mut().context("it has a spec")?.replicas = Some(4);
    deployments.replace_scale("web", &PostParams::default(), &scale).await?;
    let image =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "nginx", "image": "nginx:2" }] } } } });
    let patched = deployments.patch("web", &PatchParams::default(), &Patch::Strategic(image)).await?;
    same(patched.spec.as_ref().and_then(|spec| spec.replicas), Some(4))?;
    same(patched.metadata.generation, Some(4))?;
    let background =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    deployments.delete("web", &background).await?;
    same(deployments.get_opt("web").await?, None)
}

async fn pages(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let names: Vec<String> = (0..25).map(|number| format!("c{number:02}")).collect();
    for name in &names {
        maps.create(&PostParams::default(), &config_map(name, json!({}))?).await?;
    }
    let mut params = ListParams::default().labels("of=us").limit(10);
    let mut found = Vec::new();
    loop {
        let page = maps.list(&params).await?;
        found.extend(page.items.iter().map(|it| it.name_any()));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    same(found, names.clone())?;

    // Both ways of starting a watch, in pages and as one stream, give the same beginning; then come the changes.
    let in_pages = watcher::Config::default().labels("of=us").page_size(10);
    let streamed = watcher::Config::default().labels("of=us").streaming_lists();
    for (round, config) in [in_pages, streamed].into_iter().enumerate() {
        let mut events = watcher(maps.clone(), config).boxed();
        let mut first = Vec::new();
        loop {
            match events.try_next().await?.context("a watch goes on")? {
                Event::Init => {}
                Event::InitApply(it) => first.push(it.name_any()),
                Event::InitDone => break,
                event => bail!("too early: {event:?}"),
            }
        }
        same(first, names.clone())?;
        let data = json!({ "data": { "round": round.to_string() } });
        let changed = maps.patch("c00", &PatchParams::default(), &Patch::Merge(data)).await?;
        match events.try_next().await?.context("a watch goes on")? {
            Event::Apply(it) => same(it, changed)?,
            event => bail!("no change, but: {event:?}"),
        }
        let added = config_map("zz", json!({}))?;
        maps.create(&PostParams::default(), &added).await?;
        maps.delete("zz", &DeleteParams::default()).await?;
        let next: Vec<Event<ConfigMap>> = events.take(2).try_collect().await?;
        match next.as_slice() {
            [Event::Apply(one), Event::Delete(two)] => {
                same((one.name_any(), two.name_any()), ("zz".into(), "zz".into()))?
            }
            other => bail!("not made and gone, but: {other:?}"),
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::try_default().await?;
    discovery(&client).await.context("discovery")?;
    objects(&client).await.context("objects")?;
    pages(&client).await.context("pages")?;
    println!("the story is told");
    Ok(())
}
