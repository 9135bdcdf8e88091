//! Puts the server together: data folder, keys, store, registry, chain; then serves.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use api_schema::{Map, SmolStr, Value};
use api_semantics::status::Status;
use authn::authenticator::TokenAuthenticator;
use authn::bootstrap_token::{BootstrapSecrets, BootstrapTokens};
use authn::service_account::{Issuer, ObjectState, SecretState, ServiceAccountState, TokenObjects, Verifier};
use authn::token_file::StaticTokens;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response};
use registry::{Hooks, Registry, Services};
use store_embedded::EmbeddedStore;
use tokio::net::{TcpListener, TcpSocket};
use world::World;

use crate::api::Api;
use crate::authorization::Authorization;
use crate::body::Body;
use crate::bootstrap;
use crate::credentials::{Credentials, Given, Loaded};
use crate::discovery::{Discovery, PathHandler};
use crate::edge::{Edge, Rules};
use crate::handler::{Chain, InFlight};
use crate::health::Health;
use crate::in_process::InProcess;
use crate::metrics::Metrics;
pub use crate::options::{KeyPairFiles, Options, RequestHeader, SniFiles};
use crate::serve;
use crate::virtuals::Virtuals;

/// Why the server could not start, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("data folder {}", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("{0}")]
    Store(String),
    /// Keys and certificates cannot be made or read.
    #[error("keys and certificates: {0}")]
    Pki(String),
    /// The address cannot be listened at.
    #[error("cannot listen at {address} (choose another --bind-address or --secure-port)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A flag's value makes no sense.
    #[error("{0}")]
    Flag(String),
    /// Something that a new cluster needs could not be stored.
    #[error("first objects: {0}")]
    Bootstrap(String),
}

/// A server that serves.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stopping: Arc<AtomicBool>,
    shutdown_delay: std::time::Duration,
    stop: tokio::sync::watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    store: Arc<EmbeddedStore>,
    chain: Weak<Chain>,
}

impl Running {
    /// Carries requests of a user from within this program: see [`client::Client::new`]. It does not keep the server
    /// alive.
    pub fn in_process(&self, user: authn::UserInfo) -> Arc<dyn client::Transport> {
        Arc::new(InProcess::new(Weak::clone(&self.chain), user))
    }

    /// Stops: `/readyz` fails; after the delay that was asked for, running requests finish and the store is closed.
    pub async fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        tokio::time::sleep(self.shutdown_delay).await;
        self.stop.send_replace(true);
        let _ = self.serving.await;
        drop(self.store);
    }
}

/// So many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What tokens are bound to, looked up in the caches.
struct Objects {
    registry: OnceLock<Weak<Registry>>,
}

impl Objects {
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.registry.get()?.upgrade()?.cached("", resource, namespace, name)
    }
}

