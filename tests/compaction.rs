//! Compacted topics of a running broker: in the background, beside appends, drops and restarts.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::until;
use plainlog::{
    Broker, Config, Consumer, Producer, Record, Server,
    broker::{Clock, Partition},
    client::{Error, Position},
    config::Flush,
    log::{Compaction, disk::MemoryDisk},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::Duration,
};

/// A topic with `cleanup.policy=compact` and small segments.
fn compacted(broker: &Broker, name: &str) -> Arc<Partition> {
    let settings = [("cleanup.policy", "compact"), ("segment.bytes", "1024"), ("min.cleanable.dirty.ratio", "0.1")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    broker.create_topic_with(name, Some(1), settings).unwrap();
    broker.topic(name).unwrap().partition(0).unwrap()
}

fn say(port: u16, lines: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("{lines}QUIT\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_segment_that_rolls_is_compacted_in_the_background() {
    let broker = Broker::in_memory();
    let partition = compacted(&broker, "t");
    let mut producer = Producer::embedded(&broker);
    for n in 0..200 {
        producer.send("t", Record::new(format!("{n}")).key(format!("{}", n % 4))).unwrap();
    }
    until("it is compacted", || partition.log().unwrap().bytes().unwrap() < 2048);
    let mut consumer = Consumer::embedded(&broker).start_at(Position::Earliest).subscribe(&["t"]).unwrap();
    let mut latest = std::collections::BTreeMap::new();
    while !consumer.at_end() {
        for message in consumer.poll(Duration::from_millis(100), 1000).unwrap() {
            latest.insert(message.key.unwrap(), (message.offset, message.value.unwrap()));
        }
    }
    let expected = (196..200).map(|n| (format!("{}", n % 4).into_bytes(), (n, format!("{n}").into_bytes())));
    assert_eq!(latest, expected.collect());
}

#[test]
fn a_topic_that_is_compacted_can_be_dropped_at_any_moment() {
    let dir = std::env::temp_dir().join(format!("plainlog-compaction-drop-{}", std::process::id()));
    let broker = Broker::open(Config { flush: Flush::Never, ..Config::new(&dir) }).unwrap();
    for round in 0..20 {
        let partition = compacted(&broker, "t");
        let values = (0..2000).map(|n| Record::new(format!("{n}")).key(format!("{}", n % 4)));
        Producer::embedded(&broker).send_batch("t", values).unwrap();
        // The background thread looks every few seconds only; this one is at it at once.
        thread::scope(|scope| {
            let partition = &partition;
            scope.spawn(move || partition.log().map(|log| log.compact(0, &Compaction::default(), &|| false).map(drop)));
            thread::sleep(Duration::from_micros(500 * round));
            broker.drop_topic("t").unwrap();
        });
        let names = std::fs::read_dir(&dir).unwrap().map(|name| name.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = names.filter(|name| name == "t" || name.starts_with("~drop-")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    drop(broker);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_record_without_a_key_is_refused_alone() {
    let broker = Broker::in_memory();
    let partition = compacted(&broker, "t");
    let mut producer = Producer::embedded(&broker);
    let refused = producer.send("t", "no key").unwrap_err();
    assert!(matches!(&refused, Error::Refused(refused) if refused.code == "INVALID_RECORD"), "{refused:?}");
    producer.send("t", Record::new("1").key("")).unwrap();
    let server = Server::start(broker.clone(), "127.0.0.1:0").unwrap();
    let answer = say(server.port(), "SEND t key:a message:1\nSEND t message:2\nSEND t key:b message:3\n");
    let codes: Vec<_> = answer.lines().map(|line| line.split(" the ").next().unwrap()).collect();
    let acks = ["ACK topic:t partition:0 offset:1", "ERROR INVALID_RECORD", "ACK topic:t partition:0 offset:2"];
    assert_eq!(codes, acks);
    assert_eq!(partition.high_watermark().unwrap(), 3);
}

#[test]
fn text_goes_on_over_holes() {
    let broker = Broker::in_memory();
    let partition = compacted(&broker, "t");
    let server = Server::start(broker.clone(), "127.0.0.1:0").unwrap();
    for record in ["key:a message:0", "key:a message:1", "key:b message:2", "key:c tombstone"] {
        say(server.port(), &format!("SEND t {record}\n"));
    }
    let (log, now_ms) = (partition.log().unwrap(), broker.now_ms());
    log.roll_if_old(i64::MAX, 0).unwrap();
    for wait_ms in [0, 2000] {
        let settings = Compaction { delete_retention_ms: 0, ..Compaction::default() };
        log.compact(now_ms + wait_ms, &settings, &|| false).unwrap();
    }
    let port = server.port();
    assert_eq!(say(port, "USE t\nCONSUME 0\n"), "OK topic:t partition:0\nRECORD offset:1 key:a message:1\n");
    assert_eq!(say(port, "USE t\nCONSUME 3\n"), "OK topic:t partition:0\nNO_MESSAGE\n");
    let tail = "offset:1 key:a message:1\noffset:2 key:b message:2\nEND next:4\n";
    assert_eq!(say(port, "TAIL t/0 from:0 until:end\n"), tail);
    assert_eq!(say(port, "TAIL t/0 from:3 until:end\n"), "END next:4\n");
    assert_eq!(say(port, "FETCH t/0 3\n"), "RECORDS topic:t partition:0 count:0 next:4 end:4\n");
    assert!(say(port, "FETCH t/0 0\n").starts_with("RECORDS topic:t partition:0 count:2 next:3 end:4\n"));
    let polled = say(port, "JOIN g t commit:manual\nPOLL\nPOLL\n");
    assert!(polled.contains("\nPOLLED count:2 ") && polled.contains("\nPOLLED count:0 "), "{polled}");
    for consumer in [Consumer::embedded(&broker), Consumer::connect(&format!("127.0.0.1:{port}")).unwrap()] {
        let mut consumer = consumer.start_at(Position::Offset(0)).assign("t", 0).unwrap();
        let mut offsets = Vec::new();
        until("the consumer comes to the end", || {
            offsets.extend(consumer.poll(Duration::from_millis(20), 10).unwrap().iter().map(|message| message.offset));
            consumer.at_end()
        });
        assert_eq!(offsets, [1, 2]);
    }
}

#[test]
fn committed_offsets_stay_small_and_are_read_back() {
    let disk = MemoryDisk::default();
    let open = || {
        let config = Config { flush: Flush::Never, ..Config::new("data") };
        Broker::open_on(Arc::new(disk.clone()), config, Clock::System).unwrap()
    };
    let broker = open();
    broker.create_topic("orders", 2).unwrap();
    let mut member = broker.join("g", &["orders"], Default::default()).unwrap();
    for n in 0..100_000 {
        member.commit(Some(&[("orders", 0, n), ("orders", 1, n + 1)])).unwrap();
    }
    let log_of = |broker: &Broker| broker.topic("__consumer_offsets").unwrap().partition(0).unwrap();
    let partition = log_of(&broker);
    assert!(partition.high_watermark().unwrap() >= 200_000);
    // Of ten megabytes at least what is sealed goes.
    until("it is compacted", || partition.log().unwrap().bytes().unwrap() < 5 << 20);
    drop((member, partition, broker));
    let broker = open();
    let offsets = broker.committed_offsets("g").unwrap();
    let offsets: Vec<_> = offsets.iter().map(|((topic, index), at)| (topic.to_string(), *index, at.offset)).collect();
    assert_eq!(offsets, [("orders".to_owned(), 0, 99_999), ("orders".to_owned(), 1, 100_000)]);
}
