//! The crate as its users see it.

mod certificates;
mod folder;
mod keys;
mod tls;
mod verify;

/// A moment in January 2027.
const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

fn authority(name: &str) -> pki::Authority {
    pki::Authority::self_signed(name, pki::PrivateKey::generate().unwrap(), NOW, 3650 * DAY).unwrap()
}

fn data(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/it/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}
