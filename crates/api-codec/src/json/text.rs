//! The pieces of JSON text: strings escaped as Go escapes them, numbers, compact and indented forms.

use std::borrow::Cow;

/// Writes a string with its quotes. Bytes that are no UTF-8 become `\ufffd` each, as in Go; the answer is whether all
/// are.
#[inline]
pub(crate) fn string(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.push(b'"');
    let valid = string_content(bytes, out);
    out.push(b'"');
    valid
}

/// [`string`] without the quotes.
#[inline]
pub(crate) fn string_content(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let clean = super::bytes::clean(bytes);
    out.extend_from_slice(&bytes[..clean]);
    clean == bytes.len() || escaped(&bytes[clean..], out)
}

#[inline(never)]
fn escaped(mut bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let mut valid = true;
    while let Some(&byte) = bytes.first() {
        let mut taken = 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 | b'<' | b'>' | b'&' => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => match first_char(bytes) {
                Some('\u{2028}') => {
                    out.extend_from_slice(b"\\u2028");
                    taken = 3;
                }
                Some('\u{2029}') => {
                    out.extend_from_slice(b"\\u2029");
                    taken = 3;
                }
                Some(c) => {
                    taken = c.len_utf8();
                    out.extend_from_slice(&bytes[..taken]);
                }
                None => {
                    out.extend_from_slice(b"\\ufffd");
                    valid = false;
                }
            },
        }
        bytes = &bytes[taken..];
        let clean = super::bytes::clean(bytes);
        out.extend_from_slice(&bytes[..clean]);
        bytes = &bytes[clean..];
    }
    valid
}

/// The character that bytes begin with, if they begin with a whole one.
fn first_char(bytes: &[u8]) -> Option<char> {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
    };
    valid.chars().next()
}

/// Bytes as text, each byte that is no UTF-8 replaced by U+FFFD, as Go does.
pub(crate) fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut text = String::with_capacity(bytes.len() + 8);
            let mut rest = bytes;
            while !rest.is_empty() {
                match std::str::from_utf8(rest) {
                    Ok(valid) => {
                        text.push_str(valid);
                        break;
                    }
                    Err(error) => {
                        let (valid, bad) = rest.split_at(error.valid_up_to());
                        text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                        text.push('\u{fffd}');
                        rest = &bad[1..];
                    }
                }
            }
            Cow::Owned(text)
        }
    }
}

/// The text of a string literal without its quotes; the literal is known to be well-formed JSON.
pub(crate) fn unescaped(literal: &str) -> Cow<'_, str> {
    let Some(first) = literal.find('\\') else { return Cow::Borrowed(literal) };
    let mut text = String::with_capacity(literal.len());
    text.push_str(&literal[..first]);
    let mut rest = &literal[first..];
    while let Some(escape) = rest.find('\\') {
        text.push_str(&rest[..escape]);
        let mut taken = 2;
        match rest.as_bytes().get(escape + 1) {
            Some(b'b') => text.push('\u{8}'),
            Some(b'f') => text.push('\u{c}'),
            Some(b'n') => text.push('\n'),
            Some(b'r') => text.push('\r'),
            Some(b't') => text.push('\t'),
            Some(b'u') => {
                taken = 6;
                let unit = hex4(rest, escape);
                // A pair of surrogates is one character, a lone one is none.
                let c = match unit {
                    0xd800..0xdc00 => match hex4(rest, escape + 6) {
                        low @ 0xdc00..0xe000 => {
                            taken = 12;
                            char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
                        }
                        _ => None,
                    },
                    unit => char::from_u32(unit),
                };
                text.push(c.unwrap_or('\u{fffd}'));
            }
            Some(other) => text.push(char::from(*other)),
            None => break,
        }
        rest = rest.get(escape + taken..).unwrap_or_default();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The number of `\uXXXX` at a position; out of the range of characters if there is none.
fn hex4(text: &str, at: usize) -> u32 {
    text.get(at..at + 6)
        .and_then(|escape| escape.strip_prefix("\\u"))
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .unwrap_or(u32::MAX)
}

/// Writes a whole number.
#[inline]
pub(crate) fn int(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes a floating point number as Go's encoder: the shortest digits that read back, with an exponent only below
/// 1e-6 and from 1e21 on. Go refuses infinities and NaN; they cannot come from JSON, and show as null.
pub(crate) fn float(number: f64, out: &mut Vec<u8>) {
    if !number.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    let size = number.abs();
    let text = if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        }
    } else {
        format!("{number}")
    };
    out.extend_from_slice(text.as_bytes());
}

