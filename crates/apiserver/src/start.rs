//! Puts the server together: data folder, keys, store, registry, chain; then serves.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use api_schema::{SmolStr, Value};
use api_semantics::status::Status;
use authn::authenticator::TokenAuthenticator;
use authn::front_proxy::FrontProxy;
use authn::service_account::{Issuer, ObjectState, SecretState, ServiceAccountState, TokenObjects, Verifier};
use authn::token_file::StaticTokens;
use authn::{Authenticator, Config as AuthnConfig};
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response};
use registry::{Cidr, Hooks, Registry, Services};
use store_embedded::EmbeddedStore;
use tokio::net::TcpListener;
use world::World;

use crate::api::Api;
use crate::authorization::Authorization;
use crate::body::Body;
use crate::bootstrap;
use crate::discovery::{Discovery, PathHandler};
use crate::handler::{Chain, InFlight};
use crate::health::Health;
use crate::in_process::InProcess;
use crate::metrics::Metrics;
use crate::proxy::{Proxy, ProxyConfig};
use crate::serve;
use crate::virtuals::Virtuals;

/// What the server is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub bind_address: IpAddr,
    /// And at which port; 0 takes a free one.
    pub secure_port: u16,
    /// What others are told to reach it at; found out if not said.
    pub advertise_address: Option<IpAddr>,
    /// The ranges of Service addresses.
    pub service_cidrs: Vec<Cidr>,
    /// The range of node ports.
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// The issuer of service account tokens.
    pub service_account_issuer: String,
    /// What tokens must be meant for; the issuer if empty.
    pub api_audiences: Vec<String>,
    /// A file of static tokens.
    pub token_auth_file: Option<PathBuf>,
    /// Who may stay anonymous.
    pub anonymous: authn::Anonymous,
    /// Reads in flight.
    pub max_requests_in_flight: u64,
    /// Writes in flight.
    pub max_mutating_requests_in_flight: u64,
    /// Watches end after this many seconds, up to twice as many.
    pub min_request_timeout_seconds: u64,
    /// Names of admission plugins to add to the default ones.
    pub enable_admission_plugins: Vec<String>,
    /// Names of admission plugins to leave out.
    pub disable_admission_plugins: Vec<String>,
    /// `--authorization-mode`.
    pub authorization_modes: Vec<String>,
    /// Which group-versions to serve beside the stable ones: `group/version=true`.
    pub runtime_config: Vec<(String, bool)>,
    /// Further names in the serving certificate.
    pub extra_names: Vec<String>,
}

impl Options {
    /// The defaults, over a data folder.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.into(),
            bind_address: IpAddr::from([127, 0, 0, 1]),
            secure_port: 6443,
            advertise_address: None,
            service_cidrs: Cidr::parse("10.96.0.0/12").into_iter().collect(),
            node_ports: 30_000..=32_767,
            service_account_issuer: "https://kubernetes.default.svc.cluster.local".into(),
            api_audiences: Vec::new(),
            token_auth_file: None,
            anonymous: authn::Anonymous::default(),
            max_requests_in_flight: 400,
            max_mutating_requests_in_flight: 200,
            min_request_timeout_seconds: 1800,
            enable_admission_plugins: vec!["NodeRestriction".into()],
            disable_admission_plugins: Vec::new(),
            authorization_modes: vec!["Node".into(), "RBAC".into()],
            runtime_config: Vec::new(),
            extra_names: Vec::new(),
        }
    }

    /// Whether a resource's group-version is served.
    fn serves(&self, resource: &api_types::Resource) -> bool {
        let name = format!("{}/{}", resource.group, resource.version);
        let core = resource.version.as_str();
        let stated = self.runtime_config.iter().rev().find(|(key, _)| {
            *key == name
                || (resource.group.is_empty() && key == core)
                || match key.as_str() {
                    "api/all" => true,
                    "api/ga" => resource.stability() == api_types::Stability::Stable,
                    "api/beta" => resource.stability() == api_types::Stability::Beta,
                    "api/alpha" => resource.stability() == api_types::Stability::Alpha,
                    _ => false,
                }
        });
        stated.map_or(resource.stability() == api_types::Stability::Stable, |(_, on)| *on)
    }
}

