//! Where the server is and how to show oneself: kubeconfig files, and what a pod finds in its container.

use std::path::{Path, PathBuf};

use api_schema::{SmolStr, Value};
use base64::Engine as _;

/// Where a pod finds its service account.
const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A server, and how to speak to it.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `https://host:port`, perhaps with a path; `http://` speaks in the clear.
    pub server: String,
    /// The name that the server's certificate must have, if not the host.
    pub server_name: Option<String>,
    /// Who vouches for the server, as PEM; without it whom the machine trusts.
    pub authority: Option<Source>,
    /// Trust any server. For tests and emergencies.
    pub insecure: bool,
    /// How to show oneself.
    pub credentials: Credentials,
    /// The namespace that the context names; empty if none.
    pub namespace: SmolStr,
}

/// How to show oneself; several may be set.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A client certificate with its chain, and its key, as PEM. Files are read again as they change.
    pub certificate: Option<(Source, Source)>,
    /// A bearer token. A file is read again as it rotates.
    pub token: Option<Source>,
    /// Act as this user.
    pub act_as: Option<ActAs>,
}

/// Whom to impersonate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActAs {
    /// The user's name.
    pub user: String,
    /// The user's uid; empty if not said.
    pub uid: String,
    /// The user's groups.
    pub groups: Vec<String>,
}

/// Text that is at hand or in a file.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// At hand.
    Inline(Vec<u8>),
    /// In a file.
    File(PathBuf),
}

