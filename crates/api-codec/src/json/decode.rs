//! Reads JSON text into trees.
//!
//! One pass, without a message in sight: wherever the text is no JSON, the pass just stops and [`scan::check`] goes
//! over the text again to say what is wrong. What Go cannot store is remembered while the rest is still read, because
//! in Go a syntax error anywhere comes first.

use std::borrow::Cow;
use std::collections::HashSet;

use api_schema::{SmolStr, Value};

use super::{DecodeError, Decoded, Options, PROBLEMS_MAX, Problem, SyntaxError, TREE_DEPTH_MAX, scan, text};
use crate::TypeCodec;
use crate::codec::{Codec, Gathered, Kind, Merges, StructPlan, map_of, short_name, zero_of};
use crate::go_types;
use crate::scalar::{bytes, duration, time};

pub(crate) fn decode(ty: Option<TypeCodec<'_>>, input: &[u8], options: Options) -> Result<Decoded, DecodeError> {
    let input = match std::str::from_utf8(input) {
        Ok(text) => Cow::Borrowed(text),
        // What is no UTF-8 can only be inside of strings, or else it is a syntax error that names the byte.
        Err(_) => {
            scan::check(input).map_err(DecodeError::Syntax)?;
            text::utf8(input)
        }
    };
    let mut reader = Reader {
        text: &input,
        at: 0,
        depth: 0,
        structs: ty.map(|ty| ty.codec),
        options,
        problems: Vec::new(),
        path: Vec::new(),
        frozen: None,
        saved: None,
        fatal: None,
        merges: Merges::default(),
    };
    match reader.whole(ty) {
        Ok(value) => match reader.fatal.or(reader.saved) {
            Some(error) => Err(error),
            None => Ok(Decoded { value, problems: reader.problems }),
        },
        Err(Stop::TooDeep(at)) => {
            scan::check(input.as_bytes()).map_err(DecodeError::Syntax)?;
            Err(DecodeError::Syntax(scan::invalid(input.as_bytes(), at, "exceeded max depth")))
        }
        Err(Stop::Syntax) => Err(DecodeError::Syntax(scan::check(input.as_bytes()).err().unwrap_or_else(|| {
            debug_assert!(false, "the reader and the scanner disagree");
            SyntaxError { message: "unexpected end of JSON input".into(), offset: input.len() }
        }))),
    }
}

/// Why reading stops at once.
enum Stop {
    /// The text is no JSON.
    Syntax,
    /// A tree would be nested too deeply.
    TooDeep(usize),
}

type Read<T> = Result<T, Stop>;

/// A string as it is written, without its quotes.
#[derive(Clone, Copy)]
struct Literal<'a> {
    raw: &'a str,
    has_escapes: bool,
}

impl<'a> Literal<'a> {
    fn text(self) -> Cow<'a, str> {
        if self.has_escapes { text::unescaped(self.raw) } else { Cow::Borrowed(self.raw) }
    }
}

