//! Acting as somebody else (`kubectl --as`): which user the headers ask for, what the requestor must be allowed to do
//! for it, and who acts then.
//!
//! Since 1.36 a requestor may be allowed to impersonate within limits (KEP-5284): certain users, for certain verbs.
//! Those ways are tried first, and then the old one, which knows no limits. The first way that is allowed counts; when
//! none is, the refusal of the first way tried is the answer.

use crate::headers::{self, NotText};
use crate::user::{
    self, ANONYMOUS, AUTHENTICATED, MASTERS, NODE_NAME_KEY, NODES, UNAUTHENTICATED, UserInfo, is_dns_subdomain,
};
use http::HeaderMap;
use parking_lot::Mutex;
use smol_str::{SmolStr, format_smolstr};
use std::collections::HashMap;
use std::fmt::Write as _;

const USER_HEADER: &str = "impersonate-user";
const UID_HEADER: &str = "impersonate-uid";
const GROUP_HEADER: &str = "impersonate-group";
const EXTRA_PREFIX: &str = "impersonate-extra-";

const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";
/// From this many checks on, one that covers all of them is tried first.
const MANY_CHECKS: usize = 4;

// === headers ===

/// The user that the headers ask to act as, as they stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonation {
    wanted: UserInfo,
}

/// The headers make no sense: answer 400 with this message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeaders {
    /// Something of a user is asked for, but no user.
    #[error("requested {0} without impersonating a user name")]
    NoUser(String),
    /// A header's value is not text.
    #[error("header {0} is not valid UTF-8")]
    NotText(String),
}

impl From<NotText> for BadHeaders {
    fn from(NotText(name): NotText) -> Self {
        Self::NotText(name)
    }
}

impl Impersonation {
    /// Reads the headers and takes them out of the request. `Ok(None)` when nobody is to be impersonated.
    pub fn from_headers(headers: &mut HeaderMap) -> Result<Option<Self>, BadHeaders> {
        let wanted = UserInfo {
            name: headers::first(headers, USER_HEADER)?.into(),
            uid: headers::first(headers, UID_HEADER)?.into(),
            groups: headers::all(headers, GROUP_HEADER)?,
            extra: headers::by_prefix(headers, EXTRA_PREFIX)?,
        };
        if wanted.name.is_empty() {
            return if only_username_set(&wanted) { Ok(None) } else { Err(BadHeaders::NoUser(go_syntax(&wanted))) };
        }
        for name in [USER_HEADER, UID_HEADER, GROUP_HEADER] {
            headers.remove(name);
        }
        headers::remove_by_prefix(headers, EXTRA_PREFIX);
        Ok(Some(Self { wanted }))
    }

    /// The user asked for.
    pub fn wanted(&self) -> &UserInfo {
        &self.wanted
    }
}

fn only_username_set(user: &UserInfo) -> bool {
    user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty()
}

/// The user as Go's `%#v` prints it, which is what the message of the 400 has.
fn go_syntax(user: &UserInfo) -> String {
    let list = |values: &[SmolStr]| {
        let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        quoted.join(", ")
    };
    let mut text = format!("&user.DefaultInfo{{Name:{:?}, UID:{:?}, ", user.name, user.uid);
    // Writing to a String cannot fail.
    let _ = match user.groups.as_slice() {
        [] => write!(text, "Groups:[]string(nil), "),
        groups => write!(text, "Groups:[]string{{{}}}, ", list(groups)),
    };
    let extra: Vec<String> =
        user.extra.iter().map(|(key, values)| format!("{key:?}:[]string{{{}}}", list(values))).collect();
    let _ = match extra.as_slice() {
        [] => write!(text, "Extra:map[string][]string(nil)}}"),
        extra => write!(text, "Extra:map[string][]string{{{}}}}}", extra.join(", ")),
    };
    text
}

// === checks ===

