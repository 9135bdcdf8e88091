//! Writes a document to standard output, and how long it took to standard error: `dump v2`, `dump v2.proto`,
//! `dump apis/apps/v1`, or `dump index`.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use api_types::Stability;
use openapi_docs::Descriptions;

fn main() {
    let what = std::env::args().nth(1).unwrap_or_else(|| "v2".into());
    let served = api_types::resources().iter().filter(|r| r.stability() == Stability::Stable);
    let start = Instant::now();
    let descriptions = Descriptions::unpack();
    let unpacked = start.elapsed();
    let document = match what.as_str() {
        "v2" => openapi::v2(served, &descriptions),
        "v2.proto" => openapi::v2_proto(served, &descriptions),
        "index" => openapi::OpenApi::new(served.cloned().map(Arc::new).collect()).v3_index(),
        path => openapi::v3(path, served, &descriptions),
    };
    eprintln!("{} bytes; {unpacked:?} to unpack descriptions, {:?} in all", document.len(), start.elapsed());
    std::io::stdout().write_all(&document).expect("standard output takes the document");
}
