//! Each record's time is the same for every reader: whatever was appended beside it, wherever a read begins, and before and
//! after compaction.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use plainlog::{
    Broker, Consumer, Producer, Record, Server,
    broker::{Clock, Isolation, Terms, View},
    client::Position,
    config::{Config, Settings},
    log::{
        Compaction, Log,
        disk::{Disk, FileDisk, MemoryDisk},
        handles::Handles,
        inspect,
        record::Records,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering::*},
    },
    time::Duration,
};

const NOW_MS: i64 = 1_700_000_000_000;

/// The time of each record, by offset.
type Times = BTreeMap<u64, i64>;

/// A record to be appended: its key, and its own time.
type Given = (u8, Option<i64>);

fn records(given: &[Given]) -> Records<'static> {
    let mut records = Records::default();
    for (index, (key, time)) in given.iter().enumerate() {
        let value = if index % 5 == 4 { b"\x00\xff".to_vec() } else { b"value".to_vec() };
        records.push(*time, Some(vec![b'a' + key].into()), Some(value.into()));
        if index % 3 == 2 {
            records.header(b"timestamp".as_slice().into(), Some(b"1".as_slice().into()));
        }
    }
    records
}

fn open(disk: &MemoryDisk, clock: &Arc<AtomicI64>) -> Broker {
    let topic_defaults = Settings { retention_ms: -1, ..Settings::default() };
    let config = Config { topic_defaults, ..Config::new("data") };
    Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(clock.clone())).unwrap()
}

/// A served broker, and the ways to read a topic `t` of one partition.
struct Readers {
    broker: Broker,
    _server: Server,
    address: String,
}

impl Readers {
    fn new(broker: Broker) -> Readers {
        let server = Server::start(broker.clone(), "127.0.0.1:0").unwrap();
        let address = format!("127.0.0.1:{}", server.port());
        Readers { broker, _server: server, address }
    }

