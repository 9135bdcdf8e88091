//! Query strings: decoding, and the options of the API with upstream's errors.

use api_schema::SmolStr;
use api_semantics::status::Status;

/// A decoded query string, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(SmolStr, SmolStr)>,
}

impl Query {
    /// Decodes `a=b&c=d`; malformed escapes stay as they are.
    pub fn parse(text: &str) -> Self {
        let pairs = text
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                (unescape(key), unescape(value))
            })
            .collect();
        Self { pairs }
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The first value of a key; empty if it is absent.
    pub fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// A switch: absent is false; present is true unless it says `false` or `0` (apimachinery `Convert_Slice_string_To_bool`).
    pub fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    /// A switch that may be absent.
    pub fn optional_flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(|value| !(value.eq_ignore_ascii_case("false") || value == "0"))
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 with Go's words if it is none.
    pub fn number(&self, key: &str) -> Result<Option<i64>, Status> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|error: std::num::ParseIntError| {
                use std::num::IntErrorKind::{NegOverflow, PosOverflow};
                let problem = match error.kind() {
                    PosOverflow | NegOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                Status::bad_request(format!(
                    "strconv.ParseInt: parsing {}: {problem}",
                    api_semantics::field::quoted(text)
                ))
            }),
        }
    }
}

/// Whether every percent sign starts an escape.
pub fn escapes_are_whole(text: &str) -> bool {
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| *byte != b'%' || digit(bytes.get(at + 1)) && digit(bytes.get(at + 2)))
}

/// Undoes the percent escapes of a path.
pub fn unescape_path(text: &str) -> SmolStr {
    if text.contains('%') { unescape(&text.replace('+', "%2B")) } else { text.into() }
}

/// Undoes percent and plus escapes; bytes that are no UTF-8 are replaced.
pub fn unescape(text: &str) -> SmolStr {
    if !text.contains(['%', '+']) {
        return text.into();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
        match (bytes[at], bytes.get(at + 1).copied().and_then(hex), bytes.get(at + 2).copied().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&x=1+2&y&z=%zz");
        assert_eq!(query.text("labelSelector"), "a=b,c");
        assert_eq!(query.text("x"), "1 2");
        assert_eq!(query.get("y"), Some(""));
        assert_eq!(query.text("z"), "%zz");
        for (path, whole) in [("/a", true), ("/%2F", true), ("/%zz", false), ("/%2", false), ("/%", false)] {
            assert_eq!(escapes_are_whole(path), whole, "{path}");
        }
    }

    #[test]
    fn numbers_are_refused_in_gos_words() {
        let query = Query::parse("limit=x&big=99999999999999999999");
        let message = |key| query.number(key).expect_err("no number").to_string();
        assert_eq!(message("limit"), "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert_eq!(message("big"), "strconv.ParseInt: parsing \"99999999999999999999\": value out of range");
    }
}
