//! Recorded conversations of a real kube-apiserver, held again with kubox.
//!
//! `known-differences.txt` lists the steps that are not as recorded yet: later features, and bugs to mend. The list may
//! only become shorter: a step that is as recorded and still listed fails the test, too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use conformance::{Credentials, Failure, Mode, Target};

use crate::harness::Server;

#[test]
fn conversations_go_as_recorded() {
    let server = Server::new(&[]);
    let target = Target {
        url: server.url(),
        ca: Some(server.data("certificate-authority-data")),
        admin: Credentials::Certificate {
            certificate: server.data("client-certificate-data"),
            key: server.data("client-key-data"),
        },
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/conformance");
    let report = conformance::run(&folder.join("scripts"), &target, Mode::Check, None).expect("the scripts run");
    let differences = folder.join("known-differences.txt");
    let steps = names_of(&report.failures);
    let failed: BTreeSet<String> = steps.iter().cloned().collect();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let mut text = String::from("# Steps that are not as recorded yet: theme, case, request. May only become shorter.\n");
        text.extend(failed.iter().map(|step| format!("{step}\n")));
        std::fs::write(&differences, text).expect("the list can be written");
    }
    let text = std::fs::read_to_string(&differences).unwrap_or_default();
    let known: BTreeSet<String> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let new: Vec<&String> = failed.difference(&known).collect();
    let mended: Vec<&String> = known.difference(&failed).collect();
    println!("{} steps as recorded, {} known differences", report.passed, failed.len() - new.len());
    for (failure, step) in report.failures.iter().zip(&steps) {
        if new.contains(&step) {
            println!("{} {step}\n    {}", failure.place, failure.details.join("\n    "));
        }
    }
    assert!(new.is_empty(), "{} steps are no longer as recorded: {new:#?}", new.len());
    assert!(
        mended.is_empty(),
        "{} steps are as recorded now; take them off the list (UPDATE_EXPECT=1): {mended:#?}",
        mended.len()
    );
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
