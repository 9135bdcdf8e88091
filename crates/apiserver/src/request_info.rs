//! What a request is about, read off its method and path (apiserver `RequestInfo`).

use api_schema::SmolStr;

/// Method, path and query in the words that authorization and routing use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; for paths that are
    /// no resource the method in lower case.
    pub verb: SmolStr,
    /// The whole path.
    pub path: SmolStr,
    /// Whether the path names a resource.
    pub is_resource: bool,
    /// `api` or `apis`.
    pub prefix: SmolStr,
    /// The API group; empty for core.
    pub group: SmolStr,
    /// The version.
    pub version: SmolStr,
    /// The namespace; empty for cluster-scoped requests and for all namespaces.
    pub namespace: SmolStr,
    /// The plural resource name.
    pub resource: SmolStr,
    /// The subresource.
    pub subresource: SmolStr,
    /// The object's name. For a list with `fieldSelector=metadata.name=x` it is `x`, for authorization.
    pub name: SmolStr,
    /// What follows the subresource (`proxy` only), without a leading slash.
    pub rest: SmolStr,
    /// Whether the name comes from the path, not from a field selector.
    pub named: bool,
}

impl RequestInfo {
    /// Reads a request line. `watch` and `name_selector` come from the query: whether it asks for a watch, and the
    /// name that its field selector pins.
    pub fn parse(method: &str, path: &str, watch: bool, name_selector: Option<&str>) -> Self {
        let mut info = Self { path: path.into(), verb: method.to_ascii_lowercase().into(), ..Self::default() };
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').filter(|part| !part.is_empty()).collect();
        let min = match parts.first() {
            Some(&"api") => 3,
            Some(&"apis") => 4,
            _ => return info,
        };
        if parts.len() < min {
            return info;
        }
        info.prefix = parts.remove(0).into();
        if info.prefix == "apis" {
            info.group = parts.remove(0).into();
        }
        info.is_resource = true;
        info.version = parts.remove(0).into();
        let mut special = "";
        if matches!(parts[0], "watch" | "proxy") {
            if parts.len() < 2 {
                return Self { is_resource: false, ..info };
            }
            special = parts.remove(0);
        }
        info.verb = match (special, method) {
            ("watch" | "proxy", _) => special.into(),
            (_, "POST") => "create".into(),
            (_, "GET" | "HEAD") => "get".into(),
            (_, "PUT") => "update".into(),
            (_, "PATCH") => "patch".into(),
            (_, "DELETE") => "delete".into(),
            _ => SmolStr::default(),
        };
        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace = parts[1].into();
            // `/namespaces/x/status` is about the namespace; `/namespaces/x/pods` about pods in it.
            if parts.len() > 2 && !matches!(parts[2], "status" | "finalize") {
                parts.drain(..2);
            }
        }
        info.resource = parts[0].into();
        info.name = parts.get(1).copied().unwrap_or_default().into();
        info.subresource = parts.get(2).copied().unwrap_or_default().into();
        info.named = !info.name.is_empty();
        if parts.len() > 3 {
            info.rest = rest_of(path, parts.len() - 3).into();
        }
        if !info.named {
            match &*info.verb {
                "get" if watch => info.verb = "watch".into(),
                "get" => info.verb = "list".into(),
                "delete" => info.verb = "deletecollection".into(),
                _ => {}
            }
            if matches!(&*info.verb, "list" | "watch" | "deletecollection") {
                info.name = name_selector.unwrap_or_default().into();
            }
        }
        info
    }
}

/// The last `count` segments of a path, its trailing slash kept: what a proxy passes on.
fn rest_of(path: &str, count: usize) -> &str {
    let body = path.trim_end_matches('/');
    let start = body.rmatch_indices('/').nth(count - 1).map_or(0, |(at, _)| at + 1);
    &path[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, path: &str, expected: &str) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let info = RequestInfo::parse(method, path, query.contains("watch"), query.strip_prefix("name="));
        let shown = format!(
            "{} {}/{} ns={} {}/{} {} rest={}",
            info.verb, info.group, info.version, info.namespace, info.resource, info.subresource, info.name, info.rest
        );
        assert_eq!(if info.is_resource { shown } else { format!("{} {}", info.verb, info.path) }, expected);
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        check("GET", "/healthz", "get /healthz");
        check("GET", "/api", "get /api");
        check("GET", "/apis/apps/v1", "get /apis/apps/v1");
        check("GET", "/api/v1/pods", "list /v1 ns= pods/  rest=");
        check("GET", "/api/v1/pods?watch=true", "watch /v1 ns= pods/  rest=");
        check("GET", "/api/v1/pods?name=x", "list /v1 ns= pods/ x rest=");
        check("GET", "/api/v1/watch/namespaces/n/pods/p", "watch /v1 ns=n pods/ p rest=");
        check("GET", "/api/v1/namespaces", "list /v1 ns= namespaces/  rest=");
        check("GET", "/api/v1/namespaces/n", "get /v1 ns=n namespaces/ n rest=");
        check("PUT", "/api/v1/namespaces/n/finalize", "update /v1 ns=n namespaces/finalize n rest=");
        check("DELETE", "/apis/apps/v1/namespaces/n/deployments", "deletecollection apps/v1 ns=n deployments/  rest=");
        check(
            "PATCH",
            "/apis/apps/v1/namespaces/n/deployments/d/scale",
            "patch apps/v1 ns=n deployments/scale d rest=",
        );
        check("POST", "/api/v1/namespaces/n/pods/p/exec", "create /v1 ns=n pods/exec p rest=");
        check("GET", "/api/v1/nodes/n/proxy/stats/summary/", "get /v1 ns= nodes/proxy n rest=stats/summary/");
    }
}
