//! The status of a Pod as the API shows it, made from what the runtime says: pure.

use api_schema::{Map, Value};
use api_semantics::time::Timestamp;
use cri::v1::ContainerState;
use smol_str::SmolStr;
use std::collections::BTreeMap;

use crate::observed::{Observed, PodRuntime};
use crate::plan::{ProbeResult, Probes, sandbox_to_create, should_start};
use crate::pod::{Container, ContainerKind, Pod};

/// Why a container waits: what the last try to start it came to. Reason and message, by the container's name.
pub type WaitingReasons = BTreeMap<SmolStr, (SmolStr, String)>;

/// What the status depends on beside the Pod and the runtime.
pub struct Context<'a> {
    /// The status that was last reported; the API's at first.
    pub old: &'a Value,
    /// What the probes say.
    pub probes: &'a dyn Probes,
    /// Why containers wait.
    pub reasons: &'a WaitingReasons,
    /// What the runtime calls itself: the scheme of container ids.
    pub runtime_name: &'a str,
    /// The node's addresses, the first one first.
    pub host_ips: &'a [SmolStr],
    /// Seconds since 1970.
    pub now: i64,
    /// Whether no container of the Pod will run again.
    pub terminal: bool,
    /// A verdict on the whole Pod that stands above its containers: phase Failed with reason and message (evicted,
    /// deadline exceeded).
    pub failed: Option<(&'a str, &'a str)>,
}

/// The conditions that only the node agent writes; all others belong to somebody else and are kept.
pub const OWN_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

const UNLOCATED_DELETED: &str =
    "The container could not be located when the pod was deleted.  The container used to be Running";
const UNLOCATED: &str = "The container could not be located when the pod was terminated";
const UNKNOWN: &str = "ContainerStatusUnknown";

/// Makes the status.
pub fn generate(pod: &Pod, runtime: &PodRuntime, context: &Context<'_>) -> Value {
    let mut containers = container_statuses(pod, ContainerKind::Regular, runtime, context);
    let mut inits = container_statuses(pod, ContainerKind::Init, runtime, context);
    let ephemeral = container_statuses(pod, ContainerKind::Ephemeral, runtime, context);

    for status in &mut containers {
        let container = pod.container(status.str_at(&["name"]));
        mark_ready(status, container, context);
    }
    for status in &mut inits {
        let container = pod.container(status.str_at(&["name"]));
        mark_ready(status, container, context);
    }

    let all: Vec<&Value> = containers.iter().chain(&inits).collect();
    let has_started = pod.containers().any(|container| {
        runtime.container(container.name()).is_some_and(|observed| observed.state == ContainerState::Running)
    });
    let old_phase = context.old.str_at(&["phase"]);
    let mut phase = phase(pod, &all, context.terminal, has_started);
    for former in [old_phase, pod.phase()] {
        if is_terminal(former) && !is_terminal(phase) {
            phase = former;
        }
    }
    // What is final at the API stays as it is.
    if is_terminal(pod.phase()) {
        phase = pod.phase();
    }
    let (mut reason, mut message) = ("", "");
    if phase == old_phase {
        reason = context.old.str_at(&["reason"]);
        message = context.old.str_at(&["message"]);
    }
    if let Some((failed_reason, failed_message)) = context.failed {
        (phase, reason, message) = ("Failed", failed_reason, failed_message);
    }

    let mut status = Map::default();
    status.insert("observedGeneration", pod.generation());
    status.insert("phase", phase);
    for (name, text) in [("reason", reason), ("message", message)] {
        if !text.is_empty() {
            status.insert(name, text);
        }
    }
    let qos = pod.status().map_or("", |status| status.str_at(&["qosClass"]));
    if !qos.is_empty() {
        status.insert("qosClass", qos);
    }
    addresses(&mut status, pod, runtime, context);
    let started = context.old.str_at(&["startTime"]);
    match started {
        "" => status.insert("startTime", Timestamp::from_seconds(context.now).to_time()),
        started => status.insert("startTime", started),
    };
    let conditions = conditions(pod, runtime, context, &containers, &inits, phase);
    status.insert("conditions", conditions);
    for (name, list) in
        [("containerStatuses", containers), ("initContainerStatuses", inits), ("ephemeralContainerStatuses", ephemeral)]
    {
        if !list.is_empty() {
            status.insert(name, list);
        }
    }
    for kept in ["nominatedNodeName", "resize", "resourceClaimStatuses"] {
        if let Some(value) = pod.status().and_then(|status| status.get(kept)) {
            status.insert(kept, value.clone());
        }
    }
    Value::Map(status)
}

fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

fn addresses(status: &mut Map, pod: &Pod, runtime: &PodRuntime, context: &Context<'_>) {
    let list = |ips: &[SmolStr]| -> Vec<Value> { ips.iter().map(|ip| Value::from([("ip", ip.clone())])).collect() };
    if let Some(host_ip) = context.host_ips.first() {
        status.insert("hostIP", host_ip.clone());
        status.insert("hostIPs", list(context.host_ips));
    }
    let ips: &[SmolStr] = match runtime.sandboxes.first() {
        _ if pod.is_host_network() => context.host_ips,
        Some(sandbox) => &sandbox.ips,
        None => &[],
    };
    if let Some(ip) = ips.first() {
        status.insert("podIP", ip.clone());
        status.insert("podIPs", list(ips));
    } else if let Some(ip) = context.old.get("podIP").filter(|_| context.terminal) {
        // The sandbox is gone; where it was stays readable.
        status.insert("podIP", ip.clone());
        if let Some(ips) = context.old.get("podIPs") {
            status.insert("podIPs", ips.clone());
        }
    }
}

/// The statuses of the containers of one kind, in the spec's order (regular ones by name, as upstream sorts them).
fn container_statuses(pod: &Pod, kind: ContainerKind, runtime: &PodRuntime, context: &Context<'_>) -> Vec<Value> {
    let has_inits = pod.init_containers().len() > 0;
    let waiting_reason = if has_inits { "PodInitializing" } else { "ContainerCreating" };
    let (field, containers): (_, Vec<Container<'_>>) = match kind {
        ContainerKind::Regular => ("containerStatuses", pod.containers().collect()),
        ContainerKind::Init => ("initContainerStatuses", pod.init_containers().collect()),
        ContainerKind::Ephemeral => ("ephemeralContainerStatuses", pod.ephemeral_containers().collect()),
    };
    let old_status = |name: &str| context.old.list_at(&[field]).iter().find(|status| status.str_at(&["name"]) == name);

    let mut statuses = Vec::with_capacity(containers.len());
    for container in containers {
        let old = old_status(container.name());
        let mut seen = runtime.containers.iter().filter(|observed| observed.name == container.name());
        let mut status = match seen.next() {
            Some(observed) => {
                let mut status = from_runtime(container, observed, old, context);
                if let Some(previous) = seen.next() {
                    status.set(&["lastState"], state(previous, old, context, false));
                } else if let Some(last) = old.and_then(|old| old.at(&["lastState", "terminated"])) {
                    status.set(&["lastState", "terminated"], last.clone());
                }
                status
            }
            None => without_runtime(container, old, waiting_reason, pod),
        };
        wait(&mut status, container, pod, runtime, context);
        statuses.push(status);
    }
    if kind != ContainerKind::Init {
        statuses.sort_by(|a, b| a.str_at(&["name"]).cmp(b.str_at(&["name"])));
    }
    statuses
}

