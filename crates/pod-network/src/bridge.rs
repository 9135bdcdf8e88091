//! The built-in network: a bridge on the node, a pair of interfaces for each pod, addresses of one range, masquerading
//! and ports of the node. It needs no plugin.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use runtime::{NetworkPod, PortMapping};
use tokio::sync::Mutex;

use crate::addresses::{Addresses, Range};
use crate::tables::{self, Forward};

/// Settings of the bridge.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// The bridge's name, at most 15 characters.
    pub name: String,
    /// The pods' range until the control plane gives one.
    pub range: Range,
    /// The greatest packet; `None` takes that of the interface behind the default route.
    pub mtu: Option<u32>,
    /// Where addresses and ports are kept.
    pub state_folder: PathBuf,
}

/// Why a pod is not connected.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The kernel refuses.
    #[error("{what}: {source}")]
    Link {
        /// What was tried.
        what: String,
        /// Why not.
        source: rtnetlink::Error,
    },
    /// A file or a program fails.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The pod's network is not as it was set up.
    #[error("{0}")]
    Check(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> BridgeError {
    let what = what.into();
    move |source| BridgeError::Io { what, source }
}

fn link_error(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> BridgeError {
    let what = what.into();
    move |source| BridgeError::Link { what, source }
}

/// The bridge.
#[derive(Debug)]
pub struct Bridge {
    config: BridgeConfig,
    addresses: Addresses,
    state: Mutex<State>,
    range: parking_lot::Mutex<Range>,
}

#[derive(Debug, Default)]
struct State {
    /// The bridge's index, once it is there.
    index: Option<u32>,
    mtu: u32,
    /// What leads into pods, by the pod's id.
    forwards: BTreeMap<String, Vec<Forward>>,
    /// Whether the packet filter has our table.
    has_table: bool,
}

impl Bridge {
    /// A bridge; it is made with the first pod.
    pub fn new(config: BridgeConfig) -> Bridge {
        let addresses = Addresses::new(config.state_folder.join("addresses"));
        let range = parking_lot::Mutex::new(config.range);
        Bridge { config, addresses, state: Mutex::default(), range }
    }

    /// Pods that come from now on get addresses of this range.
    pub fn set_pod_cidr(&self, cidr: &str) {
        let first = cidr.split(',').find_map(Range::parse);
        if let Some(range) = first {
            *self.range.lock() = range;
        }
    }

    /// Connects a pod.
    ///
    /// # Errors
    /// If no address is free or the kernel refuses.
    pub async fn setup(&self, pod: &NetworkPod) -> Result<Vec<IpAddr>, BridgeError> {
        let range = *self.range.lock();
        let mut state = self.state.lock().await;
        let handle = handle().map_err(io_error("open a netlink socket"))?;
        let bridge = self.ensure(&handle, &mut state, range).await?;
        let address = self.addresses.take(range, &pod.id).map_err(io_error("allocate an address"))?;
        let namespace = File::open(&pod.namespace_path)
            .map_err(io_error(format!("open the network namespace {}", pod.namespace_path.display())))?;
        let name = interface_of(&pod.id);
        if index_of(&handle, &name).await.is_none() {
            let peer = LinkMessageBuilder::<LinkUnspec>::new()
                .name("eth0")
                .mtu(state.mtu)
                .setns_by_fd(namespace.as_raw_fd())
                .build();
            let pair = LinkVeth::new(&name, "eth0").mtu(state.mtu).set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
            handle
                .link()
                .add(pair.build())
                .execute()
                .await
                .map_err(link_error(format!("make the interface {name}")))?;
        }
        let index =
            index_of(&handle, &name).await.ok_or_else(|| BridgeError::Check(format!("interface {name} is gone")))?;
        let port = LinkUnspec::new_with_index(index).controller(bridge).up().build();
        handle.link().set(port).execute().await.map_err(link_error(format!("put {name} on the bridge")))?;
        // So that a pod reaches itself through a Service.
        let hairpin = LinkBridgePort::new(index).hairpin(true).build();
        handle.link().set_port(hairpin).execute().await.map_err(link_error(format!("set up {name}")))?;

        let (gateway, prefix) = (range.gateway(), range.prefix);
        within(&pod.namespace_path, move |handle| async move { configure(&handle, address, prefix, gateway).await })
            .await?;
        let wanted: Vec<Forward> = pod
            .port_mappings
            .iter()
            .filter(|mapping| mapping.host_port != 0)
            .map(|mapping| Forward { ip: address, mapping: mapping.clone() })
            .collect();
        let before = match wanted.is_empty() {
            true => state.forwards.remove(&pod.id),
            false => state.forwards.insert(pod.id.clone(), wanted.clone()),
        };
        if before.unwrap_or_default() != wanted || !state.has_table {
            self.keep_forwards(&pod.id, &wanted)?;
            self.apply(&mut state, range).await?;
        }
        Ok(vec![IpAddr::V4(address)])
    }

    /// Disconnects a pod; nothing to do if it is not connected.
    ///
    /// # Errors
    /// If the kernel refuses; it can be tried again.
    pub async fn teardown(&self, pod: &NetworkPod) -> Result<(), BridgeError> {
        let mut state = self.state.lock().await;
        let handle = handle().map_err(io_error("open a netlink socket"))?;
        let name = interface_of(&pod.id);
        if let Some(index) = index_of(&handle, &name).await {
            // Its other end goes with it.
            let removed = handle.link().del(index).execute().await;
            if index_of(&handle, &name).await.is_some() {
                removed.map_err(link_error(format!("remove the interface {name}")))?;
            }
        }
        let file = self.forwards_file(&pod.id);
        if state.forwards.remove(&pod.id).is_some() || file.exists() {
            let range = *self.range.lock();
            self.apply(&mut state, range).await?;
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("forget the pod's ports")(error));
                }
                _ => {}
            }
        }
        self.addresses.give_back(&pod.id).map_err(io_error("give back the address"))
    }

    /// Whether a pod is connected as it was.
    ///
    /// # Errors
    /// With what is missing.
    pub async fn check(&self, pod: &NetworkPod) -> Result<(), BridgeError> {
        let handle = handle().map_err(io_error("open a netlink socket"))?;
        let name = interface_of(&pod.id);
        match index_of(&handle, &name).await {
            Some(_) => Ok(()),
            None => Err(BridgeError::Check(format!("interface {name} is missing"))),
        }
    }

    /// Makes sure that the bridge is there; its index.
    async fn ensure(&self, handle: &Handle, state: &mut State, range: Range) -> Result<u32, BridgeError> {
        let name = &self.config.name;
        if let Some(index) = state.index
            && index_of(handle, name).await == Some(index)
        {
            return Ok(index);
        }
        state.mtu = match self.config.mtu {
            Some(mtu) => mtu,
            None => default_mtu(handle).await,
        };
        if index_of(handle, name).await.is_none() {
            let bridge = LinkBridge::new(name).mtu(state.mtu).up().build();
            handle.link().add(bridge).execute().await.map_err(link_error(format!("make the bridge {name}")))?;
        }
        let index = index_of(handle, name).await.ok_or_else(|| BridgeError::Check(format!("bridge {name} is gone")))?;
        let up = LinkUnspec::new_with_index(index).up().build();
        handle.link().set(up).execute().await.map_err(link_error(format!("bring the bridge {name} up")))?;
        let gateway = IpAddr::V4(range.gateway());
        let added = handle.address().add(index, gateway, range.prefix).replace().execute().await;
        added.map_err(link_error(format!("give the bridge {name} the address {gateway}")))?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(io_error("let the kernel forward packets"))?;
        // So that ports of the node are reached through 127.0.0.1, too.
        let local = format!("/proc/sys/net/ipv4/conf/{name}/route_localnet");
        std::fs::write(&local, "1").map_err(io_error(format!("write {local}")))?;
        state.index = Some(index);
        state.forwards = self.kept_forwards();
        self.apply(state, range).await?;
        Ok(index)
    }

    async fn apply(&self, state: &mut State, range: Range) -> Result<(), BridgeError> {
        let forwards: Vec<Forward> = state.forwards.values().flatten().cloned().collect();
        let ruleset = tables::ruleset(&self.config.name, range, &self.config.name, &forwards);
        tables::apply(&ruleset).await.map_err(io_error("set up the packet filter"))?;
        state.has_table = true;
        Ok(())
    }

    fn forwards_file(&self, id: &str) -> PathBuf {
        self.config.state_folder.join("ports").join(id)
    }

    /// One line for each port: `ip protocol host-port container-port [host-ip]`.
    fn keep_forwards(&self, id: &str, forwards: &[Forward]) -> Result<(), BridgeError> {
        if forwards.is_empty() {
            return Ok(());
        }
        let line = |Forward { ip, mapping }: &Forward| {
            let PortMapping { protocol, container_port, host_port, host_ip } = mapping;
            format!("{ip} {protocol} {host_port} {container_port} {host_ip}\n")
        };
        let text: String = forwards.iter().map(line).collect();
        let file = self.forwards_file(id);
        let folder = self.config.state_folder.join("ports");
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(file, text));
        written.map_err(io_error("keep the pod's ports"))
    }

    fn kept_forwards(&self) -> BTreeMap<String, Vec<Forward>> {
        let files = std::fs::read_dir(self.config.state_folder.join("ports")).into_iter().flatten().flatten();
        let read = files.filter_map(|file| {
            let text = std::fs::read_to_string(file.path()).ok()?;
            Some((file.file_name().into_string().ok()?, text.lines().filter_map(parse_forward).collect()))
        });
        read.collect()
    }
}

