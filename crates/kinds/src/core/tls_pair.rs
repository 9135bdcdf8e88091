//! Whether a certificate and a private key in PEM belong together, with the words that Go's crypto/tls has for what
//! is wrong.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What is wrong with a pair, if anything is.
pub(crate) fn problem(certificate: &[u8], key: &[u8]) -> Option<String> {
    check(certificate, key).err()
}

fn check(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    let blocks = blocks(certificate);
    let Some((_, der)) = blocks.iter().find(|(label, _)| label == "CERTIFICATE") else {
        let skipped: Vec<&str> = blocks.iter().map(|(label, _)| label.as_str()).collect();
        return Err(match skipped.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [only] if only.ends_with("PRIVATE KEY") => {
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs \
                 may have been switched"
                    .to_owned()
            }
            _ => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
                 following types: [{}]",
                skipped.join(" ")
            ),
        });
    };
    let key_blocks = self::blocks(key);
    if !key_blocks.iter().any(|(label, _)| label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY")) {
        let skipped: Vec<&str> = key_blocks.iter().map(|(label, _)| label.as_str()).collect();
        return Err(match skipped.as_slice() {
            [] => "tls: failed to find any PEM data in key input".to_owned(),
            ["CERTIFICATE"] => "tls: found a certificate rather than a key in the PEM for the private key".to_owned(),
            _ => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM \
                 blocks of the following types: [{}]",
                skipped.join(" ")
            ),
        });
    }
    let certificate = pki::Certificate::from_der(der).map_err(|_| "x509: malformed certificate".to_owned())?;
    let public = certificate.public_key().map_err(|_| "tls: unknown public key algorithm".to_owned())?;
    let private = pki::PrivateKey::from_pem(key).map_err(|_| "tls: failed to parse private key".to_owned())?;
    if certificate.has_key(private.public_key()) {
        return Ok(());
    }
    Err(if public.scheme() == private.public_key().scheme() {
        "tls: private key does not match public key".to_owned()
    } else {
        "tls: private key type does not match public key type".to_owned()
    })
}

/// The labels and bytes of the well-formed blocks of a PEM text.
fn blocks(text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = String::from_utf8_lossy(text);
    let mut rest: &str = &text;
    let mut blocks = Vec::new();
    while let Some(start) = rest.find("-----BEGIN ") {
        rest = &rest[start + 11..];
        let Some((label, body)) = rest.split_once("-----") else { break };
        let Some((body, _)) = body.split_once(&format!("-----END {label}-----")) else { continue };
        let body: String =
            body.lines().filter(|line| !line.contains(':')).flat_map(|line| line.trim().chars()).collect();
        if let Ok(der) = STANDARD.decode(body) {
            blocks.push((label.to_owned(), der));
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_with_its_certificate_only() {
        let pair = || {
            let key = pki::PrivateKey::generate().unwrap();
            let pem = key.to_pem();
            let authority = pki::Authority::self_signed("a", key, 0, 3600).unwrap();
            (authority.certificate().to_pem(), pem)
        };
        let ((certificate, key), (_, other)) = (pair(), pair());
        for (certificate, key, expect) in [
            (&*certificate, &*key, None),
            (&certificate, &other, Some("tls: private key does not match public key")),
            ("x", "x", Some("tls: failed to find any PEM data in certificate input")),
            (&certificate, "x", Some("tls: failed to find any PEM data in key input")),
            (
                &key,
                &certificate,
                Some(
                    "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM \
                     inputs may have been switched",
                ),
            ),
            (
                &certificate,
                &certificate,
                Some("tls: found a certificate rather than a key in the PEM for the private key"),
            ),
        ] {
            assert_eq!(problem(certificate.as_bytes(), key.as_bytes()).as_deref(), expect);
        }
    }
}
