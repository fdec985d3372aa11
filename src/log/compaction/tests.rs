//! Compaction of small logs in memory: what stays, what goes, what readers see, and what a crash leaves.

use super::*;
use crate::log::{
    Aborted, Append, Chunk, Content, Numbering, Outcome, Retention,
    batches::ENTRY_BYTES,
    disk::{Call, Disk, Fault, MemoryDisk, Survivors, make_dir},
    handles::Handles,
    record::{ControlLine, Records},
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::*},
};

const DIR: &str = "0";
const NOW_MS: i64 = 1_700_000_000_000;
/// Three or four records.
const SEGMENT_BYTES: u32 = 100;
const SETTINGS: Compaction = Compaction {
    delete_retention_ms: 1000,
    min_cleanable_dirty_ratio: 0.5,
    min_compaction_lag_ms: 0,
    max_compaction_lag_ms: i64::MAX,
    timestamp_after_max_ms: 1000,
    segment_bytes: SEGMENT_BYTES,
    producer_expires_ms: 1000,
    keys_max: KEYS_MAX,
};

fn open(disk: &MemoryDisk, start: u64) -> Result<Log, String> {
    let made = make_dir(disk, Path::new(DIR));
    made.map_err(|error| error.to_string())?;
    let handles = Arc::new(Handles::new(Arc::new(disk.clone()), 16));
    let (log, opened) =
        Log::open(handles, Path::new(DIR), start, false, NOW_MS, &|_| Ok(())).map_err(|error| error.why)?;
    assert_eq!(opened.notes, Vec::<String>::new());
    Ok(log)
}

/// What the owner of a log does for TRIM once the start is stored.
fn trim(log: &Log, start: u64) -> Result<(), Error> {
    log.advance_start(start);
    log.remove_before_start()?;
    if log.seal_before(start)? { log.remove_before_start() } else { Ok(()) }
}

fn new() -> (MemoryDisk, Log) {
    let disk = MemoryDisk::crashable();
    let log = open(&disk, 0).unwrap();
    (disk, log)
}

/// A key and a value, a tombstone, or no key.
type Pair<'a> = (Option<&'a str>, Option<&'a str>);

