//! YAML to JSON text, with go-yaml v2's rules.

use std::borrow::Cow;
use std::collections::HashMap;

use api_semantics::field::quoted;
use base64::Engine;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use super::number::{Meaning, general, resolve};
use crate::json::{TREE_DEPTH_MAX, text};

/// What a YAML text says as JSON.
#[derive(Default)]
pub(super) struct Read {
    pub(super) json: Vec<u8>,
    /// Keys that a map has twice, in go-yaml's words.
    pub(super) duplicates: Vec<String>,
}

/// How much text aliases may repeat.
const ALIASED_BYTES_MAX: usize = 16 << 20;

/// How many doubled keys are reported.
const DUPLICATES_MAX: usize = crate::json::PROBLEMS_MAX;

/// What ends a line in YAML 1.1, and not in 1.2.
const SEPARATORS: [char; 2] = ['\u{2028}', '\u{2029}'];

type Result<T> = std::result::Result<T, String>;

pub(super) fn to_json(input: &[u8]) -> Result<Read> {
    let input = utf8(input)?;
    if input.chars().any(is_forbidden) {
        return Err("yaml: control characters are not allowed".into());
    }
    check_version(input)?;
    let document = Document::parse(input)?;
    let mut writer = Writer {
        document: &document,
        read: Read::default(),
        duplicates: Vec::new(),
        nodes: 0,
        aliased_nodes: 0,
        aliased_bytes: 0,
        aliases: Vec::new(),
    };
    match document.root {
        Some(root) => writer.node(root, 0)?,
        None => writer.read.json.extend_from_slice(b"null"),
    }
    // go-yaml finds a doubled key when it has read the value.
    writer.duplicates.sort_by_key(|(value, _)| (document.nodes[*value].end, std::cmp::Reverse(*value)));
    writer.read.duplicates = writer.duplicates.into_iter().map(|(_, text)| text).collect();
    Ok(writer.read)
}

/// Refuses a document that says it is of another YAML than 1.1, the one that go-yaml v2 reads.
fn check_version(input: &str) -> Result<()> {
    // Directives stand at the start of lines, before the document.
    let head = input.lines().enumerate().take_while(|(_, line)| line.is_empty() || line.starts_with(['%', '#']));
    for (at, line) in head {
        let mut words = line.split_whitespace();
        if words.next() == Some("%YAML")
            && let Some((major, minor)) = words.next().and_then(|version| version.split_once('.'))
            && let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>())
            && (major, minor) != (1, 1)
        {
            let place = if at == 0 { String::new() } else { format!("line {at}: ") };
            return Err(format!("yaml: {place}found incompatible YAML document"));
        }
    }
    Ok(())
}

fn utf8(input: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(input).map_err(|error| {
        let bad = input.get(error.valid_up_to()).copied().unwrap_or_default();
        let what = match (bad, error.error_len()) {
            (_, None) => "incomplete UTF-8 octet sequence",
            (0xc2..=0xf4, _) => "invalid trailing UTF-8 octet",
            _ => "invalid leading UTF-8 octet",
        };
        format!("yaml: {what}")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// What YAML does not allow anywhere, not even in quotes.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')
}

/// The first document as nodes that refer to each other by number.
#[derive(Default)]
struct Document<'a> {
    input: &'a str,
    nodes: Vec<Node<'a>>,
    root: Option<usize>,
}

struct Node<'a> {
    content: Content<'a>,
    /// The tag written out, `tag:yaml.org,2002:int`; empty if there is none.
    tag: String,
    /// From 1.
    line: usize,
    /// Whether it is text in a block, behind `|` or `>`.
    is_block: bool,
    /// The last node inside of it.
    end: usize,
}

/// A text of several lines as YAML 1.1 reads it: blanks at the ends and beginnings of lines are none of it.
fn without_blanks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(SEPARATORS) {
        let (line, separated) = rest.split_at(at);
        out.push_str(line.trim_end_matches([' ', '\t']));
        let mut after = separated.chars();
        out.extend(after.next());
        rest = after.as_str().trim_start_matches([' ', '\t']);
    }
    out.push_str(rest);
    out
}

