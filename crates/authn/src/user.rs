//! Who makes a request. This module needs nothing but strings, so that authorization can share it.

use smol_str::SmolStr;
use std::collections::BTreeMap;

/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of requests without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of everybody who showed who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group that may do anything.
pub const MASTERS: &str = "system:masters";
/// The group of nodes.
pub const NODES: &str = "system:nodes";
/// The group of all service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// The extra key that tells credentials of one user apart.
pub const CREDENTIAL_ID_KEY: &str = "authentication.kubernetes.io/credential-id";
/// The extra key for the name of the pod that a token is bound to.
pub const POD_NAME_KEY: &str = "authentication.kubernetes.io/pod-name";
/// The extra key for the uid of the pod that a token is bound to.
pub const POD_UID_KEY: &str = "authentication.kubernetes.io/pod-uid";
/// The extra key for the name of the node that a token is bound to.
pub const NODE_NAME_KEY: &str = "authentication.kubernetes.io/node-name";
/// The extra key for the uid of the node that a token is bound to.
pub const NODE_UID_KEY: &str = "authentication.kubernetes.io/node-uid";

const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
const SERVICE_ACCOUNT_GROUP_PREFIX: &str = "system:serviceaccounts:";
const NODE_PREFIX: &str = "system:node:";

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UserInfo {
    /// The name; unique among all users.
    pub name: SmolStr,
    /// Tells a user from an earlier one of the same name. May be empty.
    pub uid: SmolStr,
    /// The groups the user is in.
    pub groups: Vec<SmolStr>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<SmolStr, Vec<SmolStr>>,
}

impl UserInfo {
    /// A user with groups and nothing else.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|&group| group.into()).collect(), ..Self::default() }
    }

    /// The user of requests without credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    /// A service account, with the groups of all service accounts and of those in its namespace.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: service_account_username(namespace, name),
            uid: uid.into(),
            groups: service_account_groups(namespace).into(),
            extra: BTreeMap::new(),
        }
    }

    /// Whether the user is in this group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Namespace and name, if this is a service account.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        split_service_account_username(&self.name)
    }

    /// The node's name, if this is a node: `system:node:NAME` in the group `system:nodes`.
    pub fn as_node(&self) -> Option<&str> {
        self.name.strip_prefix(NODE_PREFIX).filter(|node| !node.is_empty() && self.is_in(NODES))
    }

    /// The value of an extra key that has exactly one.
    pub fn extra_value(&self, key: &str) -> Option<&str> {
        match self.extra.get(key).map(Vec::as_slice) {
            Some([value]) => Some(value),
            _ => None,
        }
    }

    /// Adds `system:authenticated`, but not to the anonymous user and not beside one of the two groups of this kind.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if self.name != ANONYMOUS && !self.is_in(AUTHENTICATED) && !self.is_in(UNAUTHENTICATED) {
            self.groups.push(SmolStr::new_static(AUTHENTICATED));
        }
        self
    }
}

/// The user name of a service account: `system:serviceaccount:NAMESPACE:NAME`.
pub fn service_account_username(namespace: &str, name: &str) -> SmolStr {
    smol_str::format_smolstr!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// The groups of a namespace's service accounts.
pub fn service_account_groups(namespace: &str) -> [SmolStr; 2] {
    [SmolStr::new_static(SERVICE_ACCOUNTS), smol_str::format_smolstr!("{SERVICE_ACCOUNT_GROUP_PREFIX}{namespace}")]
}

/// Namespace and name in a service account's user name, if it is a well-formed one.
pub fn split_service_account_username(username: &str) -> Option<(&str, &str)> {
    let (namespace, name) = username.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (is_dns_label(namespace) && is_dns_subdomain(name)).then_some((namespace, name))
}

/// The node's name in a node's user name, if it is a well-formed one. Groups are not looked at.
pub fn node_of_username(username: &str) -> Option<&str> {
    username.strip_prefix(NODE_PREFIX).filter(|node| is_dns_subdomain(node))
}

pub(crate) fn is_dns_label(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = value.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&byte| inner(byte) || byte == b'-')
        && inner(bytes[0])
        && inner(bytes[bytes.len() - 1])
}

pub(crate) fn is_dns_subdomain(value: &str) -> bool {
    // Labels of a subdomain have no length limit of their own.
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=253).contains(&value.len())
        && value.split('.').all(|label| {
            let bytes = label.as_bytes();
            !bytes.is_empty()
                && bytes.iter().all(|&byte| inner(byte) || byte == b'-')
                && inner(bytes[0])
                && inner(bytes[bytes.len() - 1])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_accounts_are_known_by_their_name() {
        for (name, want) in [
            ("system:serviceaccount:ns:sa", Some(("ns", "sa"))),
            ("system:serviceaccount:ns:a.b-c", Some(("ns", "a.b-c"))),
            ("system:serviceaccount:ns", None),
            ("system:serviceaccount::sa", None),
            ("system:serviceaccount:ns:", None),
            ("system:serviceaccount:ns:a:b", None),
            ("system:serviceaccount:n.s:sa", None),
            ("system:serviceaccount:NS:sa", None),
            ("system:serviceaccount:ns:-a", None),
            ("system:serviceaccount:ns:a..b", None),
            ("system:serviceaccounts:ns:sa", None),
            ("jane", None),
        ] {
            assert_eq!(UserInfo::new(name, &[]).as_service_account(), want, "{name}");
        }
        let user = UserInfo::service_account("ns", "sa", "u");
        assert_eq!(user.name, "system:serviceaccount:ns:sa");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns"]);
    }

    #[test]
    fn nodes_are_known_by_name_and_group() {
        for (name, groups, want) in [
            ("system:node:n1", &["system:nodes"][..], Some("n1")),
            ("system:node:n1", &["x", "system:nodes"], Some("n1")),
            ("system:node:n1", &[], None),
            ("system:node:", &["system:nodes"], None),
            ("n1", &["system:nodes"], None),
        ] {
            assert_eq!(UserInfo::new(name, groups).as_node(), want, "{name} {groups:?}");
        }
    }

    #[test]
    fn everybody_who_is_somebody_is_authenticated() {
        for (name, groups, want) in [
            ("jane", &["dev"][..], &["dev", AUTHENTICATED][..]),
            ("jane", &[AUTHENTICATED, "dev"], &[AUTHENTICATED, "dev"]),
            ("jane", &[UNAUTHENTICATED], &[UNAUTHENTICATED]),
            (ANONYMOUS, &[], &[]),
        ] {
            assert_eq!(UserInfo::new(name, groups).authenticated().groups, want, "{name} {groups:?}");
        }
    }
}
