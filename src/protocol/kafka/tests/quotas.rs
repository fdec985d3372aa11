//! Quotas that act. What is expected was asked of Apache Kafka 4.3.1; the clock is the test's.

use super::*;
use crate::{
    broker::{Clock, Protocol},
    log::disk::MemoryDisk,
    security::{Principal, QuotaEntity},
};
use kafka_protocol::messages::{create_topics_request as create, fetch_request as fetch, produce_request as to};
use std::sync::atomic::{AtomicI64, Ordering::*};

/// A client of Kafka's protocol with these quotas for whoever has not logged in.
struct Limited {
    talk: Talk,
    now: Arc<AtomicI64>,
}

impl Limited {
    fn new(quotas: &[(&str, f64)]) -> Limited {
        let now = Arc::new(AtomicI64::new(1_700_000_000_000));
        let disk = Arc::new(MemoryDisk::default());
        let broker = Broker::open_on(disk, Config::in_memory(), Clock::Manual(now.clone())).unwrap();
        broker.create_topic("there", 2).unwrap();
        let entity = QuotaEntity::from([("user".into(), Some("ANONYMOUS".into()))]);
        let values = quotas.iter().map(|(name, value)| (name.to_string(), Some(*value))).collect();
        broker.alter_quotas(&entity, &values).unwrap();
        let client = Caller {
            principal: Principal::anonymous(),
            protocol: Protocol::Kafka,
            address: Some("127.0.0.1:1".parse().unwrap()),
            client_id: String::new(),
        };
        Limited { talk: Talk::to(broker.on_behalf_of(client)), now }
    }

    fn pass(&self, ms: i64) {
        self.now.fetch_add(ms, Release);
    }

    fn ask<A: Decodable>(&self, key: i16, version: i16, request: impl Encodable + Message) -> A {
        let (response, _) = self.talk.ask(key, version, &encoded(request, version)).unwrap();
        A::decode(&mut &response[..], version).unwrap()
    }

    /// The throttle time of a Produce of so many bytes in all.
    fn produce(&self, bytes: usize) -> i32 {
        let of = |value: &str| {
            let batch = records::batch(value, 1, 1_700_000_000_000, Codec::None);
            let partition = to::PartitionProduceData::default().with_records(Some(batch.into()));
            let topic = to::TopicProduceData::default().with_name(s("there").into());
            ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic.with_partition_data(vec![partition])])
        };
        let size = |value: &str| 4 + frame(0, 9, &encoded(of(value), 9)).len();
        let value = "x".repeat(2 * bytes - size(&"x".repeat(bytes)));
        assert_eq!(size(&value), bytes);
        let response: ProduceResponse = self.ask(0, 9, of(&value));
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        response.throttle_time_ms
    }

    /// How many bytes of records a Fetch gets, and its throttle time.
    fn fetch(&self, offset: i64) -> (usize, i32) {
        let partition = fetch::FetchPartition::default().with_partition_max_bytes(i32::MAX).with_fetch_offset(offset);
        let topic = fetch::FetchTopic::default().with_topic(s("there").into()).with_partitions(vec![partition]);
        let response: FetchResponse =
            self.ask(1, 12, FetchRequest::default().with_max_bytes(i32::MAX).with_topics(vec![topic]));
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        (partition.records.as_ref().map_or(0, |records| records.len()), response.throttle_time_ms)
    }

    /// The code of making a topic of so many partitions, and the throttle time.
    fn create(&self, version: i16, name: &str, partitions: i32) -> (i16, i32) {
        let topic = create::CreatableTopic::default().with_name(s(name).into()).with_num_partitions(partitions);
        let response: CreateTopicsResponse =
            self.ask(19, version, CreateTopicsRequest::default().with_topics(vec![topic.with_replication_factor(1)]));
        (response.topics[0].error_code, response.throttle_time_ms)
    }
}

#[test]
fn who_produces_too_fast_is_answered_at_once_and_told_to_wait() {
    let limited = Limited::new(&[("producer_byte_rate", 10_000.0)]);
    assert_eq!(limited.produce(100_110), 11);
    limited.pass(21);
    assert_eq!(limited.produce(100_110), 10_001);
    limited.pass(10_011);
    assert_eq!(limited.produce(100_110), 20_001);
    limited.pass(20_011);
    assert_eq!(limited.produce(1000), 0);
    assert_eq!(limited.fetch(2).1, 0, "of that there is no quota");
}

