//! Where a bearer token may stand in a request: the Authorization header, or a WebSocket subprotocol.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue};

const SUBPROTOCOL_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
const EXTRA_SPACE_WARNING: &str =
    "the provided Authorization header contains extra space before the bearer token, and is ignored";

/// What the Authorization header holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Header<'a> {
    /// No bearer token.
    None,
    /// A bearer token.
    Token(&'a str),
    /// A bearer token that is not taken, with a warning for the client.
    Ignored(&'static str),
}

pub(crate) fn from_header(headers: &HeaderMap) -> Header<'_> {
    let Some(value) = headers.get(AUTHORIZATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()) else {
        return Header::None;
    };
    let mut parts = value.trim().splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(scheme), Some(token), rest) if scheme.eq_ignore_ascii_case("bearer") => match (token, rest) {
            ("", Some(_)) => Header::Ignored(EXTRA_SPACE_WARNING),
            ("", None) => Header::None,
            (token, _) => Header::Token(token),
        },
        _ => Header::None,
    }
}

/// A token that stood among the subprotocols, and the subprotocols without it.
pub(crate) struct Subprotocol {
    pub(crate) token: String,
    others: String,
}

impl Subprotocol {
    /// Looks for a token; refuses what is there but not in order.
    pub(crate) fn find(headers: &HeaderMap) -> Result<Option<Self>, &'static str> {
        if !is_web_socket(headers) {
            return Ok(None);
        }
        let mut token: Option<String> = None;
        let mut others: Vec<&str> = Vec::new();
        for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
            let Ok(value) = value.to_str() else { continue };
            for protocol in value.split(',').map(str::trim) {
                let Some(encoded) = protocol.strip_prefix(SUBPROTOCOL_PREFIX) else {
                    others.push(protocol);
                    continue;
                };
                if token.is_some() {
                    return Err("multiple base64.bearer.authorization tokens specified");
                }
                let bytes = URL_SAFE_NO_PAD
                    .decode(encoded)
                    .map_err(|_| "invalid base64.bearer.authorization token encoding")?;
                token = Some(String::from_utf8(bytes).map_err(|_| "invalid base64.bearer.authorization token")?);
            }
        }
        match token.filter(|token| !token.is_empty()) {
            None => Ok(None),
            // One must be left to be echoed to the client.
            Some(_) if others.is_empty() => Err("missing additional subprotocol"),
            Some(token) => Ok(Some(Self { token, others: others.join(",") })),
        }
    }

    /// Leaves the other subprotocols in the request only.
    pub(crate) fn remove_from(self, headers: &mut HeaderMap) {
        match HeaderValue::try_from(self.others) {
            Ok(value) => headers.insert(SEC_WEBSOCKET_PROTOCOL, value),
            Err(_) => headers.remove(SEC_WEBSOCKET_PROTOCOL),
        };
    }
}

fn is_web_socket(headers: &HeaderMap) -> bool {
    let is = |value: &HeaderValue, wanted: &str| {
        value.to_str().is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted)))
    };
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && headers.get_all(CONNECTION).into_iter().any(|value| is(value, "upgrade"))
}