/// The status of a container that the runtime knows.
fn from_runtime(container: Container<'_>, observed: &Observed, old: Option<&Value>, context: &Context<'_>) -> Value {
    let mut status = empty_status(container);
    let mut restart_count = observed.restart_count;
    if observed.state == ContainerState::Unknown && was_running(old) {
        restart_count = old.and_then(|old| old.int_at(&["restartCount"])).unwrap_or(0) + 1;
    }
    status.set(&["restartCount"], restart_count);
    let image = observed.status.image.as_ref().map_or("", |image| match image.user_specified_image.as_str() {
        "" => image.image.as_str(),
        image => image,
    });
    if !image.is_empty() {
        status.set(&["image"], image);
    }
    status.set(&["imageID"], observed.status.image_ref.as_str());
    status.set(&["containerID"], container_id(observed, context));
    status.set(&["state"], state(observed, old, context, true));
    if let Some(resources) = container.at(&["resources"]).filter(|resources| !resources.is_zero()) {
        status.set(&["resources"], resources.clone());
        if let Some(requests) = resources.get("requests") {
            status.set(&["allocatedResources"], requests.clone());
        }
    }
    if let Some(user) = observed.status.user.as_ref().and_then(|user| user.linux.as_ref()) {
        let groups: Vec<Value> = user.supplemental_groups.iter().map(|&group| Value::Int(group)).collect();
        status.set(&["user", "linux", "uid"], user.uid);
        status.set(&["user", "linux", "gid"], user.gid);
        status.set(&["user", "linux", "supplementalGroups"], groups);
    }
    status
}

/// The status of a container that the runtime does not (or no longer) know.
fn without_runtime(container: Container<'_>, old: Option<&Value>, waiting_reason: &str, pod: &Pod) -> Value {
    if let Some(ended) = old.filter(|old| old.at(&["state", "terminated"]).is_some()) {
        return ended.clone();
    }
    let mut status = empty_status(container);
    status.set(&["state", "waiting", "reason"], waiting_reason);
    let Some(old) = old else { return status };
    let mut restart_count = old.int_at(&["restartCount"]).unwrap_or(0);
    if let Some(last) = old.get("lastState") {
        status.set(&["lastState"], last.clone());
    }
    if was_running(Some(old)) && old.at(&["lastState", "terminated"]).is_none() {
        // It ran and left no trace: it must have ended, though nobody knows how.
        status.set(&["lastState", "terminated"], ended_unseen(UNLOCATED_DELETED));
        restart_count += i64::from(!pod.is_deleted());
    }
    status.set(&["restartCount"], restart_count);
    status
}

fn empty_status(container: Container<'_>) -> Value {
    let mut status = Value::from([("name", container.name()), ("image", container.image()), ("imageID", "")]);
    status.set(&["ready"], false);
    status.set(&["restartCount"], 0_i64);
    status.set(&["state"], Map::default());
    status.set(&["lastState"], Map::default());
    let mounts: Vec<Value> = container
        .value()
        .list_at(&["volumeMounts"])
        .iter()
        .map(|mount| {
            let mut shown =
                Value::from([("name", mount.str_at(&["name"])), ("mountPath", mount.str_at(&["mountPath"]))]);
            if mount.bool_at(&["readOnly"]).unwrap_or(false) {
                let recursive = match mount.str_at(&["recursiveReadOnly"]) {
                    "Enabled" | "IfPossible" => "Enabled",
                    _ => "Disabled",
                };
                shown.set(&["readOnly"], true);
                shown.set(&["recursiveReadOnly"], recursive);
            }
            shown
        })
        .collect();
    if !mounts.is_empty() {
        status.set(&["volumeMounts"], mounts);
    }
    status
}

fn was_running(old: Option<&Value>) -> bool {
    old.is_some_and(|old| old.at(&["state", "running"]).is_some())
}

fn ended_unseen(message: &str) -> Value {
    let mut ended = Value::from([("reason", UNKNOWN), ("message", message)]);
    ended.set(&["exitCode"], 137_i64);
    ended.set(&["startedAt"], Value::Null);
    ended.set(&["finishedAt"], Value::Null);
    ended
}

fn container_id(observed: &Observed, context: &Context<'_>) -> String {
    format!("{}://{}", context.runtime_name, observed.id)
}

fn time(nanos: i64) -> Value {
    match nanos {
        0 => Value::Null,
        nanos => Value::Str(Timestamp::from_seconds(nanos.div_euclid(1_000_000_000)).to_time()),
    }
}

