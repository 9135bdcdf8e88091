//! Real helm 3 and helm 4 against kubox: the life of a release, told once for each version.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Server, kubectl_layer, run};

/// A hook that is replaced at each upgrade: helm deletes it, and must see it gone before it makes the next.
const HOOK: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-hook
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-delete-policy: before-hook-creation
data: {revision: "{{ .Release.Revision }}"}
"#;

struct Helm {
    tools: PathBuf,
    server: Server,
    dir: tempfile::TempDir,
}

impl Helm {
    fn try_run(&self, program: &str, line: &str) -> (bool, String, String) {
        let mut command = Command::new(self.tools.join(program));
        command.env("KUBECONFIG", self.server.kubeconfig()).env("HOME", self.dir.path()).current_dir(self.dir.path());
        for other in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
            command.env_remove(other);
        }
        run(command.args(line.split_whitespace()))
    }

    /// Runs a command that must succeed; gives what it wrote.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let (good, out, complaint) = self.try_run("helm/helm", line);
        assert!(good, "helm {line}: {complaint}{out}");
        out
    }

    /// Runs a command that must fail with this complaint.
    #[track_caller]
    fn fails(&self, line: &str, expected: &str) {
        let (good, out, complaint) = self.try_run("helm/helm", line);
        assert!(!good, "helm {line} succeeded:\n{out}");
        assert!(complaint.contains(expected), "helm {line}: expected {expected:?} in\n{complaint}");
    }

    /// Runs a command that writes JSON.
    #[track_caller]
    fn json(&self, line: &str) -> Value {
        let out = self.ok(line);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("helm {line}: {error} in\n{out}"))
    }

    /// An object as the API shows it, if it exists.
    #[track_caller]
    fn object(&self, path: &str) -> Option<Value> {
        let (good, out, complaint) = self.try_run("kubectl/kubectl", &format!("get --raw {path}"));
        if !good {
            assert!(complaint.contains("NotFound"), "get {path}: {complaint}");
            return None;
        }
        Some(serde_json::from_str(&out).expect("the API writes JSON"))
    }

    /// What a field of an object must be; null where there is no such field.
    #[track_caller]
    fn shows(&self, path: &str, field: &str, expected: impl Into<Value>) {
        let object = self.object(path).unwrap_or_else(|| panic!("{path} exists"));
        assert_eq!(object.pointer(field).unwrap_or(&Value::Null), &expected.into(), "{field} of {object:#}");
    }

    /// The objects that must not exist.
    #[track_caller]
    fn gone(&self, paths: &[&str]) {
        for path in paths {
            assert_eq!(self.object(path), None, "{path} is gone");
        }
    }

    /// Each revision of the release, with its state.
    #[track_caller]
    fn history(&self, expected: &[(u64, &str)]) {
        let history = self.json("history web -n shop -o json");
        let rows = history.as_array().expect("a list");
        let rows: Vec<_> = rows.iter().map(|row| (row["revision"].as_u64(), row["status"].as_str())).collect();
        let expected: Vec<_> = expected.iter().map(|&(number, state)| (Some(number), Some(state))).collect();
        assert_eq!(rows, expected);
    }
}

const NAMESPACE: &str = "/api/v1/namespaces/shop";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/web-demo";
const SERVICE: &str = "/api/v1/namespaces/shop/services/web-demo";
const ACCOUNT: &str = "/api/v1/namespaces/shop/serviceaccounts/web-demo";
const SCALER: &str = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/web-demo";
const INGRESS: &str = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web-demo";
const HOOKED: &str = "/api/v1/namespaces/shop/configmaps/web-hook";
const RELEASE: &str = "/api/v1/namespaces/shop/secrets/sh.helm.release.v1.web.v";

