//! Sends the scripts' requests and compares, or records, the answers.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Error;
use crate::expand::{self, Variables};
use crate::http::{Client, Request, Response, Target};
use crate::invalid;
use crate::mask::Masker;
use crate::render;
use crate::script::{Answer, Case, Extent, Script, Step};
use crate::template::{self, Bindings, Difference, Rules};

/// How long a `% until` request is repeated.
const UNTIL_MAX: Duration = Duration::from_secs(15);

/// Pause between two askings of a `% until` request.
const UNTIL_PAUSE: Duration = Duration::from_millis(20);

/// How many differences of one answer are shown.
const DETAILS_MAX: usize = 20;

/// Headers that are part of an expectation, with the value that goes without saying.
const HEADERS: [(&str, Option<&str>); 8] = [
    ("Content-Type", Some("application/json")),
    ("Cache-Control", Some("no-cache, private")),
    ("Warning", None),
    ("Location", None),
    ("Retry-After", None),
    ("WWW-Authenticate", None),
    ("Allow", None),
    ("ETag", None),
];

/// What is done with the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Compare them with the scripts.
    Check,
    /// Write them into the scripts (but keep answers that carry a `cite:`).
    Record,
}

/// One request whose answer was not the expected one.
#[derive(Debug, Clone)]
pub struct Failure {
    /// `file:line`
    pub place: String,
    /// The case's title.
    pub case: String,
    /// Method and path.
    pub request: String,
    /// What differs, one line each.
    pub details: Vec<String>,
}

/// What became of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Requests answered as expected (or recorded).
    pub passed: usize,
    /// The others.
    pub failures: Vec<Failure>,
    /// Passed and failed requests by theme.
    pub themes: BTreeMap<String, (usize, usize)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "{} ({}) {}", failure.place, failure.case, failure.request)?;
            for detail in failure.details.iter().take(DETAILS_MAX) {
                writeln!(f, "    {detail}")?;
            }
            if failure.details.len() > DETAILS_MAX {
                writeln!(f, "    and {} more", failure.details.len() - DETAILS_MAX)?;
            }
        }
        for (theme, (passed, failed)) in &self.themes {
            writeln!(f, "{theme}: {passed} passed, {failed} failed")?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failures.len())
    }
}