/// A step from the root to the value being read.
#[derive(Clone, Copy)]
enum Step<'a> {
    /// A field of a struct.
    Field(&'a StructPlan, u16),
    /// A key of a map.
    Key(Literal<'a>),
    Index(usize),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// How many arrays and objects are open.
    depth: usize,
    structs: Option<&'a Codec>,
    options: Options,
    problems: Vec<Problem>,
    path: Vec<Step<'a>>,
    /// Inside of a value that Go hands to a method of its type: how long the path was there. Its fields are not in the
    /// paths of messages, and strict validation does not see them.
    frozen: Option<usize>,
    /// The first value that did not fit.
    saved: Option<DecodeError>,
    /// The first value that a type's own reader refused: Go stops there, so it comes before `saved`.
    fatal: Option<DecodeError>,
    merges: Merges,
}

impl<'a> Reader<'a> {
    fn whole(&mut self, ty: Option<TypeCodec<'a>>) -> Read<Value> {
        self.space();
        let value = match ty {
            Some(ty) => match self.peek() {
                Some(b'{') => self.structure(ty.plan, Value::Null)?,
                Some(b'n') => {
                    self.skip()?;
                    ty.zero()
                }
                _ => {
                    let found = self.found();
                    self.skip()?;
                    self.type_error(found, || go_types::of_struct(&ty.plan.name));
                    ty.zero()
                }
            },
            None => self.any()?,
        };
        self.space();
        if self.at == self.text.len() { Ok(value) } else { Err(Stop::Syntax) }
    }

    // === Bytes ===

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        self.at = scan::skip_space(self.text.as_bytes(), self.at);
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Read<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(Stop::Syntax)
        }
    }

    /// Reads over a value, and gives its text.
    fn skip(&mut self) -> Read<&'a str> {
        let start = self.at;
        self.at = scan::value(self.text.as_bytes(), start, self.depth).map_err(|_| Stop::Syntax)?;
        Ok(&self.text[start..self.at])
    }

    fn open(&mut self) -> Read<()> {
        if self.depth >= TREE_DEPTH_MAX {
            return Err(Stop::TooDeep(self.at));
        }
        self.depth += 1;
        self.at += 1;
        self.space();
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    /// After an item: whether another follows (true, standing before it) or the bracket does (false, closed).
    fn more(&mut self, bracket: u8) -> Read<bool> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(byte) if byte == bracket => {
                self.close();
                Ok(false)
            }
            _ => Err(Stop::Syntax),
        }
    }

    /// The literal of a string, without its quotes.
    #[inline]
    fn literal(&mut self) -> Read<Literal<'a>> {
        if self.peek() != Some(b'"') {
            return Err(Stop::Syntax);
        }
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let end = start + super::bytes::unquoted(&bytes[start..]);
        let has_escapes = bytes.get(end) != Some(&b'"');
        self.at = match has_escapes {
            false => end + 1,
            true => scan::string(bytes, self.at).map_err(|_| Stop::Syntax)?,
        };
        Ok(Literal { raw: &self.text[start..self.at - 1], has_escapes })
    }

    fn string(&mut self) -> Read<SmolStr> {
        self.literal().map(|literal| SmolStr::new(literal.text()))
    }

    fn number(&mut self) -> Read<&'a str> {
        let start = self.at;
        self.at = scan::number(self.text.as_bytes(), start).map_err(|_| Stop::Syntax)?;
        Ok(&self.text[start..self.at])
    }

    /// A key with its colon.
    fn key(&mut self) -> Read<Literal<'a>> {
        let key = self.literal()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(key)
    }

    // === Messages ===

    /// What Go calls the value that comes next.
    fn found(&self) -> &'static str {
        match self.peek() {
            Some(b'"') => "string",
            Some(b'{') => "object",
            Some(b'[') => "array",
            Some(b't' | b'f') => "bool",
            Some(b'n') => "null",
            _ => "number",
        }
    }

    /// The message for a value that does not fit its Go type.
    fn mismatch(&self, found: &str, go_type: &str) -> DecodeError {
        let path = &self.path[..self.frozen.unwrap_or(self.path.len())];
        let fields = path.iter().filter_map(|step| match step {
            Step::Field(plan, at) => Some((plan, &plan.fields[usize::from(*at)])),
            _ => None,
        });
        let holder = fields.clone().next_back().map(|(plan, _)| plan.short_name());
        // A field that comes from an embedded struct is reached through it.
        let fields = fields.map(|(plan, field)| {
            let embedded = (field.owner != plan.name).then(|| short_name(&field.owner));
            embedded.into_iter().chain([&*field.name])
        });
        DecodeError::Type(match holder {
            Some(holder) => {
                let path: Vec<&str> = fields.flatten().collect();
                let path = path.join(".");
                format!("json: cannot unmarshal {found} into Go struct field {holder}.{path} of type {go_type}")
            }
            None => format!("json: cannot unmarshal {found} into Go value of type {go_type}"),
        })
    }

    fn type_error(&mut self, found: &str, go_type: impl FnOnce() -> String) {
        if self.saved.is_none() {
            self.saved = Some(self.mismatch(found, &go_type()));
        }
    }

    fn fatal(&mut self, error: DecodeError) {
        self.fatal.get_or_insert(error);
    }

    /// The Go type of the value that the path leads to, as reflection names it.
    fn go_type(&self, kind: &Kind) -> String {
        // Items and values of maps have the type of the field's items.
        let mut depth = 0;
        for step in self.path.iter().rev() {
            match step {
                Step::Field(plan, at) => {
                    return go_types::of_field(self.structs, &plan.fields[usize::from(*at)], depth, kind);
                }
                _ => depth += 1,
            }
        }
        go_types::of_kind(self.structs, kind)
    }

    /// Reports a problem with the field of this name in the struct or map being read.
    fn problem(&mut self, make: fn(String) -> Problem, name: &str) {
        if !self.options.problems || self.frozen.is_some() || self.problems.len() >= PROBLEMS_MAX {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => {
                    path.push_str(&format!("[{index}]"));
                    continue;
                }
                _ if !path.is_empty() => path.push('.'),
                _ => {}
            }
            match step {
                Step::Field(plan, at) => path.push_str(&plan.fields[usize::from(*at)].name),
                Step::Key(literal) => path.push_str(&literal.text()),
                Step::Index(_) => {}
            }
        }
        if !self.path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
        let problem = make(path);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    // === Values ===

    /// Reads a struct; `before` is what an earlier occurrence of it held, for Go reads both into one.
    fn structure(&mut self, plan: &'a StructPlan, before: Value) -> Read<Value> {
        self.open()?;
        let mut fields = Gathered::new(plan, before);
        let mut extra = Vec::new();
        let mut seen = Seen::default();
        // Go writes fields in declared order: mostly the next one is the next.
        let mut next = 0;
        if self.peek() == Some(b'}') {
            self.close();
            return Ok(fields.finish(extra));
        }
        loop {
            let literal = self.key()?;
            let name = literal.text();
            let found = match plan.fields.get(next) {
                Some(field) if field.name == *name => Some(next as u16),
                _ => plan.field_named(&name),
            };
            match found {
                Some(at) => {
                    next = usize::from(at) + 1;
                    let field = &plan.fields[usize::from(at)];
                    if seen.again(field.rank) {
                        self.problem(Problem::DuplicateField, &name);
                    }
                    let mut before = fields.take(field.rank);
                    self.merges.limit(&mut before);
                    self.path.push(Step::Field(plan, at));
                    let value = if field.pointer && self.peek() == Some(b'n') {
                        self.skip()?;
                        Value::Null
                    } else {
                        self.value(&field.kind, before)?
                    };
                    self.path.pop();
                    if !(field.omit_zero && super::encode::hidden(&field.kind, field.pointer, &value)) {
                        fields.put(field.rank, value);
                    }
                }
                None if plan.preserve_unknown => {
                    self.path.push(Step::Key(literal));
                    let value = self.any()?;
                    self.path.pop();
                    extra.push((SmolStr::new(name), value));
                }
                None => {
                    self.problem(Problem::UnknownField, &name);
                    self.skip()?;
                }
            }
            if !self.more(b'}')? {
                return Ok(fields.finish(extra));
            }
            if self.peek() != Some(b'"') {
                return Err(Stop::Syntax);
            }
        }
    }

    /// Reads a value of a kind; `before` is what an earlier occurrence of the field held.
    fn value(&mut self, kind: &'a Kind, before: Value) -> Read<Value> {
        let next = self.peek();
        match kind {
            Kind::String if next == Some(b'"') => self.string().map(Value::Str),
            Kind::Struct(plan) if next == Some(b'{') => {
                let plan = self.plan(*plan);
                self.structure(plan, before)
            }
            Kind::List(item) | Kind::Wrapped(item) if next == Some(b'[') => self.list(item, before),
            Kind::Map(item) if next == Some(b'{') => self.map(item, before),
            Kind::Int32 | Kind::Int64 if matches!(next, Some(b'-' | b'0'..=b'9')) => self.int(kind, before),
            Kind::Double if matches!(next, Some(b'-' | b'0'..=b'9')) => {
                let number = self.number()?;
                match number.parse::<f64>() {
                    Ok(parsed) if parsed.is_finite() => Ok(Value::Float(parsed)),
                    _ => Ok(self.misfit(&format!("number {number}"), kind, before)),
                }
            }
            Kind::Bool if matches!(next, Some(b't' | b'f')) => self.skip().map(|word| Value::Bool(word == "true")),
            Kind::Bytes if next == Some(b'"') => self.bytes(before),
            Kind::Bytes if next == Some(b'[') => self.byte_array(),
            Kind::Any => self.any(),
            Kind::Time | Kind::MicroTime | Kind::Duration => self.timed(kind),
            Kind::Quantity => self.quantity(),
            Kind::IntOrString => self.int_or_string(before),
            Kind::FieldsV1 | Kind::RawExtension | Kind::Json => {
                let raw = self.skip()?;
                Ok(if raw == "null" { before } else { Value::Raw(text::stripped(raw)) })
            }
            Kind::SchemaOrArray(_) | Kind::SchemaOrBool(_) | Kind::SchemaOrStrings(_) => self.schema_or(kind),
            _ if next == Some(b'n') => {
                self.skip()?;
                Ok(match kind {
                    // Null empties what can be nil in Go, and changes nothing else.
                    Kind::List(_) | Kind::Wrapped(_) | Kind::Map(_) | Kind::Bytes => Value::Null,
                    _ => self.or_zero(before, kind),
                })
            }
            _ => {
                let found = self.found();
                self.skip()?;
                Ok(self.misfit(found, kind, before))
            }
        }
    }

    fn plan(&self, at: u32) -> &'a StructPlan {
        static NONE: std::sync::LazyLock<StructPlan> = std::sync::LazyLock::new(StructPlan::default);
        self.structs.map_or(&NONE, |codec| codec.plan(at))
    }

    fn or_zero(&self, before: Value, kind: &Kind) -> Value {
        match self.structs {
            Some(codec) if before.is_null() => zero_of(&codec.structs, kind),
            _ => before,
        }
    }

    /// Remembers that a value does not fit, and gives what the field holds then.
    fn misfit(&mut self, found: &str, kind: &Kind, before: Value) -> Value {
        if self.saved.is_none() {
            self.saved = Some(self.mismatch(found, &self.go_type(kind)));
        }
        self.or_zero(before, kind)
    }

    fn int(&mut self, kind: &Kind, before: Value) -> Read<Value> {
        let number = self.number()?;
        let parsed = number.parse::<i64>().ok();
        Ok(match parsed {
            Some(value) if matches!(kind, Kind::Int64) || i32::try_from(value).is_ok() => Value::Int(value),
            _ => self.misfit(&format!("number {number}"), kind, before),
        })
    }

    fn list(&mut self, item: &'a Kind, before: Value) -> Read<Value> {
        self.open()?;
        // Go reads into the items that an earlier occurrence of the list left.
        let mut earlier = match before {
            Value::List(items) => items,
            _ => Vec::new(),
        }
        .into_iter();
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.close();
            return Ok(Value::List(items));
        }
        loop {
            self.path.push(Step::Index(items.len()));
            let value = self.value(item, earlier.next().unwrap_or_default())?;
            self.path.pop();
            items.push(value);
            if !self.more(b']')? {
                return Ok(Value::List(items));
            }
        }
    }

    fn map(&mut self, item: &'a Kind, before: Value) -> Read<Value> {
        self.open()?;
        let mut entries: Vec<(SmolStr, Value)> = match before {
            Value::Map(before) => before.into_iter().collect(),
            _ => Vec::new(),
        };
        let mut keys = Keys::new(entries.len());
        if self.peek() == Some(b'}') {
            self.close();
            return Ok(Value::Map(map_of(entries)));
        }
        loop {
            let literal = self.key()?;
            let key = SmolStr::new(literal.text());
            if self.options.problems && keys.again(&entries, &key) {
                self.problem(Problem::DuplicateField, &key);
            }
            self.path.push(Step::Key(literal));
            let value = self.value(item, Value::Null)?;
            self.path.pop();
            entries.push((key, value));
            if !self.more(b'}')? {
                return Ok(Value::Map(map_of(entries)));
            }
            if self.peek() != Some(b'"') {
                return Err(Stop::Syntax);
            }
        }
    }

    /// Reads any JSON as a tree.
    fn any(&mut self) -> Read<Value> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::Str),
            Some(b'{') => self.any_object(),
            Some(b'[') => self.any_array(),
            Some(b't' | b'f') => self.skip().map(|word| Value::Bool(word == "true")),
            Some(b'n') => self.skip().map(|_| Value::Null),
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number()?;
                if !number.contains('.')
                    && let Ok(whole) = number.parse::<i64>()
                {
                    return Ok(Value::Int(whole));
                }
                match number.parse::<f64>() {
                    Ok(parsed) if parsed.is_finite() => Ok(Value::Float(parsed)),
                    _ => {
                        self.type_error(&format!("number {number}"), || "float64".into());
                        Ok(Value::Null)
                    }
                }
            }
            _ => Err(Stop::Syntax),
        }
    }

    fn any_array(&mut self) -> Read<Value> {
        self.open()?;
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.close();
            return Ok(Value::List(items));
        }
        loop {
            self.path.push(Step::Index(items.len()));
            items.push(self.any()?);
            self.path.pop();
            if !self.more(b']')? {
                return Ok(Value::List(items));
            }
        }
    }

    fn any_object(&mut self) -> Read<Value> {
        self.open()?;
        let mut entries = Vec::new();
        let mut keys = Keys::new(0);
        if self.peek() == Some(b'}') {
            self.close();
            return Ok(Value::Map(map_of(entries)));
        }
        loop {
            let literal = self.key()?;
            let key = SmolStr::new(literal.text());
            if self.options.problems && keys.again(&entries, &key) {
                self.problem(Problem::DuplicateField, &key);
            }
            self.path.push(Step::Key(literal));
            let value = self.any()?;
            self.path.pop();
            entries.push((key, value));
            if !self.more(b'}')? {
                return Ok(Value::Map(map_of(entries)));
            }
            if self.peek() != Some(b'"') {
                return Err(Stop::Syntax);
            }
        }
    }

    // === Values with a form of their own ===

    fn bytes(&mut self, before: Value) -> Read<Value> {
        let literal = self.literal()?;
        match bytes::canonical(&literal.text()) {
            Ok(text) => Ok(Value::Str(text)),
            Err(error) => {
                self.saved.get_or_insert(DecodeError::Value(error));
                Ok(before)
            }
        }
    }

    /// Go also takes an array of numbers for bytes.
    fn byte_array(&mut self) -> Read<Value> {
        self.open()?;
        let mut data = Vec::new();
        if self.peek() == Some(b']') {
            self.close();
            return Ok(Value::Str(SmolStr::default()));
        }
        loop {
            let found = self.found();
            let item = self.skip()?;
            data.push(item.parse::<u8>().unwrap_or(0));
            match found {
                "null" => {}
                "number" if item.parse::<u8>().is_err() => {
                    self.type_error(&format!("number {item}"), || "uint8".into());
                }
                "number" => {}
                found => self.type_error(found, || "uint8".into()),
            }
            if !self.more(b']')? {
                return Ok(Value::Str(bytes::to_base64(&data)));
            }
        }
    }

    fn timed(&mut self, kind: &Kind) -> Read<Value> {
        let found = self.found();
        let raw = self.skip()?;
        let result = match (found, kind) {
            ("null", Kind::Duration) => return Ok(Value::str("0s")),
            ("null", _) => return Ok(Value::Null),
            ("string", kind) => {
                let text = text::unescaped(&raw[1..raw.len() - 1]);
                match kind {
                    Kind::Time => time::Time::parse(&text, time::RFC3339).map(|time| time.to_value()),
                    Kind::MicroTime => time::Time::parse(&text, time::RFC3339_MICRO).map(|time| time.to_micro_value()),
                    _ => duration::parse(&text).map(|nanos| Value::Str(duration::format(nanos))),
                }
                .map_err(DecodeError::Value)
            }
            (found, _) => Err(self.mismatch(found, "string")),
        };
        Ok(result.unwrap_or_else(|error| {
            self.fatal(error);
            Value::Null
        }))
    }

    fn quantity(&mut self) -> Read<Value> {
        let raw = self.skip()?;
        if raw == "null" {
            return Ok(Value::str("0"));
        }
        // Upstream takes the quotes off and nothing more.
        let text = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw).trim();
        match api_semantics::quantity::canonical(text) {
            Some(canonical) => Ok(Value::Str(canonical)),
            None => {
                let error = api_semantics::quantity::Quantity::parse(text).err();
                self.fatal(DecodeError::Value(error.map(|error| error.to_string()).unwrap_or_default()));
                Ok(Value::Null)
            }
        }
    }

    fn int_or_string(&mut self, before: Value) -> Read<Value> {
        let found = self.found();
        if found == "string" {
            return self.string().map(Value::Str);
        }
        let raw = self.skip()?;
        match (found, raw.parse::<i32>()) {
            ("null", _) => Ok(Value::Int(before.as_int().unwrap_or(0))),
            ("number", Ok(number)) => Ok(Value::Int(number.into())),
            (found, _) => {
                let found = if found == "number" { format!("number {raw}") } else { found.into() };
                self.fatal(self.mismatch(&found, "int32"));
                Ok(Value::Int(0))
            }
        }
    }

    /// Reads the unions of OpenAPI schemas: a schema, or a list, a boolean, or strings. Upstream hands the text to a
    /// method of the type, so that paths end here and the first error is final.
    fn schema_or(&mut self, kind: &'a Kind) -> Read<Value> {
        let outer = self.frozen;
        let outer_saved = self.saved.take();
        self.frozen.get_or_insert(self.path.len());
        let value = match (kind, self.peek()) {
            (Kind::SchemaOrArray(plan) | Kind::SchemaOrBool(plan) | Kind::SchemaOrStrings(plan), Some(b'{')) => {
                let plan = self.plan(*plan);
                self.structure(plan, Value::Null)
            }
            (Kind::SchemaOrBool(_), Some(b't' | b'f')) => self.skip().map(|word| Value::Bool(word == "true")),
            (Kind::SchemaOrBool(_), _) => {
                self.skip()?;
                self.fatal(DecodeError::Value("boolean or JSON schema expected".into()));
                Ok(Value::Null)
            }
            (Kind::SchemaOrArray(plan), Some(b'[')) => {
                let plan = *plan;
                self.schema_items(|reader| match reader.peek() {
                    Some(b'{') => {
                        let plan = reader.plan(plan);
                        reader.structure(plan, Value::Null)
                    }
                    found => {
                        let name = reader.found();
                        reader.skip()?;
                        let plan = reader.plan(plan);
                        if found != Some(b'n') {
                            reader.type_error(name, || go_types::of_struct(&plan.name));
                        }
                        Ok(plan.zero.clone())
                    }
                })
            }
            (Kind::SchemaOrStrings(_), Some(b'[')) => {
                self.schema_items(|reader| reader.value(&Kind::String, Value::Null))
            }
            // Anything else is nothing.
            _ => self.skip().map(|_| Value::Null),
        };
        if let Some(error) = std::mem::replace(&mut self.saved, outer_saved) {
            self.fatal(error);
        }
        self.frozen = outer;
        // An empty list is no list.
        value.map(|value| if matches!(&value, Value::List(items) if items.is_empty()) { Value::Null } else { value })
    }

    fn schema_items(&mut self, mut item: impl FnMut(&mut Self) -> Read<Value>) -> Read<Value> {
        self.open()?;
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.close();
            return Ok(Value::List(items));
        }
        loop {
            items.push(item(self)?);
            if !self.more(b']')? {
                return Ok(Value::List(items));
            }
        }
    }
}

