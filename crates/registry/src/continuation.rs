//! Continue tokens, in upstream's form so that other replicas and tools understand them.

use api_codec::json;
use api_schema::{SmolStr, Value};
use api_semantics::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Where the next page of a list starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The revision of the first page; `None` means: go on at the newest (token `rv: -1`).
    pub revision: Option<u64>,
    /// The first key that may follow, relative to what the request lists: a resource or a namespace of it.
    pub start: SmolStr,
}

const VERSION: &str = "meta.k8s.io/v1";

impl Continuation {
    /// The page that follows the key `last`.
    pub fn after(last: &str, revision: Option<u64>) -> Self {
        Self { revision, start: api_schema::format_smolstr!("{last}\0") }
    }

    /// The token that clients send back.
    pub fn encode(&self) -> String {
        let revision = self.revision.map_or("-1".to_owned(), |r| r.to_string());
        let mut token = format!("{{\"v\":\"{VERSION}\",\"rv\":{revision},\"start\":").into_bytes();
        json::encode(None, &Value::Str(self.start.clone()), &mut token);
        token.push(b'}');
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Reads a token.
    ///
    /// # Errors
    /// 400 in upstream's words.
    pub fn decode(token: &str) -> Result<Self, Status> {
        let refuse =
            |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|e| refuse(&illegal_base64(&e)))?;
        let decoded = json::decode(None, &bytes, json::Options::default()).map_err(|e| refuse(&e.to_string()))?;
        let value = decoded.value;
        let version = value.str_at(&["v"]);
        if version != VERSION {
            return Err(refuse(&format!("server does not recognize this encoded version {version}")));
        }
        let revision = match value.int_at(&["rv"]).unwrap_or(0) {
            -1 => None,
            n if n > 0 => Some(n as u64),
            _ => return Err(refuse("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
        };
        let start = value.str_at(&["start"]);
        if start.is_empty() {
            return Err(refuse("encoded start key empty (version meta.k8s.io/v1)"));
        }
        // The key is joined to the resource's prefix: it may not climb out of it.
        let plain = start.trim_end_matches('\0');
        let plain = plain.strip_prefix('/').unwrap_or(plain);
        if plain.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(refuse(start));
        }
        Ok(Self { revision, start: start.into() })
    }

    /// The key that this continues after.
    pub fn last_key(&self) -> &str {
        self.start.trim_end_matches('\0').trim_start_matches('/')
    }
}

/// What Go says of base64 that is none.
fn illegal_base64(error: &base64::DecodeError) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(length) => length.saturating_sub(1),
        base64::DecodeError::InvalidPadding => 0,
    };
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        let names = ["ns/name", "a", "q\"\\", "line\nfeed \u{1}\u{7f}é"];
        for token in
            names.map(|name| Continuation::after(name, Some(7))).into_iter().chain([Continuation::after("a", None)])
        {
            assert_eq!(Continuation::decode(&token.encode()), Ok(token));
        }
    }

    #[test]
    fn bad_tokens_are_refused() {
        for start in ["../x", "//a", "", "a//b", "a/../../b"] {
            let token = URL_SAFE_NO_PAD.encode(format!(r#"{{"v":"meta.k8s.io/v1","rv":1,"start":"{start}"}}"#));
            assert_eq!(Continuation::decode(&token).map_err(|s| s.code), Err(400), "{start}");
        }
        for token in ["", "!!", "e30", "AAAA"] {
            assert_eq!(Continuation::decode(token).map_err(|s| s.code), Err(400), "{token}");
        }
    }
}
