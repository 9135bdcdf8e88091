//! What can go wrong, in words that end up in a Pod's status: `ErrImagePull: failed to pull and unpack image ...`.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::reference::ReferenceError;
use crate::tar::TarError;

/// The sort of an [`Error`], for whoever must act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The image's name is malformed.
    InvalidReference,
    /// There is no such image, blob or snapshot.
    NotFound,
    /// Something of that name is there already.
    AlreadyExists,
    /// The registry wants other credentials.
    Unauthorized,
    /// No registry could be spoken to.
    Unreachable,
    /// A registry answered with something else than what was asked for, or too late.
    Registry,
    /// The registry asks for patience.
    TooManyRequests,
    /// Content is not what its digest promises.
    DigestMismatch,
    /// The image is not made for this machine.
    NoMatchingPlatform,
    /// The disk is full.
    DiskFull,
    /// The image or archive is malformed.
    Corrupt,
    /// The image or archive is of a sort that is not supported.
    Unsupported,
    /// The caller stopped it.
    Cancelled,
    /// The store's folder is unusable: in use, or on a file system that cannot hold it.
    Unusable,
    /// The disk or the kernel refused.
    Io,
}

/// Whatever this crate was asked to do and could not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image's name is malformed.
    #[error("failed to parse image reference {reference:?}")]
    Reference {
        /// As it was given.
        reference: String,
        /// The mistake.
        #[source]
        source: ReferenceError,
    },
    /// A pull.
    #[error("failed to pull and unpack image {reference:?}")]
    Pull {
        /// The completed name.
        reference: String,
        /// What went wrong.
        #[source]
        source: Box<Error>,
    },
    /// Asking a registry what a name means.
    #[error("failed to resolve reference {reference:?}")]
    Resolve {
        /// The completed name.
        reference: String,
        /// What went wrong.
        #[source]
        source: Box<Error>,
    },
    /// Downloading some content.
    #[error("failed to copy: {what} {digest}")]
    Fetch {
        /// `manifest`, `config`, `layer`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// What went wrong.
        #[source]
        source: Box<Error>,
    },
    /// Unpacking a layer.
    #[error("failed to extract layer {diff_id}")]
    Extract {
        /// The digest of the layer's plain form.
        diff_id: Digest,
        /// What went wrong.
        #[source]
        source: Box<Error>,
    },
    /// Importing an archive or a folder.
    #[error("import {path}")]
    Import {
        /// Where it lies.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: Box<Error>,
    },
    /// A registry has it not, or nobody has.
    #[error("{what}: not found")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// Something of that name is there already.
    #[error("{what}: already exists")]
    AlreadyExists {
        /// What should have been made.
        what: String,
    },
    /// The registry wants other credentials.
    #[error("pull access denied, repository does not exist or may require authorization: {detail}")]
    Unauthorized {
        /// The registry's own words.
        detail: String,
    },
    /// A registry's token service did not give one.
    #[error("failed to authorize: failed to fetch {sort} token")]
    Token {
        /// `anonymous` or `oauth`.
        sort: &'static str,
        /// What went wrong.
        #[source]
        source: Box<Error>,
    },
    /// A request did not reach a registry.
    #[error("failed to do request: {method} {url:?}")]
    Request {
        /// `Get` or `Head`.
        method: &'static str,
        /// Of what.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A registry answered with an error.
    #[error("unexpected status from {method} request to {url}: {status}{detail}")]
    Status {
        /// `GET` or `HEAD`.
        method: &'static str,
        /// Of what.
        url: String,
        /// `503 Service Unavailable`.
        status: http::StatusCode,
        /// `: ` and the registry's own words, if it said something.
        detail: String,
    },
    /// Content is not what its digest promises.
    #[error("unexpected commit digest {actual}, expected {expected}: failed precondition")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Content is shorter or longer than promised.
    #[error("unexpected commit size {actual}, expected {expected}: failed precondition")]
    SizeMismatch {
        /// What was promised.
        expected: u64,
        /// What came, at least.
        actual: u64,
    },
    /// A layer's plain form is not what the image's config promises.
    #[error("wrong diff id calculated on extraction {actual:?}, expected {expected:?}")]
    DiffIdMismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The image is not made for this machine.
    #[error("no match for platform in manifest {digest}: not found")]
    NoMatchingPlatform {
        /// The index's or manifest's digest.
        digest: Digest,
    },
    /// A layer's tar is malformed.
    #[error("invalid layer archive")]
    Tar(
        /// How.
        #[source]
        TarError,
    ),
    /// A layer's entry points out of its folder.
    #[error("entry {path:?} of the layer points outside of it")]
    Escape {
        /// The entry's name.
        path: String,
    },
    /// The image or archive is malformed.
    #[error("{what}")]
    Corrupt {
        /// What is wrong with it.
        what: String,
    },
    /// A document is no JSON of its kind.
    #[error("parse {what}")]
    Json {
        /// Which document.
        what: String,
        /// The mistake.
        #[source]
        source: serde_json::Error,
    },
    /// The image or archive is of a sort that is not supported.
    #[error("{what}")]
    Unsupported {
        /// Which sort.
        what: String,
    },
    /// The caller stopped it.
    #[error("context canceled")]
    Cancelled,
    /// The store's folder cannot be used.
    #[error("{what}")]
    Unusable {
        /// Why, and what to do about it.
        what: String,
    },
    /// A registry's or the hosts' configuration is wrong.
    #[error("read configuration {path}: {what}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// The mistake.
        what: String,
    },
    /// The disk or the kernel refused.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The refusal.
        #[source]
        source: io::Error,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What sort of failure it is, at its root.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Reference { .. } => ErrorKind::InvalidReference,
            Error::Pull { source, .. }
            | Error::Resolve { source, .. }
            | Error::Fetch { source, .. }
            | Error::Extract { source, .. }
            | Error::Token { source, .. }
            | Error::Import { source, .. } => source.kind(),
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Error::Unauthorized { .. } => ErrorKind::Unauthorized,
            Error::Request { .. } => ErrorKind::Unreachable,
            Error::Status { status, .. } if *status == http::StatusCode::TOO_MANY_REQUESTS => {
                ErrorKind::TooManyRequests
            }
            Error::Status { status, .. } if matches!(status.as_u16(), 401 | 403) => ErrorKind::Unauthorized,
            Error::Status { .. } => ErrorKind::Registry,
            Error::DigestMismatch { .. } | Error::SizeMismatch { .. } | Error::DiffIdMismatch { .. } => {
                ErrorKind::DigestMismatch
            }
            Error::NoMatchingPlatform { .. } => ErrorKind::NoMatchingPlatform,
            Error::Tar(TarError::Read(source)) | Error::Io { source, .. } if is_disk_full(source) => {
                ErrorKind::DiskFull
            }
            Error::Tar(TarError::Type(_)) => ErrorKind::Unsupported,
            Error::Tar(_) | Error::Escape { .. } | Error::Corrupt { .. } | Error::Json { .. } => ErrorKind::Corrupt,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Cancelled => ErrorKind::Cancelled,
            Error::Unusable { .. } | Error::Configuration { .. } => ErrorKind::Unusable,
            Error::Io { .. } => ErrorKind::Io,
        }
    }

    /// The whole story on one line, outermost first, as containerd tells it and kubelet shows it.
    pub fn message(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Error {
        Error::Io { action, path: path.as_ref().to_owned(), source: source.into() }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Error {
        Error::Corrupt { what: what.into() }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Error {
        Error::NotFound { what: what.into() }
    }
}

fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