#[test]
fn who_fetches_too_fast_gets_its_records_once_it_has_waited() {
    let limited = Limited::new(&[("consumer_byte_rate", 10_000.0)]);
    assert_eq!([limited.produce(100_110), limited.produce(100_110)], [0, 0]);
    let (none, wait) = limited.fetch(0);
    assert!(none == 0 && (1..100).contains(&wait), "{none}, {wait}");
    limited.pass(wait.into());
    let (some, none) = limited.fetch(0);
    assert!(some > 100_000 && none == 0, "{some}, {none}");
    let (none, wait) = limited.fetch(1);
    assert!(none == 0 && (9000..10_100).contains(&wait), "{none}, {wait}");
    // Its first records count until eleven seconds are over.
    limited.pass(11_000);
    let (_, wait) = limited.fetch(1);
    limited.pass(wait.into());
    assert!(limited.fetch(1).0 > 100_000);
}

#[test]
fn a_batch_that_would_never_be_free_at_once_is_sent_and_waited_for() {
    let limited = Limited::new(&[("consumer_byte_rate", 1000.0)]);
    limited.produce(100_110);
    let (some, wait) = limited.fetch(0);
    assert!(some > 100_000 && (90_000..91_000).contains(&wait), "{some}, {wait}");
}

/// Old clients do not know that they can be refused: what they ask is done, and they wait.
#[test]
fn who_changes_topics_too_fast_is_refused_or_waits() {
    let limited = Limited::new(&[("controller_mutation_rate", 1.0)]);
    let old = |name| limited.create(5, name, 5);
    assert_eq!([old("a"), old("b"), old("c")], [(0, 0), (0, 0), (0, 4000)]);
    limited.pass(100);
    assert_eq!(old("d"), (0, 8900));
    assert_eq!(limited.create(6, "e", 1), (89, 8900));
    limited.pass(8900);
    assert_eq!(limited.create(6, "e", 30), (0, 0));
    assert_eq!(limited.create(7, "f", 1), (89, 30_000));
    let deleted: DeleteTopicsResponse =
        limited.ask(20, 5, DeleteTopicsRequest::default().with_topic_names(vec![s("a").into()]));
    assert_eq!((deleted.responses[0].error_code, deleted.throttle_time_ms), (89, 30_000));
    assert!(limited.talk.broker.topic("a").is_ok());
    let refused =
        limited.talk.broker.on_behalf_of(Caller { protocol: Protocol::Text, ..limited.talk.broker.caller().clone() });
    assert_eq!(refused.create_topic("g", 1).unwrap_err().code(), Code::ThrottlingQuotaExceeded);
    assert_eq!(refused.drop_topic("a").unwrap_err().code(), Code::ThrottlingQuotaExceeded);
}

#[test]
fn the_time_of_requests_is_that_of_a_processor() {
    let limited = Limited::new(&[("request_percentage", 1e-6)]);
    let waits = [0; 2].map(|_| limited.ask::<MetadataResponse>(3, 9, MetadataRequest::default()).throttle_time_ms);
    assert_eq!(waits, [1000, 1000]);
    let free = Limited::new(&[("request_percentage", 1e6)]);
    assert_eq!(free.ask::<MetadataResponse>(3, 9, MetadataRequest::default()).throttle_time_ms, 0);
}

#[test]
fn the_program_that_the_broker_runs_in_has_no_quotas() {
    let limited = Limited::new(&[("producer_byte_rate", 1.0), ("controller_mutation_rate", 0.1)]);
    let own = limited.talk.broker.on_behalf_of(Caller::embedded());
    for name in ["a", "b", "c"] {
        own.create_topic(name, 100).unwrap();
    }
    assert!(own.charge(Quota::ProducedBytes, 1e9).is_zero());
    assert!(!limited.talk.broker.charge(Quota::ProducedBytes, 1e9).is_zero());
}
