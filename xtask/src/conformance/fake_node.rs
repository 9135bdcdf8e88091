//! Nodes that run nothing: they are ready, renew their leases, and let go of the Pods that were told to end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Two of them, because one test wants two.
const NAMES: [&str; 2] = ["fake-node-a", "fake-node-b"];
const RENEW: Duration = Duration::from_secs(10);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// The Nodes of a cluster, until the value is dropped.
#[derive(Debug)]
pub(super) struct FakeNodes {
    proxy: Child,
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl FakeNodes {
    pub(super) fn start(kubectl: &Path, kubeconfig: &Path) -> Result<FakeNodes> {
        // kubectl speaks TLS for us.
        let mut proxy = Command::new(kubectl)
            .args(["proxy", "--port=0", "--disable-filter=true", "--kubeconfig"])
            .arg(kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("run kubectl proxy")?;
        let mut said = String::new();
        BufReader::new(proxy.stdout.take().context("kubectl proxy has an output")?).read_line(&mut said)?;
        let address = said.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        let api = Api { address };
        let (stop, stopped) = mpsc::channel();
        let mut nodes = FakeNodes { proxy, stop: Some(stop), threads: Vec::new() };
        for (index, name) in NAMES.into_iter().enumerate() {
            api.ask("POST", "/api/v1/nodes", Some(&node(name)))?;
            api.ask("PATCH", &format!("/api/v1/nodes/{name}/status"), Some(&node_status(name, index)))?;
            api.ask("POST", LEASES, Some(&lease(name)))?;
        }
        let leases = api.clone();
        nodes.threads.push(std::thread::spawn(move || {
            while stopped.recv_timeout(RENEW) == Err(RecvTimeoutError::Timeout) {
                for name in NAMES {
                    if let Err(error) = leases.ask("PATCH", &format!("{LEASES}/{name}"), Some(&lease(name))) {
                        eprintln!("fake node {name}: {error:#}");
                    }
                }
            }
        }));
        // Ends when the proxy does.
        nodes.threads.push(std::thread::spawn(move || while api.let_go_of_pods().is_ok() {}));
        Ok(nodes)
    }
}

impl Drop for FakeNodes {
    fn drop(&mut self) {
        self.stop = None;
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn now() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%6NZ"]).output().context("run date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn node(name: &str) -> Value {
    let labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
    json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}})
}

fn node_status(name: &str, index: usize) -> Value {
    let resources = json!({"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"});
    let conditions: Vec<Value> = [
        ("Ready", "True"),
        ("MemoryPressure", "False"),
        ("DiskPressure", "False"),
        ("PIDPressure", "False"),
    ]
    .map(|(kind, status)| json!({"type": kind, "status": status, "reason": "Fake", "message": "it runs nothing"}))
    .into();
    json!({"status": {
        "capacity": resources,
        "allocatable": resources,
        "conditions": conditions,
        "addresses": [
            {"type": "InternalIP", "address": format!("192.0.2.{}", index + 11)},
            {"type": "Hostname", "address": name},
        ],
        "nodeInfo": {"kubeletVersion": "v1.36.2", "operatingSystem": "linux", "architecture": "amd64"},
    }})
}

fn lease(name: &str) -> Value {
    let renewed = now().unwrap_or_default();
    json!({
        "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renewed},
    })
}

/// Requests over plain HTTP, to kubectl's proxy.
#[derive(Debug, Clone)]
struct Api {
    address: String,
}

impl Api {
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(&self.address).with_context(|| format!("connect to {}", self.address))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        // HTTP/1.0: the answer ends where the connection does, in one piece.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = BufReader::new(stream);
        let mut status = String::new();
        answer.read_line(&mut status)?;
        let code = status.split(' ').nth(1).unwrap_or_default();
        // What is there already, or gone already, is as it should be.
        let fine = code.starts_with('2') || code == "409" || (method == "DELETE" && code == "404");
        if !fine {
            let mut rest = String::new();
            answer.read_to_string(&mut rest)?;
            ensure!(fine, "{method} {path}: {} {rest}", status.trim());
        }
        let mut header = String::new();
        while answer.read_line(&mut header)? > 2 {
            header.clear();
        }
        Ok(answer)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<()> {
        let mut rest = Vec::new();
        self.send(method, path, body)?.read_to_end(&mut rest)?;
        Ok(())
    }

    /// Watches all Pods, and removes those of our Nodes that are told to end, as a node does when their processes are gone.
    fn let_go_of_pods(&self) -> Result<()> {
        for line in self.send("GET", "/api/v1/pods?watch=1", None)?.lines() {
            if let Some(path) = told_to_end(&serde_json::from_str(&line?)?) {
                self.ask("DELETE", &path, None)?;
            }
        }
        Ok(())
    }
}

/// What to delete after an event: the Pod, if it has been told to end and only its node's word is missing.
fn told_to_end(event: &Value) -> Option<String> {
    let pod = &event["object"];
    let metadata = &pod["metadata"];
    let ends = metadata["deletionTimestamp"].is_string() && metadata["deletionGracePeriodSeconds"] != 0;
    let ours = pod["spec"]["nodeName"].as_str().is_some_and(|name| NAMES.contains(&name));
    let (namespace, name) = (metadata["namespace"].as_str()?, metadata["name"].as_str()?);
    (event["type"] != "DELETED" && ends && ours)
        .then(|| format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_of_ours_that_are_told_to_end_are_let_go() {
        let check = |kind: &str, node: &str, grace: Option<u64>, expect: Option<&str>| {
            let mut metadata = json!({"namespace": "a", "name": "b"});
            if let Some(grace) = grace {
                metadata["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
                metadata["deletionGracePeriodSeconds"] = json!(grace);
            }
            let event = json!({"type": kind, "object": {"metadata": metadata, "spec": {"nodeName": node}}});
            assert_eq!(told_to_end(&event).as_deref(), expect, "{event}");
        };
        let path = Some("/api/v1/namespaces/a/pods/b?gracePeriodSeconds=0");
        check("MODIFIED", NAMES[0], Some(30), path);
        check("ADDED", NAMES[1], Some(30), path);
        check("MODIFIED", NAMES[0], None, None);
        check("MODIFIED", NAMES[0], Some(0), None);
        check("DELETED", NAMES[0], Some(30), None);
        check("MODIFIED", "another", Some(30), None);
    }
}
