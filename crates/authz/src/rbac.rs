//! The RBAC authorizer: an index of all roles and bindings, by whom the bindings are about.
//!
//! [`Rbac::apply`] is told every change of a Role, ClusterRole, RoleBinding or ClusterRoleBinding, and every object once at
//! the start. A request then looks only at the bindings of its user and groups.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use api_schema::{SmolStr, Value, format_smolstr};
use api_semantics::field::quoted;
use api_semantics::status::{GroupResource, Status};
use authn::UserInfo;
use authn::user::service_account_username;
use parking_lot::RwLock;

use crate::rule::Rule;
use crate::{Attributes, Authorizer, Decision};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// What roles and bindings allow.
#[derive(Debug, Default)]
pub struct Rbac {
    index: RwLock<Index>,
}

/// A role that a binding names and that does not exist, or is of no known kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RoleError {
    /// There is no Role of this name in the binding's namespace.
    NoRole(SmolStr),
    /// There is no ClusterRole of this name.
    NoClusterRole(SmolStr),
    /// The binding names another kind.
    UnsupportedKind(SmolStr),
}

impl RoleError {
    /// The sentence as authorization reasons show it: kinds in the singular.
    fn in_reason(&self) -> String {
        match self {
            Self::NoRole(name) => format!("role.{GROUP} {} not found", quoted(name)),
            Self::NoClusterRole(name) => format!("clusterrole.{GROUP} {} not found", quoted(name)),
            Self::UnsupportedKind(kind) => format!("unsupported role reference kind: {}", quoted(kind)),
        }
    }

    /// The refusal of a request for `resource` that needs the role. What is missing is called as what was asked for,
    /// as upstream's stores name themselves by the request.
    pub fn status(&self, resource: &str) -> Status {
        match self {
            Self::NoRole(name) | Self::NoClusterRole(name) => {
                Status::not_found(&GroupResource::new(GROUP, resource), name)
            }
            Self::UnsupportedKind(_) => Status::internal(self.in_reason()),
        }
    }
}

/// The rules of a user, and the roles that could not be found on the way to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRules {
    /// What the user may do.
    pub rules: Vec<Rule>,
    /// What could not be resolved; the rules are all that the rest gives.
    pub errors: Vec<RoleError>,
}

#[derive(Debug, Default)]
struct Index {
    cluster_roles: HashMap<SmolStr, Arc<[Rule]>>,
    roles: HashMap<SmolStr, HashMap<SmolStr, Arc<[Rule]>>>,
    cluster_bindings: Bindings,
    bindings: HashMap<SmolStr, Bindings>,
}

/// The bindings of one namespace, or of the cluster.
#[derive(Debug, Default)]
struct Bindings {
    by_name: HashMap<SmolStr, Arc<Binding>>,
    by_user: HashMap<SmolStr, Vec<Arc<Binding>>>,
    by_group: HashMap<SmolStr, Vec<Arc<Binding>>>,
}

#[derive(Debug)]
struct Binding {
    name: SmolStr,
    namespace: SmolStr,
    role_kind: SmolStr,
    role: SmolStr,
    subjects: Vec<Subject>,
}

#[derive(Debug)]
struct Subject {
    key: SubjectKey,
    /// How reasons show the subject.
    shown: SmolStr,
}

#[derive(Debug, PartialEq, Eq)]
enum SubjectKey {
    User(SmolStr),
    Group(SmolStr),
}

impl Rbac {
    /// An authorizer that knows no role.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes notice of an object of the resource `roles`, `clusterroles`, `rolebindings` or `clusterrolebindings`, or
    /// (`None`) of its deletion. Other resources are passed over.
    pub fn apply(&self, resource: &str, namespace: &str, name: &str, object: Option<&Value>) {
        // Compile outside of the lock.
        match resource {
            "clusterroles" => {
                let rules = object.map(|role| Arc::from(Rule::list(role)));
                put(&mut self.index.write().cluster_roles, name, rules);
            }
            "roles" => {
                let rules = object.map(|role| Arc::from(Rule::list(role)));
                in_namespace(&mut self.index.write().roles, namespace, HashMap::is_empty, |roles| {
                    put(roles, name, rules)
                });
            }
            "clusterrolebindings" => {
                let binding = object.map(|object| Binding::from_value("", name, object));
                self.index.write().cluster_bindings.put(name, binding);
            }
            "rolebindings" => {
                let binding = object.map(|object| Binding::from_value(namespace, name, object));
                let mut index = self.index.write();
                in_namespace(
                    &mut index.bindings,
                    namespace,
                    |all| all.by_name.is_empty(),
                    |all| all.put(name, binding),
                );
            }
            _ => {}
        }
    }

