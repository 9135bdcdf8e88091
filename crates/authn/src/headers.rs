//! Reading request headers as Go's `http.Header` does.

use http::HeaderMap;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// A header's value is not text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotText(pub(crate) String);

/// The first value of a header; empty when there is none.
pub(crate) fn first<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, NotText> {
    headers.get(name).map_or(Ok(""), |value| text(name, value))
}

/// All values of a header.
pub(crate) fn all(headers: &HeaderMap, name: &str) -> Result<Vec<SmolStr>, NotText> {
    headers.get_all(name).into_iter().map(|value| text(name, value).map(SmolStr::from)).collect()
}

/// The headers whose name starts with this prefix, by the rest of the name: the keys of a user's `extra`. Names come in
/// lower case; percent escapes stand for what cannot be in a header's name.
pub(crate) fn by_prefix(headers: &HeaderMap, prefix: &str) -> Result<BTreeMap<SmolStr, Vec<SmolStr>>, NotText> {
    let mut found: BTreeMap<SmolStr, Vec<SmolStr>> = BTreeMap::new();
    for (name, value) in headers {
        if let Some(key) = strip_prefix(name.as_str(), prefix) {
            found.entry(unescape(key)).or_default().push(text(name.as_str(), value)?.into());
        }
    }
    Ok(found)
}

/// Removes the headers whose name starts with this prefix.
pub(crate) fn remove_by_prefix(headers: &mut HeaderMap, prefix: &str) {
    let names: Vec<_> = headers.keys().filter(|name| strip_prefix(name.as_str(), prefix).is_some()).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn strip_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn text<'a>(name: &str, value: &'a http::HeaderValue) -> Result<&'a str, NotText> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| NotText(name.to_owned()))
}

/// Resolves percent escapes; a text with a broken escape stays as it is.
fn unescape(escaped: &str) -> SmolStr {
    let resolve = || {
        let mut bytes = Vec::with_capacity(escaped.len());
        let mut rest = escaped.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            if byte == b'%' {
                let (digits, after) = after.split_at_checked(2)?;
                let digit = |at: usize| char::from(digits[at]).to_digit(16);
                bytes.push((digit(0)? << 4 | digit(1)?) as u8);
                rest = after;
            } else {
                bytes.push(byte);
                rest = after;
            }
        }
        String::from_utf8(bytes).ok()
    };
    resolve().map_or_else(|| escaped.into(), SmolStr::from)
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escapes_are_resolved_or_kept() {
        for (escaped, want) in [
            ("scopes", "scopes"),
            ("example.org%2fscope", "example.org/scope"),
            ("a%2Fb%25", "a/b%"),
            ("a+b", "a+b"),
            ("a%2", "a%2"),
            ("a%zz", "a%zz"),
            ("a%+1", "a%+1"),
            ("%ff", "%ff"),
            ("%", "%"),
        ] {
            assert_eq!(unescape(escaped), want, "{escaped}");
        }
    }
}
