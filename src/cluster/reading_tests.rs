//! Reading from a cluster that is a broker of this program's own, by its Kafka protocol.

use super::{
    Gathered, PartitionHandle,
    testing::{Fixture, open_within},
};
use crate::{
    broker::{self, Isolation, Permit, Position, View, Waiter},
    config::Changes,
    log::record::Records,
};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use std::time::{Duration, Instant};

const COMMITTED: View = View::records(Isolation::ReadCommitted);

/// What a test compares of a line: offset, time, and the rest.
type Told = (u64, i64, String);

fn told(batches: broker::Batches<'_>) -> Vec<Told> {
    let lines = batches.records_from(0).map(Result::unwrap);
    lines.map(|line| (line.offset, line.timestamp, String::from_utf8_lossy(line.fields).into_owned())).collect()
}

/// All that the cluster hands out of a partition, by reads of so many bytes.
fn read_all(fixture: &Fixture, topic: &str, view: View, bytes: usize) -> Vec<Told> {
    let (mut session, of) = (fixture.cluster.read_session(), fixture.cluster.find_partition(topic, 0).unwrap());
    let (mut all, mut at) = (vec![], of.start().unwrap());
    loop {
        let read = session.read(view, &of, at, bytes).unwrap();
        all.extend(told(read));
        match read.next_offset() {
            Some(next) => at = next,
            None => return all,
        }
    }
}

fn read_here(fixture: &Fixture, topic: &str, view: View) -> Vec<Told> {
    let (mut session, of) = (fixture.broker.read_session(), fixture.broker.find_partition(topic, 0).unwrap());
    let (mut all, mut at) = (vec![], of.start().unwrap());
    loop {
        let read = session.read(view, &of, at, 1 << 20).unwrap();
        all.extend(told(read));
        match read.next_offset() {
            Some(next) => at = next,
            None => return all,
        }
    }
}

#[test]
fn the_lines_are_those_of_the_log_whatever_bytes_a_record_has() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    let mut records = Records::default();
    records.push(Some(1), Some(b"\x00\xff k"[..].into()), Some(b"\xfe\x00"[..].into()));
    for (name, value) in [
        (&b"plain"[..], Some(&b"v"[..])),
        (b"a\0b", Some(b"")),
        (b"\xff\xfe:", None),
        (b"nul\0", None),
        (b"", Some(b"\0")),
    ] {
        records.header(name.into(), value.map(Into::into));
    }
    records.push(Some(2), None, None);
    records.push(Some(2), Some(b""[..].into()), Some(b"a line\nand another"[..].into()));
    records.push(None, None, Some("Käse".as_bytes().into()));
    fixture.write("t", 0, &records);
    fixture.produce("t", 0, &["x"; 100]);
    let here = read_here(&fixture, "t", COMMITTED);
    assert_eq!(here.len(), 104);
    assert!(here[0].2.contains(r"header.a\x00b: ") && here[0].2.contains(r"header.nul\x00 "), "{}", here[0].2);
    for bytes in [1, 100, 1 << 20] {
        assert_eq!(read_all(&fixture, "t", COMMITTED, bytes), here, "{bytes} bytes at a time");
    }
}