/// Runs the scripts of a folder in the order of their names. `only` selects: `THEME`, or `THEME/part of a case's title`.
pub fn run(scripts: &Path, target: &Target, mode: Mode, only: Option<&str>) -> Result<Report, Error> {
    let client = Client::new(target)?;
    let (only_theme, only_case) = match only {
        None => ("", ""),
        Some(only) => only.split_once('/').unwrap_or((only, "")),
    };
    let mut report = Report::default();
    for path in script_files(scripts)? {
        let theme = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !only_theme.is_empty() && theme != only_theme {
            continue;
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        let mut script = Script::parse(&file, &text)?;
        let (passed, failed) = (report.passed, report.failures.len());
        for case in script.cases.iter_mut().filter(|case| case.title.contains(only_case)) {
            run_case(&client, &file, case, mode, &mut report)?;
        }
        report.themes.insert(theme, (report.passed - passed, report.failures.len() - failed));
        if mode == Mode::Record {
            fs::write(&path, script.to_string()).map_err(|source| Error::File { path, source })?;
        }
    }
    Ok(report)
}

/// The scripts of a folder, sorted by name.
fn script_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let error = |source| Error::File { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn run_case(client: &Client, file: &str, case: &mut Case, mode: Mode, report: &mut Report) -> Result<(), Error> {
    let namespace = namespace_name();
    let mut variables = Variables::from([("ns".to_owned(), namespace.clone())]);
    let literals: String =
        case.steps.iter().map(|step| format!("{} {:?} {}\n", step.path, step.headers, step.body)).collect();
    let in_namespace = literals.contains("$ns") || case.steps.iter().any(|step| step.body.contains("$ns"));
    if in_namespace {
        open_namespace(client, &namespace)?;
    }
    let mut masker = Masker::new(&namespace, literals, case.managed_fields);
    let mut bindings = Bindings::default();
    let mut failed = 0;
    for step in &mut case.steps {
        let mut details = Vec::new();
        match ask(client, step, &variables) {
            // A server that hangs or hangs up fails this step; the others are still asked.
            Err(e) => {
                details.push(format!("no answer: {}", e.source().map_or_else(|| e.to_string(), ToString::to_string)))
            }
            Ok(response) => {
                let documents = documents(&response);
                details = capture(step, &documents, &mut variables);
                match mode {
                    Mode::Record => record(step, &response, documents, &mut masker),
                    Mode::Check => {
                        let rules = |extent| Rules { extent, managed_fields: case.managed_fields };
                        details.extend(check(step, &response, &documents, &variables, rules, &mut bindings));
                    }
                }
            }
        }
        if details.is_empty() {
            report.passed += 1;
        } else {
            failed += 1;
            if failed > 1 {
                details.insert(0, "(an earlier step of this case failed too)".to_owned());
            }
            report.failures.push(Failure {
                place: format!("{file}:{}", step.line),
                case: case.title.clone(),
                request: format!("{} {}", step.method, step.path),
                details,
            });
        }
    }
    if in_namespace {
        let path = format!("/api/v1/namespaces/{namespace}");
        talk(client, &Request { method: "DELETE".into(), path, ..Request::default() })?;
    }
    Ok(())
}

/// The name of a namespace that nobody else uses.
pub(crate) fn namespace_name() -> String {
    format!("c-{}", std::iter::repeat_with(fastrand::lowercase).take(6).collect::<String>())
}

/// Makes the case's namespace, and in it the ServiceAccount that a controller would make.
pub(crate) fn open_namespace(client: &Client, namespace: &str) -> Result<(), Error> {
    let json = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    let namespaces = "/api/v1/namespaces".to_owned();
    let accounts = format!("{namespaces}/{namespace}/serviceaccounts");
    for (path, name) in [(namespaces, namespace), (accounts, "default")] {
        let body = format!("{{\"metadata\":{{\"name\":\"{name}\"}}}}").into_bytes();
        let request = Request { method: "POST".into(), path, headers: json.clone(), body };
        let response = talk(client, &request)?;
        if !matches!(response.status, 201 | 409) {
            let answer = String::from_utf8_lossy(&response.body).into_owned();
            let request = format!("{} {} was answered {}", request.method, request.path, response.status);
            return Err(Error::Talk { request, source: std::io::Error::other(answer) });
        }
    }
    Ok(())
}

pub(crate) fn talk(client: &Client, request: &Request) -> Result<Response, Error> {
    client
        .send(request)
        .map_err(|source| Error::Talk { request: format!("{} {}", request.method, request.path), source })
}

/// Sends a step's request, again and again if it waits for a state.
fn ask(client: &Client, step: &Step, variables: &Variables) -> Result<Response, Error> {
    let mut headers: Vec<(String, String)> =
        step.headers.iter().map(|(name, value)| (name.clone(), expand::text(value, variables))).collect();
    if !step.body.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    // An explicit `Content-Type:` without a value sends none.
    headers.retain(|(name, value)| !(name.eq_ignore_ascii_case("content-type") && value.is_empty()));
    let body = expand::bytes(&step.body, variables);
    let request = Request { method: step.method.clone(), path: expand::text(&step.path, variables), headers, body };
    let start = Instant::now();
    loop {
        let response = talk(client, &request)?;
        let Some((pointer, value)) = &step.until else { return Ok(response) };
        let reached = documents(&response).first().is_some_and(|document| {
            // `null` waits for a field to be gone.
            document.pointer(pointer).unwrap_or(&Value::Null) == value
        });
        if reached || start.elapsed() > UNTIL_MAX {
            return Ok(response);
        }
        // The state is another process's: there is nothing to wait on but the next answer.
        std::thread::sleep(UNTIL_PAUSE);
    }
}

/// The JSON documents of a body: one, or one for each watch event; none if it is not JSON, whatever its type says.
fn documents(response: &Response) -> Vec<Value> {
    let json = response.header("content-type").any(|kind| kind.starts_with("application/json"));
    if !json && response.body.first() != Some(&b'{') {
        return Vec::new();
    }
    serde_json::Deserializer::from_slice(&response.body).into_iter().collect::<Result<_, _>>().unwrap_or_default()
}

/// Remembers what later steps need; says what was not there.
fn capture(step: &Step, documents: &[Value], variables: &mut Variables) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, pointer) in &step.captures {
        let found = match documents {
            [document] => document.pointer(pointer).cloned(),
            many => Value::from(many.to_vec()).pointer(pointer).cloned(),
        };
        match found {
            Some(Value::String(text)) => _ = variables.insert(name.clone(), text),
            Some(value) if !value.is_object() && !value.is_array() => {
                _ = variables.insert(name.clone(), value.to_string())
            }
            _ => missing.push(format!("nothing at {pointer} for ${name}")),
        }
    }
    missing
}

