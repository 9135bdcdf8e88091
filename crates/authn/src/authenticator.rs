//! Finds the user of a request: front proxy, client certificate, bearer token and, at last, anonymous.

use crate::bearer::{self, Subprotocol};
use crate::cache::TokenCache;
use crate::client_certificate::ClientChain;
use crate::front_proxy::{self, FrontProxy};
use crate::headers::NotText;
use crate::service_account::TokenUse;
use crate::user::UserInfo;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use pki::ClientVerifier;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

// === tokens ===

/// Knows the users of some bearer tokens.
pub trait TokenAuthenticator: Send + Sync {
    /// The token's user; `Ok(None)` when the token is none of ours; `Err` when it is but is not good. `audiences` are
    /// those that the caller stands for.
    fn authenticate_token(&self, token: &str, audiences: &[String], now: i64) -> Result<Option<TokenUser>, String>;
}

/// The user of a bearer token.
#[derive(Clone, Debug)]
pub struct TokenUser {
    /// Who it is.
    pub user: Arc<UserInfo>,
    /// The audiences that were both wanted and granted.
    pub audiences: Arc<[String]>,
    /// What is to be told about its use.
    pub notes: Option<Arc<Notes>>,
    /// The last second for which the token may be remembered.
    pub expires_at: Option<i64>,
}

/// What is to be told about a token's use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Audit annotations.
    pub annotations: Vec<(&'static str, String)>,
    /// Warnings for the client.
    pub warnings: Vec<String>,
    /// For service account tokens: how the token was made.
    pub token_use: Option<TokenUse>,
}

// === configuration ===

/// Who may stay anonymous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Nobody.
    Off,
    /// Requests for exactly these paths.
    Paths(Vec<String>),
    /// Everybody (`--anonymous-auth=true`).
    Everywhere,
}

impl Default for Anonymous {
    /// Health and version only.
    fn default() -> Self {
        Self::Paths(["/healthz", "/livez", "/readyz", "/version", "/version/"].map(str::to_owned).into())
    }
}

/// How users show who they are.
#[derive(Default)]
pub struct Config {
    /// Authenticating proxies.
    pub front_proxy: Option<FrontProxy>,
    /// `--client-ca-file`.
    pub client_certificates: Option<ClientVerifier>,
    /// Bearer tokens, in the order in which they are asked: the token file first, then service accounts.
    pub tokens: Vec<Arc<dyn TokenAuthenticator>>,
    /// `--api-audiences`.
    pub api_audiences: Vec<String>,
    /// Who may stay anonymous.
    pub anonymous: Anonymous,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("front_proxy", &self.front_proxy.is_some())
            .field("client_certificates", &self.client_certificates.is_some())
            .field("tokens", &self.tokens.len())
            .field("api_audiences", &self.api_audiences)
            .field("anonymous", &self.anonymous)
            .finish()
    }
}

// === requests ===

/// What the authenticators look at.
#[derive(Debug)]
pub struct Request<'a> {
    /// The request's headers. Credentials are taken out when they are good.
    pub headers: &'a mut HeaderMap,
    /// The URL's path.
    pub path: &'a str,
    /// The certificates that the client showed, if any.
    pub client: Option<&'a ClientChain>,
}

/// How a user showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A proxy vouched.
    FrontProxy,
    /// A client certificate.
    ClientCertificate,
    /// A bearer token.
    Token,
    /// Not at all.
    Anonymous,
}

/// A request whose user is known.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Who it is.
    pub user: Arc<UserInfo>,
    /// How they showed it.
    pub method: Method,
    /// The audiences that were both wanted and granted; empty where credentials have none.
    pub audiences: Arc<[String]>,
    /// For tokens: what is to be told about its use.
    pub notes: Option<Arc<Notes>>,
    /// A warning for the client about its credentials.
    pub warning: Option<&'static str>,
}

/// A request whose user is not known: answer 401. The reasons are for the log, not for the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unauthorized {
    /// Why each kind of credential was refused. Empty when there was none.
    pub reasons: Vec<String>,
    /// A warning for the client about its credentials.
    pub warning: Option<&'static str>,
}

impl fmt::Display for Unauthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reasons.as_slice() {
            [] => f.write_str("no credentials"),
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

impl std::error::Error for Unauthorized {}

// === Authenticator ===

/// Finds the user of a request. To change the configuration, make a new one and swap it in: connections notice.
pub struct Authenticator {
    /// Tells what connections remember about one authenticator from what they remember about another.
    id: u64,
    config: Config,
    tokens: TokenCache,
    anonymous: Arc<UserInfo>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("config", &self.config).field("tokens", &self.tokens).finish()
    }
}

