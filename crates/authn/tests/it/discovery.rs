//! The documents for relying parties.

use crate::{ISSUER, data};
use authn::discovery::{DiscoveryError, Documents};
use authn::jwt::VerifyingKey;
use pki::PublicKey;

fn keys() -> Vec<VerifyingKey> {
    ["rsa.pub", "ec-sec1-with-parameters.key", "ec384-pkcs8.key", "ed25519.key"]
        .iter()
        .flat_map(|file| PublicKey::from_pem(&data(file)).unwrap())
        .map(VerifyingKey::new)
        .collect()
}

#[test]
fn the_documents_have_upstreams_shape() {
    let keys = keys();
    let documents = Documents::new(ISSUER, "", "10.0.0.1:6443", &keys).unwrap();
    assert_eq!(
        documents.configuration,
        format!(
            r#"{{"issuer":"{ISSUER}","jwks_uri":"https://10.0.0.1:6443/openid/v1/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256","ES384","RS256"]}}"#
        )
    );
    let jwks: serde_json::Value = serde_json::from_str(&documents.jwks).unwrap();
    let shown: Vec<String> = jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            let fields: Vec<String> = key
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| match (name.as_str(), value.as_str().unwrap()) {
                    ("kid" | "x" | "y" | "n", long) => format!("{name}({})", long.len()),
                    (_, short) => format!("{name}={short}"),
                })
                .collect();
            fields.join(" ")
        })
        .collect();
    assert_eq!(
        shown,
        [
            "use=sig kty=RSA kid(43) alg=RS256 n(342) e=AQAB",
            "use=sig kty=EC kid(43) crv=P-256 alg=ES256 x(43) y(43)",
            "use=sig kty=EC kid(43) crv=P-384 alg=ES384 x(64) y(64)",
        ],
        "kinds of keys that tokens do not use are left out"
    );
    assert_eq!(jwks["keys"][0]["kid"], keys[0].id());
    let elsewhere = Documents::new(ISSUER, "https://keys.example/a?b=<&>", "ignored", &keys).unwrap();
    assert!(elsewhere.configuration.contains(r#""jwks_uri":"https://keys.example/a?b=\u003c\u0026\u003e""#));
}

#[test]
fn the_key_id_is_the_hash_of_the_public_key() {
    // openssl pkey -pubin -in rsa.pub -outform DER | openssl dgst -sha256 -binary | basenc --base64url
    assert_eq!(keys()[0].id(), RSA_KEY_ID);
}

const RSA_KEY_ID: &str = "J0Tl68PcxP03ZlMfDdVFQakATtX3-VlwIjlSr_0G-wY";

#[test]
fn issuers_that_are_no_plain_https_url_have_no_documents() {
    for (issuer, jwks_uri, want) in [
        ("", "", "empty issuer URL"),
        ("kubernetes/serviceaccount", "", "issuer URL must use https scheme, got: kubernetes/serviceaccount"),
        ("http://x", "", "issuer URL must use https scheme, got: http://x"),
        ("https://x?a=b", "", "issuer URL may not include a query, got: https://x?a=b"),
        ("https://x#a", "", "issuer URL may not include a fragment, got: https://x#a"),
        ("https://x", "http://y", "jwksURI requires https scheme, parsed as: http://y"),
    ] {
        assert_eq!(Documents::new(issuer, jwks_uri, "h:1", &keys()).unwrap_err().to_string(), want);
    }
    assert_eq!(Documents::new(ISSUER, "", "h:1", &[]), Err(DiscoveryError::NoKeys));
}
