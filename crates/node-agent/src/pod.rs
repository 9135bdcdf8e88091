//! A Pod as the node reads it: the API's object, and names for what the agent asks of it.

use std::fmt;
use std::sync::Arc;

use api_schema::{Map, Value};
use api_semantics::time::rfc3339;
use smol_str::SmolStr;

/// Which Pod, for people and for the API: namespace and name. Another Pod may bear it later; a [`Uid`] never comes again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// The namespace.
    pub namespace: SmolStr,
    /// The name in it.
    pub name: SmolStr,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The identity of one Pod for all time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(pub SmolStr);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When a container starts again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// If its exit code was not zero.
    OnFailure,
    /// Never.
    Never,
}

impl RestartPolicy {
    fn read(text: &str) -> Option<RestartPolicy> {
        match text {
            "Always" => Some(RestartPolicy::Always),
            "OnFailure" => Some(RestartPolicy::OnFailure),
            "Never" => Some(RestartPolicy::Never),
            _ => None,
        }
    }
}

/// A Pod, cheap to clone.
#[derive(Clone, Debug)]
pub struct Pod {
    object: Arc<Value>,
    key: PodKey,
    uid: Uid,
}

impl Pod {
    /// The Pod in an object of the API.
    pub fn new(object: Arc<Value>) -> Pod {
        let metadata = |field| SmolStr::new(object.str_at(&["metadata", field]));
        let key = PodKey { namespace: metadata("namespace"), name: metadata("name") };
        let uid = Uid(metadata("uid"));
        Pod { object, key, uid }
    }

    /// The whole object.
    pub fn object(&self) -> &Arc<Value> {
        &self.object
    }

    /// Namespace and name.
    pub fn key(&self) -> &PodKey {
        &self.key
    }

    /// The identity.
    pub fn uid(&self) -> &Uid {
        &self.uid
    }

    /// `metadata.generation`, or zero.
    pub fn generation(&self) -> i64 {
        self.object.int_at(&["metadata", "generation"]).unwrap_or(0)
    }

    /// A label or nothing.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.object.map_at(&["metadata", "labels"])?.get(name)?.as_str()
    }

    /// An annotation or nothing.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.object.map_at(&["metadata", "annotations"])?.get(name)?.as_str()
    }

    /// A field of the spec; [`Value::Null`]-like emptiness if absent.
    pub fn spec(&self, path: &[&str]) -> Option<&Value> {
        self.object.get("spec")?.at(path)
    }

    /// A text of the spec, or the empty one.
    pub fn spec_str(&self, field: &str) -> &str {
        self.object.str_at(&["spec", field])
    }

    /// A switch of the spec, off if absent.
    pub fn spec_bool(&self, field: &str) -> bool {
        self.object.bool_at(&["spec", field]).unwrap_or(false)
    }

    /// The status that the API holds.
    pub fn status(&self) -> Option<&Value> {
        self.object.get("status")
    }

    /// `status.phase` of the API.
    pub fn phase(&self) -> &str {
        self.object.str_at(&["status", "phase"])
    }

    /// Whether the API says that it has ended for good.
    pub fn is_terminal(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    /// Whether somebody asked for its deletion.
    pub fn is_deleted(&self) -> bool {
        !self.object.str_at(&["metadata", "deletionTimestamp"]).is_empty()
    }

    /// `metadata.deletionGracePeriodSeconds`.
    pub fn deletion_grace_seconds(&self) -> Option<i64> {
        self.object.int_at(&["metadata", "deletionGracePeriodSeconds"])
    }

    /// `spec.terminationGracePeriodSeconds`, 30 if absent.
    pub fn grace_seconds(&self) -> i64 {
        self.object.int_at(&["spec", "terminationGracePeriodSeconds"]).unwrap_or(30)
    }

    /// `status.startTime` in seconds since 1970.
    pub fn start_time(&self) -> Option<i64> {
        rfc3339(self.object.str_at(&["status", "startTime"]))
    }

    /// The Pod's restart policy; the API defaults it to Always.
    pub fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::read(self.spec_str("restartPolicy")).unwrap_or(RestartPolicy::Always)
    }

    /// Whether it uses the network of the node.
    pub fn is_host_network(&self) -> bool {
        self.spec_bool("hostNetwork")
    }

    /// Where it comes from: the API, or a manifest on the node (`kubernetes.io/config.source`).
    pub fn is_static(&self) -> bool {
        self.annotation("kubernetes.io/config.source").is_some_and(|source| source != "api")
    }

    /// Whether it is the API's image of a static Pod (`kubernetes.io/config.mirror`).
    pub fn is_mirror(&self) -> bool {
        self.annotation("kubernetes.io/config.mirror").is_some()
    }

    /// The regular containers.
    pub fn containers(&self) -> impl ExactSizeIterator<Item = Container<'_>> + DoubleEndedIterator {
        self.containers_at("containers", ContainerKind::Regular)
    }

    /// The init containers, sidecars among them.
    pub fn init_containers(&self) -> impl ExactSizeIterator<Item = Container<'_>> + DoubleEndedIterator {
        self.containers_at("initContainers", ContainerKind::Init)
    }

    /// The ephemeral containers.
    pub fn ephemeral_containers(&self) -> impl ExactSizeIterator<Item = Container<'_>> + DoubleEndedIterator {
        self.containers_at("ephemeralContainers", ContainerKind::Ephemeral)
    }

    /// Every container.
    pub fn all_containers(&self) -> impl Iterator<Item = Container<'_>> {
        self.init_containers().chain(self.containers()).chain(self.ephemeral_containers())
    }

    /// The container of a name, of whatever kind.
    pub fn container(&self, name: &str) -> Option<Container<'_>> {
        self.all_containers().find(|container| container.name() == name)
    }

    fn containers_at(
        &self,
        field: &str,
        kind: ContainerKind,
    ) -> impl ExactSizeIterator<Item = Container<'_>> + DoubleEndedIterator {
        self.object.list_at(&["spec", field]).iter().map(move |value| Container { value, kind })
    }
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// Runs before the others, or beside them (a sidecar).
    Init,
    /// The Pod's work.
    Regular,
    /// Added later to look at the others.
    Ephemeral,
}