impl Authenticator {
    /// An authenticator with this configuration; fails only when the system has no random numbers.
    pub fn new(config: Config) -> Result<Self, pki::PkiError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            config,
            tokens: TokenCache::new().ok_or(pki::PkiError::Random)?,
            anonymous: Arc::new(UserInfo::anonymous()),
        })
    }

    /// The API server's audiences.
    pub fn api_audiences(&self) -> &[String] {
        &self.config.api_audiences
    }

    /// Finds the user of a request at `now`. When found, the credentials are gone from the headers, and so are the
    /// headers of front proxies. Bad credentials are refused even where anonymous requests are welcome.
    pub fn authenticate(&self, request: Request<'_>, now: i64) -> Result<Authenticated, Unauthorized> {
        let Request { headers, path, client } = request;
        let found = self.find(headers, client, now);
        let found = match found {
            Ok(None) if self.allows_anonymous(path) => Authenticated {
                user: Arc::clone(&self.anonymous),
                method: Method::Anonymous,
                audiences: Arc::default(),
                notes: None,
                warning: bearer_warning(headers),
            },
            Ok(None) => return Err(Unauthorized { reasons: Vec::new(), warning: bearer_warning(headers) }),
            Ok(Some(found)) => found,
            Err(reasons) => return Err(Unauthorized { reasons, warning: bearer_warning(headers) }),
        };
        headers.remove(AUTHORIZATION);
        front_proxy::clear_usual(headers);
        if let Some(proxy) = &self.config.front_proxy {
            proxy.clear(headers);
        }
        Ok(found)
    }

    /// Finds the user of a bearer token, as TokenReview asks. `audiences` are those to be granted; without any, those
    /// of the API server.
    pub fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
    ) -> Result<Authenticated, Unauthorized> {
        let audiences = if audiences.is_empty() { &self.config.api_audiences } else { audiences };
        let refused = |reasons| Unauthorized { reasons, warning: None };
        match self.token(token, audiences, now) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(refused(vec![INVALID_BEARER_TOKEN.to_owned()])),
            Err(reasons) => Err(refused(reasons)),
        }
    }

    /// Tries one kind of credential after the other. `Ok(None)` means that there was none.
    fn find(
        &self,
        headers: &mut HeaderMap,
        client: Option<&ClientChain>,
        now: i64,
    ) -> Result<Option<Authenticated>, Vec<String>> {
        let mut reasons = Vec::new();
        if let Some(client) = client.filter(|client| !client.is_empty()) {
            match self.front_proxy(headers, client, now) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(reason) => reasons.push(reason),
            }
            if let Some(verifier) = &self.config.client_certificates {
                match client.user(self.id, verifier, now) {
                    Ok(Some(user)) => return Ok(Some(Authenticated::by(Method::ClientCertificate, user))),
                    Ok(None) => {}
                    Err(reason) => reasons.push(reason),
                }
            }
        }
        if self.config.tokens.is_empty() {
            return if reasons.is_empty() { Ok(None) } else { Err(reasons) };
        }
        let audiences = &self.config.api_audiences;
        if let bearer::Header::Token(token) = bearer::from_header(headers) {
            match self.token(token, audiences, now) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => reasons.push(INVALID_BEARER_TOKEN.to_owned()),
                Err(more) => reasons.extend(more),
            }
        }
        match Subprotocol::find(headers) {
            Ok(None) => {}
            Ok(Some(subprotocol)) => match self.token(&subprotocol.token, audiences, now) {
                Ok(Some(found)) => {
                    subprotocol.remove_from(headers);
                    return Ok(Some(found));
                }
                Ok(None) => reasons.push(INVALID_BEARER_TOKEN.to_owned()),
                Err(more) => reasons.extend(more),
            },
            Err(reason) => reasons.push(reason.to_owned()),
        }
        if reasons.is_empty() { Ok(None) } else { Err(reasons) }
    }

    fn front_proxy(
        &self,
        headers: &HeaderMap,
        client: &ClientChain,
        now: i64,
    ) -> Result<Option<Authenticated>, String> {
        let Some(proxy) = self.config.front_proxy.as_ref().filter(|proxy| proxy.names_user(headers)) else {
            return Ok(None);
        };
        client.front_proxy(self.id, &proxy.verifier, &proxy.allowed_names, now)?;
        let user = proxy.user(headers).map_err(|NotText(name)| format!("header {name} is not valid UTF-8"))?;
        Ok(Some(Authenticated::by(Method::FrontProxy, Arc::new(user.authenticated()))))
    }

    fn token(&self, token: &str, audiences: &[String], now: i64) -> Result<Option<Authenticated>, Vec<String>> {
        let ask_all = || {
            let mut reasons = Vec::new();
            for authenticator in &self.config.tokens {
                match authenticator.authenticate_token(token, audiences, now) {
                    Ok(Some(user)) => return Ok(Some(user)),
                    Ok(None) => {}
                    Err(reason) => reasons.push(reason),
                }
            }
            if reasons.is_empty() { Ok(None) } else { Err(reasons) }
        };
        let found = self.tokens.get_or_authenticate(token, audiences, now, ask_all)?;
        Ok(found.map(|TokenUser { user, audiences, notes, .. }| Authenticated {
            user,
            method: Method::Token,
            audiences,
            notes,
            warning: None,
        }))
    }

    fn allows_anonymous(&self, path: &str) -> bool {
        match &self.config.anonymous {
            Anonymous::Off => false,
            Anonymous::Everywhere => true,
            Anonymous::Paths(paths) => paths.iter().any(|allowed| allowed == path),
        }
    }
}

const INVALID_BEARER_TOKEN: &str = "invalid bearer token";

fn bearer_warning(headers: &HeaderMap) -> Option<&'static str> {
    match bearer::from_header(headers) {
        bearer::Header::Ignored(warning) => Some(warning),
        bearer::Header::None | bearer::Header::Token(_) => None,
    }
}

impl Authenticated {
    fn by(method: Method, user: Arc<UserInfo>) -> Self {
        Self { user, method, audiences: Arc::default(), notes: None, warning: None }
    }
}
