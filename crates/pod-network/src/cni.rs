//! CNI plugins: programs that connect a network namespace (CNI specification 1.0).

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use runtime::NetworkPod;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The longest that one plugin may take.
const PLUGIN_TIME_MAX: Duration = Duration::from_secs(120);
/// The interface in the pod.
const INTERFACE: &str = "eth0";
/// The version of the specification that is asked for if a configuration names none.
const VERSION_DEFAULT: &str = "0.1.0";

/// Where CNI's files are.
#[derive(Clone, Debug)]
pub struct CniConfig {
    /// Network configurations; the first one by name counts.
    pub config_folder: PathBuf,
    /// Plugins.
    pub plugin_folders: Vec<PathBuf>,
    /// What plugins answered, for the pods that they have connected.
    pub state_folder: PathBuf,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// A configuration cannot be read.
    #[error("error loading CNI config file {}: {why}", file.display())]
    Config {
        /// Which one.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// A plugin is not installed.
    #[error("failed to find plugin {name:?} in path {folders:?}")]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// A plugin cannot be run.
    #[error("run plugin {name:?}: {source}")]
    Run {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A plugin refuses.
    #[error("plugin type={name:?} failed ({command}): {message}")]
    Refused {
        /// Its name.
        name: String,
        /// `add`, `delete`, `check`.
        command: &'static str,
        /// Its words.
        message: String,
    },
    /// What plugins answered cannot be kept.
    #[error("keep the answer of plugins: {0}")]
    State(#[source] io::Error),
}

/// A network: its name and its plugins, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    name: String,
    version: String,
    disable_check: bool,
    plugins: Vec<Map<String, Value>>,
}

/// CNI.
#[derive(Debug)]
pub struct Cni {
    config: CniConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Add,
    Check,
    Del,
}

impl Verb {
    fn command(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Check => "CHECK",
            Verb::Del => "DEL",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::Check => "check",
            Verb::Del => "delete",
        }
    }
}

impl Cni {
    /// CNI with its files there.
    pub fn new(config: CniConfig) -> Cni {
        Cni { config }
    }

