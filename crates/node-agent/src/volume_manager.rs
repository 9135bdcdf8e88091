//! The volumes of Pods, joined to the API: objects from the cache, tokens from the token cache.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api_schema::{Map, Value};
use parking_lot::RwLock;
use volumes::{Objects, PodVolumes, Ready};

use crate::env::{self, Facts, Lookups};
use crate::make::ReadyVolume;
use crate::pod::{Pod, Uid};
use crate::ports::{Task, VolumeError, Volumes};
use crate::tokens::TokenCache;

/// Sets volumes up and takes them down, where blocking is fine.
pub struct VolumeManager {
    root_dir: PathBuf,
    tokens: Arc<TokenCache>,
    /// What the node can give away: stands for limits in the downward API.
    pub allocatable: Arc<RwLock<Map>>,
}

impl VolumeManager {
    /// Volumes below `<root>/pods`.
    pub fn new(root_dir: PathBuf, tokens: Arc<TokenCache>, allocatable: Arc<RwLock<Map>>) -> VolumeManager {
        VolumeManager { root_dir, tokens, allocatable }
    }

    fn of(&self, pod: &Uid) -> PodVolumes {
        PodVolumes::new(self.root_dir.join("pods").join(pod.0.as_str()))
    }
}

/// What one Pod's volumes may show.
struct Shown {
    pod: Pod,
    lookups: Arc<dyn Lookups>,
    tokens: Arc<TokenCache>,
    facts: Facts,
}

impl Objects for Shown {
    fn config_map(&self, name: &str) -> Option<Arc<Value>> {
        self.lookups.config_map(name)
    }
    fn secret(&self, name: &str) -> Option<Arc<Value>> {
        self.lookups.secret(name)
    }
    fn claim(&self, name: &str) -> Option<Arc<Value>> {
        self.lookups.claim(name)
    }
    fn persistent_volume(&self, name: &str) -> Option<Arc<Value>> {
        self.lookups.persistent_volume(name)
    }
    fn field(&self, path: &str) -> Result<String, String> {
        env::field_value(&self.pod, path, &self.facts)
    }
    fn resource(&self, reference: &Value) -> Result<String, String> {
        env::resource_value(&self.pod, None, reference, &self.facts)
    }
    fn token(&self, audience: &str, expiration_seconds: i64) -> Result<String, String> {
        let token = self.tokens.get(self.pod.uid(), audience, expiration_seconds);
        token.ok_or_else(|| "failed to fetch token: none was prepared".to_owned())
    }
    fn trust_bundle(&self, _: &Value) -> Result<Vec<u8>, String> {
        Err("ClusterTrustBundle projection is not supported on this node".to_owned())
    }
}

/// Runs what blocks on a thread of its own; a panic there is this volume's failure only.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, volumes::VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| VolumeError { volume: error.volume, message: error.message }),
        Err(error) => Err(VolumeError { volume: String::new(), message: error.to_string() }),
    }
}

impl Volumes for VolumeManager {
    fn set_up<'a>(
        &'a self,
        pod: &'a Pod,
        lookups: &'a Arc<dyn Lookups>,
    ) -> Task<'a, Result<BTreeMap<String, ReadyVolume>, VolumeError>> {
        Box::pin(async move {
            let token_volume = || {
                let volumes = pod.spec(&["volumes"]).and_then(Value::as_list).unwrap_or_default();
                let has_token = |volume: &&Value| {
                    let sources = volume.list_at(&["projected", "sources"]);
                    sources.iter().any(|source| source.get("serviceAccountToken").is_some())
                };
                volumes.iter().find(has_token).map_or("", |volume| volume.str_at(&["name"])).to_owned()
            };
            self.tokens.prepare(pod).await.map_err(|error| {
                let volume = token_volume();
                let message =
                    format!("MountVolume.SetUp failed for volume {volume:?} : failed to fetch token: {error}");
                VolumeError { volume, message }
            })?;
            let facts = Facts { allocatable: self.allocatable.read().clone(), ..Facts::default() };
            let shown = Shown { pod: pod.clone(), lookups: lookups.clone(), tokens: self.tokens.clone(), facts };
            let volumes = self.of(pod.uid());
            let ready = blocking(move || volumes.set_up(shown.pod.object(), &shown)).await?;
            let ready = ready.into_iter();
            Ok(ready.map(|(name, Ready { path, read_only })| (name, ReadyVolume { path, read_only })).collect())
        })
    }

    fn sub_path<'a>(
        &'a self,
        pod: &'a Pod,
        container: &'a str,
        number: usize,
        mount: &'a Value,
        volume: &'a ReadyVolume,
        sub_path: &'a str,
    ) -> Task<'a, Result<PathBuf, String>> {
        let volumes = self.of(pod.uid());
        let ready = Ready { path: volume.path.clone(), read_only: volume.read_only };
        let (name, container) = (mount.str_at(&["name"]).to_owned(), container.to_owned());
        let sub_path = sub_path.to_owned();
        Box::pin(async move {
            let work = move || volumes.sub_path(&ready, &name, &container, number, &sub_path);
            tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
        })
    }

    fn tear_down<'a>(&'a self, pod: &'a Pod) -> Task<'a, Result<(), VolumeError>> {
        let volumes = self.of(pod.uid());
        self.tokens.forget(pod.uid());
        Box::pin(blocking(move || volumes.tear_down()))
    }

    fn refresh_after(&self, pod: &Pod) -> Option<Duration> {
        self.tokens.renew_after(pod.uid())
    }
}
