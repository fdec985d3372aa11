//! Writing to a plainlog that stands for the cluster, and to librdkafka's own mock of one.

use super::*;
use crate::{
    Broker, Config, Consumer, Message, Server,
    broker::{self, Code},
    cluster::testing::{open_within, options},
};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use std::sync::{OnceLock, atomic::AtomicBool};

/// A plainlog, and a cluster that it is the only node of.
fn start() -> (Broker, Server, Cluster) {
    let broker = Broker::in_memory();
    let server = Server::start(broker.clone(), "localhost:0").unwrap();
    let cluster = open_within(&format!("localhost:{}", server.port()), Duration::from_secs(30));
    (broker, server, cluster)
}

/// All records that readers of committed ones see, in order.
fn read(broker: &Broker, topic: &str, count: usize) -> Vec<Message> {
    let mut consumer = Consumer::embedded(broker).subscribe(&[topic]).unwrap();
    let mut all = Vec::new();
    while all.len() < count {
        let more = consumer.poll(Duration::from_secs(10), 10_000).unwrap();
        assert!(!more.is_empty(), "there are only {}", all.len());
        all.extend(more);
    }
    all.extend(consumer.poll(Duration::from_millis(1), 10_000).unwrap());
    all
}

fn write_values(session: &mut WriteSession, topic: &str, values: &[String]) -> Vec<Result<Option<u64>>> {
    let mut gathered = Gathered::default();
    let add = |value: &String| {
        let mut one = Records::default();
        one.push(None, None, Some(Cow::Owned(value.clone().into_bytes())));
        session.add_last(&mut gathered, topic, Some(0), &mut one, None)
    };
    let tickets: Vec<_> = values.iter().map(add).collect();
    session.write(&mut gathered);
    session.make_durable();
    let offsets = tickets.into_iter().map(|ticket| session.offset(ticket?)).collect();
    session.clear();
    offsets
}

fn write_one(cluster: &Cluster, topic: &str) -> Result<Option<u64>> {
    write_values(&mut cluster.write_session(), topic, &["x".into()]).remove(0)
}

#[test]
fn records_arrive_as_they_are_and_are_answered_where_they_stand() {
    let (broker, _server, cluster) = start();
    let mut session = cluster.write_session();
    let mut gathered = Gathered::default();
    let bytes = |text: &'static str| Some(Cow::Borrowed(text.as_bytes()));
    let mut records = Records::default();
    records.push(Some(1_700_000_000_000), bytes("k"), bytes("first"));
    records.header(Cow::Borrowed(b"\xff\0trace"), bytes("a1"));
    records.header(Cow::Borrowed(b"none"), None);
    let first = session.add_last(&mut gathered, "made", None, &mut records, None).unwrap();
    records.push(None, bytes("k"), None);
    let second = session.add_last(&mut gathered, "made", None, &mut records, None).unwrap();
    records.push(None, None, bytes(""));
    let third = session.add_last(&mut gathered, "made", None, &mut records, None).unwrap();
    let fourth = session.add_value(&mut gathered, "made", 0, b"fourth").unwrap();
    session.write(&mut gathered);
    session.make_durable();
    let offsets = [first, second, third, fourth].map(|ticket| session.offset(ticket));
    assert_eq!(offsets, [0, 1, 2, 3].map(|offset| Ok(Some(offset))));
    assert_eq!(session.steps(), ["handed to made/0 on its leader, node 1: 4 of 4 records stored, at 0 to 3"]);
    assert_eq!((session.target_of(first).topic(), session.target_of(first).partition()), ("made", 0));
    let traffic = cluster.traffic();
    assert_eq!((traffic.records_in, traffic.bytes_in), (4, 26), "keys, values and headers");
    let all = read(&broker, "made", 4);
    let header = |name: &'static [u8], value: Option<&'static [u8]>| (Cow::Borrowed(name), value.map(Cow::Borrowed));
    assert_eq!(all[0].timestamp, 1_700_000_000_000);
    assert_eq!(all[0].headers, [header(b"\xff\0trace", Some(b"a1")), header(b"none", None)]);
    let pairs: Vec<_> = all.iter().map(|one| (one.key.as_deref(), one.value.as_deref())).collect();
    let k = Some(b"k".as_slice());
    assert_eq!(pairs, [(k, Some(b"first".as_slice())), (k, None), (None, Some(b"")), (None, Some(b"fourth"))]);
}

