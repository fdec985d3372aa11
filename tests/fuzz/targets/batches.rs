//! A record batch of any bytes.
#![no_main]

#[path = "../entry.rs"]
#[allow(dead_code, reason = "each target uses a part")]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = entry::batch(bytes);
});
