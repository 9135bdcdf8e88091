//! `kubox-conformance`: records the scripts from a reference server, or checks another server against them.

use std::path::PathBuf;
use std::process::ExitCode;

use conformance::{Credentials, Mode, Target, mutate, run};

const USAGE: &str = "\
usage: kubox-conformance check|record               [--only THEME[/CASE]] [--scripts FOLDER]       and where to
       kubox-conformance mutate check|mutate record [--only KIND] [--mutations FOLDER] [--golden FOLDER]

where to: --server https://HOST:PORT [--ca FILE] (--cert FILE --key FILE | --token TOKEN)

check          sends the scripts' requests and compares the answers
record         writes the answers into the scripts (answers with a `cite:` are kept)
mutate check   changes valid objects field by field and compares the verdicts
mutate record  makes the list of changes anew (with what GOLDEN has besides) and writes the verdicts
";

fn main() -> ExitCode {
    match command() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("kubox-conformance: {e}");
            let mut source = e.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::from(2)
        }
    }
}

fn command() -> Result<bool, Box<dyn std::error::Error>> {
    let mut words: Vec<String> = Vec::new();
    let (mut server, mut ca, mut certificate, mut key, mut token, mut only) = (None, None, None, None, None, None);
    let mut scripts = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts"));
    let mut mutations = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/mutations"));
    let mut golden = None;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("server") => server = Some(arguments.value()?.string()?),
            lexopt::Arg::Long("ca") => ca = Some(std::fs::read(arguments.value()?)?),
            lexopt::Arg::Long("cert") => certificate = Some(std::fs::read(arguments.value()?)?),
            lexopt::Arg::Long("key") => key = Some(std::fs::read(arguments.value()?)?),
            lexopt::Arg::Long("token") => token = Some(arguments.value()?.string()?),
            lexopt::Arg::Long("only") => only = Some(arguments.value()?.string()?),
            lexopt::Arg::Long("scripts") => scripts = PathBuf::from(arguments.value()?),
            lexopt::Arg::Long("mutations") => mutations = PathBuf::from(arguments.value()?),
            lexopt::Arg::Long("golden") => golden = Some(PathBuf::from(arguments.value()?)),
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                print!("{USAGE}");
                return Ok(true);
            }
            lexopt::Arg::Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let (mutate, mode) = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["check"] => (false, Mode::Check),
        ["record"] => (false, Mode::Record),
        ["mutate", "check"] => (true, Mode::Check),
        ["mutate", "record"] => (true, Mode::Record),
        _ => return Err(USAGE.into()),
    };
    let admin = match (certificate, key, token) {
        (Some(certificate), Some(key), None) => Credentials::Certificate { certificate, key },
        (None, None, Some(token)) => Credentials::Token(token),
        _ => return Err("give --cert and --key, or --token".into()),
    };
    let target = Target { url: server.ok_or("give --server")?, ca, admin };
    if mutate {
        let report = mutate::run(&mutations, &target, mode, golden.as_deref(), only.as_deref())?;
        println!("{report}");
        return Ok(report.is_clean());
    }
    let report = run(&scripts, &target, mode, only.as_deref())?;
    println!("{report}");
    Ok(report.failures.is_empty())
}

use lexopt::ValueExt as _;
