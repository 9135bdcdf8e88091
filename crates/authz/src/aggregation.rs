//! ClusterRoles that gather the rules of others by label.

use api_schema::Value;
use api_semantics::selector::Selector;

/// The rules that a ClusterRole with an `aggregationRule` gathers from `all` ClusterRoles, each once, selector by
/// selector, roles by name. `None` if the role does not gather, or a selector is malformed.
pub fn aggregate<'a>(cluster_role: &Value, all: impl Iterator<Item = &'a Value>) -> Option<Vec<Value>> {
    let selectors = cluster_role.get("aggregationRule")?.list_at(&["clusterRoleSelectors"]);
    let own_name = name(cluster_role);
    let mut others: Vec<&Value> = all.filter(|role| name(role) != own_name).collect();
    others.sort_by_key(|role| name(role));
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let selector = Selector::from_value(Some(selector)).ok()?;
        for role in others.iter().filter(|role| selector.matches_object(role)) {
            for rule in role.list_at(&["rules"]) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

fn name(role: &Value) -> &str {
    role.str_at(&["metadata", "name"])
}
