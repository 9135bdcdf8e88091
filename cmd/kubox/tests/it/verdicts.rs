//! Valid objects, changed field by field: what a real kube-apiserver accepts and refuses, kubox does too.
//!
//! `known-verdicts.txt` lists the changes on which the two do not agree yet. As with the conversations, the list may only
//! become shorter (`UPDATE_EXPECT=1` writes it anew).

use std::collections::BTreeSet;
use std::path::Path;

use conformance::{Credentials, Mode, Target, mutate};

use crate::harness::Server;

#[test]
fn changes_of_single_fields_are_judged_as_recorded() {
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
    let report =
        mutate::run(&folder.join("mutations"), &target, Mode::Check, None, None).expect("the changes are sent");
    let differ: BTreeSet<String> = report
        .kinds
        .iter()
        .flat_map(|kind| kind.differences.iter().map(move |difference| format!("{}: {difference}", kind.kind)))
        .collect();
    let list = folder.join("known-verdicts.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let mut text = String::from("# Changes that are not judged as recorded yet. May only become shorter.\n");
        text.extend(differ.iter().map(|line| format!("{line}\n")));
        std::fs::write(&list, text).expect("the list can be written");
    }
    let text = std::fs::read_to_string(&list).unwrap_or_default();
    let known: BTreeSet<String> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let sent: usize = report.kinds.iter().map(|kind| kind.sent).sum();
    println!("{} of {sent} changes judged as recorded", sent - differ.len());
    let new: Vec<&String> = differ.difference(&known).collect();
    assert!(new.is_empty(), "{} changes are no longer judged as recorded: {new:#?}", new.len());
    let mended: Vec<&String> = known.difference(&differ).collect();
    if !mended.is_empty() {
        println!("{} changes are judged as recorded now; take them off the list: {mended:#?}", mended.len());
    }
}
