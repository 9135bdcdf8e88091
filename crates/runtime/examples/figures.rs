//! The runtime's figures on this machine: `cargo run --release --example figures -- FOLDER IMAGE_ARCHIVE IMAGE_NAME`.
//!
//! As root, with a folder on a file system that can hold overlays. The program is its own shim, so a shim's private memory
//! here is that of a small program; `kubox` is larger.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cri::{RuntimeService, v1};
use images::Images;
use runtime::{Config, LoopbackOnly, Runtime};

const ROUNDS: usize = 40;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = args.first().and_then(|command| shim::run(command)) {
        return code;
    }
    let [folder, archive, image] = args.as_slice() else {
        eprintln!("usage: figures FOLDER IMAGE_ARCHIVE IMAGE_NAME");
        return ExitCode::FAILURE;
    };
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match tokio.map_err(Box::from).and_then(|tokio| tokio.block_on(measure(PathBuf::from(folder), archive, image))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("figures: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(folder: PathBuf, archive: &str, image: &str) -> Result<(), Box<dyn std::error::Error>> {
    let images = Images::open(images::Config::new(folder.join("images")))?;
    images.import(archive.as_ref(), images::ImportOptions::default()).await?;
    let mut config = Config::new(folder.join("state"), folder.join("run"), images, Arc::new(LoopbackOnly));
    let cgroup = format!("/kubox-figures-{}", std::process::id());
    config.cgroup_parent = format!("{cgroup}/pods");
    config.shim_cgroup = format!("{cgroup}/shims");
    // Another program's shims can be measured, too.
    if let Some(program) = std::env::var_os("SHIM_PROGRAM") {
        config.program = program.into();
    }
    let runtime = Runtime::open(config).await?;
    let (mut runs, mut starts, mut execs, mut removes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut memory = Vec::new();
    for round in 0..ROUNDS {
        let pod_config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: format!("pod{round}"),
                uid: round.to_string(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: "pod".to_owned(),
            log_directory: folder.join("logs").display().to_string(),
            linux: Some(v1::LinuxPodSandboxConfig {
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(own_pids()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = v1::RunPodSandboxRequest { config: Some(pod_config.clone()), ..Default::default() };
        let pod = timed(&mut runs, runtime.run_pod_sandbox(request)).await?.pod_sandbox_id;
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() }),
            command: ["sleep", "1000"].map(str::to_owned).to_vec(),
            log_path: format!("{round}.log"),
            linux: Some(v1::LinuxContainerConfig {
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: Some(own_pids()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(config),
            sandbox_config: Some(pod_config),
        };
        let id = timed(&mut starts, async {
            let id = runtime.create_container(request).await?.container_id;
            runtime.start_container(v1::StartContainerRequest { container_id: id.clone() }).await?;
            Ok::<_, cri::Error>(id)
        })
        .await?;
        for _ in 0..5 {
            let request = v1::ExecSyncRequest { container_id: id.clone(), cmd: vec!["true".to_owned()], timeout: 10 };
            timed(&mut execs, runtime.exec_sync(request)).await?;
        }
        memory.extend(private_bytes(&folder.join("run").join(&pod)));
        timed(&mut removes, runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod })).await?;
    }
    for (name, times) in [
        ("run pod", &mut runs),
        ("create and start", &mut starts),
        ("exec round trip", &mut execs),
        ("remove pod", &mut removes),
    ] {
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
        println!("{name}: p50 {:.1} ms, p99 {:.1} ms", at(50), at(99));
    }
    logs(&runtime, &folder, image).await?;
    memory.sort_unstable();
    if let Some(bytes) = memory.get(memory.len() / 2) {
        println!("shim, private: {:.2} MiB", *bytes as f64 / f64::from(1 << 20));
    }
    cgroups::Hierarchy::detect()?.cgroup(&cgroup).remove()?;
    Ok(())
}

fn own_pids() -> v1::NamespaceOption {
    v1::NamespaceOption { pid: v1::NamespaceMode::Container as i32, ..Default::default() }
}

/// A container that writes as fast as it can: how much of it is logged in a second, and what the shim needs for it.
async fn logs(runtime: &Runtime, folder: &std::path::Path, image: &str) -> Result<(), Box<dyn std::error::Error>> {
    const LINES: u64 = 3_000_000;
    let metadata = v1::PodSandboxMetadata { name: "logs".to_owned(), ..Default::default() };
    let pod_config = v1::PodSandboxConfig {
        metadata: Some(metadata),
        log_directory: folder.join("logs").display().to_string(),
        ..Default::default()
    };
    let request = v1::RunPodSandboxRequest { config: Some(pod_config.clone()), ..Default::default() };
    let pod = runtime.run_pod_sandbox(request).await?.pod_sandbox_id;
    let script = format!("yes {} | head -n {LINES}", "x".repeat(99));
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() }),
        command: vec!["sh".to_owned(), "-c".to_owned(), script],
        log_path: "fast.log".to_owned(),
        ..Default::default()
    };
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(config),
        sandbox_config: Some(pod_config),
    };
    let id = runtime.create_container(request).await?.container_id;
    let start = Instant::now();
    runtime.start_container(v1::StartContainerRequest { container_id: id.clone() }).await?;
    let mut most = 0;
    loop {
        most = most.max(private_bytes(&folder.join("run").join(&pod)).unwrap_or_default());
        let request = v1::ContainerStatusRequest { container_id: id.clone(), verbose: false };
        let status = runtime.container_status(request).await?.status.unwrap_or_default();
        if status.state() == v1::ContainerState::Exited {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let path = folder.join("logs/fast.log");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(std::fs::File::open(&path)?)).count();
    println!(
        "log: {:.0} MiB/s, {lines} of {LINES} lines, shim private at most {:.2} MiB",
        (LINES * 100) as f64 / seconds / f64::from(1 << 20),
        most as f64 / f64::from(1 << 20)
    );
    std::fs::remove_file(path)?;
    runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod }).await?;
    Ok(())
}

async fn timed<T, E>(times: &mut Vec<Duration>, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let start = Instant::now();
    let result = work.await;
    times.push(start.elapsed());
    result
}

/// What of a shim's memory is its own alone, whatever else runs: pages that were written to. Unwritten pages of the program
/// are shared as soon as a second process of it runs, as the daemon is one.
fn private_bytes(run_folder: &std::path::Path) -> Option<u64> {
    let pid = std::fs::read_to_string(run_folder.join("shim.pid")).ok()?;
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.trim())).ok()?;
    let dirty = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:"))?;
    Some(dirty.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}
