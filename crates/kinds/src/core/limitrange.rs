//! LimitRange: bounds and defaults of what each Pod, container or claim of a namespace may ask for.

use std::collections::{BTreeMap, BTreeSet};

use api_schema::{Map, SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::quantity::{Format, Quantity};

use super::pod::resources;
use super::shared::{check_container_resource_name, check_resource_name, quantities, round_up_resources};
use crate::Kind;
use crate::checks::{invalid_text, items_mut};

const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// The kind LimitRange.
pub(crate) struct LimitRange;

impl Kind for LimitRange {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "limitranges"
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        for limit in items_mut(object, &["spec", "limits"]) {
            if limit.str_at(&["type"]) == "Container" {
                fill(limit, "default", "max");
                fill(limit, "defaultRequest", "default");
                fill(limit, "defaultRequest", "min");
            }
            round_up_resources(limit, &LISTS.each_ref().map(std::slice::from_ref));
        }
    }

    /// A range without a name gets one that nobody else has.
    fn prepare_create(&self, object: &mut Value) {
        if object.str_at(&["metadata", "name"]).is_empty() {
            let name = SmolStr::new(object.str_at(&["metadata", "uid"]));
            object.set(&["metadata", "name"], name);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (limits, path) = (object.list_at(&["spec", "limits"]), Path::new("spec.limits"));
        for (at, limit) in limits.iter().enumerate() {
            let limit_type = limit.str_at(&["type"]);
            let path = path.index(at);
            check_type(&mut errors, limit_type, &path.child("type"));
            if limits[..at].iter().any(|other| other.str_at(&["type"]) == limit_type) {
                errors.push(Error::duplicate(&path.child("type"), limit_type));
            }
            check_limit(&mut errors, limit, limit_type, &path);
        }
        errors
    }
}

/// Takes from one list what another lacks.
fn fill(limit: &mut Value, to: &str, from: &str) {
    let Some(source) = limit.map_at(&[from]).cloned() else { return };
    let target = limit.entry(&[to]).make_map();
    for (resource, quantity) in source {
        if !target.contains_key(&resource) {
            target.insert(resource, quantity);
        }
    }
    if target.is_empty() {
        limit.remove(&[to]);
    }
}

fn check_type(errors: &mut ErrorList, limit_type: &str, path: &Path<'_>) {
    let messages = names::qualified_name(limit_type);
    let is_qualified = messages.is_empty();
    invalid_text(errors, path, limit_type, messages);
    let standard = ["Pod", "Container", "PersistentVolumeClaim"];
    if is_qualified && !limit_type.contains('/') && !standard.contains(&limit_type) {
        errors.push(Error::invalid(path, limit_type, "must be a standard limit type or fully qualified"));
    }
}

fn check_limit(errors: &mut ErrorList, limit: &Value, limit_type: &str, path: &Path<'_>) {
    let mut lists: BTreeMap<&str, BTreeMap<SmolStr, Quantity>> = BTreeMap::new();
    for list in LISTS {
        if limit_type == "Pod" && list.starts_with("default") {
            if limit.map_at(&[list]).is_some_and(|list| !list.is_empty()) {
                errors.push(Error::forbidden(&path.child(list), "may not be specified when `type` is 'Pod'"));
            }
            continue;
        }
        if list == "maxLimitRequestRatio" && limit_type == "PersistentVolumeClaim" {
            let has_storage = |list| limit.map_at(&[list]).is_some_and(|list: &Map| list.contains_key("storage"));
            if !has_storage("min") && !has_storage("max") {
                let why = "either minimum or maximum storage value is required, but neither was provided";
                errors.push(Error::required(&path.child("limits"), why));
            }
        }
        let list_path = path.child(list);
        for (resource, quantity) in quantities(limit.map_at(&[list])) {
            let path = list_path.key(resource);
            if matches!(limit_type, "Pod" | "Container") {
                check_container_resource_name(errors, resource, &path);
            } else {
                check_resource_name(errors, resource, &path);
            }
            lists.entry(list).or_default().insert(resource.clone(), quantity);
        }
    }
    let all: BTreeSet<&SmolStr> = lists.values().flat_map(BTreeMap::keys).collect();
    for resource in all {
        let of = |list: &str| lists.get(list).and_then(|list| list.get(resource));
        check_order(errors, resource, &of, path);
    }
}

/// What the lists say of one resource must fit together: min <= defaultRequest <= default <= max.
fn check_order<'a>(errors: &mut ErrorList, resource: &str, of: &dyn Fn(&str) -> Option<&'a Quantity>, path: &Path<'_>) {
    let mut invalid = |list: &str, shown: &Quantity, why: String| {
        errors.push(Error::invalid(&path.child(list).key(resource), shown.canonical(), why));
    };
    let (min, max, default, request) = (of("min"), of("max"), of("default"), of("defaultRequest"));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        invalid("min", min, format!("min value {min} is greater than max value {max}"));
    }
    if let Some(request) = request {
        if let Some(min) = min.filter(|min| *min > request) {
            let why = format!("min value {min} is greater than default request value {request}");
            invalid("defaultRequest", request, why);
        }
        if let Some(max) = max.filter(|max| request > *max) {
            invalid(
                "defaultRequest",
                request,
                format!("default request value {request} is greater than max value {max}"),
            );
        }
        if let Some(default) = default.filter(|default| request > *default) {
            let why = format!("default request value {request} is greater than default limit value {default}");
            invalid("defaultRequest", request, why);
        }
    }
    if let Some(default) = default {
        if let Some(min) = min.filter(|min| *min > default) {
            invalid("default", min, format!("min value {min} is greater than default value {default}"));
        }
        if let Some(max) = max.filter(|max| default > *max) {
            invalid("default", max, format!("default value {default} is greater than max value {max}"));
        }
    }
    if let Some(ratio) = of("maxLimitRequestRatio") {
        if *ratio < Quantity::new(1, Format::DecimalSi) {
            invalid("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (min, max) {
            let bound = max_ratio(min, max, ratio);
            if bound.exceeded {
                let why = format!("ratio {ratio} is greater than max/min = {}", bound.shown);
                invalid("maxLimitRequestRatio", ratio, why);
            }
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !resources::may_overcommit(resource)
        && default != request
    {
        let why = format!("default value {default} must equal to defaultRequest value {request} in {resource}");
        invalid("defaultRequest", request, why);
    }
}

struct RatioBound {
    exceeded: bool,
    shown: String,
}

fn max_ratio(min: &Quantity, max: &Quantity, ratio: &Quantity) -> RatioBound {
    const MAX_MILLI: i64 = i64::MAX / 1000;
    let (wanted, low, high) = if [ratio, min, max].iter().all(|quantity| quantity.value() < MAX_MILLI) {
        (ratio.milli_value() as f64 / 1000.0, min.milli_value(), max.milli_value())
    } else {
        (ratio.value() as f64, min.value(), max.value())
    };
    let limit = high as f64 / low as f64;
    let shown = match limit {
        limit if limit.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        limit => format!("{limit:.6}"),
    };
    RatioBound { exceeded: wanted > limit, shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{create, defaults};

    fn limits(limits: &str) -> String {
        format!(r#"{{"spec":{{"limits":[{limits}]}}}}"#)
    }

    #[test]
    fn container_defaults_come_from_the_bounds() {
        defaults(
            &LimitRange,
            &limits(
                r#"{"type":"Container","max":{"cpu":"2","memory":"1Gi"},"min":{"cpu":"1","storage":"1"},
                   "default":{"cpu":"1500m"}},{"type":"Pod","max":{"cpu":"2"}}"#,
            ),
            &limits(
                r#"{"type":"Container","max":{"cpu":"2","memory":"1Gi"},"min":{"cpu":"1","storage":"1"},
                   "default":{"cpu":"1500m","memory":"1Gi"},
                   "defaultRequest":{"cpu":"1500m","memory":"1Gi","storage":"1"}},{"type":"Pod","max":{"cpu":"2"}}"#,
            ),
        );
    }

    #[test]
    fn types_are_known_and_stand_once() {
        create(
            &LimitRange,
            &limits(r#"{"type":"Bag","max":{"cpu":"1"}},{"type":"Bag"},{"type":"Pod","default":{"cpu":"1"}}"#),
            "spec.limits[0].type: Invalid value: \"Bag\": must be a standard limit type or fully qualified\n\
             spec.limits[1].type: Invalid value: \"Bag\": must be a standard limit type or fully qualified\n\
             spec.limits[1].type: Duplicate value: \"Bag\"\n\
             spec.limits[2].default: Forbidden: may not be specified when `type` is 'Pod'",
        );
    }

    #[test]
    fn claims_are_bounded_by_storage() {
        create(
            &LimitRange,
            &limits(r#"{"type":"PersistentVolumeClaim"}"#),
            "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither \
             was provided",
        );
        create(&LimitRange, &limits(r#"{"type":"PersistentVolumeClaim","max":{"storage":"1Gi"}}"#), "");
    }

    #[test]
    fn bounds_and_defaults_are_in_order() {
        for (lists, expect) in [
            (
                r#""min":{"cpu":"2"},"max":{"cpu":"1"}"#,
                "min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            ),
            (
                r#""defaultRequest":{"cpu":"2"},"max":{"cpu":"1"}"#,
                "defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than max value 1",
            ),
            (
                r#""maxLimitRequestRatio":{"cpu":"500m"}"#,
                "maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            ),
            (
                r#""min":{"cpu":"1"},"max":{"cpu":"2"},"maxLimitRequestRatio":{"cpu":"3"}"#,
                "maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
            ),
            (
                r#""default":{"x.y/z":"2"},"defaultRequest":{"x.y/z":"1"}"#,
                "defaultRequest[x.y/z]: Invalid value: \"1\": default value 2 must equal to defaultRequest value 1 in \
                 x.y/z",
            ),
        ] {
            let first = LimitRange
                .validate(&crate::checks::tests::json(&limits(&format!(r#"{{"type":"Container",{lists}}}"#))));
            assert_eq!(first.first().map(ToString::to_string), Some(format!("spec.limits[0].{expect}")));
        }
    }
}
