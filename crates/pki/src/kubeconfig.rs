//! Kubeconfig files with everything embedded: written as YAML, and read back only as far as to see whether one of
//! ours is still good.

use crate::{Certificate, PkiError, PrivateKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// How the client proves who it is.
#[derive(Clone, Debug)]
pub enum Credential {
    /// With a certificate (leaf first) and its key.
    ClientCertificate {
        /// The chain.
        chain: Vec<Certificate>,
        /// The leaf's key.
        key: PrivateKey,
    },
    /// With a bearer token.
    Token(BearerToken),
}

/// A bearer token; never shown by `Debug`.
#[derive(Clone)]
pub struct BearerToken(pub String);

impl std::fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BearerToken(secret)")
    }
}

/// One cluster, one user and one context that joins them.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    /// The cluster's name.
    pub cluster: String,
    /// The context's name.
    pub context: String,
    /// The user's name within the file.
    pub user: String,
    /// Where the server is: `https://host:port`.
    pub server: String,
    /// Who vouches for the server.
    pub certificate_authority: Vec<Certificate>,
    /// The context's namespace, if not `default`.
    pub namespace: Option<String>,
    /// How the client proves who it is.
    pub credential: Credential,
}

impl Kubeconfig {
    /// The file's text. It holds a secret.
    pub fn to_yaml(&self) -> String {
        let authority = STANDARD.encode(pem_of(&self.certificate_authority));
        let (cluster, context, user) = (quote(&self.cluster), quote(&self.context), quote(&self.user));
        let mut text = String::from("apiVersion: v1\nkind: Config\n");
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "clusters:\n- name: {cluster}\n  cluster:\n    certificate-authority-data: {authority}\n    server: {}\n\
             contexts:\n- name: {context}\n  context:\n    cluster: {cluster}\n",
            quote(&self.server)
        );
        if let Some(namespace) = &self.namespace {
            let _ = writeln!(text, "    namespace: {}", quote(namespace));
        }
        let _ = write!(
            text,
            "    user: {user}\ncurrent-context: {context}\npreferences: {{}}\nusers:\n- name: {user}\n  user:\n"
        );
        match &self.credential {
            Credential::ClientCertificate { chain, key } => {
                let _ = writeln!(text, "    client-certificate-data: {}", STANDARD.encode(pem_of(chain)));
                let _ = writeln!(text, "    client-key-data: {}", STANDARD.encode(key.to_pem()));
            }
            Credential::Token(BearerToken(token)) => {
                let _ = writeln!(text, "    token: {}", quote(token));
            }
        }
        text
    }
}

fn pem_of(certificates: &[Certificate]) -> String {
    certificates.iter().map(Certificate::to_pem).collect()
}

/// A YAML scalar that is read back as this very string.
fn quote(value: &str) -> String {
    let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./@:".contains(&byte))
        && value.starts_with(|first: char| first.is_ascii_alphabetic())
        && !value.ends_with(':')
        && !matches!(
            value.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        return value.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in value.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// What matters of a kubeconfig made here.
#[derive(Debug)]
pub(crate) struct Existing {
    pub(crate) server: String,
    pub(crate) certificate_authority: Vec<Certificate>,
    pub(crate) chain: Vec<Certificate>,
    pub(crate) key: PrivateKey,
}

impl Existing {
    /// Finds the embedded data in a file with one cluster and one user.
    pub(crate) fn from_yaml(text: &[u8]) -> Result<Self, PkiError> {
        let text = std::str::from_utf8(text).map_err(|_| PkiError::Key("not UTF-8".to_owned()))?;
        let value = |key: &str| {
            let mut found = text.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'));
            match (found.next(), found.next()) {
                (Some(value), None) => Ok(value.trim().trim_matches('"').to_owned()),
                (None, _) => Err(PkiError::Key(format!("it has no {key}"))),
                (Some(_), Some(_)) => Err(PkiError::Key(format!("it has more than one {key}"))),
            }
        };
        let data = |key: &str| {
            STANDARD.decode(value(key)?).map_err(|error| PkiError::Key(format!("{key} is not base64: {error}")))
        };
        Ok(Self {
            server: value("server")?,
            certificate_authority: Certificate::from_pem(&data("certificate-authority-data")?)?,
            chain: Certificate::from_pem(&data("client-certificate-data")?)?,
            key: PrivateKey::from_pem(&data("client-key-data")?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn scalars_are_quoted_when_yaml_would_read_them_otherwise() {
        for (value, want) in [
            ("kubernetes-admin@kubox", "kubernetes-admin@kubox"),
            ("https://[::1]:6443", "\"https://[::1]:6443\""),
            ("https://127.0.0.1:6443", "https://127.0.0.1:6443"),
            ("", "\"\""),
            ("1e3", "\"1e3\""),
            ("Yes", "\"Yes\""),
            ("a: b", "\"a: b\""),
            ("a:", "\"a:\""),
            ("q\"\\\n", "\"q\\\"\\\\\\u000a\""),
            ("- x", "\"- x\""),
        ] {
            assert_eq!(quote(value), want, "{value:?}");
        }
    }
}
