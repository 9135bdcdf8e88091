//! Pods' networks with the real kernel, in network namespaces of the test's own: the bridge, and Debian's CNI plugins.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::CloneFlags;
use pod_network::addresses::Range;
use pod_network::{BridgeConfig, CniConfig, PodNet};
use runtime::{NetworkPod, PodNetwork as _, PortMapping};

/// A node and one pod's network namespace, which a process holds open.
struct Machine {
    folder: tempfile::TempDir,
    holder: Child,
    tokio: tokio::runtime::Runtime,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Runs a test on a thread with a network of its own.
fn on_a_machine(test: impl FnOnce(&Machine) + Send) {
    std::thread::scope(|scope| {
        let body = || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("the tests run as root");
            ip("link set lo up");
            // It says a word once it is in a namespace of its own, and ends with its standard input.
            let mut holder = Command::new("unshare")
                .args(["--net", "sh", "-c", "echo; read word"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("unshare");
            let mut word = [0];
            holder.stdout.take().expect("piped").read_exact(&mut word).expect("it says a word");
            // Netlink's sockets are of the thread that opens them: all work is done on this one.
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            let machine = Machine { folder: tempfile::tempdir().expect("a folder"), holder, tokio };
            fs::create_dir(machine.folder.path().join("net.d")).expect("a folder");
            test(&machine);
        };
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn ip(line: &str) -> String {
    let output = Command::new("ip").args(line.split(' ')).output().expect("ip (package iproute2)");
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Machine {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn network(&self, bridge: bool) -> PodNet {
        let range = Range::parse("10.77.0.0/24").expect("a range");
        let bridge =
            bridge.then(|| BridgeConfig { name: "test0".into(), range, mtu: None, state_folder: self.path("bridge") });
        let cni = CniConfig {
            config_folder: self.path("net.d"),
            plugin_folders: vec![self.path("bin"), Path::new("/usr/lib/cni").to_owned()],
            state_folder: self.path("cni"),
        };
        PodNet::new(cni, bridge)
    }

    fn pod(&self, id: &str) -> NetworkPod {
        let port = PortMapping { protocol: "tcp", container_port: 80, host_port: 8080, host_ip: String::new() };
        NetworkPod {
            id: id.to_owned(),
            namespace_path: format!("/proc/{}/ns/net", self.holder.id()).into(),
            name: "pod".to_owned(),
            namespace: "default".to_owned(),
            uid: "uid".to_owned(),
            port_mappings: vec![port],
            ..NetworkPod::default()
        }
    }

    fn configure(&self, name: &str, text: &str) {
        fs::write(self.path("net.d").join(name), text).expect("write");
    }

    /// One connection to a port of the node comes out of the pod's port.
    fn port_leads_to_pod(&self, address: &str) {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("the namespace");
        let (tell, told) = std::sync::mpsc::channel();
        let pod = std::thread::spawn(move || {
            nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET).expect("enter the pod");
            let listener = TcpListener::bind("0.0.0.0:80").expect("listen in the pod");
            tell.send(()).expect("the test waits");
            listener.accept().expect("a connection").0.write_all(b"pod").expect("write");
        });
        told.recv().expect("the pod listens");
        let mut said = String::new();
        TcpStream::connect(address).expect("connect").read_to_string(&mut said).expect("read");
        pod.join().expect("the pod's thread");
        assert_eq!(said, "pod");
    }
}

/// Sets a pod up twice, uses it, takes it down twice.
fn life(machine: &Machine, network: &PodNet, gateway: &str, again: bool) {
    let pod = machine.pod("a");
    let wait = &machine.tokio;
    assert_eq!(network.ready(), Ok(()));
    let ips = wait.block_on(network.setup(&pod)).expect("setup");
    assert_eq!(ips.len(), 1, "{ips:?}");
    if again {
        assert_eq!(wait.block_on(network.setup(&pod)).expect("once more"), ips);
    }
    wait.block_on(network.check(&pod)).expect("check");
    machine.port_leads_to_pod(&format!("{}:80", ips[0]));
    machine.port_leads_to_pod(&format!("{gateway}:8080"));
    let pod = NetworkPod { ips: ips.clone(), ..pod };
    wait.block_on(network.teardown(&pod)).expect("teardown");
    assert!(wait.block_on(network.check(&pod)).is_err(), "the check sees that it is gone");
    wait.block_on(network.teardown(&pod)).expect("once more");
    assert_eq!(ip("-o link show type veth"), "");
    assert!(TcpStream::connect(format!("{gateway}:8080")).is_err(), "the port is closed");
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_bridge_connects_pods_and_leaves_nothing() {
    on_a_machine(|machine| {
        let network = machine.network(true);
        life(machine, &network, "10.77.0.1", true);
        assert_eq!(files(&machine.path("bridge/addresses")), ["last"]);
        // One that starts anew finds what the one before it has set up.
        let pod = machine.pod("b");
        let ips = machine.tokio.block_on(network.setup(&pod)).expect("setup");
        assert_eq!(ips, ["10.77.0.3".parse::<IpAddr>().expect("an address")]);
        let next = machine.network(true);
        machine.tokio.block_on(next.check(&pod)).expect("check");
        machine.tokio.block_on(next.teardown(&pod)).expect("teardown");
        assert_eq!(ip("-o link show type veth"), "");
    });
}

#[test]
fn debians_plugins_connect_pods_and_leave_nothing() {
    on_a_machine(|machine| {
        // Debian's portmap wants chains of IPv6 in its CHECK, also for a pod that has no such address.
        let data = machine.path("ipam").display().to_string();
        let list = serde_json::json!({"cniVersion": "1.0.0", "name": "test", "disableCheck": true, "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
             "ipam": {"type": "host-local", "dataDir": data, "ranges": [[{"subnet": "10.78.0.0/24"}]],
                      "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        machine.configure("10-test.conflist", &list.to_string());
        // Plugins refuse to connect a pod twice; the runtime does not try.
        life(machine, &machine.network(true), "10.78.0.1", false);
        assert_eq!(files(&machine.path("ipam/test")), ["last_reserved_ip.0", "lock"]);
        assert_eq!(files(&machine.path("cni")), [""; 0]);
    });
}

#[test]
fn networks_that_cannot_be_say_why() {
    // The configuration, and what setting up a pod complains of.
    let cases = [
        ("{", "error loading CNI config file"),
        (r#"{"name": "n", "plugins": []}"#, "no plugins in list"),
        (r#"{"cniVersion": "1.0.0", "name": "n", "type": "nobody"}"#, "failed to find plugin \"nobody\" in path"),
        (r#"{"cniVersion": "1.0.0", "name": "n", "type": "../sh"}"#, "failed to find plugin"),
        (
            r#"{"cniVersion": "1.0.0", "name": "n", "type": "refuses"}"#,
            "plugin type=\"refuses\" failed (add): no room; at all",
        ),
    ];
    for (config, expected) in cases {
        on_a_machine(|machine| {
            let refuses = machine.path("bin/refuses");
            fs::create_dir(machine.path("bin")).expect("a folder");
            let script = "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\necho '{\"code\": 7, \"msg\": \"no room\", \
                          \"details\": \"at all\"}'\nexit 1\n";
            fs::write(&refuses, script).expect("write");
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&refuses, executable).expect("chmod");
            machine.configure("10-test.conf", config);
            let network = machine.network(true);
            let pod = machine.pod("a");
            let complaint = machine.tokio.block_on(network.setup(&pod)).expect_err("it cannot be");
            assert!(complaint.contains(expected), "{config}: {complaint}");
            // Whatever was begun is undone, and the pod can be deleted.
            fs::remove_file(machine.path("net.d/10-test.conf")).expect("remove");
            machine.tokio.block_on(network.teardown(&pod)).expect("teardown");
            assert_eq!((ip("-o link show type veth"), files(&machine.path("cni"))), (String::new(), Vec::new()));
        });
    }
    on_a_machine(|machine| {
        let none = machine.network(false);
        let (reason, message) = none.ready().expect_err("there is no network");
        assert_eq!(reason, "NetworkPluginNotReady");
        assert_eq!(message, "Network plugin returns error: cni plugin not initialized");
        assert!(machine.tokio.block_on(none.setup(&machine.pod("a"))).is_err());
    });
}
