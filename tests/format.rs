//! The page of the format on disk (src/log/format.md): its pictures are what a broker writes.
#![allow(clippy::unwrap_used)]

use plainlog::{
    Broker, Config, Producer, Record,
    broker::{Clock, Gathered, Marker, Sequence, Terms},
    config::Settings,
    log::{
        Numbering, Outcome,
        batches::{Entry, Flags},
        disk::{Disk, MemoryDisk},
        record::Records,
    },
};
use std::{borrow::Cow, path::Path, sync::Arc};

const PAGE: &str = include_str!("../src/log/format.md");

/// The block of the page behind a heading.
fn picture(heading: &str) -> Vec<&'static str> {
    pictures(heading)[0].clone()
}

/// The blocks of the page between a heading and the next.
fn pictures(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = PAGE.split_once(&format!("## {heading}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    section.split("```").skip(1).step_by(2).map(|block| block.lines().skip(1).collect()).collect()
}

fn broker_on(disk: &MemoryDisk) -> Broker {
    let clock = Clock::Manual(Arc::new(1_700_000_000_000.into()));
    let topic_defaults = Settings { segment_bytes: 1024, ..Settings::default() };
    let config = Config { data_dir: Some("data".into()), topic_defaults, ..Config::in_memory() };
    Broker::open_on(Arc::new(disk.clone()), config, clock).unwrap()
}

fn read(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    let file = disk.open(&Path::new("data/messages/0").join(name)).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// A disk on which a broker stored `hello` and, in one batch, `world`, a keyed record with a time of its own, and one with
/// the same time.
fn example() -> (MemoryDisk, Vec<u8>, Vec<u8>) {
    let disk = MemoryDisk::default();
    let broker = broker_on(&disk);
    let mut producer = Producer::embedded(&broker);
    producer.send("messages", "hello").unwrap();
    let keyed = Record::new("two\nlines").key("user-1").timestamp(1_700_000_000_500);
    let again = Record::new("again").timestamp(1_700_000_000_500);
    producer.send_batch("messages", [Record::new("world"), keyed, again]).unwrap();
    let (log, batches) = (read(&disk, "00000000000000000000.log"), read(&disk, "00000000000000000000.batches"));
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

#[test]
fn the_transactions_of_the_page_are_those_of_a_log() {
    let disk = MemoryDisk::default();
    let broker = broker_on(&disk);
    broker.create_topic("messages", 1).unwrap();
    let partition = broker.topic("messages").unwrap().partition(0).unwrap();
    let write = |producer_id, value: &str| {
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Borrowed(value.as_bytes())));
        let producer = Some(Numbering { producer_id, producer_epoch: 0, base_sequence: 0 });
        let terms = Terms { flags: Flags::TRANSACTIONAL, producer, sequence: Sequence::Next, ..Terms::default() };
        partition.write(&records, terms).unwrap();
    };
    let end = |producer_epoch, outcome, coordinator_epoch| {
        let marker = Marker { producer_id: 7, producer_epoch, outcome, coordinator_epoch };
        partition.make_durable(&partition.write_marker(marker).unwrap()).unwrap();
    };
    ["paid", "sent"].into_iter().for_each(|value| write(7, value));
    end(0, Outcome::Commit, 0);
    write(7, "lost");
    write(8, "of another transaction");
    end(1, Outcome::Abort, 2);
    let [lines, producers, aborted] = &pictures("Transactions")[..] else { panic!("three pictures") };
    let log = String::from_utf8(read(&disk, "00000000000000000000.log")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), *lines);
    let batches = read(&disk, "00000000000000000000.batches");
    let flags: Vec<_> = batches.chunks(64).map(|entry| u16::from_le_bytes([entry[20], entry[21]])).collect();
    assert_eq!(flags, [512 + 1, 512 + 1, 512 + 3, 512 + 1, 512 + 1, 512 + 1024 + 11]);
    assert_eq!(partition.last_stable_offset(), Ok(4));

    // The next segment.
    write(8, &"x".repeat(900));
    for (name, drawn) in [("00000000000000000006.producers", producers), ("00000000000000000000.aborted", aborted)] {
        let kept = String::from_utf8(read(&disk, name)).unwrap();
        let (kept, crc) = kept.split_at(kept.rfind("crc32c:").unwrap());
        let mut kept: Vec<_> = kept.lines().collect();
        kept.sort_by_key(|line| line[..10].to_string());
        let (last, drawn) = drawn.split_last().unwrap();
        assert_eq!(kept, drawn);
        assert_eq!((crc.len(), crc.split(':').next()), (last.len() + 1, last.split(':').next()));
    }
}

#[test]
fn the_transactional_ids_of_the_page_are_those_of_a_broker() {
    let disk = MemoryDisk::default();
    let broker = broker_on(&disk);
    broker.create_topic("messages", 1).unwrap();
    let mut transaction = broker.begin_transaction("transfer-1", 60_000).unwrap().transaction;
    let (mut session, mut gathered) = (broker.write_session(), Gathered::default());
    session.enter(&transaction);
    session.add_value(&mut gathered, "messages", 0, b"paid").unwrap();
    session.write(&mut gathered);
    session.make_durable();
    transaction.end().unwrap();
    let file = disk.open(Path::new("data/__transaction_state/0/00000000000000000000.log")).unwrap();
    let mut lines = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut lines, 0).unwrap();
    let mut lines = String::from_utf8(lines).unwrap();
    while let Some(id) = lines.split_once("topics:messages=").map(|(_, rest)| rest[..22].to_string())
        && id.is_ascii()
    {
        lines = lines.replace(&id, "…");
    }
    assert_eq!(lines.lines().collect::<Vec<_>>(), picture("Transactional ids"));
}
