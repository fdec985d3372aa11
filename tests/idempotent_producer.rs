//! The library's producer over a network that breaks: every record is stored once, and in order.
//!
//! ```text
//! producer ──► proxy ──► broker        the proxy cuts both ways, after so many bytes to the broker,
//!                └── cut               or so many from it, and takes the next connection
//! ```
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{Broker, LONG, text};
use plainlog::client::{Consumer, Producer, Record};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

/// Stands before a broker. Each connection is cut after so many bytes of one direction; when the numbers run out, none is any more.
fn proxy(broker: &str, cuts: Vec<Cut>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, broker) = (listener.local_addr().unwrap().to_string(), broker.to_string());
    thread::spawn(move || {
        let mut cuts = cuts.into_iter();
        for client in listener.incoming() {
            let (client, Ok(server)) = (client.unwrap(), TcpStream::connect(&broker)) else { continue };
            let cut = cuts.next().unwrap_or(Cut { there: u64::MAX, back: u64::MAX });
            pass(client.try_clone().unwrap(), server.try_clone().unwrap(), cut.there);
            pass(server, client, cut.back);
        }
    });
    address
}

/// How many bytes of a connection go to the broker, and how many come back.
#[derive(Clone, Copy, Debug)]
struct Cut {
    there: u64,
    back: u64,
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut bytes: u64) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while bytes > 0 {
            let most = bytes.min(buffer.len() as u64) as usize;
            match from.read(&mut buffer[..most]) {
                Ok(0) | Err(_) => break,
                Ok(read) if to.write_all(&buffer[..read]).is_err() => break,
                Ok(read) => bytes -= read as u64,
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

/// Numbers that look random and are the same in every run.
fn scattered(count: u64, most: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(move |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20).map(move |n| 200 + n % most)
}

/// The values of each partition, in order.
fn stored(broker: &Broker, topic: &str) -> BTreeMap<u32, Vec<u64>> {
    let mut consumer = Consumer::connect(&broker.address).unwrap().subscribe(&[topic]).unwrap();
    let mut found = BTreeMap::<u32, Vec<u64>>::new();
    while !consumer.at_end() {
        for message in consumer.poll(LONG, usize::MAX).unwrap() {
            let value = text(message.value.as_deref().unwrap()).parse().unwrap();
            found.entry(message.partition).or_default().push(value);
        }
    }
    found
}

#[test]
fn what_is_sent_over_connections_that_break_is_stored_once_and_in_order() {
    const COUNT: u64 = 30_000;
    let broker = Broker::with(&["--in-memory", "--segment-bytes", "64KiB"]);
    broker.expect("CREATE events partitions:3\n", &["OK topic:events"]);
    let cuts = scattered(40, 60_000).enumerate().map(|(nth, bytes)| match nth % 2 {
        0 => Cut { there: bytes, back: u64::MAX },
        _ => Cut { there: u64::MAX, back: bytes },
    });
    let mut producer = Producer::connect(&proxy(&broker.address, cuts.collect())).unwrap();
    let mut partitions = BTreeMap::<u32, Vec<u64>>::new();
    let mut pipeline = producer.pipeline(|value, outcome| {
        partitions.entry(outcome.unwrap().partition).or_default().push(value);
    });
    for value in 0..COUNT {
        let record = Record::new(value.to_string());
        let record = if value % 3 == 0 { record } else { record.key(format!("user {}", value % 7)) };
        pipeline.push("events", &record, value).unwrap();
    }
    pipeline.flush().unwrap();
    drop(pipeline);
    assert!(producer.resent() > 0, "no connection broke");
    let found = stored(&broker, "events");
    assert_eq!(found, partitions, "what was acknowledged, once each");
    assert_eq!(found.values().map(Vec::len).sum::<usize>() as u64, COUNT);
}

/// Every third record is too large, so that those behind it are out of order each time.
#[test]
fn refused_records_leave_no_gap_though_connections_break() {
    const COUNT: u64 = 3_000;
    let broker = Broker::with(&["--in-memory", "--max-message-bytes", "100"]);
    let cuts = scattered(20, 30_000).map(|bytes| Cut { there: u64::MAX, back: bytes });
    let mut producer = Producer::connect(&proxy(&broker.address, cuts.collect())).unwrap();
    let (mut told, mut refused) = (0, 0);
    let mut pipeline = producer.pipeline(|value, outcome| {
        assert_eq!((told, value % 3 == 2), (value, outcome.is_err()), "{outcome:?}");
        refused += u64::from(outcome.is_err_and(|refused| refused.code == "MESSAGE_TOO_LARGE"));
        told += 1;
    });
    for value in 0..COUNT {
        let text = if value % 3 == 2 { "x".repeat(101) } else { value.to_string() };
        pipeline.push("events", &Record::new(text), value).unwrap();
    }
    pipeline.flush().unwrap();
    drop(pipeline);
    assert_eq!((told, refused), (COUNT, COUNT / 3));
    let expected: Vec<_> = (0..COUNT).filter(|value| value % 3 != 2).collect();
    assert_eq!(stored(&broker, "events"), BTreeMap::from([(0, expected)]));
}

#[test]
fn a_broker_that_is_killed_stores_nothing_twice() {
    const COUNT: u64 = 100_000;
    let mut broker = Broker::on_disk();
    let mut producer = Producer::connect(&broker.address).unwrap();
    let (progress, reached) = mpsc::channel();
    let sending = thread::spawn(move || {
        let mut pipeline = producer.pipeline(|value, outcome| {
            outcome.unwrap();
            if value % (COUNT / 4) == COUNT / 8 {
                progress.send(()).unwrap();
            }
        });
        for value in 0..COUNT {
            pipeline.push("events", &Record::new(value.to_string()), value).unwrap();
        }
        pipeline.flush().unwrap();
    });
    for () in reached {
        broker.restart();
    }
    sending.join().unwrap();
    assert_eq!(stored(&broker, "events"), BTreeMap::from([(0, (0..COUNT).collect())]));
}

#[test]
fn a_broker_that_lost_everything_is_served_from_a_new_producer() {
    let mut broker = Broker::start();
    let mut producer = Producer::connect(&broker.address).unwrap();
    for _ in 0..3 {
        assert_eq!(producer.send("events", "1").unwrap().offset, Some(0));
        assert_eq!(producer.send("events", "2").unwrap().offset, Some(1));
        broker.restart();
        // Somebody else is given the same id.
        broker.expect("PRODUCER\nSEND events/0 sequence:0 message:7\n", &["OK producer_id:0", "ACK"]);
        broker.expect(
            "PRODUCER 0\nSEND events/0 sequence:1 message:8\nSEND events/0 sequence:2 message:9\n",
            &["OK", "ACK", "ACK"],
        );
        assert_eq!(producer.send("events", "3").unwrap().offset, Some(3));
        broker.restart();
    }
}

/// Somebody made the topic anew with fewer partitions: the first record that does not fit is refused, and then the broker is asked.
#[test]
fn a_topic_that_lost_partitions_is_asked_for_again() {
    let broker = Broker::start();
    broker.expect("CREATE events partitions:9\n", &["OK topic:events"]);
    let mut producer = Producer::connect(&broker.address).unwrap();
    producer.send("events", "1").unwrap();
    broker.expect("DROP events\nCREATE events partitions:1\n", &["OK", "OK topic:events"]);
    let key = (0..)
        .map(|key: u32| key.to_string())
        .find(|key| plainlog::broker::partition_of(key.as_bytes(), 9) == 8)
        .unwrap();
    let keyed = || Record::new("2").key(key.clone());
    let refused = producer.send("events", keyed()).unwrap_err();
    assert!(refused.to_string().contains("'events' has no partition 8"), "{refused}");
    assert_eq!(producer.send("events", keyed()).unwrap().partition, 0);
}

#[test]
fn the_program_stores_each_message_once() {
    const COUNT: u64 = 20_000;
    let broker = Broker::start();
    let cuts = scattered(10, 60_000).map(|bytes| Cut { there: u64::MAX, back: bytes });
    let proxy = proxy(&broker.address, cuts.collect());
    let input: String = (0..COUNT).map(|value| format!("{value}\n")).collect();
    let output = broker.produce(&["--idempotent", "-b", &proxy], input);
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.starts_with(&format!("{COUNT} messages, ")), "{told}");
    assert!(told.contains(" messages were sent again; each is stored once\n"), "{told}");
    assert_eq!(stored(&broker, "messages"), BTreeMap::from([(0, (0..COUNT).collect())]));
}
