//! The Node object: registered once, its status kept, its lease renewed.

use std::sync::Arc;
use std::time::Duration;

use api_schema::{Map, Value};
use api_semantics::quantity::Quantity;
use api_semantics::time::Timestamp;
use client::{Client, Error, Patch};
use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::sync::Notify;
use tracing::{info, warn};
use world::Clock;

use crate::machine::{Disk, Machine};

/// How long a lease holds, in seconds (`nodeLeaseDurationSeconds`); it is renewed four times as often.
const LEASE_SECONDS: i64 = 40;
/// How often a status that has not changed is written all the same (`nodeStatusReportFrequency`).
const REPORT_PERIOD: Duration = Duration::from_secs(300);
/// How often the status is looked at (`nodeStatusUpdateFrequency`).
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// How many images a status lists at most (`nodeStatusMaxImages`).
pub const IMAGES_MAX: usize = 50;

/// What the user says of the node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The Node's name.
    pub name: SmolStr,
    /// Labels beside the node's own.
    pub labels: Vec<(String, String)>,
    /// Taints that it registers with.
    pub taints: Vec<Value>,
    /// Whether it registers itself; else somebody else makes the Node.
    pub register: bool,
    /// How many Pods it takes.
    pub pods_max: i64,
    /// What is kept from Pods, by resource: `kubeReserved` and `systemReserved` together.
    pub reserved: Map,
    /// Memory that stays free, in bytes (`evictionHard`, `memory.available`).
    pub eviction_memory_bytes: i64,
    /// The part of the disk that stays free, in percent (`evictionHard`, `nodefs.available`).
    pub eviction_disk_percent: i64,
    /// The port of the node's own API.
    pub port: u16,
    /// The version that the node reports, such as `v1.36.2`.
    pub version: String,
}

/// What is true of the node at the moment.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Its addresses.
    pub ips: Vec<SmolStr>,
    /// The disk of the Pods' files.
    pub disk: Disk,
    /// What the runtime calls itself with its version: `containerd://2.1.9`.
    pub runtime_version: String,
    /// Why it is not ready, if it is not.
    pub not_ready: Option<String>,
    /// Pressures that are on: `MemoryPressure`, `DiskPressure`, `PIDPressure`.
    pub pressures: Vec<&'static str>,
    /// The images, the largest first: names, and size in bytes.
    pub images: Vec<(Vec<String>, u64)>,
}

/// The Node as it registers.
pub fn object(config: &NodeConfig, machine: &Machine) -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut labels = Map::default();
    for (name, value) in [
        ("beta.kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/hostname", &machine.hostname),
    ] {
        labels.insert(name, value);
    }
    // The name of the node is its hostname for the scheduler, unless the machine says otherwise.
    labels.insert("kubernetes.io/hostname", config.name.clone());
    for (name, value) in &config.labels {
        labels.insert(name.as_str(), value.as_str());
    }
    let mut node = Value::from([("apiVersion", "v1"), ("kind", "Node")]);
    node.set(&["metadata", "name"], config.name.clone());
    node.set(&["metadata", "labels"], labels);
    node.set(&["metadata", "annotations", "volumes.kubernetes.io/controller-managed-attach-detach"], "true");
    if !config.taints.is_empty() {
        node.set(&["spec", "taints"], config.taints.clone());
    }
    node
}