/// Why the server could not start, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("data folder {}: {source}", path.display())]
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
    #[error("cannot listen at {address}: {source}; choose another --bind-address or --secure-port")]
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

    /// Stops: `/readyz` fails, running requests finish, the store is closed.
    pub async fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        let _ = self.serving.await;
        drop(self.store);
    }
}

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
    make_data_dir(&options.data_dir)?;
    let listener = listen(&options).await?;
    let address = listener.local_addr().map_err(|source| StartError::Listen {
        address: SocketAddr::new(options.bind_address, options.secure_port),
        source,
    })?;
    let store = open_store(&options, &world)?;
    let advertise = options.advertise_address.or_else(|| advertised(options.bind_address));
    let wanted = wanted_pki(&options, advertise, address);
    let pki = pki::ensure(&options.data_dir, &wanted, now).map_err(|e| StartError::Pki(chain(&e)))?;

    let objects = Arc::new(Objects { registry: OnceLock::new() });
    let issuer = Issuer::new(
        &options.service_account_issuer,
        pki.service_account_key.jws_signer().map_err(|e| StartError::Pki(chain(&e)))?,
    );
    let audiences = if options.api_audiences.is_empty() {
        vec![options.service_account_issuer.clone()]
    } else {
        options.api_audiences.clone()
    };
    let authorization = Authorization::new(&options.authorization_modes)?;
    let admission = admission_chain(&options, &authorization, &world)?;
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
    registry.services().load(&registry);
    let _ = objects.registry.set(Arc::downgrade(&registry));
    authorization.attach(&registry);
    let ca_pem = pem(&pki.ca.certificates);
    let first = bootstrap::Wanted {
        advertise_address: advertise,
        secure_port: address.port(),
        client_ca: ca_pem,
        request_header_ca: pem(&pki.front_proxy_ca.certificates),
    };
    bootstrap::run(&registry, &first).await.map_err(|status| StartError::Bootstrap(status.message))?;
    authorization.bootstrap(&registry).await.map_err(|status| StartError::Bootstrap(status.message))?;

    let verifier = Verifier::new(
        std::slice::from_ref(&options.service_account_issuer),
        pki.service_account_public_keys.clone(),
        &audiences,
        objects,
    );
    let documents = OidcDocuments::new(&options, advertise, address, &verifier);
    let mut tokens: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
    if let Some(path) = &options.token_auth_file {
        let text = std::fs::read_to_string(path)
            .map_err(|e| StartError::Flag(format!("--token-auth-file {}: {e}", path.display())))?;
        let file = StaticTokens::from_csv(&text, &audiences)
            .map_err(|e| StartError::Flag(format!("--token-auth-file {}: {e}", path.display())))?;
        tokens.push(Arc::new(file));
    }
    tokens.push(Arc::new(verifier));
    let client_certificates = pki::ClientVerifier::new(&pki.ca.certificates).map_err(|e| StartError::Pki(chain(&e)))?;
    let front_proxy =
        pki::ClientVerifier::new(&pki.front_proxy_ca.certificates).map_err(|e| StartError::Pki(chain(&e)))?;
    let authenticator = Authenticator::new(AuthnConfig {
        front_proxy: Some(FrontProxy::new(front_proxy, vec!["front-proxy-client".into()])),
        client_certificates: Some(client_certificates),
        tokens,
        api_audiences: audiences.clone(),
        anonymous: options.anonymous.clone(),
    })
    .map_err(|e| StartError::Pki(chain(&e)))?;

    let certificates = pki::ServingCertificates::new(&pki.apiserver, &[]).map_err(|e| StartError::Pki(chain(&e)))?;
    let authorities: Vec<pki::Certificate> =
        pki.ca.certificates.iter().chain(&pki.front_proxy_ca.certificates).cloned().collect();
    let tls = pki::ServerTls::new(certificates, &authorities, pki::TlsOptions::default())
        .map_err(|e| StartError::Pki(chain(&e)))?;
    let tls = Arc::new(tls);
    tokio::spawn(renew(Arc::clone(&tls), options.data_dir.clone(), wanted, world.clone(), pki.renewal_due_at));

    let stopping = Arc::new(AtomicBool::new(false));
    let health = Health::new(Arc::clone(&stopping));
    let listed: Vec<Arc<api_types::Resource>> =
        api_types::resources().iter().filter(|r| serves(r)).map(|r| Arc::new(r.clone())).collect();
    let openapi = OpenApiDocuments { documents: openapi::OpenApi::new(listed), clock: Arc::clone(&world.clock) };
    let others: Vec<Box<dyn PathHandler>> = vec![Box::new(documents), Box::new(openapi)];
    let proxy = Proxy::new(ProxyConfig { client: Some(pki.apiserver_kubelet_client.clone()), kubelet_ca: None })
        .map_err(|e| StartError::Pki(chain(&e)))?;
    let server_address = format!("{}:{}", advertise.unwrap_or(options.bind_address), address.port());
    let handler = Chain {
        discovery: Discovery::new(serves, server_address, others),
        virtuals: Virtuals {
            issuer: Arc::new(issuer),
            token_limits: authn::token_request::Limits::new(&audiences),
            rules: authorization.rules(),
        },
        authenticator: Arc::new(authenticator),
        authorizer: authorization.authorizer(),
        health,
        metrics: Metrics::default(),
        proxy,
        in_flight: InFlight::new(options.max_requests_in_flight, options.max_mutating_requests_in_flight),
        api: Api { registry, min_request_timeout_seconds: options.min_request_timeout_seconds },
    };
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let handler = Arc::new(handler);
    let chain = Arc::downgrade(&handler);
    let serving = tokio::spawn(serve::serve(listener, tls, handler, async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    }));
    Ok(Running { address, stopping, stop, serving, store, chain })
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
        use base64::Engine as _;
        let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
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

