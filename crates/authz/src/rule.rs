//! Policy rules: what they allow, what of each other they cover, and how messages show them.

use api_schema::{Map, SmolStr, Value};
use api_semantics::field::quoted;

use crate::Attributes;

const ALL: &str = "*";

/// One rule of a role, in compiled form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The verbs; `*` for all.
    pub verbs: Vec<SmolStr>,
    /// The API groups; `*` for all, empty text for core.
    pub api_groups: Vec<SmolStr>,
    /// The resources: `*`, `pods`, `pods/log`, `*/scale`.
    pub resources: Vec<SmolStr>,
    /// The names of the objects; all if none is given.
    pub resource_names: Vec<SmolStr>,
    /// Paths outside of the API, `*` allowed at the end.
    pub non_resource_urls: Vec<SmolStr>,
}

impl Rule {
    /// Reads an `rbac.authorization.k8s.io/v1` PolicyRule.
    pub fn from_value(rule: &Value) -> Self {
        let strings = |key: &str| rule.list_at(&[key]).iter().filter_map(Value::as_str).map(SmolStr::new).collect();
        Self {
            verbs: strings("verbs"),
            api_groups: strings("apiGroups"),
            resources: strings("resources"),
            resource_names: strings("resourceNames"),
            non_resource_urls: strings("nonResourceURLs"),
        }
    }

    /// Reads the rules of a Role or ClusterRole.
    pub fn list(role: &Value) -> Vec<Self> {
        role.list_at(&["rules"]).iter().map(Self::from_value).collect()
    }

    /// The PolicyRule of the API.
    pub fn to_value(&self) -> Value {
        let fields = [
            ("apiGroups", &self.api_groups),
            ("nonResourceURLs", &self.non_resource_urls),
            ("resourceNames", &self.resource_names),
            ("resources", &self.resources),
        ];
        let mut map = Map::with_capacity(5);
        for (key, strings) in fields {
            if !strings.is_empty() {
                map.insert(key, to_list(strings));
            }
        }
        map.insert("verbs", to_list(&self.verbs));
        map.into()
    }

    /// Whether this rule allows the request.
    pub fn allows(&self, request: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, request.verb) {
            return false;
        }
        if !request.is_resource {
            return self.non_resource_urls.iter().any(|url| url_covers(url, request.path));
        }
        has_or_all(&self.api_groups, request.group)
            && self.resources.iter().any(|resource| resource_matches(resource, request.resource, request.subresource))
            && (self.resource_names.is_empty() || has(&self.resource_names, request.name))
    }

    /// The parts of this rule with one group, resource, verb and name each, or one path and verb.
    fn atoms(&self) -> Vec<Self> {
        let one = |text: &SmolStr| vec![text.clone()];
        let mut atoms = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let atom =
                        Self { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Self::default() };
                    if self.resource_names.is_empty() {
                        atoms.push(atom);
                        continue;
                    }
                    atoms.extend(
                        self.resource_names.iter().map(|name| Self { resource_names: one(name), ..atom.clone() }),
                    );
                }
            }
        }
        // Paths combine with nothing but verbs.
        for url in &self.non_resource_urls {
            for verb in &self.verbs {
                atoms.push(Self { verbs: one(verb), non_resource_urls: one(url), ..Self::default() });
            }
        }
        atoms
    }

    /// Whether all of the atom `part` is in this rule.
    fn covers_atom(&self, part: &Self) -> bool {
        let set_covers = |own: &[SmolStr], wanted: &[SmolStr]| has(own, ALL) || wanted.iter().all(|one| has(own, one));
        set_covers(&self.verbs, &part.verbs)
            && set_covers(&self.api_groups, &part.api_groups)
            && part.resources.iter().all(|resource| self.covers_resource(resource))
            && part
                .non_resource_urls
                .iter()
                .all(|path| self.non_resource_urls.iter().any(|own| own == path || prefix_covers(own, path)))
            && (self.resource_names.is_empty()
                || !part.resource_names.is_empty()
                    && part.resource_names.iter().all(|name| has(&self.resource_names, name)))
    }

    fn covers_resource(&self, wanted: &str) -> bool {
        has(&self.resources, ALL)
            || has(&self.resources, wanted)
            || wanted.split_once('/').is_some_and(|(_, subresource)| {
                self.resources.iter().any(|own| own.strip_prefix("*/") == Some(subresource))
            })
    }

    /// The group, resource and name, if this rule has exactly one of each (or no name) and no path.
    fn simple(&self) -> Option<(&SmolStr, &SmolStr, Option<&SmolStr>)> {
        match (&*self.api_groups, &*self.resources, &*self.resource_names) {
            ([group], [resource], names) if names.len() <= 1 && self.non_resource_urls.is_empty() => {
                Some((group, resource, names.first()))
            }
            _ => None,
        }
    }
}

