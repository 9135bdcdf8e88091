//! The quotas of a namespace: what is made there is counted, and refused beyond them.
//!
//! A request is charged before it is stored, by a change of the quota's status that fails if somebody else was faster. What
//! goes again is found out by the controller, which counts everything anew.

mod usage;

use std::hash::{DefaultHasher, Hash, Hasher};

use admission::{Attributes, BoxFuture, Operation, Plugin, View};
use api_schema::{Map, SmolStr, Value};
use api_semantics::status::{GroupResource, Status};
use tokio::sync::Mutex;

use crate::amounts::{Amounts, add, amounts, whole};
use crate::refusal::forbidden;
use usage::Sort;

/// Requests of one namespace are charged one after the other, or they would trip over each other's changes.
const LANES: usize = 64;

/// See the module.
pub(crate) struct ResourceQuota {
    lanes: [Mutex<()>; LANES],
}

impl Default for ResourceQuota {
    fn default() -> Self {
        Self { lanes: std::array::from_fn(|_| Mutex::new(())) }
    }
}

impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, resource: &GroupResource, subresource: &str, operation: Operation) -> bool {
        let sort = Sort::of(resource);
        match (operation, subresource) {
            // Events have never been counted.
            (Operation::Create, "") => resource.resource != "events",
            (Operation::Update, "") => sort != Sort::Counted,
            (Operation::Update, "resize") => sort == Sort::Pods,
            (Operation::Update, "status") => sort == Sort::VolumeClaims,
            _ => false,
        }
    }

    fn validates(&self) -> bool {
        true
    }

    fn validate<'a>(&'a self, attributes: &'a Attributes<'_>, view: &'a dyn View) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let namespace = attributes.namespace;
            let Some(object) = attributes.object.as_deref().filter(|_| !namespace.is_empty()) else { return Ok(()) };
            let sort = Sort::of(attributes.resource);
            if !sort.is_of_interest(attributes.subresource, object, attributes.old)
                || view.list("", "resourcequotas", namespace).is_empty()
            {
                return Ok(());
            }
            let mut hasher = DefaultHasher::new();
            namespace.hash(&mut hasher);
            let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default();
            let _one_at_a_time = self.lanes[lane].lock().await;
            let mut quotas = view.list("", "resourcequotas", namespace);
            quotas.sort_by(|a, b| name_of(a).cmp(name_of(b)));
            charge(&Request::new(attributes, sort, object, view.now()), &quotas, view).await
        })
    }
}

fn name_of(quota: &Value) -> &str {
    quota.str_at(&["metadata", "name"])
}

/// Charges all quotas that count the request, or none.
async fn charge(request: &Request<'_>, quotas: &[Value], view: &dyn View) -> Result<(), Status> {
    for quota in quotas {
        request.is_counted_by(quota)?;
    }
    let mut deltas: Vec<(&str, Amounts)> = Vec::new();
    for quota in quotas {
        if let Some(delta) = request.delta(quota)? {
            request.used_after(quota, &delta)?;
            deltas.push((name_of(quota), delta));
        }
    }
    if request.attributes.dry_run {
        return Ok(());
    }
    for (at, (name, delta)) in deltas.iter().enumerate() {
        let mut add_delta = |quota: &Value| {
            let used = request.used_after(quota, delta)?;
            let mut quota = quota.clone();
            set_used(&mut quota, &used);
            Ok(Some(quota))
        };
        if let Err(status) = change(view, request, name, &mut add_delta).await {
            refund(request, &deltas[..at], view).await;
            return Err(status);
        }
    }
    Ok(())
}

/// Takes back what was charged. Where that fails, the controller's next count does it.
async fn refund(request: &Request<'_>, deltas: &[(&str, Amounts)], view: &dyn View) {
    for (name, delta) in deltas {
        let mut take_delta = |quota: &Value| {
            let mut used = amounts(quota, &["status", "used"]);
            for (name, quantity) in delta {
                if let Some(used) = used.get_mut(name) {
                    used.sub(quantity);
                }
            }
            let mut quota = quota.clone();
            set_used(&mut quota, &used);
            Ok(Some(quota))
        };
        let _ = change(view, request, name, &mut take_delta).await;
    }
}

async fn change(
    view: &dyn View,
    request: &Request<'_>,
    name: &str,
    change: &mut (dyn FnMut(&Value) -> Result<Option<Value>, Status> + Send),
) -> Result<(), Status> {
    match view.change_status("", "resourcequotas", request.attributes.namespace, name, change).await {
        // A quota that is gone counts nothing.
        Err(status) if status.reason == "NotFound" => Ok(()),
        done => done,
    }
}