async fn listen(options: &Options) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(options.bind_address, options.secure_port);
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
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

fn wanted_pki(options: &Options, advertise: Option<IpAddr>, address: SocketAddr) -> pki::Wanted {
    let host = if address.ip().is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { address.ip() };
    let server = format!("https://{}", SocketAddr::new(host, address.port()));
    pki::Wanted {
        advertise_address: advertise,
        bind_address: Some(options.bind_address),
        hostnames: options.extra_names.clone(),
        service_addresses: options.service_cidrs.iter().map(|cidr| cidr.nth(0)).collect(),
        kubeconfigs: vec![pki::KubeconfigUser::admin(&server)],
        ..pki::Wanted::default()
    }
}

fn pem(certificates: &[pki::Certificate]) -> String {
    certificates.iter().map(pki::Certificate::to_pem).collect()
}

/// Renews certificates before they expire, while the server runs.
async fn renew(tls: Arc<pki::ServerTls>, dir: PathBuf, wanted: pki::Wanted, world: World, mut due_at: i64) {
    loop {
        // The wall clock may be set: look at least once a day, which costs nothing.
        let wait = (due_at - world.clock.now().seconds).clamp(1, 24 * 3600);
        tokio::time::sleep(std::time::Duration::from_secs(wait.unsigned_abs())).await;
        let now = world.clock.now().seconds;
        if now < due_at {
            continue;
        }
        match pki::ensure(&dir, &wanted, now) {
            Ok(pki) => {
                due_at = pki.renewal_due_at;
                if let Err(error) = tls.certificates().replace(&pki.apiserver, &[]) {
                    tracing::error!(%error, "the renewed serving certificate cannot be used");
                } else {
                    tracing::info!("serving with a renewed certificate");
                }
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "certificates could not be renewed; trying again in an hour");
                due_at = now + 3600;
            }
        }
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
    fn new(options: &Options, advertise: Option<IpAddr>, address: SocketAddr, verifier: &Verifier) -> Self {
        let external = SocketAddr::new(advertise.unwrap_or(options.bind_address), address.port()).to_string();
        let documents =
            authn::discovery::Documents::new(&options.service_account_issuer, "", &external, verifier.keys());
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
        not_ready_toleration_seconds: 300,
        unreachable_toleration_seconds: 300,
        random: Arc::clone(&world.random),
        authorizer: authorization.authorizer(),
        rbac: authorization.rbac(),
    })
    .map_err(|error| StartError::Flag(error.to_string()))?;
    Ok(admission::Admission::new(plugins))
}