/// One container of a Pod's spec.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    value: &'a Value,
    kind: ContainerKind,
}

impl<'a> Container<'a> {
    /// The fields as the API has them.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// What it is for.
    pub fn kind(&self) -> ContainerKind {
        self.kind
    }

    /// Its name in the Pod.
    pub fn name(&self) -> &'a str {
        self.value.str_at(&["name"])
    }

    /// The image as the user wrote it.
    pub fn image(&self) -> &'a str {
        self.value.str_at(&["image"])
    }

    /// A field, by path.
    pub fn at(&self, path: &[&str]) -> Option<&'a Value> {
        self.value.at(path)
    }

    /// A map, by path.
    pub fn map_at(&self, path: &[&str]) -> Option<&'a Map> {
        self.value.map_at(path)
    }

    /// An init container that runs as long as the Pod (KEP-753).
    pub fn is_sidecar(&self) -> bool {
        self.kind == ContainerKind::Init && self.value.str_at(&["restartPolicy"]) == "Always"
    }

    /// Its own restart policy, if it has one (KEP-5307 and sidecars).
    pub fn own_restart_policy(&self) -> Option<RestartPolicy> {
        RestartPolicy::read(self.value.str_at(&["restartPolicy"]))
    }

    /// Whether it starts again after it ended with `exit_code` (KEP-5307: own rules, own policy, then the Pod's).
    pub fn restarts_after(&self, exit_code: i32, pod: RestartPolicy) -> bool {
        let policy = match self.own_restart_policy() {
            Some(_) if self.has_rule_for(exit_code) => return true,
            Some(own) => own,
            None => pod,
        };
        match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
    }

    fn has_rule_for(&self, exit_code: i32) -> bool {
        self.value.list_at(&["restartPolicyRules"]).iter().any(|rule| {
            let listed =
                rule.list_at(&["exitCodes", "values"]).iter().any(|code| code.as_int() == Some(exit_code.into()));
            match rule.str_at(&["exitCodes", "operator"]) {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    }

    /// A number that changes when the container must be made anew: when its name or image changes.
    pub fn hash(&self) -> u32 {
        // FNV-1a, 32 bits: kubelet's choice, so that the label looks alike.
        let text = format!("{{\"image\":\"{}\",\"name\":\"{}\"}}", self.image(), self.name());
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}
