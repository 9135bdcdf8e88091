//! Media types: what a body is, and what an answer shall be (apiserver `negotiation`).

use api_schema::SmolStr;
use api_semantics::status::Status;

/// How bytes are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl Encoding {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn from_media_type(text: &str) -> Option<Self> {
        match text {
            "application/json" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// What objects are turned into before they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Nothing.
    #[default]
    None,
    /// `as=Table` of meta.k8s.io/v1 or v1beta1 (`true`).
    Table {
        /// Whether v1beta1 was asked for.
        beta: bool,
    },
    /// `as=PartialObjectMetadata` of meta.k8s.io/v1 or v1beta1 (`true`).
    PartialObjectMetadata {
        /// Whether v1beta1 was asked for.
        beta: bool,
    },
    /// `as=PartialObjectMetadataList`, for lists only.
    PartialObjectMetadataList {
        /// Whether v1beta1 was asked for.
        beta: bool,
    },
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// How bytes are laid out.
    pub encoding: Encoding,
    /// What the object becomes first.
    pub transform: Transform,
    /// Whether JSON is indented for people.
    pub pretty: bool,
}

impl Form {
    /// Compact JSON.
    pub const JSON: Self = Self { encoding: Encoding::Json, transform: Transform::None, pretty: false };
}

/// What every endpoint for objects can answer with, in upstream's order.
pub(crate) const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// What watches can answer with.
pub(crate) const STREAMED: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
/// What routes of lists produce: lists and watches.
pub(crate) const LISTED: [&str; 5] = [ACCEPTED[0], ACCEPTED[1], ACCEPTED[2], STREAMED[0], STREAMED[1]];

/// One clause of an Accept header.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Clause {
    /// `type/subtype`, lower case.
    pub media_type: SmolStr,
    /// The parameters but `q`.
    pub parameters: Vec<(SmolStr, SmolStr)>,
    /// The weight.
    pub q: f32,
}

impl Clause {
    /// The value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The clauses of an Accept header, by falling weight; equal weights keep their order.
pub(crate) fn clauses(accept: &str) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = accept
        .split(',')
        .filter_map(|part| {
            let mut parts = part.split(';').map(str::trim);
            let media_type = parts.next().filter(|m| !m.is_empty())?.to_ascii_lowercase();
            let mut clause = Clause { media_type: media_type.into(), q: 1.0, ..Clause::default() };
            for parameter in parts {
                let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                let value = value.trim().trim_matches('"');
                match key.trim() {
                    "q" => clause.q = value.parse().unwrap_or(1.0),
                    key => clause.parameters.push((key.into(), value.into())),
                }
            }
            Some(clause)
        })
        .collect();
    clauses.sort_by(|a, b| b.q.total_cmp(&a.q));
    clauses
}

/// What an endpoint can do, for negotiation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Whether objects can be shown as tables and partial metadata.
    pub transforms: bool,
    /// Whether protobuf is possible (not for custom resources).
    pub protobuf: bool,
}

/// Chooses the form of an answer.
///
/// # Errors
/// 406 if nothing that the client accepts is served.
pub(crate) fn negotiate(
    accept: Option<&str>,
    pretty: Option<bool>,
    user_agent: &str,
    offer: Offer,
) -> Result<Form, Status> {
    let by_people = ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| user_agent.starts_with(prefix));
    let accept = accept.unwrap_or_default();
    if accept.is_empty() {
        return Ok(Form { pretty: pretty.unwrap_or(by_people), ..Form::JSON });
    }
    for clause in clauses(accept) {
        let encoding = match &*clause.media_type {
            "*/*" | "application/*" => Encoding::Json,
            other => match Encoding::from_media_type(other) {
                Some(Encoding::Protobuf) if !offer.protobuf && clause.parameter("as").is_none() => continue,
                Some(encoding) => encoding,
                None => continue,
            },
        };
        let Some(transform) = transform(&clause, offer) else { continue };
        if encoding == Encoding::Protobuf && matches!(transform, Transform::Table { .. }) {
            continue;
        }
        let pretty = pretty.unwrap_or_else(|| clause.parameter("pretty") == Some("1") || by_people);
        return Ok(Form { encoding, transform, pretty });
    }
    Err(not_acceptable(if offer.protobuf { &ACCEPTED } else { &ACCEPTED[..2] }))
}

