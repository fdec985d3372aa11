//! Transactions as their producers and readers see them.

use super::*;
use crate::{
    broker::{
        Broker, Clock, Code, Epochs, Form, Gathered, Isolation, LastTransaction, Outcome, ProducerIdentity, Sequence,
        Terms, View, group::Committer,
    },
    config::{Config, Flush},
    log::{
        Chunk, Numbering,
        batches::Flags,
        disk::{Call, Fault, MemoryDisk, Survivors},
        record::Records,
    },
};
use std::sync::atomic::{AtomicI64, Ordering};

const NOW_MS: i64 = 1_700_000_000_000;

/// A broker, its disk and its clock. What time asks of it, the test does.
struct Turned {
    broker: Broker,
    disk: MemoryDisk,
    clock: Arc<AtomicI64>,
}

impl Turned {
    fn new() -> Turned {
        let turned = Turned::on(&MemoryDisk::crashable(), Flush::Always);
        turned.broker.create_topic("orders", 2).unwrap();
        turned.broker.create_topic("payments", 1).unwrap();
        turned
    }

    fn on(disk: &MemoryDisk, flush: Flush) -> Turned {
        let clock = Arc::new(AtomicI64::new(NOW_MS));
        let config = Config { flush, ..Config::new("data") };
        let broker = Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(clock.clone())).unwrap();
        broker.stop_maintenance();
        Turned { broker, disk: disk.clone(), clock }
    }

    /// The same after a crash, or a kill.
    fn crashed(&self, survivors: Survivors) -> Turned {
        Turned::on(&self.disk.reboot(survivors), Flush::Always)
    }

    fn after(&self, time_ms: i64) -> &Turned {
        self.clock.fetch_add(time_ms, Ordering::AcqRel);
        self.look_after();
        self
    }

    fn look_after(&self) {
        self.broker.inner().look_after_transactions().unwrap();
    }

    fn begin(&self, id: &str) -> Transaction {
        self.broker.begin_transaction(id, 60_000).unwrap().transaction
    }

    /// The values that a reader of committed records finds.
    fn committed(&self, topic: &str, partition: u32) -> Vec<String> {
        self.values(topic, partition, Isolation::ReadCommitted)
    }

    fn values(&self, topic: &str, partition: u32, isolation: Isolation) -> Vec<String> {
        let partition = self.broker.topic(topic).unwrap().partition(partition).unwrap();
        let (mut chunk, mut found) = (Chunk::default(), vec![]);
        let mut next = partition.start().unwrap();
        while next < partition.end(isolation).unwrap() {
            partition.read_as(View { isolation, form: Form::Records }, next, 1 << 20, &mut chunk).unwrap();
            for line in chunk.records_from(next) {
                let value = line.unwrap().split().unwrap().value.bytes().unwrap().unwrap().into_owned();
                found.push(String::from_utf8(value).unwrap());
            }
            next = chunk.next_offset().unwrap();
        }
        found
    }

    /// The state of each id, as the log names it.
    fn states(&self) -> Vec<(String, &'static str)> {
        let transactions = self.broker.transactions().unwrap();
        transactions.iter().map(|one| (one.transactional_id.to_string(), one.state)).collect()
    }

    fn lines(&self) -> Vec<String> {
        let partition = self.broker.topic(state_log::TOPIC).unwrap().partition(0).unwrap();
        partition.sync_to(partition.log().unwrap().log_end()).unwrap();
        self.values(state_log::TOPIC, 0, Isolation::ReadUncommitted)
    }
}

/// Writes a value, in a transaction or outside of any.
fn send(broker: &Broker, transaction: Option<&Transaction>, topic: &str, partition: u32, value: &str) -> Result<u64> {
    let (mut session, mut gathered) = (broker.write_session(), Gathered::default());
    transaction.iter().for_each(|transaction| session.enter(transaction));
    let ticket = session.add_value(&mut gathered, topic, partition, value.as_bytes())?;
    session.write(&mut gathered);
    session.make_durable();
    Ok(session.offset(ticket)?.expect("it is new"))
}

