//! The library: a broker in this process and over the network, alone and in groups.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{LONG, until};
use plainlog::{
    Broker, Config, Consumer, Message, Producer, Record, Server,
    client::{Error, Position},
};
use std::{
    thread,
    time::{Duration, Instant},
};

fn next(consumer: &mut Consumer, count: usize) -> Vec<Message> {
    let (mut messages, deadline) = (Vec::new(), Instant::now() + LONG);
    while messages.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} messages came", messages.len());
        messages.extend(consumer.poll(Duration::from_millis(100), count - messages.len()).unwrap());
    }
    messages
}

fn values(messages: &[Message]) -> Vec<String> {
    let text = |message: &Message| String::from_utf8(message.value.clone().unwrap()).unwrap();
    messages.iter().map(text).collect()
}

/// A broker with a topic `t` of these values, served.
fn served(partitions: u32, values: &[&str]) -> (Broker, Server, String) {
    let broker = Broker::in_memory();
    broker.create_topic("t", partitions).unwrap();
    Producer::embedded(&broker).send_batch("t", values.iter().copied()).unwrap();
    let server = Server::start(broker.clone(), "127.0.0.1:0").unwrap();
    let address = format!("127.0.0.1:{}", server.port());
    (broker, server, address)
}

/// The same consumer both ways.
fn both(broker: &Broker, address: &str) -> [Consumer; 2] {
    [Consumer::embedded(broker), Consumer::connect(address).unwrap()]
}

#[test]
fn what_was_sent_in_this_process_is_read_as_it_was_everywhere() {
    let (broker, _server, address) = served(1, &[]);
    let record = Record::new([0, 255, 10]).key("k 1").header("a", "1").header("a", "2").timestamp(7);
    let mut producer = Producer::embedded(&broker);
    let ack = producer.send("t", record.clone()).unwrap();
    producer.send("t", Record::tombstone("k")).unwrap();
    for mut consumer in both(&broker, &address) {
        let read = next(&mut consumer.group("g").auto_commit(false).subscribe(&["t"]).unwrap(), 2);
        assert_eq!((read[0].partition, Some(read[0].offset)), (ack.partition, ack.offset));
        assert_eq!((&read[0].key, &read[0].value, read[0].timestamp), (&record.key, &record.value, 7));
        assert_eq!(read[0].headers, record.headers);
        assert_eq!((&read[1].key, &read[1].value), (&Some(b"k".to_vec()), &None));
        consumer = Consumer::embedded(&broker);
        assert_eq!(next(&mut consumer.subscribe(&["t"]).unwrap(), 2), read);
    }
}

#[test]
fn a_refusal_has_the_same_words_in_this_process_and_over_the_network() {
    let (broker, _server, address) = served(1, &[]);
    for record in [Record::new("x").partition(9), Record::new(vec![b'x'; 2 << 20])] {
        let of = |mut producer: Producer| producer.send("t", record.clone()).unwrap_err().to_string();
        assert_eq!(of(Producer::embedded(&broker)), of(Producer::connect(&address).unwrap()));
    }
    let Err(Error::Refused(refused)) = Producer::embedded(&broker).send("__consumer_offsets", "x") else {
        panic!("the broker's own topic")
    };
    assert_eq!(refused.code, "INVALID_TOPIC_EXCEPTION");
}

/// `timestamp(-5)` was stored by an embedded producer, in a line that no reader could read; `partition(5)` made a topic where
/// the network refuses; and a record that was refused had made its topic.
#[test]
fn what_is_refused_leaves_nothing_behind_whichever_way_it_came() {
    let (broker, _server, address) = served(1, &[]);
    broker.drop_topic("t").unwrap();
    broker.create_topic_with("t", Some(1), [("cleanup.policy".into(), "compact".into())].into()).unwrap();
    let refused = |topic: &str, record: Record, code: &str| {
        let of = |mut producer: Producer| match producer.send(topic, record.clone()) {
            Err(Error::Refused(refused)) => refused,
            sent => panic!("{record:?} is sent: {sent:?}"),
        };
        let (embedded, network) = (of(Producer::embedded(&broker)), of(Producer::connect(&address).unwrap()));
        assert_eq!((embedded.code.as_str(), network.code.as_str()), (code, code), "{record:?}");
        if code != "INVALID_TIMESTAMP" {
            assert_eq!(embedded, network);
        }
    };
    for topic in ["t", "missing"] {
        let keyed = |value: &str| Record::new(value).key("k");
        refused(topic, keyed("x").timestamp(-5), "INVALID_REQUEST");
        refused(topic, keyed("x").timestamp(-1), "INVALID_REQUEST");
        refused(topic, keyed("x").timestamp(broker.now_ms() + 2 * 3_600_000), "INVALID_TIMESTAMP");
        refused(topic, keyed("x").partition(5), "UNKNOWN_TOPIC_OR_PARTITION");
        refused(topic, keyed(&"x".repeat(2 << 20)), "MESSAGE_TOO_LARGE");
    }
    refused("t", Record::new("x"), "INVALID_RECORD");
    let topics: Vec<_> = broker.describe_topics().into_keys().collect();
    assert_eq!(topics, ["t"]);
    assert_eq!(broker.describe_partition("t", 0).unwrap().high_watermark, 0);
    let ack = Producer::embedded(&broker).send("t", Record::new("kept").key("k").timestamp(broker.now_ms())).unwrap();
    assert_eq!(ack.offset, Some(0));
}

