//! Files cut, flipped, zeroed, lost, exchanged and written by hand between two runs: what is whole is served, what is
//! not is named or set aside, and no offset is given again that an acknowledged record had.
#![allow(clippy::unwrap_used)]

use plainlog::{
    broker::{Broker, Clock, Error, Terms},
    config::{Config, Flush, Settings},
    log::{
        Chunk, Log, Retention,
        disk::{Call, Disk, Fault, MemoryDisk, Survivors, make_dir, read_small},
        handles::Handles,
        record::{Records, split_offset},
        recovery::{CannotOpen, Opened},
    },
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
};

const NOW_MS: i64 = 1_700_000_000_000;
const CUT: &str = "00000000000000000000.cut-1700000000000";
/// Records of each batch of the small log.
const BATCHES: [u64; 5] = [1, 2, 1, 3, 1];
const END: u64 = 8;

fn open(disk: &MemoryDisk, flush: Flush) -> Broker {
    let topic_defaults = Settings { retention_ms: -1, ..Settings::default() };
    let config = Config { flush, topic_defaults, ..Config::new("data") };
    Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(Arc::new(AtomicI64::new(NOW_MS)))).unwrap()
}

fn append(broker: &Broker, values: impl IntoIterator<Item = String>) -> Range<u64> {
    let partition = broker.topic("a").unwrap().partition(0).unwrap();
    let mut records = Records::default();
    values.into_iter().for_each(|value| records.push(None, None, Some(Cow::Owned(value.into_bytes()))));
    let appended = partition.write(&records, Terms::default()).unwrap();
    partition.make_durable(&appended).unwrap();
    appended.offsets
}

fn value(offset: u64) -> String {
    format!("record {offset}")
}

fn path(extension: &str) -> PathBuf {
    Path::new("data/a/0").join(format!("{:020}.{extension}", 0))
}

/// What a file holds, after the power of its disk went too.
fn bytes(disk: &MemoryDisk, path: &Path) -> Vec<u8> {
    let disk = if disk.crashed() { copy(disk) } else { disk.clone() };
    read_small(&disk, path, 1 << 20).unwrap()
}

fn put(disk: &MemoryDisk, path: &Path, bytes: &[u8]) {
    disk.create(path).unwrap().write_at(bytes, 0).unwrap();
}

/// How a broker ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    Clean,
    Unclean,
}

const STOPS: [Stop; 2] = [Stop::Clean, Stop::Unclean];

/// A disk with the small log. Each reboot of it is a copy.
fn small_log(flush: Flush, stop: Stop) -> MemoryDisk {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk, flush);
    broker.create_topic("a", 1).unwrap();
    let mut next = 0;
    for count in BATCHES {
        assert_eq!(append(&broker, (next..next + count).map(value)).start, next);
        next += count;
    }
    if stop == Stop::Clean {
        drop(broker);
    }
    disk.reboot(Survivors::Everything)
}

fn copy(disk: &MemoryDisk) -> MemoryDisk {
    disk.reboot(Survivors::Everything)
}

/// First offset, offset behind the last, and positions of the lines, of each batch.
fn layout(disk: &MemoryDisk) -> Vec<(Range<u64>, Range<usize>)> {
    let log = String::from_utf8(bytes(disk, &path("log"))).unwrap();
    let mut lines = log.split_inclusive('\n').map(str::len);
    let (mut offset, mut position) = (0, 0);
    BATCHES
        .map(|count| {
            let length: usize = lines.by_ref().take(count as usize).sum();
            let batch = (offset..offset + count, position..position + length);
            (offset, position) = (offset + count, position + length);
            batch
        })
        .into()
}

/// What a broker serves of a log.
#[derive(Debug, Default)]
struct Served {
    records: BTreeMap<u64, String>,
    /// Offsets, and where the damage is said to be.
    damages: Vec<(Range<u64>, String)>,
    end: u64,
    epoch: u32,
}

