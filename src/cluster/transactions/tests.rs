//! Transactions on a plainlog that stands for the cluster.

use super::*;
use crate::{
    Broker, Config, Consumer, Server,
    cluster::{ClusterOptions, Gathered, testing},
};
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

fn start() -> (Broker, Server, Cluster) {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    let server = Server::start(broker.clone(), "localhost:0").unwrap();
    let cluster = testing::open(&server, 10);
    (broker, server, cluster)
}

fn begin(cluster: &Cluster) -> Transaction {
    cluster.begin_transaction("id", 60_000).unwrap().transaction
}

fn write(cluster: &Cluster, transaction: &Transaction, value: &str) -> Result<Option<u64>> {
    let (mut session, mut gathered) = (cluster.write_session(), Gathered::default());
    session.enter(transaction);
    let ticket = session.add_value(&mut gathered, "t", 0, value.as_bytes())?;
    session.write(&mut gathered);
    session.make_durable();
    session.offset(ticket)
}

/// What readers of committed records see.
fn committed(broker: &Broker) -> Vec<String> {
    let mut consumer = Consumer::embedded(broker).subscribe(&["t"]).unwrap();
    let all = consumer.poll(Duration::from_millis(1), 100).unwrap();
    all.into_iter().map(|one| String::from_utf8(one.value.unwrap()).unwrap()).collect()
}

#[test]
fn what_is_written_in_one_takes_effect_together_or_not_at_all() {
    let (broker, _server, cluster) = start();
    let mut transaction = begin(&cluster);
    assert_eq!((transaction.identity(), &**transaction.transactional_id()), (None, "id"));
    assert_eq!(write(&cluster, &transaction, "a"), Ok(Some(0)));
    assert_eq!(write(&cluster, &transaction, "b"), Ok(Some(1)));
    assert_eq!(committed(&broker), [""; 0]);
    transaction.end().unwrap();
    assert_eq!(committed(&broker), ["a", "b"]);
    assert!(matches!(transaction.end(), Err(Error::InvalidTxnState(_))));

    let mut transaction = begin(&cluster);
    write(&cluster, &transaction, "c").unwrap();
    transaction.abort().unwrap();
    let transaction = begin(&cluster);
    write(&cluster, &transaction, "d").unwrap();
    drop(transaction);
    let mut transaction = begin(&cluster);
    write(&cluster, &transaction, "e").unwrap();
    transaction.doom("a line was refused");
    assert!(matches!(transaction.check(), Err(Error::InvalidTxnState(_))));
    assert!(matches!(transaction.end(), Err(Error::InvalidTxnState(_))));
    assert_eq!(committed(&broker), ["a", "b"]);
    assert_eq!(cluster.transactions().unwrap(), []);
}

#[test]
fn whoever_begins_with_the_id_fences_the_one_before() {
    let (broker, server, cluster) = start();
    let other = testing::open(&server, 10);
    let mut first = begin(&cluster);
    write(&cluster, &first, "a").unwrap();
    let mut second = begin(&other);
    write(&other, &second, "b").unwrap();
    let fenced = first.end().unwrap_err();
    assert!(matches!(fenced, Error::ProducerFenced(_)), "{fenced}");
    assert!(matches!(write(&cluster, &first, "c"), Err(Error::ProducerFenced(_))));
    second.end().unwrap();
    assert_eq!(committed(&broker), ["b"]);

    let (mut third, mut fourth) = (begin(&cluster), begin(&cluster));
    assert!(matches!(third.check(), Err(Error::ProducerFenced(_))), "it is known here at once");
    write(&cluster, &fourth, "d").unwrap();
    assert!(third.abort().is_err());
    fourth.end().unwrap();
    assert_eq!(committed(&broker), ["b", "d"]);
}

#[test]
fn one_that_is_fenced_is_told_so_at_its_next_record() {
    let (_broker, server, cluster) = start();
    let first = begin(&cluster);
    let mut second = begin(&testing::open(&server, 10));
    let refused = write(&cluster, &first, "a").unwrap_err();
    assert!(matches!(refused, Error::ProducerFenced(_)), "{refused}");
    second.abort().unwrap();
}

#[test]
fn one_that_waits_for_the_end_of_the_one_before_begins_then() {
    let mock = rdkafka::mocking::MockCluster::new(1).unwrap();
    let cluster = Cluster::open(Config::in_memory(), ClusterOptions::new(mock.bootstrap_servers())).unwrap();
    // Half a second lies between two requests: it takes longer than a step.
    let ongoing = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS;
    mock.request_errors(rdkafka::types::RDKafkaApiKey::InitProducerId, &[ongoing; 5]);
    begin(&cluster);
}

