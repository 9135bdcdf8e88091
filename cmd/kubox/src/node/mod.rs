//! `kubox node`, also called `kubelet`: flags, then the node agent until a signal. Containers run on without it.

mod table;
mod wanted;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use client::{Client, Config, Options};
use cri::{GrpcClient, ImageService, RuntimeService};
use node_agent::agent::{Agent, AgentConfig};
use node_agent::dns::{NodeDns, parse_resolv_conf};
use node_agent::machine::Machine;
use node_agent::node::NodeConfig;
use node_agent::pod_cgroups::Cgroups;
use node_api::{NodeApi, NodeApiConfig};
use pod_network::addresses::Range;
use pod_network::{BridgeConfig, CniConfig, PodNet};
use tokio::signal::unix::{SignalKind, signal};

use self::wanted::Wanted;
use crate::flags::{self, Command};

const USAGE: &str = "The node agent: runs the Pods that are bound to this node.

Usage: kubox node --kubeconfig FILE [flags]       (also by the name kubelet)";

/// Runs the agent until SIGTERM or SIGINT.
pub(crate) fn run(program: &str, args: &[String]) -> Result<()> {
    let mut wanted = Wanted::default();
    match flags::parse(program, table::FLAGS, args, &mut wanted).map_err(|why| anyhow!(why))? {
        Command::Run => {}
        Command::Help => {
            print!("{}", flags::help(USAGE, table::FLAGS));
            return Ok(());
        }
        Command::Version(form) => return crate::server::print_version(&form),
    }
    crate::start_logs(u8::try_from(wanted.verbosity).unwrap_or(u8::MAX));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
        let (agent, api) = start(wanted).await?;
        tokio::select! {
            () = agent.run() => {}
            () = api.run() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; the containers run on");
        Ok(())
    })
}

async fn start(wanted: Wanted) -> Result<(Arc<Agent>, NodeApi)> {
    if wanted.kubeconfig.as_os_str().is_empty() {
        return Err(anyhow!("--kubeconfig is required: the file that says how the API is reached"));
    }
    let kubeconfig = Config::from_kubeconfig(&wanted.kubeconfig, None)
        .with_context(|| format!("read the kubeconfig {}", wanted.kubeconfig.display()))?;
    let client = Client::http(&kubeconfig, Options::new("kubelet"))?;
    let (runtime, images) = runtime(&wanted).await?;

    let resolv_conf = std::fs::read_to_string(&wanted.resolv_conf).unwrap_or_default();
    let name = match wanted.name.as_str() {
        "" => Machine::look().hostname,
        name => name.to_owned(),
    };
    std::fs::create_dir_all(&wanted.root_dir)
        .with_context(|| format!("make the folder {}", wanted.root_dir.display()))?;
    // Whoever vouches for the API server vouches for its clients, too, unless the flags say otherwise.
    let client_authorities = match (&wanted.client_ca_file, &kubeconfig.authority) {
        (Some(file), _) => pki::load_certificates(file).with_context(|| format!("read {}", file.display()))?,
        (None, Some(source)) => {
            let text = source.read().context("read the authority of the kubeconfig")?;
            pki::Certificate::from_pem(&text).context("read the authority of the kubeconfig")?
        }
        (None, None) => Vec::new(),
    };
    let node_ips: Vec<std::net::IpAddr> = wanted.node_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let api = NodeApiConfig {
        address: (wanted.address, wanted.port).into(),
        node: name.clone(),
        certificate_dir: wanted.certificate_dir.unwrap_or_else(|| wanted.root_dir.join("pki")),
        names: pki::SubjectAltNames { dns: vec![name.clone()], ips: node_ips, ..pki::SubjectAltNames::default() },
        client_authorities,
    };
    let config = AgentConfig {
        node: NodeConfig {
            name: name.into(),
            labels: wanted.labels,
            taints: wanted.taints,
            register: wanted.register,
            pods_max: wanted.pods_max,
            reserved: api_schema::Map::default(),
            eviction_memory_bytes: 100 << 20,
            eviction_disk_percent: 10,
            port: wanted.port,
            version: apiserver::health::git_version().to_owned(),
        },
        root_dir: wanted.root_dir,
        log_dir: wanted.log_dir,
        cgroup_root: wanted.cgroup_root,
        dns: NodeDns {
            cluster_servers: wanted.cluster_dns,
            cluster_domain: wanted.cluster_domain,
            host: parse_resolv_conf(&resolv_conf),
        },
        node_ips: wanted.node_ips.into_iter().map(Into::into).collect(),
        seccomp_default: wanted.seccomp_default,
        crash_back_off_max: Duration::from_secs(300),
    };
    let cgroups = Arc::new(Cgroups::new(None).context("find the cgroups of this machine")?);
    let agent = Agent::new(config, client.clone(), runtime.clone(), images.clone(), cgroups)
        .await
        .context("ask the container runtime")?;
    let agent = Arc::new(agent);
    let api = NodeApi::bind(api, client, agent.clone(), runtime, images).await?;
    Ok((agent, api))
}