/// Starts the server.
///
/// # Errors
/// One line that says what to do; nothing is left half done.
pub async fn start(options: Options, world: World) -> Result<Running, StartError> {
    let now = world.clock.now().seconds;
    // What flags ask for is judged first: nothing is made for a server that cannot be.
    let rules = Rules::new(&options.cors_allowed_origins, &options.strict_transport_security);
    let rules = rules.map_err(StartError::Flag)?;
    options.tls.check().map_err(|error| StartError::Flag(chain(&error)))?;
    let authorization = Authorization::new(&options.authorization_modes)?;
    let admission = admission_chain(&options, &authorization, &world)?;
    let audiences = options.audiences();
    let mut tokens: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
    tokens.extend(static_tokens(&options, &audiences)?);
    let given = Given::read(&options, now)?;
    let given_keys = GivenKeys::read(&options)?;

    make_data_dir(&options.data_dir)?;
    let listener = listen(&options)?;
    let address = listener.local_addr().map_err(|source| StartError::Listen {
        address: SocketAddr::new(options.bind_address, options.secure_port),
        source,
    })?;
    let store = open_store(&options, &world)?;
    let advertise = options.advertise_address.or_else(|| advertised(options.bind_address));
    let wanted = wanted_pki(&options, given.serving_chain(), advertise, address);
    let pki = pki::ensure(&options.data_dir, &wanted, now).map_err(|e| StartError::Pki(chain(&e)))?;

    let objects = Arc::new(Objects { registry: OnceLock::new() });
    let (signing_key, verifying_keys) = given_keys.complete(&pki);
    let signer = signing_key.jws_signer().map_err(|e| StartError::Pki(chain(&e)))?;
    let issuer = Issuer::new(options.issuer(), signer);
    let loaded = Loaded::new(&options, given, &pki)?;
    let serves = {
        let options = options.clone();
        move |resource: &api_types::Resource| options.serves(resource)
    };
    let stored = |resource: &api_types::Resource| {
        serves(resource) && resource.allows("list") && resource.resource != "componentstatuses"
    };
    let hooks = Hooks::new(Services::new(options.service_cidrs.clone(), options.node_ports.clone()));
    let registry =
        Registry::start(store.clone(), world.clone(), Arc::new(admission), hooks, authorization.observers(), stored)
            .await
            .map_err(|e| StartError::Store(chain(&e)))?;
    registry.set_event_ttl(options.event_ttl);
    registry.services().load(&registry);
    let _ = objects.registry.set(Arc::downgrade(&registry));
    authorization.attach(&registry);
    let first = bootstrap::Wanted {
        advertise_address: advertise.filter(|_| options.keeps_endpoints),
        secure_port: address.port(),
        client_ca: pem(&loaded.client_ca),
        request_header_ca: pem(&loaded.request_header_ca),
        request_header: options.request_header.clone(),
    };
    bootstrap::run(&registry, &first).await.map_err(|status| StartError::Bootstrap(status.to_string()))?;
    authorization.bootstrap(&registry).await.map_err(|status| StartError::Bootstrap(status.to_string()))?;

    let verifier = Verifier::new(
        &options.service_account_issuers,
        verifying_keys,
        &audiences,
        Arc::clone(&objects) as Arc<dyn TokenObjects>,
    );
    let external = external_address(&options, advertise, address);
    let documents = OidcDocuments::new(&options, &external, &verifier);
    tokens.push(Arc::new(verifier));
    if options.bootstrap_tokens {
        tokens.push(Arc::new(BootstrapTokens::new(objects)));
    }
    let credentials = Credentials::new(&options, &loaded, tokens)?;

    let stopping = Arc::new(AtomicBool::new(false));
    let health = Health::new(Arc::clone(&stopping));
    let listed: Vec<Arc<api_types::Resource>> =
        api_types::resources().iter().filter(|r| serves(r)).map(|r| Arc::new(r.clone())).collect();
    let openapi = OpenApiDocuments { documents: openapi::OpenApi::new(listed), clock: Arc::clone(&world.clock) };
    let others: Vec<Box<dyn PathHandler>> = vec![Box::new(documents), Box::new(openapi)];
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let ending = stopped.clone();
    let handler = Chain {
        discovery: Discovery::new(serves, external, others),
        virtuals: Virtuals {
            issuer: Arc::new(issuer),
            token_limits: authn::token_request::Limits {
                max_expiration_seconds: options.service_account_token_seconds_max,
                extend_expiration: options.service_account_extends_tokens,
                ..authn::token_request::Limits::new(&audiences)
            },
            rules: authorization.rules(),
        },
        authenticator: Arc::clone(&credentials.authenticator),
        authorizer: authorization.authorizer(),
        health,
        metrics: Metrics::default(),
        proxy: Arc::clone(&credentials.proxy),
        in_flight: InFlight::new(options.max_requests_in_flight, options.max_mutating_requests_in_flight),
        request_timeout: options.request_timeout,
        impersonations: authn::impersonation::LastWays::default(),
        api: Api { registry, min_request_timeout_seconds: options.min_request_timeout_seconds, ending },
    };
    let limits = serve::Limits {
        streams_max: options.http2_streams_max,
        goaway_chance: options.goaway_chance,
        random: Arc::clone(&world.random),
    };
    let tls = Arc::clone(&credentials.tls);
    tokio::spawn(credentials.keep_fresh(wanted, pki, world));
    let stopped = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let handler = Arc::new(handler);
    let chain = Arc::downgrade(&handler);
    let serving = if rules.is_empty() {
        tokio::spawn(serve::serve(listener, tls, handler, limits, stopped))
    } else {
        tokio::spawn(serve::serve(listener, tls, Arc::new(Edge::new(handler, rules)), limits, stopped))
    };
    Ok(Running { address, stopping, shutdown_delay: options.shutdown_delay, stop, serving, store, chain })
}