/// 406 of an endpoint that has none of the forms asked for.
pub(crate) fn not_acceptable(accepted: &[&str]) -> Status {
    let message = format!("only the following media types are accepted: {}", accepted.join(", "));
    Status::new(406, "NotAcceptable", message)
}

/// Whether a route that produces some media types may answer at all: routes of built-in kinds compare the media types
/// as they stand, before anything looks at parameters and weights.
///
/// # Errors
/// 406 if none of them is accepted.
pub(crate) fn route_accepts(accept: Option<&str>, produces: &[&str]) -> Result<(), Status> {
    let accept = accept.unwrap_or_default();
    let accepted = |clause: &str| {
        let media_type = clause.split(';').next().unwrap_or_default().trim();
        media_type == "*/*" || produces.contains(&media_type)
    };
    if accept.is_empty() || accept.split(',').any(accepted) {
        return Ok(());
    }
    let message = format!("406: Not Acceptable\n\nAvailable representations: {}", produces.join(", "));
    Err(Status::generic(406, "NotAcceptable", message))
}

/// The transformation that a clause asks for; `None` if it cannot be had.
fn transform(clause: &Clause, offer: Offer) -> Option<Transform> {
    let Some(target) = clause.parameter("as") else { return Some(Transform::None) };
    let beta = match (clause.parameter("g"), clause.parameter("v")) {
        (Some("meta.k8s.io"), Some("v1")) => false,
        (Some("meta.k8s.io"), Some("v1beta1")) => true,
        _ => return None,
    };
    match target {
        _ if !offer.transforms => None,
        "Table" => Some(Transform::Table { beta }),
        "PartialObjectMetadata" => Some(Transform::PartialObjectMetadata { beta }),
        "PartialObjectMetadataList" => Some(Transform::PartialObjectMetadataList { beta }),
        _ => None,
    }
}

/// The encoding of a request body.
///
/// # Errors
/// 415 if it is none of ours.
pub(crate) fn body_encoding(content_type: Option<&str>) -> Result<Encoding, Status> {
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if media_type.is_empty() {
        return Ok(Encoding::Json);
    }
    Encoding::from_media_type(&media_type.to_ascii_lowercase()).ok_or_else(|| Status::unsupported_media_type(&ACCEPTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: Offer = Offer { transforms: true, protobuf: true };

    #[track_caller]
    fn check(accept: &str, expected: Result<(Encoding, Transform), u16>) {
        let form = negotiate(Some(accept), None, "", LIST);
        assert_eq!(form.map(|f| (f.encoding, f.transform)).map_err(|s| s.code), expected, "{accept}");
    }

    #[test]
    fn the_first_acceptable_clause_of_the_highest_weight_wins() {
        check("", Ok((Encoding::Json, Transform::None)));
        check("*/*", Ok((Encoding::Json, Transform::None)));
        check("application/vnd.kubernetes.protobuf,application/json", Ok((Encoding::Protobuf, Transform::None)));
        check("application/json;q=0.1, application/yaml;q=0.9", Ok((Encoding::Yaml, Transform::None)));
        check("text/html", Err(406));
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Ok((Encoding::Json, Transform::Table { beta: false })),
        );
        check("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Ok((Encoding::Json, Transform::None)));
        check(
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
            Ok((Encoding::Json, Transform::Table { beta: false })),
        );
    }

    #[test]
    fn routes_compare_media_types_as_they_stand() {
        for (accept, accepted) in [
            ("", true),
            ("*/*", true),
            ("application/json;as=Nope", true),
            ("text/html, application/yaml;q=0.1", true),
            ("application/*", false),
            ("text/html", false),
        ] {
            assert_eq!(route_accepts(Some(accept), &ACCEPTED).is_ok(), accepted, "{accept}");
        }
        let refused = route_accepts(Some("text/html"), &ACCEPTED[..1]).expect_err("no HTML is served");
        assert_eq!(refused.message, "406: Not Acceptable\n\nAvailable representations: application/json");
    }

    #[test]
    fn people_get_indented_json() {
        let pretty = |agent, ask| negotiate(None, ask, agent, LIST).expect("JSON is always possible").pretty;
        assert!(pretty("curl/8", None));
        assert!(!pretty("curl/8", Some(false)));
        assert!(!pretty("kubectl/v1.36.0", None));
        assert!(pretty("kubectl/v1.36.0", Some(true)));
    }
}