/// The runtime that the flags name: another one by its socket, or the embedded one.
async fn runtime(wanted: &Wanted) -> Result<(Arc<dyn RuntimeService>, Arc<dyn ImageService>)> {
    if !wanted.runtime_endpoint.is_empty() {
        let runtime = GrpcClient::new(&wanted.runtime_endpoint).context("--container-runtime-endpoint")?;
        let images = match wanted.image_endpoint.as_str() {
            "" => runtime.clone(),
            endpoint => GrpcClient::new(endpoint).context("--image-service-endpoint")?,
        };
        return Ok((Arc::new(runtime), Arc::new(images)));
    }
    // Whoever is let in by the node's own API is sent there with a URL for one use.
    let streams = streaming::StreamServer::bind((std::net::Ipv4Addr::LOCALHOST, 0).into())
        .context("listen on 127.0.0.1 for exec, attach and port-forward")?;
    let embedded = Arc::new(embedded(wanted, streams.clone()).await?);
    crate::images_cmd::serve(&wanted.run_dir, embedded.clone())?;
    tokio::spawn({
        let runtime = embedded.clone();
        async move {
            if let Err(error) = streams.serve(runtime).await {
                tracing::error!(%error, "exec, attach and port-forward are not served any more");
            }
        }
    });
    Ok((embedded.clone(), embedded))
}

async fn embedded(wanted: &Wanted, streams: Arc<streaming::StreamServer>) -> Result<runtime::Runtime> {
    let state = |part: &str| -> std::path::PathBuf { wanted.state_dir.join(part) };
    let images = images::Images::open(images::Config::new(state("images"))).context("open the image store")?;
    let archives = wanted.image_dir.clone().unwrap_or_else(|| state("archives"));
    std::fs::create_dir_all(&archives).with_context(|| format!("make the folder {}", archives.display()))?;
    drop_folder(&images, &archives)?;
    let range = Range::parse(&wanted.pod_cidr)
        .ok_or_else(|| anyhow!("--pod-cidr={} is no range of IPv4 addresses with room for pods", wanted.pod_cidr))?;
    let bridge = BridgeConfig { name: wanted.bridge.clone(), range, mtu: None, state_folder: state("network") };
    let cni = CniConfig {
        config_folder: wanted.cni_conf_dir.clone(),
        plugin_folders: wanted.cni_bin_dirs.clone(),
        state_folder: state("cni"),
    };
    let network = PodNet::new(cni, Some(bridge).filter(|bridge| !bridge.name.is_empty()));
    let mut config = runtime::Config::new(state("runtime"), wanted.run_dir.clone(), images, Arc::new(network));
    config.stream_urls = Some(streams);
    config.program = std::env::current_exe().context("find this program")?;
    config.shim_cgroup = format!("{}/kubox/shims", wanted.cgroup_root.trim_end_matches('/'));
    runtime::Runtime::open(config).await.context("open the container runtime")
}

/// Imports the archives of a folder, once each, in the background.
fn drop_folder(images: &images::Images, folder: &Path) -> Result<()> {
    let folder = images::DropFolder::open(images, folder)
        .with_context(|| format!("open the folder of image archives {}", folder.display()))?;
    tokio::spawn(async move {
        if let Err(error) = folder.run().await {
            tracing::warn!(%error, "the folder of image archives is not followed any more");
        }
    });
    Ok(())
}
