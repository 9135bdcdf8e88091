//! `kubox cri`: the embedded container runtime alone, on a socket, for upstream's kubelet and crictl.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use pod_network::addresses::Range;
use pod_network::{BridgeConfig, CniConfig, PodNet};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::flags::{self, Command, Flag, Form, Given, Section, Verdict};

const USAGE: &str = "The container runtime: serves the Container Runtime Interface. Containers run on when it stops.

Usage: kubox cri --listen unix:///run/kubox/cri.sock [flags]";

/// What the flags ask for.
struct Wanted {
    listen: String,
    state_dir: PathBuf,
    run_dir: PathBuf,
    image_dir: Option<PathBuf>,
    cgroup_parent: String,
    bridge: String,
    pod_cidr: String,
    cni_conf_dir: PathBuf,
    cni_bin_dirs: Vec<PathBuf>,
    verbosity: i64,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted {
            listen: "unix:///run/kubox/cri.sock".to_owned(),
            state_dir: PathBuf::from("/var/lib/kubox"),
            run_dir: PathBuf::from("/run/kubox/pods"),
            image_dir: None,
            cgroup_parent: "/kubox".to_owned(),
            bridge: "kubox0".to_owned(),
            pod_cidr: "10.244.0.0/24".to_owned(),
            cni_conf_dir: PathBuf::from("/etc/cni/net.d"),
            cni_bin_dirs: vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
            verbosity: 2,
        }
    }
}

const fn flag(
    name: &'static str,
    form: Form,
    help: &'static str,
    set: fn(&mut Wanted, &Given) -> Result<(), String>,
) -> Flag<Wanted> {
    Flag { name, form, help, verdict: Verdict::Honoured(set) }
}

const FLAGS: &[Section<Wanted>] = &[Section {
    title: "Flags",
    flags: &[
        flag("listen", Form::Text, "where the interface is served", |w, given| {
            w.listen = given.text().to_owned();
            Ok(())
        }),
        flag("state-dir", Form::Text, "where images and the runtime's records are kept", |w, given| {
            w.state_dir = PathBuf::from(given.text());
            Ok(())
        }),
        flag(
            "run-dir",
            Form::Text,
            "where sockets and namespaces are; empty after a restart of the machine",
            |w, given| {
                w.run_dir = PathBuf::from(given.text());
                Ok(())
            },
        ),
        flag("image-dir", Form::Text, "a folder of image archives, imported once each", |w, given| {
            w.image_dir = Some(PathBuf::from(given.text()));
            Ok(())
        }),
        flag("cgroup-parent", Form::Text, "the cgroup of pods for which the caller names none", |w, given| {
            w.cgroup_parent = given.text().to_owned();
            Ok(())
        }),
        flag("bridge", Form::Text, "the name of the built-in network's bridge; empty for none", |w, given| {
            w.bridge = given.text().to_owned();
            Ok(())
        }),
        flag("pod-cidr", Form::Text, "the range of pods' addresses on this node", |w, given| {
            w.pod_cidr = given.text().to_owned();
            Ok(())
        }),
        flag("cni-conf-dir", Form::Text, "where CNI networks are configured", |w, given| {
            w.cni_conf_dir = PathBuf::from(given.text());
            Ok(())
        }),
        flag("cni-bin-dir", Form::List, "where CNI plugins are", |w, given| {
            w.cni_bin_dirs = given.list().into_iter().map(PathBuf::from).collect();
            Ok(())
        }),
        flag("v", Form::Int, "how much is logged", |w, given| {
            w.verbosity = given.int();
            Ok(())
        }),
    ],
}];

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut wanted = Wanted::default();
    match flags::parse("kubox cri", FLAGS, args, &mut wanted).map_err(|why| anyhow!(why))? {
        Command::Run => {}
        Command::Help => {
            print!("{}", flags::help(USAGE, FLAGS));
            return Ok(());
        }
        Command::Version(form) => return crate::server::print_version(&form),
    }
    crate::start_logs(u8::try_from(wanted.verbosity).unwrap_or(u8::MAX));
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    tokio.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
        tokio::select! {
            result = serve(wanted) => result,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })
}

async fn serve(wanted: Wanted) -> Result<()> {
    let socket = wanted.listen.strip_prefix("unix://").unwrap_or(&wanted.listen);
    let socket = PathBuf::from(socket);
    if !socket.is_absolute() {
        return Err(anyhow!("--listen={} is no unix socket: unix:///path is meant", wanted.listen));
    }
    let state = |part: &str| wanted.state_dir.join(part);
    let images = images::Images::open(images::Config::new(state("images"))).context("open the image store")?;
    if let Some(folder) = &wanted.image_dir {
        let folder = images::DropFolder::open(&images, folder)
            .with_context(|| format!("open the folder of image archives {}", folder.display()))?;
        tokio::spawn(async move {
            if let Err(error) = folder.run().await {
                tracing::warn!(%error, "the folder of image archives is not followed any more");
            }
        });
    }
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
    config.program = std::env::current_exe().context("find this program")?;
    config.shim_cgroup = format!("{}/shims", wanted.cgroup_parent.trim_end_matches('/'));
    config.cgroup_parent = wanted.cgroup_parent;
    let streams = streaming::StreamServer::bind((std::net::Ipv4Addr::LOCALHOST, 0).into())
        .context("listen for streams on the loopback address")?;
    config.stream_urls = Some(streams.clone());
    let runtime = Arc::new(runtime::Runtime::open(config).await.context("open the container runtime")?);
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    }
    // An earlier one's; two at a time are kept apart by the image store's lock.
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).with_context(|| format!("listen on {}", socket.display()))?;
    // Who may speak to it may do anything on this node.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).context("guard the socket")?;
    tracing::info!(socket = %socket.display(), "serving");
    tokio::select! {
        result = cri::serve(listener, runtime.clone(), runtime.clone()) => result.context("serve"),
        result = streams.serve(runtime) => result.context("serve streams"),
    }
}