/// Writes a value as a Kafka producer does.
fn produce(
    broker: &Broker,
    (id, identity): (&str, ProducerIdentity),
    base_sequence: i32,
    topic: &str,
    value: &str,
    if_absent: IfAbsent,
) -> Result<u64> {
    let mut session = broker.write_session();
    let target = session.target(&broker.find_topic(topic)?, 0)?;
    let mut records = Records::default();
    records.push(None, None, Some(value.as_bytes().into()));
    let ProducerIdentity { id: producer_id, epoch: producer_epoch } = identity;
    let producer = Some(Numbering { producer_id, producer_epoch, base_sequence });
    let terms = Terms { flags: Flags::TRANSACTIONAL, producer, sequence: Sequence::Given, whole: true };
    let ticket = session.write_batch_in_transaction(target, &records, terms, id, if_absent)?;
    session.make_durable();
    Ok(session.offset(ticket)?.expect("it is new"))
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> Code {
    result.unwrap_err().code()
}

fn orders(partition: u32) -> TopicPartition {
    TopicPartition { topic: "orders".into(), partition }
}

#[test]
fn what_a_transaction_wrote_is_seen_in_all_partitions_at_once_or_never() {
    let turned = Turned::new();
    let broker = &turned.broker;
    for (outcome, seen) in [(Outcome::Abort, vec!["plain"]), (Outcome::Commit, vec!["plain", "a", "plain", "b"])] {
        let mut transaction = turned.begin("t");
        send(broker, Some(&transaction), "orders", 0, "a").unwrap();
        send(broker, None, "orders", 0, "plain").unwrap();
        send(broker, Some(&transaction), "orders", 0, "b").unwrap();
        send(broker, Some(&transaction), "orders", 1, "c").unwrap();
        send(broker, Some(&transaction), "payments", 0, "d").unwrap();
        assert_eq!(turned.committed("orders", 1), Vec::<String>::new());
        let partitions = broker.transaction("t").unwrap().partitions;
        let first: Vec<_> = partitions.iter().map(|one| (&*one.topic, one.partition, one.first.is_some())).collect();
        assert_eq!(first, [("orders", 0, true), ("orders", 1, true), ("payments", 0, true)]);
        match outcome {
            Outcome::Commit => transaction.end().unwrap(),
            Outcome::Abort => transaction.abort().unwrap(),
        }
        assert_eq!(turned.committed("orders", 0), seen);
    }
    assert_eq!((turned.committed("orders", 1), turned.committed("payments", 0)), (vec!["c".into()], vec!["d".into()]));
    assert_eq!(turned.states(), [("t".into(), "complete_commit")]);
}

#[test]
fn begin_tells_how_the_last_transaction_that_held_anything_ended() {
    let turned = Turned::new();
    let begin = || turned.broker.begin_transaction("t", 60_000).unwrap();
    let Begun { mut transaction, last } = begin();
    assert_eq!((transaction.identity().epoch, last), (0, None));
    let identity = transaction.identity();
    send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
    transaction.end().unwrap();
    let committed = Some(LastTransaction { identity, outcome: Outcome::Commit });
    // One that held nothing is none.
    for epoch in [2, 4] {
        let Begun { mut transaction, last } = begin();
        assert_eq!((transaction.identity().epoch, last), (epoch, committed));
        transaction.end().unwrap();
    }
    let Begun { transaction, .. } = begin();
    let identity = transaction.identity();
    send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
    drop(transaction);
    assert_eq!(begin().last, Some(LastTransaction { identity, outcome: Outcome::Abort }));
    assert_eq!(turned.committed("orders", 0), ["a"]);
}

#[test]
fn whoever_begins_with_an_id_fences_the_one_before() {
    let turned = Turned::new();
    let broker = &turned.broker;
    let mut first = turned.begin("t");
    send(broker, Some(&first), "orders", 0, "first").unwrap();
    let mut second = turned.begin("t");
    assert_eq!(code(send(broker, Some(&first), "orders", 0, "late")), Code::ProducerFenced);
    assert_eq!(code(send(broker, Some(&first), "payments", 0, "late")), Code::ProducerFenced);
    first.doom("an error before");
    assert_eq!(code(first.check()), Code::ProducerFenced);
    assert_eq!(code(first.end()), Code::ProducerFenced, "that goes before an error in it");
    send(broker, Some(&second), "orders", 0, "second").unwrap();
    second.end().unwrap();
    drop(first);
    assert_eq!(turned.committed("orders", 0), ["second"]);
    assert_eq!(turned.committed("payments", 0), Vec::<String>::new());
}

#[test]
fn an_error_in_a_transaction_makes_its_end_an_abort() {
    let turned = Turned::new();
    let mut transaction = turned.begin("t");
    send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
    transaction.doom("no topic 'x'");
    transaction.doom("and more");
    assert_eq!(code(transaction.check()), Code::InvalidTxnState);
    let error = transaction.end().unwrap_err();
    assert_eq!(error.code(), Code::InvalidTxnState);
    assert!(error.to_string().ends_with("no topic 'x'"), "{error}");
    assert_eq!(turned.states(), [("t".into(), "complete_abort")]);
    assert_eq!(turned.committed("orders", 0), Vec::<String>::new());
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    let turned = Turned::new();
    let mut slow = turned.broker.begin_transaction("t", 2000).unwrap().transaction;
    send(&turned.broker, Some(&slow), "orders", 0, "a").unwrap();
    turned.after(1999);
    slow.check().unwrap();
    turned.after(1);
    assert_eq!(code(send(&turned.broker, Some(&slow), "orders", 0, "late")), Code::InvalidTxnState);
    assert!(slow.end().unwrap_err().to_string().contains("2000 ms"));
    assert_eq!(turned.broker.begin_transaction("t", 2000).unwrap().last.unwrap().outcome, Outcome::Abort);
    for timeout_ms in [999, 900_001, u64::MAX] {
        assert_eq!(code(turned.broker.begin_transaction("t", timeout_ms)), Code::InvalidTransactionTimeout);
    }
}

#[test]
fn an_operator_aborts_the_transaction_of_somebody_else() {
    let turned = Turned::new();
    let mut hanging = turned.begin("t");
    send(&turned.broker, Some(&hanging), "orders", 0, "a").unwrap();
    turned.broker.abort_transaction("t").unwrap();
    assert_eq!(code(hanging.end()), Code::InvalidTxnState);
    assert_eq!(code(turned.broker.abort_transaction("t")), Code::InvalidTxnState);
    assert_eq!(code(turned.broker.abort_transaction("x")), Code::TransactionalIdNotFound);
    assert_eq!(code(turned.broker.transaction("x")), Code::TransactionalIdNotFound);
}

#[test]
fn a_kafka_producer_keeps_its_epoch_or_gets_a_new_one_from_each_end() {
    let turned = Turned::new();
    let broker = &turned.broker;
    let old = broker.init_producer("t", 60_000, None).unwrap();
    assert_eq!(turned.states(), [("t".into(), "empty")]);
    let end = |identity, outcome, epochs| broker.end_transaction("t", identity, outcome, epochs);
    assert_eq!(code(end(old, Outcome::Commit, Epochs::Kept)), Code::InvalidTxnState, "nothing is begun");
    assert_eq!(code(produce(broker, ("t", old), 0, "orders", "a", IfAbsent::Refuse)), Code::InvalidTxnState);
    assert_eq!(code(produce(broker, ("t", old), 0, "orders", "a", IfAbsent::AskToAbort)), Code::TransactionAbortable);
    assert_eq!(broker.add_partitions("t", old, &[orders(0)], true).unwrap().len(), 1);
    assert_eq!(
        code(broker.add_partitions("t", old, &[orders(0)], true).unwrap().remove(0)),
        Code::TransactionAbortable
    );
    assert_eq!(broker.add_partitions("t", old, &[orders(0)], false), Ok(vec![Ok(())]));
    assert_eq!(broker.add_partitions("t", old, &[orders(0)], true), Ok(vec![Ok(())]));
    assert_eq!(produce(broker, ("t", old), 0, "orders", "a", IfAbsent::Refuse), Ok(0));
    assert_eq!(produce(broker, ("t", old), 0, "orders", "a", IfAbsent::Refuse), Ok(0), "sent again");
    assert_eq!(end(old, Outcome::Commit, Epochs::Kept), Ok(old));
    assert_eq!(end(old, Outcome::Commit, Epochs::Kept), Ok(old));
    assert_eq!(code(end(old, Outcome::Abort, Epochs::Kept)), Code::InvalidTxnState);
    // The sequence goes on.
    assert_eq!(produce(broker, ("t", old), 1, "orders", "b", IfAbsent::Add), Ok(2));
    let new = end(old, Outcome::Abort, Epochs::Raised).unwrap();
    assert_eq!(new, ProducerIdentity { epoch: 1, ..old });
    assert_eq!(end(old, Outcome::Abort, Epochs::Raised), Ok(new));
    assert_eq!(code(produce(broker, ("t", old), 2, "orders", "late", IfAbsent::Add)), Code::InvalidProducerEpoch);
    assert_eq!(produce(broker, ("t", new), 0, "orders", "c", IfAbsent::Add), Ok(4));
    end(new, Outcome::Commit, Epochs::Raised).unwrap();
    assert_eq!(turned.committed("orders", 0), ["a", "c"]);
    let other = ProducerIdentity { id: 999, epoch: 0 };
    assert_eq!(code(produce(broker, ("t", other), 0, "orders", "x", IfAbsent::Add)), Code::InvalidProducerIdMapping);
    assert_eq!(code(broker.add_partitions("t", other, &[orders(0)], false)), Code::InvalidProducerIdMapping);
    assert_eq!(code(broker.add_partitions("x", new, &[orders(0)], false)), Code::InvalidProducerIdMapping);
    let unknown = broker.add_partitions("t", new, &[orders(0), orders(7)], false).unwrap();
    assert_eq!(unknown.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
    assert!(broker.transaction("t").unwrap().partitions.is_empty(), "none is added then");
}

#[test]
fn a_producer_that_initialises_again_aborts_what_the_one_before_left_open() {
    let turned = Turned::new();
    let broker = &turned.broker;
    let first = broker.init_producer("t", 60_000, None).unwrap();
    produce(broker, ("t", first), 0, "orders", "a", IfAbsent::Add).unwrap();
    assert_eq!(code(broker.init_producer("t", 60_000, None)), Code::ConcurrentTransactions);
    let second = broker.init_producer("t", 60_000, None).unwrap();
    assert_eq!(second, ProducerIdentity { epoch: 2, ..first });
    assert_eq!(code(produce(broker, ("t", first), 1, "orders", "late", IfAbsent::Add)), Code::InvalidProducerEpoch);
    assert_eq!(code(broker.end_transaction("t", first, Outcome::Commit, Epochs::Kept)), Code::ProducerFenced);
    assert_eq!(turned.committed("orders", 0), Vec::<String>::new());
    for (timeout_ms, wanted) in [(0, Code::InvalidTransactionTimeout), (900_001, Code::InvalidTransactionTimeout)] {
        assert_eq!(code(broker.init_producer("new", timeout_ms, None)), wanted);
    }
    assert_eq!(code(broker.init_producer("", 1, None)), Code::InvalidRequest);
    assert_eq!(turned.states().len(), 1, "what was refused leaves nothing");
}

#[test]
fn each_step_is_a_readable_line() {
    let turned = Turned::new();
    let mut transaction = turned.begin("t");
    let topic_id = crate::broker::random::shown(&turned.broker.topic("orders").unwrap().id);
    send(&turned.broker, Some(&transaction), "orders", 1, "a").unwrap();
    transaction.end().unwrap();
    let (begin, since) = ("producer_id:0 epoch:0 timeout:60000", "since:1700000000000");
    let (parts, last) = (format!("partitions:orders/1 topics:orders={topic_id}"), "last:commit last_id:0 last_epoch:0");
    let ended = "producer_id:0 epoch:1 timeout:60000";
    let previous = "previous_id:0 previous_epoch:0 by:text version:2";
    assert_eq!(
        turned.lines(),
        [
            format!("state:ongoing {begin} {since} by:text version:2"),
            format!("state:ongoing {begin} {since} {parts} by:text version:2"),
            format!("state:prepare_commit {ended} {since} {parts} {last} {previous}"),
            format!("state:complete_commit {ended} {since} {last} {previous}"),
        ]
    );
}

#[test]
fn an_id_that_nobody_uses_expires() {
    let turned = Turned::new();
    let open = turned.broker.init_producer("open", 900_000, None).unwrap();
    turned.broker.init_producer("t", 60_000, None).unwrap();
    let week_ms = 7 * 24 * 3600 * 1000;
    turned.after(week_ms - 1);
    produce(&turned.broker, ("open", open), 0, "orders", "a", IfAbsent::Add).unwrap();
    turned.after(1);
    assert_eq!(turned.states(), [("open".into(), "ongoing")]);
    let producer = turned.broker.init_producer("t", 60_000, None).unwrap();
    assert_eq!((producer.id, producer.epoch), (2, 0), "it is new");
    let again = turned.crashed(Survivors::Nothing);
    assert_eq!(again.states().len(), 2);
}

#[test]
fn after_a_restart_a_connection_s_transaction_is_aborted_and_a_kafka_client_s_goes_on() {
    let turned = Turned::new();
    let text = turned.begin("text");
    let kafka = turned.broker.init_producer("kafka", 60_000, None).unwrap();
    send(&turned.broker, Some(&text), "orders", 0, "text").unwrap();
    produce(&turned.broker, ("kafka", kafka), 0, "orders", "kafka", IfAbsent::Add).unwrap();
    let again = turned.crashed(Survivors::Nothing);
    std::mem::forget(text);
    again.look_after();
    assert_eq!(again.states(), [("kafka".into(), "ongoing"), ("text".into(), "complete_abort")]);
    assert_eq!(again.committed("orders", 0), Vec::<String>::new());
    assert_eq!(produce(&again.broker, ("kafka", kafka), 1, "orders", "on", IfAbsent::Refuse), Ok(3));
    again.broker.end_transaction("kafka", kafka, Outcome::Commit, Epochs::Raised).unwrap();
    assert_eq!(again.committed("orders", 0), ["kafka", "on"]);
    // And one that does not come back is aborted when its time is over.
    let kafka = ProducerIdentity { epoch: 1, ..kafka };
    produce(&again.broker, ("kafka", kafka), 0, "orders", "more", IfAbsent::Add).unwrap();
    let later = again.crashed(Survivors::Nothing);
    later.after(60_000);
    assert_eq!(later.states()[0], ("kafka".into(), "complete_abort"));
    assert_eq!(later.committed("orders", 0), ["kafka", "on"]);
}

#[test]
fn a_transaction_holds_no_more_than_a_line() {
    let turned = Turned::new();
    let producer = turned.broker.init_producer("t", 60_000, None).unwrap();
    let group = |name: &str| turned.broker.add_group("t", producer, &name.repeat(30_000));
    assert_eq!((group("a"), group("b")), (Ok(()), Ok(())));
    assert_eq!(code(group("c")), Code::PolicyViolation);
    assert_eq!(code(turned.broker.add_group("t", producer, &"d".repeat(32_768))), Code::InvalidGroupId);
    turned.broker.end_transaction("t", producer, Outcome::Commit, Epochs::Kept).unwrap();
    assert_eq!(turned.states(), [("t".into(), "complete_commit")]);
}

/// The line had the name before the group refused it, and no start could read that line: the id was forgotten, and what it had
/// written stayed open.
#[test]
fn a_group_whose_name_is_too_long_leaves_the_transaction_known_after_a_restart() {
    let turned = Turned::new();
    let transaction = turned.begin("t");
    send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
    for (group, why) in [("g".repeat(32_768), Code::InvalidGroupId), (String::new(), Code::InvalidGroupId)] {
        let offsets = [("orders", 0, 1)];
        let committed = turned.broker.commit_offsets_in(&transaction, &group, Committer::Outsider, &offsets);
        assert_eq!(code(committed), why, "{} bytes", group.len());
    }
    let again = turned.crashed(Survivors::Everything);
    again.look_after();
    assert_eq!(again.states(), [("t".into(), "complete_abort")]);
    assert!(!again.broker.inner().is_incomplete().unwrap());
    assert_eq!(again.committed("orders", 0), [] as [String; 0]);
}

/// What was written in another mode than `always` may be lost without anybody's being told: its sync comes later.
#[test]
fn a_log_that_failed_after_the_write_makes_the_end_an_abort() {
    for flush in [Flush::Every(Duration::from_secs(3600)), Flush::Never] {
        let disk = MemoryDisk::crashable();
        let turned = Turned::on(&disk, flush);
        turned.broker.create_topic("orders", 2).unwrap();
        let mut transaction = turned.begin("t");
        send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
        send(&turned.broker, Some(&transaction), "orders", 1, "b").unwrap();
        let partition = turned.broker.topic("orders").unwrap().partition(1).unwrap();
        disk.fault(Call::Sync, 1, Fault::Error);
        partition.log().unwrap().sync_all().unwrap_err();
        let error = transaction.end().unwrap_err();
        assert_eq!(error.code(), Code::KafkaStorageError);
        assert!(error.to_string().starts_with("the transaction was aborted: orders/1: "), "{error}");
        assert_eq!(turned.committed("orders", 0), Vec::<String>::new());
        // The marker in the partition that failed follows after a restart.
        assert_eq!(turned.states(), [("t".into(), "prepare_abort")]);
        drop(transaction);
        let again = Turned::on(&disk.reboot(Survivors::Everything), flush);
        again.look_after();
        assert_eq!(again.states(), [("t".into(), "complete_abort")]);
        assert_eq!(again.committed("orders", 1), Vec::<String>::new());
    }
}

#[test]
fn an_end_that_is_decided_says_so_where_a_marker_cannot_be_written_and_maintenance_writes_it() {
    let turned = Turned::new();
    let mut transaction = turned.begin("t");
    send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
    send(&turned.broker, Some(&transaction), "payments", 0, "b").unwrap();
    // The prepare line takes two writes and a sync.
    turned.disk.fault(Call::Write, 3, Fault::Full);
    let error = transaction.end().unwrap_err();
    assert_eq!(error.code(), Code::RequestTimedOut);
    assert!(
        error.to_string().starts_with("commit is decided, and not everywhere yet: orders/0: the disk is full"),
        "{error}"
    );
    assert_eq!((turned.committed("orders", 0), turned.committed("payments", 0)), (vec![], vec!["b".into()]));
    assert_eq!(code(turned.broker.begin_transaction("t", 60_000)), Code::ConcurrentTransactions);
    turned.look_after();
    assert_eq!(turned.committed("orders", 0), ["a"]);
    let last = turned.broker.begin_transaction("t", 60_000).unwrap().last.unwrap();
    assert_eq!((last.identity, last.outcome), (transaction.identity(), Outcome::Commit));
}

#[test]
fn a_prepare_line_that_a_full_disk_refused_makes_the_end_an_abort_once_there_is_room() {
    let turned = Turned::new();
    let mut transaction = turned.begin("t");
    send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
    turned.disk.set_capacity(turned.disk.used());
    let error = transaction.end().unwrap_err();
    assert_eq!(error.code(), Code::KafkaStorageError);
    assert!(error.to_string().starts_with("the transaction is aborted as soon as the disk lets it: "), "{error}");
    assert_eq!(code(send(&turned.broker, Some(&transaction), "orders", 0, "late")), Code::InvalidTxnState);
    turned.look_after();
    assert_eq!(turned.states(), [("t".into(), "ongoing")], "there is no room yet");
    turned.disk.set_capacity(u64::MAX);
    turned.look_after();
    assert_eq!(turned.states(), [("t".into(), "complete_abort")]);
    assert_eq!(turned.committed("orders", 0), Vec::<String>::new());
    turned.begin("t").end().unwrap();
}

#[test]
fn a_prepare_line_whose_sync_failed_is_in_doubt_until_a_restart() {
    let turned = Turned::new();
    let kafka = turned.broker.init_producer("kafka", 60_000, None).unwrap();
    produce(&turned.broker, ("kafka", kafka), 0, "orders", "kafka", IfAbsent::Add).unwrap();
    let mut transaction = turned.begin("t");
    send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
    turned.disk.fault(Call::Sync, 1, Fault::Error);
    let error = transaction.end().unwrap_err();
    assert_eq!(error.code(), Code::KafkaStorageError);
    assert!(error.to_string().starts_with("whether the transaction ended is known after a restart"), "{error}");
    assert_eq!(code(turned.broker.begin_transaction("t", 60_000)), Code::ConcurrentTransactions);
    assert_eq!(code(turned.broker.init_producer("t", 60_000, None)), Code::ConcurrentTransactions);
    turned.after(900_000);
    assert_eq!(turned.committed("orders", 0), Vec::<String>::new(), "no marker is written");
    // The log takes no line any more, so the other one is not ended either.
    assert_eq!(turned.states(), [("kafka".into(), "ongoing"), ("t".into(), "prepare_commit")]);
    let end = || turned.broker.end_transaction("kafka", kafka, Outcome::Commit, Epochs::Kept);
    assert_eq!(code(end()), Code::ConcurrentTransactions);
    for (survivors, seen) in [(Survivors::Nothing, vec![]), (Survivors::Everything, vec!["a".to_string()])] {
        let again = turned.crashed(survivors);
        again.look_after();
        assert_eq!(again.committed("orders", 0), Vec::<String>::new(), "the other one is still open");
        again.after(60_000);
        assert_eq!(again.committed("orders", 0), seen);
    }
}

/// The lines of two ids were in a batch that the disk has damaged: one had promised a commit.
#[test]
fn where_part_of_the_log_cannot_be_read_nothing_is_aborted_by_guessing() {
    let turned = Turned::new();
    let transaction = turned.begin("t");
    send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
    let log = turned.broker.topic(state_log::TOPIC).unwrap().partition(0).unwrap();
    let path = log.dir().join("00000000000000000000.log");
    let disk = turned.disk.reboot(Survivors::Everything);
    std::mem::forget(transaction);
    let file = crate::log::disk::Disk::open(&disk, &path).unwrap();
    [3, file.len().unwrap() - 3].into_iter().for_each(|position| file.write_at(b"#", position).unwrap());
    let again = Turned::on(&disk, Flush::Always);
    again.broker.topic("orders").unwrap().partition(0).unwrap().log().unwrap();
    again.look_after();
    let open = again.broker.topic("orders").unwrap().partition(0).unwrap().open_transactions().unwrap();
    let marker = |open: &crate::broker::OpenTransaction| crate::broker::Marker {
        producer_id: open.producer_id,
        producer_epoch: open.producer_epoch,
        outcome: Outcome::Commit,
        coordinator_epoch: 0,
    };
    assert_eq!(open.len(), 1);
    again.broker.write_marker("orders", 0, marker(&open[0])).unwrap();
    assert_eq!(again.committed("orders", 0), ["a"]);
}

#[test]
fn what_hangs_in_a_partition_is_aborted_by_its_id() {
    let turned = Turned::new();
    let producer = turned.broker.init_producer("t", 60_000, None).unwrap();
    let partition = turned.broker.topic("orders").unwrap().partition(0).unwrap();
    let mut records = Records::default();
    records.push(None, None, Some(b"hangs".as_slice().into()));
    let ProducerIdentity { id: producer_id, epoch: producer_epoch } = producer;
    let producer = Some(Numbering { producer_id, producer_epoch, base_sequence: 0 });
    let terms = Terms { flags: Flags::TRANSACTIONAL, producer, sequence: Sequence::Given, whole: true };
    partition.make_durable(&partition.write(&records, terms).unwrap()).unwrap();
    turned.broker.abort_transaction("t").unwrap();
    assert_eq!(partition.last_stable_offset(), Ok(2));
    assert_eq!(turned.committed("orders", 0), Vec::<String>::new());
    assert_eq!(code(turned.broker.abort_transaction("t")), Code::InvalidTxnState);
}

#[test]
fn a_topic_that_is_dropped_or_made_anew_is_no_part_of_the_transaction_any_more() {
    let turned = Turned::new();
    let mut transaction = turned.begin("t");
    send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
    send(&turned.broker, Some(&transaction), "payments", 0, "b").unwrap();
    turned.broker.drop_topic("payments").unwrap();
    turned.broker.drop_topic("orders").unwrap();
    turned.broker.create_topic("orders", 2).unwrap();
    send(&turned.broker, Some(&transaction), "orders", 1, "c").unwrap();
    transaction.end().unwrap();
    assert_eq!((turned.committed("orders", 0), turned.committed("orders", 1)), (vec![], vec!["c".into()]));
    let partition = turned.broker.topic("orders").unwrap().partition(0).unwrap();
    assert_eq!(partition.high_watermark(), Ok(0), "no marker without a record");
}

#[test]
fn after_a_crash_that_may_have_lost_records_an_id_gets_a_new_producer_id() {
    for (flush, epoch) in [(Flush::Always, 2), (Flush::Never, 0)] {
        let disk = MemoryDisk::crashable();
        let turned = Turned::on(&disk, flush);
        turned.broker.create_topic("orders", 1).unwrap();
        let mut transaction = turned.begin("t");
        send(&turned.broker, Some(&transaction), "orders", 0, "a").unwrap();
        transaction.end().unwrap();
        let kafka = turned.broker.init_producer("kafka", 60_000, None).unwrap();
        let disk = disk.reboot(Survivors::Everything);
        // A clean stop in between changes nothing.
        Turned::on(&disk, flush).look_after();
        let again = Turned::on(&disk.reboot(Survivors::Everything), flush);
        let next = again.begin("t").identity();
        assert_eq!((next.id == transaction.identity().id, next.epoch), (epoch > 0, epoch));
        let renewed = again.broker.init_producer("kafka", 60_000, Some(kafka)).unwrap();
        assert_eq!((renewed.id == kafka.id, renewed.epoch), (epoch > 0, i16::from(epoch > 0)));
        assert_eq!(again.broker.init_producer("kafka", 60_000, Some(kafka)), Ok(renewed), "a repeat");
    }
}

/// Nobody looked at it again: only a BEGIN had said when its time would be over. And where that was over before anybody had said so,
/// nobody did.
#[test]
fn a_kafka_client_s_transaction_is_aborted_when_its_time_is_over_though_nobody_asks() {
    let broker = Broker::in_memory();
    broker.create_topic("orders", 1).unwrap();
    let producer = broker.init_producer("t", 1, None).unwrap();
    let partition = broker.topic("orders").unwrap().partition(0).unwrap();
    let waiter = crate::broker::Waiter::new();
    let _registered = partition.register(&waiter);
    match produce(&broker, ("t", producer), 0, "orders", "a", IfAbsent::Add) {
        Ok(_) => {
            while partition.last_stable_offset().unwrap() < 2 {
                assert!(waiter.wait(None));
            }
        }
        // A millisecond can be over before the record is written.
        Err(error) => assert_eq!(error.code(), Code::InvalidProducerEpoch),
    }
    assert_eq!(broker.transactions().unwrap()[0].producer.epoch, 1);
}
