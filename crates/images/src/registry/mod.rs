//! Speaking to registries: the OCI distribution protocol, its pulling half.

mod auth;
mod hosts;
mod http;
mod proxy;
mod tls;
mod url;

pub use auth::Credentials;
pub use http::Timeouts;
pub use proxy::Proxies;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE, RETRY_AFTER};
use ::http::{Method, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{DOCUMENT_LENGTH_MAX, Descriptor, media_type};
use crate::reference::Reference;
use auth::answer_challenge;
use hosts::Host;
pub(crate) use http::Answer;
use http::{Ask, Connections, PLAIN_ANSWER};
use url::{Url, query_value};

const REDIRECTIONS_MAX: usize = 10;
/// A registry that asks for more patience than that is asked again by whoever wanted the image.
const PATIENCE_MAX: Duration = Duration::from_secs(10);
const ERROR_ANSWER_LENGTH_MAX: u64 = 64 * 1024;
/// Everything that a name may stand for.
const DOCUMENTS: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";

/// How registries are spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// A folder like containerd's `certs.d`.
    pub hosts_folder: Option<PathBuf>,
    /// Mirrors by registry, tried in order before all others: `docker.io` to `http://127.0.0.1:5000`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// How long a registry may take.
    pub timeouts: Timeouts,
    /// Tries of one request that a registry fails for the moment (5xx, 429, a broken connection).
    pub tries_max: u32,
    /// The wait before the second try; it doubles with each.
    pub backoff_min: Duration,
    /// Layers of one image downloaded at the same time.
    pub parallel_layers: usize,
    /// Proxies on the way.
    pub proxies: Proxies,
}

impl Default for RegistryConfig {
    fn default() -> RegistryConfig {
        RegistryConfig {
            hosts_folder: None,
            mirrors: BTreeMap::new(),
            timeouts: Timeouts::default(),
            tries_max: 4,
            backoff_min: Duration::from_millis(250),
            parallel_layers: 3,
            proxies: Proxies::from_environment(),
        }
    }
}

/// One pull's dealings with all hosts of its registry.
pub(crate) struct Session {
    config: RegistryConfig,
    reference: Reference,
    hosts: Vec<Endpoint>,
}

/// A host, our connections to it and what it knows of us.
struct Endpoint {
    host: Mutex<Host>,
    connections: Arc<Connections>,
    credentials: Credentials,
    authorization: Mutex<Option<HeaderValue>>,
}

/// Content as a registry streams it, from `offset` on.
pub(crate) struct Stream {
    pub(crate) answer: Answer,
    pub(crate) offset: u64,
}

impl Session {
    pub(crate) fn new(config: &RegistryConfig, reference: &Reference, credentials: &Credentials) -> Result<Session> {
        let none = Vec::new();
        let mirrors = config.mirrors.get(reference.registry()).unwrap_or(&none);
        let hosts = hosts::hosts(reference.registry(), config.hosts_folder.as_deref(), mirrors)?;
        let proxies = Arc::new(config.proxies.clone());
        let hosts = hosts
            .into_iter()
            .map(|host| {
                let connect = host.connect_timeout.unwrap_or(config.timeouts.connect);
                let files = host.tls.clone();
                Endpoint {
                    connections: Connections::new(
                        Timeouts { connect, ..config.timeouts },
                        Arc::clone(&proxies),
                        move || tls::client_config(&files),
                    ),
                    credentials: credentials.for_host(&host.origin),
                    host: Mutex::new(host),
                    authorization: Mutex::default(),
                }
            })
            .collect();
        Ok(Session { config: config.clone(), reference: reference.clone(), hosts })
    }

    /// How many hosts may give content.
    pub(crate) fn sources(&self) -> usize {
        self.hosts.iter().filter(|endpoint| endpoint.host.lock().pulls).count()
    }

    fn source(&self, n: usize) -> Option<&Endpoint> {
        self.hosts.iter().filter(|endpoint| endpoint.host.lock().pulls).nth(n)
    }

    /// Asks the hosts in order what the image's name means.
    pub(crate) async fn resolve(&self) -> Result<Descriptor> {
        let mut failure = None;
        for endpoint in self.hosts.iter().filter(|endpoint| endpoint.host.lock().resolves) {
            match self.resolve_at(endpoint).await {
                Ok(descriptor) => return Ok(descriptor),
                Err(error) => failure = Some(worse(failure, error)),
            }
        }
        Err(failure.unwrap_or_else(|| Error::Unusable { what: "no resolve hosts".to_owned() }))
    }

