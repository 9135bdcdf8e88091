//! Who asks, and whether they may: client certificates and tokens, reviewed by the API as kubelet has it (webhook mode).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use api_schema::Value;
use client::Client;
use http::{HeaderMap, Method, header};
use parking_lot::Mutex;
use pki::{Certificate, CertificateDer, ClientVerifier};

/// How long a yes is remembered (kubelet: five minutes for authorization, two for tokens).
const YES_TIME: Duration = Duration::from_secs(120);
/// How long a no is.
const NO_TIME: Duration = Duration::from_secs(30);
/// How many answers are remembered.
const ANSWERS_MAX: usize = 4096;

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct User {
    pub(crate) name: String,
    uid: String,
    groups: Vec<String>,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody knows who it is.
    Unauthorized,
    /// It is known, and may not; the sentence.
    Forbidden(String),
    /// The API cannot be asked.
    Unavailable(String),
}

/// Answers of the API, by question.
struct Answers<T>(Mutex<HashMap<String, (T, Instant)>>);

impl<T: Clone> Answers<T> {
    fn get(&self, question: &str) -> Option<T> {
        let answers = self.0.lock();
        answers.get(question).filter(|(_, until)| Instant::now() < *until).map(|(answer, _)| answer.clone())
    }

    fn set(&self, question: String, answer: T, time: Duration) {
        let mut answers = self.0.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, (_, until)| Instant::now() < *until);
            if answers.len() >= ANSWERS_MAX {
                answers.clear();
            }
        }
        answers.insert(question, (answer, Instant::now() + time));
    }
}

/// Lets people in, or not.
pub(crate) struct Access {
    client: Client,
    node: String,
    verifier: Option<ClientVerifier>,
    tokens: Answers<Option<User>>,
    permissions: Answers<bool>,
}

impl Access {
    /// Certificates of `authorities` are good; everything else the API is asked.
    pub(crate) fn new(client: Client, node: String, authorities: &[Certificate]) -> Access {
        let verifier = Some(authorities).filter(|authorities| !authorities.is_empty());
        let verifier = verifier.and_then(|authorities| ClientVerifier::new(authorities).ok());
        let (tokens, permissions) = (Answers(Mutex::default()), Answers(Mutex::default()));
        Access { client, node, verifier, tokens, permissions }
    }

    /// Checks a request.
    pub(crate) async fn check(
        &self,
        certificates: &[CertificateDer<'static>],
        headers: &HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<User, Refusal> {
        let user = match self.by_certificate(certificates) {
            Some(user) => user,
            None => self.by_token(headers).await?,
        };
        let verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        for subresource in subresources(path) {
            if self.may(&user, verb, subresource).await? {
                return Ok(user);
            }
        }
        let last = subresources(path).last().copied().unwrap_or("proxy");
        Err(Refusal::Forbidden(format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{last}])",
            user.name
        )))
    }

    fn by_certificate(&self, certificates: &[CertificateDer<'static>]) -> Option<User> {
        let now = self.client.world().clock.now().seconds;
        let subject = self.verifier.as_ref()?.verify(certificates, now).ok()?.subject;
        let uid = subject.uids.into_iter().next().unwrap_or_default();
        Some(User { name: subject.common_name, uid, groups: subject.organizations })
    }

    async fn by_token(&self, headers: &HeaderMap) -> Result<User, Refusal> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim).unwrap_or_default();
        if token.is_empty() {
            return Err(Refusal::Unauthorized);
        }
        if let Some(known) = self.tokens.get(token) {
            return known.ok_or(Refusal::Unauthorized);
        }
        let mut review = Value::from([("apiVersion", "authentication.k8s.io/v1"), ("kind", "TokenReview")]);
        review.set(&["spec", "token"], token);
        let reviews = self.client.resource("authentication.k8s.io", "v1", "tokenreviews");
        let answer = reviews.create(&review).await.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let user = answer.bool_at(&["status", "authenticated"]).unwrap_or(false).then(|| {
            let groups = answer.list_at(&["status", "user", "groups"]).iter().filter_map(Value::as_str);
            User {
                name: answer.str_at(&["status", "user", "username"]).to_owned(),
                uid: answer.str_at(&["status", "user", "uid"]).to_owned(),
                groups: groups.map(str::to_owned).collect(),
            }
        });
        let time = if user.is_some() { YES_TIME } else { NO_TIME };
        self.tokens.set(token.to_owned(), user.clone(), time);
        user.ok_or(Refusal::Unauthorized)
    }

    async fn may(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, Refusal> {
        let question = format!("{user:?} {verb} {subresource}");
        if let Some(known) = self.permissions.get(&question) {
            return Ok(known);
        }
        let mut review = Value::from([("apiVersion", "authorization.k8s.io/v1"), ("kind", "SubjectAccessReview")]);
        review.set(&["spec", "user"], user.name.as_str());
        if !user.uid.is_empty() {
            review.set(&["spec", "uid"], user.uid.as_str());
        }
        let groups: Vec<Value> = user.groups.iter().map(|group| Value::from(group.as_str())).collect();
        review.set(&["spec", "groups"], groups);
        let attributes = Value::from([
            ("verb", verb),
            ("version", "v1"),
            ("resource", "nodes"),
            ("subresource", subresource),
            ("name", self.node.as_str()),
        ]);
        review.set(&["spec", "resourceAttributes"], attributes);
        let reviews = self.client.resource("authorization.k8s.io", "v1", "subjectaccessreviews");
        let answer = reviews.create(&review).await.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let allowed = answer.bool_at(&["status", "allowed"]).unwrap_or(false);
        self.permissions.set(question, allowed, if allowed { YES_TIME } else { NO_TIME });
        Ok(allowed)
    }
}

/// The parts of the Node that a path stands for; a right to any of them is enough (KEP-2862).
pub(crate) fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "statusz" => &["statusz"],
        "flagz" => &["configz"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_for_parts_of_the_node() {
        for (path, expected) in [
            ("/pods", &["pods", "proxy"][..]),
            ("/healthz", &["healthz", "proxy"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/stats/summary", &["stats"]),
            ("/logs/x", &["log"]),
            ("/exec/ns/pod/c", &["proxy"]),
            ("/containerLogs/ns/pod/c", &["proxy"]),
            ("/metricsx", &["proxy"]),
        ] {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }
}
