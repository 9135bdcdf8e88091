//! Request bodies: from bytes to an object of the expected kind, with upstream's refusals.

use api_codec::json::{DecodeError, Problem};
use api_codec::{TypeCodec, json, meta, proto, yaml};
use api_schema::{SmolStr, Value, format_smolstr};
use api_semantics::field::quoted;
use api_semantics::status::Status;

use crate::options::FieldValidation;

/// How a body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Upstream's protobuf envelope.
    Protobuf,
}

/// What a body shall be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The type; none for custom resources without a schema.
    pub ty: Option<TypeCodec<'a>>,
    /// `group/version`.
    pub api_version: &'a str,
    /// The kind.
    pub kind: &'a str,
}

/// Decodes a body. Warnings are for the client.
///
/// # Errors
/// 400 in upstream's words.
pub fn decode(
    expected: Expected<'_>,
    layout: Layout,
    body: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let (mut value, problems, stated) = match layout {
        Layout::Protobuf => {
            let (value, stated) = decode_protobuf(expected, body)?;
            (value, Vec::new(), stated)
        }
        Layout::Json | Layout::Yaml => decode_text(expected, layout, body, validation)?,
    };
    if !problems.is_empty() {
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.extend(crate::ownership::problem_warnings(&problems)),
            FieldValidation::Strict => {
                let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let why = format!("strict decoding error: {}", all.join(", "));
                return Err(cannot_be(expected, Some(&stated), &why, body));
            }
        }
    }
    if stated.0 != expected.api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            stated.0, expected.api_version
        )));
    }
    let map = value.make_map();
    map.insert("apiVersion", expected.api_version);
    map.insert("kind", expected.kind);
    Ok(value)
}

/// apiVersion and kind as the data states them.
type Stated = (SmolStr, SmolStr);

fn decode_text(
    expected: Expected<'_>,
    layout: Layout,
    body: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<Problem>, Stated), Status> {
    let options = json::Options { problems: validation != FieldValidation::Ignore };
    let read = |ty| match layout {
        Layout::Yaml => yaml::decode(ty, body, options),
        _ => json::decode(ty, body, options),
    };
    // The data says first what it is; only then is it read as that.
    let head = type_meta(layout, body).map_err(|error| cannot_be(expected, None, &unreadable(&error), body))?;
    let stated = (
        if head.0.is_empty() { expected.api_version.into() } else { head.0 },
        if head.1.is_empty() { expected.kind.into() } else { head.1 },
    );
    if stated.0.matches('/').count() > 1 {
        return Err(cannot_be(expected, None, &format!("unexpected GroupVersion string: {}", stated.0), body));
    }
    if stated.1 == expected.kind && stated.0 != expected.api_version && is_unregistered(expected, &stated) {
        return Err(cannot_be(expected, Some(&stated), &unregistered(&stated), body));
    }
    if stated.0.matches('/').count() > 1 {
        return Err(cannot_be(expected, None, &format!("unexpected GroupVersion string: {}", stated.0), body));
    }
    let known = is_builtin(&stated.0, &stated.1);
    // Objects of another version of a kind are read; what they may be used for is decided later.
    let unknown_version = !known && stated.0 != expected.api_version && is_builtin(expected.api_version, expected.kind);
    if stated.1 != expected.kind || unknown_version {
        let why = if known {
            let package = |api_version: &str| {
                let (group, _) = api_version.rsplit_once('/').unwrap_or(("", api_version));
                group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core").to_owned()
            };
            format!(
                "converting (v1.{}) to ({}.{}): unknown conversion",
                stated.1,
                package(expected.api_version),
                expected.kind
            )
        } else {
            format!(
                "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
                quoted(&stated.1),
                quoted(&stated.0)
            )
        };
        return Err(cannot_be(expected, Some(&stated), &why, body));
    }
    match read(expected.ty) {
        Ok(decoded) => Ok((decoded.value, decoded.problems, stated)),
        Err(error @ (DecodeError::Syntax(_) | DecodeError::Yaml(_))) => {
            Err(cannot_be(expected, None, &unreadable(&error), body))
        }
        Err(error) => Err(cannot_be(expected, Some(&stated), &error.to_string(), body)),
    }
}

