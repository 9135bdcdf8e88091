//! `cargo xtask <chore>`: everything about the workspace that is not the product.

mod codegen;

use anyhow::{Result, bail};

const HELP: &str = "cargo xtask <chore>

  codegen [--check] [--data DIR]   write the tables of crates/api-types from the API facts (or compare)
";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("codegen") => codegen::run(&args[1..]),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("no chore named {other:?}; see `cargo xtask help`"),
    }
}