fn set_used(quota: &mut Value, used: &Amounts) {
    let used = used.iter().map(|(name, quantity)| (name.as_str(), Value::Str(quantity.canonical())));
    quota.set(&["status", "used"], Value::Map(used.collect::<Map>()));
}

/// What a request would take.
struct Request<'a> {
    attributes: &'a Attributes<'a>,
    sort: Sort,
    object: &'a Value,
    count: SmolStr,
    usage: Amounts,
    /// What the object took before, for changes.
    before: Option<Amounts>,
}

impl<'a> Request<'a> {
    fn new(attributes: &'a Attributes<'a>, sort: Sort, object: &'a Value, now: i64) -> Self {
        let usage = sort.usage(attributes.resource, object, now);
        let before = attributes.old.map(|old| sort.usage(attributes.resource, old, now));
        Self { attributes, sort, object, count: usage::count_name(attributes.resource), usage, before }
    }

    /// The names of a quota that count objects of this sort.
    fn names_of(&self, quota: &Value) -> Vec<SmolStr> {
        let hard = quota.map_at(&["status", "hard"]).into_iter().flat_map(Map::keys);
        hard.filter(|name| self.sort.counts(&self.count, name)).cloned().collect()
    }

    fn matches(&self, names: &[SmolStr], quota: &Value, object: &Value) -> bool {
        !names.is_empty() && usage::scopes(quota).iter().all(|scope| self.sort.is_in_scope(scope, object))
    }

    /// Whether a quota counts this request. Refused if it asks for more than the object says, or is not ready.
    fn is_counted_by(&self, quota: &Value) -> Result<bool, Status> {
        let names = self.names_of(quota);
        if !self.matches(&names, quota, self.object) {
            return Ok(false);
        }
        let name = name_of(quota);
        if self.sort == Sort::Pods
            && let Some(why) = usage::missing(self.object, &names)
        {
            return Err(forbidden(self.attributes, format!("failed quota: {name}: {why}")));
        }
        let is_known = |name: &SmolStr| quota.at(&["status", "used", name]).is_some();
        if !names.iter().all(is_known) {
            let why = format!("status unknown for quota: {name}, resources: {}", names.join(","));
            return Err(forbidden(self.attributes, why));
        }
        Ok(true)
    }

    /// What a quota is charged; `None` if nothing.
    fn delta(&self, quota: &Value) -> Result<Option<Amounts>, Status> {
        if !self.is_counted_by(quota)? {
            return Ok(None);
        }
        let negative: Vec<&str> =
            self.usage.iter().filter(|(_, amount)| amount.sign() < 0).map(|(name, _)| name.as_str()).collect();
        if !negative.is_empty() {
            let why = format!("quota usage is negative for resource(s): {}", negative.join(","));
            return Err(forbidden(self.attributes, why));
        }
        let mut delta = self.usage.clone();
        if let (Some(before), Some(old)) = (&self.before, self.attributes.old)
            && self.matches(&self.names_of(quota), quota, old)
        {
            for (name, quantity) in before {
                if let Some(amount) = delta.get_mut(name) {
                    amount.sub(quantity);
                    if amount.sign() < 0 {
                        *amount = whole(0);
                    }
                }
            }
        }
        delta.retain(|name, amount| !amount.is_zero() && quota.at(&["status", "hard", name]).is_some());
        Ok(Some(delta).filter(|delta| !delta.is_empty()))
    }

    /// What a quota says is used once it is charged; refused beyond its limits.
    fn used_after(&self, quota: &Value, delta: &Amounts) -> Result<Amounts, Status> {
        let (hard, used) = (amounts(quota, &["status", "hard"]), amounts(quota, &["status", "used"]));
        let mut after = used.clone();
        add(&mut after, delta);
        let exceeds = |name: &SmolStr| match (after.get(name), hard.get(name)) {
            (Some(after), Some(hard)) => after > hard,
            _ => false,
        };
        let exceeded: Vec<&SmolStr> = delta.keys().filter(|name| exceeds(name)).collect();
        // A status only tells what has happened already.
        if exceeded.is_empty() || self.attributes.subresource == "status" {
            return Ok(after);
        }
        let of = |amounts: &Amounts| {
            let shown = exceeded.iter().filter_map(|name| Some(format!("{name}={}", amounts.get(*name)?)));
            shown.collect::<Vec<String>>().join(",")
        };
        let (requested, used, hard, name) = (of(delta), of(&used), of(&hard), name_of(quota));
        let why = format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {hard}");
        Err(forbidden(self.attributes, why))
    }
}
