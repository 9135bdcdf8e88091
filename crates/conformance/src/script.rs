//! The text form of a recorded conversation. `scripts/README.md` explains it to people; this file parses and prints it.
//!
//! A script is a list of cases, a case a list of steps, a step one request and its expected answer. Printing what
//! was parsed gives the same text (but for the spacing), so that recording only changes what the server answered.

use std::fmt::{self, Write as _};

use serde_json::Value;

use crate::Error;

/// One theme: a file of cases.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Comment lines at the top of the file.
    pub(crate) notes: Vec<String>,
    pub(crate) cases: Vec<Case>,
}

/// A conversation in a namespace of its own.
#[derive(Debug, Default)]
pub(crate) struct Case {
    pub(crate) title: String,
    /// `% managedFields`: the answers' managedFields are part of the expectation.
    pub(crate) managed_fields: bool,
    pub(crate) notes: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

/// A request and what is expected of its answer.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) notes: Vec<String>,
    /// `% until POINTER VALUE`: the request is repeated until its answer says so.
    pub(crate) until: Option<(String, Value)>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) answer: Option<Answer>,
    /// `= NAME POINTER`: values of the answer that later steps use as `$NAME`.
    pub(crate) captures: Vec<(String, String)>,
}

/// How much of an answer's body is expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it, and nothing else.
    #[default]
    Whole,
    /// `~`: at least what is written.
    Part,
    /// `*`: any body will do.
    Nothing,
}

/// An expected answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) extent: Extent,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// `! cite: WHY`: written by hand, and kept when recording, for the reason given.
    pub(crate) cites: Vec<String>,
}

impl Script {
    /// Reads a script; the error names the line.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, Error> {
        let mut script = Self::default();
        let mut notes: Vec<String> = Vec::new();
        let mut until = None;
        let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line)).peekable();
        while let Some((number, line)) = lines.next() {
            let bad = |what: &str| Error::Script { file: file.to_owned(), line: number, what: what.to_owned() };
            if line.trim().is_empty() {
                if script.cases.is_empty() && !notes.is_empty() {
                    script.notes.append(&mut notes);
                }
                continue;
            }
            if let Some(note) = line.strip_prefix('#') {
                notes.push(note.strip_prefix(' ').unwrap_or(note).to_owned());
                continue;
            }
            if let Some(title) = line.strip_prefix("== ") {
                let notes = std::mem::take(&mut notes);
                script.cases.push(Case { title: title.to_owned(), notes, ..Case::default() });
                continue;
            }
            let case = script.cases.last_mut().ok_or_else(|| bad("expected `== title` first"))?;
            if let Some(option) = line.strip_prefix("% ") {
                match option.split_once(' ') {
                    None if option == "managedFields" => case.managed_fields = true,
                    Some(("until", condition)) => {
                        let (pointer, value) =
                            condition.split_once(' ').ok_or_else(|| bad("until wants a pointer and a value"))?;
                        let value = serde_json::from_str(value).map_err(|e| bad(&format!("until: {e}")))?;
                        until = Some((pointer.to_owned(), value));
                    }
                    _ => return Err(bad("unknown option")),
                }
            } else if let Some(request) = strip(line, '>') {
                let (method, path) = request.split_once(' ').ok_or_else(|| bad("expected `> METHOD PATH`"))?;
                let mut block = Vec::new();
                while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with('>')) {
                    block.push(strip(line, '>').unwrap_or(""));
                }
                let (headers, body) = head_and_body(&block).ok_or_else(|| bad("expected `> Header: value`"))?;
                case.steps.push(Step {
                    line: number,
                    notes: std::mem::take(&mut notes),
                    until: until.take(),
                    method: method.to_owned(),
                    path: path.to_owned(),
                    headers,
                    body,
                    ..Step::default()
                });
            } else if let Some(status) = strip(line, '<') {
                let step = case.steps.last_mut().ok_or_else(|| bad("an answer without a request"))?;
                if step.answer.is_some() {
                    return Err(bad("a second answer to one request"));
                }
                let (code, extent) = match status.split_once(' ') {
                    None => (status, Extent::Whole),
                    Some((code, "~")) => (code, Extent::Part),
                    Some((code, "*")) => (code, Extent::Nothing),
                    Some(_) => return Err(bad("expected `< STATUS`, `< STATUS ~` or `< STATUS *`")),
                };
                let status = code.parse().map_err(|_| bad("a status is a number"))?;
                let mut block = Vec::new();
                while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with('<')) {
                    block.push(strip(line, '<').unwrap_or(""));
                }
                let (headers, body) = head_and_body(&block).ok_or_else(|| bad("expected `< Header: value`"))?;
                step.answer = Some(Answer { status, extent, headers, body, ..Answer::default() });
            } else if let Some(remark) = line.strip_prefix("! ") {
                let answer = case.steps.last_mut().and_then(|step| step.answer.as_mut());
                let answer = answer.ok_or_else(|| bad("a remark without an answer"))?;
                match remark.split_once(": ") {
                    Some(("cite", why)) => answer.cites.push(why.to_owned()),
                    _ => return Err(bad("expected `! cite: …`")),
                }
            } else if let Some(capture) = line.strip_prefix("= ") {
                let step = case.steps.last_mut().ok_or_else(|| bad("a capture without a request"))?;
                let (name, pointer) = capture.split_once(' ').ok_or_else(|| bad("expected `= NAME POINTER`"))?;
                step.captures.push((name.to_owned(), pointer.to_owned()));
            } else {
                return Err(bad("a line starts with one of # == % > < ! ="));
            }
        }
        Ok(script)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        notes(&mut text, &self.notes);
        for case in &self.cases {
            if !text.is_empty() {
                text.push('\n');
            }
            notes(&mut text, &case.notes);
            writeln!(text, "== {}", case.title)?;
            if case.managed_fields {
                text.push_str("% managedFields\n");
            }
            for step in &case.steps {
                text.push('\n');
                notes(&mut text, &step.notes);
                if let Some((pointer, value)) = &step.until {
                    writeln!(text, "% until {pointer} {value}")?;
                }
                writeln!(text, "> {} {}", step.method, step.path)?;
                block(&mut text, '>', &step.headers, &step.body);
                if let Some(answer) = &step.answer {
                    let extent = match answer.extent {
                        Extent::Whole => "",
                        Extent::Part => " ~",
                        Extent::Nothing => " *",
                    };
                    writeln!(text, "< {}{extent}", answer.status)?;
                    block(&mut text, '<', &answer.headers, &answer.body);
                    for why in &answer.cites {
                        writeln!(text, "! cite: {why}")?;
                    }
                }
                for (name, pointer) in &step.captures {
                    writeln!(text, "= {name} {pointer}")?;
                }
            }
        }
        f.write_str(&text)
    }
}