impl TokenObjects for Objects {
    fn service_account(&self, namespace: &str, name: &str) -> Result<Option<ServiceAccountState>, String> {
        Ok(self.get("serviceaccounts", namespace, name).map(|account| ServiceAccountState {
            object: state_of(&account),
            secrets: account.list_at(&["secrets"]).iter().map(|s| s.str_at(&["name"]).into()).collect(),
        }))
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Option<ObjectState>, String> {
        Ok(self.get("pods", namespace, name).as_ref().map(state_of))
    }

    fn secret(&self, namespace: &str, name: &str) -> Result<Option<SecretState>, String> {
        Ok(self.get("secrets", namespace, name).map(|secret| {
            let since = secret.str_at(&["metadata", "labels", "kubernetes.io/legacy-token-invalid-since"]);
            SecretState {
                object: state_of(&secret),
                token: decode(secret.str_at(&["data", "token"])),
                invalid_since: (!since.is_empty()).then(|| since.into()),
            }
        }))
    }

    fn node(&self, name: &str) -> Result<Option<ObjectState>, String> {
        Ok(self.get("nodes", "", name).as_ref().map(state_of))
    }
}

impl BootstrapSecrets for Objects {
    fn secret(&self, name: &str) -> Option<authn::bootstrap_token::Secret> {
        let secret = self.get("secrets", "kube-system", name)?;
        let entries = secret.map_at(&["data"]).into_iter().flat_map(Map::iter);
        let data: BTreeMap<SmolStr, Vec<u8>> =
            entries.filter_map(|(key, value)| Some((key.clone(), decode(value.as_str()?)))).collect();
        let expiration = data.get("expiration").filter(|text| !text.is_empty());
        let expiration = expiration.map(|text| String::from_utf8_lossy(text).into_owned());
        Some(authn::bootstrap_token::Secret {
            secret_type: secret.str_at(&["type"]).into(),
            deleted: !secret.str_at(&["metadata", "deletionTimestamp"]).is_empty(),
            // A time that cannot be read is one that is over.
            expires_at: expiration.map(|text| api_semantics::time::rfc3339(&text).unwrap_or(i64::MIN)),
            data,
        })
    }
}

/// Base64 as Secrets hold it.
fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

fn state_of(object: &Value) -> ObjectState {
    ObjectState {
        uid: object.str_at(&["metadata", "uid"]).into(),
        deletion_timestamp: api_semantics::time::rfc3339(object.str_at(&["metadata", "deletionTimestamp"])),
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn make_data_dir(dir: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| StartError::DataDir { path: dir.into(), source })
}

fn open_store(options: &Options, world: &World) -> Result<Arc<EmbeddedStore>, StartError> {
    let dir = options.data_dir.join("store");
    EmbeddedStore::open(world, &dir, store_embedded::Options::default())
        .map(Arc::new)
        .map_err(|error| StartError::Store(chain(&error)))
}

fn listen(options: &Options) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(options.bind_address, options.secure_port);
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A server that starts again must not wait for connections of the former one to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(options.permit_port_sharing)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| StartError::Listen { address, source })
}