    async fn resolve_at(&self, endpoint: &Endpoint) -> Result<Descriptor> {
        let path = format!("manifests/{}", self.reference.identifier());
        let answer = match self.ask(endpoint, Method::HEAD, &path, DOCUMENTS, 0).await {
            // Some registries know no HEAD.
            Err(Error::Status { status, .. }) if status == StatusCode::METHOD_NOT_ALLOWED => None,
            other => {
                let mut answer = other?;
                answer.drain().await;
                Some(answer)
            }
        };
        let told = answer.as_ref().and_then(|answer| {
            let digest = Digest::parse(answer.header("docker-content-digest")?).ok()?;
            Some((digest, content_type(answer)?, answer.length()?))
        });
        let (digest, media_type, size) = match told {
            Some(told) => told,
            None => {
                let mut answer = self.ask(endpoint, Method::GET, &path, DOCUMENTS, 0).await?;
                let text = answer
                    .read(DOCUMENT_LENGTH_MAX)
                    .await
                    .map_err(|source| Ask::new(Method::GET, self.url(endpoint, &path)).failed(source))?;
                let algorithm = self.reference.digest().map_or(crate::digest::Algorithm::Sha256, Digest::algorithm);
                let mut hasher = Hasher::new(algorithm);
                hasher.update(&text);
                let media_type = content_type(&answer).unwrap_or_else(|| media_type_within(&text));
                (hasher.finish(), media_type, text.len() as u64)
            }
        };
        match self.reference.digest() {
            Some(asked) if *asked != digest => Err(Error::DigestMismatch { expected: asked.clone(), actual: digest }),
            _ => Ok(Descriptor::new(&media_type, digest, size)),
        }
    }

    /// Gets a document by its digest and checks it.
    pub(crate) async fn document(&self, what: &'static str, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let mut failure = None;
        for n in 0..self.sources() {
            match self.document_at(n, descriptor).await {
                Ok(text) => return Ok(text),
                Err(error) => failure = Some(worse(failure, error)),
            }
        }
        let source = failure.unwrap_or_else(|| Error::Unusable { what: "no pull hosts".to_owned() });
        Err(Error::Fetch { what, digest: descriptor.digest.clone(), source: Box::new(source) })
    }

    async fn document_at(&self, source: usize, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let Some(endpoint) = self.source(source) else {
            return Err(Error::Unusable { what: "no pull hosts".to_owned() });
        };
        let is_manifest = descriptor.is_index() || descriptor.media_type.contains("manifest");
        let path = format!("{}/{}", if is_manifest { "manifests" } else { "blobs" }, descriptor.digest);
        let accept = if is_manifest { DOCUMENTS } else { "*/*" };
        let mut tries = 0;
        let text = loop {
            let mut answer = self.ask(endpoint, Method::GET, &path, accept, 0).await?;
            match answer.read(DOCUMENT_LENGTH_MAX).await {
                Ok(text) => break text,
                Err(source) => {
                    tries += 1;
                    if tries >= self.config.tries_max {
                        return Err(Ask::new(Method::GET, self.url(endpoint, &path)).failed(source));
                    }
                    self.back_off(tries, None).await;
                }
            }
        };
        if text.len() as u64 != descriptor.size {
            return Err(Error::SizeMismatch { expected: descriptor.size, actual: text.len() as u64 });
        }
        let mut hasher = Hasher::new(descriptor.digest.algorithm());
        hasher.update(&text);
        let actual = hasher.finish();
        if actual != descriptor.digest {
            return Err(Error::DigestMismatch { expected: descriptor.digest.clone(), actual });
        }
        Ok(text)
    }