#[test]
fn offsets_and_holes_are_the_clusters_and_who_reads_committed_records_ends_before_an_open_transaction() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    fixture
        .say("BEGIN a\nSEND t message:1\nSEND t message:2\nEND\nBEGIN a\nSEND t message:3\nABORT\nSEND t message:4\n");
    let here = read_here(&fixture, "t", COMMITTED);
    assert_eq!(here.iter().map(|line| line.0).collect::<Vec<_>>(), [0, 1, 5]);
    assert_eq!(read_all(&fixture, "t", COMMITTED, 1 << 20), here);
    let uncommitted = View::records(Isolation::ReadUncommitted);
    assert_eq!(read_all(&fixture, "t", uncommitted, 1 << 20), read_here(&fixture, "t", uncommitted));
    // One batch for each gapless run.
    let (mut session, of) = (fixture.cluster.read_session(), fixture.cluster.find_partition("t", 0).unwrap());
    let firsts: Vec<_> = session.read(COMMITTED, &of, 0, 1 << 20).unwrap().iter().map(|batch| batch.first()).collect();
    assert!(firsts.contains(&5) && firsts.contains(&0), "{firsts:?}");

    let open = fixture.connect();
    fixture.ask(&open, "BEGIN b\n", 1);
    fixture.ask(&open, "SEND t message:5\n", 1);
    assert_eq!((of.end(Isolation::ReadCommitted), of.end(Isolation::ReadUncommitted)), (Ok(6), Ok(7)));
    assert_eq!(session.read(COMMITTED, &of, 6, 1 << 20).unwrap().next_offset(), None);
    let seen = session.read(uncommitted, &of, 6, 1 << 20).unwrap();
    assert_eq!(seen.next_offset(), Some(7));
    // Behind what it sees and not out of range.
    assert_eq!(session.read(COMMITTED, &of, 7, 1 << 20).unwrap().next_offset(), None);
    let beyond = session.read(COMMITTED, &of, 8, 1 << 20).map(|_| ());
    assert_eq!(beyond, Err(broker::Error::OffsetOutOfRange { first: 0, end: 7 }));
}

#[test]
fn what_is_acknowledged_is_read_at_once_and_a_record_that_comes_wakes_who_waits() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    let (mut session, of) = (fixture.cluster.read_session(), fixture.cluster.find_partition("t", 0).unwrap());
    for offset in 0..5 {
        assert_eq!(session.record_at(Isolation::ReadCommitted, &of, offset), Ok(None));
        fixture.produce("t", 0, &["x"]);
        let found = session.record_at(Isolation::ReadCommitted, &of, offset).unwrap().unwrap();
        assert_eq!((found.offset, found.text.ends_with(b"message:x")), (offset, true));
    }
    // Whoever finds the partition anew is woken, too, by the client that fetches it already.
    let again = fixture.cluster.find_partition("t", 0).unwrap();
    for (of, offset) in [(of, 5), (again, 6)] {
        let waiter = Waiter::new();
        let _registered = of.register(&waiter);
        assert_eq!(session.record_at(Isolation::ReadCommitted, &of, offset), Ok(None));
        session.free();
        let deadline = Instant::now() + Duration::from_secs(20);
        let broker = fixture.broker.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                broker_write(&broker);
            });
            loop {
                assert!(waiter.wait(Some(deadline)), "nobody woke it");
                if session.record_at(Isolation::ReadCommitted, &of, offset).unwrap().is_some() {
                    break;
                }
            }
        });
    }
}

#[test]
fn who_goes_on_further_ahead_is_handed_nothing_before_and_does_not_wait_for_what_is_for_nobody() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    fixture.produce("t", 0, &["a", "b", "c", "d"]);
    let (mut session, of) = (fixture.cluster.read_session(), fixture.cluster.find_partition("t", 0).unwrap());
    assert_eq!(told(session.read(COMMITTED, &of, 0, 1).unwrap()).len(), 1);
    assert_eq!(told(session.read(COMMITTED, &of, 2, 1 << 20).unwrap())[0].0, 2);
    fixture.say("BEGIN a\nSEND t message:e\nABORT\n");
    assert_eq!(session.read(COMMITTED, &of, 4, 1 << 20).unwrap().next_offset(), Some(6));
}

fn broker_write(broker: &crate::Broker) {
    super::testing::produce(broker, "t", 0, &["late"]);
}

