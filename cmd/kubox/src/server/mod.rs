//! `kubox server`, also called `kube-apiserver`: flags, then the server until a signal.
//!
//! Every flag of upstream's kube-apiserver is either honoured, or accepted because it says what is so anyway, or refused
//! with a line that says why; none is ignored. The table is the place to add one.

mod table;
mod values;
mod wanted;

use anyhow::{Context as _, Result, anyhow};
use apiserver::start::start;
use tokio::signal::unix::{SignalKind, signal};
use world::World;

use self::wanted::Wanted;
use crate::flags::{self, Command};

const USAGE: &str = "The API server.

Usage: kubox server --data-dir DIR [flags]       (also by the name kube-apiserver)";

/// Runs the server until SIGTERM or SIGINT.
pub(crate) fn run(program: &str, args: &[String]) -> Result<()> {
    let mut wanted = Wanted::default();
    match flags::parse(program, table::FLAGS, args, &mut wanted).map_err(|why| anyhow!(why))? {
        Command::Run => {}
        Command::Help => {
            print!("{}", flags::help(USAGE, table::FLAGS));
            return Ok(());
        }
        Command::Version(form) => return print_version(&form),
    }
    let verbosity = wanted.verbosity;
    let options = wanted.finish().map_err(|why| anyhow!(why))?;
    crate::start_logs(verbosity);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
        let kubeconfig = options.data_dir.join("admin.kubeconfig");
        // Whoever brings an authority of their own has made their administrator's certificate, too.
        let kubeconfig = Some(kubeconfig).filter(|_| options.client_ca_file.is_none());
        let running = start(options, World::system()).await?;
        match kubeconfig {
            Some(path) => tracing::info!(address = %running.address, kubeconfig = %path.display(), "serving"),
            None => tracing::info!(address = %running.address, "serving"),
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        running.stop().await;
        Ok(())
    })
}

/// Prints the version, in the form that `--version` asks for.
pub(crate) fn print_version(form: &str) -> Result<()> {
    match form {
        "raw" => println!("{}", apiserver::health::version_json()),
        "true" | "1" | "t" | "T" | "TRUE" | "True" => println!("Kubernetes {}", apiserver::health::git_version()),
        other => return Err(anyhow!("--version={other} cannot be honoured: the version is what it is")),
    }
    Ok(())
}