    /// Opens a blob at the n-th source, from an offset on if the source can do that.
    pub(crate) async fn blob(&self, source: usize, digest: &Digest, offset: u64) -> Result<Stream> {
        let Some(endpoint) = self.source(source) else {
            return Err(Error::Unusable { what: "no pull hosts".to_owned() });
        };
        let answer = self.ask(endpoint, Method::GET, &format!("blobs/{digest}"), "*/*", offset).await?;
        let start = match answer.status {
            StatusCode::PARTIAL_CONTENT => answer
                .header(CONTENT_RANGE)
                .and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok())
                .unwrap_or(0),
            _ => 0,
        };
        Ok(Stream { answer, offset: start })
    }

    /// An error of reading a blob's stream.
    pub(crate) fn blob_failed(&self, source: usize, digest: &Digest, error: io::Error) -> Error {
        match self.source(source) {
            Some(endpoint) => Ask::new(Method::GET, self.url(endpoint, &format!("blobs/{digest}"))).failed(error),
            None => Error::Cancelled,
        }
    }

    fn url(&self, endpoint: &Endpoint, path: &str) -> Url {
        let host = endpoint.host.lock();
        let whole = format!("{}/{}/{path}", host.prefix, self.reference.repository());
        // A mirror may stand for many registries.
        let of = if host.mirror { format!("?ns={}", query_value(self.reference.registry())) } else { String::new() };
        Url::new(&host.origin, whole + &of)
    }

    /// Waits before another try.
    pub(crate) async fn back_off(&self, tries: u32, asked: Option<Duration>) {
        let doubled = self.config.backoff_min.saturating_mul(1 << tries.saturating_sub(1).min(16));
        tokio::time::sleep(asked.unwrap_or(doubled).min(PATIENCE_MAX)).await;
    }

    /// How often one thing is tried.
    pub(crate) fn tries_max(&self) -> u32 {
        self.config.tries_max
    }

    /// One request to one host, with all that belongs to it: authorization, redirections, another try when the
    /// registry fails for the moment. The answer is a success.
    async fn ask(&self, endpoint: &Endpoint, method: Method, path: &str, accept: &str, offset: u64) -> Result<Answer> {
        let mut tries = 0;
        loop {
            tries += 1;
            let last = tries >= self.config.tries_max;
            let mut ask = Ask::new(method.clone(), self.url(endpoint, path));
            ask.headers = endpoint.host.lock().headers.clone();
            ask.headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap_or(HeaderValue::from_static("*/*")));
            if offset > 0 {
                ask.headers.extend(HeaderValue::from_str(&format!("bytes={offset}-")).ok().map(|range| (RANGE, range)));
            }
            let mut answer = match self.ask_once(endpoint, &ask).await {
                Ok(answer) => answer,
                Err(error) if !last && is_passing(&error) => {
                    self.back_off(tries, None).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match answer.status {
                StatusCode::NOT_FOUND => return Err(Error::not_found(self.not_found_name(path))),
                StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                    // What we have is not the beginning of what it has: all of it, then.
                    return Box::pin(self.ask(endpoint, method, path, accept, 0)).await;
                }
                status if status.is_success() => return Ok(answer),
                status => {
                    let asked = retry_after(&answer);
                    // A time-out of a proxy or an overload passes; everything else is final.
                    let passing = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
                        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
                    if !last && passing && asked.is_none_or(|asked| asked <= PATIENCE_MAX) {
                        self.back_off(tries, asked).await;
                        continue;
                    }
                    let text = answer.read(ERROR_ANSWER_LENGTH_MAX).await.unwrap_or_default();
                    return Err(status_error(&ask, status, &text));
                }
            }
        }
    }

    /// What is missing: the image for a tag, else the content.
    fn not_found_name(&self, path: &str) -> String {
        match path.split_once('/') {
            Some(("manifests", identifier)) if identifier == self.reference.identifier() => self.reference.canonical(),
            Some((_, digest)) => format!("content at {digest}"),
            None => path.to_owned(),
        }
    }

    /// One request with its authorization and redirections.
    async fn ask_once(&self, endpoint: &Endpoint, ask: &Ask) -> Result<Answer> {
        let mut ask = ask.clone();
        let mut refused = 0;
        loop {
            let authorization = endpoint.authorization.lock().clone();
            if let Some(value) = &authorization {
                ask.headers.insert(AUTHORIZATION, value.clone());
            }
            let mut answer = match endpoint.connections.send(&ask).await {
                // A registry on this machine may be plain: its host says so by this.
                Err(Error::Request { source, .. })
                    if ask.url.origin.secure && endpoint.host.lock().plain_fallback && is_not_secure(&source) =>
                {
                    let mut host = endpoint.host.lock();
                    (host.origin.secure, host.plain_fallback) = (false, false);
                    ask.url.origin.secure = false;
                    continue;
                }
                other => other?,
            };
            if answer.status != StatusCode::UNAUTHORIZED {
                return self.follow(endpoint, ask, answer).await;
            }
            answer.drain().await;
            refused += 1;
            // A token may have expired since; a new one that is refused as well is the end.
            if refused > 2 {
                return Ok(answer);
            }
            let tried = authorization.filter(|_| refused > 1);
            let scope = format!("repository:{}:pull", self.reference.repository());
            let found =
                answer_challenge(&endpoint.connections, &answer.headers, &endpoint.credentials, &scope, tried.as_ref())
                    .await?;
            *endpoint.authorization.lock() = Some(found);
        }
    }

    async fn follow(&self, endpoint: &Endpoint, mut ask: Ask, mut answer: Answer) -> Result<Answer> {
        let is_document = ask.url.path.contains("/manifests/");
        for _ in 0..REDIRECTIONS_MAX {
            if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let next = answer.header(LOCATION).and_then(|location| ask.url.join(location));
            let Some(next) = next else {
                return Err(
                    ask.failed(io::Error::new(io::ErrorKind::InvalidData, "redirection without a valid Location"))
                );
            };
            if is_document && ask.url.origin.secure && !next.origin.secure {
                // A tag's meaning is trusted for its transport alone; blobs are checked by their digest.
                return Err(
                    ask.failed(io::Error::new(io::ErrorKind::InvalidData, "redirection from https to http refused"))
                );
            }
            if next.origin != ask.url.origin {
                // Nobody but the registry sees what proves who we are.
                ask.headers.remove(AUTHORIZATION);
                let own = endpoint.host.lock().headers.clone();
                own.keys().for_each(|name| drop(ask.headers.remove(name)));
            }
            ask.url = next;
            answer.drain().await;
            answer = endpoint.connections.send(&ask).await?;
        }
        Err(ask.failed(io::Error::other(format!("stopped after {REDIRECTIONS_MAX} redirects"))))
    }
}