fn append_with(
    log: &Log,
    pairs: &[Pair<'_>],
    flags: Flags,
    producer: Option<(i64, i16, i32)>,
) -> Result<std::ops::Range<u64>, Error> {
    append_at(log, None, pairs, flags, producer)
}

fn append_at(
    log: &Log,
    timestamp: Option<i64>,
    pairs: &[Pair<'_>],
    flags: Flags,
    producer: Option<(i64, i16, i32)>,
) -> Result<std::ops::Range<u64>, Error> {
    let mut records = Records::default();
    for (key, value) in pairs {
        let bytes = |text: &Option<&str>| text.map(|text| text.as_bytes().to_vec().into());
        records.push(timestamp, bytes(key), bytes(value));
    }
    let append = Append {
        content: Content::Records(&records),
        now_ms: NOW_MS,
        flags,
        producer: producer.map(|(producer_id, producer_epoch, base_sequence)| Numbering {
            producer_id,
            producer_epoch,
            base_sequence,
        }),
        whole: false,
        segment_bytes_max: SEGMENT_BYTES,
        segment_ms_max: i64::MAX,
        publish: true,
    };
    log.append(&append).map(|appended| appended.offsets)
}

/// Appends `k=v` as key and value, `k=` as tombstone, `=v` without a key; each a batch.
fn append(log: &Log, texts: &[&str]) {
    for text in texts {
        append_with(log, &[pair(text)], Flags::NONE, None).unwrap();
    }
}

fn pair(text: &str) -> Pair<'_> {
    let (key, value) = text.split_once('=').unwrap();
    (Some(key).filter(|key| !key.is_empty()), Some(value).filter(|value| !value.is_empty()))
}

/// Seals what was appended.
fn roll(log: &Log) {
    log.roll_if_old(i64::MAX, 0).unwrap();
}

fn compact_at(log: &Log, now_ms: i64) -> Compacted {
    log.compact(now_ms, &SETTINGS, &|| false).unwrap()
}

fn compact(log: &Log) -> Compacted {
    compact_at(log, NOW_MS)
}

fn retention(ms: i64, bytes: i64) -> Retention {
    Retention { ms, bytes, timestamp_after_max_ms: SETTINGS.timestamp_after_max_ms }
}

/// All records as `offset:k=v`.
fn found(log: &Log) -> String {
    let records = records_from(log, log.start()).unwrap();
    records.iter().map(|(offset, text)| format!("{offset}:{text}")).collect::<Vec<_>>().join(" ")
}

fn records_from(log: &Log, from: u64) -> Result<Vec<(u64, String)>, Error> {
    let (mut next, mut chunk, mut found) = (from, Chunk::default(), Vec::new());
    loop {
        log.read(next, 60, &mut chunk)?;
        for line in chunk.records_from(next) {
            let line = line.unwrap();
            let fields = std::str::from_utf8(line.fields).unwrap();
            let text = fields.replace("key:", "").replace(" message:", "=").replace("message:", "=");
            found.push((line.offset, text.replace(" tombstone", "=")));
        }
        match chunk.next_offset() {
            Some(behind) => {
                assert!(behind > next);
                next = behind;
            }
            None => break,
        }
    }
    assert_eq!(next, log.high_watermark());
    assert!(found.is_sorted_by(|(one, _), (other, _)| one < other), "{found:?}");
    Ok(found)
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap().into_iter().map(|name| name.name.trim_start_matches('0').to_owned()).collect()
}

#[test]
fn the_latest_record_of_each_key_stays_with_its_offset() {
    let (disk, log) = new();
    append(&log, &["a=1", "b=1", "c=1", "a=2", "d=1", "b=2", "a=3", "e=1"]);
    roll(&log);
    append(&log, &["a=4", "c=2"]);
    let compacted = compact(&log);
    assert!(compacted.bytes_after < compacted.bytes_before, "{compacted:?}");
    let all = "2:c=1 4:d=1 5:b=2 6:a=3 7:e=1 8:a=4 9:c=2";
    assert_eq!(found(&log), all, "the active segment is left alone");
    drop(log);
    let log = open(&disk, 0).unwrap();
    assert_eq!(found(&log), all);
    assert_eq!(log.compaction_due(NOW_MS, &SETTINGS), Ok(Due { now: false, next_ms: None }), "all is compacted");
    roll(&log);
    compact(&log);
    assert_eq!(found(&log), "4:d=1 5:b=2 7:e=1 8:a=4 9:c=2");
}

#[test]
fn segments_that_shrank_become_one() {
    let (disk, log) = new();
    (0..20).for_each(|n| append(&log, &["a=1", "b=1", if n == 7 { "c=1" } else { "b=2" }]));
    roll(&log);
    assert!(log.segments() > 10);
    compact(&log);
    assert_eq!(found(&log), "23:c=1 57:a=1 59:b=2");
    assert_eq!(log.segment_bases(), [0, 60]);
    assert_eq!(names(&disk), [".batches", ".log", "60.batches", "60.log"]);
    assert_eq!(log.bytes().unwrap(), "offset:23 key:c message:1\n".len() as u64 * 3);
}

#[test]
fn everything_reads_on_over_holes() {
    let (disk, log) = new();
    append(&log, &["a=1", "b=1", "b=2", "b=3", "b=4", "b=5", "b=6", "a=2"]);
    roll(&log);
    append(&log, &["t="]);
    roll(&log);
    compact(&log);
    compact_at(&log, NOW_MS + 2000);
    assert_eq!(found(&log), "6:b=6 7:a=2", "the end is a hole");
    assert_eq!((log.start(), log.high_watermark()), (0, 9));
    for log in [&log, &open(&disk, 0).unwrap()] {
        for from in 0..=9 {
            let found: Vec<u64> = records_from(log, from).unwrap().into_iter().map(|(offset, _)| offset).collect();
            assert_eq!(found, [6, 7].into_iter().filter(|&offset| offset >= from).collect::<Vec<_>>());
        }
        assert_eq!(log.offset_at(0, &mut Chunk::default()), Ok(6));
        assert_eq!(log.offset_at(NOW_MS, &mut Chunk::default()), Ok(6));
        assert_eq!(log.offset_at(NOW_MS + 1, &mut Chunk::default()), Ok(9));
        let mut chunk = Chunk::default();
        log.read(8, 1, &mut chunk).unwrap();
        assert_eq!((chunk.batches.len(), chunk.next_offset()), (0, Some(9)));
        log.read(9, 1, &mut chunk).unwrap();
        assert_eq!(chunk.next_offset(), None);
        assert!(matches!(log.read(10, 1, &mut chunk), Err(Error::OutOfRange { start: 0, high_watermark: 9 })));
    }
}

#[test]
fn batches_lose_lines_and_keep_the_rest() {
    let (_, log) = new();
    append_with(&log, &["a=1", "b=1", "a=2"].map(pair), Flags::NONE, None).unwrap();
    append_with(&log, &["c=1", "b=2", "d=1"].map(pair), Flags::NONE, None).unwrap();
    roll(&log);
    compact(&log);
    assert_eq!(found(&log), "2:a=2 3:c=1 4:b=2 5:d=1");
    let mut entries = Vec::new();
    log.each_entry(0, |first, entry| entries.push((first, entry.last_delta, entry.count))).unwrap();
    assert_eq!(entries, [(0, 2, 1), (3, 2, 3)], "an entry covers what it covered");
    let mut chunk = Chunk::default();
    log.read(1, 1000, &mut chunk).unwrap();
    assert_eq!(chunk.lines_from(&chunk.batches[0], 1).rest(), b"offset:2 key:a message:2\n");
}

#[test]
fn a_tombstone_goes_when_its_horizon_has_passed() {
    let (disk, log) = new();
    append(&log, &["a=1", "b=1", "a="]);
    roll(&log);
    compact(&log);
    assert_eq!(found(&log), "1:b=1 2:a=");
    let due = Due { now: false, next_ms: Some(NOW_MS + 1000) };
    assert_eq!(log.compaction_due(NOW_MS, &SETTINGS), Ok(due));
    compact_at(&log, NOW_MS + 999);
    assert_eq!(found(&log), "1:b=1 2:a=");
    drop(log);
    let log = open(&disk, 0).unwrap();
    assert_eq!(log.compaction_due(NOW_MS, &SETTINGS), Ok(due), "the horizon stands in the entry");
    assert!(log.compaction_due(NOW_MS + 1000, &SETTINGS).unwrap().now);
    compact_at(&log, NOW_MS + 1000);
    assert_eq!(found(&log), "1:b=1");
    assert_eq!(log.compaction_due(NOW_MS + 1000, &SETTINGS), Ok(Due { now: false, next_ms: None }));
}

#[test]
fn a_log_is_due_when_enough_of_it_is_dirty() {
    let (_, log) = new();
    assert!(!log.compaction_due(NOW_MS, &SETTINGS).unwrap().now);
    append(&log, &["a=1", "b=1", "c=1"]);
    assert!(!log.compaction_due(NOW_MS, &SETTINGS).unwrap().now, "nothing is sealed");
    roll(&log);
    assert!(log.compaction_due(NOW_MS, &SETTINGS).unwrap().now);
    compact(&log);
    append(&log, &["a=2"]);
    roll(&log);
    let ratio = |min_cleanable_dirty_ratio| Compaction { min_cleanable_dirty_ratio, ..SETTINGS };
    assert!(!log.compaction_due(NOW_MS, &ratio(0.3)).unwrap().now, "a quarter is dirty");
    assert!(log.compaction_due(NOW_MS, &ratio(0.2)).unwrap().now);
    assert!(log.compaction_due(NOW_MS, &ratio(0.0)).unwrap().now);
}

#[test]
fn an_old_record_is_compacted_however_little_is_dirty() {
    let (_, log) = new();
    append(&log, &["a=1", "b=1", "c=1"]);
    roll(&log);
    compact(&log);
    append(&log, &["a=2"]);
    roll(&log);
    let settings = Compaction { max_compaction_lag_ms: 500, ..SETTINGS };
    let due = log.compaction_due(NOW_MS + 499, &settings).unwrap();
    assert_eq!(due, Due { now: false, next_ms: Some(NOW_MS + 500) });
    assert!(log.compaction_due(NOW_MS + 500, &settings).unwrap().now);
    log.compact(NOW_MS + 500, &settings, &|| false).unwrap();
    assert_eq!(found(&log), "1:b=1 2:c=1 3:a=2");
    assert_eq!(log.compaction_due(NOW_MS + 500, &settings).unwrap(), Due { now: false, next_ms: None });
}

#[test]
fn young_records_are_left_alone() {
    let (_, log) = new();
    append(&log, &["a=1", "a=2"]);
    roll(&log);
    let settings = Compaction { min_compaction_lag_ms: 500, ..SETTINGS };
    let due = log.compaction_due(NOW_MS + 499, &settings).unwrap();
    assert_eq!(due, Due { now: false, next_ms: Some(NOW_MS + 500) });
    log.compact(NOW_MS + 499, &settings, &|| false).unwrap();
    assert_eq!(found(&log), "0:a=1 1:a=2");
    assert!(log.compaction_due(NOW_MS + 500, &settings).unwrap().now);
    log.compact(NOW_MS + 500, &settings, &|| false).unwrap();
    assert_eq!(found(&log), "1:a=2");
}

/// A record dated 2096, written before such times were refused, kept a log from ever being compacted.
#[test]
fn a_time_in_the_far_future_says_nothing_of_an_age() {
    let min_lag = Compaction { min_compaction_lag_ms: 500, ..SETTINGS };
    let max_lag = Compaction { max_compaction_lag_ms: 500, min_cleanable_dirty_ratio: 1.0, ..SETTINGS };
    for settings in [min_lag, max_lag] {
        let (disk, log) = new();
        disk.set_now_ms(NOW_MS);
        append_at(&log, Some(4_000_000_000_000), &[pair("a=1"), pair("a=2")], Flags::NONE, None).unwrap();
        roll(&log);
        let due = log.compaction_due(NOW_MS + 499, &settings).unwrap();
        assert_eq!(due, Due { now: false, next_ms: Some(NOW_MS + 500) }, "it is as old as its file");
        assert!(log.compaction_due(NOW_MS + 500, &settings).unwrap().now);
    }
}

#[test]
fn records_without_a_key_and_before_the_start_go() {
    let (_, log) = new();
    append(&log, &["a=1", "=x", "b=1", "c=1"]);
    roll(&log);
    trim(&log, 1).unwrap();
    compact(&log);
    assert_eq!(found(&log), "2:b=1 3:c=1");
    assert_eq!(log.start(), 1, "compaction does not move the start");
}

#[test]
fn what_is_left_of_a_batch_keeps_its_codec() {
    let (disk, log) = new();
    append_with(&log, &["a=1", "b=1", "t="].map(pair), Flags::of_codec(4), None).unwrap();
    append_with(&log, &["b=2", "c=1"].map(pair), Flags::of_codec(2), None).unwrap();
    roll(&log);
    compact(&log);
    assert_eq!(found(&log), "0:a=1 2:t= 3:b=2 4:c=1");
    for log in [&log, &open(&disk, 0).unwrap()] {
        let mut chunk = Chunk::default();
        log.read(0, usize::MAX, &mut chunk).unwrap();
        let codecs: Vec<u8> = chunk.batches.iter().map(|batch| batch.entry.flags.codec()).collect();
        assert_eq!(codecs, [4, 2], "the first one has a tombstone, and its flag");
    }
}

/// All that was sealed had gone, and the start went with it: the next offset of a group that had read nothing yet lay below,
/// so it was sent to the end.
#[test]
fn the_start_stays_though_nothing_sealed_is_left() {
    let (disk, log) = new();
    append(&log, &["a=1", "a=2", "b=1", "b=2"]);
    roll(&log);
    append(&log, &["a=", "b="]);
    roll(&log);
    compact(&log);
    compact_at(&log, NOW_MS + 2000);
    append(&log, &["c=1"]);
    assert_eq!((found(&log), log.bytes()), ("6:c=1".into(), Ok("offset:6 key:c message:1\n".len() as u64)));
    for log in [&log, &open(&disk, 0).unwrap()] {
        for retention in [(-1, -1), (1, -1), (-1, 1)].map(|(ms, bytes)| retention(ms, bytes)) {
            assert_eq!(log.expired_to(NOW_MS + 1, retention), Ok(None), "{retention:?}");
        }
        assert_eq!(log.expires_at(NOW_MS, retention(1, -1)), Ok(Some(NOW_MS + 1)));
        log.remove_before_start().unwrap();
        assert_eq!((log.start(), records_from(log, 0)), (0, Ok(vec![(6, "c=1".into())])));
    }
}

#[test]
fn retention_looks_past_what_compaction_emptied() {
    let (_, log) = new();
    // Nothing is left of the first segment, one record of the second, and all of the third.
    for texts in [&["a=1", "a=2", "b=1", "b=2"][..], &["a=3", "b=3", "c=1", "c=2"], &["a=4", "c=3", "d=1"]] {
        append(&log, texts);
        roll(&log);
    }
    log.compact(NOW_MS, &Compaction { segment_bytes: 1, ..SETTINGS }, &|| false).unwrap();
    append(&log, &["f=1"]);
    assert_eq!((log.segment_bases(), log.bytes()), (vec![0, 4, 8, 11], Ok(25 + 76 + 26)));
    assert_eq!(found(&log), "5:b=3 8:a=4 9:c=3 10:d=1 11:f=1");

    let expired = |ms, bytes| log.expired_to(NOW_MS + 2, retention(ms, bytes)).unwrap();
    assert_eq!(expired(2, -1), None, "nothing is too old");
    assert_eq!(expired(1, -1), Some(12), "all is too old");
    assert_eq!(expired(-1, 103), None);
    assert_eq!(expired(-1, 102), Some(8), "one record is too many");
    assert_eq!(expired(-1, 26), Some(11));
    assert_eq!(log.expires_at(NOW_MS, retention(2, -1)), Ok(Some(NOW_MS + 2)));

    trim(&log, 8).unwrap();
    assert_eq!((log.start(), log.segment_bases()), (8, vec![8, 11]));
}

#[test]
fn keys_are_compared_as_they_are_not_as_they_are_written() {
    let (disk, log) = new();
    drop(log);
    let file = disk.open(&Path::new(DIR).join(format!("{:020}.log", 0))).unwrap();
    let lines = b"offset:0 key:\\x61 message:1\noffset:1 key:a message:2\n";
    file.write_at(lines, 0).unwrap();
    disk.remove_file(&Path::new(DIR).join(format!("{:020}.batches", 0))).unwrap();
    let handles = Arc::new(Handles::new(Arc::new(disk.clone()), 16));
    let (log, _) = Log::open(handles, Path::new(DIR), 0, false, NOW_MS, &|_| Ok(())).unwrap();
    roll(&log);
    compact(&log);
    assert_eq!(found(&log), "1:a=2");
}

#[test]
fn the_newest_batch_of_a_producer_keeps_its_entry() {
    let (disk, log) = new();
    append_with(&log, &[pair("a=1")], Flags::NONE, Some((7, 3, 0))).unwrap();
    append_with(&log, &["a=2", "b=1"].map(pair), Flags::NONE, Some((7, 3, 1))).unwrap();
    append_with(&log, &[pair("c=1")], Flags::NONE, Some((8, 0, 0))).unwrap();
    append(&log, &["a=3", "b=2"]);
    roll(&log);
    compact(&log);
    let expected = "3:c=1 4:a=3 5:b=2";
    for log in [&log, &open(&disk, 0).unwrap()] {
        assert_eq!(found(log), expected);
        let mut entries = Vec::new();
        log.each_entry(0, |first, entry| {
            if entry.producer_id >= 0 {
                entries.push((first, entry.producer_id, entry.producer_epoch, entry.base_sequence, entry.last_delta));
                assert_eq!((entry.count == 0, entry.bytes == 0), (first == 1, first == 1));
            }
        })
        .unwrap();
        assert_eq!(entries, [(1, 7, 3, 1, 1), (3, 8, 0, 0, 0)]);
        assert_eq!(records_from(log, 1).unwrap().len(), 3);
    }
    append(&log, &["b=3"]);
    roll(&log);
    compact_at(&log, NOW_MS + 2000);
    let mut producers = 0;
    log.each_entry(0, |_, entry| producers += u32::from(entry.producer_id == 7)).unwrap();
    assert_eq!(producers, 0, "it was silent for too long");
}

/// Ends a transaction that began at `first`, as the owner of the log does.
fn end(log: &Log, producer_id: i64, outcome: Outcome, first: u64) {
    let control = ControlLine { outcome, first: Some(first), coordinator_epoch: 0 };
    let append = Append {
        content: Content::Marker(control),
        now_ms: NOW_MS,
        flags: Flags::NONE,
        producer: Some(Numbering { producer_id, producer_epoch: 0, base_sequence: -1 }),
        whole: true,
        segment_bytes_max: SEGMENT_BYTES,
        segment_ms_max: i64::MAX,
        publish: true,
    };
    let marker = log.append(&append).unwrap().offsets.start;
    if outcome == Outcome::Abort {
        log.add_aborted(Aborted { producer_id, first, marker }, marker + 1);
    }
}

/// Appends `k=v` in a transaction of the producer.
fn append_in(log: &Log, producer_id: i64, sequence: i32, text: &str) {
    append_with(log, &[pair(text)], Flags::TRANSACTIONAL, Some((producer_id, 0, sequence))).unwrap();
}

fn aborted(log: &Log) -> Vec<u64> {
    log.aborted_within(&(0..u64::MAX)).unwrap().into_iter().map(|aborted| aborted.marker).collect()
}

#[test]
fn what_was_aborted_goes_and_what_was_committed_is_compacted() {
    let (disk, log) = new();
    append(&log, &["a=1", "b=1", "c=1"]);
    append_in(&log, 7, 0, "a=aborted");
    append_in(&log, 8, 0, "b=2");
    append_in(&log, 7, 1, "d=aborted");
    end(&log, 7, Outcome::Abort, 3);
    append_in(&log, 8, 1, "e=1");
    end(&log, 8, Outcome::Commit, 4);
    append(&log, &["e=2", "f=1"]);
    log.set_first_unstable(None);
    log.load_aborted(u64::MAX).unwrap();
    roll(&log);
    compact(&log);
    let expected = "0:a=1 2:c=1 4:b=2 6:control:abort first:3 8:control:commit 9:e=2 10:f=1";
    for log in [&log, &open(&disk, 0).unwrap()] {
        assert_eq!(found(log), expected);
        log.load_aborted(u64::MAX).unwrap();
        assert_eq!(aborted(log), [6]);
        assert!(!log.compaction_due(NOW_MS, &SETTINGS).unwrap().now);
    }
    let mut empty = Vec::new();
    log.each_entry(0, |first, entry| empty.extend((entry.count == 0).then_some(first))).unwrap();
    assert_eq!(empty, [5, 7], "of each producer the newest batch keeps its entry");
}

/// A marker whose transaction has a record left tells that it is committed; and a Kafka client that is told of an aborted
/// transaction looks for its marker.
#[test]
fn a_marker_goes_after_its_horizon_once_no_record_of_its_transaction_is_left() {
    let (disk, log) = new();
    append_in(&log, 7, 0, "a=1");
    append_in(&log, 8, 0, "b=1");
    append_in(&log, 9, 0, "c=1");
    for (producer, outcome, first) in [(7, Outcome::Abort, 0), (8, Outcome::Commit, 1), (9, Outcome::Commit, 2)] {
        end(&log, producer, outcome, first);
    }
    log.set_first_unstable(None);
    log.load_aborted(u64::MAX).unwrap();
    append(&log, &["c=2", "d=1"]);
    roll(&log);
    let markers = "3:control:abort first:0 4:control:commit 5:control:commit";
    let step = |log: &Log, now_ms: i64, expected: &str, aborts: &[u64]| {
        compact_at(log, now_ms);
        assert_eq!((&*found(log), &*aborted(log)), (expected, aborts), "{now_ms}");
        let again = open(&disk, 0).unwrap();
        again.load_aborted(u64::MAX).unwrap();
        assert_eq!((&*found(&again), &*aborted(&again)), (expected, aborts), "{now_ms}");
    };
    step(&log, NOW_MS, &format!("1:b=1 {markers} 6:c=2 7:d=1"), &[3]);
    append(&log, &["e=1", "f=1", "g=1"]);
    roll(&log);
    // At the latest now nothing of 7's and 9's is left, and the horizon of their markers is told.
    step(&log, NOW_MS, &format!("1:b=1 {markers} 6:c=2 7:d=1 8:e=1 9:f=1 10:g=1"), &[3]);
    assert_eq!(log.compaction_due(NOW_MS, &SETTINGS).unwrap().next_ms, Some(NOW_MS + 1000));
    step(&log, NOW_MS + 1000, "1:b=1 4:control:commit 6:c=2 7:d=1 8:e=1 9:f=1 10:g=1", &[]);
    append(&log, &["b=2", "h=1", "i=1"]);
    roll(&log);
    for now_ms in [NOW_MS + 1000, NOW_MS + 2000, NOW_MS + 3000] {
        compact_at(&log, now_ms);
    }
    assert_eq!(found(&log), "6:c=2 7:d=1 8:e=1 9:f=1 10:g=1 11:b=2 12:h=1 13:i=1");
}

#[test]
fn nothing_from_the_last_stable_offset_on_is_compacted() {
    let (_, log) = new();
    append(&log, &["a=1", "a=2", "b=1", "b=2"]);
    roll(&log);
    append_in(&log, 7, 0, "a=3");
    append(&log, &["a=4", "a=5"]);
    roll(&log);
    append(&log, &["a=6", "b=3", "a=7"]);
    roll(&log);
    let before = "1:a=2 3:b=2 4:a=3 5:a=4 6:a=5 7:a=6 8:b=3 9:a=7";
    compact(&log);
    assert_eq!(found(&log), before);
    assert!(!log.compaction_due(NOW_MS, &SETTINGS).unwrap().now);
    end(&log, 7, Outcome::Commit, 4);
    log.set_first_unstable(None);
    assert!(log.compaction_due(NOW_MS, &SETTINGS).unwrap().now);
    compact(&log);
    assert_eq!(found(&log), "8:b=3 9:a=7 10:control:commit");
}

/// Two segments became one of which only the first held transactions: the last entry told of none, and what was aborted was shown.
#[test]
fn segments_that_become_one_tell_what_each_of_them_held() {
    let (disk, log) = new();
    append_in(&log, 7, 0, "a=aborted");
    end(&log, 7, Outcome::Abort, 0);
    log.set_first_unstable(None);
    roll(&log);
    append(&log, &["b=1", "c=1"]);
    roll(&log);
    compact(&log);
    assert_eq!(log.segment_bases(), [0, 4]);
    let log = open(&disk, 0).unwrap();
    log.load_aborted(u64::MAX).unwrap();
    assert_eq!((&*found(&log), &*aborted(&log)), ("1:control:abort first:0 2:b=1 3:c=1", &[1][..]));
    assert!(log.may_hold_open_transaction(), "as far as the last entry tells");
}

#[test]
fn a_full_map_ends_a_pass_and_the_next_goes_on() {
    for keys_max in 1..12 {
        let (disk, log) = new();
        let texts = (0..40).map(|n| format!("{}={n}", ["a", "b", "c", "d", "e", "f", "g"][n * n % 7]));
        let texts: Vec<String> = texts.collect();
        append(&log, &texts.iter().map(|text| &**text).collect::<Vec<_>>());
        roll(&log);
        let settings = Compaction { keys_max, min_cleanable_dirty_ratio: 0.0, ..SETTINGS };
        let mut passes = 0;
        let mut log = log;
        while log.compaction_due(NOW_MS, &settings).unwrap().now {
            log.compact(NOW_MS, &settings, &|| false).unwrap();
            passes += 1;
            assert!(passes < 100, "{keys_max}: it does not end");
            if passes % 3 == 0 {
                drop(log);
                log = open(&disk, 0).unwrap();
            }
        }
        assert!(passes > 1 || keys_max >= 4, "{keys_max}");
        assert_eq!(found(&log), latest(&texts), "{keys_max}");
    }
}

/// The latest of each key, as [`found`] shows them.
fn latest(texts: &[String]) -> String {
    let mut latest = BTreeMap::new();
    for (offset, text) in texts.iter().enumerate() {
        latest.insert(text.split_once('=').unwrap().0, (offset, text));
    }
    let mut latest: Vec<_> = latest.into_values().collect();
    latest.sort();
    latest.iter().map(|(offset, text)| format!("{offset}:{text}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_damaged_segment_is_reported_and_left_as_it_is() {
    for flipped in ["log", "batches"] {
        let (disk, log) = new();
        append(&log, &["a=1", "b=1", "c=1", "d=1"]);
        roll(&log);
        append(&log, &["a=2", "b="]);
        roll(&log);
        append(&log, &["d=2"]);
        roll(&log);
        drop(log);
        let path = Path::new(DIR).join(format!("{:020}.{flipped}", 0));
        let file = disk.open(&path).unwrap();
        let mut before = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut before, 0).unwrap();
        // In the second batch.
        let position = if flipped == "log" { 30 } else { ENTRY_BYTES + 3 };
        before[position] ^= 1;
        file.write_at(&before, 0).unwrap();
        let log = open(&disk, 0).unwrap();
        let compacted = compact(&log);
        assert_eq!(compacted.notes.len(), 1, "{compacted:?}");
        assert!(compacted.notes[0].contains("00.log is left as it is: at position 25"), "{compacted:?}");
        let file = disk.open(&path).unwrap();
        let mut after = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut after, 0).unwrap();
        assert!(after == before, "{flipped}");
        assert_eq!(log.segment_bases().len(), 3, "what follows was compacted");
        let behind = "4:a=2 5:b= 6:d=2";
        assert_eq!(records_from(&log, 4).unwrap().len(), 3);
        compact_at(&log, NOW_MS + 5000);
        let found = records_from(&log, 4).unwrap();
        let found: Vec<_> = found.iter().map(|(offset, text)| format!("{offset}:{text}")).collect();
        assert_eq!(found.join(" "), behind, "the segment may hold what the tombstone deletes");
        let due = log.compaction_due(NOW_MS + 5000, &SETTINGS).unwrap();
        assert_eq!(due, Due { now: false, next_ms: None }, "and nothing is tried again and again");
        assert!(compact(&log).notes.is_empty(), "it is said once");
    }
}

#[test]
fn a_failed_disk_leaves_all_as_it_was_until_a_segment_rolls() {
    let (disk, log) = new();
    append(&log, &["a=1", "a=2", "b=1"]);
    roll(&log);
    disk.fault(Call::Write, 1, Fault::Error);
    log.compact(NOW_MS, &SETTINGS, &|| false).unwrap_err();
    assert_eq!(found(&log), "0:a=1 1:a=2 2:b=1");
    assert_eq!(names(&disk).len(), 4, "{:?}", names(&disk));
    assert!(!log.compaction_due(NOW_MS, &SETTINGS).unwrap().now);
    append(&log, &["c=1"]);
    roll(&log);
    assert!(log.compaction_due(NOW_MS, &SETTINGS).unwrap().now);
    compact(&log);
    assert_eq!(found(&log), "1:a=2 2:b=1 3:c=1");
}

#[test]
fn a_disk_that_fails_between_two_names_is_repaired_by_the_next_start() {
    // The syncs: two files, then the directory before and after each name.
    for nth in 4..=6 {
        let (disk, log) = new();
        append(&log, &["a=1", "a=2", "b=1"]);
        roll(&log);
        disk.fault(Call::Sync, nth, Fault::Error);
        let error = log.compact(NOW_MS, &SETTINGS, &|| false).unwrap_err();
        assert!(error.to_string().contains("the next start of the broker ends it"), "{nth}: {error}");
        let before = found(&log);
        assert_eq!(before, if nth < 6 { "0:a=1 1:a=2 2:b=1" } else { "1:a=2 2:b=1" }, "{nth}");
        append(&log, &["c=1"]);
        roll(&log);
        assert!(!log.compaction_due(NOW_MS, &SETTINGS).unwrap().now);
        drop(log);
        let log = open(&disk, 0).unwrap();
        assert_eq!(found(&log), "1:a=2 2:b=1 3:c=1", "{nth}");
        assert!(names(&disk).iter().all(|name| !name.ends_with(".new") && !name.ends_with(".swap")));
    }
}

/// A segment rolled while a compaction gave names in the same directory, and could not sync them. The system took the new segment's
/// names for clean too: the roll's own sync had nothing to do, and succeeded. What was acknowledged in that segment was gone
/// after a crash.
#[test]
fn a_roll_beside_a_compaction_whose_directory_sync_fails_is_not_believed() {
    let value = format!("k={}", "x".repeat(SEGMENT_BYTES as usize));
    // The compaction syncs two files, and the directory before the first new name and behind each.
    for nth in 1..=4 {
        let (disk, log) = new();
        append(&log, &[&value, &value, &value]);
        log.sync_all().unwrap();
        let compacting = disk.hold(Call::Sync, 2);
        let mut rolled = Ok(0..0);
        std::thread::scope(|scope| {
            let compaction = scope.spawn(|| log.compact(NOW_MS, &SETTINGS, &|| false));
            compacting.reached();
            // The roll syncs the old pair and the new one, and then the directory.
            let rolling = disk.hold(Call::Sync, 4);
            let roll = scope.spawn(|| append_with(&log, &[pair(&value)], Flags::NONE, None));
            rolling.reached();
            disk.fault(Call::Sync, nth, Fault::Error);
            drop(compacting);
            compaction.join().unwrap().unwrap_err();
            drop(rolling);
            rolled = roll.join().unwrap();
        });
        assert!(matches!(rolled, Err(Error::Unreadable(_))), "{nth}: {rolled:?}");
        assert_eq!(append_with(&log, &[pair("last=1")], Flags::NONE, None), Ok(3..4), "{nth}");
        log.sync_all().unwrap();
        drop(log);
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth)] {
            let log = open(&disk.reboot(survivors), 0).unwrap();
            assert!(found(&log).ends_with(" 3:last=1"), "{nth}, {survivors:?}: {}", found(&log));
        }
    }
}

