//! The library over the network, against the real broker.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{Broker, LONG, is_in_front};
use plainlog::client::{Connection, Consumer, Error, Message, Position, Producer, Record};
use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

fn producer(broker: &Broker) -> Producer {
    Producer::connect(&broker.address).unwrap().idempotent(!is_in_front())
}

fn consumer(broker: &Broker) -> Consumer {
    Consumer::connect(&broker.address).unwrap()
}

fn next(consumer: &mut Consumer, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    let deadline = Instant::now() + LONG;
    while messages.len() < count {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "only {} of {count} messages came", messages.len());
        messages.extend(consumer.poll(left, count - messages.len()).unwrap());
    }
    messages
}

fn values(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| std::str::from_utf8(message.value.as_deref().unwrap()).unwrap()).collect()
}

#[test]
fn what_was_sent_is_read_as_it_was() {
    let broker = Broker::start();
    // Records of 1970 are beyond any retention.
    broker.expect("CREATE events partitions:3 retention.ms:-1\n", &["OK topic:events"]);
    let mut producer = producer(&broker);
    let record = Record::new(vec![0, 255, b'\n']).key("user 1").header("a", "1").timestamp(7).partition(2);
    let ack = producer.send("events", record).unwrap();
    assert_eq!((ack.partition, ack.offset), (2, Some(0)));
    producer
        .send("events", Record { headers: vec![(b"n".into(), None)], ..Record::tombstone("k").partition(2) })
        .unwrap();
    let mut consumer = consumer(&broker).subscribe(&["events"]).unwrap();
    let messages = next(&mut consumer, 2);
    let first = &messages[0];
    assert_eq!((&*first.topic, first.partition, first.offset, first.timestamp), ("events", 2, 0, 7));
    assert_eq!(first.value.as_deref(), Some(b"\0\xff\n".as_slice()));
    assert_eq!(first.key.as_deref(), Some(b"user 1".as_slice()));
    assert_eq!(first.headers, [(b"a".into(), Some(b"1".into()))]);
    assert_eq!((messages[1].offset, &messages[1].value), (1, &None));
    assert_eq!(messages[1].headers, [(b"n".into(), None)]);
    assert!(messages[1].timestamp > 1_600_000_000_000);
}

