//! Bootstrap tokens: how a machine that knows nothing yet asks to join (`--enable-bootstrap-token-auth`). A token is
//! `id.secret`, and the Secret `kube-system/bootstrap-token-<id>` says what it is good for.

use crate::authenticator::{TokenAuthenticator, TokenUser};
use crate::user::UserInfo;
use smol_str::{SmolStr, format_smolstr};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The type of Secrets that hold bootstrap tokens.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group of everybody who shows a bootstrap token.
pub const GROUP: &str = "system:bootstrappers";

/// A Secret of `kube-system` as it is now.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// Its type.
    pub secret_type: SmolStr,
    /// Whether it is being deleted.
    pub deleted: bool,
    /// Its data.
    pub data: BTreeMap<SmolStr, Vec<u8>>,
    /// When its key `expiration` says that it ends; long ago if that cannot be read.
    pub expires_at: Option<i64>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("secret_type", &self.secret_type).finish_non_exhaustive()
    }
}

/// Where Secrets are looked up.
pub trait BootstrapSecrets: Send + Sync {
    /// The Secret of this name in `kube-system`.
    fn secret(&self, name: &str) -> Option<Secret>;
}

/// Knows the users of bootstrap tokens.
pub struct BootstrapTokens {
    secrets: Arc<dyn BootstrapSecrets>,
}

impl BootstrapTokens {
    /// Looks tokens up there.
    pub fn new(secrets: Arc<dyn BootstrapSecrets>) -> Self {
        Self { secrets }
    }
}

impl fmt::Debug for BootstrapTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootstrapTokens").finish_non_exhaustive()
    }
}

impl TokenAuthenticator for BootstrapTokens {
    fn authenticate_token(&self, token: &str, _audiences: &[String], now: i64) -> Result<Option<TokenUser>, String> {
        let Some((id, secret)) = parse(token) else { return Ok(None) };
        let Some(found) = self.secrets.secret(&format!("bootstrap-token-{id}")) else { return Ok(None) };
        let Some(groups) = groups(&found, id, secret, now) else { return Ok(None) };
        let user = UserInfo { name: format_smolstr!("system:bootstrap:{id}"), groups, ..UserInfo::default() };
        let user = Arc::new(user.authenticated());
        Ok(Some(TokenUser { user, audiences: Arc::default(), notes: None, expires_at: found.expires_at }))
    }
}

/// Six characters, a dot, sixteen characters.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// The groups of the token's user, if the Secret says that the token is good.
fn groups(found: &Secret, id: &str, secret: &str, now: i64) -> Option<Vec<SmolStr>> {
    let data = |key: &str| found.data.get(key).map(Vec::as_slice).unwrap_or_default();
    let good = !found.deleted
        && found.secret_type == SECRET_TYPE
        && equal(data("token-secret"), secret.as_bytes())
        && data("token-id") == id.as_bytes()
        && found.expires_at.is_none_or(|end| end > now)
        && data("usage-bootstrap-authentication") == b"true";
    if !good {
        return None;
    }
    let extra = std::str::from_utf8(data("auth-extra-groups")).ok()?;
    let extra: Vec<&str> = if extra.is_empty() { Vec::new() } else { extra.split(',').collect() };
    if !extra.iter().all(|group| is_bootstrap_group(group)) {
        return None;
    }
    let sorted: BTreeSet<SmolStr> = extra.into_iter().chain([GROUP]).map(SmolStr::from).collect();
    Some(sorted.into_iter().collect())
}

/// `system:bootstrappers:` and up to 256 small letters, digits, colons and dashes, of which the last is neither of both.
fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().all(|byte| plain(byte) || byte == b':' || byte == b'-')
        && rest.bytes().next_back().is_some_and(plain)
}

/// Compares without telling by its time where the difference is.
fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(Secret);

    impl BootstrapSecrets for One {
        fn secret(&self, name: &str) -> Option<Secret> {
            (name == "bootstrap-token-abcdef").then(|| self.0.clone())
        }
    }

    fn good() -> Secret {
        let data = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token"),
        ];
        Secret {
            secret_type: SECRET_TYPE.into(),
            data: data.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            ..Secret::default()
        }
    }

    fn ask(secret: Secret, token: &str) -> Option<Arc<UserInfo>> {
        let tokens = BootstrapTokens::new(Arc::new(One(secret)));
        tokens.authenticate_token(token, &[], 100).expect("nothing fails").map(|found| found.user)
    }

    #[test]
    fn a_good_token_has_a_user_and_groups() {
        let user = ask(good(), "abcdef.0123456789abcdef").expect("it is good");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        let all = ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token", "system:authenticated"];
        assert_eq!(user.groups, all);
    }

    #[test]
    fn other_tokens_are_none() {
        for token in ["", "abcdef", "abcdef.0123456789abcdeg", "abcdee.0123456789abcdef", "ABCDEF.0123456789abcdef"] {
            assert_eq!(ask(good(), token), None, "{token}");
        }
    }

    #[test]
    fn each_thing_that_the_secret_says_counts() {
        let mut changes: Vec<(&str, Secret)> = [
            ("token-id", "abcdex"),
            ("token-secret", "0123456789abcdee"),
            ("usage-bootstrap-authentication", "True"),
            ("auth-extra-groups", "system:masters"),
            ("auth-extra-groups", "system:bootstrappers:a-"),
            ("auth-extra-groups", "system:bootstrappers:a,"),
        ]
        .into_iter()
        .map(|(key, value)| {
            let mut secret = good();
            secret.data.insert(key.into(), value.into());
            (key, secret)
        })
        .collect();
        changes.push(("type", Secret { secret_type: "Opaque".into(), ..good() }));
        changes.push(("deleted", Secret { deleted: true, ..good() }));
        changes.push(("expired", Secret { expires_at: Some(100), ..good() }));
        for (what, secret) in changes {
            assert_eq!(ask(secret, "abcdef.0123456789abcdef"), None, "{what}");
        }
        let ends_later = Secret { expires_at: Some(101), ..good() };
        assert!(ask(ends_later, "abcdef.0123456789abcdef").is_some());
    }
}
