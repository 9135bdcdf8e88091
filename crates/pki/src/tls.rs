//! TLS as the API server speaks it: clients may show a certificate and need not; what it is worth is decided later, by
//! the authenticators. Renewed certificates and authorities are taken into use without a restart.

use crate::{Certificate, KeyPair, PkiError};
use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, ProducesTickets, ResolvesServerCert, ServerConfig, ServerSessionMemoryCache, StoresServerSessions,
};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Sessions kept for clients that cannot hold a ticket.
const SESSIONS_MAX: usize = 1024;

/// The one implementation of cryptography used here.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

// === options ===

/// The oldest version of TLS to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

/// How to speak TLS.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// `--tls-min-version`.
    pub min_version: TlsVersion,
    /// `--tls-cipher-suites`: their names as Go has them. Empty for the default. TLS 1.3's are always on, as in Go.
    pub cipher_suites: Vec<String>,
    /// `--tls-curve-preferences`: key exchanges by their numbers in TLS, of which the best is chosen. Empty for the
    /// default.
    pub curves: Vec<u16>,
    /// Offer HTTP/2 before HTTP/1.1.
    pub http2: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { min_version: TlsVersion::default(), cipher_suites: Vec::new(), curves: Vec::new(), http2: true }
    }
}

impl TlsOptions {
    /// Whether they can be honoured.
    pub fn check(&self) -> Result<(), PkiError> {
        self.provider().map(drop)
    }

    fn provider(&self) -> Result<Arc<CryptoProvider>, PkiError> {
        if self.cipher_suites.is_empty() && self.curves.is_empty() {
            return Ok(provider());
        }
        let mut wanted = provider().as_ref().clone();
        self.restrict_curves(&mut wanted)?;
        self.restrict_suites(&mut wanted)?;
        Ok(Arc::new(wanted))
    }

    fn restrict_curves(&self, wanted: &mut CryptoProvider) -> Result<(), PkiError> {
        if self.curves.is_empty() {
            return Ok(());
        }
        for curve in &self.curves {
            if !wanted.kx_groups.iter().any(|group| u16::from(group.name()) == *curve) {
                let known: Vec<String> =
                    wanted.kx_groups.iter().map(|group| u16::from(group.name()).to_string()).collect();
                let known = known.join(", ");
                return Err(PkiError::Tls(format!("curve {curve} is not supported; supported are {known}")));
            }
        }
        wanted.kx_groups.retain(|group| self.curves.contains(&u16::from(group.name())));
        Ok(())
    }

    fn restrict_suites(&self, wanted: &mut CryptoProvider) -> Result<(), PkiError> {
        if self.cipher_suites.is_empty() {
            return Ok(());
        }
        let go_name = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
        for name in &self.cipher_suites {
            // Go knows two suites by a shorter name as well.
            let full = if name.ends_with("CHACHA20_POLY1305") { format!("{name}_SHA256") } else { name.clone() };
            if !wanted.cipher_suites.iter().any(|suite| go_name(suite) == full) {
                let known: Vec<String> = provider().cipher_suites.iter().map(go_name).collect();
                let known = known.join(", ");
                return Err(PkiError::Tls(format!("cipher suite {name} is not supported; supported are {known}")));
            }
        }
        let listed = |suite: &rustls::SupportedCipherSuite| {
            let name = go_name(suite);
            self.cipher_suites.iter().any(|wanted| name == *wanted || name == format!("{wanted}_SHA256"))
        };
        wanted.cipher_suites.retain(|suite| suite.tls13().is_some() || listed(suite));
        Ok(())
    }
}

// === ServingCertificates ===

/// A certificate for some of the server's names (`--tls-sni-cert-key`).
#[derive(Clone, Debug)]
pub struct SniCertificate {
    /// The certificate and its key.
    pub pair: KeyPair,
    /// Names, or `*.domain`. Empty: the certificate's own names.
    pub names: Vec<String>,
}

/// The certificates served at the moment; they can be replaced while serving.
pub struct ServingCertificates(ArcSwap<Table>);

struct Table {
    default: Arc<CertifiedKey>,
    by_name: Vec<(String, Arc<CertifiedKey>)>,
}

impl fmt::Debug for ServingCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.load();
        let names: Vec<&str> = table.by_name.iter().map(|(name, _)| name.as_str()).collect();
        write!(f, "ServingCertificates({} in chain, by name: {names:?})", table.default.cert.len())
    }
}

impl ServingCertificates {
    /// Serves `default`, or another one by the name that the client asks for.
    pub fn new(default: &KeyPair, sni: &[SniCertificate]) -> Result<Arc<Self>, PkiError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(Table::new(default, sni)?))))
    }

    /// Serves these from the next handshake on.
    pub fn replace(&self, default: &KeyPair, sni: &[SniCertificate]) -> Result<(), PkiError> {
        self.0.store(Arc::new(Table::new(default, sni)?));
        Ok(())
    }
}