#[test]
fn a_batch_is_answered_together() {
    let broker = Broker::start();
    let acks = producer(&broker).send_batch("events", [("user-1", "a"), ("user-2", "b"), ("user-1", "c")]).unwrap();
    assert_eq!(acks.iter().map(|ack| ack.offset).collect::<Vec<_>>(), [0, 1, 2].map(Some));
    let large = "x".repeat(2 << 20);
    let refused = producer(&broker).send_batch("events", ["d", &large, "e"].map(Record::from)).unwrap_err();
    assert!(matches!(&refused, Error::Refused(refused) if refused.code == "MESSAGE_TOO_LARGE"), "{refused}");
    let mut consumer = consumer(&broker).subscribe(&["events"]).unwrap();
    assert_eq!(values(&next(&mut consumer, 5)), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_pipeline_tells_in_order_what_became_of_each() {
    let broker = Broker::start();
    let mut producer = producer(&broker);
    let mut outcomes = Vec::new();
    let mut pipeline = producer.pipeline(|tag, outcome| outcomes.push((tag, outcome)));
    for tag in 0..100_000 {
        let partition = if tag % 1000 == 999 { Some(7) } else { None };
        pipeline.push("events", &Record { partition, ..Record::new(format!("message {tag}")) }, tag).unwrap();
    }
    pipeline.flush().unwrap();
    drop(pipeline);
    let mut offset = 0;
    for (at, (tag, outcome)) in outcomes.iter().enumerate() {
        assert_eq!(*tag, at as u64);
        match outcome {
            Err(refused) => assert_eq!((tag % 1000, refused.code.as_str()), (999, "UNKNOWN_TOPIC_OR_PARTITION")),
            Ok(ack) => {
                assert_eq!(ack.offset, Some(offset));
                offset += 1;
            }
        }
    }
    assert_eq!((outcomes.len(), offset), (100_000, 99_900));
}

#[test]
fn producer_and_consumer_go_on_after_the_broker_was_killed() {
    let mut broker = Broker::on_disk();
    let mut producer = producer(&broker);
    let mut consumer = consumer(&broker).subscribe(&["events"]).unwrap();
    producer.send("events", "before").unwrap();
    assert_eq!(values(&next(&mut consumer, 1)), ["before"]);
    broker.kill();
    let sending = thread::spawn(move || producer.send("events", "after"));
    broker.restart();
    assert_eq!(sending.join().unwrap().unwrap().offset, Some(1));
    let messages = next(&mut consumer, 1);
    assert_eq!((values(&messages), messages[0].offset), (vec!["after"], 1));
}

#[test]
fn a_pipeline_loses_nothing_when_the_broker_is_killed_under_it() {
    const COUNT: u64 = 200_000;
    let mut broker = Broker::on_disk();
    let mut producer = producer(&broker);
    let (half_way, reached) = mpsc::channel();
    let sending = thread::spawn(move || {
        let mut stored = 0;
        let mut pipeline = producer.pipeline(|tag, outcome| {
            outcome.unwrap();
            stored += 1;
            if tag == COUNT / 4 {
                half_way.send(()).unwrap();
            }
        });
        for tag in 0..COUNT {
            pipeline.push("events", &Record::new(tag.to_string()), tag).unwrap();
        }
        pipeline.flush().unwrap();
        drop(pipeline);
        assert_eq!(stored, COUNT);
    });
    reached.recv().unwrap();
    broker.restart();
    sending.join().unwrap();
    let mut consumer = consumer(&broker).subscribe(&["events"]).unwrap();
    let (mut seen, mut expected) = (0, 0);
    while !consumer.at_end() {
        for message in consumer.poll(LONG, usize::MAX).unwrap() {
            assert_eq!(message.offset, seen);
            seen += 1;
            // What is sent again begins at or before what comes next, and leaves nothing out.
            let value: u64 = std::str::from_utf8(message.value.as_deref().unwrap()).unwrap().parse().unwrap();
            assert!(value <= expected, "{value} follows {expected}");
            expected = value + 1;
        }
    }
    assert_eq!(expected, COUNT);
}

#[test]
fn a_broker_that_stays_away_is_an_error_in_time() {
    let mut broker = Broker::start();
    let mut producer = producer(&broker).retry_for(Duration::from_millis(100));
    let mut consumer = consumer(&broker).retry_for(Duration::from_millis(100)).subscribe(&["events"]).unwrap();
    broker.kill();
    assert!(matches!(producer.send("events", "a"), Err(Error::Connection { .. })));
    assert!(matches!(consumer.poll(LONG, 1), Err(Error::Connection { .. })));
    assert!(matches!(Producer::connect(&broker.address), Err(Error::Connection { .. })));
    broker.restart();
    assert_eq!(producer.send("events", "b").unwrap().offset, Some(0));
    assert_eq!(values(&next(&mut consumer, 1)), ["b"]);
}

#[test]
fn a_topic_that_is_not_there_is_waited_for_and_read_from_its_first_record() {
    let broker = Broker::start();
    let mut consumer = consumer(&broker).start_at(Position::Latest).subscribe(&["later"]).unwrap();
    assert_eq!(consumer.missing().collect::<Vec<_>>(), ["later"]);
    broker.expect("CREATE later partitions:2\n", &["OK topic:later"]);
    producer(&broker).send("later", Record::new("first").partition(1)).unwrap();
    let messages = next(&mut consumer, 1);
    assert_eq!((messages[0].partition, values(&messages)), (1, vec!["first"]));
    assert_eq!((consumer.missing().count(), consumer.partitions()), (0, 2));
}

#[test]
fn partitions_added_later_are_read() {
    let broker = Broker::start();
    broker.expect("CREATE events partitions:1\n", &["OK topic:events"]);
    let mut consumer = consumer(&broker).subscribe(&["events"]).unwrap();
    broker.expect("ALTER events partitions:3\n", &["OK topic:events"]);
    producer(&broker).send("events", Record::new("new").partition(2)).unwrap();
    assert_eq!(next(&mut consumer, 1)[0].partition, 2);
}

#[test]
fn reading_begins_where_the_caller_says() {
    let broker = Broker::start();
    broker.expect("CREATE events retention.ms:-1\n", &["OK topic:events"]);
    let mut producer = producer(&broker);
    for (value, timestamp) in [("a", 10), ("b", 20), ("c", 30)] {
        producer.send("events", Record::new(value).timestamp(timestamp)).unwrap();
    }
    for (position, expected) in [
        (Position::Earliest, vec!["a", "b", "c"]),
        (Position::Offset(1), vec!["b", "c"]),
        (Position::BeforeEnd(1), vec!["c"]),
        (Position::Time(15), vec!["b", "c"]),
        (Position::Latest, vec![]),
    ] {
        let mut consumer = consumer(&broker).start_at(position).subscribe(&["events"]).unwrap();
        let mut messages = Vec::new();
        while !consumer.at_end() {
            messages.extend(consumer.poll(LONG, 1).unwrap());
        }
        assert_eq!(values(&messages), expected, "{position}");
    }
}

#[test]
fn seek_goes_on_at_another_offset() {
    let broker = Broker::start();
    producer(&broker).send_batch("events", ["a", "b", "c"].map(Record::from)).unwrap();
    let mut consumer = consumer(&broker).assign("events", 0).unwrap();
    assert_eq!(values(&next(&mut consumer, 2)), ["a", "b"]);
    consumer.seek("events", 0, 0).unwrap();
    assert_eq!(values(&next(&mut consumer, 3)), ["a", "b", "c"]);
    assert!(matches!(consumer.seek("events", 1, 0), Err(Error::Invalid(_))));
}

#[test]
fn a_next_offset_that_is_gone_is_told_and_reading_goes_on_at_the_first_there_is() {
    let broker = Broker::start();
    producer(&broker).send_batch("events", ["a", "b", "c"].map(Record::from)).unwrap();
    broker.expect("TRIM events/0 2\n", &["OK first:2"]);
    let mut consumer = consumer(&broker).start_at(Position::Offset(1)).subscribe(&["events"]).unwrap();
    let skipped = consumer.poll(LONG, 1).unwrap_err();
    assert!(matches!(skipped, Error::Skipped { wanted: 1, next: 2, .. }), "{skipped}");
    assert_eq!(values(&next(&mut consumer, 1)), ["c"]);
}

#[test]
fn an_offset_that_is_yet_to_come_is_told_and_reading_goes_on_at_the_end() {
    let broker = Broker::start();
    let mut producer = producer(&broker);
    producer.send("events", "a").unwrap();
    let mut consumer = consumer(&broker).start_at(Position::Offset(9)).subscribe(&["events"]).unwrap();
    let skipped = consumer.poll(LONG, 1).unwrap_err();
    assert!(matches!(skipped, Error::Skipped { wanted: 9, next: 1, .. }), "{skipped}");
    producer.send("events", "b").unwrap();
    assert_eq!(values(&next(&mut consumer, 1)), ["b"]);
}

#[test]
fn a_log_that_began_anew_is_read_from_its_first_record() {
    let mut broker = Broker::start();
    producer(&broker).send_batch("events", ["a", "b"].map(Record::from)).unwrap();
    let mut consumer = consumer(&broker).subscribe(&["events"]).unwrap();
    assert_eq!(values(&next(&mut consumer, 2)), ["a", "b"]);
    broker.restart();
    producer(&broker).send("events", "c").unwrap();
    let news = consumer.poll(LONG, 1).unwrap_err();
    assert!(matches!(news, Error::Skipped { wanted: 2, next: 0, .. } | Error::Refused(_)), "{news}");
    assert_eq!(values(&next(&mut consumer, 1)), ["c"]);
}

#[test]
fn a_dropped_topic_is_told_and_waited_for() {
    let broker = Broker::start();
    let mut producer = producer(&broker);
    producer.send("events", "a").unwrap();
    let mut consumer = consumer(&broker).subscribe(&["events"]).unwrap();
    assert_eq!(values(&next(&mut consumer, 1)), ["a"]);
    broker.expect("DROP events\n", &["OK"]);
    let news = consumer.poll(LONG, 1).unwrap_err();
    assert!(matches!(&news, Error::Refused(refused) if refused.code == "UNKNOWN_TOPIC_OR_PARTITION"), "{news}");
    producer.send("events", "b").unwrap();
    assert_eq!(values(&next(&mut consumer, 1)), ["b"]);
}

#[test]
fn a_waiting_poll_is_woken() {
    let broker = Broker::start();
    broker.expect("CREATE events\n", &["OK topic:events"]);
    let mut consumer = consumer(&broker).subscribe(&["events"]).unwrap();
    while !consumer.at_end() {
        consumer.poll(LONG, 1).unwrap();
    }
    thread::spawn(consumer.waker());
    let begun = Instant::now();
    assert!(consumer.poll(LONG, 1).unwrap().is_empty());
    assert!(begun.elapsed() < LONG);
}

#[test]
fn what_cannot_be_asked_is_refused_before_it_is_sent() {
    let broker = Broker::start();
    assert!(matches!(producer(&broker).send("a b", "c"), Err(Error::Invalid(_))));
    assert!(matches!(consumer(&broker).subscribe(&["a/0"]), Err(Error::Invalid(_))));
    broker.expect("CREATE events partitions:2\n", &["OK topic:events"]);
    let error = consumer(&broker).assign("events", 2).unwrap_err();
    assert_eq!(error.to_string(), "there is no partition 2: events has 2, counted from 0");
}

#[test]
fn a_connection_answers_with_the_lines_that_were_counted() {
    let broker = Broker::start();
    let mut connection = Connection::open(&broker.address).unwrap();
    assert!(connection.ask("CREATE events partitions:2").unwrap().first.starts_with("OK topic:events id:"));
    let answer = connection.ask("TOPICS").unwrap();
    assert_eq!(answer.first, "TOPICS count:1");
    assert_eq!(answer.lines, ["topic:events partitions:2 records:0 bytes:0"]);
    assert_eq!(connection.ask("TOPIC events").unwrap().lines.len(), 2);
    assert!(matches!(connection.ask("DROP nothing"), Err(Error::Refused(_))));
    assert_eq!(connection.ask("PING").unwrap().first, "PONG");
}