fn parse_forward(line: &str) -> Option<Forward> {
    let mut words = line.split(' ');
    let ip = words.next()?.parse().ok()?;
    let protocol = match words.next()? {
        "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => return None,
    };
    let (host_port, container_port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let host_ip = words.next().unwrap_or_default().to_owned();
    Some(Forward { ip, mapping: PortMapping { protocol, container_port, host_port, host_ip } })
}

/// The name of a pod's interface on the node: short, and the same at each try.
fn interface_of(id: &str) -> String {
    // FNV-1a: any even spread will do.
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("veth{:010x}", hash & 0xff_ffff_ffff)
}

/// A netlink socket of the network namespace in which this thread is.
fn handle() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    // It ends with the last handle.
    tokio::spawn(connection);
    Ok(handle)
}

async fn find(handle: &Handle, name: &str) -> Option<LinkMessage> {
    handle.link().get().match_name(name.to_owned()).execute().try_next().await.ok().flatten()
}

async fn index_of(handle: &Handle, name: &str) -> Option<u32> {
    find(handle, name).await.map(|link| link.header.index)
}

/// The packet size of the interface behind the default route, or Ethernet's.
async fn default_mtu(handle: &Handle) -> u32 {
    const ETHERNET: u32 = 1500;
    let routes = std::fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    let is_default = |line: &&str| line.split_whitespace().nth(1) == Some("00000000");
    let Some(name) = routes.lines().find(is_default).and_then(|line| line.split_whitespace().next()) else {
        return ETHERNET;
    };
    let attributes = find(handle, name).await.map(|link| link.attributes).unwrap_or_default();
    let mtu = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    mtu.unwrap_or(ETHERNET)
}

