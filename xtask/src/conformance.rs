//! Runs upstream's conformance tests against kubox and keeps the ledger `docs/conformance.md`.
//!
//! Upstream's programs are built by hand from its public sources, beside the project; they are never part of it.

mod cluster;
mod fake_node;
mod ledger;
mod needs;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use cluster::Cluster;
use ledger::{Ledger, Outcome, Row};
use needs::Needs;

const CONFORMANCE: &str = r"\[Conformance\]";

#[derive(Debug)]
struct Options {
    e2e: PathBuf,
    kubeconfig: Option<PathBuf>,
    focus: String,
    jobs: usize,
    all: bool,
}

/// `--e2e BINARY [--kubeconfig FILE] [--focus REGEX] [--jobs N] [--all]`: runs the conformance tests that match and are
/// possible today, and writes their rows of the ledger. Without a kubeconfig it starts a cluster of its own: kubox, and
/// upstream's controllers, scheduler and kubectl from the binary's folder.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = read_options(args)?;
    let report_dir = crate::root().join("target/e2e");
    std::fs::create_dir_all(&report_dir)?;
    let all = list_tests(&options.e2e, CONFORMANCE, &report_dir)?;
    let chosen =
        if options.focus == CONFORMANCE { all.clone() } else { list_tests(&options.e2e, &options.focus, &report_dir)? };
    let needs = Needs::read()?;
    needs.check(&all)?;

    let today = today()?;
    let mut ledger = Ledger::read(&all)?;
    let mut queue = Vec::new();
    for name in chosen.iter().filter(|name| all.contains(name)) {
        match needs.of(name) {
            Some(reason) if !options.all => ledger.not_yet(name, reason, &today),
            _ => queue.push(name.clone()),
        }
    }
    ledger.write()?;
    ensure!(!queue.is_empty(), "no conformance test that is possible today matches {:?}", options.focus);

    let cluster = match &options.kubeconfig {
        Some(_) => None,
        None => Some(Cluster::start(options.e2e.parent().context("the binary has a folder")?)?),
    };
    let kubeconfig = match (&options.kubeconfig, &cluster) {
        (Some(file), _) => file.clone(),
        (None, Some(cluster)) => cluster.kubeconfig(),
        (None, None) => bail!("no cluster"),
    };
    // The slow ones first, and at the end, one after the other, those that want the cluster for themselves.
    queue.sort_by_key(|name| !name.contains("[Slow]"));
    let (alone, beside): (Vec<String>, Vec<String>) =
        queue.into_iter().partition(|name| name.contains("[Serial]") || name.contains("[Disruptive]"));
    let ledger = Mutex::new(ledger);
    for (names, jobs) in [(beside, options.jobs), (alone, 1)] {
        let queue = Mutex::new(VecDeque::from(names));
        std::thread::scope(|scope| -> Result<()> {
            let workers: Vec<_> = (0..jobs)
                .map(|_| scope.spawn(|| work(&queue, &ledger, &options.e2e, &kubeconfig, &report_dir, &today)))
                .collect();
            for worker in workers {
                worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
            }
            Ok(())
        })?;
    }
    let ledger = ledger.into_inner().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
    println!("{}", ledger.summary());
    Ok(())
}

fn read_options(args: &[String]) -> Result<Options> {
    let (mut e2e, mut kubeconfig, mut focus, mut jobs, mut all) = (None, None, CONFORMANCE.to_owned(), 4, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--e2e" => e2e = Some(PathBuf::from(value()?)),
            "--kubeconfig" => kubeconfig = Some(PathBuf::from(value()?)),
            "--focus" => focus = value()?,
            "--jobs" => jobs = value()?.parse().context("--jobs wants a number")?,
            "--all" => all = true,
            other => bail!("conformance does not know {other:?}"),
        }
    }
    ensure!(jobs > 0, "--jobs wants at least 1");
    let e2e = e2e.context("--e2e BINARY is needed: upstream's e2e.test")?;
    Ok(Options { e2e, kubeconfig, focus, jobs, all })
}