fn serve(broker: &Broker) -> Result<Served, Error> {
    let partition = broker.topic("a").unwrap().partition(0).unwrap();
    let mut served = Served { end: partition.high_watermark()?, epoch: partition.leader_epoch(), ..Served::default() };
    let (mut next, mut chunk) = (partition.start()?, Chunk::default());
    while next < served.end {
        let before = next;
        match partition.read(next, 1 << 20, &mut chunk) {
            Ok(()) => {
                for batch in &chunk.batches {
                    for line in chunk.lines_from(batch, next).rest().split_inclusive(|&byte| byte == b'\n') {
                        let (offset, fields) = split_offset(line).unwrap();
                        assert!(offset >= next, "{offset} after {next}");
                        let fields = str::from_utf8(fields).unwrap();
                        served.records.insert(offset, fields["message:".len()..fields.len() - 1].into());
                        next = offset + 1;
                    }
                }
            }
            Err(Error::Corrupt { first, next: to, place }) => {
                served.damages.push((first..to, place));
                next = to;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(next > before, "nothing at {next}, and the end is {}", served.end);
    }
    Ok(served)
}

/// Opens a damaged log in which only these batches are not what they were; checks what holds whatever the damage:
/// the rest is served, the damage is named or cut and kept, and what is appended then is there to stay.
fn survives(disk: &MemoryDisk, flush: Flush, hurt: impl Fn(u64) -> bool, context: &str) -> Served {
    let broker = open(disk, flush);
    let served = serve(&broker).unwrap_or_else(|error| panic!("{context}: {error}"));
    for offset in 0..END {
        let found = served.records.get(&offset);
        let named = served.damages.iter().find(|(offsets, _)| offsets.contains(&offset));
        if !hurt(offset) {
            assert_eq!(found, Some(&value(offset)), "{context}: offset {offset}, {served:?}");
        } else if offset < served.end {
            let (_, place) = named.unwrap_or_else(|| panic!("{context}: {offset} is neither served nor named"));
            assert!(place.contains("data/a/0/00000000000000000000.log at position "), "{context}: {place}");
        } else {
            assert_eq!(served.epoch, 1, "{context}: offsets are given again under the same epoch");
        }
    }
    let added = append(&broker, ["new".to_string(), "newer".to_string()]);
    assert!(added.start >= served.end, "{context}");
    let mut expected = served.records.clone();
    expected.extend([(added.start, "new".into()), (added.start + 1, "newer".into())]);
    let disk = copy(disk);
    let broker = open(&disk, flush);
    assert_eq!(serve(&broker).unwrap().records, expected, "{context}, and a crash");
    drop(broker);
    let disk = disk.reboot(Survivors::Nothing);
    assert_eq!(serve(&open(&disk, flush)).unwrap().records, expected, "{context}, and a clean stop");
    served
}

#[test]
fn a_flipped_byte_hides_nothing_but_its_batch() {
    for (flush, stop) in [(Flush::Always, Stop::Clean), (Flush::Always, Stop::Unclean), (Flush::Never, Stop::Unclean)] {
        let image = small_log(flush, stop);
        let layout = layout(&image);
        for extension in ["log", "batches"] {
            let whole = bytes(&image, &path(extension));
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 8);
                let disk = copy(&image);
                put(&disk, &path(extension), &flipped);
                let by_line = |(_, positions): &(_, Range<usize>)| positions.contains(&at);
                let batch = if extension == "log" { layout.iter().position(by_line).unwrap() } else { at / 64 };
                let hurt = layout[batch].0.clone();
                let context = format!("{flush}, {stop:?}, {extension} byte {at}");
                let served = survives(&disk, flush, |offset| hurt.contains(&offset), &context);
                let torn = stop == Stop::Unclean && batch == BATCHES.len() - 1;
                if torn {
                    assert_eq!(served.end, hurt.start, "{context}: the last batch is a torn tail");
                    let kept = &whole[layout[batch].1.clone().start.min(whole.len())..];
                    let flipped = if extension == "log" { &flipped[layout[batch].1.clone()] } else { kept };
                    let cut = bytes(&disk, &Path::new("data/a/0").join(CUT));
                    assert!(extension != "log" || cut == flipped, "{context}: the cut bytes are kept");
                } else {
                    assert_eq!(served.damages.len(), 1, "{context}: {served:?}");
                    assert_eq!(served.damages[0].0, hurt, "{context}");
                    let position = format!("position {}", layout[batch].1.start);
                    assert!(served.damages[0].1.ends_with(&position), "{context}: {:?}", served.damages);
                }
            }
        }
    }
}