#[test]
fn a_closed_log_and_one_that_is_asked_to_stop_leave_no_file() {
    let (disk, log) = new();
    append(&log, &["a=1", "a=2", "b=1"]);
    roll(&log);
    let before = names(&disk);
    log.compact(NOW_MS, &SETTINGS, &|| true).unwrap();
    let asked = AtomicU64::new(0);
    log.compact(NOW_MS, &SETTINGS, &|| asked.fetch_add(1, AcqRel) == 1).unwrap();
    assert_eq!(asked.load(Acquire), 2, "it was stopped while it wrote");
    assert_eq!((names(&disk), found(&log)), (before.clone(), "0:a=1 1:a=2 2:b=1".into()));
    log.close();
    log.compact(NOW_MS, &SETTINGS, &|| false).unwrap();
    assert_eq!(names(&disk), before);
}

#[test]
fn a_log_closed_while_it_is_compacted_touches_no_name_any_more() {
    let (disk, log) = new();
    append(&log, &["a=1", "a=2", "b=1"]);
    roll(&log);
    let asked = AtomicU64::new(0);
    let close_at_last = || {
        if asked.fetch_add(1, AcqRel) == 1 {
            // What DROP does; then another topic of the name is made.
            log.close();
            disk.rename(Path::new(DIR), Path::new("~drop")).unwrap();
            disk.remove_dir(Path::new("~drop")).unwrap();
            disk.create_dir(Path::new(DIR)).unwrap();
        }
        false
    };
    log.compact(NOW_MS, &SETTINGS, &close_at_last).unwrap();
    assert_eq!(asked.load(Acquire), 2);
    assert_eq!(names(&disk), Vec::<String>::new());
}