/// What is to be authorized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The request itself, but with this verb.
    Request {
        /// `impersonate-on:MODE:VERB`.
        verb: SmolStr,
    },
    /// Access to a resource.
    Resource(Attributes),
}

/// Access to a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `impersonate`, or `impersonate:MODE`.
    pub verb: SmolStr,
    /// The API group.
    pub api_group: SmolStr,
    /// The API version.
    pub api_version: SmolStr,
    /// `users`, `groups`, `serviceaccounts`, `nodes`, `uids` or `userextras`.
    pub resource: SmolStr,
    /// For `userextras`: the key.
    pub subresource: SmolStr,
    /// For service accounts.
    pub namespace: SmolStr,
    /// The name, or the value for `uids` and `userextras`.
    pub name: SmolStr,
}

/// One step of a way; all steps must succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This must be allowed.
    Check(Check),
    /// Either `all` at once, or each one must be allowed.
    AllOrEach {
        /// A check that covers the others.
        all: Check,
        /// The others.
        each: Vec<Check>,
    },
    /// This is never allowed.
    Refuse {
        /// What was asked for.
        check: Check,
        /// Why it is refused.
        reason: String,
    },
}

/// By which way each user last came to act as somebody else. Users keep to one, so it is tried first the next time
/// (upstream's modeIndexCache), and decides where several are open.
#[derive(Debug, Default)]
pub struct LastWays(Mutex<HashMap<SmolStr, Mode>>);

/// So many users are remembered; with more of them, all are forgotten.
const LAST_WAYS_MAX: usize = 10_000;

impl LastWays {
    fn of(&self, requestor: &UserInfo) -> Option<Mode> {
        self.0.lock().get(&requestor.name).copied()
    }

    fn set(&self, requestor: &UserInfo, mode: Mode) {
        let mut ways = self.0.lock();
        if ways.len() >= LAST_WAYS_MAX {
            ways.clear();
        }
        ways.insert(requestor.name.clone(), mode);
    }
}

/// One way to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    mode: Mode,
    /// The verb that allows it, for the audit log; empty for the old way.
    pub constraint: SmolStr,
    /// Who is to be authorized, if not the requestor as they are.
    pub requestor: Option<UserInfo>,
    /// What must be allowed.
    pub steps: Vec<Step>,
    /// Who acts then.
    pub user: UserInfo,
}

/// Somebody else, allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonated {
    /// Who acts now.
    pub user: UserInfo,
    /// The verb that allowed it, for the audit log; empty for the old way.
    pub constraint: SmolStr,
}

/// An authorizer's or a step's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is refused: the answer is the usual 403 for it.
    pub check: Check,
    /// Who asked.
    pub requestor: UserInfo,
    /// Why.
    pub reason: String,
}

impl Impersonation {
    /// The ways that lead there for a request with this verb, in the order in which they are to be tried.
    pub fn ways(&self, requestor: &UserInfo, request_verb: &str) -> Vec<Way> {
        let wanted = &self.wanted;
        let node = user::node_of_username(&wanted.name);
        let account = user::split_service_account_username(&wanted.name);
        let only_name = only_username_set(wanted);
        let mut ways = Vec::new();
        let own_node = requestor.as_service_account().and_then(|_| requestor.extra_value(NODE_NAME_KEY));
        if only_name && node.is_some() && node == own_node {
            ways.push(self.way(Mode::AssociatedNode, requestor, request_verb));
        }
        if only_name && node.is_some() {
            ways.push(self.way(Mode::ArbitraryNode, requestor, request_verb));
        }
        if only_name && account.is_some() {
            ways.push(self.way(Mode::ServiceAccount, requestor, request_verb));
        }
        if node.is_none() && account.is_none() {
            ways.push(self.way(Mode::UserInfo, requestor, request_verb));
        }
        ways.push(self.way(Mode::Legacy, requestor, request_verb));
        ways
    }