#[test]
fn a_log_cut_at_any_byte_keeps_its_whole_batches() {
    for flush in [Flush::Always, Flush::Never] {
        for stop in STOPS {
            let image = small_log(flush, stop);
            let layout = layout(&image);
            let whole = bytes(&image, &path("log"));
            for length in 0..whole.len() {
                let disk = copy(&image);
                put(&disk, &path("log"), &whole[..length]);
                let kept = layout.iter().take_while(|(_, positions)| positions.end <= length).count();
                let context = format!("{flush}, {stop:?}, {length} bytes");
                let served = survives(&disk, flush, |offset| offset >= layout[kept].0.start, &context);
                let acknowledged = match (stop, flush) {
                    (Stop::Clean, _) => END,
                    // The last batch is not known to be synced: none was written after it.
                    (_, Flush::Always) => layout[4].0.start,
                    _ => 0,
                };
                assert!(served.end >= acknowledged, "{context}: the end is {}", served.end);
                if flush == Flush::Never && stop == Stop::Unclean {
                    assert_eq!(served.end, layout[kept].0.start, "{context}: nothing but a torn tail");
                    let torn = &whole[layout[kept].1.start..length];
                    let cut = copy(&disk).open(&Path::new("data/a/0").join(CUT));
                    assert_eq!(cut.is_ok(), !torn.is_empty(), "{context}");
                    assert!(torn.is_empty() || bytes(&disk, &Path::new("data/a/0").join(CUT)) == torn, "{context}");
                }
            }
        }
    }
}

#[test]
fn entries_cut_at_any_byte_are_made_again_after_a_clean_stop_and_are_a_torn_tail_after_a_crash() {
    for flush in [Flush::Always, Flush::Never] {
        for stop in STOPS {
            let image = small_log(flush, stop);
            let layout = layout(&image);
            let (entries, lines) = (bytes(&image, &path("batches")), bytes(&image, &path("log")));
            for length in 0..entries.len() {
                let disk = copy(&image);
                put(&disk, &path("batches"), &entries[..length]);
                let kept = if stop == Stop::Clean { END } else { layout[length / 64].0.start };
                let context = format!("{flush}, {stop:?}, {length} bytes");
                let served = survives(&disk, flush, |offset| offset >= kept, &context);
                assert_eq!((served.end, served.damages.len()), (kept, 0), "{context}");
                if stop == Stop::Unclean {
                    let torn = &lines[layout[length / 64].1.start..];
                    assert_eq!(bytes(&disk, &Path::new("data/a/0").join(CUT)), torn, "{context}");
                }
            }
        }
    }
}

#[test]
fn zeros_behind_the_last_batch_are_a_torn_tail_after_a_crash() {
    let image = small_log(Flush::Always, Stop::Unclean);
    for (lines, entries) in [(1, 0), (4096, 0), (0, 1), (0, 64), (0, 4096), (100, 64), (4096, 4000)] {
        let disk = copy(&image);
        for (extension, zeros) in [("log", lines), ("batches", entries)] {
            let mut padded = bytes(&disk, &path(extension));
            padded.resize(padded.len() + zeros, 0);
            put(&disk, &path(extension), &padded);
        }
        let served = survives(&disk, Flush::Always, |_| false, &format!("{lines} and {entries} zeros"));
        assert_eq!((served.end, served.epoch), (END, 1));
        if lines > 0 {
            assert_eq!(bytes(&disk, &Path::new("data/a/0").join(CUT)), vec![0; lines]);
        }
    }
}