#[test]
fn a_trim_under_a_compaction_wins() {
    let (_, log) = new();
    append(&log, &["a=1", "a=2", "b=1"]);
    roll(&log);
    append(&log, &["b=2"]);
    let asked = AtomicU64::new(0);
    let trim_at_last = || {
        if asked.fetch_add(1, AcqRel) == 1 {
            trim(&log, 3).unwrap();
        }
        false
    };
    log.compact(NOW_MS, &SETTINGS, &trim_at_last).unwrap();
    assert_eq!((log.start(), found(&log)), (3, "3:b=2".into()));
}

#[test]
fn readers_are_not_disturbed() {
    let log = open(&MemoryDisk::default(), 0).unwrap();
    let done = AtomicBool::new(false);
    // The value of offset n is n, so a reader sees whether an entry was read against other lines.
    let append_more = |count: u64| {
        for offset in log.high_watermark()..log.high_watermark() + count {
            let (key, value) = (["a", "b", "c", "d", "e"][offset as usize % 5], offset.to_string());
            append_with(&log, &[(Some(key), Some(&value))], Flags::NONE, None).unwrap();
        }
    };
    append_more(200);
    std::thread::scope(|scope| {
        let reader = |step: usize| {
            let (log, done) = (&log, &done);
            move || {
                let mut rounds = 0;
                while !done.load(Acquire) || rounds == 0 {
                    let (mut next, mut chunk, mut last) = (log.start(), Chunk::default(), None);
                    let mut keys = BTreeSet::new();
                    let end = loop {
                        let end = log.high_watermark();
                        if next >= end {
                            break end;
                        }
                        log.read(next, 100 * step, &mut chunk).unwrap();
                        for line in chunk.records_from(next) {
                            let line = line.unwrap();
                            let (offset, fields) = (line.offset, line.split().unwrap());
                            assert_eq!(fields.value.bytes().unwrap().unwrap(), offset.to_string().as_bytes());
                            assert!(last < Some(offset), "{last:?} then {offset}");
                            (last, _) = (Some(offset), keys.insert(fields.key.unwrap().to_vec()));
                        }
                        next = chunk.next_offset().unwrap();
                    };
                    // Of each key the latest is there at any moment.
                    assert_eq!((last, keys.len()), (Some(end - 1), 5));
                    rounds += 1;
                }
            }
        };
        let readers: Vec<_> = [1, 7].map(|step| scope.spawn(reader(step))).into_iter().collect();
        for _ in 0..150 {
            append_more(20);
            compact(&log);
        }
        done.store(true, Release);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert!(log.segments() < 10, "{}", log.segments());
}

/// What was appended, and what must and may be found.
#[derive(Clone, Default)]
struct Model {
    tried: BTreeMap<u64, String>,
    /// All below it is durable.
    end: u64,
    start: u64,
    keys_max: usize,
}

impl Model {
    fn new(keys_max: usize) -> Model {
        Model { keys_max, ..Model::default() }
    }

    fn append(&mut self, log: &Log, text: &str) -> Result<(), Error> {
        let next = log.log_end();
        self.tried.insert(next, text.to_owned());
        let offsets = append_with(log, &[pair(text)], Flags::NONE, Some((text.len() as i64, 0, next as i32)))?;
        assert_eq!(offsets.start, next);
        log.sync_to(offsets.end)?;
        self.end = offsets.end;
        Ok(())
    }

    fn trim(&mut self, log: &Log, start: u64) -> Result<(), Error> {
        // Who owns the log has stored it before.
        self.start = start;
        trim(log, start)
    }

    /// Goes on after an error, but not without power. Answers the log as it is at the end.
    fn script(&mut self, disk: &MemoryDisk) -> Result<Log, String> {
        let go_on = |done: Result<(), Error>| match done {
            Err(error) if disk.crashed() => Err(error.to_string()),
            _ => Ok(()),
        };
        let settings = Compaction { keys_max: self.keys_max, ..SETTINGS };
        let compact = |log: &Log, now_ms| go_on(log.compact(now_ms, &settings, &|| false).map(drop));
        // A broker whose log could not be opened is started again.
        let open = |start| reopen(disk, start).or_else(|_| reopen(disk, start));
        let mut log = open(0)?;
        for (round, keys) in ["abcabd", "aaaeab", "cgcgca"].into_iter().enumerate() {
            for (n, key) in keys.chars().enumerate() {
                let value = if key == 'g' && n > 1 { String::new() } else { format!("{round}{n}") };
                go_on(self.append(&log, &format!("{key}={value}")))?;
            }
            go_on(log.roll_if_old(i64::MAX, 0).map(drop))?;
            compact(&log, NOW_MS)?;
            if round == 1 {
                drop(log);
                log = open(0)?;
            }
        }
        if log.high_watermark() >= 4 {
            go_on(self.trim(&log, 4))?;
        }
        go_on(self.append(&log, "z=1"))?;
        go_on(log.roll_if_old(i64::MAX, 0).map(drop))?;
        compact(&log, NOW_MS + 5000)?;
        go_on(self.append(&log, "a=last"))?;
        Ok(log)
    }

    fn check(&mut self, log: &Log, context: &str) {
        let found = records_from(log, log.start()).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(log.high_watermark() >= self.end, "{context}: end {}", log.high_watermark());
        assert!(found.is_sorted_by(|(one, _), (next, _)| one < next), "{context}: {found:?}");
        for (offset, text) in &found {
            assert_eq!(self.tried.get(offset), Some(text), "{context}: offset {offset}");
        }
        let mut latest = BTreeMap::new();
        for (offset, text) in self.tried.range(..self.end) {
            latest.insert(text.split_once('=').unwrap().0, (*offset, text.clone()));
        }
        for (offset, text) in latest.into_values().filter(|(offset, _)| *offset >= self.start) {
            // What was tried behind it may have been stored, and compacted.
            let key = text.split_once('=').unwrap().0;
            let there = found.iter().any(|(found, text)| *found >= offset && text.split_once('=').unwrap().0 == key);
            assert!(there || text.ends_with('='), "{context}: {offset}:{text} is gone of {found:?}");
        }
        // A tombstone goes after what it deletes.
        let is_deleted = self.tried.range(..self.end).any(|(_, text)| text == "g=");
        let is_there = |text: &str| found.iter().any(|(_, found)| found == text);
        assert!(!is_deleted || is_there("g=") || !is_there("g=21"), "{context}: a deleted record is back: {found:?}");
    }
}

#[test]
fn every_crash_keeps_the_latest_records() {
    every_crash(KEYS_MAX);
}

#[test]
fn every_crash_keeps_the_latest_records_though_a_pass_ends_in_the_midst_of_a_segment() {
    every_crash(2);
}

fn every_crash(keys_max: usize) {
    let disk = MemoryDisk::crashable();
    let mut all = Model::new(keys_max);
    drop(all.script(&disk).unwrap());
    all.check(&open(&disk.reboot(Survivors::Nothing), 4).unwrap(), "no crash");
    let mut second_crashes = 0;
    for nth in 1..=disk.calls() {
        for (fault, crash) in [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter].into_iter().enumerate() {
            let (disk, mut model) = (MemoryDisk::crashable(), Model::new(keys_max));
            disk.fault(Call::Any, nth, crash);
            model.script(&disk).unwrap_err();
            assert!(disk.crashed());
            let seed = nth * 3 + fault as u64;
            let seeds = (0..4).map(|n| Survivors::Seed(seed * 4 + n));
            for survivors in [Survivors::Nothing, Survivors::Everything].into_iter().chain(seeds) {
                let context = format!("{crash:?} call {nth}, {survivors:?}");
                let found = disk.reboot(survivors);
                let again = 1 + seed % 7;
                found.fault(Call::Any, again, crash);
                let _ = reopen(&found, model.start);
                second_crashes += u64::from(found.crashed());
                let found = found.reboot(Survivors::Seed(!seed));
                let log = reopen(&found, model.start).unwrap_or_else(|error| panic!("{context}: {error}"));
                let names = names(&found);
                assert!(!names.iter().any(|name| name.ends_with(".new") || name.ends_with(".swap")), "{names:?}");
                let mut after = model.clone();
                after.check(&log, &context);
                // And it can be compacted.
                roll(&log);
                let settings = Compaction { keys_max, ..SETTINGS };
                for _ in 0..3 {
                    log.compact(NOW_MS + 5000, &settings, &|| false).unwrap();
                }
                after.check(&log, &format!("{context}, compacted"));
            }
        }
    }
    assert!(second_crashes > disk.calls(), "most recoveries are interrupted: {second_crashes}");
}

#[test]
fn every_error_keeps_the_latest_records() {
    every_error(KEYS_MAX);
}

#[test]
fn every_error_keeps_the_latest_records_though_a_pass_ends_in_the_midst_of_a_segment() {
    every_error(2);
}

/// Lets each call fail, and goes on; then come a restart, and crashes before, midway and after later calls.
fn every_error(keys_max: usize) {
    let disk = MemoryDisk::crashable();
    drop(Model::new(keys_max).script(&disk).unwrap());
    let calls = disk.calls();
    let settings = Compaction { keys_max, ..SETTINGS };
    let goes_on = |model: &Model, disk: &MemoryDisk, context: &str| {
        let log = reopen(disk, model.start).unwrap_or_else(|error| panic!("{context}: {error}"));
        let names = names(disk);
        assert!(!names.iter().any(|name| name.ends_with(".new") || name.ends_with(".swap")), "{context}: {names:?}");
        let mut after = model.clone();
        after.check(&log, context);
        after.append(&log, "more=1").unwrap_or_else(|error| panic!("{context}: {error}"));
        roll(&log);
        for _ in 0..3 {
            log.compact(NOW_MS + 5000, &settings, &|| false).unwrap_or_else(|error| panic!("{context}: {error}"));
        }
        after.check(&log, &format!("{context}, compacted"));
        after
    };
    for nth in 1..=calls {
        for fault in [Fault::Error, Fault::Full] {
            let run = |crash: Option<(u64, Fault)>| {
                let (disk, mut model) = (MemoryDisk::crashable(), Model::new(keys_max));
                disk.fault(Call::Any, nth, fault);
                if let Some((later, crash)) = crash {
                    disk.fault(Call::Any, nth + later, crash);
                }
                let log = model.script(&disk);
                (disk, model, log)
            };
            let context = format!("{fault:?} call {nth}");
            let (disk, mut model, log) = run(None);
            model.check(&log.unwrap(), &context);
            let after = goes_on(&model, &disk, &format!("{context}, restarted"));
            goes_on(&after, &disk.reboot(Survivors::Nothing), &format!("{context}, restarted, crashed"));
            let seed = nth * 2 + u64::from(fault == Fault::Full);
            let crashes = [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter];
            for (crash, later) in crashes.into_iter().zip([1 + seed % 3, 4 + seed % 11, 15 + seed % 61]) {
                let (disk, model, _) = run(Some((later, crash)));
                for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seed(seed)] {
                    let context = format!("{context}, {crash:?} {later} calls later, {survivors:?}");
                    goes_on(&model, &disk.reboot(survivors), &context);
                }
            }
        }
    }
}

/// Opens what a crash left, which may have a torn tail to tell of.
fn reopen(disk: &MemoryDisk, start: u64) -> Result<Log, String> {
    make_dir(disk, Path::new(DIR)).map_err(|error| error.to_string())?;
    let handles = Arc::new(Handles::new(Arc::new(disk.clone()), 16));
    let opened = Log::open(handles, Path::new(DIR), start, false, NOW_MS, &|_| Ok(()));
    Ok(opened.map_err(|error| error.why)?.0)
}

#[derive(Clone, Debug)]
enum Step {
    /// A batch of keys; an odd number is a tombstone.
    Append(Vec<(u8, u8)>),
    Roll,
    /// Settings: how long tombstones stay, and how many keys the map holds.
    Compact(i64, usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => proptest::collection::vec((0..6u8, any::<u8>()), 1..5).prop_map(Step::Append),
        2 => Just(Step::Roll),
        3 => (0..3i64, 1..9usize).prop_map(|(wait, keys_max)| Step::Compact(wait * 700, keys_max)),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn the_log_says_of_each_key_what_was_said_last(steps in steps()) {
        let disk = MemoryDisk::default();
        let mut log = open(&disk, 0).unwrap();
        let (mut model, mut now_ms) = (BTreeMap::new(), NOW_MS);
        for step in steps {
            match step {
                Step::Append(batch) => {
                    let texts: Vec<_> = batch.iter().map(|(key, value)| {
                        (format!("key{key}"), (value % 2 == 0).then(|| value.to_string()))
                    }).collect();
                    let pairs: Vec<Pair<'_>> =
                        texts.iter().map(|(key, value)| (Some(&**key), value.as_deref())).collect();
                    for (offset, (key, value)) in append_with(&log, &pairs, Flags::NONE, None).unwrap().zip(&texts) {
                        model.insert(key.clone(), (offset, value.clone()));
                    }
                }
                Step::Roll => roll(&log),
                Step::Compact(wait, keys_max) => {
                    now_ms += wait;
                    let settings = Compaction { keys_max, ..SETTINGS };
                    prop_assert_eq!(log.compact(now_ms, &settings, &|| false).unwrap().notes.len(), 0);
                }
                Step::Restart => {
                    drop(log);
                    log = open(&disk, 0).unwrap();
                }
            }
            let mut latest = BTreeMap::new();
            for (offset, text) in records_from(&log, 0).unwrap() {
                let (key, value) = text.split_once('=').unwrap();
                latest.insert(key.to_owned(), (offset, Some(value.to_owned()).filter(|value| !value.is_empty())));
            }
            // A tombstone may be gone, with all that it deleted.
            let lasting = |map: &BTreeMap<String, (u64, Option<String>)>| -> Vec<_> {
                map.clone().into_iter().filter(|(_, (_, value))| value.is_some()).collect()
            };
            prop_assert_eq!(lasting(&latest), lasting(&model));
            for (key, found) in &latest {
                prop_assert_eq!(&model[key], found);
            }
        }
    }
}