/// Which fields of a struct have come, by rank.
#[derive(Default)]
struct Seen {
    bits: u128,
    beyond: Vec<u16>,
}

impl Seen {
    /// Notes a field; whether it had come before.
    fn again(&mut self, rank: u16) -> bool {
        if rank < 128 {
            let bit = 1 << rank;
            let again = self.bits & bit != 0;
            self.bits |= bit;
            return again;
        }
        let again = self.beyond.contains(&rank);
        if !again {
            self.beyond.push(rank);
        }
        again
    }
}

/// Finds keys that come twice in a map, without cost while they come in order.
struct Keys {
    /// Entries before this position are of an earlier occurrence of the map, and do not count.
    first: usize,
    in_order: bool,
    /// The keys of the entries before `counted`; used once there are many.
    all: HashSet<SmolStr>,
    counted: usize,
}

/// Maps up to this size are searched from end to end.
const SEARCH_MAX: usize = 16;

impl Keys {
    fn new(first: usize) -> Self {
        Self { first, in_order: true, all: HashSet::new(), counted: first }
    }

    /// Whether the key is among the entries that have come.
    fn again(&mut self, entries: &[(SmolStr, Value)], key: &SmolStr) -> bool {
        let come = &entries[self.first..];
        if self.in_order {
            match come.last() {
                None => return false,
                Some((last, _)) if last < key => return false,
                _ => self.in_order = false,
            }
        }
        if come.len() <= SEARCH_MAX {
            return come.iter().any(|(known, _)| known == key);
        }
        self.all.extend(entries[self.counted..].iter().map(|(known, _)| known.clone()));
        self.counted = entries.len();
        self.all.contains(key)
    }
}
