//! A server that is told to end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use crate::harness::{Server, kubectl_layer, run};

#[test]
fn watches_end_in_good_order_with_the_server() {
    let server = Server::new(&[]);
    let mut watch = Command::new(kubectl_layer(35).join("kubectl/kubectl"))
        .arg("--kubeconfig")
        .arg(server.kubeconfig())
        .args(["get", "--raw", "/api/v1/namespaces?watch=true&resourceVersion=0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("stdout is piped"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("an event");
    assert!(first.contains("ADDED"), "{first}");

    let (told, _, complaint) = run(Command::new("sh").args(["-c", &format!("kill -TERM {}", server.pid())]));
    assert!(told, "{complaint}");
    let mut rest = String::new();
    lines.read_to_string(&mut rest).expect("the rest");
    let ended = watch.wait_with_output().expect("kubectl ends");
    // A watch that was cut off, as it was when the server's patience had run out, is an error to its client.
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