#[test]
fn positions_mean_what_they_mean_alone() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 2).unwrap();
    let mut records = Records::default();
    [100, 200, 300, 400].iter().for_each(|time| records.push(Some(*time), None, Some(b"x"[..].into())));
    fixture.write("t", 1, &records);
    fixture.broker.trim("t", 1, 1).unwrap();
    let mut here = fixture.broker.read_session();
    let mut there = fixture.cluster.read_session();
    let (known, of) = (fixture.broker.find_partition("t", 1).unwrap(), fixture.cluster.find_partition("t", 1).unwrap());
    let positions = [0, 1, 3, 4, 5].map(Position::At).into_iter().chain([0, 2, 99].map(Position::BeforeEnd));
    let positions = positions.chain([-5, 0, 250, 300, 401].map(Position::Time));
    for position in positions.chain([Position::Earliest, Position::Latest]) {
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            let wanted = here.resolve(isolation, position, &known);
            assert_eq!(there.resolve(isolation, position, &of), wanted, "{position:?}");
        }
    }
    let trimmed = there.read(COMMITTED, &of, 0, 1).map(|_| ());
    assert_eq!(trimmed, Err(broker::Error::OffsetOutOfRange { first: 1, end: 4 }));
    // Where a reader stands is trimmed away.
    assert_eq!(there.read(COMMITTED, &of, 1, 1).unwrap().next_offset(), Some(2));
    fixture.broker.trim("t", 1, 4).unwrap();
    let mut at = 2;
    let gone = loop {
        match there.read(COMMITTED, &of, at, 1).map(|read| read.next_offset()) {
            Ok(next) => at = next.unwrap(),
            Err(error) => break error,
        }
        // What was fetched ahead may still be read.
        if at == 4 {
            break there.read(COMMITTED, &of, 2, 1).map(|_| ()).unwrap_err();
        }
    };
    assert_eq!(gone, broker::Error::OffsetOutOfRange { first: 4, end: 4 });
}

#[test]
fn what_is_not_there_is_told_as_alone() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    let error = fixture.cluster.find_topic("nope").unwrap_err();
    assert_eq!(error, broker::Error::UnknownTopic("nope".into()));
    let error = fixture.cluster.find_partition("t", 7).unwrap_err();
    assert_eq!(error, broker::Error::UnknownPartition { topic: "t".into(), partition: 7, partitions: 1 });
    let (mut session, of) = (fixture.cluster.read_session(), fixture.cluster.find_partition("t", 0).unwrap());
    fixture.broker.drop_topic("t").unwrap();
    let error = session.read(COMMITTED, &of, 0, 1).map(|_| ()).unwrap_err();
    assert_eq!(error, broker::Error::UnknownTopic("t".into()));
}

#[test]
fn a_partition_that_somebody_else_adds_is_found_though_the_topic_was_heard_of_just_before() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    let topic = fixture.cluster.find_topic("t").unwrap();
    fixture.broker.alter_topic("t", Some(3), &Changes::default()).unwrap();
    assert_eq!(topic.partition(1).map(|of| of.index()), Ok(1));
    fixture.broker.alter_topic("t", Some(4), &Changes::default()).unwrap();
    assert_eq!(fixture.cluster.trim("t", 3, 0), Ok(0));
    let error = topic.partition(4).unwrap_err();
    assert_eq!(error, broker::Error::UnknownPartition { topic: "t".into(), partition: 4, partitions: 4 });
}

/// A reader's client asked only once in five minutes which partitions there are.
#[test]
fn a_partition_that_is_made_later_is_read_by_who_reads_already() {
    let fixture = Fixture::new();
    fixture.cluster.create_topic("t", 1).unwrap();
    fixture.produce("t", 0, &["a"]);
    let mut session = fixture.cluster.read_session();
    let mut read = |partition| {
        let of = fixture.cluster.find_partition("t", partition).unwrap();
        told(session.read(COMMITTED, &of, 0, 1 << 20).unwrap()).pop().unwrap().2
    };
    assert_eq!(read(0), "message:a");
    fixture.cluster.alter_topic("t", Some(2), &Changes::default()).unwrap();
    fixture.produce("t", 1, &["b"]);
    assert_eq!(read(1), "message:b");
    fixture.cluster.drop_topic("t").unwrap();
    fixture.cluster.create_topic("t", 3).unwrap();
    fixture.produce("t", 2, &["c"]);
    assert_eq!(read(2), "message:c");
}

