//! What can go wrong with a request.

use std::time::Duration;

use api_semantics::status::Status;

use crate::config::ConfigError;
use crate::transport::{BoxError, TransportError};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused; reason, code and causes are in the status.
    #[error("{0}")]
    Status(Box<Status>),
    /// There was no answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// There was no answer in time. What the server did with the request is not known.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer cannot be understood.
    #[error("read the answer of {request}")]
    Answer {
        /// Method and path.
        request: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The request cannot be written.
    #[error("write the request {request}")]
    Request {
        /// Method and path.
        request: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The client cannot be set up.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Error {
    /// The server's refusal, if this is one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The HTTP code of the refusal; 0 if there was no answer.
    pub fn code(&self) -> u16 {
        self.status().map_or(0, |status| status.code)
    }

    /// The reason of the refusal; empty if there was no answer.
    pub fn reason(&self) -> &str {
        self.status().map_or("", |status| &status.reason)
    }

    /// When the server says to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.status()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    /// Whether there is a cause with this reason.
    pub fn has_cause(&self, reason: &str) -> bool {
        self.status().is_some_and(|status| status.causes.iter().any(|cause| cause.reason == reason))
    }

    /// 400: the request made no sense.
    pub fn is_bad_request(&self) -> bool {
        self.reason() == "BadRequest"
    }

    /// 401: the server does not know who asks.
    pub fn is_unauthorized(&self) -> bool {
        self.reason() == "Unauthorized"
    }

    /// 403: the user may not do that.
    pub fn is_forbidden(&self) -> bool {
        self.reason() == "Forbidden"
    }

    /// 404: there is no such object (or no such resource).
    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }

    /// 409: the name is taken.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    /// 409: somebody else was faster, or a precondition does not hold.
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    /// 410: the resourceVersion or continue token is too old; list anew.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason(), "Expired" | "Gone")
    }

    /// 422: the object breaks its kind's rules.
    pub fn is_invalid(&self) -> bool {
        self.reason() == "Invalid"
    }

    /// 429: too much is asked; for an eviction, a disruption budget forbids it.
    pub fn is_too_many_requests(&self) -> bool {
        self.reason() == "TooManyRequests"
    }

    /// 504 of a list or watch: the server has not come to the wanted resourceVersion yet.
    pub fn is_too_large_resource_version(&self) -> bool {
        self.has_cause("ResourceVersionTooLarge")
    }

    /// 403 of a create: the namespace is being deleted, so nothing will make it succeed.
    pub fn is_namespace_terminating(&self) -> bool {
        self.has_cause("NamespaceTerminating")
    }

    /// Whether the request certainly had no effect: it was refused, or nobody was reached.
    pub fn had_no_effect(&self) -> bool {
        match self {
            Self::Status(status) => status.code < 500,
            Self::Transport(TransportError::Lost(_)) | Self::Timeout(_) | Self::Answer { .. } => false,
            Self::Transport(_) | Self::Request { .. } | Self::Config(_) => true,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}
