//! Whether bytes are a JSON object, with the words that Go's encoding/json has for what is wrong.

/// The deepest nesting that Go reads.
const DEPTH_MAX: usize = 10_000;

/// Reads bytes as Go reads them into a `map[string]interface{}`.
pub(crate) fn check_object(bytes: &[u8]) -> Result<(), String> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.document()?;
    let kind = match bytes.iter().find(|c| !is_blank(**c)) {
        Some(b'{' | b'n') => return Ok(()),
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        _ => "number",
    };
    Err(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
}

fn is_blank(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\r' | b'\n')
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nest {
    Object,
    Array,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(is_blank) {
            self.at += 1;
        }
    }

    /// The error at this byte: what it was looked at for, or that there is none.
    fn fail(&self, context: &str) -> String {
        let Some(c) = self.peek() else { return "unexpected end of JSON input".to_owned() };
        let shown = match c {
            b'\'' => "'\\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            b'\\' => "'\\\\'".to_owned(),
            b'\n' => "'\\n'".to_owned(),
            b'\r' => "'\\r'".to_owned(),
            b'\t' => "'\\t'".to_owned(),
            c if c < b' ' || c == 0x7f => format!("'\\x{c:02x}'"),
            // Go takes the byte for a code point.
            c if (0x80..0xa0).contains(&c) || c == 0xad => format!("'\\u{c:04x}'"),
            c => format!("'{}'", char::from(c)),
        };
        format!("invalid character {shown} {context}")
    }

    fn document(&mut self) -> Result<(), String> {
        let mut nests: Vec<Nest> = Vec::new();
        'value: loop {
            self.skip_blanks();
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    self.at += 1;
                    if nests.len() >= DEPTH_MAX {
                        return Err("exceeded max depth".to_owned());
                    }
                    self.skip_blanks();
                    if open == b'{' && self.peek() != Some(b'}') {
                        nests.push(Nest::Object);
                        self.key()?;
                        continue;
                    }
                    if open == b'[' && self.peek() != Some(b']') {
                        nests.push(Nest::Array);
                        continue;
                    }
                    self.at += 1;
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                _ => return Err(self.fail("looking for beginning of value")),
            }
            loop {
                self.skip_blanks();
                match (nests.last(), self.peek()) {
                    (None, None) => return Ok(()),
                    (None, Some(_)) => return Err(self.fail("after top-level value")),
                    (Some(Nest::Object), Some(b',')) => {
                        self.at += 1;
                        self.skip_blanks();
                        self.key()?;
                        continue 'value;
                    }
                    (Some(Nest::Array), Some(b',')) => {
                        self.at += 1;
                        continue 'value;
                    }
                    (Some(Nest::Object), Some(b'}')) | (Some(Nest::Array), Some(b']')) => {
                        self.at += 1;
                        nests.pop();
                    }
                    (Some(Nest::Object), _) => return Err(self.fail("after object key:value pair")),
                    (Some(Nest::Array), _) => return Err(self.fail("after array element")),
                }
            }
        }
    }

    fn key(&mut self) -> Result<(), String> {
        if self.peek() != Some(b'"') {
            return Err(self.fail("looking for beginning of object key string"));
        }
        self.string()?;
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return Err(self.fail("after object key"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => self.at += 1,
                        Some(b'u') => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
                                    return Err(self.fail("in \\u hexadecimal character escape"));
                                }
                                self.at += 1;
                            }
                        }
                        _ => return Err(self.fail("in string escape code")),
                    }
                }
                Some(c) if c >= b' ' => self.at += 1,
                _ => return Err(self.fail("in string literal")),
            }
        }
    }

    fn digits(&mut self, context: &str) -> Result<(), String> {
        if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return Err(self.fail(context));
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn literal(&mut self, literal: &str) -> Result<(), String> {
        for expected in literal.bytes() {
            if self.peek() != Some(expected) {
                let context = format!("in literal {literal} (expecting {:?})", char::from(expected));
                return Err(self.fail(&context));
            }
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_from_what_is_none() {
        for (text, expect) in [
            ("{}", ""),
            ("null", ""),
            (r#" {"a": [1, -2.5e+3, "x\u00e9", true, false, null, {}, []]} "#, ""),
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("{\"a\"", "unexpected end of JSON input"),
            ("[]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
            ("1", "json: cannot unmarshal number into Go value of type map[string]interface {}"),
            ("{a}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("{\"a\":[1 2]}", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("{\"a\":tru}", "invalid character '}' in literal true (expecting 'e')"),
            ("{\"a\":01}", "invalid character '1' after object key:value pair"),
            ("{\"a\":-}", "invalid character '}' in numeric literal"),
            ("{\"a\":\"\\x\"}", "invalid character 'x' in string escape code"),
            ("{\"a\":\"\n\"}", "invalid character '\\n' in string literal"),
        ] {
            assert_eq!(check_object(text.as_bytes()).err().unwrap_or_default(), expect, "{text}");
        }
    }
}
