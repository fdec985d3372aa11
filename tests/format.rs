//! The page of the format on disk (src/log/format.md): its pictures are what a broker writes.
#![allow(clippy::unwrap_used)]

use plainlog::{
    Broker, Config, Producer, Record,
    broker::Clock,
    log::{
        batches::Entry,
        disk::{Disk, MemoryDisk},
    },
};
use std::{path::Path, sync::Arc};

const PAGE: &str = include_str!("../src/log/format.md");

/// The block of the page behind a heading.
fn picture(heading: &str) -> Vec<&'static str> {
    let (_, rest) = PAGE.split_once(&format!("## {heading}\n")).unwrap();
    let (_, rest) = rest.split_once("```text\n").unwrap();
    rest.split_once("```").unwrap().0.lines().collect()
}

/// A disk on which a broker stored `hello` and, in one batch, `world`, a keyed record with a time of its own, and one with
/// the same time.
fn example() -> (MemoryDisk, Vec<u8>, Vec<u8>) {
    let disk = MemoryDisk::default();
    let clock = Clock::Manual(Arc::new(1_700_000_000_000.into()));
    let config = Config { data_dir: Some("data".into()), ..Config::in_memory() };
    let broker = Broker::open_on(Arc::new(disk.clone()), config, clock).unwrap();
    let mut producer = Producer::embedded(&broker);
    producer.send("messages", "hello").unwrap();
    let keyed = Record::new("two\nlines").key("user-1").timestamp(1_700_000_000_500);
    let again = Record::new("again").timestamp(1_700_000_000_500);
    producer.send_batch("messages", [Record::new("world"), keyed, again]).unwrap();
    let read = |name: &str| {
        let file = disk.open(&Path::new("data/messages/0").join(name)).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let (log, batches) = (read("00000000000000000000.log"), read("00000000000000000000.batches"));
    (disk, log, batches)
}

#[test]
fn the_lines_of_the_page_are_those_of_a_log() {
    let (_, log, _) = example();
    assert_eq!(String::from_utf8(log).unwrap().lines().collect::<Vec<_>>(), picture("Lines"));
}

#[test]
fn the_files_of_the_page_are_those_of_a_broker() {
    let (disk, ..) = example();
    let mut found = Vec::new();
    for dir in ["data", "data/messages", "data/messages/0"] {
        for name in disk.list(Path::new(dir)).unwrap().iter().filter(|name| !name.is_dir && name.name != "~lock") {
            found.push(format!("{dir}/{}", name.name));
        }
    }
    let drawn: Vec<_> =
        picture("Files").iter().map(|line| line.split("  ").next().unwrap().trim().to_string()).collect();
    for file in &found {
        assert!(drawn.contains(file), "{file} is not on the page");
    }
}

#[test]
fn the_fields_of_the_page_are_those_of_an_entry() {
    let (_, _, batches) = example();
    let entry: &[u8; 64] = batches[64..].try_into().unwrap();
    assert!(Entry::decode(entry).is_some());
    let mut at = 0;
    for row in picture("An entry").iter().skip(1).filter(|row| !row.starts_with(' ')) {
        let words: Vec<&str> = row.split_whitespace().collect();
        let size = match words[1] {
            "u16" | "i16" => 2,
            "u32" | "i32" => 4,
            _ => 8,
        };
        assert_eq!(words[0].parse::<usize>().unwrap(), at, "{row}");
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&entry[at..at + size]);
        let number = u64::from_le_bytes(bytes);
        let shown = match words[1].starts_with('i') && number == u64::MAX >> (64 - 8 * size) {
            true => "-1".to_string(),
            false => number.to_string(),
        };
        assert!(words[2] == shown || words[2] == "…", "{row}: {shown} is there");
        at += size;
    }
    assert_eq!(at, 64);
}
