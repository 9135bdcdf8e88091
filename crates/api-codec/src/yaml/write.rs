//! Trees as YAML text, laid out as libyaml's emitter (in go-yaml v2) lays them out.

use api_schema::Value;

use super::number::{Meaning, general, is_base60, resolve};
use super::read::key_order;
use crate::json::text;

/// Lines are folded at the first space beyond this column.
const WIDTH_MAX: usize = 80;
const INDENT: usize = 2;
/// Longer keys are written with `?`.
const SIMPLE_KEY_MAX: usize = 128;

/// Appends a tree as a document.
pub(super) fn document(value: &Value, out: &mut Vec<u8>) {
    let mut writer = Writer { out, column: 0, indent: None, after_space: true, in_indent: true };
    writer.node(value, Place::Root);
    writer.indent = Some(0);
    writer.new_line();
}

/// Where a node stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Item,
    /// A key or value of a map.
    Member,
    /// A key that stands on one line with its value.
    SimpleKey,
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// How many characters the line has.
    column: usize,
    /// The indentation of the innermost collection; none outside of all.
    indent: Option<usize>,
    /// Whether the last character was a space or indicator that needs none after it.
    after_space: bool,
    /// Whether the line has nothing but indentation and indicators.
    in_indent: bool,
}

impl Writer<'_> {
    fn put(&mut self, c: char) {
        self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.column += 1;
    }

    fn line_break(&mut self, c: char) {
        self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.column = 0;
    }

    /// Goes to the indentation, on a new line unless this one has only indicators so far.
    fn new_line(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.in_indent || self.column > indent || self.column == indent && !self.after_space {
            self.line_break('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        self.after_space = true;
        self.in_indent = true;
    }

    fn indicator(&mut self, text: &str, needs_space: bool, is_space: bool, is_indent: bool) {
        if needs_space && !self.after_space {
            self.put(' ');
        }
        text.chars().for_each(|c| self.put(c));
        self.after_space = is_space;
        self.in_indent = self.in_indent && is_indent;
    }

    fn node(&mut self, value: &Value, place: Place) {
        match value {
            Value::Map(map) if map.is_empty() => {
                self.indicator("{", true, true, false);
                self.indicator("}", false, false, false);
            }
            Value::List(items) if items.is_empty() => {
                self.indicator("[", true, true, false);
                self.indicator("]", false, false, false);
            }
            Value::Map(map) => {
                let outer = self.indent;
                self.indent = Some(outer.map_or(0, |indent| indent + INDENT));
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by(|a, b| key_order(a.0, b.0));
                for (key, value) in entries {
                    self.member(key, value);
                }
                self.indent = outer;
            }
            Value::List(items) => {
                let outer = self.indent;
                // The list of a key is not indented, for the dashes make it plain enough.
                let flat = place == Place::Member && !self.in_indent;
                self.indent = Some(outer.map_or(0, |indent| if flat { indent } else { indent + INDENT }));
                for item in items {
                    self.new_line();
                    self.indicator("-", true, false, true);
                    self.node(item, Place::Item);
                }
                self.indent = outer;
            }
            Value::Str(string) => self.string(string, place),
            Value::Bool(flag) => self.scalar(if *flag { "true" } else { "false" }, Style::Plain, place),
            Value::Int(number) => self.scalar(&number.to_string(), Style::Plain, place),
            Value::Float(number) => self.scalar(&float(*number), Style::Plain, place),
            Value::Null | Value::Raw(_) | Value::Bytes(_) => self.scalar("null", Style::Plain, place),
        }
    }

    fn member(&mut self, key: &str, value: &Value) {
        self.new_line();
        if !key.contains(is_break) && key.len() <= SIMPLE_KEY_MAX {
            self.string(key, Place::SimpleKey);
            self.indicator(":", false, false, false);
        } else {
            self.indicator("?", true, false, true);
            self.string(key, Place::Member);
            self.new_line();
            self.indicator(":", true, false, true);
        }
        self.node(value, Place::Member);
    }

    fn string(&mut self, string: &str, place: Place) {
        let style = if string.contains('\n') && string.contains(['\u{2028}', '\u{2029}']) {
            // go-yaml indents behind each of them; to YAML 1.2 that indentation would be part of the string.
            Style::Double
        } else if string.contains('\n') {
            Style::Literal
        } else if resolve(string) == Meaning::Text && !is_base60(string) && !looks_like_time(string) {
            Style::Plain
        } else {
            Style::Double
        };
        self.scalar(string, style, place);
    }

    fn scalar(&mut self, string: &str, wanted: Style, place: Place) {
        let allowed = Allowed::in_block(string);
        let simple_key = place == Place::SimpleKey;
        let mut style = wanted;
        if style == Style::Plain && (!allowed.plain || string.is_empty() && simple_key) {
            style = Style::Single;
        }
        if style == Style::Single && !allowed.single {
            style = Style::Double;
        }
        if style == Style::Literal && (!allowed.literal || simple_key) {
            style = Style::Double;
        }
        let outer = self.indent;
        self.indent = Some(outer.map_or(INDENT, |indent| indent + INDENT));
        match style {
            Style::Plain => self.plain(string, !simple_key),
            Style::Single => self.single_quoted(string, !simple_key),
            Style::Double => self.double_quoted(string, !simple_key),
            Style::Literal => self.literal(string),
        }
        self.indent = outer;
    }

    fn plain(&mut self, string: &str, may_fold: bool) {
        if !self.after_space {
            self.put(' ');
        }
        let mut after_space = false;
        let mut chars = string.chars().peekable();
        while let Some(c) = chars.next() {
            if c == ' ' {
                if may_fold && !after_space && self.column > WIDTH_MAX && chars.peek() != Some(&' ') {
                    self.new_line();
                } else {
                    self.put(c);
                }
                after_space = true;
            } else {
                self.put(c);
                self.in_indent = false;
                after_space = false;
            }
        }
        self.after_space = false;
        self.in_indent = false;
    }

    fn single_quoted(&mut self, string: &str, may_fold: bool) {
        self.indicator("'", true, false, false);
        let (mut after_space, mut after_break) = (false, false);
        let mut chars = string.chars().enumerate().peekable();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, c)| *c);
            if c == ' ' {
                let inside = at > 0 && next.is_some_and(|next| next != ' ');
                if may_fold && !after_space && self.column > WIDTH_MAX && inside {
                    self.new_line();
                } else {
                    self.put(c);
                }
                after_space = true;
            } else if is_break(c) {
                if !after_break && c == '\n' {
                    self.line_break('\n');
                }
                self.line_break(c);
                self.in_indent = true;
                after_break = true;
            } else {
                if after_break {
                    self.new_line();
                }
                if c == '\'' {
                    self.put('\'');
                }
                self.put(c);
                self.in_indent = false;
                (after_space, after_break) = (false, false);
            }
        }
        self.indicator("'", false, false, false);
        self.after_space = false;
        self.in_indent = false;
    }

    fn double_quoted(&mut self, string: &str, may_fold: bool) {
        self.indicator("\"", true, false, false);
        let mut after_space = false;
        let mut chars = string.chars().enumerate().peekable();
        while let Some((at, c)) = chars.next() {
            if c == ' ' {
                let next = chars.peek().map(|(_, c)| *c);
                if may_fold && !after_space && self.column > WIDTH_MAX && at > 0 && next.is_some() {
                    self.new_line();
                    if next == Some(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
                after_space = true;
                continue;
            }
            after_space = false;
            if is_printable(c) && !is_break(c) && !matches!(c, '"' | '\\') {
                self.put(c);
                continue;
            }
            let name = match c {
                '\0' => '0',
                '\x07' => 'a',
                '\x08' => 'b',
                '\t' => 't',
                '\n' => 'n',
                '\x0b' => 'v',
                '\x0c' => 'f',
                '\r' => 'r',
                '\x1b' => 'e',
                '"' => '"',
                '\\' => '\\',
                '\u{85}' => 'N',
                '\u{a0}' => '_',
                '\u{2028}' => 'L',
                '\u{2029}' => 'P',
                _ => {
                    let code = u32::from(c);
                    let escape = match code {
                        0..0x100 => format!("\\x{code:02X}"),
                        0x100..0x1_0000 => format!("\\u{code:04X}"),
                        0x1_0000.. => format!("\\U{code:08X}"),
                    };
                    escape.chars().for_each(|c| self.put(c));
                    continue;
                }
            };
            self.put('\\');
            self.put(name);
        }
        self.indicator("\"", false, false, false);
        self.after_space = false;
        self.in_indent = false;
    }

    fn literal(&mut self, string: &str) {
        self.indicator("|", true, false, false);
        if string.starts_with(|c| c == ' ' || is_break(c)) {
            self.indicator("2", false, false, false);
        }
        let mut ending = string.chars().rev();
        match (ending.next().map(is_break), ending.next().map(is_break)) {
            (Some(false) | None, _) => self.indicator("-", false, false, false),
            (Some(true), None | Some(true)) => self.indicator("+", false, false, false),
            (Some(true), Some(false)) => {}
        }
        self.line_break('\n');
        self.in_indent = true;
        self.after_space = true;
        let mut after_break = true;
        for c in string.chars() {
            if is_break(c) {
                self.line_break(c);
                self.in_indent = true;
                after_break = true;
            } else {
                if after_break {
                    self.new_line();
                }
                self.put(c);
                self.in_indent = false;
                after_break = false;
            }
        }
    }
}

/// In which styles a scalar outside of brackets can be written.
struct Allowed {
    plain: bool,
    single: bool,
    literal: bool,
}

impl Allowed {
    fn in_block(string: &str) -> Self {
        let mut indicators = string.starts_with("---") || string.starts_with("...");
        let (mut has_breaks, mut special, mut space_then_break, mut break_then_space) = (false, false, false, false);
        let (mut after_blank, mut after_space, mut after_break) = (true, false, false);
        let mut chars = string.chars().enumerate().peekable();
        while let Some((at, c)) = chars.next() {
            let before_blank = chars.peek().is_none_or(|(_, next)| matches!(next, ' ' | '\t'));
            indicators |= match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
                    if at == 0 =>
                {
                    true
                }
                '?' | '-' if at == 0 => before_blank,
                ':' => before_blank,
                '#' => after_blank,
                _ => false,
            };
            special |= !is_printable(c);
            if c == ' ' {
                break_then_space |= after_break;
                (after_space, after_break) = (true, false);
            } else if is_break(c) {
                has_breaks = true;
                space_then_break |= after_space;
                (after_space, after_break) = (false, true);
            } else {
                (after_space, after_break) = (false, false);
            }
            after_blank = matches!(c, ' ' | '\t' | '\0') || is_break(c);
        }
        let at_edge = |c: Option<char>| c.is_some_and(|c| c == ' ' || is_break(c));
        let padded = at_edge(string.chars().next()) || at_edge(string.chars().next_back());
        let mixed = space_then_break || special;
        Self {
            plain: !(indicators || has_breaks || padded || mixed || break_then_space),
            single: !(mixed || break_then_space),
            literal: !string.is_empty() && !string.ends_with(' ') && !mixed,
        }
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What go-yaml writes unescaped; it takes what is beyond 16 bits for unprintable.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

/// A float read from JSON: what has no fraction and fits is a whole number there.
fn float(number: f64) -> String {
    let mut json = Vec::new();
    text::float(number, &mut json);
    let json = String::from_utf8(json).unwrap_or_default();
    match resolve(&json) {
        Meaning::Int(_) | Meaning::Uint(_) => json,
        _ => general(number, &format!("{number:e}")),
    }
}

/// Whether go-yaml would take a text for a date or time, which it then quotes.
fn looks_like_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return false;
    }
    let Some((date, clock)) = split_date(text) else { return false };
    date && (clock.is_empty() || is_clock(clock))
}

