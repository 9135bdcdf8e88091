//! Reads over JSON text and says what is wrong with it in the words of Go's encoding/json.
//!
//! Nothing here recurses: text nested as deeply as Go allows costs a bit per level.

use super::{SyntaxError, bytes};

/// How deeply arrays and objects may nest, as in Go.
pub(crate) const NESTING_MAX: usize = 10_000;

/// Checks a whole text: one value with nothing but space around it.
pub(crate) fn check(text: &[u8]) -> Result<(), SyntaxError> {
    let start = skip_space(text, 0);
    let end = value(text, start, 0)?;
    let rest = skip_space(text, end);
    match text.get(rest) {
        None => Ok(()),
        Some(_) => Err(invalid(text, rest, "after top-level value")),
    }
}

/// Whether a text is a set of fields as managedFields mostly has it: objects in objects and nothing else, no space between
/// tokens, nothing in the keys that Go would escape. Such text is JSON, and is copied as it is; of any other nothing is said.
pub(crate) fn is_plain_field_set(text: &[u8]) -> bool {
    let mut at = 0;
    let mut depth = 0usize;
    loop {
        // At the value of a key, or at the beginning.
        if text.get(at) != Some(&b'{') || depth == NESTING_MAX {
            return false;
        }
        at += 1;
        if text.get(at) == Some(&b'}') {
            at += 1;
            while text.get(at) == Some(&b'}') && depth > 0 {
                at += 1;
                depth -= 1;
            }
            if depth == 0 {
                return at == text.len();
            }
            if text.get(at) != Some(&b',') {
                return false;
            }
            at += 1;
        } else {
            depth += 1;
        }
        if text.get(at) != Some(&b'"') {
            return false;
        }
        at += 1;
        loop {
            at += bytes::clean(&text[at..]);
            match text.get(at..) {
                Some([b'"', b':', ..]) => break,
                Some([b'\\', b'"' | b'\\', ..]) => at += 2,
                _ => return false,
            }
        }
        at += 2;
    }
}

/// The position of the first byte that is no space.
#[inline]
pub(crate) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// Reads over the value that begins at `at`, inside of `depth` arrays and objects, and gives its end.
pub(crate) fn value(text: &[u8], mut at: usize, depth: usize) -> Result<usize, SyntaxError> {
    let mut open = Levels::default();
    'values: loop {
        at = match text.get(at) {
            Some(b'"') => string(text, at)?,
            Some(b'-' | b'0'..=b'9') => number(text, at)?,
            Some(b't') => literal(text, at, "true")?,
            Some(b'f') => literal(text, at, "false")?,
            Some(b'n') => literal(text, at, "null")?,
            Some(bracket @ (b'{' | b'[')) => {
                if depth + open.len >= NESTING_MAX {
                    return Err(invalid(text, at, "exceeded max depth"));
                }
                let object = *bracket == b'{';
                let next = skip_space(text, at + 1);
                match text.get(next) {
                    Some(b'}') if object => next + 1,
                    Some(b']') if !object => next + 1,
                    _ => {
                        open.push(object);
                        at = if object { key(text, next)? } else { next };
                        continue 'values;
                    }
                }
            }
            _ => return Err(invalid(text, at, "looking for beginning of value")),
        };
        // A value has ended: close what ends with it, or go on to the next.
        loop {
            let Some(object) = open.top() else { return Ok(at) };
            at = skip_space(text, at);
            match text.get(at) {
                Some(b',') => {
                    at = skip_space(text, at + 1);
                    if object {
                        at = key(text, at)?;
                    }
                    continue 'values;
                }
                Some(b'}') if object => open.pop(),
                Some(b']') if !object => open.pop(),
                _ if object => return Err(invalid(text, at, "after object key:value pair")),
                _ => return Err(invalid(text, at, "after array element")),
            }
            at += 1;
        }
    }
}

/// Reads over a key, its colon and the space around; gives where the value begins.
fn key(text: &[u8], at: usize) -> Result<usize, SyntaxError> {
    if text.get(at) != Some(&b'"') {
        return Err(invalid(text, at, "looking for beginning of object key string"));
    }
    let colon = skip_space(text, string(text, at)?);
    if text.get(colon) != Some(&b':') {
        return Err(invalid(text, colon, "after object key"));
    }
    Ok(skip_space(text, colon + 1))
}

/// Reads over a string, quotes included.
pub(crate) fn string(text: &[u8], at: usize) -> Result<usize, SyntaxError> {
    let mut at = at + 1;
    loop {
        at += bytes::unquoted(&text[at.min(text.len())..]);
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match text.get(at + 1) {
                Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => at += 2,
                Some(b'u') => {
                    for digit in at + 2..at + 6 {
                        if !text.get(digit).is_some_and(u8::is_ascii_hexdigit) {
                            return Err(invalid(text, digit, "in \\u hexadecimal character escape"));
                        }
                    }
                    at += 6;
                }
                _ => return Err(invalid(text, at + 1, "in string escape code")),
            },
            _ => return Err(invalid(text, at, "in string literal")),
        }
    }
}