fn today() -> Result<String> {
    let output = Command::new("date").arg("+%Y-%m-%d").output().context("run date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The names of the tests that match, by a dry run.
fn list_tests(e2e: &Path, focus: &str, report_dir: &Path) -> Result<Vec<String>> {
    let report = report_dir.join("list.json");
    let output = Command::new(e2e)
        .arg(format!("--ginkgo.focus={focus}"))
        .args(["--ginkgo.dry-run", "--ginkgo.silence-skips", "--provider=skeleton"])
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .output()
        .with_context(|| format!("run {}", e2e.display()))?;
    ensure!(output.status.success(), "the dry run failed: {}", String::from_utf8_lossy(&output.stdout));
    let text = std::fs::read(&report).with_context(|| format!("read {}", report.display()))?;
    Ok(names_of(&serde_json::from_slice(&text)?))
}

/// The tests of a ginkgo report that were not skipped.
fn names_of(report: &Value) -> Vec<String> {
    let suites = report.as_array().into_iter().flatten();
    let specs = suites.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten());
    let mut names: Vec<String> = specs
        .filter(|spec| spec["LeafNodeType"] == "It" && spec["State"] != "skipped")
        .map(|spec| {
            let containers = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
            let texts: Vec<&str> = containers.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str).collect();
            texts.join(" ")
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn work(
    queue: &Mutex<VecDeque<String>>,
    ledger: &Mutex<Ledger>,
    e2e: &Path,
    kubeconfig: &Path,
    report_dir: &Path,
    today: &str,
) -> Result<()> {
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    while let Some(name) = next() {
        let (outcome, seconds, note) = run_test(&name, e2e, kubeconfig, report_dir)?;
        println!("{} {seconds:6.1} s  {name}", outcome.word());
        let mut ledger = ledger.lock().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
        ledger.set(&name, Row { outcome, date: today.to_owned(), seconds: Some(seconds), note });
        ledger.write()?;
    }
    Ok(())
}

/// Runs one test in a process of its own. What it said stays in a file named after its place in the report folder.
fn run_test(name: &str, e2e: &Path, kubeconfig: &Path, report_dir: &Path) -> Result<(Outcome, f64, String)> {
    let log = report_dir.join(format!("{}.log", file_name(name)));
    let file = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let kubectl = e2e.with_file_name("kubectl");
    let mut command = Command::new(e2e);
    command
        .arg(format!("--ginkgo.focus={}", escape(name)))
        .args(["--ginkgo.no-color", "--ginkgo.v", "--ginkgo.silence-skips", "--ginkgo.timeout=20m"])
        .args(["--e2e-verify-service-account=false", "--allowed-not-ready-nodes=-1", "--minStartupPods=0"])
        .arg("--provider=skeleton")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    if kubectl.is_file() {
        command.arg(format!("--kubectl-path={}", kubectl.display()));
    }
    let status = command.status().with_context(|| format!("run {}", e2e.display()))?;
    let text = std::fs::read(&log).with_context(|| format!("read {}", log.display()))?;
    Ok(verdict(&String::from_utf8_lossy(&text), status.success()))
}

/// What a run's output says: the outcome, how long the test took, and why it failed.
fn verdict(text: &str, success: bool) -> (Outcome, f64, String) {
    let result = text.lines().rev().find(|line| line.starts_with("• [") || line.starts_with("S [SKIPPED]"));
    let seconds = result
        .and_then(|line| line.rsplit_once(" seconds]"))
        .and_then(|(before, _)| before.rsplit_once('[')?.1.parse().ok())
        .unwrap_or(0.0);
    if text.contains("Ran 1 of ") && success {
        return (Outcome::Passed, seconds, String::new());
    }
    let says = |mark: &str| {
        // The report on the test follows the line with the result; before it is what the test said while it ran.
        let report = text.lines().skip_while(|line| Some(*line) != result).skip(1);
        let mut lines = report.map(str::trim).skip_while(|line| !line.starts_with(mark));
        let first = lines.next()?.strip_prefix(mark)?.trim();
        Some(if first.is_empty() { lines.next()? } else { first }.to_owned())
    };
    let note = says("[FAILED]").or_else(|| says("[SKIPPED]")).unwrap_or_else(|| "it did not run".to_owned());
    (Outcome::Failed, seconds, note)
}

/// The name as a regular expression that matches only itself.
fn escape(name: &str) -> String {
    name.chars().flat_map(|c| (c.is_ascii_punctuation()).then_some('\\').into_iter().chain([c])).collect()
}

fn file_name(name: &str) -> String {
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut out = words.join("-");
    out.truncate(180);
    // Long names may differ only in their ends.
    let sum = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    format!("{out}-{sum:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_lists_what_was_not_skipped() {
        let report = serde_json::json!([{"SpecReports": [
            {"LeafNodeType": "BeforeSuite", "State": "passed"},
            {"LeafNodeType": "It", "State": "passed", "ContainerHierarchyTexts": ["[sig-x] A", "b"], "LeafNodeText": "c"},
            {"LeafNodeType": "It", "State": "skipped", "ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeText": "d"},
            {"LeafNodeType": "It", "State": "passed", "ContainerHierarchyTexts": null, "LeafNodeText": "a"},
        ]}]);
        assert_eq!(names_of(&report), ["[sig-x] A b c", "a"]);
    }

    #[test]
    fn verdicts() {
        let check = |text: &str, success, expect: (Outcome, f64, &str)| {
            let (outcome, seconds, note) = verdict(text, success);
            assert_eq!((outcome, seconds, note.as_str()), expect, "{text}");
        };
        check("x\n• [4.048 seconds]\n---\nRan 1 of 7906 Specs in 5.9 seconds\n", true, (Outcome::Passed, 4.048, ""));
        check(
            "  [FAILED] in [It] - x.go:1\n• [FAILED] [61.5 seconds]\n[sig-x] A\n\n  [FAILED] timed out\n  In [It]\nRan 1 of 2 Specs\n",
            false,
            (Outcome::Failed, 61.5, "timed out"),
        );
        check(
            "S [SKIPPED] [0.5 seconds]\n[sig-x] A\n\n  [SKIPPED] Only supported for 2 nodes\n  In [It]\nRan 0 of 2 Specs\n",
            true,
            (Outcome::Failed, 0.5, "Only supported for 2 nodes"),
        );
        check("panic\n", false, (Outcome::Failed, 0.0, "it did not run"));
    }

    #[test]
    fn a_name_is_escaped_as_a_whole() {
        assert_eq!(escape("[sig-cli] a/b (c) d."), r"\[sig\-cli\] a\/b \(c\) d\.");
    }
}
