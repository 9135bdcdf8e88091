//! Keys, certificates and kubeconfigs, as files and in memory.
//!
//! [`ensure`] makes or completes kubeadm's `pki` folder; [`Authority`] issues certificates and signs requests;
//! [`ServerTls`] serves with them and takes renewed ones while running; [`ClientVerifier`] judges the certificates
//! that clients show. Times are unix seconds handed in by the caller.

mod certificate;
mod der;
mod ensure;
mod files;
mod issue;
mod key;
mod kubeconfig;
mod tls;
mod verify;

pub use certificate::{Certificate, Csr, Subject, SubjectAltNames};
pub use ensure::{
    AuthorityFiles, KeyPair, KubeconfigUser, Pki, Wanted, ensure, load_authorities, load_certificates, load_key_pair,
    load_private_key, load_public_keys,
};
pub use issue::{Authority, CsrPolicy, Template, UnknownUsage, Usage};
pub use key::{JwsSigner, PrivateKey, PublicKey, SignatureScheme};
pub use kubeconfig::{BearerToken, Credential, Kubeconfig};
pub use tls::{ServerTls, ServingCertificates, SniCertificate, TlsOptions, TlsVersion, provider};
pub use verify::{ClientIdentity, ClientRejection, ClientVerifier};

pub use rustls_pki_types::CertificateDer;

use std::path::PathBuf;

/// What can go wrong with keys, certificates and their files.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is there but is not what its name says. It is left as it is.
    #[error("{} is not usable: {reason}; move it away to have it made anew", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that the user named is not what it should be.
    #[error("{}: {reason}", path.display())]
    Given {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate must be issued, but the key of its authority is not there.
    #[error("{} must be issued because {reason}, but {} is missing", certificate.display(), key.display())]
    AuthorityKeyMissing {
        /// The certificate to issue.
        certificate: PathBuf,
        /// The missing key.
        key: PathBuf,
        /// Why the certificate must be issued.
        reason: String,
    },
    /// The text or bytes are no key of a kind known here.
    #[error("key: {0}")]
    Key(String),
    /// The text or bytes are no certificate.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The text or bytes are no certificate signing request, or its signature is wrong.
    #[error("certificate signing request: {0}")]
    Csr(String),
    /// TLS cannot be set up as asked.
    #[error("tls: {0}")]
    Tls(String),
    /// The system's source of randomness failed.
    #[error("random numbers are not available")]
    Random,
}
