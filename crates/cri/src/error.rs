//! Why a call failed, in gRPC's terms.

use std::fmt;

pub use tonic::Code;

/// A failed call: gRPC's code and the runtime's own words.
///
/// It prints as Go's gRPC library prints it, for these texts reach users through events and waiting reasons:
/// `rpc error: code = NotFound desc = ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure.
    pub code: Code,
    /// The runtime's words.
    pub message: String,
}

impl Error {
    /// A failure of the kind `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into() }
    }

    /// A failure that has no code of its own.
    pub fn unknown(message: impl Into<String>) -> Error {
        Error::new(Code::Unknown, message)
    }

    /// What was asked for is not there.
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(Code::NotFound, message)
    }

    /// The request cannot be meant.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(Code::InvalidArgument, message)
    }

    /// Whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self.code {
            // The one name that Go spells otherwise.
            Code::Cancelled => "Canceled".to_owned(),
            code => format!("{code:?}"),
        };
        write!(f, "rpc error: code = {code} desc = {}", self.message)
    }
}

impl std::error::Error for Error {}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        Error::new(status.code(), status.message())
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> tonic::Status {
        tonic::Status::new(error.code, error.message)
    }
}