#[test]
fn zeros_behind_the_last_entry_hurt_nothing_after_a_clean_stop() {
    let image = small_log(Flush::Always, Stop::Clean);
    for zeros in [1, 63, 64, 65, 4096] {
        let disk = copy(&image);
        let mut padded = bytes(&disk, &path("batches"));
        padded.resize(padded.len() + zeros, 0);
        put(&disk, &path("batches"), &padded);
        let served = survives(&disk, Flush::Always, |_| false, &format!("{zeros} zeros"));
        assert_eq!((served.end, served.damages.len()), (END, 0), "{zeros}");
    }
}

#[test]
fn missing_entries_are_made_from_the_lines() {
    for stop in STOPS {
        let disk = small_log(Flush::Always, stop);
        disk.remove_file(&path("batches")).unwrap();
        let lines = bytes(&disk, &path("log"));
        let broker = open(&disk, Flush::Always);
        assert_eq!(serve(&broker).unwrap().records.len() as u64, END, "{stop:?}");
        assert_eq!(bytes(&disk, &path("log")), lines, "{stop:?}");
        drop(broker);
        survives(&disk.reboot(Survivors::Nothing), Flush::Always, |_| false, &format!("{stop:?}"));
    }
}

#[test]
fn entries_of_another_log_are_set_aside() {
    for stop in STOPS {
        let other = MemoryDisk::crashable();
        let broker = open(&other, Flush::Always);
        broker.create_topic("a", 1).unwrap();
        append(&broker, ["something else".to_string()]);
        append(&broker, ["a second thing that is quite long".to_string()]);
        let foreign = bytes(&other, &path("batches"));
        drop(broker);
        let disk = small_log(Flush::Always, stop);
        put(&disk, &path("batches"), &foreign);
        let served = survives(&disk, Flush::Always, |_| false, &format!("{stop:?}"));
        assert_eq!((served.end, served.damages.len()), (END, 0), "{stop:?}");
        assert_eq!(bytes(&disk, &Path::new("data/a/0").join(CUT)), foreign, "{stop:?}");
    }
}

#[test]
fn whole_lines_appended_by_hand_after_a_clean_stop_are_served() {
    let disk = small_log(Flush::Always, Stop::Clean);
    let mut lines = bytes(&disk, &path("log"));
    lines.extend_from_slice(b"offset:8 message:by hand\noffset:9 key:k tombstone\n");
    put(&disk, &path("log"), &lines);
    let broker = open(&disk, Flush::Always);
    let partition = broker.topic("a").unwrap().partition(0).unwrap();
    assert_eq!((partition.start().unwrap(), partition.high_watermark().unwrap(), partition.leader_epoch()), (0, 10, 0));
    let mut chunk = Chunk::default();
    partition.read(8, 1 << 20, &mut chunk).unwrap();
    assert_eq!(chunk.bytes(), b"offset:8 message:by hand\noffset:9 key:k tombstone\n");
    assert_eq!(append(&broker, ["next".to_string()]), 10..11);
}