/// What the node has, and what of it Pods may use.
pub fn resources(config: &NodeConfig, machine: &Machine, disk: Disk) -> (Map, Map) {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let kib = |bytes: i64| format!("{}Ki", bytes / 1024);
    let mut capacity = Map::default();
    capacity.insert("cpu", machine.cpus.to_string());
    capacity.insert("memory", kib(signed(machine.memory_bytes)));
    capacity.insert("ephemeral-storage", kib(signed(disk.capacity_bytes)));
    capacity.insert("pods", config.pods_max.to_string());
    for (size_kib, count) in &machine.huge_pages {
        let (name, total) = (
            page_name(*size_kib),
            Quantity::new(signed(size_kib * count) * 1024, api_semantics::quantity::Format::BinarySi),
        );
        capacity.insert(format!("hugepages-{name}"), total.canonical());
    }

    let reserved = |resource: &str| {
        let text = config.reserved.get(resource).and_then(Value::as_str).unwrap_or("0");
        Quantity::parse(text).ok()
    };
    let whole = |resource: &str| reserved(resource).map_or(0, |quantity| quantity.value());
    let cpu_milli = signed(machine.cpus) * 1000 - reserved("cpu").map_or(0, |quantity| quantity.milli_value());
    let cpu = Quantity::from_milli(cpu_milli.max(0), api_semantics::quantity::Format::DecimalSi);
    let memory = signed(machine.memory_bytes) - whole("memory") - config.eviction_memory_bytes;
    let storage = signed(disk.capacity_bytes) / 100 * (100 - config.eviction_disk_percent) - whole("ephemeral-storage");
    let mut allocatable = capacity.clone();
    allocatable.insert("cpu", cpu.canonical());
    allocatable.insert("memory", kib(memory.max(0)));
    allocatable.insert("ephemeral-storage", storage.max(0).to_string());
    (capacity, allocatable)
}

fn page_name(size_kib: u64) -> String {
    match size_kib {
        size if size % (1024 * 1024) == 0 => format!("{}Gi", size / (1024 * 1024)),
        size if size % 1024 == 0 => format!("{}Mi", size / 1024),
        size => format!("{size}Ki"),
    }
}

/// The status of the node. Times of conditions are those of `old` where nothing changed.
pub fn status(config: &NodeConfig, machine: &Machine, facts: &NodeFacts, old: &Value, now: i64) -> Value {
    let (capacity, allocatable) = resources(config, machine, facts.disk);
    let mut addresses: Vec<Value> =
        facts.ips.iter().map(|ip| Value::from([("type", "InternalIP"), ("address", ip.as_str())])).collect();
    addresses.push(Value::from([("type", "Hostname"), ("address", config.name.as_str())]));
    let arch = object(config, machine).str_at(&["metadata", "labels", "kubernetes.io/arch"]).to_owned();
    let info = Value::from([
        ("machineID", machine.machine_id.as_str()),
        ("systemUUID", &machine.system_uuid),
        ("bootID", &machine.boot_id),
        ("kernelVersion", &machine.kernel_version),
        ("osImage", &machine.os_image),
        ("containerRuntimeVersion", &facts.runtime_version),
        ("kubeletVersion", &config.version),
        ("kubeProxyVersion", ""),
        ("operatingSystem", "linux"),
        ("architecture", &arch),
    ]);
    let images: Vec<Value> = facts
        .images
        .iter()
        .take(IMAGES_MAX)
        .map(|(names, size)| {
            let names: Vec<Value> = names.iter().map(|name| Value::from(name.as_str())).collect();
            let mut image = Value::from([("names", names)]);
            image.set(&["sizeBytes"], i64::try_from(*size).unwrap_or(i64::MAX));
            image
        })
        .collect();
    let mut status = Value::from([("capacity", capacity), ("allocatable", allocatable)]);
    status.set(&["addresses"], addresses);
    status.set(&["daemonEndpoints", "kubeletEndpoint", "Port"], i64::from(config.port));
    status.set(&["nodeInfo"], info);
    status.set(&["images"], images);
    status.set(&["conditions"], conditions(facts, old, now));
    status
}

fn conditions(facts: &NodeFacts, old: &Value, now: i64) -> Vec<Value> {
    let pressure = |kind: &'static str, off: (&'static str, &'static str), on: (&'static str, &'static str)| {
        let is_on = facts.pressures.contains(&kind);
        let (reason, message) = if is_on { on } else { off };
        (kind, is_on, reason, message.to_owned())
    };
    let ready = match &facts.not_ready {
        None => ("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(why) => ("Ready", false, "KubeletNotReady", why.clone()),
    };
    let all = [
        pressure(
            "MemoryPressure",
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ),
        pressure(
            "PIDPressure",
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ),
        ready,
    ];
    let now = Timestamp::from_seconds(now).to_time();
    all.into_iter()
        .map(|(kind, is_true, reason, message)| {
            let shown = if is_true { "True" } else { "False" };
            let before = old.list_at(&["conditions"]).iter().find(|condition| condition.str_at(&["type"]) == kind);
            let since = before.filter(|before| before.str_at(&["status"]) == shown);
            let since = since.map_or("", |before| before.str_at(&["lastTransitionTime"]));
            let since = if since.is_empty() { now.as_str() } else { since };
            Value::from([
                ("type", kind),
                ("status", shown),
                ("lastHeartbeatTime", &now),
                ("lastTransitionTime", since),
                ("reason", reason),
                ("message", &message),
            ])
        })
        .collect()
}

