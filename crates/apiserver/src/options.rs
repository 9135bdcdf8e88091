//! What the server is told when it starts: the meaning of its flags.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use registry::Cidr;

/// A certificate (or chain) and its key, in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPairFiles {
    /// The certificates, leaf first.
    pub certificate: PathBuf,
    /// The leaf's key.
    pub key: PathBuf,
}

/// A certificate for some of the server's names (`--tls-sni-cert-key`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SniFiles {
    /// The certificate and its key.
    pub pair: KeyPairFiles,
    /// The names; those of the certificate if empty.
    pub names: Vec<String>,
}

/// Which proxies may name the user, and how (`--requestheader-*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Who vouches for the proxies; the data folder's `front-proxy-ca.crt` if absent.
    pub client_ca_file: Option<PathBuf>,
    /// The proxies' names; any if empty.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name.
    pub username_headers: Vec<String>,
    /// Headers with the user's uid.
    pub uid_headers: Vec<String>,
    /// Headers with the user's groups.
    pub group_headers: Vec<String>,
    /// What headers with other facts about the user start with.
    pub extra_headers_prefix: Vec<String>,
}

impl Default for RequestHeader {
    fn default() -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            client_ca_file: None,
            allowed_names: one("front-proxy-client"),
            username_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_headers_prefix: one("X-Remote-Extra-"),
        }
    }
}

/// What the server is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub bind_address: IpAddr,
    /// And at which port; 0 takes a free one.
    pub secure_port: u16,
    /// Whether other processes may listen at the same address and port.
    pub permit_port_sharing: bool,
    /// What others are told to reach it at; found out if not said.
    pub advertise_address: Option<IpAddr>,
    /// The name (or name and port) in URLs that point to the server; the advertised address if absent.
    pub external_hostname: Option<String>,
    /// Whether the endpoints of the `kubernetes` Service are kept.
    pub keeps_endpoints: bool,
    /// The ranges of Service addresses.
    pub service_cidrs: Vec<Cidr>,
    /// The range of node ports.
    pub node_ports: std::ops::RangeInclusive<u16>,

    /// What it serves with; made by the data folder's CA if absent.
    pub serving_certificate: Option<KeyPairFiles>,
    /// Certificates for other names.
    pub sni_certificates: Vec<SniFiles>,
    /// How TLS is spoken.
    pub tls: pki::TlsOptions,
    /// Streams on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// The share of HTTP/2 requests whose connection is asked to end.
    pub goaway_chance: f64,
    /// Origins that browsers' scripts may come from, as regular expressions.
    pub cors_allowed_origins: Vec<String>,
    /// Directives of the header `Strict-Transport-Security`.
    pub strict_transport_security: Vec<String>,
    /// Further names in the serving certificate that the server makes.
    pub extra_names: Vec<String>,

    /// The issuers of service account tokens: the first one is ours, the others are accepted too.
    pub service_account_issuers: Vec<String>,
    /// The key that signs service account tokens; the data folder's `sa.key` if absent.
    pub service_account_signing_key: Option<PathBuf>,
    /// Keys that verify service account tokens, beside the one that signs; the data folder's `sa.pub` if both are absent.
    pub service_account_keys: Vec<PathBuf>,
    /// Where relying parties find the keys, if not at this server.
    pub service_account_jwks_uri: String,
    /// How long a service account token may be good at most, in seconds.
    pub service_account_token_seconds_max: Option<i64>,
    /// Whether the tokens that pods get by default live longer than they say.
    pub service_account_extends_tokens: bool,
    /// What tokens must be meant for; the issuers if empty.
    pub api_audiences: Vec<String>,
    /// A file of static tokens.
    pub token_auth_file: Option<PathBuf>,
    /// Whether bootstrap tokens are accepted.
    pub bootstrap_tokens: bool,
    /// Who vouches for users with client certificates; the data folder's `ca.crt` if absent.
    pub client_ca_file: Option<PathBuf>,
    /// Authenticating proxies.
    pub request_header: RequestHeader,
    /// Who may stay anonymous.
    pub anonymous: authn::Anonymous,
    /// `--authorization-mode`.
    pub authorization_modes: Vec<String>,

    /// What is shown to kubelets; made by the data folder's CA if absent.
    pub kubelet_client: Option<KeyPairFiles>,
    /// Who vouches for kubelets; anybody if absent.
    pub kubelet_ca_file: Option<PathBuf>,
    /// The addresses of a node in the order in which they are tried.
    pub kubelet_address_types: Vec<String>,
    /// What is shown to extension API servers; checked only, until there are some.
    pub proxy_client: Option<KeyPairFiles>,

    /// Reads in flight.
    pub max_requests_in_flight: u64,
    /// Writes in flight.
    pub max_mutating_requests_in_flight: u64,
    /// Requests that are no watch may take this long.
    pub request_timeout: Duration,
    /// Watches end after this many seconds, up to twice as many.
    pub min_request_timeout_seconds: u64,
    /// For how long the server goes on, not ready, once it is told to stop.
    pub shutdown_delay: Duration,
    /// How long Events are kept.
    pub event_ttl: Duration,
    /// Names of admission plugins to add to the default ones.
    pub enable_admission_plugins: Vec<String>,
    /// Names of admission plugins to leave out.
    pub disable_admission_plugins: Vec<String>,
    /// For how long pods stay on nodes that are not ready, unless they say.
    pub not_ready_toleration_seconds: i64,
    /// For how long pods stay on nodes that are not reachable, unless they say.
    pub unreachable_toleration_seconds: i64,
    /// Which group-versions to serve beside the stable ones: `group/version=true`.
    pub runtime_config: Vec<(String, bool)>,
}