#[test]
fn a_line_that_does_not_fit_puts_the_partition_offline_and_leaves_the_file_alone() {
    for (added, why) in [
        ("offset:8 message:no line end", "no line end"),
        ("offset:8 message:good\noffset:8 message:twice\n", "line 10: offset:8 where offset:9 follows"),
        ("offset:9 message:a gap\n", "line 9: offset:9 where offset:8 follows"),
        ("hello\n", "line 9: it does not begin with offset:<n>"),
        ("offset:8 mesage:misspelt\n", "line 9"),
        ("\0\0\0\0", "no line end"),
    ] {
        let disk = small_log(Flush::Always, Stop::Clean);
        let mut lines = bytes(&disk, &path("log"));
        lines.extend_from_slice(added.as_bytes());
        put(&disk, &path("log"), &lines);
        let entries = bytes(&disk, &path("batches"));
        for start in 1..=2 {
            let broker = open(&disk, Flush::Always);
            broker.create_topic(&format!("other{start}"), 1).unwrap();
            let error = serve(&broker).unwrap_err().to_string();
            assert!(error.starts_with("the partition is offline: data/a/0/00000000000000000000.log"), "{error}");
            assert!(error.contains(why), "{added:?}: {error}");
            drop(broker);
            assert_eq!(bytes(&disk, &path("log")), lines, "{added:?}");
            assert_eq!(bytes(&disk, &path("batches")), entries, "{added:?}");
        }
    }
}

/// Lines were appended by hand with an escape sequence, with bytes of Latin-1, and with the line ends of another system. They
/// became records, and readers sent them to terminals as they were.
#[test]
fn a_line_by_hand_that_would_steer_a_terminal_is_refused_with_its_place() {
    let refused: [(&[u8], &str); 8] = [
        (b"offset:8 message:\x1b[2J\n", "line 9: '\\x1b' at byte 17; a line is UTF-8 without control characters"),
        (b"offset:8 message:good\noffset:9 message:caf\xe9 au lait\n", "line 10: '\\xe9' at byte 20; a line is UTF-8"),
        (b"offset:8 message:a\r\n", "line 9: it ends with CR LF; a line ends with LF alone"),
        (b"offset:8 message:a\rb\n", "line 9: '\\r' at byte 18;"),
        (b"offset:8 key:a\x07 message:b\n", "line 9: '\\x07' at byte 14;"),
        (b"offset:8 escaped:\xc2\x9b2J\n", "line 9: '\\xc2\\x9b' at byte 17;"),
        (b"offset:8 header.a\x7f:b message:c\n", "line 9: '\\x7f' at byte 17;"),
        (b"offset:8 key:a timestamp:5 message:b\n", "line 9: timestamp: stands right behind offset: or nowhere"),
    ];
    for (added, why) in refused {
        let disk = small_log(Flush::Always, Stop::Clean);
        let before = bytes(&disk, &path("log"));
        put(&disk, &path("log"), &[&before, added].concat());
        let error = serve(&open(&disk, Flush::Always)).unwrap_err().to_string();
        assert!(error.contains(why), "{added:?}: {error}");
        // Mended, it is served.
        put(&disk, &path("log"), &[&before[..], b"offset:8 timestamp:5 key:a escaped:\\x1b[2J\\r\n"].concat());
        assert_eq!(open(&disk, Flush::Always).topic("a").unwrap().partition(0).unwrap().high_watermark(), Ok(9));
    }
}

/// A roll found the disk full when it synced the directory, and the log went on in the old segment. The next start took the
/// file that the roll had left for the end of the log: records behind its base were gone, and their offsets given again.
#[test]
fn an_empty_segment_that_a_failed_roll_left_within_another_is_dropped() {
    for stop in STOPS {
        for (base, extensions) in [(4, &["log", "batches"][..]), (4, &["log"]), (7, &["log", "batches"])] {
            let disk = small_log(Flush::Always, stop);
            for extension in extensions {
                disk.create(&Path::new("data/a/0").join(format!("{base:020}.{extension}"))).unwrap();
            }
            let context = format!("{stop:?}, base {base}, {extensions:?}");
            let served = survives(&disk, Flush::Always, |_| false, &context);
            assert_eq!((served.end, served.damages.len(), served.epoch), (END, 0, 0), "{context}");
        }
    }
}

