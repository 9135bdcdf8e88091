//! What comes next for one Pod: decided from its spec, the runtime's state and the probes, without touching anything.

use crate::observed::{Observed, PodRuntime};
use crate::pod::{Container, ContainerKind, Pod, RestartPolicy};
use cri::v1::ContainerState;

/// What a probe last said of a running container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It has not spoken yet.
    Unknown,
    /// Good.
    Success,
    /// Failed as often as its threshold says.
    Failure,
}

/// The probes' results, by the runtime's container id. Startup and liveness say when to restart, readiness what the
/// status shows.
pub trait Probes {
    /// The startup probe's last word; `None` if the container has no such probe running.
    fn startup(&self, container_id: &str) -> Option<ProbeResult>;
    /// The liveness probe's last word.
    fn liveness(&self, container_id: &str) -> Option<ProbeResult>;
    /// The readiness probe's last word.
    fn readiness(&self, container_id: &str) -> Option<ProbeResult>;
}

/// Why a running container is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// Its spec changed, or its state is not known.
    Other,
    /// The startup probe failed.
    StartupProbe,
    /// The liveness probe failed.
    LivenessProbe,
}

/// A container to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The runtime's id.
    pub id: String,
    /// Its name in the Pod.
    pub name: String,
    /// What the `Killing` event says.
    pub message: String,
    /// Why.
    pub reason: KillReason,
}

/// What to do next. All empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// End every container and stop the sandbox.
    pub kill_pod: bool,
    /// Make a sandbox, as the attempt of this number.
    pub create_sandbox: Option<u32>,
    /// Single containers to end first.
    pub kill: Vec<Kill>,
    /// Containers to start, in this order: ephemeral ones, init containers, regular ones; by their place in the spec.
    pub start_ephemeral: Vec<usize>,
    /// See `start_ephemeral`.
    pub start_init: Vec<usize>,
    /// See `start_ephemeral`.
    pub start: Vec<usize>,
}

/// Whether the Pod's newest sandbox can be kept, or the attempt number of the one to make.
pub fn sandbox_to_create(pod: &Pod, runtime: &PodRuntime) -> Option<u32> {
    let Some(newest) = runtime.sandboxes.first() else { return Some(0) };
    let ready = runtime.sandboxes.iter().filter(|sandbox| sandbox.ready).count();
    let usable = ready == 1
        && newest.ready
        && newest.host_network == pod.is_host_network()
        && (newest.host_network || !newest.ips.is_empty());
    (!usable).then_some(newest.attempt + 1)
}

/// Whether a container that does not run is to be started (again).
pub fn should_start(container: Container<'_>, pod: &Pod, runtime: &PodRuntime) -> bool {
    if pod.is_deleted() {
        return false;
    }
    match runtime.container(container.name()) {
        None => true,
        Some(observed) => match observed.state {
            ContainerState::Running => false,
            ContainerState::Created | ContainerState::Unknown => true,
            ContainerState::Exited => container.restarts_after(observed.status.exit_code, pod.restart_policy()),
        },
    }
}

/// Decides.
pub fn plan(pod: &Pod, runtime: &PodRuntime, probes: &dyn Probes) -> Plan {
    if let Some(attempt) = sandbox_to_create(pod, runtime) {
        return plan_anew(pod, runtime, attempt);
    }
    let mut plan = Plan::default();
    // Even before initialization is done: they are there to look at what goes wrong.
    for (place, container) in pod.ephemeral_containers().enumerate() {
        if runtime.container(container.name()).is_none() {
            plan.start_ephemeral.push(place);
        }
    }
    if !plan_init(&mut plan, pod, runtime, probes) || plan.kill_pod {
        return plan;
    }

    let mut kept = 0;
    for (place, container) in pod.containers().enumerate() {
        let observed = match runtime.container(container.name()) {
            Some(observed) if observed.state == ContainerState::Running => observed,
            other => {
                if should_start(container, pod, runtime) {
                    plan.start.push(place);
                    plan.kill.extend(other.filter(|other| other.state == ContainerState::Unknown).map(|unknown| {
                        kill(unknown, "Container is in \"unknown\" state, try killing it before restart".to_owned())
                    }));
                }
                continue;
            }
        };
        let Some((what, reason)) = fault(container, observed, probes) else {
            kept += 1;
            continue;
        };
        let policy = container.own_restart_policy().unwrap_or_else(|| pod.restart_policy());
        let restart = reason == KillReason::Other || policy != RestartPolicy::Never;
        let after = if restart { ", will be restarted" } else { "" };
        plan.kill.push(Kill { reason, ..kill(observed, format!("Container {} {what}{after}", container.name())) });
        if restart {
            plan.start.push(place);
        }
    }
    if kept == 0 && plan.start.is_empty() {
        plan.kill_pod = true;
        // A sidecar does not keep a Pod alive whose work is done.
        plan.start_init.clear();
    }
    plan
}