/// `operation` is how this helm writes its objects, as managedFields name it.
fn story(h: &Helm, operation: &str) {
    let release = |number: u32| format!("{RELEASE}{number}");
    let state = "/metadata/labels/status";

    h.ok("create demo");
    std::fs::write(h.dir.path().join("demo/templates/hook.yaml"), HOOK).expect("the chart can be written");
    h.ok("install web demo -n shop --create-namespace --wait=false");
    h.shows(NAMESPACE, "/status/phase", "Active");
    h.shows(DEPLOYMENT, "/spec/replicas", 1);
    h.shows(DEPLOYMENT, "/metadata/labels/app.kubernetes.io~1managed-by", "Helm");
    h.shows(DEPLOYMENT, "/metadata/annotations/meta.helm.sh~1release-name", "web");
    h.shows(DEPLOYMENT, "/metadata/managedFields/0/manager", "helm");
    h.shows(DEPLOYMENT, "/metadata/managedFields/0/operation", operation);
    h.shows(SERVICE, "/spec/ports/0/targetPort", "http");
    h.shows(ACCOUNT, "/automountServiceAccountToken", true);
    h.shows(HOOKED, "/data/revision", "1");
    h.shows(&release(1), "/type", "helm.sh/release.v1");
    h.shows(&release(1), state, "deployed");
    h.gone(&[SCALER, INGRESS]);
    let first = h.object(DEPLOYMENT).expect("it exists");

    let list = h.json("list -n shop -o json");
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(
        (&list[0]["name"], &list[0]["revision"], &list[0]["status"]),
        (&"web".into(), &"1".into(), &"deployed".into())
    );
    assert_eq!(h.json("list -A -o json"), list);
    h.fails("install web demo -n shop", "a name that is still in use");
    h.fails("install other demo -n shop --set fullnameOverride=web-demo", "invalid ownership metadata");

    h.ok("upgrade web demo -n shop --set replicaCount=3");
    h.shows(DEPLOYMENT, "/spec/replicas", 3);
    h.shows(DEPLOYMENT, "/metadata/uid", first["metadata"]["uid"].clone());
    h.shows(DEPLOYMENT, "/metadata/generation", 2);
    h.shows(HOOKED, "/data/revision", "2");
    h.shows(&release(1), state, "superseded");
    h.history(&[(1, "superseded"), (2, "deployed")]);
    assert_eq!(h.json("get values web -n shop -o json"), serde_json::json!({ "replicaCount": 3 }));

    // A dry run changes nothing; a refused change is recorded as such.
    let before = h.object(DEPLOYMENT);
    let planned = h.ok("upgrade web demo -n shop --set replicaCount=9 --dry-run=server");
    assert!(planned.contains("replicas: 9"), "{planned}");
    assert_eq!(h.object(DEPLOYMENT), before);
    h.fails("upgrade web demo -n shop --set replicaCount=-1", "must be greater than or equal to 0");
    assert_eq!(h.object(DEPLOYMENT).map(|it| it["spec"].clone()), before.map(|it| it["spec"].clone()));
    h.history(&[(1, "superseded"), (2, "deployed"), (3, "failed")]);

    // What the chart no longer has is deleted; what it now has is made.
    h.ok("upgrade web demo -n shop --set serviceAccount.create=false,autoscaling.enabled=true,ingress.enabled=true");
    h.gone(&[ACCOUNT]);
    h.shows(SCALER, "/spec/maxReplicas", 100);
    h.shows(SCALER, "/spec/metrics/0/resource/target/averageUtilization", 80);
    h.shows(INGRESS, "/spec/rules/0/http/paths/0/backend/service/name", "web-demo");
    h.shows(SERVICE, "/spec/type", "ClusterIP");
    h.shows(DEPLOYMENT, "/spec/replicas", 1);
    h.history(&[(1, "superseded"), (2, "superseded"), (3, "failed"), (4, "deployed")]);

    h.ok("rollback web 1 -n shop");
    h.shows(DEPLOYMENT, "/spec/replicas", 1);
    h.shows(DEPLOYMENT, "/metadata/uid", first["metadata"]["uid"].clone());
    h.shows(DEPLOYMENT, "/spec/template", first["spec"]["template"].clone());
    h.shows(ACCOUNT, "/automountServiceAccountToken", true);
    h.gone(&[SCALER, INGRESS]);
    h.history(&[(1, "superseded"), (2, "superseded"), (3, "failed"), (4, "superseded"), (5, "deployed")]);

    let manifest = h.ok("get manifest web -n shop");
    for kind in ["Deployment", "Service", "ServiceAccount"] {
        assert!(manifest.contains(&format!("kind: {kind}\n")), "{kind} in {manifest}");
    }
    assert!(manifest.contains("replicas: 1\n"), "{manifest}");
    assert_eq!(h.json("status web -n shop -o json")["info"]["status"], "deployed");

    h.ok("uninstall web -n shop");
    h.gone(&[DEPLOYMENT, SERVICE, ACCOUNT, &release(1), &release(5)]);
    assert_eq!(h.json("list -n shop -o json"), serde_json::json!([]));
    h.fails("status web -n shop", "release: not found");
}

fn tell(tools: &Path, version: &str, operation: &str) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let helm = Helm { tools: tools.into(), server: Server::new(&[]), dir };
    let found = helm.ok("version --short");
    assert!(found.starts_with(version), "the package carries helm {found}");
    story(&helm, operation);
}

#[test]
fn helm_3_16_works() {
    tell(&kubectl_layer(28), "v3.16.", "Update");
}

#[test]
fn helm_3_17_works() {
    tell(&kubectl_layer(32), "v3.17.", "Update");
}

#[test]
fn helm_4_1_works() {
    tell(&kubectl_layer(35), "v4.1.", "Apply");
}

#[test]
fn helm_4_3_works() {
    tell(&kubectl_layer(37), "v4.3.", "Apply");
}
