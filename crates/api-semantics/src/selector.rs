//! Label selectors and field selectors: their text syntax, LabelSelector objects, and what they match.

use std::fmt;

use api_schema::{Map, SmolStr, Value};

use crate::field::{Error, ErrorList, Path, quoted};
use crate::names;

/// Why a selector cannot be understood, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// How a requirement relates a label to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `key in (a, b)`
    In,
    /// `key notin (a, b)`
    NotIn,
    /// `key=a`
    Equals,
    /// `key==a`
    DoubleEquals,
    /// `key!=a`
    NotEquals,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>1`
    GreaterThan,
    /// `key<1`
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: SmolStr,
    /// The relation.
    pub operator: Operator,
    /// What it is compared with.
    pub values: Vec<SmolStr>,
}

impl Requirement {
    /// A checked requirement.
    pub fn new(key: &str, operator: Operator, values: Vec<SmolStr>) -> Result<Self, SelectorError> {
        let mut errors = ErrorList::new();
        let path = Path::new("values");
        let messages = names::qualified_name(key);
        if !messages.is_empty() {
            errors.push(Error::invalid(&Path::new("key"), key, messages.join("; ")));
        }
        let shown = || values.iter().cloned().map(Value::Str).collect::<Vec<_>>();
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                errors.push(Error::invalid(
                    &path,
                    Value::Null,
                    "for 'in', 'notin' operators, values set can't be empty",
                ));
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                errors.push(Error::invalid(&path, shown(), "exact-match compatibility requires one single value"));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                let why = "values set must be empty for exists and does not exist";
                errors.push(Error::invalid(&path, shown(), why));
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    let why = "for 'Gt', 'Lt' operators, exactly one value is required";
                    errors.push(Error::invalid(&path, shown(), why));
                }
                for (at, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                    let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                    errors.push(Error::invalid(&path.index(at), value.clone(), why));
                }
            }
            _ => {}
        }
        for (at, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.push(Error::invalid(&path.index(at).key(key), value.clone(), messages.join("; ")));
            }
        }
        if !errors.is_empty() {
            return Err(SelectorError(aggregate(&errors)));
        }
        Ok(Self { key: key.into(), operator, values })
    }

    /// Whether a label with this value (`None`: no such label) meets it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let has = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(has),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(has),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let [want] = self.values.as_slice() else { return false };
                let (Some(Ok(have)), Ok(want)) = (value.map(str::parse::<i64>), want.parse::<i64>()) else {
                    return false;
                };
                if self.operator == Operator::GreaterThan { have > want } else { have < want }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values: Vec<&str> = self.values.iter().map(SmolStr::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// Errors in one text, as Go's aggregate prints them.
fn aggregate(errors: &[Error]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) }
}

/// A label selector: all its requirements must be met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
    matches_nothing: bool,
}

impl Selector {
    /// Matches whatever there is.
    pub const EVERYTHING: Self = Self { requirements: Vec::new(), matches_nothing: false };
    /// Matches no object: what an absent LabelSelector means.
    pub const NOTHING: Self = Self { requirements: Vec::new(), matches_nothing: true };

    /// Reads the text form: `a=b,c in (d,e),!f`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let requirements = Parser { items: scan(text), at: 0 }.parse().map_err(SelectorError)?;
        Ok(Self::new(requirements))
    }

    /// The selector of some requirements, sorted by key.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, matches_nothing: false }
    }

    /// Reads a LabelSelector object; an absent one matches nothing, an empty one everything.
    pub fn from_value(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|selector| !selector.is_null()) else { return Ok(Self::NOTHING) };
        let mut requirements = Vec::new();
        for (key, value) in selector.map_at(&["matchLabels"]).into_iter().flat_map(Map::iter) {
            let value = value.as_str().unwrap_or_default();
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.into()])?);
        }
        for expression in selector.list_at(&["matchExpressions"]) {
            let operator = match expression.str_at(&["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!("{} is not a valid label selector operator", quoted(other))));
                }
            };
            requirements.push(Requirement::new(expression.str_at(&["key"]), operator, strings(expression))?);
        }
        Ok(Self::new(requirements))
    }

    /// The selector of a plain map of labels (a Service's or ReplicationController's `selector`), unchecked.
    pub fn from_labels(labels: &Map) -> Self {
        let requirement = |(key, value): (&SmolStr, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.as_str().unwrap_or_default().into()],
        };
        Self::new(labels.iter().map(requirement).collect())
    }

    /// Whether it restricts nothing.
    pub fn is_everything(&self) -> bool {
        !self.matches_nothing && self.requirements.is_empty()
    }

    /// Its requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether labels match, looked up by key.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.matches_nothing
            && self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Whether a map of labels matches; no map is an empty one.
    pub fn matches_labels(&self, labels: Option<&Map>) -> bool {
        self.matches(|key| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str))
    }

    /// Whether an object's labels match.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches_labels(object.map_at(&["metadata", "labels"]))
    }

    /// The one value that the selector asks of a label, if it asks for exactly one.
    pub fn exact(&self, label: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|requirement| requirement.key == label)?;
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if at > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// A LabelSelector object as table cells show it: `<none>` if it selects everything or is absent.
pub fn shown(selector: Option<&Value>) -> SmolStr {
    match Selector::from_value(selector) {
        Err(_) => SmolStr::new_static("<error>"),
        Ok(selector) if selector.requirements.is_empty() => SmolStr::new_static("<none>"),
        Ok(selector) => api_schema::format_smolstr!("{selector}"),
    }
}

fn strings(expression: &Value) -> Vec<SmolStr> {
    expression.list_at(&["values"]).iter().map(|value| SmolStr::new(value.as_str().unwrap_or_default())).collect()
}

/// What [`validate`] lets pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leniency {
    /// Values that are no label values (objects that hold such from before they were checked).
    pub invalid_values: bool,
    /// Operators that are not known (access reviews).
    pub unknown_operators: bool,
}

/// Checks the labels of a map (`metadata.labels`, `matchLabels`).
pub fn validate_labels(labels: Option<&Map>, path: &Path<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for (key, value) in labels.into_iter().flat_map(Map::iter) {
        validate_key(key, path, &mut errors);
        let value = value.as_str().unwrap_or_default();
        errors.extend(names::label_value(value).into_iter().map(|message| Error::invalid(path, value, message)));
    }
    errors
}

fn validate_key(key: &str, path: &Path<'_>, errors: &mut ErrorList) {
    errors.extend(names::qualified_name(key).into_iter().map(|message| Error::invalid(path, key, message)));
}

/// Checks a LabelSelector object; an absent one is good.
pub fn validate(selector: Option<&Value>, path: &Path<'_>, lenient: Leniency) -> ErrorList {
    let Some(selector) = selector else { return ErrorList::new() };
    let mut errors = validate_labels(selector.map_at(&["matchLabels"]), &path.child("matchLabels"));
    let expressions = path.child("matchExpressions");
    for (at, expression) in selector.list_at(&["matchExpressions"]).iter().enumerate() {
        validate_requirement(expression, &expressions.index(at), lenient, &mut errors);
    }
    errors
}

fn validate_requirement(expression: &Value, path: &Path<'_>, lenient: Leniency, errors: &mut ErrorList) {
    let values = expression.list_at(&["values"]);
    let values_path = path.child("values");
    match expression.str_at(&["operator"]) {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(Error::required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&values_path, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other if !lenient.unknown_operators => {
            errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
        _ => {}
    }
    validate_key(expression.str_at(&["key"]), &path.child("key"), errors);
    if !lenient.invalid_values {
        for (at, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            let path = values_path.index(at);
            errors.extend(names::label_value(value).into_iter().map(|message| Error::invalid(&path, value, message)));
        }
    }
}

/// Whether a LabelSelector object holds values that are no label values.
pub fn has_invalid_values(selector: Option<&Value>) -> bool {
    let expressions = selector.map(|selector| selector.list_at(&["matchExpressions"])).unwrap_or_default();
    expressions.iter().flat_map(strings).any(|value| !names::label_value(&value).is_empty())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

/// Cuts a label selector into tokens. A NUL byte ends it, as in upstream.
fn scan(text: &str) -> Vec<(Token, &str)> {
    let bytes = text.as_bytes();
    let is_special = |c: u8| b"=!(),><".contains(&c);
    let is_blank = |c: u8| matches!(c, b' ' | b'\t' | b'\r' | b'\n');
    let mut items = Vec::new();
    let mut at = 0;
    loop {
        while at < bytes.len() && is_blank(bytes[at]) {
            at += 1;
        }
        let rest = &text[at.min(text.len())..];
        if rest.is_empty() || rest.starts_with('\0') {
            items.push((Token::End, ""));
            return items;
        }
        let (token, length) = match rest.as_bytes() {
            [b'=', b'=', ..] => (Token::DoubleEquals, 2),
            [b'!', b'=', ..] => (Token::NotEquals, 2),
            [b'=', ..] => (Token::Equals, 1),
            [b'!', ..] => (Token::Not, 1),
            [b'(', ..] => (Token::Open, 1),
            [b')', ..] => (Token::Close, 1),
            [b',', ..] => (Token::Comma, 1),
            [b'>', ..] => (Token::Greater, 1),
            [b'<', ..] => (Token::Less, 1),
            bytes => {
                let length = bytes.iter().take_while(|c| **c != 0 && !is_special(**c) && !is_blank(**c)).count();
                let token = match &rest[..length] {
                    "in" => Token::In,
                    "notin" => Token::NotIn,
                    _ => Token::Identifier,
                };
                // Upstream swallows the NUL that ends an identifier.
                at += usize::from(bytes.get(length) == Some(&0));
                (token, length)
            }
        };
        items.push((token, &rest[..length]));
        at += length;
    }
}

struct Parser<'a> {
    items: Vec<(Token, &'a str)>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek_operator(&self) -> (Token, &'a str) {
        self.items.get(self.at).copied().unwrap_or((Token::End, ""))
    }

    /// The token here, `in` and `notin` taken as words.
    fn peek(&self) -> (Token, &'a str) {
        match self.peek_operator() {
            (Token::In | Token::NotIn, text) => (Token::Identifier, text),
            other => other,
        }
    }

    fn next(&mut self) -> (Token, &'a str) {
        let item = self.peek();
        self.at += 1;
        item
    }

    fn parse(mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Identifier | Token::Not, _) => {
                    let requirement =
                        self.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?;
                    requirements.push(requirement);
                    match self.next() {
                        (Token::End, _) => return Ok(requirements),
                        (Token::Comma, _) => match self.peek() {
                            (Token::Identifier | Token::Not, _) => {}
                            (_, text) => return Err(format!("found '{text}', expected: identifier after ','")),
                        },
                        (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
                    }
                }
                (Token::End, _) => return Ok(requirements),
                (_, text) => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let messages = names::qualified_name(key);
        if !messages.is_empty() {
            // The path is upstream's print of "no path".
            return Err(Error::invalid(&Path::new("<nil>"), key, messages.join("; ")).to_string());
        }
        let new = |operator, values| Requirement::new(key, operator, values).map_err(|error| error.0);
        let ends = matches!(self.peek(), (Token::End | Token::Comma, _));
        if negated {
            return new(Operator::DoesNotExist, Vec::new());
        }
        if ends {
            return new(Operator::Exists, Vec::new());
        }
        let (token, text) = self.peek_operator();
        self.at += 1;
        let operator = match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            _ => return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        values.sort_unstable();
        values.dedup();
        new(operator, values.into_iter().map(SmolStr::new).collect())
    }

    fn values(&mut self) -> Result<Vec<&'a str>, String> {
        match self.next() {
            (Token::Open, _) => {}
            (_, text) => return Err(format!("found '{text}' expected: '('")),
        }
        match self.peek() {
            (Token::Identifier | Token::Comma, text) => {
                let values = self.identifiers()?;
                match self.next() {
                    (Token::Close, _) => Ok(values),
                    _ => Err(format!("found '{text}', expected: ')'")),
                }
            }
            (Token::Close, _) => {
                self.at += 1;
                Ok(vec![""])
            }
            (_, text) => Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    fn identifiers(&mut self) -> Result<Vec<&'a str>, String> {
        let mut values = Vec::new();
        loop {
            match self.next() {
                (Token::Identifier, text) => {
                    values.push(text);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.push("");
                    }
                    match self.peek() {
                        (Token::Close, _) => {
                            values.push("");
                            return Ok(values);
                        }
                        (Token::Comma, _) => values.push(""),
                        _ => {}
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<&'a str, String> {
        if matches!(self.peek(), (Token::End | Token::Comma, _)) {
            return Ok("");
        }
        match self.next() {
            (Token::Identifier, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    /// The field's label, such as `metadata.name`.
    pub field: SmolStr,
    /// The value, unescaped.
    pub value: SmolStr,
    /// Whether the field must have the value, or must not.
    pub equal: bool,
}

/// A field selector: all its terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    /// The terms, sorted as upstream sorts them.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads the text form: `a=b,c!=d`, with `\` before `\`, `,` and `=` in values.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let terms = parts.into_iter().filter(|part| !part.is_empty()).map(|part| {
            let (field, equal, value) = split_term(part)
                .ok_or_else(|| SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            Ok(FieldTerm { field: field.into(), value: unescape(value)?, equal })
        });
        Ok(Self { terms: terms.collect::<Result<_, _>>()? })
    }

    /// Whether it restricts nothing. Terms that accept an empty value count as restrictions.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether fields match, looked up by label; an absent field is an empty one.
    pub fn matches(&self, field: impl Fn(&str) -> SmolStr) -> bool {
        self.terms.iter().all(|term| (field(&term.field) == term.value) == term.equal)
    }

    /// The value that a field must have, if one is asked for.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let operator = if term.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut is_escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    term.char_indices().find_map(|(at, _)| {
        let (field, rest) = term.split_at(at);
        if let Some(value) = rest.strip_prefix("!=") {
            return Some((field, false, value));
        }
        rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')).map(|value| (field, true, value))
    })
}

fn unescape(value: &str) -> Result<SmolStr, SelectorError> {
    if !value.contains(['\\', ',', '=']) {
        return Ok(value.into());
    }
    let mut text = String::with_capacity(value.len());
    let bad = |sequence: &str| SelectorError(format!("invalid field selector: invalid escape sequence: {sequence}"));
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => text.push(c),
                Some(c) => return Err(bad(&format!("\\{c}"))),
                None => return Err(bad("\\")),
            },
            ',' | '=' => {
                let code = c as u32;
                return Err(SelectorError(format!("invalid field selector: unescaped character in value: {code}")));
            }
            c => text.push(c),
        }
    }
    Ok(text.into())
}

/// A value as it must be written in a field selector.
pub fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_selectors_are_read_and_printed_canonically() {
        for (text, expect) in [
            ("", ""),
            ("a=b", "a=b"),
            ("a==b,c!=d", "a==b,c!=d"),
            ("x in (foo,,baz),y,z notin ()", "x in (,baz,foo),y,z notin ()"),
            ("!a , b", "!a,b"),
            ("z,a", "a,z"),
            ("a>1,b<2", "a>1,b<2"),
            ("a=", "a="),
            ("a=,b", "a=,b"),
            ("in in (in)", "in in (in)"),
            ("x in (a,a)", "x in (a)"),
            ("example.com/a in ( b , c )", "example.com/a in (b,c)"),
        ] {
            assert_eq!(Selector::parse(text).map(|s| s.to_string()), Ok(expect.to_owned()), "{text}");
        }
    }

    #[test]
    fn bad_selectors_are_refused_in_upstreams_words() {
        for (text, expect) in [
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("x in b", "unable to parse requirement: found 'b' expected: '('"),
            ("x in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value \
                     must be an integer",
            ),
            (
                "a=-b",
                "unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label must be an empty \
                      string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                      alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation \
                      is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            (
                "a/b/c",
                "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must consist of \
                       alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
                       character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                       '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' \
                       (e.g. 'example.com/MyName')",
            ),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().0, expect, "{text}");
        }
    }

    #[test]
    fn selectors_match_as_they_say() {
        let labels: Map = [("app", "web"), ("tier", ""), ("n", "5")].into_iter().collect();
        for (text, expect) in [
            ("", true),
            ("app=web", true),
            ("app=db", false),
            ("app!=db", true),
            ("absent!=db", true),
            ("app in (db,web),tier=", true),
            ("app notin (web)", false),
            ("tier", true),
            ("!tier", false),
            ("!absent", true),
            ("n>4", true),
            ("n<5", false),
            ("app>1", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches_labels(Some(&labels)), expect, "{text}");
        }
        assert!(!Selector::from_value(None).unwrap().matches_labels(Some(&labels)));
        assert!(Selector::from_value(Some(&Map::new().into())).unwrap().matches_labels(None));
    }

    #[test]
    fn field_selectors_are_read_and_escaped() {
        let selector = FieldSelector::parse("b!=2,a==x\\,y\\=\\\\z").unwrap();
        assert_eq!(selector.to_string(), "a=x\\,y\\=\\\\z,b!=2");
        assert_eq!(selector.exact("a"), Some("x,y=\\z"));
        assert!(selector.matches(|field| if field == "a" { "x,y=\\z".into() } else { "3".into() }));
        for (text, expect) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
            ("a=\\", "invalid field selector: invalid escape sequence: \\"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().0, expect);
        }
    }
}