impl Source {
    /// Reads it.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self) -> Result<Vec<u8>, ConfigError> {
        match self {
            Self::Inline(bytes) => Ok(bytes.clone()),
            Self::File(path) => std::fs::read(path).map_err(|source| ConfigError::Read { path: path.clone(), source }),
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // It may be a secret.
            Self::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// Why a client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A kubeconfig is none, or lacks what is needed.
    #[error("kubeconfig {}: {reason}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// This does not run in a pod.
    #[error("not in a pod: {0} is not set")]
    NotInPod(&'static str),
    /// The server's address makes no sense.
    #[error("server {server:?}: {reason}")]
    Server {
        /// The address.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificates or keys cannot be used.
    #[error("{what}: {reason}")]
    Tls {
        /// Which.
        what: &'static str,
        /// What is wrong with them.
        reason: String,
    },
}

impl Config {
    /// Reads a kubeconfig: the context of this name, or the current one. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// If the file cannot be read or lacks what is needed.
    pub fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Self, ConfigError> {
        let text = std::fs::read(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let dir = path.parent().unwrap_or(Path::new(""));
        Self::parse_kubeconfig(&text, dir, context)
            .map_err(|reason| ConfigError::Kubeconfig { path: path.into(), reason })
    }

    fn parse_kubeconfig(text: &[u8], dir: &Path, context: Option<&str>) -> Result<Self, String> {
        let file = api_codec::yaml::decode(None, text, api_codec::json::Options::default())
            .map_err(|error| error.to_string())?
            .value;
        let name = context.unwrap_or_else(|| file.str_at(&["current-context"]));
        if name.is_empty() {
            return Err("it has no current-context".to_owned());
        }
        let context = entry(&file, "contexts", "context", name)?;
        let cluster = entry(&file, "clusters", "cluster", context.str_at(&["cluster"]))?;
        let server = cluster.str_at(&["server"]).to_owned();
        if server.is_empty() {
            return Err(format!("cluster {:?} has no server", context.str_at(&["cluster"])));
        }
        let user = match context.str_at(&["user"]) {
            "" => &Value::Null,
            user => entry(&file, "users", "user", user)?,
        };
        for unsupported in ["exec", "auth-provider", "username"] {
            if user.get(unsupported).is_some() {
                return Err(format!("user {:?} uses {unsupported}, which is not supported", context.str_at(&["user"])));
            }
        }
        let certificate = source(user, "client-certificate", dir)?;
        let key = source(user, "client-key", dir)?;
        let token = match (user.str_at(&["token"]), user.str_at(&["tokenFile"])) {
            // As in client-go, the file wins: it is the one that rotates.
            (_, file) if !file.is_empty() => Some(Source::File(dir.join(file))),
            ("", _) => None,
            (token, _) => Some(Source::Inline(token.into())),
        };
        let act_as = Some(user.str_at(&["as"])).filter(|user| !user.is_empty()).map(|name| ActAs {
            user: name.to_owned(),
            uid: user.str_at(&["as-uid"]).to_owned(),
            groups: user.list_at(&["as-groups"]).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        });
        Ok(Self {
            server,
            server_name: Some(cluster.str_at(&["tls-server-name"]).to_owned()).filter(|name| !name.is_empty()),
            authority: source(cluster, "certificate-authority", dir)?,
            insecure: cluster.bool_at(&["insecure-skip-tls-verify"]).unwrap_or(false),
            credentials: Credentials { certificate: certificate.zip(key), token, act_as },
            namespace: context.str_at(&["namespace"]).into(),
        })
    }

    /// What a pod finds in its container: the server's address in the environment, the service account's token and the
    /// authority in files.
    ///
    /// # Errors
    /// If this does not run in a pod.
    pub fn in_cluster() -> Result<Self, ConfigError> {
        let variable =
            |name| std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or(ConfigError::NotInPod(name));
        let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let file = |name: &str| Path::new(SERVICE_ACCOUNT_DIR).join(name);
        Ok(Self {
            server: format!("https://{host}:{port}"),
            authority: Some(Source::File(file("ca.crt"))),
            credentials: Credentials { token: Some(Source::File(file("token"))), ..Credentials::default() },
            namespace: std::fs::read_to_string(file("namespace")).unwrap_or_default().trim().into(),
            ..Self::default()
        })
    }
}

/// The entry of a name in one of the file's lists.
fn entry<'a>(file: &'a Value, list: &str, key: &str, name: &str) -> Result<&'a Value, String> {
    let found = file.list_at(&[list]).iter().find(|entry| entry.str_at(&["name"]) == name);
    found.and_then(|entry| entry.get(key)).ok_or_else(|| format!("it has no {key} {name:?}"))
}

/// `key-data` in base64, or else the file that `key` names.
fn source(object: &Value, key: &str, dir: &Path) -> Result<Option<Source>, String> {
    let data = object.str_at(&[&format!("{key}-data")]);
    if !data.is_empty() {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data.trim())
            .map_err(|error| format!("{key}-data is not base64: {error}"))?;
        return Ok(Some(Source::Inline(bytes)));
    }
    let path = object.str_at(&[key]);
    Ok((!path.is_empty()).then(|| Source::File(dir.join(path))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
current-context: one
clusters:
- name: c
  cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: Y2E=, tls-server-name: kubernetes}
- name: plain
  cluster: {server: 'http://127.0.0.1:8001', insecure-skip-tls-verify: true}
- name: broken
  cluster: {}
contexts:
- {name: one, context: {cluster: c, user: admin, namespace: shop}}
- {name: two, context: {cluster: plain, user: robot}}
- {name: three, context: {cluster: broken}}
- {name: four, context: {cluster: plain, user: cloud}}
- {name: five, context: {cluster: plain}}
users:
- name: admin
  user: {client-certificate-data: Y3J0, client-key: keys/admin.key}
- name: robot
  user: {token: abc, tokenFile: /run/token, as: alice, as-groups: [a, b]}
- name: cloud
  user: {exec: {command: aws}}
";

    fn check(context: Option<&str>, expect: &str) {
        let shown = match Config::parse_kubeconfig(FILE.as_bytes(), Path::new("/home"), context) {
            Ok(Config {
                server,
                server_name,
                authority,
                insecure,
                credentials: Credentials { certificate, token, act_as },
                namespace,
            }) => {
                let act_as = act_as.map(|ActAs { user, groups, .. }| (user, groups));
                format!(
                    "{server} {server_name:?} {authority:?} {insecure} {certificate:?} {token:?} {act_as:?} {namespace:?}"
                )
            }
            Err(reason) => reason,
        };
        assert_eq!(shown, expect, "{context:?}");
    }

    #[test]
    fn contexts_lead_to_clusters_and_users() {
        check(
            None,
            "https://10.0.0.1:6443 Some(\"kubernetes\") Some(Inline(2 bytes)) false \
             Some((Inline(3 bytes), File(/home/keys/admin.key))) None None \"shop\"",
        );
        check(
            Some("two"),
            "http://127.0.0.1:8001 None None true None Some(File(/run/token)) Some((\"alice\", [\"a\", \"b\"])) \"\"",
        );
        check(Some("three"), "cluster \"broken\" has no server");
        check(Some("four"), "user \"cloud\" uses exec, which is not supported");
        check(Some("five"), "http://127.0.0.1:8001 None None true None None None \"\"");
        check(Some("six"), "it has no context \"six\"");
    }
}
