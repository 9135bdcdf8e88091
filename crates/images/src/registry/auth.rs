//! Proving who we are to a registry: Basic, or a Bearer token from the service that the registry names.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::http::{Ask, Connections};
use super::url::{Origin, Url, query_value};
use crate::error::{Error, Result};

const TOKEN_ANSWER_LENGTH_MAX: u64 = 1 << 20;
const CLIENT_ID: &str = "kubox";

/// What a caller knows of its rights at a registry; all empty is nobody in particular.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// With the password.
    pub username: String,
    /// With the user's name.
    pub password: String,
    /// Traded for tokens instead of a password.
    pub identity_token: String,
    /// Sent to the registry as it is.
    pub registry_token: String,
    /// The only host that may see all this, if it is said.
    pub server_address: String,
}

impl Credentials {
    /// Reads the `auth` field of Docker's configuration: base64 of `user:password`.
    pub fn from_encoded(auth: &str) -> Option<Credentials> {
        let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        let password = password.trim_end_matches('\0');
        Some(Credentials { username: username.to_owned(), password: password.to_owned(), ..Credentials::default() })
    }

    /// These, unless they are meant for another host.
    pub(crate) fn for_host(&self, origin: &Origin) -> Credentials {
        let address = self.server_address.as_str();
        let with_scheme = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
        let fits = address.is_empty()
            || Url::parse(&with_scheme).is_some_and(|url| {
                url.origin.authority() == origin.authority()
                    || (["docker.io", "index.docker.io"].contains(&url.origin.host.as_str())
                        && origin.host == "registry-1.docker.io")
            });
        if fits { self.clone() } else { Credentials::default() }
    }

    fn basic(&self) -> Option<String> {
        (!self.username.is_empty())
            .then(|| format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password))))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets must not reach a log.
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// One demand of a `WWW-Authenticate` header.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Finds the `Authorization` that answers a registry's refusal. `tried` is the one that it has refused, if any.
pub(crate) async fn answer_challenge(
    connections: &std::sync::Arc<Connections>,
    refusal: &HeaderMap,
    credentials: &Credentials,
    scope: &str,
    tried: Option<&HeaderValue>,
) -> Result<HeaderValue> {
    let challenges = parse_challenges(refusal);
    let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
    if let Some(bearer) = find("bearer") {
        if let Some(error) = bearer.parameter("error").filter(|_| tried.is_some()) {
            return Err(denied(format!("server message: {error}: authorization failed")));
        }
        if tried.is_some_and(|tried| tried.as_bytes().starts_with(b"Bearer ")) {
            return Err(denied("authorization failed".to_owned()));
        }
        if !credentials.registry_token.is_empty() {
            return sensitive(format!("Bearer {}", credentials.registry_token));
        }
        let token = fetch_token(connections, bearer, credentials, scope).await?;
        return sensitive(format!("Bearer {token}"));
    }
    if find("basic").is_some() {
        return match credentials.basic() {
            _ if tried.is_some() => Err(denied("authorization failed".to_owned())),
            None => Err(denied("authorization failed: no basic auth credentials".to_owned())),
            Some(basic) => sensitive(basic),
        };
    }
    Err(denied("authorization failed".to_owned()))
}

fn denied(detail: String) -> Error {
    Error::Unauthorized { detail }
}

