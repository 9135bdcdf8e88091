//! Changes good inputs so that most of them stay nearly good.

use fastrand::Rng;
use serde_json::{Value as Json, json};

/// What an input looks like.
#[derive(Clone, Copy, Debug)]
pub enum Dialect {
    /// Lines, each JSON or text; with the words that text is made of.
    Lines(&'static [&'static str]),
    /// YAML.
    Yaml,
    /// Protobuf.
    Message,
}

/// What YAML is made of.
const YAML_WORDS: &[&str] = &[
    ": ",
    "- ",
    "? ",
    "\n",
    "\n  ",
    "  ",
    "\t",
    "|\n",
    ">-\n",
    "|2+\n",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "!!binary ",
    "!!int ",
    "!x ",
    "# c",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "~",
    "yes",
    "0o7",
    "0b1",
    "1_0",
    ".nan",
    "-.inf",
    "1e3",
    "\u{2028}",
    "\u{85}",
    "\u{feff}",
    "é",
    "\0",
    "\\x",
    "\"\\u12\"",
    "=",
    "<<",
];

/// Strings that some readers take for something else.
const STRINGS: &[&str] = &[
    "",
    "a",
    "name",
    "null",
    "true",
    "yes",
    "1",
    "-0",
    "1e3",
    "0x1f",
    "~",
    " a ",
    "a: b",
    "- a",
    "a\nb",
    "\t",
    "#",
    "\u{0}",
    "\u{7f}",
    "\u{2028}",
    "é",
    "😀",
    "<&>",
    "\"\\",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.000001Z",
    "1500m",
    "50%",
    "AAAA",
    "v1",
    "Pod",
    "/metadata/labels/a~1b",
    "/spec/containers/0",
    "$patch",
    "delete",
    "replace",
    "merge",
];

/// Keys with a meaning to some decoder.
const KEYS: &[&str] = &[
    "unknownField",
    "apiVersion",
    "kind",
    "Kind",
    "metadata",
    "name",
    "labels",
    "resourceVersion",
    "managedFields",
    "spec",
    "status",
    "containers",
    "ports",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "f:metadata",
    "k:{\"name\":\"a\"}",
    "v:1",
    ".",
    "",
    "op",
    "path",
    "from",
    "value",
];

/// Makes changed inputs, the same ones for the same seed.
#[derive(Debug)]
pub struct Mutator {
    random: Rng,
}