/// The users of `--token-auth-file`.
fn static_tokens(options: &Options, audiences: &[String]) -> Result<Option<Arc<dyn TokenAuthenticator>>, StartError> {
    let Some(path) = &options.token_auth_file else { return Ok(None) };
    let refused = |why: String| StartError::Flag(format!("--token-auth-file {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let tokens = StaticTokens::from_csv(&text, audiences).map_err(|error| refused(error.to_string()))?;
    Ok(Some(Arc::new(tokens)))
}

/// The keys of service account tokens that flags name.
struct GivenKeys {
    signing: Option<pki::PrivateKey>,
    verifying: Vec<pki::PublicKey>,
}

impl GivenKeys {
    fn read(options: &Options) -> Result<Self, StartError> {
        let refused = |flag: &str, error: pki::PkiError| StartError::Flag(format!("--{flag} {}", chain(&error)));
        let signing = options.service_account_signing_key.as_ref().map(|path| pki::load_private_key(path));
        let mut verifying = Vec::new();
        for path in &options.service_account_keys {
            let keys = pki::load_public_keys(path).map_err(|error| refused("service-account-key-file", error))?;
            verifying.extend(keys);
        }
        let signing = signing.transpose().map_err(|error| refused("service-account-signing-key-file", error))?;
        Ok(Self { signing, verifying })
    }

    /// The key that signs and those that verify; ours where flags name none. What we sign is good here in any case.
    fn complete(self, pki: &pki::Pki) -> (pki::PrivateKey, Vec<pki::PublicKey>) {
        let mut verifying = self.verifying;
        if self.signing.is_none() && verifying.is_empty() {
            verifying.clone_from(&pki.service_account_public_keys);
        }
        let signing = self.signing.unwrap_or_else(|| pki.service_account_key.clone());
        if !verifying.contains(signing.public_key()) {
            verifying.push(signing.public_key().clone());
        }
        (signing, verifying)
    }
}

/// The server's `host:port` in what others read.
fn external_address(options: &Options, advertise: Option<IpAddr>, address: SocketAddr) -> String {
    match &options.external_hostname {
        Some(host) if host.parse::<IpAddr>().is_err() && host.contains(':') => host.clone(),
        Some(host) => match host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, address.port()).to_string(),
            Err(_) => format!("{host}:{}", address.port()),
        },
        None => SocketAddr::new(advertise.unwrap_or(options.bind_address), address.port()).to_string(),
    }
}

