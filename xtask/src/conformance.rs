//! Runs upstream's conformance tests against kubox and keeps the ledger.
//!
//! The binary is built by hand from upstream's sources beside the project; it is never part of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// `--e2e BINARY --kubeconfig FILE [--focus REGEX]`: runs the tests that match, one after the other, and merges the results
/// into `docs/conformance.md`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut e2e, mut kubeconfig, mut focus) = (None, None, r"\[Conformance\]".to_owned());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--e2e" => e2e = Some(PathBuf::from(value()?)),
            "--kubeconfig" => kubeconfig = Some(PathBuf::from(value()?)),
            "--focus" => focus = value()?,
            other => bail!("conformance does not know {other:?}"),
        }
    }
    let e2e = e2e.context("--e2e BINARY is needed: upstream's e2e.test")?;
    let kubeconfig = kubeconfig.context("--kubeconfig FILE is needed: that of a running kubox server")?;
    let report_dir = crate::root().join("target/e2e");
    std::fs::create_dir_all(&report_dir)?;
    let status = Command::new(&e2e)
        .arg(format!("--ginkgo.focus={focus}"))
        .args(["--ginkgo.noColor", "--e2e-verify-service-account=false", "--allowed-not-ready-nodes=-1"])
        .args(["--minStartupPods=0", "--provider=skeleton"])
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--report-dir={}", report_dir.display()))
        .status()
        .with_context(|| format!("run {}", e2e.display()))?;
    println!("e2e.test ended with {status}");
    let mut junit = None;
    for entry in std::fs::read_dir(&report_dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            junit = Some(path);
        }
    }
    let junit = junit.context("e2e.test wrote no report")?;
    let results = read_junit(&std::fs::read_to_string(&junit)?);
    ensure!(!results.is_empty(), "no test matched {focus:?}");
    write_ledger(&results)
}

/// The tests of a JUnit report that were run: name, whether it passed, and seconds.
fn read_junit(text: &str) -> BTreeMap<String, (bool, f64)> {
    let mut results = BTreeMap::new();
    for case in text.split("<testcase ").skip(1) {
        let attribute = |name: &str| {
            let start = case.find(&format!("{name}=\""))? + name.len() + 2;
            Some(&case[start..start + case[start..].find('"')?])
        };
        let body = case.split("</testcase>").next().unwrap_or_default();
        if body.contains("<skipped") {
            continue;
        }
        let name =
            attribute("name").unwrap_or_default().replace("&#34;", "\"").replace("&#39;", "'").replace("&amp;", "&");
        let seconds = attribute("time").and_then(|time| time.parse().ok()).unwrap_or(0.0);
        if name.contains("[Conformance]") {
            results.insert(name, (!body.contains("<failure"), seconds));
        }
    }
    results
}

fn write_ledger(results: &BTreeMap<String, (bool, f64)>) -> Result<()> {
    let path = crate::root().join("docs/conformance.md");
    let today = Command::new("date").arg("+%Y-%m-%d").output().context("run date")?;
    let today = String::from_utf8_lossy(&today.stdout).trim().to_owned();
    let mut rows: BTreeMap<String, String> = BTreeMap::new();
    for line in std::fs::read_to_string(&path).unwrap_or_default().lines() {
        let cells: Vec<&str> = line.split(" | ").collect();
        if let [name, rest @ ..] = cells.as_slice()
            && rest.len() == 3
            && name.contains("[Conformance]")
        {
            rows.insert(name.trim_start_matches("| ").to_owned(), rest.join(" | "));
        }
    }
    for (name, (passed, seconds)) in results {
        let verdict = if *passed { "passed" } else { "failed" };
        rows.insert(name.replace('|', "/"), format!("{verdict} | {today} | {seconds:.1} |"));
    }
    let mut out = String::from(
        "# Conformance ledger\n\nUpstream's conformance tests (e2e.test of v1.24.0-alpha.1) against kubox, by `cargo xtask conformance`.\n\
         Tests that are not listed have not been run: they need what is not there yet.\n\n\
         | test | result | date | seconds |\n|---|---|---|---|\n",
    );
    for (name, rest) in &rows {
        writeln!(out, "| {name} | {rest}")?;
    }
    let passed = rows.values().filter(|rest| rest.starts_with("passed")).count();
    writeln!(out, "\n{passed} of {} passed.", rows.len())?;
    std::fs::write(&path, out).with_context(|| format!("write {}", path.display()))
}