    /// The rules of the role that a binding in `namespace` (empty: of the cluster) names.
    ///
    /// # Errors
    /// There is no such role.
    pub fn role_rules(&self, role_ref: &Value, namespace: &str) -> Result<Arc<[Rule]>, RoleError> {
        let index = self.index.read();
        index.rules(role_ref.str_at(&["kind"]), role_ref.str_at(&["name"]), namespace).cloned()
    }

    /// All rules of a user in a namespace (empty: in the cluster).
    pub fn user_rules(&self, user: &UserInfo, namespace: &str) -> UserRules {
        let index = self.index.read();
        let (mut found, mut seen) = (UserRules::default(), HashSet::new());
        let _: ControlFlow<()> = index.visit(user, namespace, |binding, rules| {
            if seen.insert(Arc::as_ptr(binding)) {
                match rules {
                    Ok(rules) => found.rules.extend_from_slice(rules),
                    Err(error) => found.errors.push(error),
                }
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// What a SelfSubjectRulesReview shows of a user in a namespace: the resource rules, the path rules, whether there may
    /// be more, and what went wrong.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Value>, Vec<Value>, bool, String) {
        let UserRules { rules, errors } = self.user_rules(user, namespace);
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        for rule in rules {
            let part = |rule: Rule| rule.to_value();
            if !rule.resources.is_empty() {
                resources.push(part(Rule { non_resource_urls: Vec::new(), ..rule.clone() }));
            }
            if !rule.non_resource_urls.is_empty() {
                let Rule { verbs, non_resource_urls, .. } = rule;
                paths.push(part(Rule { verbs, non_resource_urls, ..Rule::default() }));
            }
        }
        (resources, paths, false, aggregate_errors(errors.iter().map(RoleError::in_reason)))
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let index = self.index.read();
        let mut errors = Vec::new();
        let found = index.visit(attributes.user, attributes.namespace, |binding, rules| match rules {
            Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => ControlFlow::Break(Arc::clone(binding)),
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => {
                errors.push(error);
                ControlFlow::Continue(())
            }
        });
        match found {
            ControlFlow::Break(binding) => {
                Decision::Allow(format_smolstr!("RBAC: allowed by {}", binding.shown(attributes.user)))
            }
            ControlFlow::Continue(()) if errors.is_empty() => Decision::NoOpinion(SmolStr::default()),
            ControlFlow::Continue(()) => {
                let errors = aggregate_errors(errors.iter().map(RoleError::in_reason));
                Decision::NoOpinion(format_smolstr!("RBAC: {errors}"))
            }
        }
    }
}

impl Index {
    fn rules(&self, kind: &str, name: &str, namespace: &str) -> Result<&Arc<[Rule]>, RoleError> {
        match kind {
            "ClusterRole" => self.cluster_roles.get(name).ok_or_else(|| RoleError::NoClusterRole(name.into())),
            "Role" => self
                .roles
                .get(namespace)
                .and_then(|roles| roles.get(name))
                .ok_or_else(|| RoleError::NoRole(name.into())),
            _ => Err(RoleError::UnsupportedKind(kind.into())),
        }
    }

    /// Shows `visit` each binding of the user, more than once if several of its subjects are the user's, with its rules.
    fn visit<B>(
        &self,
        user: &UserInfo,
        namespace: &str,
        mut visit: impl FnMut(&Arc<Binding>, Result<&[Rule], RoleError>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let local = self.bindings.get(namespace).filter(|_| !namespace.is_empty());
        for bindings in std::iter::once(&self.cluster_bindings).chain(local) {
            let own = bindings.by_user.get(&user.name).into_iter();
            let groups = user.groups.iter().filter_map(|group| bindings.by_group.get(group));
            for binding in own.chain(groups).flatten() {
                let rules = self.rules(&binding.role_kind, &binding.role, &binding.namespace);
                visit(binding, rules.map(|rules| &**rules))?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Bindings {
    fn put(&mut self, name: &str, binding: Option<Binding>) {
        if let Some(old) = self.by_name.remove(name) {
            for subject in &old.subjects {
                let (map, key) = self.places(&subject.key);
                if let Some(all) = map.get_mut(key) {
                    all.retain(|one| !Arc::ptr_eq(one, &old));
                    if all.is_empty() {
                        map.remove(key);
                    }
                }
            }
        }
        let Some(binding) = binding.map(Arc::new) else { return };
        for subject in &binding.subjects {
            let (map, key) = self.places(&subject.key);
            let all = map.entry(key.clone()).or_default();
            // A subject named twice needs one place.
            if !all.last().is_some_and(|last| Arc::ptr_eq(last, &binding)) {
                all.push(Arc::clone(&binding));
            }
        }
        self.by_name.insert(name.into(), binding);
    }

    fn places<'a>(&mut self, key: &'a SubjectKey) -> (&mut HashMap<SmolStr, Vec<Arc<Binding>>>, &'a SmolStr) {
        match key {
            SubjectKey::User(name) => (&mut self.by_user, name),
            SubjectKey::Group(name) => (&mut self.by_group, name),
        }
    }
}

impl Binding {
    fn from_value(namespace: &str, name: &str, object: &Value) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            role_kind: object.str_at(&["roleRef", "kind"]).into(),
            role: object.str_at(&["roleRef", "name"]).into(),
            subjects: object
                .list_at(&["subjects"])
                .iter()
                .filter_map(|subject| Subject::from_value(namespace, subject))
                .collect(),
        }
    }

    /// How reasons show this binding and the first of its subjects that is the user.
    fn shown(&self, user: &UserInfo) -> String {
        let subject = self.subjects.iter().find(|subject| match &subject.key {
            SubjectKey::User(name) => *name == user.name,
            SubjectKey::Group(name) => user.is_in(name),
        });
        let subject = subject.map(|subject| subject.shown.as_str()).unwrap_or_default();
        let (kind, name) = if self.namespace.is_empty() {
            ("ClusterRoleBinding", quoted(&self.name))
        } else {
            ("RoleBinding", quoted(&format!("{}/{}", self.name, self.namespace)))
        };
        format!("{kind} {name} of {} {} to {subject}", self.role_kind, quoted(&self.role))
    }
}

impl Subject {
    /// `None` for subjects that are nobody: of unknown kinds, and service accounts without any namespace.
    fn from_value(binding_namespace: &str, subject: &Value) -> Option<Self> {
        let (kind, name) = (subject.str_at(&["kind"]), subject.str_at(&["name"]));
        let (key, shown_name) = match kind {
            "User" => (SubjectKey::User(name.into()), name.into()),
            "Group" => (SubjectKey::Group(name.into()), name.into()),
            "ServiceAccount" => {
                let namespace = match subject.str_at(&["namespace"]) {
                    "" => binding_namespace,
                    own => own,
                };
                if namespace.is_empty() {
                    return None;
                }
                (SubjectKey::User(service_account_username(namespace, name)), format_smolstr!("{name}/{namespace}"))
            }
            _ => return None,
        };
        Some(Self { key, shown: format_smolstr!("{kind} {}", quoted(&shown_name)) })
    }
}

/// How Go shows several errors: one plain, more in brackets, each once.
pub(crate) fn aggregate_errors(errors: impl Iterator<Item = String>) -> String {
    let mut seen = Vec::new();
    for error in errors {
        if !seen.contains(&error) {
            seen.push(error);
        }
    }
    if seen.len() == 1 {
        seen.remove(0)
    } else if seen.is_empty() {
        String::new()
    } else {
        format!("[{}]", seen.join(", "))
    }
}

fn put<V>(map: &mut HashMap<SmolStr, V>, name: &str, value: Option<V>) {
    match value {
        Some(value) => map.insert(name.into(), value),
        None => map.remove(name),
    };
}

/// Changes a namespace's entry, made where absent, and drops it if it is left empty.
fn in_namespace<V: Default>(
    map: &mut HashMap<SmolStr, V>,
    namespace: &str,
    is_empty: impl FnOnce(&V) -> bool,
    change: impl FnOnce(&mut V),
) {
    let entry = map.entry(namespace.into()).or_default();
    change(entry);
    if is_empty(entry) {
        map.remove(namespace);
    }
}