impl Mutator {
    /// A mutator of a seed.
    pub fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed) }
    }

    /// One of the good inputs, changed.
    pub fn change(&mut self, dialect: Dialect, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.one(seeds).clone();
        for _ in 0..self.random.usize(1..4) {
            input = match dialect {
                Dialect::Lines(words) => {
                    let other = self.one(seeds).clone();
                    self.lines(&input, &other, words)
                }
                Dialect::Yaml => match self.random.u8(..4) {
                    0 => self.text(&input, YAML_WORDS),
                    _ => self.yaml(&input),
                },
                Dialect::Message => match self.random.u8(..3) {
                    0 => self.bytes(&input),
                    _ => self.message(&input),
                },
            };
        }
        input
    }

    fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.random.usize(..all.len())]
    }

    /// Changes one line, as JSON if it is; or drops, doubles or borrows a line.
    fn lines(&mut self, input: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let at = self.random.usize(..lines.len());
        match self.random.u8(..24) {
            0 => drop(lines.remove(at)),
            1 => {
                let again = lines[at].clone();
                lines.insert(at, again);
            }
            2 => {
                let others: Vec<&[u8]> = other.split(|byte| *byte == b'\n').collect();
                lines[at] = others.get(at).copied().unwrap_or_default().to_vec();
            }
            _ => {
                let tree = serde_json::from_slice::<Json>(&lines[at]).ok().filter(|_| self.random.u8(..4) > 0);
                lines[at] = match tree {
                    Some(tree) => self.tree(tree),
                    None => self.text(&lines[at], words),
                };
            }
        }
        lines.join(&b'\n')
    }

    fn value(&mut self) -> Json {
        match self.random.u8(0..15) {
            0 => Json::Null,
            1 => json!(self.random.bool()),
            2 => json!(0),
            3 => json!(self.random.i32(..)),
            4 => json!(self.random.i64(..)),
            5 => json!(i64::MAX),
            6 => json!(1.5),
            7 => json!(-1e-7),
            8 => json!([]),
            9 => json!({}),
            10 => json!([*self.one(STRINGS), 1, null]),
            11 => json!({"name": *self.one(STRINGS), (*self.one(KEYS)): *self.one(STRINGS)}),
            _ => json!(*self.one(STRINGS)),
        }
    }

    /// Changes a value, key or item of a JSON tree.
    fn tree(&mut self, mut tree: Json) -> Vec<u8> {
        let mut place = self.random.usize(..count(&tree));
        self.change_at(&mut tree, &mut place);
        tree.to_string().into_bytes()
    }

    /// Walks to the value at a place, and changes it.
    fn change_at(&mut self, tree: &mut Json, place: &mut usize) -> bool {
        if *place == 0 {
            match (self.random.u8(0..5), &mut *tree) {
                (0 | 1, Json::Object(map)) => {
                    map.insert((*self.one(KEYS)).into(), self.value());
                }
                (2, Json::Object(map)) if !map.is_empty() => {
                    let at = self.random.usize(..map.len());
                    let key = map.keys().nth(at).cloned().unwrap_or_default();
                    map.remove(&key);
                }
                (0, Json::Array(items)) => items.push(self.value()),
                (1, Json::Array(items)) if !items.is_empty() => {
                    let item = self.one(items).clone();
                    items.push(item);
                }
                (2, Json::Array(items)) => items.clear(),
                _ => *tree = self.value(),
            }
            return true;
        }
        *place -= 1;
        match tree {
            Json::Object(map) => map.values_mut().any(|value| self.change_at(value, place)),
            Json::Array(items) => items.iter_mut().any(|item| self.change_at(item, place)),
            _ => false,
        }
    }

    /// Changes a few bytes of a text.
    fn text(&mut self, text: &[u8], words: &[&str]) -> Vec<u8> {
        let mut text = text.to_vec();
        let at = self.random.usize(..=text.len());
        let end = (at + self.random.usize(..12)).min(text.len());
        match self.random.u8(0..8) {
            0 => text.truncate(at),
            1 => drop(text.drain(at..end)),
            2 => {
                let piece = text[at..end].to_vec();
                let to = self.random.usize(..=text.len());
                text.splice(to..to, piece);
            }
            3 => text.insert(at, self.random.u8(..)),
            _ => {
                let word = *self.one(words);
                text.splice(at..(at + self.random.usize(..2)).min(text.len()), word.bytes());
            }
        }
        text
    }

    /// Changes a piece of a YAML text, so that it mostly stays one.
    fn yaml(&mut self, text: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(text);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.is_empty() {
            return YAML_WORDS[self.random.usize(..YAML_WORDS.len())].into();
        }
        let at = self.random.usize(..lines.len());
        let key = lines[at].split(": ").next().unwrap_or_default().to_owned();
        match self.random.u8(0..8) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, "# a comment".into()),
            2 => {
                let copy = lines[at].clone();
                lines.insert(at, copy);
            }
            3 => lines[at].push_str(" # so"),
            4 => lines[at] = format!("{key}: &a {}", *self.one(STRINGS)),
            5 => lines[at] = format!("{key}: *a"),
            6 => lines[at].insert_str(0, "  "),
            _ => lines[at] = format!("{key}: {}", *self.one(STRINGS)),
        }
        (lines.join("\n") + "\n").into_bytes()
    }

    /// Changes a few bytes.
    fn bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if bytes.is_empty() {
            return vec![self.random.u8(..)];
        }
        let at = self.random.usize(..bytes.len());
        match self.random.u8(0..5) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << self.random.u8(0..8),
            2 => bytes[at] = self.random.u8(..),
            3 => bytes.insert(at, self.random.u8(..)),
            _ => {
                let end = (at + self.random.usize(..40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
        bytes
    }

    /// Changes a field somewhere in an enveloped message; the lengths around it stay right.
    fn message(&mut self, bytes: &[u8]) -> Vec<u8> {
        match bytes.strip_prefix(b"k8s\0") {
            Some(message) => [b"k8s\0".as_slice(), &self.fields(message, 0)].concat(),
            None => self.bytes(bytes),
        }
    }

    fn fields(&mut self, message: &[u8], depth: usize) -> Vec<u8> {
        let Some(mut fields) = fields_of(message) else { return self.bytes(message) };
        if fields.is_empty() {
            return vec![0x0a, 0];
        }
        let at = self.random.usize(..fields.len());
        match self.random.u8(0..8) {
            0 => drop(fields.remove(at)),
            1 => {
                let again = fields[at].clone();
                fields.insert(at, again);
            }
            2 => {
                let to = self.random.usize(..fields.len());
                fields.swap(at, to);
            }
            3 => fields[at].0 = u64::from(self.random.u8(..)),
            _ => {
                if fields[at].0 & 7 == 2 && depth < 12 {
                    let inner = fields[at].1.clone();
                    fields[at].1 = self.fields(&inner, depth + 1);
                } else {
                    fields[at].1 = self.bytes(&fields[at].1.clone());
                }
            }
        }
        let mut out = Vec::new();
        for (key, value) in fields {
            varint(key, &mut out);
            if key & 7 == 2 {
                varint(value.len() as u64, &mut out);
            }
            out.extend(value);
        }
        out
    }
}

/// How many values a tree has.
fn count(tree: &Json) -> usize {
    1 + match tree {
        Json::Object(map) => map.values().map(count).sum::<usize>(),
        Json::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// The fields of a message, each with its key and its bytes; none if it is no message.
fn fields_of(message: &[u8]) -> Option<Vec<(u64, Vec<u8>)>> {
    let (mut fields, mut rest) = (Vec::new(), message);
    while !rest.is_empty() {
        let key = read_varint(&mut rest)?;
        let length = match key & 7 {
            0 => {
                let mut after = rest;
                read_varint(&mut after)?;
                rest.len() - after.len()
            }
            1 => 8,
            2 => usize::try_from(read_varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, after) = rest.split_at_checked(length)?;
        fields.push((key, value.to_vec()));
        rest = after;
    }
    Some(fields)
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