/// A record dated in the far future blocks time retention of its partition. Whoever writes hears which bound it is.
#[test]
fn a_time_beyond_a_bound_of_the_topic_is_refused_by_the_bounds_name() {
    let (broker, _server, address) = served(1, &[]);
    let of = |settings: &[(&str, &str)]| settings.iter().map(|&(name, value)| (name.into(), value.into())).collect();
    let bounds = [("message.timestamp.before.max.ms", "3600000"), ("message.timestamp.after.max.ms", "7200000")];
    broker.create_topic_with("bounded", Some(1), of(&bounds)).unwrap();
    broker.create_topic_with("stamped", Some(1), of(&[("message.timestamp.type", "LogAppendTime")])).unwrap();
    let minutes = |minutes: i64| Record::new("x").timestamp(broker.now_ms() + minutes * 60_000);
    for mut producer in [Producer::embedded(&broker), Producer::connect(&address).unwrap()] {
        for (after, bound) in [(-61, bounds[0].0), (121, bounds[1].0)] {
            match producer.send("bounded", minutes(after)) {
                Err(Error::Refused(refused)) => assert!(refused.sentence.contains(bound), "{refused:?}"),
                sent => panic!("{after} minutes: {sent:?}"),
            }
        }
        for after in [-59, 119] {
            producer.send("bounded", minutes(after)).unwrap();
        }
        // The broker's clock stamps these.
        producer.send("stamped", minutes(1_000_000)).unwrap();
    }
}

#[test]
fn acks_of_a_batch_come_in_its_order_over_several_partitions() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 2).unwrap();
    let records = [1, 0, 1, 1].map(|partition| Record::new("v").partition(partition));
    let acks = Producer::embedded(&broker).send_batch("t", records).unwrap();
    let places: Vec<_> = acks.iter().map(|ack| (ack.partition, ack.offset)).collect();
    assert_eq!(places, [(1, 0), (0, 0), (1, 1), (1, 2)].map(|(partition, offset)| (partition, Some(offset))));
}

#[test]
fn an_embedded_consumer_waits_for_a_topic_and_for_records_and_can_seek() {
    let broker = Broker::in_memory();
    let mut consumer = Consumer::embedded(&broker).start_at(Position::Latest).subscribe(&["later"]).unwrap();
    assert_eq!(consumer.missing().collect::<Vec<_>>(), ["later"]);
    let sender = thread::spawn({
        let broker = broker.clone();
        move || {
            thread::sleep(Duration::from_millis(20));
            Producer::embedded(&broker).send_batch("later", ["a", "b", "c"]).unwrap();
        }
    });
    assert_eq!(values(&next(&mut consumer, 3)), ["a", "b", "c"]);
    sender.join().unwrap();
    assert!(consumer.at_end());
    consumer.seek("later", 0, 1).unwrap();
    assert_eq!(values(&next(&mut consumer, 2)), ["b", "c"]);
    broker.alter_topic("later", Some(2), &Default::default()).unwrap();
    Producer::embedded(&broker).send("later", Record::new("d").partition(1)).unwrap();
    assert_eq!(values(&next(&mut consumer, 1)), ["d"]);
    broker.trim("later", 0, 3).unwrap();
    consumer.seek("later", 0, 0).unwrap();
    assert!(matches!(consumer.poll(LONG, 1), Err(Error::Skipped { wanted: 0, next: 3, .. })));
    assert!(consumer.commit().is_err());
}

#[test]
fn a_seek_beyond_the_end_goes_to_the_end() {
    let (broker, _server, address) = served(1, &["a", "b", "c"]);
    for consumer in both(&broker, &address) {
        let mut consumer = consumer.start_at(Position::Earliest).subscribe(&["t"]).unwrap();
        next(&mut consumer, 3);
        consumer.seek("t", 0, 100).unwrap();
        let skipped = consumer.poll(LONG, 1);
        assert!(matches!(skipped, Err(Error::Skipped { wanted: 100, next: 3, .. })), "{skipped:?}");
    }
}

#[test]
fn a_waker_ends_a_wait() {
    let (broker, _server, address) = served(1, &[]);
    for consumer in both(&broker, &address) {
        for mut consumer in [consumer.group("g").subscribe(&["t"]).unwrap(), Consumer::embedded(&broker)] {
            consumer.waker()();
            assert_eq!(consumer.poll(Duration::MAX, 1).unwrap(), []);
        }
    }
}

