//! JSON as Kubernetes reads and writes it.
//!
//! Reading follows sigs.k8s.io/json: names match by case, what Go cannot store is a [`DecodeError`] in Go's words,
//! unknown and duplicate fields are [`Problem`]s beside the value. What is read is brought into the form in which
//! Go's encoder would show it again, so that one object has one tree.

use std::fmt;

use api_schema::Value;

use crate::TypeCodec;

pub(crate) mod bytes;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod scan;
pub(crate) mod text;

/// How deeply the parts of an object that are kept as a tree may nest. Go allows 10,000 levels, which we grant to what
/// is skipped or kept as text; a tree is walked by recursion, and the stack of a thread is finite.
pub const TREE_DEPTH_MAX: usize = 200;

/// How many problems of one text are reported.
pub const PROBLEMS_MAX: usize = 100;

/// What to look for beside the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Gather unknown and duplicate fields (`fieldValidation` Warn and Strict).
    pub problems: bool,
}

impl Options {
    /// Gather unknown and duplicate fields.
    pub const STRICT: Self = Self { problems: true };
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The tree.
    pub value: Value,
    /// What strict validation objects to, in the order of the text.
    pub problems: Vec<Problem>,
}

/// Something that strict field validation objects to. Its text is upstream's: `unknown field "spec.foo"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// A field that the type does not have.
    UnknownField(String),
    /// A field that the text has twice.
    DuplicateField(String),
    /// What the YAML reader objects to, as one text of possibly many lines.
    Yaml(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownField(path) => write!(f, "unknown field {}", api_semantics::field::quoted(path)),
            Self::DuplicateField(path) => write!(f, "duplicate field {}", api_semantics::field::quoted(path)),
            Self::Yaml(text) => f.write_str(text),
        }
    }
}

/// Why a text is no JSON, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// `invalid character 'x' looking for beginning of value`.
    pub message: String,
    /// How many bytes had been read.
    pub offset: usize,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for SyntaxError {}

/// Why a text cannot be read as an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is no JSON.
    #[error("{0}")]
    Syntax(SyntaxError),
    /// It is no YAML, or YAML that JSON cannot express.
    #[error("{0}")]
    Yaml(String),
    /// A value does not fit its field: `json: cannot unmarshal string into Go struct field ...`.
    #[error("{0}")]
    Type(String),
    /// A value of a type with a form of its own (time, quantity, ...) is malformed.
    #[error("{0}")]
    Value(String),
}

/// Reads JSON text: as an object of a type, or without one as a plain tree.
pub fn decode(ty: Option<TypeCodec<'_>>, text: &[u8], options: Options) -> Result<Decoded, DecodeError> {
    decode::decode(ty, text, options)
}

/// Writes a tree as compact JSON: in declared order for a type, otherwise with sorted keys.
/// There is no newline at the end (upstream's compact answers have one).
pub fn encode(ty: Option<TypeCodec<'_>>, value: &Value, out: &mut Vec<u8>) {
    match ty {
        Some(ty) => encode::object(ty, value, out),
        None => encode::any(value, out),
    }
}

/// Indents compact JSON by two spaces as upstream's `?pretty=true` does, without a newline at the end.
pub fn pretty(compact: &[u8], out: &mut Vec<u8>) {
    text::pretty(compact, out);
}

/// Reads a tree as an object of a type, as if its JSON had come from outside: what a patch has made is put into the
/// normal form, and checked.
pub fn retype(ty: TypeCodec<'_>, tree: &Value, options: Options) -> Result<Decoded, DecodeError> {
    let mut text = Vec::with_capacity(1024);
    encode::any(tree, &mut text);
    decode(Some(ty), &text, options)
}

/// Checks that a text is one JSON value.
pub fn check(text: &[u8]) -> Result<(), SyntaxError> {
    scan::check(text)
}
