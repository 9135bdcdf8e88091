//! JSON text of embedded values: reading what [`Value::Raw`] holds, writing compact text as Go does.

use std::fmt::Write as _;

use api_schema::{Map, SmolStr, Value};

/// How deep embedded JSON may nest; Go's decoder stops at the same depth.
const DEPTH_MAX: usize = 10_000;

/// Below this depth a tree is built by recursion; our own stack stays small.
const DEPTH_RECURSION_MAX: usize = 1_000;

/// Whether two values say the same: numbers by value, embedded text by what it holds.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Int(l), Value::Float(r)) => *l as f64 == *r,
        (Value::Float(l), Value::Int(r)) => *l == *r as f64,
        (Value::List(l), Value::List(r)) => l.len() == r.len() && l.iter().zip(r).all(|(l, r)| same(l, r)),
        (Value::Map(l), Value::Map(r)) => {
            l.len() == r.len() && l.iter().zip(r.iter()).all(|((lk, l), (rk, r))| lk == rk && same(l, r))
        }
        (Value::Raw(l), Value::Raw(r)) if l == r => true,
        (Value::Raw(text), other) | (other, Value::Raw(text)) => match parse(text) {
            Some(value) => same(&value, other),
            None => false,
        },
        _ => left == right,
    }
}

/// Replaces embedded text by the tree it stands for.
pub(crate) fn expand(value: &mut Value) {
    if let Value::Raw(text) = value
        && let Some(tree) = parse(text)
    {
        *value = tree;
    }
}

/// Appends a value as Go's `encoding/json` writes it: compact, keys sorted, `<`, `>` and `&` escaped.
pub(crate) fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bytes(_) => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Float(number) => write_float(*number, out),
        Value::Str(text) => write_string(text, true, out),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            let entries = map.iter().filter(|(key, _)| *key != api_schema::UNKNOWN);
            for (at, (key, value)) in entries.enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_string(key, true, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        Value::Raw(text) => out.push_str(text),
    }
}

fn write_float(number: f64, out: &mut String) {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        // Go writes the sign of a positive exponent.
        let _ = match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => write!(out, "{digits}e+{exponent}"),
            _ => write!(out, "{text}"),
        };
    } else {
        let _ = write!(out, "{number}");
    }
}

/// Appends a string in quotes; `html` also escapes what Go escapes for the sake of HTML.
pub(crate) fn write_string(text: &str, html: bool, out: &mut String) {
    out.push('"');
    write_escaped(text, html, out);
    out.push('"');
}

/// Appends the inside of a JSON string.
pub(crate) fn write_escaped(text: &str, html: bool, out: &mut String) {
    let plain = |byte: u8| byte >= b' ' && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&') && byte < 0x80;
    if text.bytes().all(plain) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if html => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}

/// Reads JSON text; `None` if it is malformed or nests too deep.
pub(crate) fn parse(text: &str) -> Option<Value> {
    let mut reader = Reader::new(text);
    let value = reader.value(0)?;
    reader.is_at_end().then_some(value)
}

