//! kill -9 under load: every acknowledged write is there afterwards.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::{Server, run};

/// How often the server is killed; `KUBOX_LONG` does it ten times as often.
const KILLS: usize = 20;

/// Writers that run while the server is killed.
const WRITERS: usize = 4;

fn curl(server: &Server, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let pem = server.dir.join("test-client.pem");
    let ca = server.dir.join("pki/ca.crt");
    let mut command = Command::new("curl");
    command.args(["-s", "--max-time", "10", "-X", method, "-w", "\n%{http_code}", "--cert"]);
    command.arg(&pem).arg("--cacert").arg(&ca).args(["-H", "Content-Type: application/json"]);
    if !body.is_empty() {
        command.args(["-d", body]);
    }
    command.arg(format!("{}{path}", server.url()));
    let (_, out, _) = run(&mut command);
    let (body, code) = out.rsplit_once('\n')?;
    Some((code.parse().ok().filter(|code| *code != 0)?, body.to_owned()))
}

fn write_client_pem(server: &Server) {
    let mut pem = server.data("client-certificate-data");
    pem.extend(server.data("client-key-data"));
    std::fs::write(server.dir.join("test-client.pem"), pem).expect("the folder can be written");
}

#[test]
fn no_acknowledged_write_is_lost_by_a_kill() {
    let kills = if std::env::var_os("KUBOX_LONG").is_some() { KILLS * 10 } else { KILLS };
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Per ConfigMap the highest value that the server acknowledged, and the highest that was sent.
    let acknowledged: Arc<Mutex<BTreeMap<String, (u64, u64)>>> = Arc::default();
    let path = "/api/v1/namespaces/default/configmaps";
    for round in 0..kills {
        let server = Arc::new(Server::over(folder.path(), &[]));
        write_client_pem(&server);
        check(&server, path, &acknowledged.lock().expect("no writer panicked"), round);
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (server, acknowledged, stop) = (Arc::clone(&server), Arc::clone(&acknowledged), Arc::clone(&stop));
                std::thread::spawn(move || write(&server, path, writer, &acknowledged, &stop))
            })
            .collect();
        // Let some writes through, more in each round, then pull the plug in the middle of the next ones.
        let before: u64 = total(&acknowledged);
        while total(&acknowledged) < before + 10 + (round as u64 % 7) * 3 {
            std::thread::yield_now();
        }
        let pid = server.pid();
        let (killed, _, complaint) = run(Command::new("kill").args(["-9", &pid.to_string()]));
        assert!(killed, "{complaint}");
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().expect("a writer does not panic");
        }
        if let Ok(server) = Arc::try_unwrap(server) {
            server.kill();
        }
    }
    let server = Server::over(folder.path(), &[]);
    write_client_pem(&server);
    check(&server, path, &acknowledged.lock().expect("no writer panicked"), kills);
}

fn total(acknowledged: &Mutex<BTreeMap<String, (u64, u64)>>) -> u64 {
    acknowledged.lock().expect("no writer panicked").values().map(|(value, _)| value).sum()
}

fn write(
    server: &Server,
    path: &str,
    writer: usize,
    acknowledged: &Mutex<BTreeMap<String, (u64, u64)>>,
    stop: &AtomicBool,
) {
    let name = format!("w{writer}");
    while !stop.load(Ordering::Relaxed) {
        let value = {
            let mut all = acknowledged.lock().expect("no writer panicked");
            let entry = all.entry(name.clone()).or_default();
            entry.1 += 1;
            entry.1
        };
        let body = format!(r#"{{"metadata":{{"name":"{name}"}},"data":{{"v":"{value}"}}}}"#);
        let answer = match curl(server, "PUT", &format!("{path}/{name}"), &body) {
            Some((404, _)) => curl(server, "POST", path, &body),
            other => other,
        };
        if let Some((200 | 201, _)) = answer {
            let mut all = acknowledged.lock().expect("no writer panicked");
            let entry = all.entry(name.clone()).or_default();
            entry.0 = entry.0.max(value);
        }
    }
}

/// Every ConfigMap has the value acknowledged last, or one that was sent after it.
fn check(server: &Server, path: &str, acknowledged: &BTreeMap<String, (u64, u64)>, round: usize) {
    for (name, (least, most)) in acknowledged {
        if *least == 0 {
            continue;
        }
        let (code, body) = curl(server, "GET", &format!("{path}/{name}"), "").expect("the server answers");
        assert_eq!(code, 200, "round {round}: {name} was acknowledged at {least} and is gone");
        let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let value: u64 = value["data"]["v"].as_str().and_then(|v| v.parse().ok()).expect("a number");
        assert!(
            (*least..=*most).contains(&value),
            "round {round}: {name} has {value}, acknowledged was {least}, sent {most}"
        );
    }
}
