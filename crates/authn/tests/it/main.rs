//! The crate as the API server uses it.

mod authenticators;
mod discovery;
mod impersonation;
mod service_accounts;
mod token_requests;

use authn::service_account::{Binding, Issuer, ObjectRef, Order};
use pki::PrivateKey;

/// A moment in January 2027.
const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn data(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../pki/tests/it/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

fn issuer(key: &PrivateKey) -> Issuer {
    Issuer::new(ISSUER, key.jws_signer().unwrap())
}

/// A token for an hour, for the service account `ns/robot` with the uid `sa-uid`.
fn order(binding: Binding) -> Order {
    Order {
        namespace: "ns".into(),
        service_account: ObjectRef::new("robot", "sa-uid"),
        audiences: strings(&[ISSUER]),
        binding,
        lifetime_seconds: 3600,
        warn_after_seconds: None,
    }
}