/// There is no sandbox to go on with: whatever is left of the Pod ends, and it begins anew if it may.
fn plan_anew(pod: &Pod, runtime: &PodRuntime, attempt: u32) -> Plan {
    let mut plan = Plan { kill_pod: true, ..Plan::default() };
    let was_started = attempt != 0 && !runtime.containers.is_empty();
    if pod.restart_policy() == RestartPolicy::Never && was_started {
        return plan;
    }
    let done = |container: Container<'_>| {
        let policy = container.own_restart_policy().unwrap_or_else(|| pod.restart_policy());
        let observed = runtime.container(container.name());
        let succeeded =
            observed.is_some_and(|observed| observed.state == ContainerState::Exited && observed.status.exit_code == 0);
        policy == RestartPolicy::OnFailure && succeeded
    };
    let start: Vec<usize> =
        pod.containers().enumerate().filter(|(_, container)| !done(*container)).map(|(place, _)| place).collect();
    if start.is_empty() && runtime.any_regular_created(pod) {
        return plan;
    }
    plan.create_sandbox = Some(attempt);
    if pod.init_containers().len() > 0 {
        plan.start_init.push(0);
    } else {
        plan.start = start;
    }
    plan
}

/// Plans the init containers; says whether initialization is done.
///
/// From the last one to the first: the completed ones may have been removed from the runtime, and the last one that is
/// known tells how far the Pod has come.
fn plan_init(plan: &mut Plan, pod: &Pod, runtime: &PodRuntime, probes: &dyn Probes) -> bool {
    let count = pod.init_containers().len();
    if count == 0 {
        return true;
    }
    let mut initialized = pod.containers().any(|container| {
        let state = runtime.container(container.name()).map(|observed| observed.state);
        matches!(state, Some(ContainerState::Created | ContainerState::Running))
    });
    // Whether the one looked at was passed before.
    let mut passed = initialized;
    for (place, container) in pod.init_containers().enumerate().rev() {
        let Some(observed) = runtime.container(container.name()) else {
            if passed && container.is_sidecar() {
                plan.start_init.push(place);
            }
            continue;
        };
        if passed && !container.is_sidecar() {
            continue;
        }
        let mut next = |plan: &mut Plan| {
            if place == count - 1 {
                initialized = true;
            } else if !passed {
                plan.start_init.push(place + 1);
            }
        };
        match observed.state {
            // It was made and could not be started.
            ContainerState::Created => plan.start_init.push(place),
            ContainerState::Running if container.is_sidecar() => {
                if started(container, observed, probes) {
                    next(plan);
                }
                if let Some((what, reason)) = fault(container, observed, probes) {
                    let message = format!("Init container {} {what}", container.name());
                    plan.kill.push(Kill { reason, ..kill(observed, message) });
                    plan.start_init.push(place);
                }
            }
            ContainerState::Running => {}
            ContainerState::Exited if container.is_sidecar() => plan.start_init.push(place),
            ContainerState::Exited if !observed.failed() => next(plan),
            ContainerState::Exited | ContainerState::Unknown => {
                let restarts = match observed.state {
                    ContainerState::Unknown if !container.is_sidecar() => {
                        container.own_restart_policy().unwrap_or_else(|| pod.restart_policy()) != RestartPolicy::Never
                    }
                    ContainerState::Unknown => true,
                    _ => should_start(container, pod, runtime),
                };
                if !restarts {
                    plan.kill_pod = true;
                    plan.start_init.clear();
                    return false;
                }
                if observed.state == ContainerState::Unknown {
                    let message = "Init container is in \"unknown\" state, try killing it before restart";
                    plan.kill.push(kill(observed, message.to_owned()));
                }
                plan.start_init.push(place);
            }
        }
        passed = true;
    }
    if !passed {
        plan.start_init.push(0);
    }
    plan.start_init.reverse();
    initialized
}

/// Whether a sidecar is as far as its startup probe asks.
fn started(container: Container<'_>, observed: &Observed, probes: &dyn Probes) -> bool {
    container.at(&["startupProbe"]).is_none() || probes.startup(&observed.id) == Some(ProbeResult::Success)
}

/// What is wrong with a running container.
fn fault(container: Container<'_>, observed: &Observed, probes: &dyn Probes) -> Option<(&'static str, KillReason)> {
    if observed.hash.is_some_and(|hash| hash != container.hash()) {
        return Some(("definition changed", KillReason::Other));
    }
    if container.kind() != ContainerKind::Ephemeral {
        if probes.liveness(&observed.id) == Some(ProbeResult::Failure) {
            return Some(("failed liveness probe", KillReason::LivenessProbe));
        }
        if probes.startup(&observed.id) == Some(ProbeResult::Failure) {
            return Some(("failed startup probe", KillReason::StartupProbe));
        }
    }
    None
}

fn kill(observed: &Observed, message: String) -> Kill {
    Kill { id: observed.id.clone(), name: observed.name.to_string(), message, reason: KillReason::Other }
}