    fn text(&self, line: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(format!("{line}\nQUIT\n").as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// As text.md says that FETCH is read.
    fn fetched(&self, from: u64) -> Times {
        let (mut found, mut text) = (Times::new(), self.text(&format!("FETCH t/0 {from}")));
        let mut line = String::new();
        text.read_line(&mut line).unwrap();
        for _ in 0..word(&line, "count").unwrap() {
            line.clear();
            text.read_line(&mut line).unwrap();
            assert!(line.starts_with("BATCH "), "{line}");
            let (running, mut time) = (line.contains(" times:running "), word(&line, "timestamp").unwrap());
            let mut lines = vec![0; word(&line, "bytes").unwrap() as usize];
            text.read_exact(&mut lines).unwrap();
            let lines = String::from_utf8(lines).unwrap();
            assert!(lines.is_empty() || word(&line, "first") <= word(&lines, "offset"), "{line}{lines}");
            assert_eq!(word(&line, "count"), Some(lines.lines().count() as i64));
            for (index, line) in lines.lines().enumerate() {
                let own = word(line, "timestamp");
                if running {
                    time = own.unwrap_or(time);
                }
                // "the one in force at its first line"
                assert!(!running || index > 0 || own.is_none_or(|own| own == time));
                found.insert(word(line, "offset").unwrap() as u64, own.unwrap_or(time));
            }
        }
        found
    }

    fn tailed(&self, from: u64) -> Times {
        let lines = self.text(&format!("TAIL t from:{from} until:end timestamps:yes")).lines();
        let lines = lines.map(Result::unwrap).filter(|line| line != "END");
        lines.map(|line| (word(&line, "offset").unwrap() as u64, word(&line, "timestamp").unwrap())).collect()
    }

    fn polled(&self, from: u64) -> Times {
        // A group goes on where it was, over restarts too: each poll is of a group of its own.
        static GROUPS: AtomicU32 = AtomicU32::new(0);
        let group = GROUPS.fetch_add(1, AcqRel);
        let text = self.text(&format!("JOIN g{group} t from:{from}\nPOLL max:100000 wait:0\nLEAVE"));
        let lines = text.lines().map(Result::unwrap).filter(|line| line.starts_with("topic:"));
        lines.map(|line| (word(&line, "offset").unwrap() as u64, word(&line, "timestamp").unwrap())).collect()
    }

    fn consumed(&self, consumer: Consumer, from: u64) -> Times {
        let mut consumer = consumer.start_at(Position::Offset(from)).assign("t", 0).unwrap();
        let mut found = Times::new();
        while !consumer.at_end() {
            let messages = consumer.poll(Duration::from_millis(5), 1000).unwrap();
            found.extend(messages.iter().map(|message| (message.offset, message.timestamp)));
        }
        found
    }

    #[cfg(feature = "kafka")]
    fn fetched_by_kafka(&self, from: u64) -> Times {
        use kafka_protocol::{
            messages::{fetch_request::*, *},
            protocol::{Decodable, Encodable, StrBytes},
            records::RecordBatchDecoder,
        };
        let partition = FetchPartition::default().with_partition_max_bytes(1 << 20).with_fetch_offset(from as i64);
        let topic = FetchTopic::default().with_topic(StrBytes::from("t").into()).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]);
        let header = RequestHeader::default().with_request_api_key(1).with_request_api_version(12);
        let mut frame = vec![0; 4];
        header.encode(&mut frame, 2).unwrap();
        request.encode(&mut frame, 12).unwrap();
        let size = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        let (mut stream, mut size) = (TcpStream::connect(&self.address).unwrap(), [0; 4]);
        stream.write_all(&frame).unwrap();
        stream.read_exact(&mut size).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut frame).unwrap();
        let mut rest = &frame[..];
        ResponseHeader::decode(&mut rest, 1).unwrap();
        let response = FetchResponse::decode(&mut rest, 12).unwrap();
        let mut records = response.responses[0].partitions[0].records.clone().unwrap_or_default();
        let sets = RecordBatchDecoder::decode_all(&mut records).unwrap();
        // A batch may come whole.
        let records = sets.into_iter().flat_map(|set| set.records).filter(|record| record.offset as u64 >= from);
        records.map(|record| (record.offset as u64, record.timestamp)).collect()
    }

    /// Asks each reader, from each offset.
    fn hold(&self, times: &Times, end: u64) {
        for from in 0..=end {
            let expected: Times = times.range(from..).map(|(&offset, &time)| (offset, time)).collect();
            assert_eq!(self.fetched(from), expected, "FETCH from {from}");
            assert_eq!(self.tailed(from), expected, "TAIL from {from}");
            assert_eq!(self.polled(from), expected, "POLL from {from}");
            assert_eq!(self.consumed(Consumer::embedded(&self.broker), from), expected, "the library from {from}");
            let network = Consumer::connect(&self.address).unwrap();
            assert_eq!(self.consumed(network, from), expected, "the library from {from}, over the network");
            #[cfg(feature = "kafka")]
            assert_eq!(self.fetched_by_kafka(from), expected, "Fetch from {from}");
            let (partition, mut chunk) = (self.broker.topic("t").unwrap().partition(0).unwrap(), Default::default());
            let view = View::records(Isolation::ReadCommitted);
            let first = |time| times.iter().find(|(_, found)| **found >= time).map_or(end, |(offset, _)| *offset);
            for time in times.range(from..).map(|(_, time)| *time).take(1) {
                assert_eq!(partition.offset_at(view, time, &mut chunk).unwrap(), first(time), "the first at {time}");
            }
        }
    }
}

/// The number in the first word `name:<number>`.
fn word(line: &str, name: &str) -> Option<i64> {
    let mut words = line.split([' ', '\n']).take_while(|word| !word.starts_with("key:"));
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix(':')?.parse().ok())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_finds_the_times_that_were_written(
        batches in vec(vec((0..4u8, option::of(select(&[-1, 0, 5, NOW_MS - 1, NOW_MS, NOW_MS + 1][..]))), 1..7), 1..4),
    ) {
        let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(NOW_MS)));
        let broker = open(&disk, &clock);
        let compact = [("cleanup.policy".into(), "compact".into()), ("min.cleanable.dirty.ratio".into(), "1".into())];
        broker.create_topic_with("t", Some(1), compact.into()).unwrap();
        let (mut times, mut latest, mut end) = (Times::new(), BTreeMap::new(), 0);
        for batch in &batches {
            let partition = broker.topic("t").unwrap().partition(0).unwrap();
            partition.write(&records(batch), Terms::default()).and_then(|appended| partition.make_durable(&appended)).unwrap();
            for &(key, time) in batch {
                times.insert(end, time.unwrap_or(clock.load(Acquire)));
                latest.insert(key, end);
                end += 1;
            }
            clock.fetch_add(1, AcqRel);
        }
        let readers = Readers::new(broker);
        readers.hold(&times, end);
        drop(readers);
        let handles = Arc::new(Handles::new(Arc::new(disk.clone()), 16));
        let (log, _) = Log::open(handles, Path::new("data/t/0"), 0, true, NOW_MS, &|_| Ok(())).unwrap();
        log.roll_if_old(i64::MAX, 0).unwrap();
        log.compact(NOW_MS, &Compaction::default(), &|| false).unwrap();
        drop(log);
        times.retain(|offset, _| latest.values().any(|latest| latest == offset));
        Readers::new(open(&disk, &clock)).hold(&times, end);
    }
}