#[test]
fn members_in_this_process_and_over_the_network_share_the_partitions() {
    let (broker, _server, address) = served(4, &[]);
    let [mut embedded, mut network] =
        both(&broker, &address).map(|consumer| consumer.group("g").auto_commit(false).subscribe(&["t"]).unwrap());
    until("each has two", || {
        assert!(embedded.poll(Duration::ZERO, 1).unwrap().is_empty());
        assert!(network.poll(Duration::ZERO, 1).unwrap().is_empty());
        (embedded.partitions(), network.partitions()) == (2, 2)
    });
    let records = (0..4).map(|partition| Record::new(format!("{partition}")).partition(partition));
    Producer::embedded(&broker).send_batch("t", records).unwrap();
    let mut all = values(&next(&mut embedded, 2));
    all.extend(values(&next(&mut network, 2)));
    all.sort();
    assert_eq!(all, ["0", "1", "2", "3"]);
    network.commit().unwrap();
    drop(network);
    Producer::embedded(&broker).send_batch("t", (0..4).map(|p| Record::new("more").partition(p))).unwrap();
    assert_eq!(values(&next(&mut embedded, 4)), ["more"; 4]);
}

#[test]
fn a_group_goes_on_where_it_committed_and_repeats_what_it_did_not() {
    let (broker, _server, address) = served(1, &["a", "b", "c", "d"]);
    for nth in 0..2 {
        let group = format!("group {nth}");
        let member = |auto| {
            let consumer = both(&broker, &address).into_iter().nth(nth).unwrap();
            consumer.group(&group).auto_commit(auto).subscribe(&["t"]).unwrap()
        };
        let mut first = member(false);
        assert_eq!(values(&next(&mut first, 1)), ["a"]);
        first.commit().unwrap();
        assert_eq!(values(&next(&mut first, 2)), ["b", "c"]);
        first.close().unwrap();
        // Automatic: a poll commits the one before, and closing the rest.
        let mut second = member(true);
        assert_eq!(values(&next(&mut second, 1)), ["b"]);
        assert_eq!(values(&next(&mut second, 1)), ["c"]);
        drop(second);
        let mut third = member(true);
        assert_eq!(values(&next(&mut third, 1)), ["c"]);
        third.close().unwrap();
        let mut fourth = member(false);
        assert_eq!(values(&next(&mut fourth, 1)), ["d"]);
        fourth.seek("t", 0, 1).unwrap();
        assert_eq!(values(&next(&mut fourth, 1)), ["b"]);
    }
}

#[test]
fn a_member_joins_again_after_a_restart_of_the_broker() {
    let mut broker = common::Broker::on_disk();
    broker.expect("SEND t message:a\nSEND t message:b\n", &["ACK", "ACK"]);
    let mut consumer =
        Consumer::connect(&broker.address).unwrap().group("g").auto_commit(false).subscribe(&["t"]).unwrap();
    assert_eq!(values(&next(&mut consumer, 1)), ["a"]);
    consumer.commit().unwrap();
    assert_eq!(values(&next(&mut consumer, 1)), ["b"]);
    broker.restart();
    assert!(consumer.commit().is_err(), "the place is gone");
    assert_eq!(values(&next(&mut consumer, 1)), ["b"]);
    consumer.commit().unwrap();
}

#[test]
fn a_group_waits_for_its_topic() {
    let (broker, _server, address) = served(1, &[]);
    for (consumer, topic) in both(&broker, &address).into_iter().zip(["one", "two"]) {
        let mut consumer = consumer.group("g").start_at(Position::Latest).subscribe(&[topic]).unwrap();
        assert_eq!((consumer.missing().collect::<Vec<_>>(), consumer.at_end()), (vec![topic], false));
        Producer::embedded(&broker).send(topic, "first").unwrap();
        assert_eq!(values(&next(&mut consumer, 1)), ["first"]);
        assert_eq!(consumer.missing().count(), 0);
    }
}

#[test]
fn what_a_closed_broker_stored_is_there_when_it_is_opened_again() {
    let folder = std::env::temp_dir().join(format!("plainlog-library-{}", std::process::id()));
    let broker = Broker::open(Config::new(&folder)).unwrap();
    Producer::embedded(&broker).send_batch("t", [("k", "a"), ("k", "b")]).unwrap();
    let mut consumer = Consumer::embedded(&broker).group("g").auto_commit(false).subscribe(&["t"]).unwrap();
    next(&mut consumer, 1);
    consumer.commit().unwrap();
    drop((consumer, broker));
    let broker = Broker::open(Config::new(&folder)).unwrap();
    let mut consumer = Consumer::embedded(&broker).group("g").subscribe(&["t"]).unwrap();
    assert_eq!(values(&next(&mut consumer, 1)), ["b"]);
    drop((consumer, broker));
    std::fs::remove_dir_all(folder).unwrap();
}

/// A client set `max.message.bytes` to two gigabytes and sent a line without an end.
#[test]
fn no_setting_lets_a_line_be_longer_than_a_log_could_take() {
    let broker = Broker::in_memory();
    let settings = [("max.message.bytes".to_string(), "2147483647".to_string())].into();
    broker.create_topic_with("t", Some(1), settings).unwrap();
    assert_eq!(broker.message_bytes_max(), 64 << 20);
}