#[test]
fn a_key_goes_where_the_broker_sends_it() {
    let (broker, _server, cluster) = start();
    broker.create_topic("t", 7).unwrap();
    let (mut session, mut gathered) = (cluster.write_session(), Gathered::default());
    for number in 0..50 {
        let mut records = Records::default();
        records.push(None, Some(Cow::Owned(format!("key-{number}").into_bytes())), None);
        session.add_last(&mut gathered, "t", None, &mut records, None).unwrap();
    }
    session.write(&mut gathered);
    session.make_durable();
    for Message { partition, key, .. } in read(&broker, "t", 50) {
        assert_eq!(partition, broker::partition_of(&key.unwrap(), 7));
    }
}

#[test]
fn partitions_that_are_added_are_written_to() {
    let (broker, _server, cluster) = start();
    broker.create_topic("t", 1).unwrap();
    let write = |partition| {
        let (mut session, mut gathered) = (cluster.write_session(), Gathered::default());
        let ticket = session.add_value(&mut gathered, "t", partition, b"x")?;
        session.write(&mut gathered);
        session.make_durable();
        session.offset(ticket)
    };
    assert_eq!(write(0), Ok(Some(0)));
    let unknown = Error::UnknownPartition { topic: "t".into(), partition: 2, partitions: 1 };
    assert_eq!(write(2), Err(unknown));
    broker.alter_topic("t", Some(3), &Default::default()).unwrap();
    assert_eq!(write(2), Ok(Some(0)));
}

#[test]
fn what_cannot_be_sent_as_it_is_is_refused_and_leaves_no_topic_behind() {
    let (broker, _server, cluster) = start();
    let session = cluster.write_session();
    let refused = |timestamp, numbering| {
        let mut one = Records::default();
        one.push(timestamp, None, None);
        session.add_last(&mut Gathered::default(), "t", None, &mut one, numbering).unwrap_err()
    };
    assert_eq!(refused(Some(-1), None), Error::NoTime(-1));
    assert!(matches!(refused(Some(0), None), Error::NotHere(why) if why.contains("timestamp")));
    let numbering = Numbering { producer_id: 1, producer_epoch: 0, base_sequence: 0 };
    assert!(matches!(refused(None, Some(numbering)), Error::NotHere(why) if why.contains("numbered")));
    let invalid = session.add_value(&mut Gathered::default(), "a b", 0, b"");
    assert!(matches!(invalid, Err(Error::InvalidTopic(_))));
    assert!(broker.describe_topics().is_empty());
}

#[test]
fn first_use_makes_no_topic_where_that_is_off() {
    let (broker, server, _) = start();
    let options = options(&server);
    let cluster = Cluster::open(Config { auto_create: false, ..Config::in_memory() }, options).unwrap();
    assert_eq!(write_one(&cluster, "t"), Err(Error::UnknownTopic("t".into())));
    assert!(broker.describe_topics().is_empty());
}

#[test]
fn what_the_cluster_refuses_is_told_at_once_by_its_name() {
    let (broker, _server, cluster) = start();
    broker.create_topic_with("t", None, [("max.message.bytes".into(), "1000".into())].into()).unwrap();
    let written = write_values(&mut cluster.write_session(), "t", &["x".repeat(2000)]).remove(0);
    assert_eq!(written.unwrap_err().code(), Code::MessageTooLarge);
    assert_eq!(write_one(&cluster, "t"), Ok(Some(0)), "others go on");
}

