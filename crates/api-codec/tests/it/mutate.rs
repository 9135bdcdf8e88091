//! Changes inputs at random, by a seed.

use serde_json::{Value as Json, json};

/// A source of changes that is the same for the same seed.
pub(crate) struct Mutator {
    random: fastrand::Rng,
}

/// Texts that some reader treats in a way of its own.
const STRINGS: &[&str] = &[
    "",
    "a",
    "0",
    "1",
    "-1",
    "1.5",
    "100m",
    "1000m",
    "1Gi",
    "1024Ki",
    "1e3",
    "0.1",
    "2k",
    "true",
    "null",
    "yes",
    "~",
    "2024-02-29T12:00:00Z",
    "2024-02-29T12:00:00.123456Z",
    "2024-02-29T12:00:00+01:00",
    "2023-02-29T12:00:00Z",
    "0001-01-01T00:00:00Z",
    "2024-01-01",
    "50%",
    "aGVsbG8=",
    "aGVsbG8",
    "aGVs\nbG8=",
    "a: b",
    "a #b",
    "- a",
    "a\nb",
    "a\n",
    " a",
    "a ",
    "\t",
    "<&>",
    "\u{2028}",
    "\u{e9}",
    "\u{1f600}",
    "\u{7f}",
    "\u{1}",
    "\"\\",
    "0x10",
    "010",
    "1:30",
    "the quick brown fox jumps over the lazy dog and then it does so again and again until the line is long",
];

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    fn value(&mut self) -> Json {
        match self.random.u8(0..14) {
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
            10 => json!([self.string(), 1]),
            11 => json!({"a": self.string(), "name": "x"}),
            _ => json!(self.string()),
        }
    }

    fn string(&mut self) -> &'static str {
        STRINGS[self.random.usize(..STRINGS.len())]
    }

    /// Changes a few values, keys or items of a JSON text.
    pub(crate) fn tree(&mut self, text: &[u8]) -> Vec<u8> {
        let mut tree: Json = serde_json::from_slice(text).expect("JSON");
        for _ in 0..self.random.usize(1..4) {
            let places = count(&tree);
            let mut place = self.random.usize(..places);
            self.change(&mut tree, &mut place);
        }
        tree.to_string().into_bytes()
    }

    /// Walks to the value at a place, and changes it.
    fn change(&mut self, tree: &mut Json, place: &mut usize) -> bool {
        if *place == 0 {
            match (self.random.u8(0..4), &mut *tree) {
                (0, Json::Object(map)) => {
                    map.insert("unknownField".into(), self.value());
                }
                (1, Json::Object(map)) if !map.is_empty() => {
                    let key = map.keys().nth(self.random.usize(..map.len())).cloned().unwrap_or_default();
                    map.remove(&key);
                }
                (0, Json::Array(items)) => items.push(self.value()),
                (1, Json::Array(items)) => items.clear(),
                _ => *tree = self.value(),
            }
            return true;
        }
        *place -= 1;
        match tree {
            Json::Object(map) => map.values_mut().any(|value| self.change(value, place)),
            Json::Array(items) => items.iter_mut().any(|item| self.change(item, place)),
            _ => false,
        }
    }

    /// Changes a few bytes of a text.
    pub(crate) fn text(&mut self, text: &[u8]) -> Vec<u8> {
        const PIECES: &[&[u8]] = &[
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"\"",
            b"\\",
            b"\\u12",
            b"\\ud83d\\ude00",
            b"\\ud800",
            b" ",
            b"\n",
            b"\0",
            b"null",
            b"true",
            b"fals",
            b"1",
            b"-",
            b"0",
            b".5",
            b"e9",
            b"\xff",
            b"\xe2\x80",
            b"\"kind\":\"x\",",
            b"\x1f",
        ];
        let mut text = text.to_vec();
        for _ in 0..self.random.usize(1..3) {
            let at = self.random.usize(..=text.len());
            let end = (at + self.random.usize(..12)).min(text.len());
            match self.random.u8(0..5) {
                0 => text.truncate(at),
                1 => {
                    text.drain(at..end);
                }
                2 => {
                    let piece = text[at..end].to_vec();
                    let to = self.random.usize(..=text.len());
                    text.splice(to..to, piece);
                }
                _ => {
                    let piece = PIECES[self.random.usize(..PIECES.len())];
                    text.splice(at..(at + self.random.usize(..2)).min(text.len()), piece.iter().copied());
                }
            }
        }
        text
    }

    /// Changes a few pieces of a YAML text, so that it mostly stays one.
    pub(crate) fn yaml(&mut self, text: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(text);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for _ in 0..self.random.usize(1..3) {
            if lines.is_empty() {
                break;
            }
            let at = self.random.usize(..lines.len());
            match self.random.u8(0..6) {
                0 => {
                    lines.remove(at);
                }
                1 => lines.insert(at, "# a comment".into()),
                2 => {
                    let copy = lines[at].clone();
                    lines.insert(at, copy);
                }
                3 => lines[at].push_str(" # so"),
                _ => {
                    let key = lines[at].split(": ").next().unwrap_or_default().to_owned();
                    let value = self.string();
                    // A line separator is a new line to YAML 1.1, and not to 1.2.
                    if !value.contains(['\n', '\u{2028}']) {
                        lines[at] = format!("{key}: {value}");
                    }
                }
            }
        }
        (lines.join("\n") + "\n").into_bytes()
    }

    /// Changes a few bytes of a message.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..self.random.usize(1..5) {
            if bytes.is_empty() {
                break;
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
        }
        bytes
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.usize(..bound)
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