/// Whether a kind is not known in the group and version that the data states, while the expected one is built in.
fn is_unregistered(expected: Expected<'_>, stated: &Stated) -> bool {
    let known = |(api_version, kind): (&str, &str)| {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        api_types::schema().find(&api_types::type_name(group, version, kind)).is_some()
    };
    known((expected.api_version, expected.kind)) && !known((&stated.0, &stated.1))
}

fn unregistered(stated: &Stated) -> String {
    format!(
        "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        quoted(&stated.1),
        quoted(&stated.0)
    )
}

/// Whether there is a built-in kind of this name.
fn is_builtin(api_version: &str, kind: &str) -> bool {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    api_types::schema().find(&api_types::type_name(group, version, kind)).is_some()
}

/// Reads apiVersion and kind alone.
fn type_meta(layout: Layout, body: &[u8]) -> Result<Stated, DecodeError> {
    let stated = match layout {
        Layout::Yaml => yaml::to_json(body).and_then(|text| meta::type_meta(&text)),
        _ => meta::type_meta(body),
    };
    stated.map(|stated| (stated.api_version.into(), stated.kind.into()))
}

/// Why apiVersion and kind could not be read: YAML must become JSON first.
fn unreadable(error: &DecodeError) -> String {
    match error {
        DecodeError::Yaml(why) => why.clone(),
        why => format!("couldn't get version/kind; json parse error: {why}"),
    }
}

fn decode_protobuf(expected: Expected<'_>, body: &[u8]) -> Result<(Value, Stated), Status> {
    let envelope = match proto::envelope::split(body) {
        Ok(envelope) => envelope,
        Err(error) => return Err(cannot_be(expected, None, &error.to_string(), body)),
    };
    let or = |text: &str, default: &str| SmolStr::new(if text.is_empty() { default } else { text });
    let stated = (or(&envelope.api_version, expected.api_version), or(&envelope.kind, expected.kind));
    let Some(ty) = expected.ty else {
        return Err(Status::unsupported_media_type(&["application/json", "application/yaml"]));
    };
    if stated.1 != expected.kind {
        let why = format!(
            "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            quoted(&stated.1),
            quoted(&stated.0)
        );
        return Err(cannot_be(expected, Some(&stated), &why, body));
    }
    match proto::decode(ty, envelope.raw) {
        Ok(value) => Ok((value, stated)),
        Err(error) => Err(cannot_be(expected, Some(&stated), &error.to_string(), body)),
    }
}

fn version_of(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or_default()
}

/// The refusal of a body that is no object of the expected kind.
fn cannot_be(expected: Expected<'_>, stated: Option<&Stated>, why: &str, body: &[u8]) -> Status {
    match stated {
        Some((api_version, kind)) => Status::bad_request(format!(
            "{kind} in version {} cannot be handled as a {}: {why}",
            quoted(version_of(api_version)),
            expected.kind
        )),
        None => Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({})",
            expected.kind,
            summary(body)
        )),
    }
}

/// The start of a body for messages: as text if it looks like JSON, otherwise in hexadecimal.
fn summary(body: &[u8]) -> SmolStr {
    const MAX: usize = 30;
    if body.is_empty() {
        return "<empty>".into();
    }
    let (start, more) = if body.len() > MAX { (&body[..MAX], " ...") } else { (body, "") };
    if body[0] == b'{' {
        format_smolstr!("{}{more}", String::from_utf8_lossy(start))
    } else {
        let hex: String = start.iter().map(|byte| format!("{byte:02x}")).collect();
        format_smolstr!("{hex}{more}")
    }
}
