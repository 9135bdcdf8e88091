//! Real kubectl of several versions against kubox: the story of a user, told once for each.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Server, kubectl_layer, run};

struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    dir: PathBuf,
}

impl Kubectl {
    fn try_run(&self, line: &str) -> (bool, String, String) {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.dir).current_dir(&self.dir).args(&args);
        run(&mut command)
    }

    /// Runs a command that must succeed; gives what it wrote.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let (good, out, complaint) = self.try_run(line);
        assert!(good, "kubectl {line}: {complaint}{out}");
        out
    }

    /// Runs a command that must succeed and write this somewhere.
    #[track_caller]
    fn says(&self, line: &str, expected: &str) {
        let out = self.ok(line);
        assert!(out.contains(expected), "kubectl {line}: expected {expected:?} in\n{out}");
    }

    /// Runs a command that must fail with this complaint.
    #[track_caller]
    fn fails(&self, line: &str, expected: &str) {
        let (good, out, complaint) = self.try_run(line);
        assert!(!good, "kubectl {line} succeeded:\n{out}");
        assert!(complaint.contains(expected), "kubectl {line}: expected {expected:?} in\n{complaint}");
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).expect("the folder can be written");
    }
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: nginx, image: 'nginx:1.27', ports: [{containerPort: 80}]}
";

fn story(kubectl: &Kubectl) {
    let k = kubectl;
    k.says("version", "Server Version");
    k.says("cluster-info", "is running at");
    k.says("api-versions", "apps/v1");
    k.says("api-resources", "deployments");
    k.says("get cs", "Healthy");
    k.says("get --raw /readyz", "ok");
    k.says("auth can-i create pods", "yes");
    k.says("create namespace n", "namespace/n created");
    k.says("get ns n -o jsonpath={.status.phase}", "Active");
    k.ok("create configmap c -n n --from-literal=a=1 --from-literal=b=2");
    k.says("get cm c -n n -o yaml", "b: \"2\"");
    k.says("get cm c -n n -o json", "\"a\": \"1\"");
    k.write("deployment.yaml", DEPLOYMENT);
    k.says("create -n n -f deployment.yaml", "deployment.apps/web created");
    k.says("get deploy web -n n", "0/2");
    k.says("get deploy -n n -o wide", "nginx:1.27");
    k.says("scale deploy web -n n --replicas=5", "scaled");
    k.says("get deploy web -n n -o jsonpath={.spec.replicas}", "5");
    k.says("label deploy web -n n tier=front", "labeled");
    k.says("get deploy -n n -l tier=front -o name", "deployment.apps/web");
    k.ok("get deploy -n n -l tier=back -o name");
    k.says("annotate deploy web -n n note=x", "annotated");
    k.says("set image deploy/web -n n nginx=nginx:1.28", "updated");
    k.says("patch deploy web -n n --type=merge -p {\"spec\":{\"paused\":true}}", "patched");
    k.says("patch deploy web -n n --type=json -p [{\"op\":\"remove\",\"path\":\"/spec/paused\"}]", "patched");
    k.says("patch deploy web -n n -p {\"spec\":{\"minReadySeconds\":3}}", "patched");
    k.write("applied.yaml", &DEPLOYMENT.replace("web", "applied"));
    k.says("apply -n n -f applied.yaml", "created");
    k.says("apply -n n -f applied.yaml", "unchanged");
    k.write("applied.yaml", &DEPLOYMENT.replace("web", "applied").replace("replicas: 2", "replicas: 3"));
    let (_, diff, _) = k.try_run("diff -n n -f applied.yaml");
    assert!(diff.contains("replicas: 3"), "{diff}");
    k.says("apply -n n -f applied.yaml", "configured");
    k.says("apply --server-side --force-conflicts -n n -f applied.yaml", "serverside-applied");
    k.says("replace -n n -f applied.yaml", "replaced");
    k.says("expose deploy web -n n --port=80", "exposed");
    k.says("get svc web -n n", "ClusterIP");
    k.says("describe svc web -n n", "Selector:");
    k.says("explain deployment.spec.replicas", "replicas");
    k.says("wait deploy/web -n n --for=jsonpath={.spec.replicas}=5 --timeout=10s", "condition met");
    k.fails("get pods nothing -n n", "NotFound");
    k.fails("create namespace n", "AlreadyExists");
    k.write("bad.yaml", &DEPLOYMENT.replace("replicas", "replicaz"));
    k.fails("create -n n -f bad.yaml", "replicaz");
    k.write("invalid.yaml", &DEPLOYMENT.replace("matchLabels: {app: web}", "matchLabels: {app: other}"));
    k.fails("create -n n -f invalid.yaml", "`selector` does not match template `labels`");
    k.says("get events -A", "");
    k.says("delete deploy web applied -n n", "deleted");
    k.fails("get deploy web -n n", "NotFound");
    k.ok("delete cm c -n n");
}

fn tell(program: &Path) {
    let server = Server::new(&[]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    story(&Kubectl { program: program.into(), kubeconfig: server.kubeconfig(), dir: dir.path().into() });
}

#[test]
fn kubectl_1_28_works() {
    tell(&kubectl_layer(28).join("kubectl/kubectl"));
}

#[test]
fn kubectl_1_32_works() {
    tell(&kubectl_layer(32).join("kubectl/kubectl"));
}

#[test]
fn kubectl_1_35_works() {
    tell(&kubectl_layer(35).join("kubectl/kubectl"));
}

#[test]
fn kubectl_1_37_works() {
    tell(&kubectl_layer(37).join("kubectl/kubectl"));
}
