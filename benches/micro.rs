//! The parts of the data path alone: a record's line, written and parsed; a log, appended to and read; whether a caller may.
//!
//! ```text
//! cargo bench --bench micro                  all
//! cargo bench --bench micro -- append        those with `append` in their names
//! ```
//!
//! Each figure is for a batch of 1,000 records, but for those that say otherwise. Files are on the disk of the build;
//! nothing is synced.

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use plainlog::log::{
    Append, Chunk, Content, Log,
    batches::Flags,
    disk::FileDisk,
    handles::Handles,
    record::{Records, parse_fields, split_offset, write_line},
};
use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

const BATCH: usize = 1_000;
const NOW_MS: i64 = 1_700_000_000_000;

/// A kind of records: what it is called, and the records.
type Kind = (&'static str, Records<'static>);

/// `count` records of each kind that the path treats differently.
fn kinds(count: usize) -> Vec<Kind> {
    let ascii = |size: usize| "the quick brown fox ".bytes().cycle().take(size).collect::<Vec<u8>>();
    let binary = |size: usize| (0..=255).cycle().take(size).collect::<Vec<u8>>();
    let german = "Zwölf Boxkämpfer jagen Viktor ".repeat(3).into_bytes();
    let of = |key: Option<&'static [u8]>, value: Vec<u8>| {
        let mut records = Records::default();
        for _ in 0..count {
            records.push(None, key.map(Into::into), Some(value.clone().into()));
            if key.is_some() {
                records.header(b"trace".as_slice().into(), Some(b"a1b2c3d4".as_slice().into()));
            }
        }
        records
    };
    vec![
        ("100 B", of(None, ascii(100))),
        ("100 B with key and header", of(Some(b"user-1234"), ascii(100))),
        ("96 B of UTF-8", of(None, german)),
        ("100 B of bytes (base64)", of(None, binary(100))),
        ("1 KB", of(None, ascii(1_000))),
        ("10 KB", of(None, ascii(10_000))),
    ]
}

fn write_lines(records: &Records<'_>, out: &mut Vec<u8>) {
    for (offset, record) in records.iter().enumerate() {
        write_line(out, 1_000_000 + offset as u64, None, records, record);
    }
}

/// A group whose throughput is bytes of lines a second.
fn by_bytes(group: &mut BenchmarkGroup<'_, WallTime>, records: &Records<'_>) -> Vec<u8> {
    let mut lines = Vec::new();
    write_lines(records, &mut lines);
    group.throughput(Throughput::Bytes(lines.len() as u64));
    lines
}

fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write lines");
    for (name, records) in &kinds(BATCH) {
        let mut out = by_bytes(&mut group, records);
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                out.clear();
                write_lines(black_box(records), &mut out);
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("parse lines");
    for (name, records) in &kinds(BATCH) {
        let lines = by_bytes(&mut group, records);
        group.bench_function(*name, |bencher| bencher.iter(|| parse(black_box(&lines)).len()));
    }
    group.finish();
}

fn parse(mut lines: &[u8]) -> Records<'_> {
    let mut records = Records::default();
    while let Some(end) = memchr::memchr(b'\n', lines) {
        let (_, fields) = split_offset(&lines[..end]).expect("written above");
        parse_fields(&mut records, fields).expect("written above");
        lines = &lines[end + 1..];
    }
    records
}

/// A log in a folder of its own, which goes when it is dropped.
struct Fresh {
    log: Log,
    dir: PathBuf,
}

