//! The decoder that `KUBOX_DECODER` names, guided by coverage.
#![no_main]

use std::sync::OnceLock;

use fuzz::Decoder;
use libfuzzer_sys::fuzz_target;

fn decoder() -> &'static Decoder {
    static DECODER: OnceLock<&Decoder> = OnceLock::new();
    DECODER.get_or_init(|| {
        let name = std::env::var("KUBOX_DECODER").expect("KUBOX_DECODER names a decoder");
        fuzz::find(&name).unwrap_or_else(|| panic!("no decoder is called {name:?}"))
    })
}

fuzz_target!(|input: &[u8]| {
    (decoder().check)(input);
});
