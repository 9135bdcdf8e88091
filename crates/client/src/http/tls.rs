//! TLS with an API server: whom to trust, and the certificate to show, which may rotate.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::config::{Config, ConfigError, Source};

/// Whom a machine trusts, where the system keeps that.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How TLS is spoken with one server.
pub(super) struct Tls {
    server_name: Option<String>,
    authority: Option<Source>,
    insecure: bool,
    certificate: Option<(Source, Source)>,
    /// What was read of the files, and what came of it.
    current: Mutex<Option<(Material, Arc<ClientConfig>)>>,
}

/// The files' content.
#[derive(PartialEq, Eq)]
struct Material {
    authority: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("authority", &self.authority)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

fn refuse(what: &'static str, error: impl std::fmt::Display) -> ConfigError {
    ConfigError::Tls { what, reason: error.to_string() }
}

impl Tls {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let tls = Self {
            server_name: config.server_name.clone(),
            authority: config.authority.clone(),
            insecure: config.insecure,
            certificate: config.credentials.certificate.clone(),
            current: Mutex::new(None),
        };
        tls.config()?;
        Ok(tls)
    }

    pub(super) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    fn material(&self) -> Result<Material, ConfigError> {
        Ok(Material {
            authority: self.authority.as_ref().map(Source::read).transpose()?,
            certificate: match &self.certificate {
                Some((certificate, key)) => Some((certificate.read()?, key.read()?)),
                None => None,
            },
        })
    }

    /// Whether the files have changed since they were used.
    pub(super) fn is_outdated(&self) -> bool {
        let files =
            self.authority.iter().chain(self.certificate.iter().flat_map(|(certificate, key)| [certificate, key]));
        if !files.into_iter().any(|source| matches!(source, Source::File(_))) {
            return false;
        }
        match (self.material(), &*self.current.lock()) {
            (Ok(material), Some((used, _))) => material != *used,
            _ => false,
        }
    }

    /// What new connections are to use. While files are being replaced and do not fit, the last that did are used on.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, ConfigError> {
        let mut current = self.current.lock();
        let made = self.material().and_then(|material| match &*current {
            Some((used, config)) if *used == material => Ok(Arc::clone(config)),
            _ => {
                let config = Arc::new(self.make(&material)?);
                *current = Some((material, Arc::clone(&config)));
                Ok(config)
            }
        });
        match (made, &*current) {
            (Err(error), Some((_, config))) => {
                tracing::warn!(%error, "certificates cannot be read anew, the last ones are used on");
                Ok(Arc::clone(config))
            }
            (made, _) => made,
        }
    }

    fn make(&self, material: &Material) -> Result<ClientConfig, ConfigError> {
        let provider = pki::provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse("TLS", error))?;
        let builder = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(roots(material.authority.as_deref())?)
        };
        let mut config = match &material.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let what = "client certificate";
                let chain = pki::Certificate::from_pem(certificate).map_err(|error| refuse(what, error))?;
                let key = pki::PrivateKey::from_pem(key).map_err(|error| refuse("client key", error))?;
                let chain = chain.iter().map(|certificate| certificate.der().clone()).collect();
                builder.with_client_auth_cert(chain, key.to_der()).map_err(|error| refuse(what, error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn roots(authority: Option<&[u8]>) -> Result<RootCertStore, ConfigError> {
    let what = "certificate authority";
    let mut roots = RootCertStore::empty();
    match authority {
        Some(pem) => {
            for certificate in pki::Certificate::from_pem(pem).map_err(|error| refuse(what, error))? {
                roots.add(certificate.der().clone()).map_err(|error| refuse(what, error))?;
            }
        }
        None => {
            let found = SYSTEM_AUTHORITIES.iter().find_map(|path| std::fs::read(Path::new(path)).ok());
            let pem = found.ok_or_else(|| refuse(what, "none is given, and the system has none"))?;
            // The system's bundle may hold what we cannot read; that is no reason to trust nobody.
            roots.add_parsable_certificates(
                pki::Certificate::from_pem(&pem).into_iter().flatten().map(|c| c.der().clone()),
            );
        }
    }
    if roots.is_empty() { Err(refuse(what, "no certificate in it")) } else { Ok(roots) }
}

/// Takes every certificate for good whose key the server has (`insecure-skip-tls-verify`).
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
