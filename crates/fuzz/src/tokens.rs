//! Tokens: of service accounts, of token files, and those that continue a list.

use std::sync::{Arc, OnceLock};

use authn::jwt;
use authn::service_account::{ObjectState, SecretState, ServiceAccountState, TokenObjects, Verifier};
use authn::token_file::StaticTokens;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pki::{JwsSigner, PrivateKey};
use registry::Continuation;

/// What tokens are made of.
pub(crate) const WORDS: &[&str] = &[
    ".",
    "..",
    "=",
    "-",
    "_",
    "eyJ",
    "e30",
    "AAAA",
    "sign",
    "none",
    "ES256",
    "RS256",
    "null",
    "{}",
    "[]",
    "\"",
    "{",
    "}",
    ",",
    "\n",
    "\"alg\":\"none\"",
    "\"crit\":[]",
    "\"exp\":1",
    "\"exp\":1e400",
    "\"nbf\":9999999999",
    "\"aud\":[]",
    "\"aud\":\"x\"",
    "/",
    "..",
    "\\u0000",
    "-1",
    "0",
    "18446744073709551616",
    "é",
];

/// The line of an input that asks for a good signature.
const SIGN: &[u8] = b"sign";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// When tokens are judged.
const NOW: i64 = 1_800_000_000;

/// A cluster that has everything, with the uid `u`.
struct Cluster;

fn object() -> ObjectState {
    ObjectState { uid: "u".into(), deletion_timestamp: None }
}

impl TokenObjects for Cluster {
    fn service_account(&self, namespace: &str, name: &str) -> Result<Option<ServiceAccountState>, String> {
        let state = ServiceAccountState { object: object(), secrets: vec!["s".into()] };
        Ok(Some(state).filter(|_| (namespace, name) == ("ns", "robot")))
    }

    fn pod(&self, _: &str, _: &str) -> Result<Option<ObjectState>, String> {
        Ok(Some(object()))
    }

    fn secret(&self, _: &str, _: &str) -> Result<Option<SecretState>, String> {
        Ok(Some(SecretState { object: object(), ..SecretState::default() }))
    }

    fn node(&self, _: &str) -> Result<Option<ObjectState>, String> {
        Ok(Some(object()))
    }
}

fn keys() -> &'static (JwsSigner, Verifier) {
    static KEYS: OnceLock<(JwsSigner, Verifier)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let key = PrivateKey::generate().expect("a key");
        let signer = key.jws_signer().expect("a signer");
        let issuers = [ISSUER.to_owned()];
        let verifier = Verifier::new(&issuers, vec![signer.public_key().clone()], &[], Arc::new(Cluster));
        (signer, verifier)
    })
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let claims = |rest: &str| {
        format!(
            r#"{{"iss":"{ISSUER}","sub":"system:serviceaccount:ns:robot","aud":["{ISSUER}"],"exp":{},"iat":{},"nbf":{},"jti":"j","kubernetes.io":{{"namespace":"ns","serviceaccount":{{"name":"robot","uid":"u"}}{rest}}}}}"#,
            NOW + 3600,
            NOW - 60,
            NOW - 60
        )
    };
    let bound = [
        "",
        r#","pod":{"name":"p","uid":"u"},"node":{"name":"n","uid":"u"}"#,
        r#","secret":{"name":"s","uid":"u"},"warnafter":1800000100"#,
    ];
    bound.iter().map(|rest| format!("{}\nsign", claims(rest)).into_bytes()).collect()
}

/// An input is claims and `sign`; claims, a header and a signature; or a token.
fn token(input: &[u8]) -> (String, bool) {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    match lines[..] {
        [claims, SIGN] => (jwt::sign(&keys().0, claims).expect("a signature"), true),
        [claims, header, signature] => {
            let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
            (format!("{}.{}.{}", encode(header), encode(claims), encode(signature)), false)
        }
        _ => (String::from_utf8_lossy(input).into_owned(), false),
    }
}

pub(crate) fn check(input: &[u8]) -> bool {
    let (token, signed) = token(input);
    if let Ok(file) = StaticTokens::from_csv(&String::from_utf8_lossy(input), &[]) {
        let _ = file.warnings().len();
    }
    let audiences = [ISSUER.to_owned(), String::new()];
    let mut accepted = false;
    for wanted in [None, Some(&audiences[..]), Some(&[][..])] {
        match keys().1.verify(&token, wanted, NOW) {
            Ok(Some(verified)) => {
                assert!(signed, "nobody signed {token}");
                let (namespace, name) = verified.user.as_service_account().expect("a service account");
                assert!(!namespace.is_empty() && !name.is_empty(), "{token} is of nobody");
                accepted = true;
            }
            Ok(None) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    accepted
}

pub(crate) fn continue_seeds() -> Vec<Vec<u8>> {
    [r#"{"v":"meta.k8s.io/v1","rv":7,"start":"ns/name\u0000"}"#, r#"{"v":"meta.k8s.io/v1","rv":-1,"start":"a\u0000"}"#]
        .iter()
        .map(|token| token.as_bytes().to_vec())
        .collect()
}

pub(crate) fn check_continue(input: &[u8]) -> bool {
    let raw = String::from_utf8_lossy(input);
    let mut accepted = false;
    for token in [URL_SAFE_NO_PAD.encode(input), raw.into_owned()] {
        match Continuation::decode(&token) {
            Ok(read) => {
                accepted = true;
                assert_eq!(Continuation::decode(&read.encode()), Ok(read.clone()));
                let last = read.last_key();
                let climbs = last.split('/').any(|part| matches!(part, "" | "." | ".."));
                assert!(!climbs, "{last} leads out of the resource");
            }
            Err(status) => assert!(status.code == 400 && !status.message.is_empty(), "{status:?}"),
        }
    }
    accepted
}
