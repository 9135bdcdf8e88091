//! Flags: each of upstream's has a verdict, and those that are honoured do what they say.

mod bad_files;
mod own_pki;
mod serving;
mod table;
mod users;

use std::process::Command;

/// Runs kubox; gives its exit status, what it wrote, and what it complained of.
fn kubox(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kubox")).args(args).output().expect("kubox starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs `kubox server` with what must be refused in one line; gives the line.
#[track_caller]
fn refusal(args: &[&str]) -> String {
    let (code, _, complaint) = kubox(&[&["server"], args].concat());
    assert_eq!(code, Some(1), "{args:?}: {complaint}");
    let line = complaint.strip_suffix('\n').unwrap_or(&complaint);
    assert!(!line.is_empty() && !line.contains('\n'), "{args:?}: one line is wanted: {complaint}");
    line.strip_prefix("Error: ").unwrap_or_else(|| panic!("{args:?}: {line}")).to_owned()
}