#[test]
fn a_topic_that_has_the_name_of_one_that_was_dropped_is_another() {
    let fixture = Fixture::new();
    fixture.broker.create_topic("t", 1).unwrap();
    let find = || fixture.cluster.find_topic("t").unwrap();
    let (topic, of) = (find(), find().partition(0).unwrap());
    assert_eq!(of.still_there(), Ok(()));
    fixture.broker.drop_topic("t").unwrap();
    fixture.broker.create_topic("t", 1).unwrap();
    // What was heard is believed for a second.
    let until = Instant::now() + Duration::from_secs(60);
    while of.still_there().is_ok() {
        assert!(Instant::now() < until, "it goes on in the other");
        std::thread::sleep(Duration::from_millis(20));
    }
    let unknown = Err(broker::Error::UnknownTopic("t".into()));
    assert_eq!((of.still_there(), topic.partition(0).unwrap().still_there()), (unknown.clone(), unknown));
    assert_eq!(find().partition(0).unwrap().still_there(), Ok(()));
}

#[test]
fn a_reader_goes_to_the_next_session_and_there_are_no_more_than_the_limit() {
    let mut fixture = Fixture::new();
    fixture.limit(2);
    fixture.broker.create_topic("t", 1).unwrap();
    fixture.produce("t", 0, &["x"]);
    let of = fixture.cluster.find_partition("t", 0).unwrap();
    let mut sessions = [0; 3].map(|_| fixture.cluster.read_session());
    let [first, second, third] = &mut sessions;
    for session in [&mut *first, second] {
        assert_eq!(session.read(COMMITTED, &of, 0, 1).unwrap().next_offset(), Some(1));
    }
    let refused = third.read(COMMITTED, &of, 0, 1).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("--cluster-clients"), "{refused}");
    *first = fixture.cluster.read_session();
    assert_eq!(third.read(COMMITTED, &of, 0, 1).unwrap().next_offset(), Some(1));
    // Another isolation takes another client: one that nobody has makes room.
    *second = fixture.cluster.read_session();
    let uncommitted = View::records(Isolation::ReadUncommitted);
    assert_eq!(first.read(uncommitted, &of, 0, 1).unwrap().next_offset(), Some(1));
}

#[test]
fn a_session_that_reads_otherwise_needs_no_second_reader() {
    let mut fixture = Fixture::new();
    fixture.limit(1);
    fixture.broker.create_topic("t", 1).unwrap();
    fixture.produce("t", 0, &["x"]);
    let (mut session, of) = (fixture.cluster.read_session(), fixture.cluster.find_partition("t", 0).unwrap());
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted, Isolation::ReadCommitted] {
        assert_eq!(session.read(View::records(isolation), &of, 0, 1).unwrap().next_offset(), Some(1));
    }
}

#[test]
fn what_a_node_refuses_to_read_is_told_by_its_name_and_read_when_it_does_not() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(20));
    let (mut writes, mut gathered) = (cluster.write_session(), Gathered::default());
    for value in [b"a", b"b"] {
        writes.add_value(&mut gathered, "t", 0, value).unwrap();
    }
    writes.write(&mut gathered);
    writes.make_durable();
    let forbidden = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    mock.request_errors(RDKafkaApiKey::Fetch, &[forbidden]);
    let mut session = cluster.read_session();
    let of = PartitionHandle::new(&cluster.shared, Permit::for_everybody(), "t".into(), 0);
    let refused = session.read(COMMITTED, &of, 0, 1 << 20).map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), broker::Code::TopicAuthorizationFailed, "{refused}");
    let mut all = told(session.read(COMMITTED, &of, 0, 1 << 20).unwrap());
    while all.len() < 2 {
        all.extend(told(session.read(COMMITTED, &of, all.len() as u64, 1 << 20).unwrap()));
    }
    assert_eq!(all.iter().map(|line| line.0).collect::<Vec<_>>(), [0, 1]);
}

