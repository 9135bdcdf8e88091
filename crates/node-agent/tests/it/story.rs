//! A Pod and what the runtime and the probes say of it, each in one line of text.
//!
//! A Pod: `Always; a b` (restart policy; containers). `init:x` is an init container, `side:x` a sidecar, `eph:x` an
//! ephemeral one; `x/Never` has a policy of its own; `x(startup,liveness,readiness)` has probes; `host` uses the node's
//! network, `deleted` is being deleted.
//!
//! The runtime: `ready` or `stopped` is a sandbox, newest first; `a+` runs, `a.` is created, `a?` is unknown, `a!3` ended
//! with 3, newest first; `a*` runs an image of before. What follows a `~` are probes: `a+~live=failure`.

use std::collections::HashMap;
use std::sync::Arc;

use api_codec::json;
use api_schema::Value;
use cri::v1::{self, ContainerState};
use node_agent::observed::{Observed, PodRuntime, Sandbox};
use node_agent::plan::{ProbeResult, Probes};
use node_agent::pod::Pod;

/// What the probes of the story say, by container id and probe.
#[derive(Default)]
pub(crate) struct Said(HashMap<(String, String), ProbeResult>);

impl Said {
    fn get(&self, id: &str, probe: &str) -> Option<ProbeResult> {
        self.0.get(&(id.to_owned(), probe.to_owned())).copied()
    }
}

impl Probes for Said {
    fn startup(&self, id: &str) -> Option<ProbeResult> {
        self.get(id, "startup")
    }
    fn liveness(&self, id: &str) -> Option<ProbeResult> {
        self.get(id, "live")
    }
    fn readiness(&self, id: &str) -> Option<ProbeResult> {
        self.get(id, "ready")
    }
}

fn parse(text: &str) -> Value {
    json::decode(None, text.as_bytes(), json::Options::default()).expect("JSON").value
}

/// The Pod of a line; `status` is what the API holds already, as JSON.
pub(crate) fn pod(line: &str, status: &str) -> Pod {
    let (policy, rest) = line.split_once(';').expect("policy; containers");
    let mut value = parse(r#"{"metadata":{"namespace":"ns","name":"pod","uid":"u1","generation":1}}"#);
    value.set(&["spec", "restartPolicy"], policy.trim());
    for word in rest.split_whitespace() {
        match word {
            "host" => value.set(&["spec", "hostNetwork"], true),
            "deleted" => value.set(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z"),
            word => {
                let (field, word) = match word.split_once(':') {
                    Some(("init", name)) => ("initContainers", name),
                    Some(("side", name)) => ("initContainers", name),
                    Some(("eph", name)) => ("ephemeralContainers", name),
                    _ => ("containers", word),
                };
                let (word_rest, probes) = word.split_once('(').unwrap_or((word, ""));
                let (name, policy) = word_rest.split_once('/').unwrap_or((word_rest, ""));
                let mut container =
                    Value::from([("name", name), ("image", "busybox"), ("imagePullPolicy", "IfNotPresent")]);
                let is_sidecar = field == "initContainers" && line.contains(&format!("side:{name}"));
                let policy = if is_sidecar { "Always" } else { policy };
                if !policy.is_empty() {
                    container.set(&["restartPolicy"], policy);
                }
                for probe in probes.trim_end_matches(')').split(',').filter(|probe| !probe.is_empty()) {
                    container.set(&[&format!("{probe}Probe"), "tcpSocket", "port"], 80_i64);
                }
                let mut list = value.list_at(&["spec", field]).to_vec();
                list.push(container);
                value.set(&["spec", field], list);
            }
        }
    }
    if !status.is_empty() {
        value.set(&["status"], parse(status));
    }
    Pod::new(Arc::new(value))
}

/// What the runtime and the probes say.
pub(crate) fn runtime(line: &str, pod: &Pod) -> (PodRuntime, Said) {
    let (mut runtime, mut said) = (PodRuntime::default(), Said::default());
    let words: Vec<&str> = line.split_whitespace().collect();
    for (place, word) in words.iter().enumerate() {
        // Newest first in the line.
        let age = i64::try_from(words.len() - place).expect("small");
        let ready = match *word {
            "ready" => Some(true),
            "stopped" => Some(false),
            _ => None,
        };
        if let Some(ready) = ready {
            runtime.sandboxes.push(Sandbox {
                id: format!("sandbox{age}"),
                attempt: u32::try_from(words.iter().filter(|word| ["ready", "stopped"].contains(word)).count() - 1)
                    .expect("small"),
                ready,
                host_network: pod.is_host_network(),
                ips: if pod.is_host_network() { vec![] } else { vec!["10.0.0.7".into()] },
                created_at: age * 1_000_000_000,
            });
            continue;
        }
        let (word, probes) = word.split_once('~').unwrap_or((word, ""));
        let mark = word.find(|c: char| "+.?!*".contains(c)).expect("a state");
        let (name, state) = word.split_at(mark);
        let earlier = words[place + 1..].iter().filter(|other| other.starts_with(&format!("{name}!"))).count();
        let id = format!("{name}-{earlier}");
        for probe in probes.split(',').filter(|probe| !probe.is_empty()) {
            let (probe, result) = probe.split_once('=').expect("probe=result");
            let result = match result {
                "success" => ProbeResult::Success,
                "failure" => ProbeResult::Failure,
                _ => ProbeResult::Unknown,
            };
            said.0.insert((id.clone(), probe.to_owned()), result);
        }
        let code: i32 = state.strip_prefix('!').map_or(0, |code| code.parse().expect("an exit code"));
        let (state, hash) = match &state[..1] {
            "+" => (ContainerState::Running, None),
            "*" => (ContainerState::Running, Some(1)),
            "." => (ContainerState::Created, None),
            "?" => (ContainerState::Unknown, None),
            _ => (ContainerState::Exited, None),
        };
        let ended = state == ContainerState::Exited;
        runtime.containers.push(Observed {
            id: id.clone(),
            name: name.into(),
            state,
            hash,
            restart_count: i64::try_from(earlier).expect("small"),
            status: v1::ContainerStatus {
                id,
                state: state as i32,
                exit_code: code,
                reason: if !ended {
                    ""
                } else if code == 0 {
                    "Completed"
                } else {
                    "Error"
                }
                .to_owned(),
                image_ref: "sha256:1".to_owned(),
                created_at: age,
                started_at: 1_000_000_000,
                finished_at: if ended { 2_000_000_000 } else { 0 },
                ..v1::ContainerStatus::default()
            },
        });
    }
    (runtime, said)
}