/// A reader of JSON text, byte by byte.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no white space, not taken.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Takes the next byte that is no white space if it is `byte`.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// A string, borrowed where nothing in it is escaped.
    pub(crate) fn string(&mut self) -> Option<std::borrow::Cow<'a, str>> {
        if !self.take(b'"') {
            return None;
        }
        let start = self.at;
        let bytes = self.text.as_bytes();
        loop {
            match *bytes.get(self.at)? {
                b'"' => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Some(text.into());
                }
                b'\\' => break,
                byte if byte < b' ' => return None,
                _ => self.at += 1,
            }
        }
        let mut out = String::with_capacity(self.at - start + 16);
        out.push_str(&self.text[start..self.at]);
        loop {
            match *bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(out.into());
                }
                b'\\' => {
                    self.at += 1;
                    self.escape(&mut out)?;
                }
                byte if byte < b' ' => return None,
                _ => {
                    let rest = &self.text[self.at..];
                    let end = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
                    out.push_str(&rest[..end]);
                    self.at += end;
                }
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Option<()> {
        let byte = *self.text.as_bytes().get(self.at)?;
        self.at += 1;
        out.push(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                // A pair of surrogates is one character; a lone one becomes the replacement character, as in Go.
                let is_pair =
                    (0xd800..0xdc00).contains(&first) && self.text.as_bytes().get(self.at..self.at + 2) == Some(b"\\u");
                if is_pair {
                    let before = self.at;
                    self.at += 2;
                    let second = self.hex4()?;
                    if (0xdc00..0xe000).contains(&second) {
                        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?
                    } else {
                        self.at = before;
                        '\u{fffd}'
                    }
                } else {
                    char::from_u32(first).unwrap_or('\u{fffd}')
                }
            }
            _ => return None,
        });
        Some(())
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    }

    /// Any value as a tree.
    pub(crate) fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_RECURSION_MAX {
            return None;
        }
        match self.peek()? {
            b'"' => self.string().map(|text| Value::Str(SmolStr::new(text))),
            b'{' => {
                self.at += 1;
                let mut map = Map::new();
                if self.take(b'}') {
                    return Some(Value::Map(map));
                }
                loop {
                    self.peek()?;
                    let key = self.string()?;
                    if !self.take(b':') {
                        return None;
                    }
                    let value = self.value(depth + 1)?;
                    map.insert(SmolStr::new(key), value);
                    if self.take(b'}') {
                        return Some(Value::Map(map));
                    }
                    if !self.take(b',') {
                        return None;
                    }
                }
            }
            b'[' => {
                self.at += 1;
                let mut items = Vec::new();
                if self.take(b']') {
                    return Some(Value::List(items));
                }
                loop {
                    items.push(self.value(depth + 1)?);
                    if self.take(b']') {
                        return Some(Value::List(items));
                    }
                    if !self.take(b',') {
                        return None;
                    }
                }
            }
            b't' => self.word("true").then_some(Value::Bool(true)),
            b'f' => self.word("false").then_some(Value::Bool(false)),
            b'n' => self.word("null").then_some(Value::Null),
            _ => self.number(),
        }
    }

    /// Skips any value, without building it and without recursion.
    pub(crate) fn skip(&mut self) -> Option<()> {
        let mut open = Vec::new();
        loop {
            match self.peek()? {
                byte @ (b'{' | b'[') => {
                    self.at += 1;
                    let close = byte + 2;
                    if !self.take(close) {
                        open.push(close);
                        if open.len() > DEPTH_MAX {
                            return None;
                        }
                        if close == b'}' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                b't' if self.word("true") => {}
                b'f' if self.word("false") => {}
                b'n' if self.word("null") => {}
                _ => {
                    self.number()?;
                }
            }
            // After a value: close what ends here, go on with what does not.
            loop {
                let Some(&close) = open.last() else { return Some(()) };
                if self.take(close) {
                    open.pop();
                } else if self.take(b',') {
                    if close == b'}' {
                        self.key()?;
                    }
                    break;
                } else {
                    return None;
                }
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.string()?;
        self.take(b':').then_some(())
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn number(&mut self) -> Option<Value> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let digits = |at: &mut usize| {
            let from = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at > from
        };
        if bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else if !digits(&mut self.at) {
            return None;
        }
        let mut whole = true;
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            whole = false;
            if !digits(&mut self.at) {
                return None;
            }
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            whole = false;
            if let Some(b'+' | b'-') = bytes.get(self.at) {
                self.at += 1;
            }
            if !digits(&mut self.at) {
                return None;
            }
        }
        let text = &self.text[start..self.at];
        match text.parse::<i64>() {
            Ok(number) if whole => Some(Value::Int(number)),
            _ => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> Option<String> {
        let value = parse(text)?;
        let mut reader = Reader::new(text);
        assert_eq!(reader.skip(), Some(()), "{text}: skipping must agree with reading");
        assert!(reader.is_at_end());
        let mut out = String::new();
        write(&value, &mut out);
        Some(out)
    }

    #[test]
    fn text_is_read_and_written_compact() {
        for (text, expect) in [
            (" { \"b\" : [ 1 , -2.5 , 1e3 ] , \"a\" : { } } ", "{\"a\":{},\"b\":[1,-2.5,1000]}"),
            ("\"a<b\\u0041\\n\\ud83d\\ude00\\ud800\"", "\"a\\u003cbA\\n\u{1f600}\u{fffd}\""),
            ("[true,false,null,[]]", "[true,false,null,[]]"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9223372036854776000"),
            ("1e21", "1e+21"),
            ("1e-7", "1e-7"),
        ] {
            assert_eq!(round(text).as_deref(), Some(expect), "{text}");
        }
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in [
            "",
            "{",
            "{\"a\"}",
            "[1,]",
            "{,}",
            "01",
            "1.",
            "-",
            "\"\u{1}\"",
            "\"\\x\"",
            "nul",
            "1 2",
            "{\"a\":1,}",
            "+1",
        ] {
            assert_eq!(parse(text), None, "{text}");
            let mut reader = Reader::new(text);
            assert!(reader.skip().is_none() || !reader.is_at_end(), "{text}");
        }
        assert_eq!(parse(&"[".repeat(100_000)), None);
        assert_eq!(Reader::new(&"[".repeat(100_000)).skip(), None);
    }
}