/// Reads over a number.
pub(crate) fn number(text: &[u8], mut at: usize) -> Result<usize, SyntaxError> {
    let digits = |mut at: usize| {
        while text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    if text[at] == b'-' {
        at += 1;
    }
    at = match text.get(at) {
        Some(b'0') => at + 1,
        Some(b'1'..=b'9') => digits(at),
        _ => return Err(invalid(text, at, "in numeric literal")),
    };
    if text.get(at) == Some(&b'.') {
        if !text.get(at + 1).is_some_and(u8::is_ascii_digit) {
            return Err(invalid(text, at + 1, "after decimal point in numeric literal"));
        }
        at = digits(at + 1);
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = text.get(at) {
            at += 1;
        }
        if !text.get(at).is_some_and(u8::is_ascii_digit) {
            return Err(invalid(text, at, "in exponent of numeric literal"));
        }
        at = digits(at);
    }
    Ok(at)
}

fn literal(text: &[u8], at: usize, word: &str) -> Result<usize, SyntaxError> {
    for (index, expected) in word.bytes().enumerate().skip(1) {
        if text.get(at + index) != Some(&expected) {
            let context = format!("in literal {word} (expecting '{}')", char::from(expected));
            return Err(invalid(text, at + index, &context));
        }
    }
    Ok(at + word.len())
}

/// The error of a byte that does not fit; of the end of the text if there is none. Go then tries a space, so that what
/// ends within a word is told of a space that does not fit.
pub(crate) fn invalid(text: &[u8], at: usize, context: &str) -> SyntaxError {
    let within_word =
        context.starts_with("in ") && context != "in string literal" || context.starts_with("after decimal");
    let message = match text.get(at) {
        None if !within_word => "unexpected end of JSON input".into(),
        byte => format!("invalid character {} {context}", quoted_char(byte.copied().unwrap_or(b' '))),
    };
    SyntaxError { message, offset: text.len().min(at + 1) }
}

/// A byte as Go quotes it, taken for a character of Latin-1.
fn quoted_char(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".into(),
        b'"' => "'\"'".into(),
        _ => {
            let quoted = api_semantics::field::quoted(char::from(byte).encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

/// Which of the open brackets are objects: a bit each.
#[derive(Default)]
struct Levels {
    bits: Vec<u64>,
    first: u64,
    len: usize,
}

impl Levels {
    fn push(&mut self, object: bool) {
        let (word, bit) = (self.len / 64, self.len % 64);
        if bit == 0 && word > 0 && self.bits.len() < word {
            self.bits.push(0);
        }
        let slot = if word == 0 { &mut self.first } else { &mut self.bits[word - 1] };
        *slot = *slot & !(1 << bit) | u64::from(object) << bit;
        self.len += 1;
    }

    fn pop(&mut self) {
        self.len -= 1;
    }

    fn top(&self) -> Option<bool> {
        let at = self.len.checked_sub(1)?;
        let word = if at < 64 { self.first } else { self.bits[at / 64 - 1] };
        Some(word >> (at % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_field_set(text: &str, plain: bool) {
        assert_eq!(is_plain_field_set(text.as_bytes()), plain, "{text}");
        if plain {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
            let mut compact = Vec::new();
            crate::json::text::compact_valid(text.as_bytes(), &mut compact);
            assert_eq!(String::from_utf8_lossy(&compact), text, "it is copied as it is");
        }
    }

    #[test]
    fn a_field_set_as_it_is_mostly_written_is_known_at_a_glance() {
        check_field_set("{}", true);
        check_field_set(r#"{"f:a":{}}"#, true);
        check_field_set(r#"{"f:a":{".":{},"f:b":{"k:{\"name\":\"x y\"}":{".":{}}}},"f:c":{}}"#, true);
        check_field_set(r#"{"v:\\":{}}"#, true);
        for other in [
            "",
            "{",
            "}",
            "{}}",
            "{{}}",
            "[]",
            "null",
            "{} ",
            " {}",
            "{},{}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1}"#,
            r#"{"a":{}"#,
            r#"{"a":{}}}"#,
            r#"{"a":{},}"#,
            r#"{,"a":{}}"#,
            r#"{"a" :{}}"#,
            r#"{"a":{} }"#,
            r#"{"a":[]}"#,
            r#"{"a":{},"b"}"#,
            r#"{"a<b":{}}"#,
            r#"{"\u0041":{}}"#,
            r#"{"\n":{}}"#,
            r#"{"ü":{}}"#,
            r#"{"a":{}"b":{}}"#,
            r#"{"a":{"b":{}}"#,
            r#"{"a\":{}}"#,
            "{\"a\nb\":{}}",
        ] {
            check_field_set(other, false);
        }
        let nested = |depth: usize| format!("{}{{}}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        check_field_set(&nested(NESTING_MAX - 1), true);
        check_field_set(&nested(NESTING_MAX), false);
    }
}
