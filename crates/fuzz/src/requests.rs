//! Whole requests, to a whole server without sockets. An input is method and path, content type, accepted types and body, each in
//! one line.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apiserver::start::{Options, Running, start};
use authn::UserInfo;
use bytes::Bytes;
use client::Transport;
use world::{SimDisk, World};

/// What requests are made of.
pub(crate) const WORDS: &[&str] = &[
    "/",
    "//",
    "/..",
    "/.",
    "%",
    "%2f",
    "%00",
    "%zz",
    "?",
    "&",
    "=",
    "+",
    ";",
    "api",
    "apis",
    "apps",
    "v1",
    "v2",
    "namespaces",
    "pods",
    "default",
    "status",
    "scale",
    "log",
    "exec",
    "proxy",
    "watch",
    "~",
    "*",
    "x:y",
    "é",
    "\0",
    "fieldSelector=metadata.name%3Dx",
    "labelSelector=a%20in%20(b)",
    "limit=1",
    "limit=-1",
    "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhXHUwMDAwIn0",
    "resourceVersion=0",
    "resourceVersion=99999999999999999999",
    "resourceVersionMatch=Exact",
    "sendInitialEvents=true",
    "watch=1",
    "timeoutSeconds=0",
    "dryRun=All",
    "dryRun=x",
    "fieldManager=m",
    "force=true",
    "fieldValidation=Strict",
    "pretty=1",
    "propagationPolicy=Orphan",
    "gracePeriodSeconds=-5",
    "GET ",
    "PATCH ",
    "DELETE ",
    "POST ",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/apply-patch+yaml",
    "application/json-patch+json",
    ";q=0",
    ";as=Table",
    ";g=meta.k8s.io;v=v1",
    "*/*",
    ",",
];

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let json = "application/json";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let config_map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"x","namespace":"default"},"data":{"a":"b"}}"#;
    let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"generateName":"s"},"spec":{"ports":[{"port":80}],"selector":{"a":"b"}}}"#;
    let review = r#"{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}"#;
    let all = [
        ("GET /api/v1/namespaces/default/configmaps?limit=2&labelSelector=a%3Db", "", table, ""),
        ("GET /apis/apps/v1/deployments?fieldSelector=metadata.name%3Dx&resourceVersion=0", "", json, ""),
        ("GET /api/v1/namespaces/default/services/kubernetes", "", "application/yaml", ""),
        ("GET /api/v1/namespaces/kube-system?pretty=true", "", "application/vnd.kubernetes.protobuf", ""),
        ("GET /api/v1/watch/namespaces/default/pods?timeoutSeconds=1&allowWatchBookmarks=true", "", json, ""),
        (
            "GET /api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1",
            "",
            json,
            "",
        ),
        ("GET /openapi/v3/api/v1", "", json, ""),
        ("GET /apis", "", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", ""),
        ("GET /livez?verbose&exclude=ping", "", "", ""),
        (
            "POST /api/v1/namespaces/default/configmaps?dryRun=All&fieldManager=m&fieldValidation=Strict",
            json,
            json,
            config_map,
        ),
        ("POST /api/v1/namespaces/default/services?dryRun=All", json, json, service),
        ("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json, json, review),
        (
            "PATCH /api/v1/namespaces/default?dryRun=All",
            "application/merge-patch+json",
            json,
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
        ),
        (
            "PATCH /api/v1/namespaces/default?dryRun=All",
            "application/strategic-merge-patch+json",
            json,
            r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"]}}"#,
        ),
        (
            "PATCH /api/v1/namespaces/default/configmaps/y?dryRun=All&fieldManager=m&force=true",
            "application/apply-patch+yaml",
            json,
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"y"},"data":{"a":"b"}}"#,
        ),
        (
            "PATCH /api/v1/namespaces/default?dryRun=All",
            "application/json-patch+json",
            json,
            r#"[{"op":"add","path":"/metadata/labels/a","value":"b"}]"#,
        ),
        (
            "DELETE /api/v1/namespaces/default/pods?labelSelector=a&dryRun=All",
            json,
            json,
            r#"{"gracePeriodSeconds":0}"#,
        ),
    ];
    let line = |(what, content, accept, body)| format!("{what}\n{content}\n{accept}\n{body}").into_bytes();
    all.into_iter().map(line).collect()
}

/// A server that all inputs are sent to, and what carries them.
struct Server {
    runtime: tokio::runtime::Runtime,
    transport: Arc<dyn Transport>,
    _running: Running,
    _folder: tempfile::TempDir,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Keys and certificates are on the real disk, the store in memory.
        let world = World { disk: SimDisk::new(1).attach(), ..World::system() };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let options = Options { secure_port: 0, ..Options::new(folder.path()) };
        let running = runtime.block_on(start(options, world)).expect("the server starts");
        let transport = running.in_process(UserInfo::new("admin", &["system:masters", "system:authenticated"]));
        Server { runtime, transport, _running: running, _folder: folder }
    })
}

pub(crate) fn check(input: &[u8]) -> bool {
    let mut lines = input.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (what, content_type, accept, body) = (line(), line(), line(), line());
    let Some(space) = what.iter().position(|byte| *byte == b' ') else { return false };
    let mut request = http::Request::builder().method(&what[..space]).uri(&what[space + 1..]);
    for (name, value) in [(http::header::CONTENT_TYPE, content_type), (http::header::ACCEPT, accept)] {
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    // What hyper would refuse does not get to us.
    let Ok(request) = request.body(Bytes::copy_from_slice(body)) else { return false };
    let server = server();
    server.runtime.block_on(async {
        let answer = tokio::time::timeout(PATIENCE, server.transport.send(request)).await;
        let mut answer = answer.expect("the answer comes in time").expect("the server is there");
        let code = answer.status().as_u16();
        if code < 400 {
            return true;
        }
        let piece = answer.body_mut().chunk().await.ok().flatten().unwrap_or_default();
        // Upstream says nothing of documents that are not there.
        let silent = what.windows(9).any(|piece| piece == b" /openapi");
        assert!(silent || !piece.is_empty(), "{code} without a word");
        // What patches and types contradict is a 500 without a reason, as upstream's; with one it is a bug.
        let piece = String::from_utf8_lossy(&piece);
        assert!(code != 500 || !piece.contains("InternalError"), "an answer that only a bug can have: {piece}");
        false
    })
}