impl Fresh {
    fn new() -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("micro-{}", std::process::id()));
        // What an interrupted run left under this process's number.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("the build's folder can be written");
        let handles = Arc::new(Handles::new(Arc::new(FileDisk), 64));
        let (log, _) = Log::open(handles, &dir, 0, true, NOW_MS, &|_| Ok(())).expect("an empty folder is an empty log");
        Self { log, dir }
    }

    fn append(&self, records: &Records<'_>) {
        let append = Append {
            content: Content::Records(records),
            now_ms: NOW_MS,
            flags: Flags::NONE,
            producer: None,
            whole: false,
            segment_bytes_max: 1 << 30,
            segment_ms_max: i64::MAX,
            publish: true,
        };
        let appended = self.log.append(&append).expect("the disk takes it");
        assert_eq!(appended.offsets.end - appended.offsets.start, records.len() as u64);
    }

    /// How long `times` appends take. The log is begun anew, with the clock stopped, before it fills the disk.
    fn appends(records: &Records<'_>, bytes: u64, times: u64) -> Duration {
        const LOG_BYTES: u64 = 256 << 20;
        let (mut left, mut taken) = (times, Duration::ZERO);
        while left > 0 {
            let fresh = Fresh::new();
            let now = left.min(LOG_BYTES / bytes);
            let start = Instant::now();
            (0..now).for_each(|_| fresh.append(records));
            taken += start.elapsed();
            left -= now;
        }
        taken
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (name, records) in &kinds(BATCH) {
        let bytes = by_bytes(&mut group, records).len() as u64;
        group.bench_function(*name, |bencher| bencher.iter_custom(|times| Fresh::appends(records, bytes, times)));
    }
    let (name, records) = &kinds(1)[0];
    let bytes = by_bytes(&mut group, records).len() as u64;
    group.bench_function(format!("one record of {name}"), |bencher| {
        bencher.iter_custom(|times| Fresh::appends(records, bytes, times));
    });
    group.finish();
}

/// Reads logs of 100,000 records from end to end, as FETCH and TAIL do.
fn read(criterion: &mut Criterion) {
    const RECORDS: u64 = 100_000;
    let mut group = criterion.benchmark_group("read 100,000 records of 100 B");
    for (name, in_batch) in [("in batches of 1,000", BATCH), ("in batches of one", 1)] {
        let (_, records) = &kinds(in_batch)[0];
        let fresh = Fresh::new();
        (0..RECORDS / in_batch as u64).for_each(|_| fresh.append(records));
        group.throughput(Throughput::Bytes(fresh.log.bytes().expect("the log can be read")));
        let mut chunk = Chunk::default();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut offset = 0;
                while offset < RECORDS {
                    fresh.log.read(offset, 1 << 20, &mut chunk).expect("the log can be read");
                    black_box(chunk.bytes());
                    offset = chunk.next_offset().expect("at least one batch");
                }
                assert_eq!(offset, RECORDS);
            });
        });
    }
    group.finish();
}

/// One decision of the gate with 10,000 rules: a hundred users, each with a hundred topics, prefixes or groups.
#[cfg(feature = "users")]
fn decide(criterion: &mut Criterion) {
    use plainlog::{
        broker::{Caller, Gate, Protocol, ResourceName},
        config::SecurityConfig,
        security::{ANY_HOST, Acl, Operation, PatternType, Permission, Principal, Proof, ResourceType},
    };
    let rule = |number: usize| Acl {
        resource_type: if number.is_multiple_of(10) { ResourceType::Group } else { ResourceType::Topic },
        pattern: if number.is_multiple_of(3) { PatternType::Prefixed } else { PatternType::Literal },
        name: format!("team-{}.topic-{}", number % 100, number / 100),
        principal: format!("User:user-{}", number % 100),
        host: ANY_HOST.into(),
        operation: if number.is_multiple_of(2) { Operation::Read } else { Operation::Write },
        permission: Permission::Allow,
    };
    let gate = Gate::new(&SecurityConfig { users: true, ..SecurityConfig::default() });
    gate.replace_acls(|| Arc::new((0..10_000).map(rule).collect()));
    let caller = Caller {
        principal: Principal::new("user-7", Proof::Password),
        protocol: Protocol::Kafka,
        address: Some(([10, 0, 0, 1], 4000).into()),
        client_id: String::new(),
    };
    let mut group = criterion.benchmark_group("decide with 10,000 rules");
    for (name, topic, expected) in [
        ("allowed", "team-7.topic-3", true),
        ("allowed by a prefix", "team-7.topic-2-more", true),
        ("refused", "team-8.topic-3", false),
    ] {
        assert_eq!(gate.allows(&caller, Operation::Describe, ResourceName::topic(topic)), expected, "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| gate.allows(&caller, Operation::Describe, ResourceName::topic(black_box(topic))));
        });
    }
    group.finish();
}

#[cfg(not(feature = "users"))]
fn decide(_: &mut Criterion) {}

criterion_group!(micro, lines, append, read, decide);
criterion_main!(micro);
