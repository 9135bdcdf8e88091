//! `kubox-fuzz seeds DECODER DIR` writes a decoder's seeds as files, for fuzzers that want a corpus;
//! `kubox-fuzz repeat DECODER FILE...` tries inputs again; `kubox-fuzz list` names the decoders.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fuzz::Decoder;

enum Ask {
    List,
    Seeds(&'static Decoder, PathBuf),
    Repeat(&'static Decoder, Vec<PathBuf>),
}

fn parse(arguments: &[String]) -> Option<Ask> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => Some(Ask::List),
        ["seeds", decoder, folder] => Some(Ask::Seeds(fuzz::find(decoder)?, folder.into())),
        ["repeat", decoder, ref files @ ..] if !files.is_empty() => {
            Some(Ask::Repeat(fuzz::find(decoder)?, files.iter().map(PathBuf::from).collect()))
        }
        _ => None,
    }
}

fn act(ask: &Ask) -> anyhow::Result<()> {
    match ask {
        Ask::List => fuzz::all::ALL.iter().for_each(|decoder| println!("{}", decoder.name)),
        Ask::Seeds(decoder, folder) => {
            std::fs::create_dir_all(folder)?;
            for (number, seed) in (decoder.seeds)().iter().enumerate() {
                std::fs::write(Path::new(folder).join(format!("seed-{number:03}")), seed)?;
            }
        }
        Ask::Repeat(decoder, files) => {
            for file in files {
                let accepted = decoder.try_input(&std::fs::read(file)?);
                println!("{}: {}", file.display(), if accepted { "accepted" } else { "refused" });
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(ask) = parse(&arguments) else {
        eprintln!("usage: kubox-fuzz list | seeds DECODER DIR | repeat DECODER FILE...");
        return ExitCode::from(2);
    };
    match act(&ask) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