/// Writes embedded JSON text as Go's encoder does: without space between the tokens, HTML characters escaped. The text
/// is known to be JSON.
pub(crate) fn compact_valid(text: &[u8], out: &mut Vec<u8>) {
    // Mostly the text is compact, for we have written it.
    if super::bytes::compact(text) == text.len() {
        out.extend_from_slice(text);
    } else {
        copy_tokens(text, out, escape_html);
    }
}

/// The text as [`api_schema::Value::Raw`] holds it: without space between its tokens and without the escapes that Go
/// adds for HTML, so that what was written and read again is the same.
pub(crate) fn stripped(text: &str) -> Box<str> {
    let mut out = Vec::with_capacity(text.len());
    copy_tokens(text.as_bytes(), &mut out, |string, out| match has_unicode_escapes(string) {
        true => unescape_html(string, out),
        false => out.extend_from_slice(string),
    });
    // Only spaces have been taken out, and whole characters put in.
    String::from_utf8(out).unwrap_or_default().into()
}

/// Whether a text may have escapes such as `\u003c`.
pub(crate) fn has_unicode_escapes(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"\\u").is_some()
}

/// Copies a string literal, with the escapes undone that [`escape_html`] makes.
fn unescape_html(literal: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = literal.get(at) {
        let escape = literal.get(at..at + 6).filter(|escape| byte == b'\\' && escape[1] == b'u');
        let code = escape
            .and_then(|escape| std::str::from_utf8(&escape[2..]).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let plain = match code {
            Some(0x3c) => Some("<"),
            Some(0x3e) => Some(">"),
            Some(0x26) => Some("&"),
            Some(0x2028) => Some("\u{2028}"),
            Some(0x2029) => Some("\u{2029}"),
            _ => None,
        };
        at += match (plain, byte) {
            (Some(plain), _) => {
                out.extend_from_slice(plain.as_bytes());
                6
            }
            (None, b'\\') => {
                let pair = &literal[at..literal.len().min(at + 2)];
                out.extend_from_slice(pair);
                pair.len()
            }
            (None, _) => {
                out.push(byte);
                1
            }
        };
    }
}

fn copy_tokens(text: &[u8], out: &mut Vec<u8>, put_string: impl Fn(&[u8], &mut Vec<u8>)) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let end = match byte {
            b'"' => string_end(text, at),
            _ => at + 1,
        };
        match byte {
            b'"' => put_string(&text[at..end], out),
            b' ' | b'\n' | b'\t' | b'\r' => {}
            _ => out.push(byte),
        }
        at = end;
    }
}

/// The end of the string that begins at `at`, in text that is known to be JSON.
pub(crate) fn string_end(text: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    loop {
        at += super::bytes::unquoted(&text[at.min(text.len())..]);
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') | None => return (at + 1).min(text.len()),
            // A control character cannot be in well-formed text; pass it on rather than stand still.
            Some(_) => at += 1,
        }
    }
}

/// Copies a string literal, with the characters escaped that Go's `json.Compact` for HTML escapes.
fn escape_html(literal: &[u8], out: &mut Vec<u8>) {
    let mut copied = 0;
    for (at, byte) in literal.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'<' => b"\\u003c",
            b'>' => b"\\u003e",
            b'&' => b"\\u0026",
            0xe2 if literal[at..].starts_with("\u{2028}".as_bytes()) => b"\\u2028",
            0xe2 if literal[at..].starts_with("\u{2029}".as_bytes()) => b"\\u2029",
            _ => continue,
        };
        out.extend_from_slice(&literal[copied..at]);
        out.extend_from_slice(escape);
        copied = at + if *byte == 0xe2 { 3 } else { 1 };
    }
    out.extend_from_slice(&literal[copied..]);
}

/// Indents compact JSON by two spaces.
pub(crate) fn pretty(text: &[u8], out: &mut Vec<u8>) {
    let newline = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let mut end = at + 1;
        match byte {
            b'"' => {
                end = string_end(text, at);
                out.extend_from_slice(&text[at..end]);
            }
            b'{' | b'[' => {
                out.push(byte);
                match text.get(end) {
                    Some(close @ (b'}' | b']')) => {
                        out.push(*close);
                        end += 1;
                    }
                    _ => {
                        depth += 1;
                        newline(out, depth);
                    }
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                newline(out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                newline(out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => out.push(byte),
        }
        at = end;
    }
}