fn sensitive(text: String) -> Result<HeaderValue> {
    let mut value =
        HeaderValue::from_str(&text).map_err(|_| denied("credentials cannot be sent in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn fetch_token(
    connections: &std::sync::Arc<Connections>,
    challenge: &Challenge,
    credentials: &Credentials,
    scope: &str,
) -> Result<String> {
    let realm = challenge.parameter("realm").and_then(Url::parse);
    let realm = realm.ok_or_else(|| denied("no valid realm specified for token auth challenge".to_owned()))?;
    let service = challenge.parameter("service").unwrap_or_default();
    let scope = challenge.parameter("scope").unwrap_or(scope);
    let asked_by_name = !credentials.username.is_empty() || !credentials.identity_token.is_empty();
    let ask =
        if credentials.identity_token.is_empty() { by_get } else { by_post }(&realm, service, scope, credentials)?;
    let answer = async {
        let mut answer = connections.send(&ask).await?;
        let text = answer.read(TOKEN_ANSWER_LENGTH_MAX).await.map_err(|source| ask.failed(source))?;
        if answer.status != StatusCode::OK {
            return Err(super::status_error(&ask, answer.status, &text));
        }
        let what = || format!("token from {}", ask.url);
        let parsed: TokenAnswer =
            serde_json::from_slice(&text).map_err(|source| Error::Json { what: what(), source })?;
        parsed
            .token
            .or(parsed.access_token)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| denied("authorization server did not include a token in the response".to_owned()))
    };
    answer.await.map_err(|source| Error::Token {
        sort: if asked_by_name { "oauth" } else { "anonymous" },
        source: Box::new(source),
    })
}

/// The older way, which every registry has: GET, with the password in a Basic header.
fn by_get(realm: &Url, service: &str, scope: &str, credentials: &Credentials) -> Result<Ask> {
    let mut query = Vec::new();
    if !service.is_empty() {
        query.push(format!("service={}", query_value(service)));
    }
    for scope in scope.split(' ').filter(|scope| !scope.is_empty()) {
        query.push(format!("scope={}", query_value(scope)));
    }
    if !credentials.username.is_empty() {
        query.push(format!("account={}", query_value(&credentials.username)));
    }
    let separator = if realm.path.contains('?') { '&' } else { '?' };
    let url = Url { path: format!("{}{separator}{}", realm.path, query.join("&")), ..realm.clone() };
    let mut ask = Ask::new(Method::GET, url);
    if let Some(basic) = credentials.basic() {
        ask.headers.insert(AUTHORIZATION, sensitive(basic)?);
    }
    Ok(ask)
}

/// OAuth 2, which identity tokens need.
fn by_post(realm: &Url, service: &str, scope: &str, credentials: &Credentials) -> Result<Ask> {
    let form = format!(
        "grant_type=refresh_token&service={}&scope={}&client_id={CLIENT_ID}&refresh_token={}",
        query_value(service),
        query_value(scope),
        query_value(&credentials.identity_token),
    );
    let mut ask = Ask::new(Method::POST, realm.clone());
    ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    ask.body = Bytes::from(form);
    Ok(ask)
}

fn parse_challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse_challenge_list)
        .collect()
}

/// `Bearer realm="...",service="...", Basic realm="..."`.
fn parse_challenge_list(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, after) = parse_value(value.trim_start());
            if let Some(challenge) = challenges.last_mut() {
                challenge.parameters.push((word.to_lowercase(), value));
            }
            rest = after;
        } else {
            challenges.push(Challenge { scheme: word.to_lowercase(), parameters: Vec::new() });
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',']);
    }
    challenges
}

/// A word, or a text in quotes; and what follows it.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let check = |text: &str, expect: &str| {
            let shown: Vec<String> = parse_challenge_list(text)
                .iter()
                .map(|challenge| {
                    let parameters = challenge.parameters.iter().map(|(key, value)| format!("{key}={value}"));
                    format!("{} {}", challenge.scheme, parameters.collect::<Vec<_>>().join(" "))
                })
                .collect();
            assert_eq!(shown.join(" | "), expect, "{text}");
        };
        check(
            r#"Bearer realm="https://a.io/t",service="r",scope="repository:x:pull,push""#,
            "bearer realm=https://a.io/t service=r scope=repository:x:pull,push",
        );
        check(r#"Basic realm="Registry Realm""#, "basic realm=Registry Realm");
        check(r#"Negotiate, Basic realm=x, Bearer realm="a\"b""#, "negotiate  | basic realm=x | bearer realm=a\"b");
        check("", "");
        check(r#"Bearer realm="open"#, "bearer realm=open");
    }

    #[test]
    fn credentials_go_to_their_host_only() {
        let check = |address: &str, host: &str, expect: bool| {
            let all =
                Credentials { username: "u".to_owned(), server_address: address.to_owned(), ..Credentials::default() };
            let origin = Url::parse(&format!("https://{host}")).unwrap().origin;
            assert_eq!(all.for_host(&origin) == all, expect, "{address} at {host}");
        };
        check("", "any.io", true);
        check("a.io", "a.io", true);
        check("https://a.io/v1/", "a.io", true);
        check("a.io:5000", "a.io:5000", true);
        check("a.io", "b.io", false);
        check("a.io", "a.io:5000", false);
        check("https://index.docker.io/v1/", "registry-1.docker.io", true);
    }

    #[test]
    fn docker_encodes_user_and_password_together() {
        let read = Credentials::from_encoded(&STANDARD.encode("me:a:b")).unwrap();
        assert_eq!((read.username.as_str(), read.password.as_str()), ("me", "a:b"));
        assert_eq!(Credentials::from_encoded("bWU="), None);
        assert_eq!(Credentials::from_encoded("%%"), None);
        let secret = Credentials { password: "hidden".to_owned(), registry_token: "hidden".to_owned(), ..read };
        assert!(!format!("{secret:?}").contains("hidden"));
    }
}