#[test]
fn an_empty_segment_that_begins_where_the_one_before_it_ends_is_the_end_of_the_log() {
    for stop in STOPS {
        let disk = small_log(Flush::Always, stop);
        disk.create(&Path::new("data/a/0").join(format!("{END:020}.log"))).unwrap();
        let served = survives(&disk, Flush::Always, |_| false, &format!("{stop:?}"));
        assert_eq!((served.end, served.damages.len(), served.epoch), (END, 0, 0), "{stop:?}");
        let added = bytes(&disk, &Path::new("data/a/0").join(format!("{END:020}.log")));
        assert!(added.starts_with(b"offset:8 message:new\n"), "{stop:?}");
    }
}

/// A folder of plain lines, put there by hand.
fn folder(lines: &str) -> MemoryDisk {
    let disk = MemoryDisk::crashable();
    make_dir(&disk, Path::new("data/a/0")).unwrap();
    put(&disk, &path("log"), lines.as_bytes());
    disk
}

#[test]
fn a_folder_of_plain_lines_becomes_a_topic() {
    let lines: String = (0..3000).map(|offset| format!("offset:{offset} message:record {offset}\n")).collect();
    let disk = folder(&lines);
    for start in 0..3_u64 {
        let broker = open(&disk, Flush::Always);
        let served = serve(&broker).unwrap();
        assert_eq!((served.end, served.damages.len(), served.epoch), (3000 + start, 0, 0));
        assert!((0..3000).all(|offset| served.records[&offset] == value(offset)));
        assert_eq!(append(&broker, ["more".to_string()]).start, 3000 + start);
    }
    assert!(bytes(&disk, &path("log")).starts_with(lines.as_bytes()));
}

#[test]
fn a_folder_with_a_line_that_does_not_fit_is_offline_and_untouched() {
    let lines = "offset:0 message:good\noffset:1 mesage:bad\n";
    let disk = folder(lines);
    let error = serve(&open(&disk, Flush::Always)).unwrap_err().to_string();
    assert!(error.contains("data/a/0/00000000000000000000.log") && error.contains("line 2"), "{error}");
    assert_eq!(bytes(&disk, &path("log")), lines.as_bytes());
    let names = disk.list(Path::new("data/a/0")).unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
}

/// A line with an old time was appended by hand. It alone counted for the age of its segment: retention took it, and all the newer
/// records before it.
#[test]
fn an_old_line_by_hand_makes_no_segment_older() {
    let disk = small_log(Flush::Always, Stop::Clean);
    let lines = [&bytes(&disk, &path("log"))[..], b"offset:8 timestamp:1500000000000 message:old\n"].concat();
    put(&disk, &path("log"), &lines);
    let (log, _) = open_log(&disk).unwrap();
    assert_eq!((log.high_watermark(), log.max_timestamp()), (9, Ok(NOW_MS)));
    let retention = Retention { ms: 1000, bytes: -1, timestamp_after_max_ms: 0 };
    assert_eq!(log.expired_to(NOW_MS + 1000, retention), Ok(None));
    assert_eq!(log.expired_to(NOW_MS + 1001, retention), Ok(Some(9)));
}

/// A line by hand was longer than a batch may be. It got an entry that nobody reads, and was called damaged from then on; the place
/// of the next line that did not fit was counted from the last entry.
#[test]
fn a_line_by_hand_that_is_longer_than_a_batch_is_refused_with_its_place() {
    const BATCH_BYTES_MAX: usize = 64 << 20;
    let line = |bytes: usize| [b"offset:8 message:", &vec![b'x'; bytes - 18][..], b"\n"].concat();
    for (bytes_of_line, fits) in [(BATCH_BYTES_MAX, true), (BATCH_BYTES_MAX + 1, false)] {
        let disk = small_log(Flush::Always, Stop::Clean);
        let before = bytes(&disk, &path("log"));
        put(&disk, &path("log"), &[&before[..], &line(bytes_of_line), b"offset:9 message:next\n"].concat());
        match open_log(&disk) {
            Ok((log, _)) => {
                let mut chunk = Chunk::default();
                log.read(8, 0, &mut chunk).unwrap();
                assert!(fits && chunk.bytes().len() == BATCH_BYTES_MAX);
            }
            Err(CannotOpen { why, .. }) => {
                let place = format!("at position {}: line 9: no line end within {BATCH_BYTES_MAX} bytes", before.len());
                assert!(!fits && why.ends_with(&place), "{why}");
            }
        }
    }
}

