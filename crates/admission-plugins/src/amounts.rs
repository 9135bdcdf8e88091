//! Amounts of resources, as Pods, limits and quotas state them.

use std::collections::BTreeMap;

use api_schema::{Map, SmolStr, Value};
use api_semantics::quantity::{Format, Quantity};

/// Amounts by resource name.
pub(crate) type Amounts = BTreeMap<SmolStr, Quantity>;

/// A whole number.
pub(crate) fn whole(number: i64) -> Quantity {
    Quantity::new(number, Format::DecimalSi)
}

/// The amounts at a path; what is no quantity (validation says so) counts as nothing.
pub(crate) fn amounts(object: &Value, path: &[&str]) -> Amounts {
    let amount = |value: &Value| match value {
        Value::Str(text) => Quantity::parse(text).ok(),
        Value::Int(number) => Some(whole(*number)),
        _ => None,
    };
    let all = object.map_at(path).into_iter().flat_map(Map::iter);
    all.map(|(name, value)| (name.clone(), amount(value).unwrap_or_else(|| whole(0)))).collect()
}

/// What a Pod's containers take in all: its containers together, or more where its initial ones need more. `own` says what
/// one container takes.
pub(crate) fn pod_total(pod: &Value, own: impl Fn(&Value) -> Amounts) -> Amounts {
    let mut total = Amounts::new();
    for container in pod.list_at(&["spec", "containers"]) {
        add(&mut total, &own(container));
    }
    let (mut sidecars, mut initial_max) = (Amounts::new(), Amounts::new());
    for container in pod.list_at(&["spec", "initContainers"]) {
        let own = own(container);
        let at_once = if container.str_at(&["restartPolicy"]) == "Always" {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            sidecars.clone()
        } else {
            let mut both = own;
            add(&mut both, &sidecars);
            both
        };
        raise(&mut initial_max, at_once);
    }
    raise(&mut total, initial_max);
    total
}

/// Adds each amount to its like.
pub(crate) fn add(total: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        total.entry(name.clone()).and_modify(|sum| sum.add(quantity)).or_insert_with(|| quantity.clone());
    }
}

/// Takes the larger one of each two amounts.
pub(crate) fn raise(max: &mut Amounts, others: Amounts) {
    for (name, quantity) in others {
        match max.get(&name) {
            Some(own) if *own >= quantity => {}
            _ => {
                max.insert(name, quantity);
            }
        }
    }
}