fn check(
    step: &Step,
    response: &Response,
    found: &[Value],
    variables: &Variables,
    rules: impl Fn(Extent) -> Rules,
    bindings: &mut Bindings,
) -> Vec<String> {
    let Some(answer) = &step.answer else { return vec!["no answer has been recorded".to_owned()] };
    let mut details = Vec::new();
    if response.status != answer.status {
        let body = String::from_utf8_lossy(&response.body);
        let start: String = body.trim_end().chars().take(600).collect();
        details.push(format!("status: expected {}, found {}: {start}", answer.status, response.status));
        return details;
    }
    if answer.extent == Extent::Nothing {
        return details;
    }
    let mut differences = Vec::new();
    for (name, default) in HEADERS {
        let own: Vec<String> = answer
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| expand::text(value, variables))
            .collect();
        let expected = if own.is_empty() { default.map(str::to_owned).into_iter().collect() } else { own };
        let found: Vec<String> = response.header(name).map(str::to_owned).collect();
        let found = if found.is_empty() && default.is_some() { vec!["-".to_owned()] } else { found };
        if answer.extent == Extent::Part && !answer.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
            continue;
        }
        let same = expected.len() == found.len()
            && expected.iter().zip(&found).all(|(expected, found)| template::text_matches(expected, found, bindings));
        if !same {
            let join = |values: Vec<String>| (!values.is_empty()).then(|| values.join(" | "));
            differences.push(Difference { at: name.to_owned(), expected: join(expected), found: join(found) });
        }
    }
    let expected_text = expand::text(&answer.body, variables);
    let expected: Result<Vec<Value>, _> = match invalid::expand(&expected_text) {
        Some(status) => Ok(vec![status]),
        None => serde_json::Deserializer::from_str(&expected_text).into_iter().collect(),
    };
    match expected {
        Ok(expected) if !found.is_empty() || expected_text.is_empty() => {
            if found.is_empty() && !response.body.is_empty() && answer.extent == Extent::Whole {
                let body = String::from_utf8_lossy(&response.body).chars().take(200).collect();
                differences.push(Difference { at: "body".to_owned(), expected: None, found: Some(body) });
            }
            for i in 0..expected.len().max(found.len()) {
                let at = if expected.len() > 1 || found.len() > 1 { format!("/{i}") } else { String::new() };
                match (expected.get(i), found.get(i)) {
                    (Some(expected), Some(found)) => {
                        template::compare(expected, found, &at, rules(answer.extent), bindings, &mut differences);
                    }
                    (None, Some(_)) if answer.extent == Extent::Part => {}
                    (expected, found) => differences.push(Difference {
                        at,
                        expected: expected.map(render::line),
                        found: found.map(render::line),
                    }),
                }
            }
        }
        _ => differences.extend(compare_text(&expected_text, &body_text(&response.body), answer.extent, bindings)),
    }
    if let (false, [found]) = (differences.is_empty(), found)
        && let (Some(found), true) = (invalid::shorten(found), expected_text.starts_with("Invalid "))
    {
        differences = compare_lines(&expected_text, &found);
    }
    details.extend(differences.iter().map(|difference| {
        let show = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_owned());
        let at = if difference.at.is_empty() { "body" } else { &difference.at };
        format!("{at}: expected {}, found {}", show(&difference.expected), show(&difference.found))
    }));
    details
}

/// A body as text; bytes that are none are named, not shown.
fn body_text(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) if !text.contains('\0') => text.trim_end_matches('\n').to_owned(),
        _ if body.starts_with(b"k8s\0") => "(protobuf)".to_owned(),
        _ => "(binary)".to_owned(),
    }
}

