//! Recorded conversations of a real kube-apiserver, held again with kubox.
//!
//! `known-differences.txt` lists the steps that are not as recorded yet: later features, and bugs to mend. The list may
//! only become shorter: a step that differs and is not listed fails the test, and one that is listed and no longer
//! differs is named, to be taken off (`UPDATE_EXPECT=1` writes the list anew).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use conformance::{Credentials, Failure, Mode, Target};

use crate::harness::Server;

#[test]
fn conversations_go_as_recorded() {
    // An address that is not loopback: only such a one becomes the endpoint of the Service `kubernetes`.
    let server = Server::new(&["--advertise-address", "10.255.255.1"]);
    let target = Target {
        url: server.url(),
        ca: Some(server.data("certificate-authority-data")),
        admin: Credentials::Certificate {
            certificate: server.data("client-certificate-data"),
            key: server.data("client-key-data"),
        },
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/conformance");
    let scripts = folder.join("scripts");
    let report = conformance::run(&scripts, &target, Mode::Check, None).expect("the scripts run");
    let differences = folder.join("known-differences.txt");
    let steps = names_of(&report.failures);
    let failed: BTreeSet<String> = steps.iter().cloned().collect();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let mut text =
            String::from("# Steps that are not as recorded yet: theme, case, request. May only become shorter.\n");
        text.extend(failed.iter().map(|step| format!("{step}\n")));
        std::fs::write(&differences, text).expect("the list can be written");
    }
    let text = std::fs::read_to_string(&differences).unwrap_or_default();
    let known: BTreeSet<String> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let mut new: Vec<&String> = failed.difference(&known).collect();
    // Some conversations are about time (a watch of one second, an age). What differs must differ twice.
    let themes: BTreeSet<String> = new.iter().filter_map(|step| Some(step.split_once(' ')?.0.to_owned())).collect();
    let mut again: BTreeSet<String> = BTreeSet::new();
    for theme in &themes {
        let report = conformance::run(&scripts, &target, Mode::Check, Some(theme)).expect("the scripts run");
        again.extend(names_of(&report.failures));
    }
    new.retain(|step| again.contains(*step));
    let mended: Vec<&String> = known.difference(&failed).collect();
    println!("{} steps as recorded, {} known differences", report.passed, failed.len() - new.len());
    for (failure, step) in report.failures.iter().zip(&steps) {
        if new.contains(&step) {
            println!("{} {step}\n    {}", failure.place, failure.details.join("\n    "));
        }
    }
    assert!(new.is_empty(), "{} steps are no longer as recorded: {new:#?}", new.len());
    if !mended.is_empty() {
        println!("{} steps are as recorded now; take them off the list: {mended:#?}", mended.len());
    }
}

/// A name for each failed step that does not change when scripts grow: theme, case, request, and a number where a case
/// fails at the same request more than once.
fn names_of(failures: &[Failure]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let name = |failure: &Failure| {
        let theme = failure.place.split('.').next().unwrap_or_default();
        let name = format!("{theme} ({}) {}", failure.case, failure.request);
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { name } else { format!("{name} #{count}") }
    };
    failures.iter().map(name).collect()
}
