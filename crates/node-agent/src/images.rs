//! Getting a container's image: pull policy, credentials, back-off, and the events that tell of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api_schema::Value;
use base64::Engine;
use cri::ImageService;
use cri::v1::{AuthConfig, ImageSpec, ImageStatusRequest, PodSandboxConfig, PullImageRequest};
use parking_lot::Mutex;
use world::Clock;

use crate::backoff::{self, BackOff};
use crate::env::{Lookups, bytes_of};
use crate::pod::{Container, Pod, Uid};
use crate::ports::{Events, Severity};
use crate::security::ImageUser;
use crate::time::nanos;

/// Why a container has no image yet: the reason that its status shows, and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageError {
    /// `ErrImagePull`, `ImagePullBackOff`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`.
    pub reason: &'static str,
    /// The message beside it.
    pub message: String,
    /// How long to wait before the next try, if the agent knows.
    pub retry_after: Option<Duration>,
}

/// An image that is there.
#[derive(Clone, Debug, Default)]
pub struct ReadyImage {
    /// What the runtime is asked to make containers of.
    pub image_ref: String,
    /// Who it runs as.
    pub user: ImageUser,
}

/// Gets images for containers.
pub struct ImagePuller {
    images: Arc<dyn ImageService>,
    events: Arc<dyn Events>,
    clock: Arc<dyn Clock>,
    back_off: BackOff<(Uid, String)>,
    last_errors: Mutex<HashMap<(Uid, String), String>>,
}

impl ImagePuller {
    /// A puller without memory.
    pub fn new(images: Arc<dyn ImageService>, events: Arc<dyn Events>, clock: Arc<dyn Clock>) -> ImagePuller {
        let back_off = BackOff::new(Duration::from_secs(10), Duration::from_secs(300));
        ImagePuller { images, events, clock, back_off, last_errors: Mutex::default() }
    }

    /// Forgets a Pod.
    pub fn forget(&self, pod: &Uid) {
        self.back_off.retain(|(uid, _)| uid != pod);
        self.last_errors.lock().retain(|(uid, _), _| uid != pod);
    }

