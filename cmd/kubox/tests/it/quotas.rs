//! A quota holds however many ask at once.

use crate::harness::Server;
use crate::wire::Address;

const WORKERS: usize = 8;
const EACH: usize = 10;
const LIMIT: usize = 25;

#[test]
fn a_quota_holds_under_concurrent_creations() {
    let server = Server::new(&[]);
    let address = Address::of(&server);
    let ask = |method: &str, path: &str, body: &str| {
        address.connect().expect("a connection").ask(method, path, body).expect("an answer")
    };
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let hard = format!(r#"{{"count/configmaps":"{LIMIT}"}}"#);
    let made = ask("POST", quotas, &format!(r#"{{"metadata":{{"name":"q"}},"spec":{{"hard":{hard}}}}}"#));
    assert_eq!(made.code, 201, "{}", made.body);
    // There is no controller here that would do the first count.
    let mut quota = made.json();
    quota["status"] =
        serde_json::json!({"hard": {"count/configmaps": LIMIT.to_string()}, "used": {"count/configmaps": "0"}});
    let counted = ask("PUT", &format!("{quotas}/q/status"), &quota.to_string());
    assert_eq!(counted.code, 200, "{}", counted.body);

    let create = |worker: usize| {
        let mut connection = address.connect().expect("a connection");
        let mut codes = Vec::new();
        for nth in 0..EACH {
            let body = format!(r#"{{"metadata":{{"name":"c{worker}-{nth}"}}}}"#);
            let answer = connection.ask("POST", "/api/v1/namespaces/default/configmaps", &body).expect("an answer");
            assert!(answer.code == 201 || answer.body.contains("exceeded quota: q"), "{}", answer.body);
            codes.push(answer.code);
        }
        codes
    };
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn({
                    let create = &create;
                    move || create(worker)
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    let count = |code: u16| codes.iter().filter(|one| **one == code).count();
    assert_eq!((count(201), count(403)), (LIMIT, WORKERS * EACH - LIMIT));
    let quota = ask("GET", &format!("{quotas}/q"), "").json();
    assert_eq!(quota["status"]["used"]["count/configmaps"], LIMIT.to_string());
}
