//! YAML as Kubernetes reads and writes it (sigs.k8s.io/yaml over go-yaml v2).
//!
//! Reading turns the first document into JSON text with sorted keys and hands that to [`crate::json`], as upstream
//! does; so fields, problems and type errors are those of JSON. The events come from saphyr-parser: of the maintained
//! YAML crates with a permissive licence it is the one that gives plain events with their lines and leaves it to us
//! what `yes` or `0o17` mean, without unsafe code or a C library. Writing is our own.

use api_schema::Value;

use crate::TypeCodec;
use crate::json::{self, DecodeError, Decoded, Options, Problem};

mod number;
mod read;
mod write;

/// Reads the first document of a YAML text: as an object of a type, or without one as a plain tree.
pub fn decode(ty: Option<TypeCodec<'_>>, text: &[u8], options: Options) -> Result<Decoded, DecodeError> {
    if let Some(decoded) = decode_json(ty, text, options) {
        return Ok(decoded);
    }
    let read = read::to_json(text).map_err(DecodeError::Yaml)?;
    let mut decoded = json::decode(ty, &read.json, options)?;
    if options.problems && !read.duplicates.is_empty() {
        let text = format!("yaml: unmarshal errors:\n  {}", read.duplicates.join("\n  "));
        decoded.problems.insert(0, Problem::Yaml(text));
    }
    Ok(decoded)
}

/// The JSON text of the first document, with sorted keys.
pub fn to_json(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    read::to_json(text).map(|read| read.json).map_err(DecodeError::Yaml)
}

/// Appends a tree as YAML: keys sorted as go-yaml sorts them, lists not indented, long lines folded at 80 columns.
pub fn encode(ty: Option<TypeCodec<'_>>, value: &Value, out: &mut Vec<u8>) {
    let mut text = Vec::with_capacity(1024);
    json::encode(ty, value, &mut text);
    from_json(&text, out);
}

/// Appends JSON text as YAML.
pub fn from_json(text: &[u8], out: &mut Vec<u8>) {
    match json::decode(None, text, Options::default()) {
        Ok(decoded) => write::document(&decoded.value, out),
        // What nests too deeply for a tree stays JSON, which is YAML too.
        Err(_) => {
            out.extend_from_slice(text);
            out.push(b'\n');
        }
    }
}

/// Clients often send JSON as YAML: reads it without the detour, wherever both ways say the same.
fn decode_json(ty: Option<TypeCodec<'_>>, text: &[u8], options: Options) -> Option<Decoded> {
    if text.first() != Some(&b'{') || has_fractions(text) {
        return None;
    }
    let decoded = json::decode(ty, text, Options::STRICT).ok()?;
    match decoded.problems.as_slice() {
        [] => Some(decoded),
        // Several would come in another order, and YAML has its own words for doubled keys.
        [Problem::UnknownField(_)] if options.problems => Some(decoded),
        [Problem::UnknownField(_)] => Some(Decoded { problems: Vec::new(), ..decoded }),
        _ => None,
    }
}

/// Whether a JSON text has numbers that YAML would normalise: `1.0` is 1 there.
fn has_fractions(text: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => at = json::text::string_end(text, at),
            b'.' | b'E' => return true,
            b'e' if at > 0 && text[at - 1].is_ascii_digit() => return true,
            _ => at += 1,
        }
    }
    false
}