    /// Walks the ways, first the one that led there the last time. `authorize` says whether a user may do something,
    /// or why not.
    pub fn resolve(
        &self,
        requestor: &UserInfo,
        request_verb: &str,
        last: &LastWays,
        mut authorize: impl FnMut(&UserInfo, &Check) -> Result<(), String>,
    ) -> Result<Impersonated, Box<Refusal>> {
        let mut first: Option<Box<Refusal>> = None;
        let mut ways = self.ways(requestor, request_verb);
        let known = last.of(requestor);
        ways.sort_by_key(|way| Some(way.mode) != known);
        for way in ways {
            let asked = way.requestor.as_ref().unwrap_or(requestor);
            match way.steps.iter().try_for_each(|step| step.walk(asked, &mut authorize)) {
                Ok(()) => {
                    if Some(way.mode) != known {
                        last.set(requestor, way.mode);
                    }
                    return Ok(Impersonated { user: way.user, constraint: way.constraint });
                }
                Err(refusal) => {
                    first.get_or_insert(refusal);
                }
            }
        }
        // The old way is always among them, so there is a refusal.
        Err(first.unwrap_or_else(|| {
            Box::new(Refusal {
                check: Check::Resource(Attributes::default()),
                requestor: requestor.clone(),
                reason: "all impersonation modes failed".to_owned(),
            })
        }))
    }