fn compare_text(expected: &str, found: &str, extent: Extent, bindings: &mut Bindings) -> Vec<Difference> {
    if extent == Extent::Part {
        let holds = |line: &&str| found.lines().any(|found| template::text_matches(line, found, bindings));
        let missing: Vec<&str> = {
            let mut holds = holds;
            expected.lines().filter(|line| !holds(line)).collect()
        };
        return missing
            .into_iter()
            .map(|line| Difference { at: "body".to_owned(), expected: Some(line.to_owned()), found: None })
            .collect();
    }
    if template::text_matches(expected, found, bindings) {
        return Vec::new();
    }
    let (expected_lines, found_lines): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    (0..expected_lines.len().max(found_lines.len()))
        .filter_map(|i| {
            let (expected, found) = (expected_lines.get(i), found_lines.get(i));
            let same = matches!((expected, found), (Some(e), Some(f)) if template::text_matches(e, f, bindings));
            let own = |line: Option<&&str>| line.map(|line| (*line).to_owned());
            (!same).then(|| Difference { at: format!("line {}", i + 1), expected: own(expected), found: own(found) })
        })
        .collect()
}

/// Compares two refusals cause by cause, for people: what is missing, what is too much, else that the order differs.
fn compare_lines(expected: &str, found: &str) -> Vec<Difference> {
    let lacks = |lines: &str, line: &str| !lines.lines().any(|other| other == line);
    let missing = expected.lines().filter(|line| lacks(found, line)).map(|line| (Some(line), None));
    let extra = found.lines().filter(|line| lacks(expected, line)).map(|line| (None, Some(line)));
    let mut differences: Vec<Difference> = missing
        .chain(extra)
        .map(|(expected, found): (Option<&str>, Option<&str>)| {
            let own = |line: Option<&str>| line.map(|line| line.trim().to_owned());
            Difference { at: "cause".to_owned(), expected: own(expected), found: own(found) }
        })
        .collect();
    if differences.is_empty() {
        let own = |text: &str| Some(text.replace("\n ", ","));
        differences.push(Difference { at: "order of causes".to_owned(), expected: own(expected), found: own(found) });
    }
    differences
}

/// A redirection to a document by its hash, which is another on each server.
fn without_hash(location: &str) -> String {
    location.split_once("hash=").map_or_else(|| location.to_owned(), |(path, _)| format!("{path}hash=<any>"))
}