/// Of two hosts' failures the one that tells more: a registry's own answer before silence.
pub(crate) fn worse(old: Option<Error>, new: Error) -> Error {
    let rank = |error: &Error| match error.kind() {
        ErrorKind::Unauthorized => 4,
        ErrorKind::DigestMismatch => 3,
        ErrorKind::NotFound => 2,
        ErrorKind::Unreachable => 0,
        _ => 1,
    };
    match old {
        Some(old) if rank(&old) >= rank(&new) => old,
        _ => new,
    }
}

/// Did this fail in a way that may be over in a moment? Who refuses a connection or is unknown stays so longer than we
/// wait, and whoever wants the image comes back.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Request { source, .. } if matches!(
        source.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
    ))
}

fn is_not_secure(error: &io::Error) -> bool {
    error.to_string() == PLAIN_ANSWER
        || matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    answer.header(RETRY_AFTER).and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs)
}

fn content_type(answer: &Answer) -> Option<String> {
    let whole = answer.header(CONTENT_TYPE)?;
    let plain = whole.split(';').next().unwrap_or_default().trim();
    // What servers say when they do not know.
    (!matches!(plain, "" | "text/plain" | "application/octet-stream" | "application/json")).then(|| plain.to_owned())
}

/// A document's own word of what it is.
fn media_type_within(text: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Looks {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    match serde_json::from_slice::<Looks>(text) {
        Ok(Looks { media_type: Some(media_type), .. }) => media_type,
        Ok(Looks { manifests: Some(_), .. }) => media_type::OCI_INDEX.to_owned(),
        _ => media_type::OCI_MANIFEST.to_owned(),
    }
}

/// A registry's refusal, with its own words if it has some.
pub(crate) fn status_error(ask: &Ask, status: StatusCode, text: &[u8]) -> Error {
    #[derive(Deserialize)]
    struct Refusal {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        code: Option<String>,
        message: Option<String>,
    }
    let reasons = serde_json::from_slice::<Refusal>(text).map(|refusal| refusal.errors).unwrap_or_default();
    let told: Vec<String> = reasons
        .into_iter()
        .map(|reason| [reason.code, reason.message].into_iter().flatten().collect::<Vec<_>>().join(": ").to_lowercase())
        .filter(|told| !told.is_empty())
        .collect();
    let detail = if told.is_empty() { String::new() } else { format!(": {}", told.join("; ")) };
    let method = if ask.method == Method::HEAD {
        "HEAD"
    } else if ask.method == Method::POST {
        "POST"
    } else {
        "GET"
    };
    Error::Status { method, url: ask.url.to_string(), status, detail }
}