    fn way(&self, mode: Mode, requestor: &UserInfo, request_verb: &str) -> Way {
        let wanted = &self.wanted;
        let constrained = mode != Mode::Legacy;
        let verb = mode.verb();
        // The old way has users and groups in the core group.
        let (group, version) = if constrained { (AUTHENTICATION_GROUP, "v1") } else { ("", "v1") };
        let attributes = |api_group: &str, resource: &str, name: &str| Attributes {
            verb: verb.clone(),
            api_group: api_group.into(),
            api_version: version.into(),
            resource: resource.into(),
            name: name.into(),
            ..Attributes::default()
        };
        let mut steps = Vec::new();
        if constrained {
            let verb = format_smolstr!("impersonate-on:{}:{request_verb}", mode.name());
            steps.push(Step::Check(Check::Request { verb }));
        }

        let mut user = wanted.clone();
        let mut username = attributes(group, "users", &wanted.name);
        if let Some(node) = user::node_of_username(&wanted.name).filter(|_| constrained) {
            username.resource = "nodes".into();
            // A node agent asks the same on each node, so the answer must hold for all of them.
            username.name = if mode == Mode::AssociatedNode { "*".into() } else { node.into() };
            user.groups = vec![NODES.into()];
        }
        if let Some((namespace, name)) = user::split_service_account_username(&wanted.name) {
            username.resource = "serviceaccounts".into();
            username.namespace = namespace.into();
            username.name = name.into();
            if wanted.groups.is_empty() {
                user.groups = user::service_account_groups(namespace).into();
            }
        }
        steps.push(Step::Check(Check::Resource(username)));

        if !wanted.uid.is_empty() {
            steps.push(Step::Check(Check::Resource(attributes(AUTHENTICATION_GROUP, "uids", &wanted.uid))));
        }

        let refuse =
            |attributes: Attributes, reason: String| Step::Refuse { check: Check::Resource(attributes), reason };
        if constrained && wanted.groups.iter().any(SmolStr::is_empty) {
            let reason = "impersonating the empty string group is not allowed".to_owned();
            steps.push(refuse(attributes(group, "groups", ""), reason));
        } else if constrained && wanted.is_in(MASTERS) {
            let reason = "impersonating the system:masters group is not allowed".to_owned();
            steps.push(refuse(attributes(group, "groups", MASTERS), reason));
        }
        let each: Vec<Check> =
            wanted.groups.iter().map(|name| Check::Resource(attributes(group, "groups", name))).collect();
        push_checks(&mut steps, constrained, Check::Resource(attributes(group, "groups", "*")), each);

        let userextras = |key: &str, value: &str| {
            Check::Resource(Attributes {
                subresource: key.into(),
                ..attributes(AUTHENTICATION_GROUP, "userextras", value)
            })
        };
        if constrained && let Err(reason) = validate_extra(wanted) {
            steps.push(refuse(attributes(AUTHENTICATION_GROUP, "userextras", ""), reason));
        }
        let each =
            wanted.extra.iter().flat_map(|(key, values)| values.iter().map(|value| userextras(key, value))).collect();
        push_checks(&mut steps, constrained, userextras("*", "*"), each);

        if user.name == ANONYMOUS {
            ensure_group(&mut user, UNAUTHENTICATED);
        } else if !user.is_in(UNAUTHENTICATED) {
            ensure_group(&mut user, AUTHENTICATED);
        }
        Way {
            mode,
            constraint: if constrained { verb.clone() } else { SmolStr::default() },
            requestor: (mode == Mode::AssociatedNode).then(|| without_extra_values(requestor)),
            steps,
            user,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    fn verb(self) -> SmolStr {
        if self == Self::Legacy { "impersonate".into() } else { format_smolstr!("impersonate:{}", self.name()) }
    }
}

impl Step {
    fn walk(
        &self,
        requestor: &UserInfo,
        authorize: &mut impl FnMut(&UserInfo, &Check) -> Result<(), String>,
    ) -> Result<(), Box<Refusal>> {
        let refusal =
            |check: &Check, reason| Box::new(Refusal { check: check.clone(), requestor: requestor.clone(), reason });
        match self {
            Self::Check(check) => authorize(requestor, check).map_err(|reason| refusal(check, reason)),
            Self::AllOrEach { all, each } => {
                if authorize(requestor, all).is_ok() {
                    return Ok(());
                }
                each.iter().try_for_each(|check| authorize(requestor, check).map_err(|reason| refusal(check, reason)))
            }
            Self::Refuse { check, reason } => Err(refusal(check, reason.clone())),
        }
    }
}

fn push_checks(steps: &mut Vec<Step>, constrained: bool, all: Check, each: Vec<Check>) {
    if constrained && each.len() >= MANY_CHECKS {
        steps.push(Step::AllOrEach { all, each });
    } else {
        steps.extend(each.into_iter().map(Step::Check));
    }
}

fn ensure_group(user: &mut UserInfo, group: &'static str) {
    if !user.is_in(group) {
        user.groups.push(SmolStr::new_static(group));
    }
}

/// The requestor with the keys of their extra only: the values differ from pod to pod, what is allowed does not.
fn without_extra_values(requestor: &UserInfo) -> UserInfo {
    let keys = requestor.extra.keys().cloned().collect();
    let extra = [(SmolStr::new_static("authentication.kubernetes.io/associated-node-keys"), keys)].into();
    UserInfo { extra, ..requestor.clone() }
}

fn validate_extra(wanted: &UserInfo) -> Result<(), String> {
    for (key, values) in &wanted.extra {
        if key.is_empty() {
            return Err("impersonating the empty string key in extra is not allowed".to_owned());
        }
        if let Some(reason) = domain_prefixed_path_fault(key) {
            return Err(format!(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: {reason}"
            ));
        }
        if *key != key.to_lowercase() {
            return Err(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
        }
        if values.iter().any(SmolStr::is_empty) {
            return Err("impersonating the empty string value in extra is not allowed".to_owned());
        }
    }
    Ok(())
}

/// What keeps a key from being a path below a domain, such as `acme.io/foo`.
fn domain_prefixed_path_fault(key: &str) -> Option<&'static str> {
    let Some((domain, path)) = key.split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty())
    else {
        return Some("must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    if !is_dns_subdomain(domain) {
        return Some("the part before the slash must be a DNS subdomain");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    (!path.bytes().all(allowed)).then_some("Invalid path")
}