#[test]
fn a_commit_that_is_refused_is_an_abort_at_once_or_when_the_time_is_over() {
    let mock = rdkafka::mocking::MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let cluster = Cluster::open(Config::in_memory(), ClusterOptions::new(mock.bootstrap_servers())).unwrap();
    let forbidden = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    for (refusals, what) in [(1, "was aborted"), (2, "is aborted when its time is over, 60000 ms")] {
        let mut transaction = begin(&cluster);
        write(&cluster, &transaction, "a").unwrap();
        mock.request_errors(rdkafka::types::RDKafkaApiKey::EndTxn, &vec![forbidden; refusals]);
        let refused = transaction.end().unwrap_err();
        assert!(matches!(&refused, Error::InvalidTxnState(why) if why.contains(what)), "{refused}");
        drop(transaction);
        let mut next = begin(&cluster);
        write(&cluster, &next, "b").unwrap();
        next.end().unwrap();
    }
}

#[test]
fn those_of_this_program_are_told_and_can_be_aborted() {
    let (broker, _server, cluster) = start();
    let mut transaction = begin(&cluster);
    write(&cluster, &transaction, "a").unwrap();
    let all = cluster.transactions().unwrap();
    assert_eq!((all.len(), all[0].state, all[0].partitions, all[0].timeout_ms), (1, "ongoing", 1, 60_000));
    let one = cluster.transaction("id").unwrap();
    assert_eq!((&*one.partitions[0].topic, one.partitions[0].partition), ("t", 0));
    assert_eq!(cluster.abort_transaction("other"), Err(Error::UnknownTransactionalId("other".into())));
    cluster.abort_transaction("id").unwrap();
    assert!(matches!(transaction.check(), Err(Error::InvalidTxnState(why)) if why.contains("somebody else")));
    assert!(matches!(transaction.end(), Err(Error::InvalidTxnState(_))));
    assert_eq!((committed(&broker), cluster.transactions().unwrap()), (vec![], vec![]));
}

#[test]
fn ids_and_times_are_checked_and_producers_counted() {
    let (_broker, server, _) = start();
    let cluster = testing::open(&server, 1);
    let begin = |id: &str, timeout_ms| cluster.begin_transaction(id, timeout_ms);
    assert!(matches!(begin("", 60_000), Err(Error::InvalidTransactionalId(_))));
    assert!(matches!(begin("id", 999), Err(Error::InvalidTransactionTimeout(_))));
    let too_long = begin("id", 2_000_000_000).unwrap_err();
    assert!(matches!(too_long, Error::InvalidTransactionTimeout(_)), "{too_long}");
    let mut first = begin("id", 60_000).unwrap().transaction;
    assert_eq!(begin("other", 60_000).unwrap_err().code(), Code::PolicyViolation);
    first.end().unwrap();
    drop(first);
    begin("other", 60_000).unwrap().transaction.abort().unwrap();
}

#[test]
fn offsets_of_a_group_are_committed_with_it() {
    let (broker, server, cluster) = start();
    let options = testing::options(&server);
    let member: BaseConsumer = options.client(&[("group.id", "g")]).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("t", 0, rdkafka::Offset::Offset(7)).unwrap();
    let committed = || broker.group_offsets("g").unwrap();
    let mut transaction = begin(&cluster);
    transaction.send_offsets("g", &offsets, &member.group_metadata().unwrap()).unwrap();
    transaction.abort().unwrap();
    let before = format!("{:?}", committed());
    let mut transaction = begin(&cluster);
    transaction.send_offsets("g", &offsets, &member.group_metadata().unwrap()).unwrap();
    transaction.end().unwrap();
    assert_ne!(before, format!("{:?}", committed()));

    let mut transaction = begin(&cluster);
    let here = || broker.group_offsets("g").unwrap();
    cluster.commit_offsets_in(&transaction, "g", Committer::Outsider, &[("t", 0, 9)]).unwrap();
    assert_eq!(cluster.transaction("id").unwrap().summary.partitions, 1);
    let before = format!("{:?}", here());
    transaction.end().unwrap();
    assert_ne!(before, format!("{:?}", here()));
    let sender = classic::Sender { member_id: "nobody", instance_id: None };
    let transaction = begin(&cluster);
    let refused =
        cluster.commit_offsets_in(&transaction, "g", Committer::Member { sender, generation: 3 }, &[("t", 0, 9)]);
    assert!(matches!(refused, Err(Error::UnknownMemberId | Error::IllegalGeneration(_))), "{refused:?}");
}