/// Two segments put there by hand, the second from offset 2 on, and opened once.
fn two_segments() -> MemoryDisk {
    let disk = folder("offset:0 message:record 0\noffset:1 message:record 1\n");
    put(&disk, Path::new(SECOND), b"offset:2 message:record 2\n");
    drop(open_log(&disk).unwrap());
    disk
}

const SECOND: &str = "data/a/0/00000000000000000002.log";

/// The log after a clean stop, and what is told of it.
fn open_log(disk: &MemoryDisk) -> Result<(Log, Opened), CannotOpen> {
    let handles = Arc::new(Handles::new(Arc::new(disk.clone()), 16));
    Log::open(handles, Path::new("data/a/0"), 0, true, NOW_MS, &|_| Ok(()))
}

/// A line that was refused in a segment that is not the last was only said to be damaged.
#[test]
fn a_line_by_hand_in_a_sealed_segment_is_refused_with_its_place() {
    for (added, why) in [
        (&b"offset:2 message:\x1b[2J\n"[..], "at position 52: line 3: '\\x1b' at byte 17; a line is UTF-8"),
        (b"offset:2 message:a\r\n", "at position 52: line 3: it ends with CR LF"),
        (b"offset:2 message:\xff\n", "at position 52: line 3: '\\xff' at byte 17;"),
        (b"offset:2 message:a\n", "at position 52: line 3: offset:2 is in the next segment, which begins at 2"),
    ] {
        let disk = two_segments();
        let lines = [&bytes(&disk, &path("log")), added].concat();
        put(&disk, &path("log"), &lines);
        let (_, opened) = open_log(&disk).unwrap();
        assert!(opened.notes.iter().any(|note| note.contains(why)), "{:?}", opened.notes);
        let served = serve(&open(&disk, Flush::Always)).unwrap();
        assert_eq!(served.records, (0..3).map(|offset| (offset, value(offset))).collect());
        assert_eq!(bytes(&disk, &path("log")), lines);
    }
}

/// A line that somebody appended to a sealed segment bore the offset of the next segment's first record, and was served in
/// its place.
#[test]
fn segments_by_hand_do_not_overlap() {
    let disk = folder("offset:0 message:record 0\noffset:1 message:record 1\noffset:2 message:another\n");
    put(&disk, Path::new(SECOND), b"offset:2 message:record 2\n");
    let error = open_log(&disk).unwrap_err().why;
    assert!(error.contains("line 3: offset:2 is in the next segment, which begins at 2"), "{error}");
}

#[test]
fn a_second_torn_tail_of_the_same_moment_is_kept_too() {
    let disk = small_log(Flush::Never, Stop::Unclean);
    let torn = |tail: &[u8]| {
        let mut lines = bytes(&disk, &path("log"));
        lines.extend_from_slice(tail);
        put(&disk, &path("log"), &lines);
        let disk = copy(&disk);
        assert_eq!(serve(&open(&disk, Flush::Never)).unwrap().end, END);
        disk
    };
    let first = torn(b"offset:8 mess");
    let mut lines = bytes(&first, &path("log"));
    lines.extend_from_slice(b"another");
    let second = copy(&first);
    put(&second, &path("log"), &lines);
    put(&second, Path::new("data/~broker"), b"cluster.id:x\n");
    assert_eq!(serve(&open(&second, Flush::Never)).unwrap().end, END);
    let names = second.list(Path::new("data/a/0")).unwrap();
    let cuts = names.iter().filter(|name| name.name.contains(".cut-"));
    let kept: Vec<_> = cuts.map(|name| bytes(&second, &Path::new("data/a/0").join(&name.name))).collect();
    assert_eq!(kept, [b"offset:8 mess".to_vec(), b"another".to_vec()]);
}

