//! Compact JSON web signatures: `header.payload.signature`, each part base64url without padding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pki::{JwsSigner, PkiError, PublicKey};
use serde::{Deserialize, Deserializer};

/// A token taken apart. Nothing in it is to be believed before [`Unverified::verify`] said so.
pub struct Unverified<'a> {
    header: Header,
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that must be understood; none is here.
    crit: Option<serde_json::Value>,
}

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// None of the keys has the id that the token names.
    #[error("invalid signature, no keys found")]
    NoKey,
    /// The signature fits none of the keys.
    #[error("invalid signature")]
    Invalid,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart; `None` when it is no compact JSON web signature.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.crit.is_some() {
            return None;
        }
        let (payload, signature) = (URL_SAFE_NO_PAD.decode(payload).ok()?, URL_SAFE_NO_PAD.decode(signature).ok()?);
        Some(Self { header, signed, payload, signature })
    }

    /// The claims as they stand there, not yet verified.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Checks the signature against the key that the token names, or all keys if it names none.
    pub fn verify(&self, keys: &[VerifyingKey]) -> Result<(), SignatureError> {
        let kid = self.header.kid.as_str();
        let mut fitting = keys.iter().filter(|key| kid.is_empty() || key.id == kid).peekable();
        if fitting.peek().is_none() {
            return Err(SignatureError::NoKey);
        }
        if fitting.any(|key| key.key.verify_jws(&self.header.alg, self.signed.as_bytes(), &self.signature)) {
            Ok(())
        } else {
            Err(SignatureError::Invalid)
        }
    }
}

/// A key that tokens are verified with, and its id.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    id: String,
    key: PublicKey,
}

impl VerifyingKey {
    /// Keeps a key with its id at hand.
    pub fn new(key: PublicKey) -> Self {
        Self { id: key.key_id(), key }
    }

    /// The `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key itself.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// Signs claims (JSON) and puts the token together.
pub fn sign(signer: &JwsSigner, payload: &[u8]) -> Result<String, PkiError> {
    // Neither the algorithm's name nor a base64url id needs escaping.
    let header = format!("{{\"alg\":\"{}\",\"kid\":\"{}\"}}", signer.algorithm(), signer.key_id());
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = signer.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// Seconds since 1970; fractions are allowed in tokens and cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NumericDate(pub(crate) i64);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        // `as` holds what is out of range at the border.
        Ok(Self(number.as_i64().unwrap_or_else(|| number.as_f64().unwrap_or_default() as i64)))
    }
}

/// One audience or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audience(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }
        Ok(Self(match Option::deserialize(deserializer)? {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
        }))
    }
}
