//! Replaces `$name` and `$(function …)` in the text of a script.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The values that a case has captured, and `ns`, its namespace.
pub(crate) type Variables = HashMap<String, String>;

/// Expands a text to bytes. Unknown names stay as they are: `$patch` is a word of strategic merge patches.
///
/// * `$name`: a captured value.
/// * `$(repeat N TEXT)`: the text, N times.
/// * `$(hex DIGITS)`: bytes.
/// * `$(base64 TEXT)`, `$(base64url TEXT)`: encoded, the latter without padding.
pub(crate) fn bytes(text: &str, variables: &Variables) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let (length, value) = call(rest, variables).or_else(|| name(rest, variables)).unwrap_or((1, b"$".to_vec()));
        out.extend_from_slice(&value);
        rest = &rest[length..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// As [`bytes`], for paths, headers and expectations.
pub(crate) fn text(text: &str, variables: &Variables) -> String {
    String::from_utf8_lossy(&bytes(text, variables)).into_owned()
}

fn name(text: &str, variables: &Variables) -> Option<(usize, Vec<u8>)> {
    let end = text[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(text.len(), |end| end + 1);
    Some((end, variables.get(&text[1..end])?.clone().into_bytes()))
}

fn call(text: &str, variables: &Variables) -> Option<(usize, Vec<u8>)> {
    let inner = text.strip_prefix("$(")?;
    let end = inner.find(')')?;
    let (function, argument) = inner[..end].split_once(' ')?;
    let value = match function {
        "repeat" => {
            let (times, piece) = argument.split_once(' ')?;
            bytes(piece, variables).repeat(times.parse().ok()?)
        }
        "hex" => {
            let digits: Vec<u32> = argument.chars().filter_map(|c| c.to_digit(16)).collect();
            digits.chunks_exact(2).filter_map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
        }
        "base64" => STANDARD.encode(bytes(argument, variables)).into_bytes(),
        "base64url" => URL_SAFE_NO_PAD.encode(bytes(argument, variables)).into_bytes(),
        _ => return None,
    };
    Some((2 + end + 1, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, expect: &str) {
        let variables = Variables::from([("ns".to_owned(), "c-1".to_owned()), ("rv".to_owned(), "7".to_owned())]);
        assert_eq!(text(from, &variables), expect);
    }

    #[test]
    fn known_names_and_functions_are_replaced() {
        check("/n/$ns/x?rv=$rv", "/n/c-1/x?rv=7");
        check("$(repeat 3 {\"a\":)1", "{\"a\":{\"a\":{\"a\":1");
        check("$(hex 6b3873)$(base64 a-$ns)", "k8sYS1jLTE=");
        check("$(base64url {\"rv\":$rv})", "eyJydiI6N30");
    }

    #[test]
    fn all_else_stays() {
        check("{\"$patch\": \"replace\", \"cost\": \"5$\"}", "{\"$patch\": \"replace\", \"cost\": \"5$\"}");
        check("$(SHELL) $(unknown x)", "$(SHELL) $(unknown x)");
    }
}