enum Content<'a> {
    Scalar {
        text: Cow<'a, str>,
        plain: bool,
    },
    List(Vec<usize>),
    /// Keys and values in turn.
    Map(Vec<usize>),
    /// Which node it stands for, and where its name is, counted in characters.
    Alias {
        target: usize,
        place: usize,
    },
}

const TAG: &str = "tag:yaml.org,2002:";

impl<'a> Document<'a> {
    fn parse(input: &'a str) -> Result<Self> {
        let mut document = Self { input, ..Self::default() };
        let mut open: Vec<usize> = Vec::new();
        let mut anchors: HashMap<usize, usize> = HashMap::new();
        for event in Parser::new_from_str(input) {
            let (event, span) = event.map_err(|error| syntax_error(input, &error))?;
            let mut is_block = false;
            let (content, anchor, tag) = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                    let folds = matches!(style, ScalarStyle::Plain | ScalarStyle::SingleQuoted);
                    let text = if folds && text.contains(SEPARATORS) { without_blanks(&text).into() } else { text };
                    (Content::Scalar { text, plain: style == ScalarStyle::Plain }, anchor, tag)
                }
                Event::SequenceStart(anchor, tag) => (Content::List(Vec::new()), anchor, tag),
                Event::MappingStart(anchor, tag) => (Content::Map(Vec::new()), anchor, tag),
                Event::Alias(anchor) => {
                    let target = anchors.get(&anchor).copied().ok_or("yaml: unknown anchor referenced")?;
                    (Content::Alias { target, place: span.start.index() }, 0, None)
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let last = document.nodes.len() - 1;
                    if let Some(closed) = open.pop() {
                        document.nodes[closed].end = last;
                    }
                    continue;
                }
                Event::DocumentEnd => break,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => continue,
            };
            let at = document.nodes.len();
            let nests = matches!(content, Content::List(_) | Content::Map(_));
            let tag = tag.map(|tag| format!("{}{}", tag.handle, tag.suffix)).unwrap_or_default();
            document.nodes.push(Node { content, tag, line: span.start.line(), is_block, end: at });
            match open.last().map(|holder| &mut document.nodes[*holder].content) {
                Some(Content::List(items) | Content::Map(items)) => items.push(at),
                _ => document.root = Some(at),
            }
            if anchor > 0 {
                anchors.insert(anchor, at);
            }
            if nests {
                open.push(at);
                if open.len() > TREE_DEPTH_MAX {
                    return Err(format!("yaml: line {}: exceeded max depth of {TREE_DEPTH_MAX}", span.start.line()));
                }
            }
        }
        Ok(document)
    }
}

/// The name of the anchor that an alias refers to. Counting characters takes a while: for errors only.
fn alias_name(input: &str, place: usize) -> String {
    let name = input.chars().skip(place).skip_while(|c| *c == '*');
    name.take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// The parser's complaint in the words of libyaml, which both descend from: without the part that says what was being
/// read. go-yaml counts lines from 0 for what its grammar refuses, and from 1 for what its scanner refuses.
fn syntax_error(input: &str, error: &ScanError) -> String {
    let info = error.info();
    let problem = match info {
        "while parsing node, found unknown anchor" => {
            let name = alias_name(input, error.marker().index());
            return format!("yaml: unknown anchor '{name}' referenced");
        }
        "simple key expect ':'" | "simple key expected" => "could not find expected ':'",
        "while parsing a flow sequence, expected ',' or ']'" => "did not find expected ',' or ']'",
        "the handle wasn't declared" => "found undefined tag handle",
        "duplicate version directive" => "found duplicate %YAML directive",
        _ if info.starts_with("unexpected character") || info.contains("tab") => {
            "found character that cannot start any token"
        }
        _ => info.split_once(", ").map_or(info, |(_, problem)| problem),
    };
    let of_grammar = problem.starts_with("did not find expected") && !info.contains("scanning");
    match error.marker().line().saturating_sub(usize::from(of_grammar)) {
        0 => format!("yaml: {problem}"),
        line => format!("yaml: line {line}: {problem}"),
    }
}

/// The value of a scalar.
enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(Cow<'a, str>),
}

/// A key, by type and value: `1` and `"1"` are two keys until both become text.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Bool(bool),
    Int(i64),
    Float(u64),
    Text(Cow<'a, str>),
}

impl Key<'_> {
    /// As JSON has it.
    fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Bool(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
            Self::Int(number) => Cow::Owned(number.to_string()),
            Self::Float(bits) => {
                let number = f64::from_bits(*bits);
                // Upstream prints keys with the precision of 32 bits.
                Cow::Owned(general(number, &format!("{:e}", number as f32)))
            }
            Self::Text(text) => Cow::Borrowed(text),
        }
    }

    /// As go-yaml shows it.
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Float(bits) => general(f64::from_bits(*bits), &format!("{:e}", f64::from_bits(*bits))),
            _ => self.name().into_owned(),
        }
    }
}

