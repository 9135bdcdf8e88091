//! Keys in the forms that users have. The files in `data/` were made by OpenSSL for these tests and guard nothing.

use crate::data;
use pki::{PrivateKey, PublicKey, SignatureScheme};

#[test]
fn keys_of_users_load_and_sign() {
    for (file, scheme) in [
        ("rsa-pkcs1.key", SignatureScheme::RsaSha256),
        ("rsa-pkcs8.key", SignatureScheme::RsaSha256),
        ("ec-sec1-with-parameters.key", SignatureScheme::EcdsaP256),
        ("ec384-sec1.key", SignatureScheme::EcdsaP384),
        ("ec384-pkcs8.key", SignatureScheme::EcdsaP384),
        ("ed25519.key", SignatureScheme::Ed25519),
    ] {
        let key = PrivateKey::from_pem(&data(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(key.public_key().scheme(), scheme, "{file}");
        let signature = key.sign(b"message").unwrap();
        assert!(key.public_key().verify(b"message", &signature), "{file}");
        assert!(!key.public_key().verify(b"messagE", &signature), "{file}");
        let again = PrivateKey::from_pem(key.to_pem().as_bytes()).unwrap();
        assert_eq!(again.public_key(), key.public_key(), "{file}");
        let public = PublicKey::from_pem(key.public_key().to_pem().as_bytes()).unwrap();
        assert_eq!(public, [key.public_key().clone()], "{file}");
        match (scheme.jose_name(), key.jws_signer()) {
            (Some(name), Ok(signer)) => {
                let signature = signer.sign(b"message").unwrap();
                assert_eq!(signer.algorithm(), name);
                assert!(key.public_key().verify_jws(name, b"message", &signature), "{file}");
                for other in ["none", "HS256", "ES256", "ES384", "RS256", ""] {
                    assert_eq!(
                        key.public_key().verify_jws(other, b"message", &signature),
                        other == name,
                        "{file} {other}"
                    );
                }
            }
            (None, Err(_)) => {}
            (name, signer) => panic!("{file}: {name:?} {signer:?}"),
        }
    }
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    for (name, text, reason) in [
        ("empty", Vec::new(), "key: no private key found"),
        ("words", b"hello".to_vec(), "key: no private key found"),
        ("public", data("rsa.pub"), "key: no private key found"),
        ("encrypted", data("encrypted.key"), "key: encrypted private keys are not supported"),
        ("p521", data("ec521-sec1.key"), "key: unsupported curve: P-256 and P-384 are supported"),
        ("cut", data("rsa-pkcs1.key")[..400].to_vec(), "key: "),
    ] {
        let error = PrivateKey::from_pem(&text).expect_err(name).to_string();
        assert!(error.starts_with(reason), "{name}: {error}");
    }
}

#[test]
fn public_keys_come_from_public_and_private_keys_and_certificates() {
    let text = [data("rsa.pub"), data("rsa-ca.crt"), data("rsa-pkcs1.key"), data("ec384-sec1.key")].concat();
    let keys = PublicKey::from_pem(&text).unwrap();
    assert_eq!(keys.len(), 4);
    assert_eq!((&keys[0], &keys[0]), (&keys[1], &keys[2]));
    let (modulus, exponent) = keys[0].rsa_parts().unwrap();
    assert_eq!((modulus.len(), exponent), (256, &[1, 0, 1][..]));
    assert_eq!(keys[3].coordinates().map(|(x, y)| (x.len(), y.len())), Some((48, 48)));
}

#[test]
fn damaged_public_keys_are_refused_without_a_panic() {
    let spki = PrivateKey::generate().unwrap().public_key().spki().to_vec();
    assert!(PublicKey::from_spki(&spki).is_ok());
    for length in 0..spki.len() {
        assert!(PublicKey::from_spki(&spki[..length]).is_err(), "cut to {length}");
    }
    assert!(PublicKey::from_spki(&[&spki[..], &[0]].concat()).is_err());
}

#[test]
fn debug_output_holds_no_secret() {
    let key = PrivateKey::generate().unwrap();
    let pem = key.to_pem();
    let body: Vec<&str> = pem.lines().filter(|line| !line.starts_with("---")).collect();
    for shown in [format!("{key:?}"), format!("{:#?}", key.jws_signer().unwrap())] {
        assert!(shown.contains("secret") && shown.len() < 200, "{shown}");
        assert!(!body.iter().any(|line| shown.contains(&line[..16])), "{shown}");
    }
}
