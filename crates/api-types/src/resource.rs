//! The resources that the API serves: names, scope, verbs, subresources.

use std::collections::HashMap;
use std::sync::LazyLock;

use smol_str::SmolStr;

use crate::{rows, type_name};

/// Whether objects live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One name space for the cluster.
    Cluster,
    /// One per namespace.
    Namespaced,
}

/// How settled a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// `v1`: always served.
    Stable,
    /// `v1beta1`: served when asked for.
    Beta,
    /// `v1alpha1`: served when asked for.
    Alpha,
}

/// One resource of one group and version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The API group; empty for core.
    pub group: SmolStr,
    /// The version.
    pub version: SmolStr,
    /// The plural name in paths.
    pub resource: SmolStr,
    /// The kind.
    pub kind: SmolStr,
    /// The singular name.
    pub singular: SmolStr,
    /// Cluster or namespace.
    pub scope: Scope,
    /// The verbs, sorted.
    pub verbs: Vec<SmolStr>,
    /// The subresources, sorted by name.
    pub subresources: Vec<Subresource>,
    /// Short names for kubectl.
    pub short_names: Vec<SmolStr>,
    /// Categories such as `all`.
    pub categories: Vec<SmolStr>,
    /// The full type name.
    pub type_name: SmolStr,
}

/// One subresource, such as `status` or `scale`.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// The name in paths.
    pub name: SmolStr,
    /// The group of its kind.
    pub group: SmolStr,
    /// The version of its kind.
    pub version: SmolStr,
    /// The kind it takes and gives.
    pub kind: SmolStr,
    /// The verbs, sorted.
    pub verbs: Vec<SmolStr>,
}

impl Resource {
    /// How settled its version is.
    pub fn stability(&self) -> Stability {
        if self.version.contains("alpha") {
            Stability::Alpha
        } else if self.version.contains("beta") {
            Stability::Beta
        } else {
            Stability::Stable
        }
    }

    /// `group/version`, or the version alone for core: the apiVersion of its objects.
    pub fn api_version(&self) -> SmolStr {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            api_schema::format_smolstr!("{}/{}", self.group, self.version)
        }
    }

    /// Whether the resource allows a verb.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// Whether objects live in a namespace.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// The subresource of a name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    rows(include_str!("../tables/resources.tsv"))
        .map(|row| {
            let (group, version, kind) = (row[0], row[1], row[3]);
            Resource {
                group: group.into(),
                version: version.into(),
                resource: row[2].into(),
                kind: kind.into(),
                singular: row[4].into(),
                scope: if row[5] == "true" { Scope::Namespaced } else { Scope::Cluster },
                verbs: list(row[6], ','),
                subresources: list(row.get(7).copied().unwrap_or_default(), ';')
                    .iter()
                    .filter_map(|text| subresource(text, group, version))
                    .collect(),
                short_names: list(row.get(8).copied().unwrap_or_default(), ','),
                categories: list(row.get(9).copied().unwrap_or_default(), ','),
                type_name: type_name(group, version, kind),
            }
        })
        .collect()
});

static BY_NAME: LazyLock<HashMap<(&'static str, &'static str, &'static str), &'static Resource>> =
    LazyLock::new(|| {
        RESOURCES.iter().map(|r| ((r.group.as_str(), r.version.as_str(), r.resource.as_str()), r)).collect()
    });

/// All resources of the tables, of every stability, in table order.
pub fn resources() -> &'static [Resource] {
    &RESOURCES
}

/// The resource of a group, version and plural name.
pub fn resource(group: &str, version: &str, resource: &str) -> Option<&'static Resource> {
    BY_NAME.get(&(group, version, resource)).copied()
}

fn list(text: &str, separator: char) -> Vec<SmolStr> {
    text.split(separator).filter(|part| !part.is_empty()).map(SmolStr::new).collect()
}

/// Reads `scale(autoscaling/v1.Scale):get,patch,update`.
fn subresource(text: &str, group: &str, version: &str) -> Option<Subresource> {
    let (head, verbs) = text.split_once(':')?;
    let (name, kind) = head.trim_end_matches(')').split_once('(')?;
    let (group, version, kind) = match kind.rsplit_once('.') {
        Some((api_version, kind)) => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            (group, version, kind)
        }
        None => (group, version, kind),
    };
    Some(Subresource {
        name: name.into(),
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        verbs: list(verbs, ','),
    })
}