#[test]
fn a_cut_is_kept_and_raises_the_epoch_though_the_recovery_crashes() {
    let image = small_log(Flush::Never, Stop::Unclean);
    let whole = bytes(&image, &path("log"));
    let torn = &whole[layout(&image)[4].1.start..whole.len() - 1];
    put(&image, &path("log"), &whole[..whole.len() - 1]);
    let mut crashes = 0;
    for crash in [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter] {
        for nth in 1.. {
            let disk = copy(&image);
            disk.fault(Call::Any, nth, crash);
            let topic_defaults = Settings { retention_ms: -1, ..Settings::default() };
            let config = Config { flush: Flush::Never, topic_defaults, ..Config::new("data") };
            let clock = Clock::Manual(Arc::new(AtomicI64::new(NOW_MS)));
            let broker = Broker::open_on(Arc::new(disk.clone()), config, clock);
            // The topic's folder may not even be listed any more.
            let _ = broker.and_then(|broker| broker.topic("a")?.partition(0)?.high_watermark());
            if !disk.crashed() {
                break;
            }
            crashes += 1;
            for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth), Survivors::Seed(!nth)] {
                let disk = disk.reboot(survivors);
                let served = serve(&open(&disk, Flush::Never)).unwrap();
                let context = format!("{crash:?} {nth} {survivors:?}");
                assert_eq!(served.end, END - 1, "{context}");
                assert!(served.epoch > 0, "{context}");
                let names = disk.list(Path::new("data/a/0")).unwrap();
                let cuts = names.iter().filter(|name| name.name.contains(".cut-"));
                let mut kept = cuts.map(|name| bytes(&disk, &Path::new("data/a/0").join(&name.name)));
                assert!(kept.any(|kept| kept == torn), "{context}: {names:?}");
            }
        }
    }
    assert!(crashes > 20, "{crashes}");
}

#[test]
fn a_stop_is_not_called_clean_while_a_torn_log_was_never_opened() {
    let disk = small_log(Flush::Never, Stop::Unclean);
    let mut lines = bytes(&disk, &path("log"));
    lines.extend_from_slice(b"offset:8 mess");
    put(&disk, &path("log"), &lines);
    drop(open(&disk, Flush::Never));
    let served = serve(&open(&disk, Flush::Never)).unwrap();
    assert_eq!((served.end, served.damages.len()), (END, 0));
}

/// A full disk took a batch in part, which was cut off, and the broker stopped cleanly. Nothing had been stored, so nothing was
/// synced: a crash after the next start brought the part back, which was taken for lines put there by hand, and the
/// partition was offline for good.
#[test]
fn what_a_full_disk_took_in_part_is_gone_for_good_after_a_clean_stop() {
    for seed in 0..20 {
        let disk = MemoryDisk::crashable();
        let broker = open(&disk, Flush::Always);
        broker.create_topic("a", 1).unwrap();
        let partition = broker.topic("a").unwrap().partition(0).unwrap();
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Owned(vec![b'x'; 100])));
        partition.log().unwrap();
        disk.set_capacity(disk.used() + 59);
        assert!(partition.write(&records, Terms::default()).is_err(), "the disk is full");
        disk.set_capacity(u64::MAX);
        drop((partition, broker));
        let disk = disk.reboot(Survivors::Seed(seed));
        let broker = open(&disk, Flush::Always);
        assert_eq!(append(&broker, [value(0)]), 0..1);
    }
}
