//! What a request is about: a resource of a group and version, and its paths.

use std::fmt::Write as _;

use api_codec::TypeCodec;
use api_schema::{SmolStr, format_smolstr};

/// One resource of one group and version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiResource {
    /// The API group; empty for core.
    pub group: SmolStr,
    /// The version.
    pub version: SmolStr,
    /// The plural name in paths.
    pub plural: SmolStr,
    /// The kind of its objects.
    pub kind: SmolStr,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
}

impl ApiResource {
    /// A resource that Kubernetes itself has.
    pub fn builtin(group: &str, version: &str, plural: &str) -> Option<Self> {
        api_types::resource(group, version, plural).map(Self::from)
    }

    /// `group/version`, or the version alone for core: the apiVersion of its objects.
    pub fn api_version(&self) -> SmolStr {
        if self.group.is_empty() { self.version.clone() } else { format_smolstr!("{}/{}", self.group, self.version) }
    }

    /// How objects are laid out; none for custom resources.
    pub(crate) fn codec(&self) -> Option<TypeCodec<'static>> {
        api_types::resource(&self.group, &self.version, &self.plural)
            .and_then(|resource| api_codec::builtin().find(&resource.type_name))
    }

    /// How lists are laid out; none for custom resources.
    pub(crate) fn list_codec(&self) -> Option<TypeCodec<'static>> {
        let kind = format_smolstr!("{}List", self.kind);
        self.codec().and_then(|_| codec_of(&self.group, &self.version, &kind))
    }

    /// The path of all objects, of those in a namespace, of one object, or of a part of it; empty means not said.
    pub(crate) fn path(&self, namespace: &str, name: &str, subresource: &str) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            path.push_str("/namespaces/");
            escape(namespace, PATH, &mut path);
        }
        path.push('/');
        path.push_str(&self.plural);
        for part in [name, subresource].into_iter().filter(|part| !part.is_empty()) {
            path.push('/');
            escape(part, PATH, &mut path);
        }
        path
    }
}

impl From<&api_types::Resource> for ApiResource {
    fn from(resource: &api_types::Resource) -> Self {
        Self {
            group: resource.group.clone(),
            version: resource.version.clone(),
            plural: resource.resource.clone(),
            kind: resource.kind.clone(),
            namespaced: resource.namespaced(),
        }
    }
}

/// How objects of a built-in kind are laid out.
pub(crate) fn codec_of(group: &str, version: &str, kind: &str) -> Option<TypeCodec<'static>> {
    let codec = api_codec::builtin();
    codec.find(&api_types::type_name(group, version, kind)).or_else(|| {
        // Status, DeleteOptions and others are of every group and version, and written as `v1`.
        codec.find(&format_smolstr!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"))
    })
}

/// What may stand in a part of a path, and what in a query, beside letters and digits.
const PATH: &[u8] = b"-._~:@!$&'()*+,;=";
const QUERY: &[u8] = b"-._~";

fn escape(text: &str, plain: &[u8], out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Appends `key=value` to a path.
pub(crate) fn add_query(path: &mut String, key: &str, value: &str) {
    path.push(if path.contains('?') { '&' } else { '?' });
    path.push_str(key);
    path.push('=');
    escape(value, QUERY, path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let pods = ApiResource::builtin("", "v1", "pods").expect("pods are built in");
        let roles =
            ApiResource::builtin("rbac.authorization.k8s.io", "v1", "clusterroles").expect("roles are built in");
        for (resource, namespace, name, subresource, expect) in [
            (&pods, "", "", "", "/api/v1/pods"),
            (&pods, "default", "", "", "/api/v1/namespaces/default/pods"),
            (&pods, "default", "web", "", "/api/v1/namespaces/default/pods/web"),
            (&pods, "default", "web", "log", "/api/v1/namespaces/default/pods/web/log"),
            (&pods, "a/b", "x%y z", "", "/api/v1/namespaces/a%2Fb/pods/x%25y%20z"),
            (&roles, "ignored", "system:node", "", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node"),
        ] {
            assert_eq!(resource.path(namespace, name, subresource), expect);
        }
    }

    #[test]
    fn queries_are_escaped() {
        let mut path = "/x".to_owned();
        add_query(&mut path, "labelSelector", "a in (b,c)");
        add_query(&mut path, "watch", "true");
        assert_eq!(path, "/x?labelSelector=a%20in%20%28b%2Cc%29&watch=true");
    }

    #[test]
    fn every_built_in_that_can_be_listed_has_a_list_type() {
        for resource in api_types::resources().iter().filter(|resource| resource.allows("list")) {
            assert!(ApiResource::from(resource).list_codec().is_some(), "{}", resource.type_name);
        }
    }
}
