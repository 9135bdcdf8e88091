//! The kubox program: one binary, many names.

mod flags;
mod server;

use std::process::ExitCode;

const HELP: &str = "kubox: all of Kubernetes as one small program

  kubox server --data-dir DIR    the API server (also by the name kube-apiserver)
  kubox version                  the version

`kubox server --help` lists its flags.
";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().collect();
    let program = args.first().map(String::as_str).unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    args.drain(..1.min(args.len()));
    let role = match name.as_str() {
        "kube-apiserver" => name,
        _ if args.is_empty() => "help".to_owned(),
        _ => args.remove(0),
    };
    let result = match role.as_str() {
        "server" => server::run("kubox server", &args),
        "kube-apiserver" => server::run(&role, &args),
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
