//! The program of the tests: the shim's commands, and a daemon that serves the CRI, which tests kill and start again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use images::Images;
use runtime::{Config, LoopbackOnly, Runtime};
use tokio::net::UnixListener;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = args.first().and_then(|command| shim::run(command)) {
        return code;
    }
    let [folder, cgroup] = args.as_slice() else {
        eprintln!("usage: runtime-host FOLDER CGROUP");
        return ExitCode::FAILURE;
    };
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match tokio.map_err(|e| e.to_string()).and_then(|tokio| tokio.block_on(serve(PathBuf::from(folder), cgroup))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("runtime-host: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(folder: PathBuf, cgroup: &str) -> Result<(), String> {
    let images = Images::open(images::Config::new(folder.join("images"))).map_err(|e| format!("open images: {e}"))?;
    for entry in std::fs::read_dir(folder.join("archives")).into_iter().flatten().flatten() {
        images.import(&entry.path(), images::ImportOptions::default()).await.map_err(|e| format!("import: {e}"))?;
    }
    let mut config = Config::new(folder.join("state"), folder.join("run"), images, Arc::new(LoopbackOnly));
    config.cgroup_parent = format!("{cgroup}/pods");
    config.shim_cgroup = format!("{cgroup}/shims");
    let runtime = Arc::new(Runtime::open(config).await.map_err(|e| format!("open the runtime: {e}"))?);
    let socket = folder.join("cri.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).map_err(|e| format!("listen: {e}"))?;
    cri::serve(listener, runtime.clone(), runtime).await.map_err(|e| format!("serve: {e}"))
}
