//! Private and public keys: made (ECDSA P-256), read in every PEM form that users have, and used to sign and verify.

use crate::{PkiError, der};
use base64::Engine as _;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair, UnparsedPublicKey,
};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::sync::Arc;

/// The kinds of keys known here, each with the one way it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureScheme {
    /// ECDSA on P-256 with SHA-256, as certificates hold it (ASN.1). JOSE: ES256.
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384. JOSE: ES384.
    EcdsaP384,
    /// RSA PKCS #1 v1.5 with SHA-256. JOSE: RS256.
    RsaSha256,
    /// Ed25519.
    Ed25519,
}

impl SignatureScheme {
    /// The name in JOSE headers; `None` for the kinds that service account tokens do not use.
    pub fn jose_name(self) -> Option<&'static str> {
        match self {
            Self::EcdsaP256 => Some("ES256"),
            Self::EcdsaP384 => Some("ES384"),
            Self::RsaSha256 => Some("RS256"),
            Self::Ed25519 => None,
        }
    }

    /// The DER AlgorithmIdentifier of signatures of this kind.
    pub(crate) fn signature_algorithm(self) -> Vec<u8> {
        match self {
            Self::EcdsaP256 => der::sequence(&[&der::oid(&[1, 2, 840, 10045, 4, 3, 2])]),
            Self::EcdsaP384 => der::sequence(&[&der::oid(&[1, 2, 840, 10045, 4, 3, 3])]),
            Self::RsaSha256 => der::sequence(&[&der::oid(&[1, 2, 840, 113549, 1, 1, 11]), &der::null()]),
            Self::Ed25519 => der::sequence(&[&der::oid(&[1, 3, 101, 112])]),
        }
    }

    /// The DER AlgorithmIdentifier of keys of this kind.
    fn key_algorithm(self) -> Vec<u8> {
        let ec = || der::oid(&[1, 2, 840, 10045, 2, 1]);
        match self {
            Self::EcdsaP256 => der::sequence(&[&ec(), &der::oid(P256)]),
            Self::EcdsaP384 => der::sequence(&[&ec(), &der::oid(P384)]),
            Self::RsaSha256 => der::sequence(&[&der::oid(&[1, 2, 840, 113549, 1, 1, 1]), &der::null()]),
            Self::Ed25519 => der::sequence(&[&der::oid(&[1, 3, 101, 112])]),
        }
    }
}

const P256: &[u64] = &[1, 2, 840, 10045, 3, 1, 7];
const P384: &[u64] = &[1, 3, 132, 0, 34];

// === PublicKey ===

