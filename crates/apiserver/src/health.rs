//! `/healthz`, `/livez`, `/readyz` and `/version`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api_schema::{SmolStr, format_smolstr};
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use crate::body::Body;
use crate::query::Query;

/// One check: its name, whether it counts for liveness, and what it says.
struct HealthCheck {
    name: &'static str,
    live: bool,
    check: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl HealthCheck {
    fn counts_for(&self, endpoint: &str) -> bool {
        match endpoint {
            "livez" => self.live,
            "healthz" => self.live || self.name != "shutdown",
            _ => true,
        }
    }
}

/// The health checks, and who may read them without credentials.
pub struct Health {
    checks: Vec<HealthCheck>,
    stopping: Arc<AtomicBool>,
    version: String,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.checks.iter().map(|check| check.name)).finish()
    }
}

impl Health {
    /// No checks but `ping`; `stopping` makes `/readyz` fail once it is set.
    pub fn new(stopping: Arc<AtomicBool>) -> Self {
        let flag = Arc::clone(&stopping);
        let mut health = Self { checks: Vec::new(), stopping, version: version_json() };
        health.add("ping", true, || Ok(()));
        health.add("log", true, || Ok(()));
        health.add("shutdown", false, move || {
            if flag.load(Ordering::Relaxed) { Err("process is shutting down".into()) } else { Ok(()) }
        });
        health
    }

    /// Adds a check; `live` says whether its failure means that the process should be restarted.
    pub fn add(
        &mut self,
        name: &'static str,
        live: bool,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.checks.push(HealthCheck { name, live, check: Box::new(check) });
    }

    /// The paths that `/` lists.
    pub fn paths(&self) -> Vec<SmolStr> {
        let mut paths = Vec::new();
        for endpoint in ["healthz", "livez", "readyz"] {
            paths.push(format_smolstr!("/{endpoint}"));
            let relevant = self.checks.iter().filter(|check| check.counts_for(endpoint));
            paths.extend(relevant.map(|check| format_smolstr!("/{endpoint}/{}", check.name)));
        }
        paths
    }

    /// Whether the server is about to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether everybody may read a path, credentials or not.
    pub fn is_open(&self, path: &str) -> bool {
        matches!(path, "/healthz" | "/livez" | "/readyz" | "/version" | "/version/")
    }

    /// Answers a path that is about health or version; `None` for any other.
    pub fn respond(&self, path: &str, query: &Query) -> Option<Response<Body>> {
        if matches!(path, "/version" | "/version/") {
            let mut response = Response::new(Body::from(self.version.clone()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            return Some(response);
        }
        let rest = |prefix: &str| {
            path.strip_prefix(prefix).and_then(|rest| match rest {
                "" | "/" => Some(""),
                rest => rest.strip_prefix('/'),
            })
        };
        let (endpoint, one) = ["livez", "readyz", "healthz"]
            .into_iter()
            .find_map(|endpoint| rest(&format!("/{endpoint}")).map(|one| (endpoint, one)))?;
        let relevant = |check: &&HealthCheck| check.counts_for(endpoint);
        if !one.is_empty() {
            let Some(check) = self.checks.iter().filter(relevant).find(|check| check.name == one) else {
                return Some(text(StatusCode::NOT_FOUND, "404 page not found\n".into()));
            };
            return Some(match (check.check)() {
                Ok(()) => text(StatusCode::OK, "ok".into()),
                Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
            });
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        let (mut lines, mut failed) = (String::new(), Vec::new());
        for check in self.checks.iter().filter(relevant) {
            let name = check.name;
            if excluded.contains(&name) {
                lines.push_str(&format!("[+]{name} excluded: ok\n"));
                continue;
            }
            match (check.check)() {
                Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
                Err(why) => {
                    tracing::info!(check = name, why, "health check failed");
                    lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
                    failed.push(name);
                }
            }
        }
        for name in &excluded {
            if !self.checks.iter().any(|check| check.name == *name) {
                lines.push_str(&format!(
                    "warn: some health checks cannot be excluded: no matches for {}\n",
                    api_semantics::field::quoted(name)
                ));
            }
        }
        Some(if failed.is_empty() {
            if query.get("verbose").is_some() {
                text(StatusCode::OK, format!("{lines}{endpoint} check passed\n"))
            } else {
                text(StatusCode::OK, "ok".into())
            }
        } else {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"))
        })
    }
}

fn text(code: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The version of Kubernetes that this server speaks, as `/version` shows it.
/// The version of Kubernetes that this is, and ours behind it.
pub fn git_version() -> String {
    let (major, minor) = api_types::KUBERNETES_VERSION;
    format!("v{major}.{minor}.0+kubox.{}", env!("CARGO_PKG_VERSION"))
}

/// What `/version` says.
pub fn version_json() -> String {
    let (major, minor) = api_types::KUBERNETES_VERSION;
    let field = |key: &str, value: &str| format!("  \"{key}\": {}", api_semantics::field::quoted(value));
    let fields = [
        field("major", &major.to_string()),
        field("minor", &minor.to_string()),
        field("emulationMajor", &major.to_string()),
        field("emulationMinor", &minor.to_string()),
        field("minCompatibilityMajor", &major.to_string()),
        field("minCompatibilityMinor", &(minor - 1).to_string()),
        field("gitVersion", &git_version()),
        field("gitCommit", ""),
        field("gitTreeState", "clean"),
        field("buildDate", "1970-01-01T00:00:00Z"),
        field("goVersion", "none (rust)"),
        field("compiler", "rustc"),
        field("platform", &format!("linux/{}", go_arch())),
    ];
    format!("{{\n{}\n}}", fields.join(",\n"))
}

/// The architecture in Go's words.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(health: &Health, path: &str, query: &str) -> (u16, String) {
        let response = health.respond(path, &Query::parse(query)).expect("a health path");
        let code = response.status().as_u16();
        match response.into_body() {
            Body::Full(bytes) => (code, String::from_utf8_lossy(&bytes).into_owned()),
            _ => panic!("a health answer is whole"),
        }
    }

    #[test]
    fn a_failed_check_fails_its_endpoint_and_is_named() {
        let mut health = Health::new(Arc::new(AtomicBool::new(false)));
        assert_eq!(get(&health, "/livez", ""), (200, "ok".into()));
        assert_eq!(get(&health, "/livez", "verbose"), (200, "[+]ping ok\n[+]log ok\nlivez check passed\n".into()));
        health.add("etcd", false, || Err("gone".into()));
        assert_eq!(get(&health, "/livez", "").0, 200);
        assert_eq!(get(&health, "/readyz", "").0, 500);
        assert!(get(&health, "/readyz", "").1.contains("[-]etcd failed: reason withheld\n"));
        assert_eq!(get(&health, "/readyz", "exclude=etcd"), (200, "ok".into()));
        assert_eq!(get(&health, "/readyz/etcd", "").0, 500);
        assert_eq!(get(&health, "/readyz/ping", ""), (200, "ok".into()));
    }
}