/// `SEND t timestamp:1600000000000 message:a` and, sent behind it without waiting, `SEND t message:b`: b was stored with a's
/// time, since a batch took the time of its first record.
#[test]
fn a_record_without_a_time_has_the_time_of_its_append_whatever_comes_beside_it() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(NOW_MS)));
    let readers = Readers::new(open(&disk, &clock));
    readers.broker.create_topic("t", 1).unwrap();
    readers
        .text("SEND t timestamp:1600000000000 message:a\nSEND t message:b")
        .read_to_string(&mut String::new())
        .unwrap();
    let lines = "USE t\nSEND t timestamp:1600000000000 message:c\nPRODUCE d\nSEND t timestamp:1600000000000 tombstone";
    readers.text(lines).read_to_string(&mut String::new()).unwrap();
    let batch = || [Record::new("f").timestamp(1_600_000_000_000), Record::new("g")];
    Producer::embedded(&readers.broker).send_batch("t", batch()).unwrap();
    Producer::connect(&readers.address).unwrap().send_batch("t", batch()).unwrap();
    let expected: Times = [1_600_000_000_000, NOW_MS, 1_600_000_000_000, NOW_MS, 1_600_000_000_000]
        .into_iter()
        .chain([1_600_000_000_000, NOW_MS, 1_600_000_000_000, NOW_MS])
        .enumerate()
        .map(|(offset, time)| (offset as u64, time))
        .collect();
    readers.hold(&expected, 9);
}

/// A log as it was written before times ran on, or by hand: a line without a time has its batch's, before and after a restart
/// and compaction.
#[test]
fn in_a_batch_without_the_flag_a_line_without_a_time_has_its_batchs() {
    let folder = env::temp_dir().join(format!("plainlog-times-{}", std::process::id()));
    let partition = folder.join("t/0");
    fs::create_dir_all(&partition).unwrap();
    let lines = "offset:0 timestamp:5 key:a message:a\noffset:1 key:b message:b\noffset:2 timestamp:7 key:a message:c\n\
                 offset:3 key:c message:d\n";
    fs::write(partition.join("00000000000000000000.log"), lines).unwrap();
    let config = || {
        let topic_defaults = Settings { retention_ms: -1, ..Settings::default() };
        Config { topic_defaults, ..Config::new(&folder) }
    };
    let file_time = FileDisk.open(&partition.join("00000000000000000000.log")).unwrap().modified_ms().unwrap();
    let mut expected = Times::from([(0, 5), (1, file_time), (2, 7), (3, file_time)]);
    Readers::new(Broker::open(config()).unwrap()).hold(&expected, 4);
    let handles = Arc::new(Handles::new(Arc::new(FileDisk), 16));
    let (log, _) = Log::open(handles, &partition, 0, true, NOW_MS, &|_| Ok(())).unwrap();
    log.roll_if_old(i64::MAX, 0).unwrap();
    log.compact(NOW_MS, &Compaction::default(), &|| false).unwrap();
    drop(log);
    expected.remove(&0);
    Readers::new(Broker::open(config()).unwrap()).hold(&expected, 4);
    let mut dumped = Vec::new();
    inspect::dump(&partition, &mut dumped).unwrap();
    let dumped = String::from_utf8(dumped).unwrap();
    assert!(dumped.contains(&format!(" timestamp:{file_time} position:0 ")), "{dumped}");
    fs::remove_dir_all(&folder).unwrap();
}
