//! What relying parties read to verify service account tokens: `/.well-known/openid-configuration` and the key set.

use crate::jwt::VerifyingKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pki::SignatureScheme;

/// Where the configuration is served.
pub const CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
/// Where the key set is served.
pub const JWKS_PATH: &str = "/openid/v1/jwks";
/// The configuration's media type.
pub const CONFIGURATION_MEDIA_TYPE: &str = "application/json";
/// The key set's media type.
pub const JWKS_MEDIA_TYPE: &str = "application/jwk-set+json";
/// `Cache-Control` of both.
pub const CACHE_CONTROL: &str = "public, max-age=3600";

/// Both documents, ready to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    /// The body at [`CONFIGURATION_PATH`].
    pub configuration: String,
    /// The body at [`JWKS_PATH`].
    pub jwks: String,
}

/// Why there is no discovery. Upstream serves without it then, and logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The issuer's name is empty.
    #[error("empty issuer URL")]
    EmptyIssuer,
    /// The issuer's name is no https URL.
    #[error("issuer URL must use https scheme, got: {0}")]
    Scheme(String),
    /// The issuer's name has a query.
    #[error("issuer URL may not include a query, got: {0}")]
    Query(String),
    /// The issuer's name has a fragment.
    #[error("issuer URL may not include a fragment, got: {0}")]
    Fragment(String),
    /// The key set's URL is not https.
    #[error("jwksURI requires https scheme, parsed as: {0}")]
    JwksScheme(String),
    /// There is no key.
    #[error("no keys provided for validating keyset")]
    NoKeys,
}

impl Documents {
    /// Makes the documents. The key set is at `jwks_uri` (`--service-account-jwks-uri`), or at the API server's
    /// external address (`host:port`) when that is empty.
    pub fn new(
        issuer: &str,
        jwks_uri: &str,
        external_address: &str,
        keys: &[VerifyingKey],
    ) -> Result<Self, DiscoveryError> {
        if issuer.is_empty() {
            return Err(DiscoveryError::EmptyIssuer);
        }
        if !is_https(issuer) {
            return Err(DiscoveryError::Scheme(issuer.to_owned()));
        }
        let (before_fragment, fragment) = issuer.split_once('#').unwrap_or((issuer, ""));
        if before_fragment.split_once('?').is_some_and(|(_, query)| !query.is_empty()) {
            return Err(DiscoveryError::Query(issuer.to_owned()));
        }
        if !fragment.is_empty() {
            return Err(DiscoveryError::Fragment(issuer.to_owned()));
        }
        let jwks_uri =
            if jwks_uri.is_empty() { format!("https://{external_address}{JWKS_PATH}") } else { jwks_uri.to_owned() };
        if !is_https(&jwks_uri) {
            return Err(DiscoveryError::JwksScheme(jwks_uri));
        }
        let listed: Vec<(&VerifyingKey, &str)> =
            keys.iter().filter_map(|key| Some((key, key.key().scheme().jose_name()?))).collect();
        if listed.is_empty() {
            return Err(DiscoveryError::NoKeys);
        }
        let mut algorithms: Vec<&str> = listed.iter().map(|(_, algorithm)| *algorithm).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        let configuration = format!(
            "{{\"issuer\":{},\"jwks_uri\":{},\"response_types_supported\":[\"id_token\"],\
             \"subject_types_supported\":[\"public\"],\"id_token_signing_alg_values_supported\":[\"{}\"]}}",
            json_string(issuer),
            json_string(&jwks_uri),
            algorithms.join("\",\"")
        );
        let keys: Vec<String> = listed.iter().map(|(key, algorithm)| jwk(key, algorithm)).collect();
        Ok(Self { configuration, jwks: format!("{{\"keys\":[{}]}}", keys.join(",")) })
    }
}

fn is_https(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
}

/// A JSON string as Go writes it: the characters of HTML are escaped.
fn json_string(value: &str) -> String {
    serde_json::Value::from(value).to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn jwk(key: &VerifyingKey, algorithm: &str) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let id = key.id();
    if let Some((x, y)) = key.key().coordinates() {
        let curve = if key.key().scheme() == SignatureScheme::EcdsaP384 { "P-384" } else { "P-256" };
        let (x, y) = (encode(x), encode(y));
        format!(r#"{{"use":"sig","kty":"EC","kid":"{id}","crv":"{curve}","alg":"{algorithm}","x":"{x}","y":"{y}"}}"#)
    } else {
        let (n, e) = key.key().rsa_parts().unwrap_or_default();
        let (n, e) = (encode(n), encode(e));
        format!(r#"{{"use":"sig","kty":"RSA","kid":"{id}","alg":"{algorithm}","n":"{n}","e":"{e}"}}"#)
    }
}