impl Options {
    /// The defaults, over a data folder.
    pub fn new(data_dir: &Path) -> Self {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Self {
            data_dir: data_dir.into(),
            bind_address: IpAddr::from([127, 0, 0, 1]),
            secure_port: 6443,
            permit_port_sharing: false,
            advertise_address: None,
            external_hostname: None,
            keeps_endpoints: true,
            service_cidrs: Cidr::parse("10.96.0.0/12").into_iter().collect(),
            node_ports: 30_000..=32_767,
            serving_certificate: None,
            sni_certificates: Vec::new(),
            tls: pki::TlsOptions::default(),
            http2_streams_max: 100,
            goaway_chance: 0.0,
            cors_allowed_origins: Vec::new(),
            strict_transport_security: Vec::new(),
            extra_names: Vec::new(),
            service_account_issuers: texts(&["https://kubernetes.default.svc.cluster.local"]),
            service_account_signing_key: None,
            service_account_keys: Vec::new(),
            service_account_jwks_uri: String::new(),
            service_account_token_seconds_max: None,
            service_account_extends_tokens: true,
            api_audiences: Vec::new(),
            token_auth_file: None,
            bootstrap_tokens: false,
            client_ca_file: None,
            request_header: RequestHeader::default(),
            anonymous: authn::Anonymous::default(),
            authorization_modes: texts(&["Node", "RBAC"]),
            kubelet_client: None,
            kubelet_ca_file: None,
            kubelet_address_types: texts(&["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"]),
            proxy_client: None,
            max_requests_in_flight: 400,
            max_mutating_requests_in_flight: 200,
            request_timeout: Duration::from_secs(60),
            min_request_timeout_seconds: 1800,
            shutdown_delay: Duration::ZERO,
            event_ttl: Duration::from_secs(3600),
            enable_admission_plugins: texts(&["NodeRestriction"]),
            disable_admission_plugins: Vec::new(),
            not_ready_toleration_seconds: 300,
            unreachable_toleration_seconds: 300,
            runtime_config: Vec::new(),
        }
    }

    /// The issuer of the tokens that this server signs.
    pub fn issuer(&self) -> &str {
        self.service_account_issuers.first().map(String::as_str).unwrap_or_default()
    }

    /// Whom tokens must be meant for: as stated, or the issuers.
    pub fn audiences(&self) -> Vec<String> {
        if self.api_audiences.is_empty() { self.service_account_issuers.clone() } else { self.api_audiences.clone() }
    }

    /// Whether a resource is served: what is said of the resource itself counts before what is said of its version,
    /// and that before what is said of all versions like it.
    pub(crate) fn serves(&self, resource: &api_types::Resource) -> bool {
        let stability = resource.stability();
        let stated = |key: &str| self.runtime_config.iter().rev().find(|(stated, _)| stated == key).map(|(_, on)| *on);
        let group_version = match resource.group.as_str() {
            "" => resource.version.to_string(),
            group => format!("{group}/{}", resource.version),
        };
        let like_it = match stability {
            api_types::Stability::Stable => "api/ga",
            api_types::Stability::Beta => "api/beta",
            api_types::Stability::Alpha => "api/alpha",
        };
        stated(&format!("{group_version}/{}", resource.resource))
            .or_else(|| stated(&group_version))
            .or_else(|| stated(like_it))
            .or_else(|| stated("api/all"))
            .unwrap_or(stability == api_types::Stability::Stable)
    }
}