/// A public key, as its DER SubjectPublicKeyInfo.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    spki: Vec<u8>,
    /// The bytes within the SubjectPublicKeyInfo's bit string: a point, an RSAPublicKey, or an Ed25519 key.
    raw: Vec<u8>,
    scheme: SignatureScheme,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?} {})", self.scheme, self.key_id())
    }
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo.
    pub fn from_spki(spki: &[u8]) -> Result<Self, PkiError> {
        let unreadable = || PkiError::Key("malformed public key".to_owned());
        let (content, rest) = der::expect(spki, der::SEQUENCE).ok_or_else(unreadable)?;
        let (_, after_algorithm) = der::expect(content, der::SEQUENCE).ok_or_else(unreadable)?;
        let algorithm = &content[..content.len() - after_algorithm.len()];
        let (bits, end) = der::expect(after_algorithm, der::BIT_STRING).ok_or_else(unreadable)?;
        let Some((0, raw)) = bits.split_first() else { return Err(unreadable()) };
        if !rest.is_empty() || !end.is_empty() {
            return Err(unreadable());
        }
        let scheme = [
            SignatureScheme::EcdsaP256,
            SignatureScheme::EcdsaP384,
            SignatureScheme::RsaSha256,
            SignatureScheme::Ed25519,
        ]
        .into_iter()
        .find(|scheme| scheme.key_algorithm() == algorithm)
        .ok_or_else(|| PkiError::Key("unsupported kind of public key".to_owned()))?;
        let well_formed = match scheme {
            SignatureScheme::EcdsaP256 => raw.len() == 65 && raw[0] == 4,
            SignatureScheme::EcdsaP384 => raw.len() == 97 && raw[0] == 4,
            SignatureScheme::Ed25519 => raw.len() == 32,
            SignatureScheme::RsaSha256 => rsa_parts(raw).is_some(),
        };
        if !well_formed {
            return Err(unreadable());
        }
        Ok(Self { spki: spki.to_vec(), raw: raw.to_vec(), scheme })
    }

    fn from_raw(scheme: SignatureScheme, raw: &[u8]) -> Self {
        let spki = der::sequence(&[&scheme.key_algorithm(), &der::bit_string(raw)]);
        Self { spki, raw: raw.to_vec(), scheme }
    }

    /// Reads every key of a PEM text: public keys, and the public halves of certificates and private keys, as
    /// `--service-account-key-file` allows.
    pub fn from_pem(text: &[u8]) -> Result<Vec<Self>, PkiError> {
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, bytes) = section.map_err(|error| PkiError::Key(error.to_string()))?;
            keys.push(match kind {
                SectionKind::PublicKey => Self::from_spki(&bytes)?,
                SectionKind::Certificate => crate::Certificate::from_der(&bytes)?.public_key()?,
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                    let key = PrivateKeyDer::from_pem(kind, bytes)
                        .ok_or_else(|| PkiError::Key("malformed private key".to_owned()))?;
                    PrivateKey::from_der(key)?.public_key().clone()
                }
                _ => continue,
            });
        }
        if keys.is_empty() {
            return Err(PkiError::Key("no key found".to_owned()));
        }
        Ok(keys)
    }

    /// The key as PEM (`PUBLIC KEY`).
    pub fn to_pem(&self) -> String {
        to_pem("PUBLIC KEY", &self.spki)
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The bytes of the key without the wrapping that says of which kind it is.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The kind of key.
    pub fn scheme(&self) -> SignatureScheme {
        self.scheme
    }

    /// The `kid` of tokens signed with this key: base64url of the SHA-256 of the SubjectPublicKeyInfo, as upstream's.
    pub fn key_id(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.spki);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
    }

    /// The affine coordinates of an elliptic key.
    pub fn coordinates(&self) -> Option<(&[u8], &[u8])> {
        match self.scheme {
            SignatureScheme::EcdsaP256 => Some(self.raw[1..].split_at(32)),
            SignatureScheme::EcdsaP384 => Some(self.raw[1..].split_at(48)),
            SignatureScheme::RsaSha256 | SignatureScheme::Ed25519 => None,
        }
    }

    /// The modulus and the exponent of an RSA key, without leading zeros.
    pub fn rsa_parts(&self) -> Option<(&[u8], &[u8])> {
        if self.scheme == SignatureScheme::RsaSha256 { rsa_parts(&self.raw) } else { None }
    }

    /// Checks a signature in the form that certificates use.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm = match self.scheme {
            SignatureScheme::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
            SignatureScheme::EcdsaP384 => &signature::ECDSA_P384_SHA384_ASN1,
            SignatureScheme::RsaSha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            SignatureScheme::Ed25519 => &signature::ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.raw).verify(message, signature).is_ok()
    }

    /// Checks a signature in the form that JOSE uses. `algorithm` is the name in the token's header; it must be the
    /// one of this kind of key.
    pub fn verify_jws(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        if self.scheme.jose_name() != Some(algorithm) {
            return false;
        }
        let verifier: &dyn signature::VerificationAlgorithm = match self.scheme {
            SignatureScheme::EcdsaP256 => &signature::ECDSA_P256_SHA256_FIXED,
            SignatureScheme::EcdsaP384 => &signature::ECDSA_P384_SHA384_FIXED,
            SignatureScheme::RsaSha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            SignatureScheme::Ed25519 => return false,
        };
        UnparsedPublicKey::new(verifier, &self.raw).verify(message, signature).is_ok()
    }

    /// Checks a certificate's or request's signature made with the algorithm of this OID; RSA may use a longer SHA-2.
    pub(crate) fn verify_with(&self, algorithm_oid: &str, message: &[u8], signature: &[u8]) -> bool {
        let verifier: &dyn signature::VerificationAlgorithm = match (self.scheme, algorithm_oid) {
            (SignatureScheme::EcdsaP256, "1.2.840.10045.4.3.2") => &signature::ECDSA_P256_SHA256_ASN1,
            (SignatureScheme::EcdsaP256, "1.2.840.10045.4.3.3") => &signature::ECDSA_P256_SHA384_ASN1,
            (SignatureScheme::EcdsaP384, "1.2.840.10045.4.3.2") => &signature::ECDSA_P384_SHA256_ASN1,
            (SignatureScheme::EcdsaP384, "1.2.840.10045.4.3.3") => &signature::ECDSA_P384_SHA384_ASN1,
            (SignatureScheme::RsaSha256, "1.2.840.113549.1.1.11") => &signature::RSA_PKCS1_2048_8192_SHA256,
            (SignatureScheme::RsaSha256, "1.2.840.113549.1.1.12") => &signature::RSA_PKCS1_2048_8192_SHA384,
            (SignatureScheme::RsaSha256, "1.2.840.113549.1.1.13") => &signature::RSA_PKCS1_2048_8192_SHA512,
            (SignatureScheme::Ed25519, "1.3.101.112") => &signature::ED25519,
            _ => return false,
        };
        UnparsedPublicKey::new(verifier, &self.raw).verify(message, signature).is_ok()
    }
}