/// The `state` of a container: exactly one of waiting, running and terminated.
fn state(observed: &Observed, old: Option<&Value>, context: &Context<'_>, is_newest: bool) -> Value {
    let status = &observed.status;
    let mut state = Value::Map(Map::default());
    match observed.state {
        ContainerState::Running => state.set(&["running", "startedAt"], time(status.started_at)),
        ContainerState::Created => state.set(&["waiting"], Map::default()),
        ContainerState::Exited => {
            let mut ended = Value::Map(Map::default());
            ended.set(&["exitCode"], i64::from(status.exit_code));
            for (name, text) in [("reason", &status.reason), ("message", &status.message)] {
                if !text.is_empty() {
                    ended.set(&[name], text.as_str());
                }
            }
            ended.set(&["startedAt"], time(status.started_at));
            ended.set(&["finishedAt"], time(status.finished_at));
            ended.set(&["containerID"], container_id(observed, context));
            state.set(&["terminated"], ended);
        }
        ContainerState::Unknown if is_newest && was_running(old) => {
            state.set(&["terminated"], ended_unseen(UNLOCATED));
        }
        ContainerState::Unknown => state.set(&["waiting"], Map::default()),
    }
    state
}

/// A container that is to be started (again), and whose last try has a reason, is shown as waiting for it.
fn wait(status: &mut Value, container: Container<'_>, pod: &Pod, runtime: &PodRuntime, context: &Context<'_>) {
    let observed = runtime.container(container.name());
    if container.kind() == ContainerKind::Init {
        let succeeded = observed.is_some_and(|observed| observed.state == ContainerState::Exited && !observed.failed());
        if succeeded && !container.is_sidecar() {
            return;
        }
        let is_waiting = status.at(&["state", "waiting"]).is_some();
        if observed.is_none() && is_waiting && !container.is_sidecar() && runtime.any_regular_created(pod) {
            let message = "Unable to get init container status from container runtime and pod has been initialized, \
                           treat it as exited normally";
            let mut ended = Value::from([("reason", "Completed"), ("message", message)]);
            ended.set(&["exitCode"], 0_i64);
            ended.set(&["startedAt"], Value::Null);
            ended.set(&["finishedAt"], Value::Null);
            status.set(&["state"], Value::from([("terminated", ended)]));
            return;
        }
    }
    let starts = match container.kind() {
        ContainerKind::Ephemeral => observed.is_none(),
        _ => should_start(container, pod, runtime),
    };
    let Some((reason, message)) = context.reasons.get(container.name()).filter(|_| starts && !context.terminal) else {
        return;
    };
    if status.at(&["state", "terminated"]).is_some() {
        let ended = status.get("state").cloned().unwrap_or(Value::Null);
        status.set(&["lastState"], ended);
    }
    let mut waiting = Value::from([("reason", reason.clone())]);
    if !message.is_empty() {
        waiting.set(&["message"], message.as_str());
    }
    status.set(&["state"], Value::from([("waiting", waiting)]));
}

/// Sets `started` and `ready` from the probes.
fn mark_ready(status: &mut Value, container: Option<Container<'_>>, context: &Context<'_>) {
    let Some(container) = container else { return };
    let is_running = status.at(&["state", "running"]).is_some();
    let id = status.str_at(&["containerID"]);
    let id = SmolStr::new(id.split_once("://").map_or(id, |(_, id)| id));
    // What was reported of the same container before stands until a probe has spoken: a restart of the agent is no
    // reason to take a Pod out of its Services.
    let before = |field: &str| {
        let lists = [context.old.list_at(&["containerStatuses"]), context.old.list_at(&["initContainerStatuses"])];
        let mut olds = lists.into_iter().flatten();
        let old = olds.find(|old| old.str_at(&["name"]) == container.name())?;
        (old.str_at(&["containerID"]) == status.str_at(&["containerID"])).then(|| old.bool_at(&[field]))?
    };
    let passes = |probe: &str, result: Option<ProbeResult>, field: &str| match (container.at(&[probe]), result) {
        (None, _) => true,
        (Some(_), Some(ProbeResult::Success)) => true,
        (Some(_), Some(ProbeResult::Failure)) => false,
        (Some(_), None | Some(ProbeResult::Unknown)) => before(field).unwrap_or(false),
    };
    let started = is_running && passes("startupProbe", context.probes.startup(&id), "started");
    let is_plain_init = container.kind() == ContainerKind::Init && !container.is_sidecar();
    let ready = if is_plain_init {
        status.int_at(&["state", "terminated", "exitCode"]) == Some(0)
    } else {
        started && passes("readinessProbe", context.probes.readiness(&id), "ready")
    };
    status.set(&["started"], started);
    status.set(&["ready"], ready);
}