struct Writer<'d, 'a> {
    document: &'d Document<'a>,
    read: Read,
    /// The values whose keys have come before, and what to say.
    duplicates: Vec<(usize, String)>,
    /// How many nodes have been written, and how many of them because of aliases.
    nodes: usize,
    aliased_nodes: usize,
    aliased_bytes: usize,
    /// The aliases being written, outermost first.
    aliases: Vec<usize>,
}

impl<'d, 'a> Writer<'d, 'a> {
    /// Counts a node. The bounds are go-yaml's: of few nodes nearly all may come from aliases, of many a tenth.
    fn count(&mut self) -> Result<()> {
        const FEW: usize = 400_000;
        const MANY: usize = 4_000_000;
        self.nodes += 1;
        self.aliased_nodes += usize::from(!self.aliases.is_empty());
        let allowed = match self.nodes {
            ..=FEW => 0.99,
            MANY.. => 0.10,
            nodes => 0.99 - 0.89 * (nodes - FEW) as f64 / (MANY - FEW) as f64,
        };
        let ratio = self.aliased_nodes as f64 / self.nodes as f64;
        let excessive = self.aliased_nodes > 100 && self.nodes > 1000 && ratio > allowed;
        if excessive || self.aliased_bytes > ALIASED_BYTES_MAX {
            return Err("yaml: document contains excessive aliasing".into());
        }
        Ok(())
    }

    /// Goes into an alias, if the node is one, for as long as `inside` takes.
    fn through<T>(&mut self, mut at: usize, inside: impl FnOnce(&mut Self, usize) -> Result<T>) -> Result<T> {
        let before = self.aliases.len();
        while let Content::Alias { target, place } = &self.document.nodes[at].content {
            if self.aliases.contains(target) || self.aliases.len() > TREE_DEPTH_MAX {
                let name = alias_name(self.document.input, *place);
                return Err(format!("yaml: anchor '{name}' value contains itself"));
            }
            self.aliases.push(*target);
            at = *target;
        }
        let result = inside(self, at);
        self.aliases.truncate(before);
        result
    }

    fn node(&mut self, at: usize, depth: usize) -> Result<()> {
        self.count()?;
        self.through(at, |writer, at| writer.content(at, depth))
    }

