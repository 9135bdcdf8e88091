//! Why a patch cannot be applied, with the answer that clients see.

use api_semantics::status::Status;

/// A patch that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchError {
    /// The body is no patch of its type: 400 with the text.
    Malformed(String),
    /// The patch is well-formed, but the object has not what it asks for: 422. Clients never see the text, only
    /// the sentence that upstream sends for all of them.
    NotApplicable(String),
    /// The patch has more operations than allowed: 413 with the text.
    TooManyOperations(String),
    /// The patch and the type contradict each other: 500 with the text, without a reason, as upstream answers.
    Failed(String),
}

impl std::fmt::Display for PatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Malformed(text) | Self::NotApplicable(text) | Self::TooManyOperations(text) | Self::Failed(text)) =
            self;
        f.write_str(text)
    }
}
impl std::error::Error for PatchError {}

impl PatchError {
    /// The answer to the client.
    pub fn to_status(&self) -> Status {
        match self {
            Self::Malformed(text) => Status::bad_request(text.as_str()),
            Self::NotApplicable(_) => {
                Status::generic(422, "Invalid", "the server rejected our request due to an error in our request")
            }
            Self::TooManyOperations(text) => {
                Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: {text}"))
            }
            Self::Failed(text) => plain(text),
        }
    }
}

impl From<PatchError> for Status {
    fn from(error: PatchError) -> Self {
        error.to_status()
    }
}

/// The answer to an error that upstream does not foresee: 500, no reason, the bare text.
pub(crate) fn plain(text: &str) -> Status {
    Status::plain(text)
}