impl Table {
    fn new(default: &KeyPair, sni: &[SniCertificate]) -> Result<Self, PkiError> {
        let mut by_name = Vec::new();
        for certificate in sni {
            let key = certified_key(&certificate.pair)?;
            let own = &certificate.pair.chain[0].names.dns;
            let names = if certificate.names.is_empty() { own } else { &certificate.names };
            by_name.extend(names.iter().map(|name| (name.to_ascii_lowercase(), Arc::clone(&key))));
        }
        Ok(Self { default: certified_key(default)?, by_name })
    }

    fn find(&self, server_name: Option<&str>) -> Arc<CertifiedKey> {
        let named = |wanted: &str| self.by_name.iter().find(|(name, _)| name == wanted);
        let found = server_name.map(str::to_ascii_lowercase).and_then(|name| {
            named(&name).or_else(|| name.split_once('.').and_then(|(_, domain)| named(&format!("*.{domain}"))))
        });
        Arc::clone(found.map_or(&self.default, |(_, key)| key))
    }
}

impl ResolvesServerCert for ServingCertificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().find(client_hello.server_name()))
    }
}

fn certified_key(pair: &KeyPair) -> Result<Arc<CertifiedKey>, PkiError> {
    let chain = pair.chain.iter().map(|certificate| certificate.der().clone()).collect();
    CertifiedKey::from_der(chain, pair.key.to_der(), &provider())
        .map(Arc::new)
        .map_err(|error| PkiError::Tls(format!("serving certificate: {error}")))
}

// === ServerTls ===

/// The server's side of TLS. Ask for [`ServerTls::config`] at every new connection: tickets stay good when it changes.
pub struct ServerTls {
    config: ArcSwap<ServerConfig>,
    certificates: Arc<ServingCertificates>,
    options: TlsOptions,
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("certificates", &self.certificates)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Serves with `certificates`. Clients are told that certificates of `client_authorities` (those of
    /// `--client-ca-file` and `--requestheader-client-ca-file`) are welcome; none of them is required to show one.
    pub fn new(
        certificates: Arc<ServingCertificates>,
        client_authorities: &[Certificate],
        options: TlsOptions,
    ) -> Result<Self, PkiError> {
        let tickets = rustls::crypto::ring::Ticketer::new()
            .map_err(|error| PkiError::Tls(format!("session tickets: {error}")))?;
        let sessions: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(SESSIONS_MAX);
        let config = server_config(&certificates, client_authorities, &options, &tickets, &sessions)?;
        Ok(Self { config: ArcSwap::from_pointee(config), certificates, options, tickets, sessions })
    }

    /// What new connections are to use.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// The certificates served, to replace them.
    pub fn certificates(&self) -> &ServingCertificates {
        &self.certificates
    }

    /// Tells new clients that certificates of these authorities are welcome.
    pub fn set_client_authorities(&self, client_authorities: &[Certificate]) -> Result<(), PkiError> {
        let config =
            server_config(&self.certificates, client_authorities, &self.options, &self.tickets, &self.sessions)?;
        self.config.store(Arc::new(config));
        Ok(())
    }
}

fn server_config(
    certificates: &Arc<ServingCertificates>,
    client_authorities: &[Certificate],
    options: &TlsOptions,
    tickets: &Arc<dyn ProducesTickets>,
    sessions: &Arc<dyn StoresServerSessions>,
) -> Result<ServerConfig, PkiError> {
    let versions: &[&rustls::SupportedProtocolVersion] = match options.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let provider = options.provider()?;
    let verifier = RequestClientCert {
        hints: client_authorities
            .iter()
            .map(|authority| DistinguishedName::from(authority.subject_der.clone()))
            .collect(),
        provider: Arc::clone(&provider),
    };
    let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(certificates) as _;
    let provider = Arc::new(quickest_first(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| PkiError::Tls(error.to_string()))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(resolver);
    config.ignore_client_order = true;
    if options.http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    config.ticketer = Arc::clone(tickets);
    config.session_storage = Arc::clone(sessions);
    // Each ticket is work and bytes on every handshake; clients that resume do so one connection at a time.
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// With AES-128 before AES-256, as Go's servers choose: as safe, and a quarter less work for each byte.
fn quickest_first(provider: &CryptoProvider) -> CryptoProvider {
    let mut sorted = provider.clone();
    sorted.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS13_AES_256_GCM_SHA384 | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => 1,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 2,
        _ => 3,
    });
    sorted
}

/// Takes any certificate whose key the client holds: the handshake proves possession and nothing more.
#[derive(Debug)]
struct RequestClientCert {
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for RequestClientCert {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