/// `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`, as messages show rules.
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        f.write_str("{")?;
        let mut comma = "";
        for (name, strings) in fields.iter().filter(|(_, strings)| !strings.is_empty()) {
            write!(f, "{comma}{name}:{}", quoted_list(strings))?;
            comma = ", ";
        }
        f.write_str("}")
    }
}

/// The atoms of `wanted` that no single rule of `held` covers.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted.iter().flat_map(Rule::atoms).filter(|atom| !held.iter().any(|rule| rule.covers_atom(atom))).collect()
}

/// Joins the verbs of rules that are about the same resource, as messages show them.
pub fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::with_capacity(rules.len());
    for rule in rules {
        match out.iter_mut().find(|earlier| rule.simple().is_some() && earlier.simple() == rule.simple()) {
            Some(earlier) => earlier.verbs.extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out
}

/// `["a" "b"]`: how Go shows a list of quoted strings.
pub(crate) fn quoted_list(strings: &[SmolStr]) -> String {
    format!("[{}]", strings.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(" "))
}

fn to_list(strings: &[SmolStr]) -> Value {
    Value::List(strings.iter().map(|text| Value::Str(text.clone())).collect())
}

fn has(set: &[SmolStr], one: &str) -> bool {
    set.iter().any(|own| own == one)
}

fn has_or_all(set: &[SmolStr], one: &str) -> bool {
    set.iter().any(|own| own == one || own == ALL)
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    // The combined name may contain further slashes on either side: compare it as a whole.
    rule.strip_prefix("*/") == Some(subresource)
        || rule.strip_prefix(resource).and_then(|rest| rest.strip_prefix('/')) == Some(subresource)
}

fn url_covers(rule: &str, path: &str) -> bool {
    rule == path || prefix_covers(rule, path)
}

fn prefix_covers(rule: &str, path: &str) -> bool {
    rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use authn::UserInfo;

    /// `verbs groups resources names` or `verbs path`; lists by commas, `-` for the core group and for no names.
    pub(crate) fn rule(text: &str) -> Rule {
        let list = |text: &str| -> Vec<SmolStr> {
            text.split(',').map(|one| if one == "core" { SmolStr::default() } else { one.into() }).collect()
        };
        match text.split(' ').collect::<Vec<_>>()[..] {
            [verbs, urls] => Rule { verbs: list(verbs), non_resource_urls: list(urls), ..Rule::default() },
            [verbs, groups, resources] => {
                Rule { verbs: list(verbs), api_groups: list(groups), resources: list(resources), ..Rule::default() }
            }
            [verbs, groups, resources, names] => Rule {
                verbs: list(verbs),
                api_groups: list(groups),
                resources: list(resources),
                resource_names: list(names),
                ..Rule::default()
            },
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn rules_allow_what_they_name() {
        let user = UserInfo::default();
        // verb group resource[/subresource] name, or verb path
        for (text, request, want) in [
            ("get core pods", "get core pods x", true),
            ("get core pods", "list core pods -", false),
            ("* core pods", "list core pods -", true),
            ("get core pods", "get apps pods x", false),
            ("get * pods", "get apps pods x", true),
            ("get core pods", "get core pods/log x", false),
            ("get core pods/log", "get core pods/log x", true),
            ("get core pods/log", "get core pods x", false),
            ("get core *", "get core pods/log x", true),
            ("get core */log", "get core pods/log x", true),
            ("get core */log", "get core pods/logs x", false),
            ("get core */log", "get core pods x", false),
            ("get core pods/*", "get core pods/log x", false),
            ("get core pods x,y", "get core pods y", true),
            ("get core pods x,y", "get core pods z", false),
            ("list core pods x", "list core pods -", false),
            ("get /healthz", "get /healthz", true),
            ("get /healthz", "get /healthz/etcd", false),
            ("get /healthz/*", "get /healthz/etcd", true),
            ("get /healthz*", "get /healthz", true),
            ("get /healthz/*", "get /healthz", false),
            ("get *", "get /anything", true),
            ("get /a*b", "get /axb", false),
            ("get *", "get core pods x", false),
            ("get core *", "get /healthz", false),
        ] {
            let parts: Vec<&str> = request.split(' ').collect();
            let mut attributes = Attributes {
                user: &user,
                verb: parts[0],
                is_resource: parts.len() > 2,
                group: "",
                version: "v1",
                resource: "",
                subresource: "",
                namespace: "",
                name: "",
                path: "",
                field_selector: "",
            };
            match parts[1..] {
                [path] => attributes.path = path,
                [group, resource, name] => {
                    attributes.group = if group == "core" { "" } else { group };
                    (attributes.resource, attributes.subresource) = resource.split_once('/').unwrap_or((resource, ""));
                    attributes.name = if name == "-" { "" } else { name };
                }
                _ => panic!("{request}"),
            }
            assert_eq!(rule(text).allows(&attributes), want, "{text}: {request}");
        }
    }

    #[test]
    fn what_is_not_covered_is_shown_compactly() {
        for (held, wanted, want) in [
            (&["get core pods"][..], "get core pods", ""),
            (&["* * *"], "get,list apps deployments,deployments/scale x", ""),
            (&["get core pods"], "get,list core pods", r#"{APIGroups:[""], Resources:["pods"], Verbs:["list"]}"#),
            (
                &["get core pods"],
                "list,watch core pods,secrets",
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}
{APIGroups:[""], Resources:["secrets"], Verbs:["list" "watch"]}"#,
            ),
            // Two rules together cover what neither does alone, for atoms are what is compared.
            (&["get core pods", "list core pods"], "get,list core pods", ""),
            (&["get core pods x"], "get core pods", r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#),
            (
                &["get core pods x"],
                "get core pods x,y",
                r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["y"], Verbs:["get"]}"#,
            ),
            (&["get core */scale"], "get core pods/scale", ""),
            (&["get core */scale"], "get core */scale", ""),
            (&["get core pods"], "get core */scale", r#"{APIGroups:[""], Resources:["*/scale"], Verbs:["get"]}"#),
            (&["get core pods"], "get core *", r#"{APIGroups:[""], Resources:["*"], Verbs:["get"]}"#),
            (&["get /healthz/*"], "get /healthz/etcd", ""),
            (&["get /healthz/*"], "get,post /healthz/etcd", r#"{NonResourceURLs:["/healthz/etcd"], Verbs:["post"]}"#),
            (&["get /healthz*"], "get /healthz/*", ""),
            (&[], "get /a", r#"{NonResourceURLs:["/a"], Verbs:["get"]}"#),
        ] {
            let held: Vec<Rule> = held.iter().map(|text| rule(text)).collect();
            let shown: Vec<String> =
                compact(uncovered(&held, &[rule(wanted)])).iter().map(ToString::to_string).collect();
            assert_eq!(shown.join("\n"), want, "{held:?} {wanted}");
        }
    }

    #[test]
    fn rules_survive_the_way_through_the_api() {
        for text in ["get core pods", "get,list * */scale a,b", "* *"] {
            assert_eq!(Rule::from_value(&rule(text).to_value()), rule(text));
        }
        assert_eq!(Rule::from_value(&Value::Null), Rule::default());
    }
}
