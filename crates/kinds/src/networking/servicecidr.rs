//! ServiceCIDR: a range that Services get their addresses from.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::{ip, names};

use crate::Kind;
use crate::checks::{internal, name, texts};

pub(crate) struct ServiceCidr;

impl Kind for ServiceCidr {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "servicecidrs"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec.cidrs");
        let cidrs = texts(object, &["spec", "cidrs"]);
        match cidrs.len() {
            0 => errors.push(Error::required(&path, "at least one CIDR required")),
            1 | 2 => {
                for (index, cidr) in cidrs.iter().enumerate() {
                    errors.extend(ip::validate_cidr(&path.index(index), cidr));
                }
                let both = |is: fn(&str) -> bool| cidrs.len() == 2 && cidrs.iter().all(|cidr| is(cidr));
                if both(ip::is_v4_cidr) || both(ip::is_v6_cidr) {
                    let why =
                        "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                    errors.push(Error::invalid(&path, object.list_at(&["spec", "cidrs"]).to_vec(), why));
                }
            }
            _ => {
                let spec = internal(object.get("spec"), "io.k8s.api.networking.v1.ServiceCIDRSpec");
                errors.push(Error::invalid(&path, spec, "may only hold up to 2 values"));
            }
        }
        errors
    }

    /// A range stays; one of the other family may be added to a single one.
    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec.cidrs");
        let (new_cidrs, old_cidrs) = (texts(new, &["spec", "cidrs"]), texts(old, &["spec", "cidrs"]));
        let mut keeps = |index: usize| {
            if new_cidrs[index] != old_cidrs[index] {
                errors.push(Error::invalid(&path.index(index), new_cidrs[index], names::IMMUTABLE));
            }
        };
        match (old_cidrs.len(), new_cidrs.len()) {
            (before, after) if before == after => (0..before).for_each(keeps),
            (1, 2) => {
                keeps(0);
                errors.extend(self.validate(new));
            }
            _ => {
                let shown = new.list_at(&["spec", "cidrs"]).to_vec();
                errors.push(Error::invalid(&path, shown, names::IMMUTABLE));
            }
        }
        errors
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let cidrs = texts(object, &["spec", "cidrs"]).join(",");
        Some(vec![name(object), cidrs.into(), api_semantics::time::age(object, now)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, update};

    fn of(cidrs: &str) -> String {
        format!(r#"{{"metadata":{{"name":"r"}},"spec":{{"cidrs":[{cidrs}]}}}}"#)
    }

    #[test]
    fn one_range_of_each_family() {
        for (cidrs, expect) in [
            (r#""10.0.0.0/16""#, ""),
            (r#""10.0.0.0/16","2001:db8::/64""#, ""),
            ("", "spec.cidrs: Required value: at least one CIDR required"),
            (
                r#""10.0.0.1/16""#,
                "spec.cidrs[0]: Invalid value: \"10.0.0.1/16\": must not have bits set beyond the prefix length",
            ),
            (
                r#""10.0.0.0/16","10.1.0.0/16""#,
                "spec.cidrs: Invalid value: [\"10.0.0.0/16\",\"10.1.0.0/16\"]: may specify no more than one IP for each \
                 IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            ),
            (
                r#""a","b","c""#,
                "spec.cidrs: Invalid value: {\"CIDRs\":[\"a\",\"b\",\"c\"]}: may only hold up to 2 values",
            ),
        ] {
            create(&ServiceCidr, &of(cidrs), expect);
        }
    }

    #[test]
    fn a_range_stays_and_may_get_a_second_family() {
        for (old, new, expect) in [
            (r#""10.0.0.0/16""#, r#""10.0.0.0/16""#, ""),
            (r#""10.0.0.0/16""#, r#""10.0.0.0/16","2001:db8::/64""#, ""),
            (
                r#""10.0.0.0/16""#,
                r#""10.1.0.0/16""#,
                "spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable",
            ),
            (
                r#""10.0.0.0/16","2001:db8::/64""#,
                r#""10.0.0.0/16""#,
                "spec.cidrs: Invalid value: [\"10.0.0.0/16\"]: field is immutable",
            ),
        ] {
            update(&ServiceCidr, &of(old), &of(new), expect);
        }
    }

    #[test]
    fn cells_show_the_ranges() {
        cells(
            &ServiceCidr,
            &of(r#""10.0.0.0/16","2001:db8::/64""#),
            r#"["r","10.0.0.0/16,2001:db8::/64","<unknown>"]"#,
        );
    }
}