    /// Makes sure that a container's image is there, as its pull policy says.
    ///
    /// # Errors
    /// If it is not, with the reason for the container's status.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: Container<'_>,
        lookups: &dyn Lookups,
        sandbox: &PodSandboxConfig,
    ) -> Result<ReadyImage, ImageError> {
        let wanted = container.image();
        let event = |severity, reason: &str, message: String| {
            self.events.event(pod, Some(container), severity, reason, message);
        };
        let image = match with_default_tag(wanted) {
            Ok(image) => image,
            Err(why) => {
                let message = format!("Failed to apply default image tag {wanted:?}: {why}");
                event(Severity::Warning, "InspectFailed", message.clone());
                return Err(ImageError { reason: "InvalidImageName", message, retry_after: None });
            }
        };
        let spec = ImageSpec { image: image.clone(), ..ImageSpec::default() };
        let policy = match container.value().str_at(&["imagePullPolicy"]) {
            // The API sets it; manifests on the node need not.
            "" if image.ends_with(":latest") => "Always",
            "" => "IfNotPresent",
            policy => policy,
        };
        if policy != "Always" {
            match self.status(&spec).await {
                Ok(Some(ready)) => {
                    let message = format!("Container image {wanted:?} already present on machine");
                    event(Severity::Normal, "Pulled", message);
                    return Ok(ready);
                }
                Ok(None) if policy == "Never" => {
                    let message = format!("Container image {wanted:?} is not present with pull policy of Never");
                    event(Severity::Warning, "ErrImageNeverPull", message.clone());
                    return Err(ImageError { reason: "ErrImageNeverPull", message, retry_after: None });
                }
                Ok(None) => {}
                Err(error) => {
                    let message = format!("Failed to inspect image {image:?}: {error}");
                    event(Severity::Warning, "InspectFailed", message.clone());
                    return Err(ImageError { reason: "ImageInspectError", message, retry_after: None });
                }
            }
        }

        let key = (pod.uid().clone(), image.clone());
        let now = nanos(self.clock.now());
        let since = now - i64::try_from(self.since_failure(&key).as_nanos()).unwrap_or(0);
        if let Some(remaining) = self.back_off.remaining(&key, since, now) {
            let mut message = format!("Back-off pulling image {wanted:?}");
            event(Severity::Normal, "BackOff", message.clone());
            if let Some((last, _)) = self.last_failure(&key) {
                message = format!("{message}: {last}");
            }
            return Err(ImageError { reason: "ImagePullBackOff", message, retry_after: Some(remaining) });
        }
        event(Severity::Normal, "Pulling", format!("Pulling image {wanted:?}"));
        let began = self.clock.monotonic();
        match self.pull(pod, &spec, lookups, sandbox).await {
            Ok(image_ref) => {
                self.last_errors.lock().remove(&key);
                self.back_off.forget(&key);
                let took = self.clock.monotonic().saturating_since(began);
                let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
                let spec = ImageSpec { image: image_ref.clone(), ..ImageSpec::default() };
                let (ready, size) = match self.full_status(&spec).await {
                    Ok(Some(found)) => found,
                    _ => (ReadyImage { image_ref, ..ReadyImage::default() }, 0),
                };
                let took = backoff::shown(took);
                let message = format!(
                    "Successfully pulled image {wanted:?} in {took} ({took} including waiting). Image size: {size} bytes."
                );
                event(Severity::Normal, "Pulled", message);
                Ok(ready)
            }
            Err(error) => {
                event(Severity::Warning, "Failed", format!("Failed to pull image {wanted:?}: {error}"));
                let now = nanos(self.clock.now());
                self.back_off.next(&key, now);
                // A runtime may say more precisely what is wrong (SignatureValidationFailed, RegistryUnavailable).
                let reason = match error.message.split(':').next() {
                    Some("SignatureValidationFailed") => "SignatureValidationFailed",
                    Some("RegistryUnavailable") => "RegistryUnavailable",
                    _ => "ErrImagePull",
                };
                let message = error.to_string();
                self.last_errors.lock().insert(key.clone(), format!("{now}|{reason}: {message}"));
                // Soon it is shown as backing off, which tells more.
                Err(ImageError { reason, message, retry_after: Some(Duration::from_secs(1)) })
            }
        }
    }

    fn last_failure(&self, key: &(Uid, String)) -> Option<(String, i64)> {
        let errors = self.last_errors.lock();
        let (at, message) = errors.get(key)?.split_once('|')?;
        Some((message.to_owned(), at.parse().ok()?))
    }

    fn since_failure(&self, key: &(Uid, String)) -> Duration {
        let now = nanos(self.clock.now());
        let at = self.last_failure(key).map_or(0, |(_, at)| at);
        Duration::from_nanos(u64::try_from(now.saturating_sub(at)).unwrap_or(0))
    }

    async fn status(&self, spec: &ImageSpec) -> Result<Option<ReadyImage>, cri::Error> {
        Ok(self.full_status(spec).await?.map(|(ready, _)| ready))
    }

    async fn full_status(&self, spec: &ImageSpec) -> Result<Option<(ReadyImage, u64)>, cri::Error> {
        let request = ImageStatusRequest { image: Some(spec.clone()), verbose: false };
        let Some(image) = self.images.image_status(request).await?.image else { return Ok(None) };
        let user = ImageUser { uid: image.uid.map(|uid| uid.value), username: image.username };
        Ok(Some((ReadyImage { image_ref: image.id, user }, image.size)))
    }

    /// Tries each of the credentials that fit, or none.
    async fn pull(
        &self,
        pod: &Pod,
        spec: &ImageSpec,
        lookups: &dyn Lookups,
        sandbox: &PodSandboxConfig,
    ) -> Result<String, cri::Error> {
        let mut tries: Vec<Option<AuthConfig>> = credentials(pod, &spec.image, lookups).into_iter().map(Some).collect();
        if tries.is_empty() {
            tries.push(None);
        }
        let mut last = cri::Error::unknown("no credentials to try");
        for auth in tries {
            let request = PullImageRequest { image: Some(spec.clone()), auth, sandbox_config: Some(sandbox.clone()) };
            match self.images.pull_image(request).await {
                Ok(answer) => return Ok(answer.image_ref),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The image with `:latest` where the user named no version.
///
/// # Errors
/// If it cannot be a name of an image, in upstream's words.
pub fn with_default_tag(image: &str) -> Result<String, String> {
    let invalid = || format!("couldn't parse image name {image:?}: invalid reference format");
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    if let Some(upper) = path.rsplit_once('/').map_or(Some(path), |(_, last)| Some(last))
        && upper.chars().any(|c| c.is_ascii_uppercase())
    {
        return Err(format!(
            "couldn't parse image name {image:?}: invalid reference format: repository name ({path}) must be lowercase"
        ));
    }
    let is_word = |text: &str, extra: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    let path_is_good = path
        .split('/')
        .all(|part| is_word(part, "._-:[]") && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['));
    let tag_is_good = tag.is_none_or(|tag| tag.len() <= 128 && is_word(tag, "._-") && !tag.starts_with(['.', '-']));
    let digest_is_good = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(kind, hex)| is_word(kind, "+._-") && hex.len() >= 32 && is_word(hex, ""))
    });
    if !path_is_good || !tag_is_good || !digest_is_good {
        return Err(invalid());
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

/// The credentials of the Pod's `imagePullSecrets` that fit an image, the most specific ones first.
fn credentials(pod: &Pod, image: &str, lookups: &dyn Lookups) -> Vec<AuthConfig> {
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for reference in pod.spec(&["imagePullSecrets"]).and_then(Value::as_list).unwrap_or_default() {
        let Some(secret) = lookups.secret(reference.str_at(&["name"])) else { continue };
        let data = |key: &str| secret.map_at(&["data"]).and_then(|data| data.get(key)).map(bytes_of);
        let auths = match secret.str_at(&["type"]) {
            "kubernetes.io/dockerconfigjson" => {
                data(".dockerconfigjson").and_then(|json| parse(&json)).and_then(|config| config.get("auths").cloned())
            }
            "kubernetes.io/dockercfg" => data(".dockercfg").and_then(|json| parse(&json)),
            _ => None,
        };
        for (registry, entry) in auths.as_ref().and_then(Value::as_map).into_iter().flat_map(|auths| auths.iter()) {
            let pattern = registry_pattern(registry);
            if matches_registry(&pattern, image) {
                found.push((pattern.len(), auth_config(registry, entry)));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn parse(json: &[u8]) -> Option<Value> {
    api_codec::json::decode(None, json, api_codec::json::Options::default()).ok().map(|decoded| decoded.value)
}

fn auth_config(registry: &str, entry: &Value) -> AuthConfig {
    let text = |field: &str| entry.str_at(&[field]).to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    let auth = text("auth");
    if let Ok(decoded) = base64::engine::general_purpose::STANDARD.decode(auth.trim())
        && let Some((user, pass)) = String::from_utf8_lossy(&decoded).split_once(':')
    {
        (username, password) = (user.to_owned(), pass.trim_end_matches('\0').to_owned());
    }
    AuthConfig {
        username,
        password,
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
        server_address: registry.to_owned(),
        ..AuthConfig::default()
    }
}

/// A registry as docker's configuration names it, as host and path: Docker Hub has several old names.
fn registry_pattern(registry: &str) -> String {
    let bare = registry.split_once("://").map_or(registry, |(_, bare)| bare).trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match bare {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        bare => bare.to_owned(),
    }
}

/// Whether a pattern (a host, which may hold `*`, and perhaps a path) covers an image.
fn matches_registry(pattern: &str, image: &str) -> bool {
    let first = image.split('/').next().unwrap_or_default();
    let has_host = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let image = if has_host { image.to_owned() } else { format!("docker.io/{image}") };
    let (host, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let (image_host, image_path) = image.split_once('/').unwrap_or((&image, ""));
    let parts: (Vec<&str>, Vec<&str>) = (host.split('.').collect(), image_host.split('.').collect());
    let same_host = parts.0.len() == parts.1.len()
        && parts.0.iter().zip(&parts.1).all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()));
    same_host && image_path.starts_with(path)
}

/// Whether `*` (any text) and `?` (any character) in a pattern can be filled to give the text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => glob(&pattern[1..], text) || (!text.is_empty() && glob(pattern, &text[1..])),
        (Some(b'?'), Some(_)) => glob(&pattern[1..], &text[1..]),
        (Some(a), Some(b)) if a == b => glob(&pattern[1..], &text[1..]),
        _ => false,
    }
}