/// Puts the answer into the step, unless it was written by hand.
fn record(step: &mut Step, response: &Response, mut documents: Vec<Value>, masker: &mut Masker) {
    documents.iter_mut().for_each(|document| masker.document(document));
    let before = step.answer.take().unwrap_or_default();
    if !before.cites.is_empty() || before.extent == Extent::Part {
        step.answer = Some(before);
        return;
    }
    let mut answer = Answer { status: response.status, extent: before.extent, ..Answer::default() };
    if answer.extent == Extent::Whole {
        for (name, default) in HEADERS {
            let values: Vec<String> = match name {
                "ETag" => response.header(name).map(|_| "<etag>".to_owned()).collect(),
                "Location" => response.header(name).map(|at| without_hash(&masker.text(at))).collect(),
                _ => response.header(name).map(|value| masker.text(value)).collect(),
            };
            match (values.as_slice(), default) {
                ([], Some(_)) => answer.headers.push((name.to_owned(), "-".to_owned())),
                ([value], Some(default)) if value == default => {}
                _ => answer.headers.extend(values.into_iter().map(|value| (name.to_owned(), value))),
            }
        }
        answer.body = if documents.is_empty() {
            match response.header("content-type").any(|kind| kind.starts_with("application/yaml")) {
                true => masker.yaml(&body_text(&response.body)),
                false => masker.text(&body_text(&response.body)),
            }
        } else {
            let text = |document| invalid::shorten(document).unwrap_or_else(|| render::pretty(document));
            documents.iter().map(text).collect::<Vec<_>>().join("\n")
        };
    }
    step.answer = Some(answer);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints each committed script anew; `UPDATE_EXPECT=1` writes it.
    #[test]
    fn every_script_is_in_its_canonical_form_and_has_all_answers() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
        let files = script_files(&folder).unwrap();
        assert!(files.len() >= 20, "only {} scripts", files.len());
        for path in files {
            let text = fs::read_to_string(&path).unwrap();
            let script = Script::parse(&path.to_string_lossy(), &text).unwrap();
            for step in script.cases.iter().flat_map(|case| &case.steps) {
                let place = format!("{}:{}", path.display(), step.line);
                let answer = step.answer.as_ref().unwrap_or_else(|| panic!("{place}: no answer"));
                assert!((100..600).contains(&answer.status), "{place}: status {}", answer.status);
            }
            expect_test::expect_file![&path].assert_eq(&script.to_string());
        }
    }

    #[track_caller]
    fn check_answer(answer: &str, response: &Response, expect: &[&str]) {
        let script = Script::parse("t", &format!("== c\n> GET /\n{answer}")).unwrap();
        let step = &script.cases[0].steps[0];
        let rules = |extent| Rules { extent, managed_fields: false };
        let found = documents(response);
        let details = check(step, response, &found, &Variables::new(), rules, &mut Bindings::default());
        assert_eq!(details, expect);
    }

    fn response(headers: &[(&str, &str)], body: &str) -> Response {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Response { status: 200, headers: headers.iter().map(own).collect(), body: body.as_bytes().to_vec() }
    }

    const USUAL: [(&str, &str); 2] = [("content-type", "application/json"), ("cache-control", "no-cache, private")];

    #[test]
    fn status_headers_and_body_are_compared() {
        let answer = response(&USUAL, r#"{"a":1}"#);
        check_answer("< 200\n<\n< {\"a\": 1}", &answer, &[]);
        check_answer("< 200\n<\n< {\"a\": 2}", &answer, &["/a: expected 2, found 1"]);
        check_answer("< 404\n<\n< {\"a\": 1}", &answer, &[r#"status: expected 404, found 200: {"a":1}"#]);
        check_answer("< 200\n< Warning: w\n<\n< {\"a\": 1}", &answer, &["Warning: expected w, found nothing"]);
        check_answer("< 200", &answer, &[r#"body: expected nothing, found {"a": 1}"#]);
        check_answer("< 200 *", &answer, &[]);
        let warned = response(&[USUAL[0], USUAL[1], ("warning", "w")], "{}");
        check_answer("< 200\n<\n< {}", &warned, &["Warning: expected nothing, found w"]);
        let plain = response(&[("content-type", "text/plain")], "ok");
        check_answer("< 200\n< Content-Type: text/plain\n< Cache-Control: -\n<\n< ok", &plain, &[]);
        check_answer(
            "< 200\n< Content-Type: text/plain\n< Cache-Control: -\n<\n< no",
            &plain,
            &["line 1: expected no, found ok"],
        );
        check_answer("< 200 ~\n<\n< o<any>", &plain, &[]);
    }

    #[test]
    fn watch_events_are_compared_one_by_one() {
        let events = response(&USUAL, "{\"type\":\"ADDED\"}\n{\"type\":\"DELETED\"}\n");
        check_answer("< 200\n<\n< {\"type\": \"ADDED\"}\n< {\"type\": \"DELETED\"}", &events, &[]);
        check_answer(
            "< 200\n<\n< {\"type\": \"ADDED\"}",
            &events,
            &[r#"/1: expected nothing, found {"type": "DELETED"}"#],
        );
    }

    #[test]
    fn refusals_are_compared_cause_by_cause() {
        let status = invalid::expand("Invalid Pod \"p\"\n  a: Required value\n  b: Forbidden: no").unwrap();
        let refusal = response(&USUAL, &status.to_string());
        check_answer("< 200\n<\n< Invalid Pod \"p\"\n<   a: Required value\n<   b: Forbidden: no", &refusal, &[]);
        check_answer(
            "< 200\n<\n< Invalid Pod \"p\"\n<   a: Required value\n<   c: Forbidden: no",
            &refusal,
            &["cause: expected c: Forbidden: no, found nothing", "cause: expected nothing, found b: Forbidden: no"],
        );
        check_answer(
            "< 200\n<\n< Invalid Pod \"p\"\n<   b: Forbidden: no\n<   a: Required value",
            &refusal,
            &[
                r#"order of causes: expected Invalid Pod "p", b: Forbidden: no, a: Required value, found Invalid Pod "p", a: Required value, b: Forbidden: no"#,
            ],
        );
    }
}