/// The phase (upstream's rules: regular containers count, init containers only until they are done).
fn phase(pod: &Pod, statuses: &[&Value], terminal: bool, has_started: bool) -> &'static str {
    let find = |name: &str| statuses.iter().find(|status| status.str_at(&["name"]) == name);
    let policy = pod.restart_policy();
    let ended = |status: &Value| {
        let state = status.int_at(&["state", "terminated", "exitCode"]);
        let last = status.int_at(&["lastState", "terminated", "exitCode"]);
        let code = |code: i64| i32::try_from(code).unwrap_or(i32::MAX);
        (state.map(code), last.map(code), status.at(&["state", "waiting"]).is_some())
    };
    let (mut pending_init, mut pending_sidecar, mut failed_for_good) = (0, 0, 0);
    let (mut unknown, mut running, mut waiting) = (0, 0, 0);
    let (mut stopped, mut stopped_for_good, mut succeeded) = (0, 0, 0);
    for container in pod.init_containers() {
        let status = find(container.name());
        if container.is_sidecar() {
            let Some(status) = status else {
                unknown += 1;
                continue;
            };
            match ended(status) {
                (Some(_), _, _) => {}
                (None, Some(_), true) => {}
                (None, None, true) => {
                    pending_sidecar += 1;
                    waiting += 1;
                }
                (None, _, false) => {
                    pending_sidecar += i32::from(status.bool_at(&["started"]) != Some(true));
                    running += 1;
                }
            }
            continue;
        }
        match status.map(|status| ended(status)) {
            Some((Some(code), _, _) | (None, Some(code), true)) => {
                failed_for_good += i32::from(code != 0 && !container.restarts_after(code, policy));
            }
            _ => pending_init += 1,
        }
    }
    for container in pod.containers() {
        let Some(status) = find(container.name()) else {
            unknown += 1;
            continue;
        };
        match ended(status) {
            (Some(code), _, _) => {
                stopped += 1;
                stopped_for_good += i32::from(!container.restarts_after(code, policy));
                succeeded += i32::from(code == 0);
            }
            (None, Some(code), true) => {
                stopped += 1;
                stopped_for_good += i32::from(!container.restarts_after(code, policy));
            }
            (None, None, true) => waiting += 1,
            (None, _, false) => running += 1,
        }
    }
    if failed_for_good > 0 {
        return "Failed";
    }
    let outcome = if stopped == succeeded { "Succeeded" } else { "Failed" };
    if pending_init > 0 || (pending_sidecar > 0 && !has_started) || waiting > 0 {
        "Pending"
    } else if running > 0 && unknown == 0 {
        "Running"
    } else if running == 0 && stopped > 0 && unknown == 0 {
        match terminal && !pod.is_static() {
            true => outcome,
            false if stopped != stopped_for_good => "Running",
            false => outcome,
        }
    } else {
        "Pending"
    }
}

/// A condition before its times are known.
struct Verdict {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    const TRUE: Verdict = Verdict { status: true, reason: "", message: String::new() };

    fn no(reason: &'static str, message: String) -> Verdict {
        Verdict { status: false, reason, message }
    }
}