/// The modulus and exponent of a DER RSAPublicKey.
fn rsa_parts(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, rest) = der::expect(raw, der::SEQUENCE)?;
    let (modulus, after) = der::expect(content, der::INTEGER)?;
    let (exponent, end) = der::expect(after, der::INTEGER)?;
    if !rest.is_empty() || !end.is_empty() {
        return None;
    }
    let trim = |bytes: &'_ [u8]| bytes.iter().take_while(|byte| **byte == 0).count();
    let (modulus, exponent) = (&modulus[trim(modulus)..], &exponent[trim(exponent)..]);
    (!modulus.is_empty() && !exponent.is_empty()).then_some((modulus, exponent))
}

// === PrivateKey ===

/// A private key that can sign certificates and tokens. Its bytes never show in `Debug`.
#[derive(Clone)]
pub struct PrivateKey(Arc<PrivateKeyInner>);

struct PrivateKeyInner {
    der: PrivateKeyDer<'static>,
    public: PublicKey,
    signer: Signer,
}

enum Signer {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?} {}, secret)", self.0.public.scheme, self.0.public.key_id())
    }
}

impl PrivateKey {
    /// Makes a new ECDSA P-256 key: quick to make and quick to sign with.
    pub fn generate() -> Result<Self, PkiError> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|ring::error::Unspecified| PkiError::Random)?;
        Self::from_der(PrivatePkcs8KeyDer::from(document.as_ref().to_vec()).into())
    }

    /// Reads the first private key of a PEM text: `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`.
    pub fn from_pem(text: &[u8]) -> Result<Self, PkiError> {
        match PrivateKeyDer::from_pem_slice(text) {
            Ok(key) => Self::from_der(key),
            Err(rustls_pki_types::pem::Error::NoItemsFound) => {
                let encrypted = text.windows(9).any(|window| window == b"ENCRYPTED");
                let reason =
                    if encrypted { "encrypted private keys are not supported" } else { "no private key found" };
                Err(PkiError::Key(reason.to_owned()))
            }
            Err(error) => Err(PkiError::Key(error.to_string())),
        }
    }

    /// Takes a DER private key: PKCS #8, PKCS #1 (RSA) or SEC 1 (elliptic).
    pub fn from_der(der: PrivateKeyDer<'static>) -> Result<Self, PkiError> {
        let rejected = |error: ring::error::KeyRejected| PkiError::Key(error.to_string());
        let (scheme, signer) = match &der {
            PrivateKeyDer::Pkcs8(key) => from_pkcs8(key.secret_pkcs8_der())?,
            PrivateKeyDer::Pkcs1(key) => (
                SignatureScheme::RsaSha256,
                Signer::Rsa(RsaKeyPair::from_der(key.secret_pkcs1_der()).map_err(rejected)?),
            ),
            PrivateKeyDer::Sec1(key) => from_sec1(key.secret_sec1_der())?,
            _ => return Err(PkiError::Key("unsupported form of private key".to_owned())),
        };
        let raw: &[u8] = match &signer {
            Signer::Ecdsa(pair) => pair.public_key().as_ref(),
            Signer::Rsa(pair) => pair.public_key().as_ref(),
            Signer::Ed25519(pair) => pair.public_key().as_ref(),
        };
        let public = PublicKey::from_raw(scheme, raw);
        Ok(Self(Arc::new(PrivateKeyInner { der, public, signer })))
    }

    /// The key as PEM, in the form it was read in; keys made here are `PRIVATE KEY` (PKCS #8). The result is a secret.
    pub fn to_pem(&self) -> String {
        let label = match &self.0.der {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        to_pem(label, self.0.der.secret_der())
    }

    /// The DER form, for rustls. It is a secret.
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        self.0.der.clone_key()
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    /// Signs in the form that certificates use.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PkiError> {
        let random = SystemRandom::new();
        let failed = |ring::error::Unspecified| PkiError::Random;
        Ok(match &self.0.signer {
            Signer::Ecdsa(pair) => pair.sign(&random, message).map_err(failed)?.as_ref().to_vec(),
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                signature
            }
            Signer::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }

    /// A signer in the form that JOSE uses; refused for kinds of keys that service account tokens do not use.
    pub fn jws_signer(&self) -> Result<JwsSigner, PkiError> {
        let algorithm = self.0.public.scheme.jose_name().ok_or_else(|| {
            PkiError::Key("service account tokens are signed with RSA or ECDSA (P-256, P-384) keys".to_owned())
        })?;
        let rejected = |error: ring::error::KeyRejected| PkiError::Key(error.to_string());
        let ecdsa = match self.0.public.scheme {
            SignatureScheme::EcdsaP256 => Some(&ECDSA_P256_SHA256_FIXED_SIGNING),
            SignatureScheme::EcdsaP384 => Some(&ECDSA_P384_SHA384_FIXED_SIGNING),
            SignatureScheme::RsaSha256 | SignatureScheme::Ed25519 => None,
        };
        let fixed = match (ecdsa, &self.0.der) {
            (None, _) => None,
            (Some(algorithm), PrivateKeyDer::Sec1(key)) => {
                let (_, private) = sec1_parts(key.secret_sec1_der()).ok_or_else(malformed_ec)?;
                let random = SystemRandom::new();
                Some(
                    EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, self.0.public.raw(), &random)
                        .map_err(rejected)?,
                )
            }
            (Some(algorithm), der) => {
                Some(EcdsaKeyPair::from_pkcs8(algorithm, der.secret_der(), &SystemRandom::new()).map_err(rejected)?)
            }
        };
        Ok(JwsSigner { algorithm, key_id: self.0.public.key_id(), key: self.clone(), fixed: fixed.map(Arc::new) })
    }
}

