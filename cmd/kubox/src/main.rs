//! The kubox program: one binary, many names.

mod cri;
mod flags;
mod images_cmd;
mod node;
mod server;

use std::io::IsTerminal as _;
use std::process::ExitCode;

/// Requests are thousands of small allocations on many threads, and what a load has freed goes back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "kubox: all of Kubernetes as one small program

  kubox server --data-dir DIR    the API server (also by the name kube-apiserver)
  kubox node --kubeconfig FILE   the node agent with its container runtime (also by the name kubelet)
  kubox cri --listen SOCKET      the container runtime alone, for upstream's kubelet and crictl
  kubox image COMMAND            the node's images: import, pull, ls, rm, prune
  kubox ps                       the node's containers
  kubox version                  the version

`kubox server --help` and `kubox node --help` list their flags.
";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().collect();
    // The allocator would take whole huge pages, of which kubox uses a part: 20 MiB that nobody has any good of.
    // Containers may have them: their helper lets them again. A kernel without huge pages has none to refuse.
    let _ = nix::sys::prctl::set_thp_disable(true);
    // A pod's own process: it shall be small, and have no threads.
    if let Some(code) = args.get(1).and_then(|command| shim::run(command)) {
        return code;
    }
    let program = args.first().map(String::as_str).unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    args.drain(..1.min(args.len()));
    let role = match name.as_str() {
        "kube-apiserver" | "kubelet" => name,
        _ if args.is_empty() => "help".to_owned(),
        _ => args.remove(0),
    };
    let result = match role.as_str() {
        "cri" => cri::run(&args),
        "image" => images_cmd::run(&args),
        "ps" => images_cmd::ps(&args),
        "server" => server::run("kubox server", &args),
        "kube-apiserver" => server::run(&role, &args),
        "node" => node::run("kubox node", &args),
        "kubelet" => node::run(&role, &args),
        "version" | "--version" => {
            println!("kubox {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("unknown command {other:?} for \"kubox\"; see `kubox help`")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts logging to stderr, as much as upstream's `--v` says.
fn start_logs(verbosity: u8) {
    let level = match verbosity {
        0 => tracing::Level::WARN,
        1..=3 => tracing::Level::INFO,
        4..=5 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