/// Whether two statuses differ in more than when they were made.
fn differ(a: &Value, b: &Value) -> bool {
    let bare = |status: &Value| {
        let mut status = status.clone();
        let mut conditions = status.list_at(&["conditions"]).to_vec();
        for condition in &mut conditions {
            condition.remove(&["lastHeartbeatTime"]);
        }
        status.set(&["conditions"], conditions);
        status
    };
    bare(a) != bare(b)
}

/// Keeps the Node and its lease at the API.
pub struct NodeKeeper {
    client: Client,
    config: NodeConfig,
    machine: Machine,
    facts: Mutex<NodeFacts>,
    changed: Notify,
    clock: Arc<dyn Clock>,
}

impl NodeKeeper {
    /// A keeper; [`NodeKeeper::run`] does the work.
    pub fn new(client: Client, config: NodeConfig, machine: Machine, clock: Arc<dyn Clock>) -> Arc<NodeKeeper> {
        let facts = Mutex::new(NodeFacts {
            not_ready: Some("the runtime was not asked yet".to_owned()),
            ..NodeFacts::default()
        });
        Arc::new(NodeKeeper { client, config, machine, facts, changed: Notify::new(), clock })
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The configuration.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Changes what is true of the node; what others see follows at once if it matters to them.
    pub fn update(&self, change: impl FnOnce(&mut NodeFacts)) {
        change(&mut self.facts.lock());
        self.changed.notify_one();
    }

    /// Registers the node, then keeps status and lease until the future is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut node = loop {
            match self.register().await {
                Ok(node) => break node,
                Err(error) => {
                    warn!(node = %self.config.name, %error, "cannot register the node");
                    tokio::time::sleep(error.retry_after().unwrap_or(Duration::from_secs(1))).await;
                }
            }
        };
        let lease = self.clone();
        let uid = SmolStr::new(node.str_at(&["metadata", "uid"]));
        // Ends with this future.
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { lease.keep_lease(uid).await });

        let mut written = self.clock.monotonic();
        let mut is_first = true;
        loop {
            let facts = self.facts.lock().clone();
            let old = node.get("status").cloned().unwrap_or(Value::Null);
            let status = status(&self.config, &self.machine, &facts, &old, self.clock.now().seconds);
            let is_due = self.clock.monotonic().saturating_since(written) >= REPORT_PERIOD;
            if is_first || is_due || differ(&status, &pick(&old, &status)) {
                match self.write(&status).await {
                    Ok(now) => {
                        (node, written, is_first) = (now, self.clock.monotonic(), false);
                    }
                    Err(error) => {
                        warn!(node = %self.config.name, %error, "cannot write the node's status");
                        if error.is_not_found() && self.config.register {
                            match self.register().await {
                                Ok(now) => node = now,
                                Err(error) => warn!(node = %self.config.name, %error, "cannot register the node again"),
                            }
                        }
                        tokio::time::sleep(error.retry_after().unwrap_or(Duration::from_secs(1))).await;
                        continue;
                    }
                }
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(LOOK_PERIOD) => {}
            }
        }
    }

    async fn register(&self) -> Result<Value, Error> {
        let nodes = self.client.resource("", "v1", "nodes");
        if let Some(existing) = nodes.get_if_exists(&self.config.name).await? {
            let wanted = object(&self.config, &self.machine);
            let labels = wanted.at(&["metadata", "labels"]).cloned().unwrap_or(Value::Null);
            let is_current =
                wanted.map_at(&["metadata", "labels"]).into_iter().flat_map(Map::iter).all(|(name, value)| {
                    existing.map_at(&["metadata", "labels"]).and_then(|labels| labels.get(name)) == Some(value)
                });
            if is_current {
                return Ok(existing);
            }
            let patch = Value::from([("metadata", Value::from([("labels", labels)]))]);
            return nodes.patch(&self.config.name, &Patch::Merge(&patch)).await;
        }
        if !self.config.register {
            return nodes.get(&self.config.name).await;
        }
        let mut node = object(&self.config, &self.machine);
        let facts = self.facts.lock().clone();
        node.set(&["status"], status(&self.config, &self.machine, &facts, &Value::Null, self.clock.now().seconds));
        match nodes.create(&node).await {
            Ok(node) => {
                info!(node = %self.config.name, "registered");
                Ok(node)
            }
            Err(error) if error.is_already_exists() => nodes.get(&self.config.name).await,
            Err(error) => Err(error),
        }
    }

    async fn write(&self, status: &Value) -> Result<Value, Error> {
        let mut status = status.clone();
        // Without this, addresses would be merged by their type and old ones would stay.
        let addresses = status.list_at(&["addresses"]).to_vec();
        let replace = Value::from([("$patch", "replace")]);
        status.set(&["addresses"], std::iter::once(replace).chain(addresses).collect::<Vec<_>>());
        let patch = Value::from([("status", status)]);
        self.client.resource("", "v1", "nodes").patch_status(&self.config.name, &Patch::Strategic(&patch)).await
    }

    async fn keep_lease(&self, node_uid: SmolStr) {
        let leases = self.client.resource("coordination.k8s.io", "v1", "leases").namespace("kube-node-lease");
        let mut held: Option<Value> = None;
        loop {
            let result = match held.take() {
                Some(mut lease) => {
                    self.renew(&mut lease, &node_uid);
                    leases.update(&lease).await
                }
                None => match leases.get_if_exists(&self.config.name).await {
                    Ok(Some(mut lease)) => {
                        self.renew(&mut lease, &node_uid);
                        leases.update(&lease).await
                    }
                    Ok(None) => {
                        let mut lease = Value::from([("apiVersion", "coordination.k8s.io/v1"), ("kind", "Lease")]);
                        lease.set(&["metadata", "name"], self.config.name.clone());
                        lease.set(&["metadata", "namespace"], "kube-node-lease");
                        self.renew(&mut lease, &node_uid);
                        leases.create(&lease).await
                    }
                    Err(error) => Err(error),
                },
            };
            let pause = match result {
                Ok(lease) => {
                    held = Some(lease);
                    Duration::from_secs(LEASE_SECONDS.unsigned_abs() / 4)
                }
                Err(error) => {
                    warn!(node = %self.config.name, %error, "cannot renew the node's lease");
                    error.retry_after().unwrap_or(Duration::from_millis(200))
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn renew(&self, lease: &mut Value, node_uid: &SmolStr) {
        let now = self.clock.now();
        let now = Timestamp { seconds: now.seconds, nanos: now.nanos };
        lease.set(&["spec", "holderIdentity"], self.config.name.clone());
        lease.set(&["spec", "leaseDurationSeconds"], LEASE_SECONDS);
        lease.set(&["spec", "renewTime"], now.to_micro_time());
        let owner = Value::from([
            ("apiVersion", "v1"),
            ("kind", "Node"),
            ("name", self.config.name.as_str()),
            ("uid", node_uid.as_str()),
        ]);
        lease.set(&["metadata", "ownerReferences"], vec![owner]);
    }
}

/// Of `old`, the fields that `new` has.
fn pick(old: &Value, new: &Value) -> Value {
    let fields = new.as_map().into_iter().flat_map(Map::keys);
    let mut picked = Map::default();
    for field in fields {
        if let Some(value) = old.get(field) {
            picked.insert(field.clone(), value.clone());
        }
    }
    Value::Map(picked)
}
