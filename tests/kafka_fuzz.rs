//! The fuzz targets of tests/fuzz without a fuzzer: their corpus as it is, and bent at random from a seed.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;
#[path = "fuzz/entry.rs"]
mod entry;

use common::Random;
use std::{fs, path::Path};

/// Name and bytes of each file, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(read).collect();
    files.sort();
    assert!(files.len() >= 12, "{target}: {} files", files.len());
    files
}

/// One file with some of its bytes bent.
fn bent(seed: u64, files: &[(String, Vec<u8>)], others: &[&[u8]]) -> (String, Vec<u8>) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (name, mut bytes) = files[random.below(files.len() as u64) as usize].clone();
    common::bend(&mut bytes, &mut random, others);
    (name, bytes)
}

/// Bends the corpus, each time from a seed of its own that a failure names. What is bent a little must get past the first
/// look often enough: `run` says whether it did.
fn bend(target: &str, cases: u64, run: impl Fn(&[u8]) -> bool) {
    let files = corpus(target);
    let others: Vec<&[u8]> = files.iter().map(|(_, bytes)| &**bytes).collect();
    let mut taken = 0;
    for seed in 1..=cases {
        let (name, bytes) = bent(seed, &files, &others);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&bytes)));
        taken += u64::from(ran.unwrap_or_else(|_| panic!("seed {seed}: {name} bent to {bytes:02x?}")));
    }
    assert!(taken > cases / 20, "{taken} of {cases}");
}

#[test]
fn requests_of_the_corpus_are_answered() {
    for (name, bytes) in corpus("requests") {
        let response = entry::request(&bytes);
        // One asks for no answer, one for a version that is not there.
        assert_eq!(response.is_empty(), ["produce-acks-0", "metadata-99"].contains(&&*name), "{name}");
    }
}

#[test]
fn batches_of_the_corpus_are_taken_or_refused() {
    for (name, bytes) in corpus("batches") {
        assert_eq!(entry::batch(&bytes).is_none(), name.starts_with("bad-"), "{name}");
    }
}

#[test]
fn bent_requests_are_answered_or_refused() {
    bend("requests", 5000, |bytes| !entry::request(bytes).is_empty());
}

#[test]
fn bent_batches_are_taken_or_refused() {
    bend("batches", 50_000, |bytes| entry::batch(bytes).is_some());
}