    /// The network that is configured, if any.
    ///
    /// # Errors
    /// If a configuration is there and cannot be understood.
    pub fn configured(&self) -> Result<Option<NetworkList>, CniError> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.config.config_folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension().is_some_and(|ext| ["conflist", "conf", "json"].contains(&&*ext.to_string_lossy()))
            })
            .collect();
        files.sort();
        let Some(file) = files.into_iter().next() else { return Ok(None) };
        let failed = |why: String| CniError::Config { file: file.clone(), why };
        let text = fs::read(&file).map_err(|error| failed(error.to_string()))?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        parse(&value).map(Some).map_err(failed)
    }

    /// Connects a pod; its addresses.
    ///
    /// # Errors
    /// If a plugin is missing or refuses. What was done is taken back by [`Cni::delete`].
    pub async fn add(&self, list: &NetworkList, pod: &NetworkPod) -> Result<Vec<IpAddr>, CniError> {
        // A plugin that is missing has set up nothing; a pod must not wait for it to be deleted.
        for plugin in &list.plugins {
            self.find(plugin.get("type").and_then(Value::as_str).unwrap_or_default())?;
        }
        // Kept first: should this program die in between, the pod can still be taken down.
        self.keep(pod, list, &Value::Null)?;
        let mut result = Value::Null;
        for plugin in &list.plugins {
            result = self.call(Verb::Add, list, plugin, pod, &result).await?;
        }
        self.keep(pod, list, &result)?;
        Ok(addresses(&result))
    }

    /// Whether a pod was connected by plugins.
    pub fn has(&self, pod: &NetworkPod) -> bool {
        self.state_file(pod).exists()
    }

    /// Asks the plugins whether a pod is connected still.
    ///
    /// # Errors
    /// If one of them says no.
    pub async fn check(&self, pod: &NetworkPod) -> Result<(), CniError> {
        let Some((list, result)) = self.kept(pod)? else { return Ok(()) };
        // CHECK came with 0.4.0.
        if list.disable_check || list.version.as_str() < "0.4.0" {
            return Ok(());
        }
        for plugin in &list.plugins {
            self.call(Verb::Check, &list, plugin, pod, &result).await?;
        }
        Ok(())
    }

    /// Disconnects a pod that plugins have connected; nothing to do for others.
    ///
    /// # Errors
    /// If a plugin refuses; it can be tried again.
    pub async fn delete(&self, pod: &NetworkPod) -> Result<(), CniError> {
        let Some((list, result)) = self.kept(pod)? else { return Ok(()) };
        for plugin in list.plugins.iter().rev() {
            self.call(Verb::Del, &list, plugin, pod, &result).await?;
        }
        match fs::remove_file(self.state_file(pod)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CniError::State(error)),
            _ => Ok(()),
        }
    }

    async fn call(
        &self,
        verb: Verb,
        list: &NetworkList,
        plugin: &Map<String, Value>,
        pod: &NetworkPod,
        previous: &Value,
    ) -> Result<Value, CniError> {
        let name = plugin.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let program = self.find(&name)?;
        let input = input(list, plugin, pod, previous).to_string();
        let path = std::env::join_paths(&self.config.plugin_folders).unwrap_or_default();
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            pod.namespace, pod.name, pod.id, pod.uid
        );
        let run = async {
            let mut child = Command::new(&program)
                .env("CNI_COMMAND", verb.command())
                .env("CNI_CONTAINERID", &pod.id)
                .env(
                    "CNI_NETNS",
                    if pod.namespace_path.exists() { pod.namespace_path.as_os_str() } else { "".as_ref() },
                )
                .env("CNI_IFNAME", INTERFACE)
                .env("CNI_ARGS", args)
                .env("CNI_PATH", path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // A plugin that ends without reading tells why on its own.
                drop(stdin.write_all(input.as_bytes()).await);
            }
            child.wait_with_output().await
        };
        let failed = |source: io::Error| CniError::Run { name: name.clone(), source };
        let output = match tokio::time::timeout(PLUGIN_TIME_MAX, run).await {
            Ok(output) => output.map_err(failed)?,
            Err(_) => return Err(failed(io::Error::from(io::ErrorKind::TimedOut))),
        };
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if output.status.success() {
            return Ok(answer);
        }
        let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let message = match (text("msg"), text("details")) {
            (message, _) if message.is_empty() => {
                let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                if words.is_empty() {
                    format!("netplugin failed with no error message: {}", output.status)
                } else {
                    words
                }
            }
            (message, details) if details.is_empty() => message,
            (message, details) => format!("{message}; {details}"),
        };
        Err(CniError::Refused { name, command: verb.word(), message })
    }

    fn find(&self, name: &str) -> Result<PathBuf, CniError> {
        let folders = &self.config.plugin_folders;
        let is_plain = !name.is_empty() && !name.contains('/');
        let found = folders.iter().map(|folder| folder.join(name)).find(|path| is_plain && path.is_file());
        found.ok_or_else(|| CniError::Missing { name: name.to_owned(), folders: folders.clone() })
    }

    fn state_file(&self, pod: &NetworkPod) -> PathBuf {
        self.config.state_folder.join(format!("{}.json", pod.id))
    }

    fn keep(&self, pod: &NetworkPod, list: &NetworkList, result: &Value) -> Result<(), CniError> {
        let record = json!({
            "name": list.name, "cniVersion": list.version, "disableCheck": list.disable_check,
            "plugins": list.plugins, "result": result,
        });
        let file = self.state_file(pod);
        let written = fs::create_dir_all(&self.config.state_folder).and_then(|()| {
            let draft = file.with_extension("new");
            fs::write(&draft, record.to_string())?;
            fs::rename(draft, &file)
        });
        written.map_err(CniError::State)
    }

    fn kept(&self, pod: &NetworkPod) -> Result<Option<(NetworkList, Value)>, CniError> {
        let file = self.state_file(pod);
        let text = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(CniError::State)?,
        };
        let failed = |why: String| CniError::Config { file: file.clone(), why };
        let record: Value = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        let list = parse(&record).map_err(failed)?;
        Ok(Some((list, record.get("result").cloned().unwrap_or(Value::Null))))
    }
}

/// Reads a list of plugins, or a single one.
fn parse(value: &Value) -> Result<NetworkList, String> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = text("name");
    if name.is_empty() {
        return Err("no network name".to_owned());
    }
    let version = Some(text("cniVersion")).filter(|version| !version.is_empty());
    let plugins = match value.get("plugins") {
        Some(Value::Array(plugins)) => plugins.iter().filter_map(Value::as_object).cloned().collect(),
        Some(_) => return Err("plugins is no list".to_owned()),
        None => value.as_object().cloned().into_iter().collect::<Vec<_>>(),
    };
    if plugins.is_empty() {
        return Err("no plugins in list".to_owned());
    }
    if plugins.iter().any(|plugin| plugin.get("type").and_then(Value::as_str).is_none_or(str::is_empty)) {
        return Err("missing 'type'".to_owned());
    }
    let disable_check = value.get("disableCheck").and_then(Value::as_bool).unwrap_or(false);
    Ok(NetworkList { name, version: version.unwrap_or_else(|| VERSION_DEFAULT.to_owned()), disable_check, plugins })
}