/// Reads `2006-1-2`: whether that is a day, and what comes after it.
fn split_date(text: &str) -> Option<(bool, &str)> {
    let number = |text: &str| {
        let digits = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
        text[..digits].parse::<u32>().ok().map(|number| (number, digits))
    };
    let year: u32 = text[..4].parse().ok()?;
    let rest = &text[5..];
    let (month, digits) = number(rest)?;
    let rest = rest[digits..].strip_prefix('-')?;
    let (day, digits) = number(rest)?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    Some(((1..=days).contains(&day), &rest[digits..]))
}

/// Whether a text after a date is a time: `T15:4:5.9Z`, `t...+01:00`, or ` 15:4:5.9` without zone.
fn is_clock(text: &str) -> bool {
    let (zoned, rest) = match text.as_bytes()[0] {
        b'T' | b't' => (true, &text[1..]),
        b' ' => (false, &text[1..]),
        _ => return false,
    };
    let mut rest = rest;
    for (index, bound) in [24, 60, 60].into_iter().enumerate() {
        if index > 0 {
            let Some(after) = rest.strip_prefix(':') else { return false };
            rest = after;
        }
        let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        match rest[..digits].parse::<u32>() {
            Ok(number) if number < bound => rest = &rest[digits..],
            _ => return false,
        }
    }
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            rest = &fraction[digits..];
        }
    }
    match (zoned, rest.as_bytes()) {
        (false, []) | (true, [b'Z']) => true,
        (true, [b'+' | b'-', h1, h2, b':', m1, m2]) => {
            let two = |a: &u8, b: &u8| (a.is_ascii_digit() && b.is_ascii_digit()).then(|| (a - b'0') * 10 + b - b'0');
            two(h1, h2).is_some_and(|hours| hours <= 24) && two(m1, m2).is_some_and(|minutes| minutes <= 60)
        }
        _ => false,
    }
}