    fn content(&mut self, at: usize, depth: usize) -> Result<()> {
        if depth > TREE_DEPTH_MAX {
            return Err(format!("yaml: exceeded max depth of {TREE_DEPTH_MAX}"));
        }
        let document = self.document;
        let node = &document.nodes[at];
        match &node.content {
            Content::Scalar { text, plain } => {
                let scalar = scalar(node, text, *plain)?;
                self.scalar(scalar)?;
                if !self.aliases.is_empty() {
                    self.aliased_bytes += text.len();
                }
            }
            Content::List(items) => {
                self.read.json.push(b'[');
                for item in items {
                    self.node(*item, depth + 1)?;
                    self.read.json.push(b',');
                }
                crate::json::encode::close(b']', &mut self.read.json);
            }
            Content::Map(_) => {
                let mut entries = Entries::default();
                self.gather(at, &mut entries, 0)?;
                // JSON has its keys in order; of those that become equal the last stays.
                let mut named: Vec<(Cow<'_, str>, usize)> =
                    entries.list.iter().map(|(key, value)| (key.name(), *value)).collect();
                named.sort_by(|a, b| a.0.cmp(&b.0));
                self.read.json.push(b'{');
                for (at, (name, value)) in named.iter().enumerate() {
                    if named.get(at + 1).is_some_and(|(next, _)| next == name) {
                        continue;
                    }
                    text::string(name.as_bytes(), &mut self.read.json);
                    self.read.json.push(b':');
                    self.node(*value, depth + 1)?;
                    self.read.json.push(b',');
                }
                crate::json::encode::close(b'}', &mut self.read.json);
            }
            // Resolved before.
            Content::Alias { .. } => {}
        }
        Ok(())
    }

    /// Gathers the entries of a map, merged ones included.
    fn gather(&mut self, at: usize, entries: &mut Entries<'d>, depth: usize) -> Result<()> {
        let document = self.document;
        let Content::Map(children) = &document.nodes[at].content else {
            return Err("yaml: map merge requires map or sequence of maps as the value".into());
        };
        if depth > TREE_DEPTH_MAX {
            return Err(format!("yaml: exceeded max depth of {TREE_DEPTH_MAX}"));
        }
        for pair in children.chunks_exact(2) {
            let (key_at, value_at) = (pair[0], pair[1]);
            if is_merge(&document.nodes[key_at]) {
                self.merge(value_at, entries, depth)?;
                continue;
            }
            self.count()?;
            let key = self.through(key_at, |writer, at| key(&writer.document.nodes[at]))?;
            if !entries.put(key, value_at) && self.duplicates.len() < DUPLICATES_MAX {
                let shown = entries.last.as_deref().unwrap_or_default();
                // Where a block of text begins is one line above its text.
                let value = &document.nodes[value_at];
                let line = if value.is_block { document.nodes[key_at].line } else { value.line };
                self.duplicates.push((value_at, format!("line {line}: key {shown} already set in map")));
            }
        }
        Ok(())
    }

    /// Merges what `<<` names: a map, or a list of maps of which the first wins.
    fn merge(&mut self, at: usize, entries: &mut Entries<'d>, depth: usize) -> Result<()> {
        self.count()?;
        match &self.document.nodes[at].content {
            Content::List(items) => {
                for item in items.iter().rev() {
                    self.count()?;
                    self.through(*item, |writer, at| writer.gather(at, entries, depth + 1))?;
                }
                Ok(())
            }
            _ => self.through(at, |writer, at| writer.gather(at, entries, depth + 1)),
        }
    }

    fn scalar(&mut self, scalar: Scalar<'_>) -> Result<()> {
        let out = &mut self.read.json;
        match scalar {
            Scalar::Null => out.extend_from_slice(b"null"),
            Scalar::Bool(flag) => crate::json::encode::boolean(flag, out),
            Scalar::Int(number) => text::int(number, out),
            Scalar::Uint(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Scalar::Float(number) if number.is_finite() => text::float(number, out),
            Scalar::Float(number) => {
                let name = if number.is_nan() {
                    "NaN"
                } else if number > 0.0 {
                    "+Inf"
                } else {
                    "-Inf"
                };
                return Err(format!("json: unsupported value: {name}"));
            }
            Scalar::Text(string) => {
                text::string(string.as_bytes(), out);
            }
        }
        Ok(())
    }
}

/// The entries of a map so far.
#[derive(Default)]
struct Entries<'d> {
    list: Vec<(std::rc::Rc<Key<'d>>, usize)>,
    places: HashMap<std::rc::Rc<Key<'d>>, usize>,
    /// The last key that came twice, as go-yaml shows it.
    last: Option<String>,
}

impl<'d> Entries<'d> {
    /// Sets a key; whether it is new. The place of the first stays, the value of the last wins.
    fn put(&mut self, key: Key<'d>, value: usize) -> bool {
        let key = std::rc::Rc::new(key);
        match self.places.get(&key) {
            Some(place) => {
                self.list[*place].1 = value;
                self.last = Some(key.shown());
                false
            }
            None => {
                self.places.insert(key.clone(), self.list.len());
                self.list.push((key, value));
                true
            }
        }
    }
}

fn is_merge(node: &Node<'_>) -> bool {
    match &node.content {
        Content::Scalar { text, plain } => {
            text == "<<" && (*plain && node.tag.is_empty() || node.tag.strip_prefix(TAG) == Some("merge"))
        }
        _ => false,
    }
}

fn key<'d>(node: &'d Node<'_>) -> Result<Key<'d>> {
    let Content::Scalar { text, plain } = &node.content else {
        let kind =
            if matches!(node.content, Content::List(_)) { "[]interface {}" } else { "map[interface {}]interface {}" };
        return Err(format!("yaml: invalid map key: {kind}"));
    };
    Ok(match scalar(node, text, *plain)? {
        Scalar::Text(text) => Key::Text(text),
        Scalar::Int(number) => Key::Int(number),
        Scalar::Bool(flag) => Key::Bool(flag),
        Scalar::Float(number) => Key::Float(number.to_bits()),
        Scalar::Uint(number) => return Err(format!("unsupported map key of type: uint64, key: {number:#x}")),
        Scalar::Null => return Err("unsupported map key of type: %!s(<nil>), key: <nil>".into()),
    })
}

/// What a scalar is, by its tag, or if it has none and no quotes, by its look.
fn scalar<'n>(node: &Node<'_>, text: &'n str, plain: bool) -> Result<Scalar<'n>> {
    let as_text = || Scalar::Text(Cow::Borrowed(text));
    let tag = node.tag.strip_prefix(TAG);
    if node.tag.is_empty() && !plain || tag == Some("str") || node.tag == "!" {
        return Ok(as_text());
    }
    match tag {
        None if node.tag.is_empty() => {}
        Some("bool" | "int" | "float" | "null" | "timestamp") => {}
        Some("binary") => {
            let data = base64::engine::general_purpose::STANDARD.decode(text.replace(['\n', '\r'], ""));
            let data = data.map_err(|_| "yaml: !!binary value contains invalid base64 data")?;
            return Ok(Scalar::Text(Cow::Owned(text::utf8(&data).into_owned())));
        }
        _ => return Ok(as_text()),
    }
    let meaning = resolve(text);
    let (found, scalar) = match meaning {
        Meaning::Null => ("null", Scalar::Null),
        Meaning::Bool(flag) => ("bool", Scalar::Bool(flag)),
        Meaning::Int(number) => ("int", Scalar::Int(number)),
        Meaning::Uint(number) => ("int", Scalar::Uint(number)),
        Meaning::Float(number) => ("float", Scalar::Float(number)),
        Meaning::Text => ("str", as_text()),
    };
    match (tag, scalar) {
        (None | Some("timestamp"), scalar) => Ok(scalar),
        (Some("float"), Scalar::Int(number)) => Ok(Scalar::Float(number as f64)),
        (Some(tag), scalar) if tag == found => Ok(scalar),
        (Some(tag), _) => Err(format!("yaml: cannot decode !!{found} `{text}` as a !!{tag}")),
    }
}

/// Keys in the order in which go-yaml writes them: by letters and by the numbers in them.
pub(super) fn key_order(a: &str, b: &str) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    for at in 0..a.len().min(b.len()) {
        let (left, right) = (a[at], b[at]);
        if left == right {
            continue;
        }
        match (left.is_alphabetic(), right.is_alphabetic()) {
            (true, true) => return left.cmp(&right),
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        let digits = |text: &[char]| text[at..].iter().take_while(|c| c.is_ascii_digit()).count();
        let (left_digits, right_digits) = (digits(&a), digits(&b));
        // A zero after a digit that counts is part of a number, and does not lead it.
        let mut first = 0i64;
        if left == '0' || right == '0' {
            let before = a[..at].iter().rev().take_while(|c| c.is_ascii_digit());
            first = i64::from(before.into_iter().any(|c| *c != '0'));
        }
        let number = |text: &[char], digits: usize| {
            text[at..at + digits]
                .iter()
                .fold(first, |number, c| number.wrapping_mul(10).wrapping_add(i64::from(*c as u32 - '0' as u32)))
        };
        let (left_number, right_number) = (number(&a, left_digits), number(&b, right_digits));
        return left_number.cmp(&right_number).then(left_digits.cmp(&right_digits)).then(left.cmp(&right));
    }
    a.len().cmp(&b.len())
}