fn from_pkcs8(bytes: &[u8]) -> Result<(SignatureScheme, Signer), PkiError> {
    let random = SystemRandom::new();
    if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, bytes, &random) {
        return Ok((SignatureScheme::EcdsaP256, Signer::Ecdsa(pair)));
    }
    if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, bytes, &random) {
        return Ok((SignatureScheme::EcdsaP384, Signer::Ecdsa(pair)));
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes) {
        return Ok((SignatureScheme::Ed25519, Signer::Ed25519(pair)));
    }
    match RsaKeyPair::from_pkcs8(bytes) {
        Ok(pair) => Ok((SignatureScheme::RsaSha256, Signer::Rsa(pair))),
        Err(error) => Err(PkiError::Key(format!("unsupported or malformed private key ({error})"))),
    }
}

fn malformed_ec() -> PkiError {
    PkiError::Key("malformed EC private key".to_owned())
}

fn from_sec1(bytes: &[u8]) -> Result<(SignatureScheme, Signer), PkiError> {
    let (fields, private) = sec1_parts(bytes).ok_or_else(malformed_ec)?;
    let (scheme, algorithm) = match fields.curve {
        Some(curve) if curve == der::oid(P256) => (SignatureScheme::EcdsaP256, &ECDSA_P256_SHA256_ASN1_SIGNING),
        Some(curve) if curve == der::oid(P384) => (SignatureScheme::EcdsaP384, &ECDSA_P384_SHA384_ASN1_SIGNING),
        _ => return Err(PkiError::Key("unsupported curve: P-256 and P-384 are supported".to_owned())),
    };
    let public = fields.public.ok_or_else(|| PkiError::Key("EC private key without its public half".to_owned()))?;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public, &SystemRandom::new())
        .map_err(|error| PkiError::Key(error.to_string()))?;
    Ok((scheme, Signer::Ecdsa(pair)))
}

struct Sec1Fields<'a> {
    /// The whole OID element.
    curve: Option<&'a [u8]>,
    public: Option<&'a [u8]>,
}

/// RFC 5915: a version, the number, the curve and the public point.
fn sec1_parts(bytes: &[u8]) -> Option<(Sec1Fields<'_>, &[u8])> {
    let (content, _) = der::expect(bytes, der::SEQUENCE)?;
    let (_, rest) = der::expect(content, der::INTEGER)?;
    let (private, mut rest) = der::expect(rest, der::OCTET_STRING)?;
    let mut fields = Sec1Fields { curve: None, public: None };
    while let Some((tag, value, after)) = der::split(rest) {
        if tag == der::context(0) {
            fields.curve = Some(value);
        } else if tag == der::context(1) {
            let (bits, _) = der::expect(value, der::BIT_STRING)?;
            fields.public = Some(bits.get(1..)?);
        }
        rest = after;
    }
    Some((fields, private))
}

// === JwsSigner ===

/// Signs tokens.
#[derive(Clone)]
pub struct JwsSigner {
    algorithm: &'static str,
    key_id: String,
    key: PrivateKey,
    /// Elliptic signatures have another form in JOSE than in certificates.
    fixed: Option<Arc<EcdsaKeyPair>>,
}

impl fmt::Debug for JwsSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwsSigner({} {}, secret)", self.algorithm, self.key_id)
    }
}

impl JwsSigner {
    /// The `alg` of the header.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// The `kid` of the header.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public half of the signing key.
    pub fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    /// Signs the header and payload.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PkiError> {
        match &self.fixed {
            Some(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|ring::error::Unspecified| PkiError::Random),
            None => self.key.sign(message),
        }
    }
}

/// Wraps bytes as a PEM block.
pub(crate) fn to_pem(label: &str, bytes: &[u8]) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
