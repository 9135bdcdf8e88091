//! `bench`: starts a kubox server over an empty folder and measures what it costs, beside what upstream costs.
//!
//! Run it by `cargo xtask bench`. The server is the real binary in its own process, TLS on, no gzip; the client is our
//! own (HTTP/1.1 over TLS with the administrator's certificate), in this process, on the same cores.

mod client;
mod figures;
mod load;
mod objects;
mod process;
mod server;
mod table;
mod watch;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

const HELP: &str = "cargo xtask bench: the figures of docs/bench.md, measured on this machine

  --kubox PATH       the server's binary (by default the one beside this program, built first)
  --dir DIR          where the data folders go (the system's temporary folder)
  --configmaps N     how many ConfigMaps there are when memory is measured (60000)
  --rounds N         how often each load is repeated; the best counts (3)
  --long             a million lease updates instead of 50,000
  --only PARTS       only some of starts,idle,gets,creates,updates,lists,watches,memory,leases
  --write            write the table to docs/bench.md
";

/// What the command line asks for.
pub(crate) struct Options {
    kubox: PathBuf,
    dir: PathBuf,
    configmaps: u64,
    rounds: usize,
    lease_updates: u64,
    /// The parts that are wanted; all if there are none.
    only: Vec<String>,
}

impl Options {
    /// Whether a part of the figures is wanted.
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }
}

fn main() -> Result<()> {
    let (mut kubox, mut dir, mut configmaps, mut rounds) = (None, std::env::temp_dir(), 60_000, 3);
    let (mut long, mut write, mut only) = (false, false, Vec::new());
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Long("kubox") => kubox = Some(PathBuf::from(args.value()?)),
            lexopt::Arg::Long("dir") => dir = PathBuf::from(args.value()?),
            lexopt::Arg::Long("configmaps") => configmaps = number(&mut args)?,
            lexopt::Arg::Long("rounds") => rounds = usize::try_from(number(&mut args)?)?.max(1),
            lexopt::Arg::Long("long") => long = true,
            lexopt::Arg::Long("only") => {
                let parts = args.value()?.to_string_lossy().into_owned();
                let unknown = parts.split(',').find(|part| !figures::PARTS.contains(part));
                ensure!(unknown.is_none(), "there is no part {unknown:?} of {:?}", figures::PARTS);
                only.extend(parts.split(',').map(str::to_owned));
            }
            lexopt::Arg::Long("write") => write = true,
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                print!("{HELP}");
                return Ok(());
            }
            other => return Err(other.unexpected().into()),
        }
    }
    ensure!(!write || only.is_empty(), "only the whole table is written: leave --only or --write");
    let kubox = match kubox {
        Some(path) => path,
        None => build()?,
    };
    ensure!(kubox.is_file(), "there is no binary at {}", kubox.display());
    let options =
        Options { kubox, dir, configmaps, rounds, lease_updates: if long { 1_000_000 } else { 50_000 }, only };
    let text = figures::measure(&options)?;
    print!("{text}");
    if write {
        let path = root().join("docs/bench.md");
        std::fs::create_dir_all(root().join("docs")).context("make docs/")?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn number(args: &mut lexopt::Parser) -> Result<u64> {
    use lexopt::ValueExt as _;
    Ok(args.value()?.parse()?)
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
}

/// Builds the server as it is shipped, and says where it lies.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "kubox"])
        .current_dir(root())
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("kubox could not be built: {status}");
    }
    Ok(std::env::current_exe().context("find this program")?.with_file_name("kubox"))
}