/// A partition of two nodes, of which the first leads it, with a record; and the second of them if the first is gone.
fn led_by_two() -> (MockCluster<'static, rdkafka::producer::DefaultProducerContext>, super::Cluster, PartitionHandle) {
    let mock = MockCluster::new(2).unwrap();
    mock.create_topic("t", 1, 2).unwrap();
    mock.partition_leader("t", 0, Some(1)).unwrap();
    let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(20));
    write_one(&cluster, b"a");
    let of = PartitionHandle::new(&cluster.shared, Permit::for_everybody(), "t".into(), 0);
    (mock, cluster, of)
}

fn write_one(cluster: &super::Cluster, value: &'static [u8]) {
    let (mut writes, mut gathered) = (cluster.write_session(), Gathered::default());
    writes.add_value(&mut gathered, "t", 0, value).unwrap();
    writes.write(&mut gathered);
    writes.make_durable();
}

#[test]
fn a_reader_at_its_end_goes_on_when_another_node_leads() {
    let (mock, cluster, of) = led_by_two();
    let mut session = cluster.read_session();
    assert!(session.record_at(Isolation::ReadCommitted, &of, 0).unwrap().is_some());
    assert_eq!(session.record_at(Isolation::ReadCommitted, &of, 1), Ok(None));
    use RDKafkaRespErr::*;
    for passing in [
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        RD_KAFKA_RESP_ERR__TRANSPORT,
    ] {
        mock.request_errors(RDKafkaApiKey::ListOffsets, &[passing; 2]);
        assert_eq!(session.record_at(Isolation::ReadCommitted, &of, 1), Ok(None), "{passing:?}");
    }
    mock.partition_leader("t", 0, Some(2)).unwrap();
    assert_eq!(session.record_at(Isolation::ReadCommitted, &of, 1), Ok(None));
    mock.broker_down(1).unwrap();
    assert_eq!(session.record_at(Isolation::ReadCommitted, &of, 1), Ok(None));
    write_one(&cluster, b"b");
    let found = session.record_at(Isolation::ReadCommitted, &of, 1).unwrap();
    assert!(found.is_some_and(|found| found.text.ends_with(b"message:b")));
}

#[test]
fn a_partition_that_no_node_tells_of_is_not_an_empty_one() {
    let (mock, cluster, of) = led_by_two();
    assert_eq!((of.start(), of.high_watermark()), (Ok(0), Ok(1)));
    mock.request_errors(RDKafkaApiKey::ListOffsets, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT]);
    assert_eq!(of.high_watermark(), Ok(1));
    // Who only looks is not kept waiting.
    mock.request_errors(RDKafkaApiKey::ListOffsets, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT; 9]);
    let told = cluster.shared.offsets_within(
        &[("t", 0)],
        super::topics::END,
        Isolation::ReadUncommitted,
        Duration::from_secs(20),
    );
    let refused = told.unwrap().remove(0).unwrap_err();
    assert_eq!(refused.code(), broker::Code::LeaderNotAvailable, "{refused}");
}

#[test]
fn where_no_node_is_reached_nobody_waits_for_the_whole_time() {
    let nobody = std::net::TcpListener::bind("localhost:0").unwrap().local_addr().unwrap().port();
    let cluster = open_within(&format!("localhost:{nobody}"), Duration::from_secs(120));
    let begun = Instant::now();
    let refused = cluster.describe_topics().unwrap_err();
    assert_eq!(refused.code(), broker::Code::BrokerNotAvailable);
    assert!(refused.to_string().contains(&nobody.to_string()), "{refused}");
    let refused = cluster.groups().unwrap_err();
    assert_eq!(refused.code(), broker::Code::BrokerNotAvailable);
    assert!(cluster.begin_transaction("id", 60_000).is_err());
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}
