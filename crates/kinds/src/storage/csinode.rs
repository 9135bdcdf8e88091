//! CSINode: the CSI drivers of one node.

use std::collections::HashSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::Kind;
use crate::checks::{internal, invalid_text, name, not_negative, same, texts};

const NODE_ID_LEN_MAX: usize = 256;

pub(crate) struct CsiNode;

impl Kind for CsiNode {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "csinodes"
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let drivers = Path::new("spec.drivers");
        let mut seen = HashSet::new();
        for (index, driver) in object.list_at(&["spec", "drivers"]).iter().enumerate() {
            let path = drivers.index(index);
            let name = driver.str_at(&["name"]);
            super::check_driver_name(&mut errors, &path.child("name"), name);
            let node_id = driver.str_at(&["nodeID"]);
            if node_id.is_empty() {
                errors.push(Error::required(&path.child("nodeID"), ""));
            }
            if node_id.len() > NODE_ID_LEN_MAX {
                let why = format!("must be {NODE_ID_LEN_MAX} characters or less");
                errors.push(Error::invalid(&path.child("nodeID"), node_id, why));
            }
            let allocatable = path.child("allocatable");
            not_negative(&mut errors, &allocatable.child("count"), driver.int_at(&["allocatable", "count"]));
            if !seen.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            let mut keys = HashSet::new();
            for key in texts(driver, &["topologyKeys"]) {
                if key.is_empty() {
                    errors.push(Error::required(&path, ""));
                }
                if !keys.insert(key) {
                    errors.push(Error::duplicate(&path, key));
                }
                invalid_text(&mut errors, &path, key, names::qualified_name(key));
            }
        }
        errors
    }

    /// A driver of a node stays what it is, but for how many volumes it can still attach.
    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(new);
        for old in old.list_at(&["spec", "drivers"]) {
            for new in new.list_at(&["spec", "drivers"]).iter().filter(|new| new.get("name") == old.get("name")) {
                if ["nodeID", "topologyKeys"].iter().any(|field| !same(new.get(field), old.get(field))) {
                    let mut shown = new.clone();
                    shown.remove(&["allocatable"]);
                    let shown = internal(Some(&shown), "io.k8s.api.storage.v1.CSINodeDriver");
                    errors.push(Error::invalid(&Path::new("spec.drivers"), shown, names::IMMUTABLE));
                }
            }
        }
        errors
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let count = object.list_at(&["spec", "drivers"]).len() as i64;
        Some(vec![name(object), count.into(), api_semantics::time::age(object, now)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, update};

    fn of(drivers: &str) -> String {
        format!(r#"{{"metadata":{{"name":"n"}},"spec":{{"drivers":[{drivers}]}}}}"#)
    }

    #[test]
    fn drivers_have_names_and_node_ids() {
        for (drivers, expect) in [
            (r#"{"name":"Example.com","nodeID":"n","topologyKeys":["a.b/c"]}"#, ""),
            (
                r#"{"name":"","nodeID":"","allocatable":{"count":-1}}"#,
                "spec.drivers[0].name: Required value\n\
                 spec.drivers[0].nodeID: Required value\n\
                 spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                r#"{"name":"a","nodeID":"n","topologyKeys":["k","k"]},{"name":"a","nodeID":"n"}"#,
                "spec.drivers[0]: Duplicate value: \"k\"\nspec.drivers[1].name: Duplicate value: \"a\"",
            ),
        ] {
            create(&CsiNode, &of(drivers), expect);
        }
    }

    #[test]
    fn a_driver_stays_but_for_its_room() {
        let old = of(r#"{"name":"a","nodeID":"n","allocatable":{"count":1}}"#);
        update(
            &CsiNode,
            &old,
            &of(r#"{"name":"a","nodeID":"n","allocatable":{"count":2}},{"name":"b","nodeID":"n"}"#),
            "",
        );
        update(
            &CsiNode,
            &old,
            &of(r#"{"name":"a","nodeID":"m"}"#),
            "spec.drivers: Invalid value: {\"Name\":\"a\",\"NodeID\":\"m\",\"TopologyKeys\":null,\"Allocatable\":null}: \
             field is immutable",
        );
    }

    #[test]
    fn cells_count_drivers() {
        cells(&CsiNode, &of("{},{}"), r#"["n",2,"<unknown>"]"#);
    }
}