/// In the pod: loopback and the interface up, the address, the way out.
async fn configure(handle: &Handle, address: Ipv4Addr, prefix: u8, gateway: Ipv4Addr) -> Result<(), BridgeError> {
    for name in ["lo", "eth0"] {
        let index = index_of(handle, name)
            .await
            .ok_or_else(|| BridgeError::Check(format!("the pod has no interface {name}")))?;
        let up = LinkUnspec::new_with_index(index).up().build();
        handle.link().set(up).execute().await.map_err(link_error(format!("bring the pod's {name} up")))?;
        if name == "eth0" {
            let added = handle.address().add(index, IpAddr::V4(address), prefix).replace().execute().await;
            added.map_err(link_error(format!("give the pod the address {address}")))?;
        }
    }
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
    let added = handle.route().add(route).replace().execute().await;
    added.map_err(link_error(format!("give the pod the route by {gateway}")))
}

/// Does something in another network namespace, on a thread of its own that ends there.
async fn within<F>(namespace: &Path, work: impl FnOnce(Handle) -> F + Send + 'static) -> Result<(), BridgeError>
where
    F: Future<Output = Result<(), BridgeError>>,
{
    let file = File::open(namespace).map_err(io_error(format!("open {}", namespace.display())))?;
    let (tell, told) = tokio::sync::oneshot::channel();
    let body = move || -> Result<(), BridgeError> {
        nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|error| io_error("enter the pod's network namespace")(error.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io_error("start a thread in the pod's network namespace"))?;
        runtime.block_on(async {
            let handle = handle().map_err(io_error("open a netlink socket in the pod"))?;
            work(handle).await
        })
    };
    let thread = std::thread::Builder::new().name("pod-netns".to_owned());
    thread.spawn(move || drop(tell.send(body()))).map_err(io_error("start a thread"))?;
    told.await
        .unwrap_or_else(|_| Err(BridgeError::Check("the thread in the pod's network namespace failed".to_owned())))
}