/// The address that others reach this machine at: the bind address if it is one, otherwise that of the default
/// route. None if there are only loopback addresses.
fn advertised(bind: IpAddr) -> Option<IpAddr> {
    if !bind.is_loopback() && !bind.is_unspecified() {
        return Some(bind);
    }
    if bind.is_loopback() {
        return None;
    }
    // Connecting a UDP socket sends nothing; the kernel chooses the address it would send from.
    let socket = std::net::UdpSocket::bind((if bind.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).ok()?;
    socket.connect(if bind.is_ipv4() { ("192.0.2.1", 9) } else { ("2001:db8::1", 9) }).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

fn wanted_pki(
    options: &Options,
    serving_chain: &[pki::Certificate],
    advertise: Option<IpAddr>,
    address: SocketAddr,
) -> pki::Wanted {
    let host = if address.ip().is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { address.ip() };
    let server = format!("https://{}", SocketAddr::new(host, address.port()));
    // Nobody would be let in with a certificate of our authority if only another one vouches for users.
    let own_authority = options.data_dir.join("pki/ca.crt");
    let usable = options.client_ca_file.as_ref().is_none_or(|path| same_file(path, &own_authority));
    let mut admin = pki::KubeconfigUser::admin(&server);
    // A server with a certificate of the user's own is known by that.
    admin.trusted = serving_chain.to_vec();
    pki::Wanted {
        advertise_address: advertise,
        bind_address: Some(options.bind_address),
        hostnames: options.extra_names.clone(),
        service_addresses: options.service_cidrs.iter().map(|cidr| cidr.nth(0)).collect(),
        kubeconfigs: if usable { vec![admin] } else { Vec::new() },
        ..pki::Wanted::default()
    }
}

fn pem(certificates: &[pki::Certificate]) -> String {
    certificates.iter().map(pki::Certificate::to_pem).collect()
}

/// Whether two paths lead to the same file, or would if it were there.
fn same_file(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => whole(one) == whole(other),
    }
}

/// The OpenAPI documents.
struct OpenApiDocuments {
    documents: openapi::OpenApi,
    clock: Arc<dyn world::Clock>,
}

impl PathHandler for OpenApiDocuments {
    fn respond(
        &self,
        path: &str,
        query: &crate::query::Query,
        headers: &HeaderMap,
        method: &Method,
    ) -> Option<Result<Response<Body>, Status>> {
        let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let v3 = below("/openapi/v3");
        if !(v3 || path == "/openapi/v2") {
            return None;
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Some(Err(crate::api::not_allowed()));
        }
        let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let request = openapi::Request {
            path,
            hash: query.get("hash"),
            accept: header(header::ACCEPT).unwrap_or_default(),
            if_none_match: header(header::IF_NONE_MATCH),
            now_unix_seconds: self.clock.now().seconds,
        };
        let reply = if v3 { self.documents.respond_v3(&request) } else { self.documents.respond_v2(&request) };
        let mut response = Response::new(Body::from(reply.body));
        *response.status_mut() = http::StatusCode::from_u16(reply.status).unwrap_or_default();
        for (name, value) in reply.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        Some(Ok(response))
    }

    fn paths(&self) -> Vec<SmolStr> {
        vec!["/openapi/v2".into(), "/openapi/v3".into(), "/openapi/v3/".into()]
    }
}

/// The documents of OpenID Connect discovery, by which others verify service account tokens.
struct OidcDocuments {
    documents: Option<authn::discovery::Documents>,
}

impl OidcDocuments {
    fn new(options: &Options, external: &str, verifier: &Verifier) -> Self {
        let jwks_uri = &options.service_account_jwks_uri;
        let documents = authn::discovery::Documents::new(options.issuer(), jwks_uri, external, verifier.keys());
        if let Err(error) = &documents {
            tracing::warn!(%error, "no OpenID Connect discovery");
        }
        Self { documents: documents.ok() }
    }
}

impl PathHandler for OidcDocuments {
    fn respond(
        &self,
        path: &str,
        _query: &crate::query::Query,
        _headers: &HeaderMap,
        _method: &Method,
    ) -> Option<Result<Response<Body>, Status>> {
        use authn::discovery::{CACHE_CONTROL, CONFIGURATION_PATH, JWKS_MEDIA_TYPE, JWKS_PATH};
        let documents = self.documents.as_ref()?;
        let (body, media_type) = match path {
            CONFIGURATION_PATH => (&documents.configuration, "application/json"),
            JWKS_PATH => (&documents.jwks, JWKS_MEDIA_TYPE),
            _ => return None,
        };
        let mut response = Response::new(Body::from(body.clone()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL));
        Some(Ok(response))
    }

    fn paths(&self) -> Vec<SmolStr> {
        use authn::discovery::{CONFIGURATION_PATH, JWKS_PATH};
        self.documents.iter().flat_map(|_| [CONFIGURATION_PATH.into(), JWKS_PATH.into()]).collect()
    }
}

fn admission_chain(
    options: &Options,
    authorization: &Authorization,
    world: &World,
) -> Result<admission::Admission, StartError> {
    let plugins = admission_plugins::all(&admission_plugins::Config {
        enable: options.enable_admission_plugins.clone(),
        disable: options.disable_admission_plugins.clone(),
        not_ready_toleration_seconds: options.not_ready_toleration_seconds,
        unreachable_toleration_seconds: options.unreachable_toleration_seconds,
        random: Arc::clone(&world.random),
        authorizer: authorization.authorizer(),
        rbac: authorization.rbac(),
    })
    .map_err(|error| StartError::Flag(error.to_string()))?;
    Ok(admission::Admission::new(plugins))
}