fn conditions(
    pod: &Pod,
    runtime: &PodRuntime,
    context: &Context<'_>,
    containers: &[Value],
    inits: &[Value],
    phase: &str,
) -> Vec<Value> {
    let current = pod.status().map_or(&[][..], |status| status.list_at(&["conditions"]));
    let mut conditions: Vec<Value> =
        current.iter().filter(|condition| !OWN_CONDITIONS.contains(&condition.str_at(&["type"]))).cloned().collect();
    let containers_ready = || containers_ready(pod, containers, inits, phase);
    let verdicts = [
        ("PodReadyToStartContainers", Verdict { status: sandbox_to_create(pod, runtime).is_none(), ..Verdict::TRUE }),
        ("Initialized", initialized(pod, containers, inits, phase)),
        ("Ready", ready(pod, containers_ready(), &conditions)),
        ("ContainersReady", containers_ready()),
        ("PodScheduled", Verdict::TRUE),
    ];
    let old = |kind: &str| {
        let mut olds = context.old.list_at(&["conditions"]).iter().chain(current);
        olds.find(|condition| condition.str_at(&["type"]) == kind)
    };
    for (kind, verdict) in verdicts {
        let shown = if verdict.status { "True" } else { "False" };
        let mut condition = Value::from([("type", kind), ("status", shown)]);
        let unchanged = old(kind).filter(|old| old.str_at(&["status"]) == shown);
        match unchanged.and_then(|old| old.get("lastTransitionTime")).filter(|time| !time.is_null()) {
            Some(time) => condition.set(&["lastTransitionTime"], time.clone()),
            None => condition.set(&["lastTransitionTime"], Timestamp::from_seconds(context.now).to_time()),
        }
        condition.set(&["lastProbeTime"], Value::Null);
        condition.set(&["observedGeneration"], pod.generation());
        if !verdict.reason.is_empty() {
            condition.set(&["reason"], verdict.reason);
        }
        if !verdict.message.is_empty() {
            condition.set(&["message"], verdict.message);
        }
        conditions.push(condition);
    }
    conditions
}

/// Names in Go's way of printing a list of strings.
fn listed(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn join(parts: [(&str, &[&str]); 2]) -> String {
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    parts
        .map(|(what, names)| format!("containers with {what} status: {}", listed(names)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn containers_ready(pod: &Pod, containers: &[Value], inits: &[Value], phase: &str) -> Verdict {
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for container in pod.init_containers().filter(Container::is_sidecar).chain(pod.containers()) {
        let status = inits.iter().chain(containers).find(|status| status.str_at(&["name"]) == container.name());
        match status.map(|status| status.bool_at(&["ready"]) == Some(true)) {
            None => unknown.push(container.name()),
            Some(false) => unready.push(container.name()),
            Some(true) => {}
        }
    }
    match phase {
        "Succeeded" if unknown.is_empty() => return Verdict::no("PodCompleted", String::new()),
        "Failed" => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let message = join([("unknown", &unknown), ("unready", &unready)]);
    match message.is_empty() {
        true => Verdict::TRUE,
        false => Verdict::no("ContainersNotReady", message),
    }
}

fn ready(pod: &Pod, containers_ready: Verdict, conditions: &[Value]) -> Verdict {
    if !containers_ready.status {
        return containers_ready;
    }
    let gates = pod.spec(&["readinessGates"]).and_then(Value::as_list).unwrap_or_default();
    let mut messages = Vec::new();
    for gate in gates {
        let kind = gate.str_at(&["conditionType"]);
        match conditions.iter().find(|condition| condition.str_at(&["type"]) == kind) {
            None => messages.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(condition) if condition.str_at(&["status"]) != "True" => messages.push(format!(
                "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                condition.str_at(&["status"])
            )),
            Some(_) => {}
        }
    }
    match messages.is_empty() {
        true => Verdict::TRUE,
        false => Verdict::no("ReadinessGatesNotReady", messages.join(", ")),
    }
}

fn initialized(pod: &Pod, containers: &[Value], inits: &[Value], phase: &str) -> Verdict {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in pod.init_containers() {
        let Some(status) = inits.iter().find(|status| status.str_at(&["name"]) == container.name()) else {
            unknown.push(container.name());
            continue;
        };
        let field = if container.is_sidecar() { "started" } else { "ready" };
        if status.bool_at(&[field]) != Some(true) {
            incomplete.push(container.name());
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict { reason: "PodCompleted", ..Verdict::TRUE };
    }
    let has_started = |status: &Value| {
        status.bool_at(&["started"]) == Some(true)
            || status.at(&["state", "terminated"]).is_some()
            || status.at(&["lastState", "terminated"]).is_some()
    };
    if containers.iter().any(has_started) {
        return Verdict::TRUE;
    }
    let message = join([("unknown", &unknown), ("incomplete", &incomplete)]);
    match message.is_empty() {
        true => Verdict::TRUE,
        false => Verdict::no("ContainersNotInitialized", message),
    }
}