#[test]
fn each_record_is_there_once_and_in_order_when_the_node_restarts_meanwhile() {
    let folder = std::env::temp_dir().join(format!("plainlog-cluster-{}", std::process::id()));
    let open = || Broker::open(Config::new(&folder)).unwrap();
    let server = Server::start(open(), "localhost:0").unwrap();
    let address = format!("localhost:{}", server.port());
    let cluster = open_within(&address, Duration::from_secs(30));
    let (went, values, restarted) = (AtomicBool::new(false), 0..20_000, OnceLock::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut session = cluster.write_session();
            for values in Vec::from_iter(values.clone()).chunks(1000) {
                let values: Vec<_> = values.iter().map(usize::to_string).collect();
                for (offset, value) in write_values(&mut session, "t", &values).into_iter().zip(&values) {
                    assert_eq!(offset.unwrap().map(|offset| offset.to_string()).as_ref(), Some(value));
                }
                went.store(true, Release);
            }
        });
        while !went.load(Acquire) {
            thread::yield_now();
        }
        drop(server);
        restarted.set(Server::start(open(), &address).unwrap()).unwrap();
    });
    drop(restarted);
    let broker = open();
    let all = read(&broker, "t", values.len());
    let text: Vec<_> = all.into_iter().map(|one| String::from_utf8(one.value.unwrap()).unwrap()).collect();
    assert_eq!(text, Vec::from_iter(values.map(|value| value.to_string())));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_cluster_that_does_not_answer_is_an_error_within_the_time_and_serves_when_it_comes() {
    let server = Server::start(Broker::in_memory(), "localhost:0").unwrap();
    let address = format!("localhost:{}", server.port());
    drop(server);
    let cluster = open_within(&address, Duration::from_millis(500));
    let refused = write_one(&cluster, "t").unwrap_err();
    assert_eq!(refused.code(), Code::BrokerNotAvailable);
    assert!(refused.to_string().contains(&address), "{refused}");
    let _server = Server::start(Broker::in_memory(), &address).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = write_one(&cluster, "t") {
        assert!(Instant::now() < deadline, "{error}");
    }
}

#[test]
fn time_runs_out_for_what_no_leader_takes() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(2));
    assert_eq!(write_one(&cluster, "t"), Ok(Some(0)));
    mock.broker_down(1).unwrap();
    let refused = write_one(&cluster, "t").unwrap_err();
    assert_eq!(refused.code(), Code::RequestTimedOut);
    assert!(refused.to_string().ends_with("it may yet be stored"), "{refused}");
    mock.broker_up(1).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = write_one(&cluster, "t") {
        assert!(Instant::now() < deadline, "{error}");
    }
}

#[test]
fn another_producer_takes_the_place_of_one_that_has_failed_for_good() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let forbidden = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    mock.request_errors(RDKafkaApiKey::InitProducerId, &[forbidden]);
    let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(10));
    let values = ["a".into(), "b".into()];
    for refused in write_values(&mut cluster.write_session(), "t", &values) {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::ClusterAuthorizationFailed, "{refused}");
    }
    assert_eq!(write_one(&cluster, "t"), Ok(Some(0)));
}

/// librdkafka told offsets of the others in the batch that were none.
#[test]
fn where_records_stand_that_a_node_had_stored_before_is_not_told() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(20));
    assert_eq!(write_one(&cluster, "t"), Ok(Some(0)));
    let stored_before = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER; 3];
    mock.request_errors(RDKafkaApiKey::Produce, &stored_before);
    let values = ["a", "b", "c"].map(String::from);
    assert_eq!(write_values(&mut cluster.write_session(), "t", &values), [Ok(None), Ok(None), Ok(None)]);
}

#[test]
fn what_is_unanswered_is_bounded() {
    let (broker, _server, cluster) = start();
    broker.create_topic("t", 1).unwrap();
    let (mut session, mut gathered) = (cluster.write_session(), Gathered::default());
    let value = vec![b'x'; 100_000];
    let tickets: Vec<_> = (0..300).map(|_| session.add_value(&mut gathered, "t", 0, &value).unwrap()).collect();
    session.write(&mut gathered);
    assert!(session.answers.unanswered_bytes() <= UNANSWERED_MAX);
    session.make_durable();
    let offsets: Vec<_> = tickets.into_iter().map(|ticket| session.offset(ticket).unwrap().unwrap()).collect();
    assert_eq!(offsets, Vec::from_iter(0..300));
}

