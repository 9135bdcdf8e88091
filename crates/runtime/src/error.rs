//! From what went wrong to what the CRI says of it.

use cri::{Code, Error};

use crate::shim_client::ShimError;

/// An error with its causes in one line, as upstream's wrapped errors read.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        out.push_str(": ");
        out.push_str(&error.to_string());
        cause = error.source();
    }
    out
}

/// Says what was attempted.
pub(crate) fn failed(what: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::unknown(format!("{what}: {}", chain(error)))
}

impl From<ShimError> for Error {
    fn from(error: ShimError) -> Error {
        Error::unknown(chain(&error))
    }
}

/// What is asked about is not there: containerd's words.
pub(crate) fn no_container(id: &str) -> Error {
    Error::not_found(format!("an error occurred when try to find container {id:?}: not found"))
}

pub(crate) fn no_sandbox(id: &str) -> Error {
    Error::not_found(format!("an error occurred when try to find sandbox: {id:?}: not found"))
}

/// An image's error, by its sort.
pub(crate) fn of_image(error: &images::Error) -> Error {
    let code = match error.kind() {
        images::ErrorKind::InvalidReference => Code::InvalidArgument,
        images::ErrorKind::NotFound => Code::NotFound,
        images::ErrorKind::Cancelled => Code::Cancelled,
        _ => Code::Unknown,
    };
    Error::new(code, chain(error))
}
