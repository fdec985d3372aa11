//! Random ids that nobody can guess. They come from the keys of the standard library's hasher, which the operating system
//! provides.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::*},
};

/// A number out of 2^64.
pub fn number() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one((CALLS.fetch_add(1, Relaxed), std::process::id()))
}

/// A random UUID (RFC 9562, version 4).
pub fn uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number().to_le_bytes());
    bytes[8..].copy_from_slice(&number().to_le_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// A UUID as Kafka prints one: base64url without padding, 22 characters.
pub fn shown(uuid: &[u8; 16]) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(uuid)
}

/// Reads a UUID as Kafka prints one.
pub fn parse(text: &str) -> Option<[u8; 16]> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