/// What a plugin reads: its own configuration, the network's name and version, what the one before it answered, and what
/// it says it can do with the pod.
fn input(list: &NetworkList, plugin: &Map<String, Value>, pod: &NetworkPod, previous: &Value) -> Value {
    let mut input = plugin.clone();
    input.insert("name".to_owned(), json!(list.name));
    input.insert("cniVersion".to_owned(), json!(list.version));
    if !previous.is_null() {
        input.insert("prevResult".to_owned(), previous.clone());
    }
    let can = |what: &str| plugin.get("capabilities").and_then(|all| all.get(what)) == Some(&Value::Bool(true));
    let mut runtime = Map::new();
    let ports: Vec<Value> = pod
        .port_mappings
        .iter()
        .filter(|mapping| mapping.host_port != 0)
        .map(|mapping| {
            let mut port = json!({
                "hostPort": mapping.host_port, "containerPort": mapping.container_port, "protocol": mapping.protocol,
            });
            if !mapping.host_ip.is_empty() {
                port["hostIP"] = json!(mapping.host_ip);
            }
            port
        })
        .collect();
    if can("portMappings") && !ports.is_empty() {
        runtime.insert("portMappings".to_owned(), Value::Array(ports));
    }
    if can("io.kubernetes.cri.pod-annotations") {
        runtime.insert("io.kubernetes.cri.pod-annotations".to_owned(), json!(pod.annotations));
    }
    if !runtime.is_empty() {
        input.insert("runtimeConfig".to_owned(), Value::Object(runtime));
    }
    Value::Object(input)
}

/// The addresses in an answer: `ips` of versions since 0.3.0, `ip4` and `ip6` of those before.
fn addresses(result: &Value) -> Vec<IpAddr> {
    let bare = |address: &Value| address.as_str()?.split('/').next()?.parse().ok();
    let ips = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    let mut found: Vec<IpAddr> = ips.filter_map(|ip| bare(ip.get("address")?)).collect();
    for old in ["ip4", "ip6"] {
        found.extend(result.get(old).and_then(|ip| bare(ip.get("ip")?)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_old_and_new_answers() {
        let check = |answer: Value, expected: &[&str]| {
            let shown: Vec<String> = addresses(&answer).iter().map(IpAddr::to_string).collect();
            assert_eq!(shown, expected, "{answer}");
        };
        check(json!({"ips": [{"address": "10.1.0.5/24"}, {"address": "fd00::5/64"}]}), &["10.1.0.5", "fd00::5"]);
        check(json!({"ip4": {"ip": "10.1.0.5/24"}}), &["10.1.0.5"]);
        check(json!({}), &[]);
    }

    #[test]
    fn configurations_say_what_is_wrong_with_them() {
        let check = |config: Value, expected: &str| assert_eq!(parse(&config).err().unwrap_or_default(), expected);
        check(json!({"name": "n", "type": "bridge"}), "");
        check(json!({"name": "n", "plugins": [{"type": "bridge"}]}), "");
        check(json!({"plugins": []}), "no network name");
        check(json!({"name": "n", "plugins": []}), "no plugins in list");
        check(json!({"name": "n", "plugins": [{}]}), "missing 'type'");
        check(json!({"name": "n", "plugins": 3}), "plugins is no list");
    }

    #[test]
    fn plugins_are_told_what_they_can_use() {
        let list =
            NetworkList { name: "n".to_owned(), version: "1.0.0".to_owned(), disable_check: false, plugins: vec![] };
        let plugin = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        let port =
            runtime::PortMapping { protocol: "tcp", container_port: 80, host_port: 8080, host_ip: String::new() };
        let pod = NetworkPod { port_mappings: vec![port], ..NetworkPod::default() };
        let told = input(&list, plugin.as_object().expect("an object"), &pod, &json!({"ips": []}));
        assert_eq!(
            told["runtimeConfig"]["portMappings"],
            json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}])
        );
        assert_eq!(told["prevResult"], json!({"ips": []}));
        let plain = input(&list, json!({"type": "bridge"}).as_object().expect("an object"), &pod, &Value::Null);
        assert_eq!(plain.get("runtimeConfig"), None);
    }
}
