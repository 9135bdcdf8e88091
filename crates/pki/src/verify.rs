//! Judges the certificates that clients show, for the authenticators: a bad one costs the client a 401, not the
//! connection.

use crate::certificate::fingerprint;
use crate::{Certificate, PkiError, Subject};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error as TlsError};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;

/// Whom a good certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Name and groups.
    pub subject: Subject,
    /// The SHA-256 of the certificate in lower-case hex.
    pub fingerprint: String,
    /// The last second for which the certificate is good, unix time.
    pub not_after: i64,
}

/// Why a client's certificate is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientRejection {
    /// No certificate was shown.
    #[error("no certificate")]
    Missing,
    /// The certificate cannot be read.
    #[error("verifying certificate failed: {0}")]
    Unreadable(String),
    /// The certificate's time is over.
    #[error(
        "verifying certificate {identifier} failed: x509: certificate has expired or is not yet valid: it was valid until {not_after}"
    )]
    Expired {
        /// Serial number and key identifiers.
        identifier: String,
        /// The end of its time, unix time.
        not_after: i64,
    },
    /// The certificate's time has not begun.
    #[error(
        "verifying certificate {identifier} failed: x509: certificate has expired or is not yet valid: it is valid from {not_before}"
    )]
    NotYetValid {
        /// Serial number and key identifiers.
        identifier: String,
        /// The start of its time, unix time.
        not_before: i64,
    },
    /// None of the authorities vouches for it.
    #[error("verifying certificate {identifier} failed: x509: certificate signed by unknown authority")]
    UnknownAuthority {
        /// Serial number and key identifiers.
        identifier: String,
    },
    /// It may not be used by clients.
    #[error("verifying certificate {identifier} failed: x509: certificate specifies an incompatible key usage")]
    WrongUsage {
        /// Serial number and key identifiers.
        identifier: String,
    },
    /// It is not good for another reason.
    #[error("verifying certificate {identifier} failed: {reason}")]
    Other {
        /// Serial number and key identifiers.
        identifier: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Accepts certificates that these authorities vouch for, within their time and for use by clients.
#[derive(Clone, Debug)]
pub struct ClientVerifier {
    authorities: Vec<Certificate>,
    /// Good while every authority is within its time.
    all: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    /// A verifier that trusts these authorities.
    pub fn new(authorities: &[Certificate]) -> Result<Self, PkiError> {
        Ok(Self { authorities: authorities.to_vec(), all: verifier(authorities.iter())? })
    }

    /// The authorities trusted.
    pub fn authorities(&self) -> &[Certificate] {
        &self.authorities
    }

    /// Judges a chain as the client sent it (leaf first) at `now`.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: i64) -> Result<ClientIdentity, ClientRejection> {
        let (leaf, intermediates) = chain.split_first().ok_or(ClientRejection::Missing)?;
        let certificate =
            Certificate::from_der(leaf).map_err(|error| ClientRejection::Unreadable(error.to_string()))?;
        let identifier = certificate.identifier();
        if now > certificate.not_after {
            return Err(ClientRejection::Expired { identifier, not_after: certificate.not_after });
        }
        if now < certificate.not_before {
            return Err(ClientRejection::NotYetValid { identifier, not_before: certificate.not_before });
        }
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        let in_time = |authority: &&Certificate| (authority.not_before..=authority.not_after).contains(&now);
        let verified = if self.authorities.iter().all(|authority| in_time(&authority)) {
            self.all.verify_client_cert(leaf, intermediates, time)
        } else {
            // webpki does not look at the validity of roots; Go does.
            match verifier(self.authorities.iter().filter(in_time)) {
                Ok(some) => some.verify_client_cert(leaf, intermediates, time),
                Err(_) => Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)),
            }
        };
        match verified {
            Ok(_) => Ok(ClientIdentity {
                fingerprint: fingerprint(leaf),
                not_after: certificate.not_after,
                subject: certificate.subject,
            }),
            Err(error) => Err(rejection(&error, identifier)),
        }
    }
}

fn verifier<'a>(authorities: impl Iterator<Item = &'a Certificate>) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.der().clone()).map_err(|error| PkiError::Certificate(error.to_string()))?;
    }
    let verifier: Arc<dyn ClientCertVerifier> =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crate::provider())
            .build()
            .map_err(|error| PkiError::Certificate(error.to_string()))?;
    Ok(verifier)
}

fn rejection(error: &TlsError, identifier: String) -> ClientRejection {
    use CertificateError as E;
    match error {
        TlsError::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => {
            ClientRejection::UnknownAuthority { identifier }
        }
        TlsError::InvalidCertificate(E::InvalidPurpose | E::InvalidPurposeContext { .. }) => {
            ClientRejection::WrongUsage { identifier }
        }
        TlsError::InvalidCertificate(reason) => ClientRejection::Other { identifier, reason: reason.to_string() },
        other => ClientRejection::Other { identifier, reason: other.to_string() },
    }
}