/// A line without its mark; `None` if it has another.
fn strip(line: &str, mark: char) -> Option<&str> {
    let rest = line.strip_prefix(mark)?;
    Some(rest.strip_prefix(' ').unwrap_or(rest))
}

type Headers = Vec<(String, String)>;

/// Splits a block at its first empty line into headers and body.
fn head_and_body(block: &[&str]) -> Option<(Headers, String)> {
    let end = block.iter().position(|line| line.is_empty()).unwrap_or(block.len());
    let mut headers = Vec::new();
    for line in &block[..end] {
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let body = block.get(end + 1..).unwrap_or_default().join("\n");
    Some((headers, body))
}

fn notes(text: &mut String, notes: &[String]) {
    for note in notes {
        text.push_str(if note.is_empty() { "#" } else { "# " });
        text.push_str(note);
        text.push('\n');
    }
}

fn block(text: &mut String, mark: char, headers: &[(String, String)], body: &str) {
    for (name, value) in headers {
        text.push_str(&format!("{mark} {name}: {value}\n"));
    }
    if !body.is_empty() {
        text.push(mark);
        text.push('\n');
        for line in body.split('\n') {
            text.push(mark);
            if !line.is_empty() {
                text.push(' ');
                text.push_str(line);
            }
            text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_gives_what_was_parsed() {
        let text = "# What the theme is.\n\n# Why the case is.\n== a case\n% managedFields\n\n# a step\n% until /a \"b\"\n> POST /api\n> X: y\n>\n> {\n>\n>   \"a\": 1\n> }\n< 201 ~\n< Warning: 299 - \"w\"\n<\n< {}\n! cite: because\n= rv /metadata/resourceVersion\n\n> GET /\n< 200 *\n";
        assert_eq!(Script::parse("t", text).unwrap().to_string(), text);
    }

    fn check_error(text: &str, line: usize) {
        match Script::parse("t", text) {
            Err(Error::Script { line: found, .. }) => assert_eq!(found, line),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errors_name_the_line() {
        check_error("> GET /", 1);
        check_error("== c\n> GET", 2);
        check_error("== c\n> GET /\n< 20x", 3);
        check_error("== c\n> GET /\n< 200\n< 200\n\n< 200", 3);
        check_error("== c\n> GET /\n< 200\n\n< 200", 5);
        check_error("== c\n> GET /\n! cite: x", 3);
        check_error("== c\n% unless", 2);
        check_error("== c\nhello", 2);
    }
}
