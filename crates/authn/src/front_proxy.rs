//! Users vouched for by an authenticating proxy, in headers (`--requestheader-*`).

use crate::headers::{self, NotText};
use crate::user::UserInfo;
use http::HeaderMap;
use pki::ClientVerifier;

/// Which proxies are trusted and which headers they send.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// `--requestheader-client-ca-file`: vouches for proxies.
    pub verifier: ClientVerifier,
    /// `--requestheader-allowed-names`: the proxies' names; empty for any.
    pub allowed_names: Vec<String>,
    /// `--requestheader-username-headers`; the first with a value counts.
    pub username_headers: Vec<String>,
    /// `--requestheader-uid-headers`; the first with a value counts.
    pub uid_headers: Vec<String>,
    /// `--requestheader-group-headers`; all values count.
    pub group_headers: Vec<String>,
    /// `--requestheader-extra-headers-prefix`.
    pub extra_prefixes: Vec<String>,
}

impl FrontProxy {
    /// The usual headers: X-Remote-User, -Uid, -Group, -Extra-.
    pub fn new(verifier: ClientVerifier, allowed_names: Vec<String>) -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            verifier,
            allowed_names,
            username_headers: one(USERNAME),
            uid_headers: one(UID),
            group_headers: one(GROUP),
            extra_prefixes: one(EXTRA_PREFIX),
        }
    }

    /// Whether the request names a user at all.
    pub(crate) fn names_user(&self, request: &HeaderMap) -> bool {
        self.username_headers.iter().any(|name| request.get(name).is_some_and(|value| !value.is_empty()))
    }

    /// The user that the headers name.
    pub(crate) fn user(&self, request: &HeaderMap) -> Result<UserInfo, NotText> {
        let first = |names: &[String]| {
            names.iter().map(|name| headers::first(request, name)).find(|value| value != &Ok("")).unwrap_or(Ok(""))
        };
        let mut user = UserInfo {
            name: first(&self.username_headers)?.into(),
            uid: first(&self.uid_headers)?.into(),
            ..UserInfo::default()
        };
        for name in &self.group_headers {
            user.groups.extend(headers::all(request, name)?.into_iter().filter(|group| !group.is_empty()));
        }
        for prefix in &self.extra_prefixes {
            for (key, values) in headers::by_prefix(request, prefix)? {
                user.extra.entry(key).or_default().extend(values);
            }
        }
        Ok(user)
    }

    /// Removes the headers that only a proxy may send.
    pub(crate) fn clear(&self, request: &mut HeaderMap) {
        for name in [&self.username_headers, &self.uid_headers, &self.group_headers].into_iter().flatten() {
            request.remove(name);
        }
        for prefix in &self.extra_prefixes {
            headers::remove_by_prefix(request, prefix);
        }
    }
}

const USERNAME: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA_PREFIX: &str = "x-remote-extra-";

/// Removes the usual headers, which nobody behind the authenticators may believe, from whoever they came.
pub(crate) fn clear_usual(request: &mut HeaderMap) {
    for name in [USERNAME, UID, GROUP] {
        request.remove(name);
    }
    headers::remove_by_prefix(request, EXTRA_PREFIX);
}