/// A node refuses a batch as a whole, and a pipelined one was larger than what the topic takes.
#[test]
fn no_record_is_refused_for_its_company() {
    let (broker, _server, cluster) = start();
    broker.create_topic_with("t", Some(1), [("max.message.bytes".into(), "1000".into())].into()).unwrap();
    let (mut session, large) = (cluster.write_session(), 50);
    let value = |index: usize| format!("{index} {}", "x".repeat(if index % 100 == large { 1000 } else { 300 }));
    let values: Vec<_> = (0..300).map(value).collect();
    let outcomes = write_values(&mut session, "t", &values);
    for (index, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(_) => assert_ne!(index % 100, large),
            Err(refused) => assert_eq!((index % 100, refused.code()), (large, Code::MessageTooLarge), "{refused}"),
        }
    }
    let mut transaction = cluster.begin_transaction("id", 60_000).unwrap().transaction;
    session.enter(&transaction);
    let rest: Vec<_> = (300..340).map(value).collect();
    assert!(write_values(&mut session, "t", &rest).iter().all(Result::is_ok));
    transaction.end().unwrap();
    let all: Vec<_> = read(&broker, "t", 337).into_iter().map(|one| one.value.unwrap()).collect();
    let stored = values.iter().chain(&rest).filter(|value| value.len() < 1000);
    assert_eq!(all, Vec::from_iter(stored.map(|value| value.as_bytes())));
}

#[test]
fn what_went_by_one_producer_is_answered_before_another_takes_the_partition() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(20));
    assert_eq!(write_one(&cluster, "t"), Ok(Some(0)));
    mock.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    let mut session = cluster.write_session();
    let hand_over = |session: &mut WriteSession| {
        let mut gathered = Gathered::default();
        let ticket = session.add_value(&mut gathered, "t", 0, b"x").unwrap();
        session.write(&mut gathered);
        ticket
    };
    let first = hand_over(&mut session);
    let second = hand_over(&mut session);
    assert_eq!(session.answers.outcome(first.batch, first.record), Outcome::Unanswered);
    cluster.shared.limits.told("t", 1000);
    let third = hand_over(&mut session);
    assert_eq!(session.answers.outcome(second.batch, second.record), Outcome::Stored(Some(2)));
    session.make_durable();
    assert_eq!([first, second, third].map(|ticket| session.offset(ticket)), [1, 2, 3].map(|offset| Ok(Some(offset))));
}

/// A stop took as long as the cluster may: half a minute.
#[test]
fn when_the_program_stops_what_is_unanswered_is_answered_soon() {
    use std::io::{BufRead, BufReader, Write};
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let cluster = open_within(&mock.bootstrap_servers(), Duration::from_secs(60));
    let server = Server::start(cluster.clone(), "localhost:0").unwrap();
    let mut client = std::net::TcpStream::connect(("localhost", server.port())).unwrap();
    let mut answers = BufReader::new(client.try_clone().unwrap()).lines();
    client.write_all(b"SEND t/0 message:a\n").unwrap();
    assert_eq!(answers.next().unwrap().unwrap(), "ACK topic:t partition:0 offset:0");
    mock.broker_down(1).unwrap();
    client.write_all(b"SEND t/0 message:b\nSEND t/0 message:c\n").unwrap();
    while cluster.shared.producer.unanswered_bytes() == 0 {
        thread::yield_now();
    }
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let told = answers.next().unwrap().unwrap();
    assert!(told.starts_with("ERROR REQUEST_TIMED_OUT") && told.contains("this program stops"), "{told}");
    mock.broker_up(1).unwrap();
    while let Err(error) = write_one(&cluster, "t") {
        assert!(begun.elapsed() < Duration::from_secs(60), "whoever still uses the cluster goes on: {error}");
    }
}
