//! Transactions as producers drive them: InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn (KIP-98, KIP-360, KIP-890).
//!
//! ```text
//! first protocol    InitProducerId  AddPartitionsToTxn  Produce 3-11  AddOffsetsToTxn  TxnOffsetCommit 0-4  EndTxn 0-4
//! second protocol   InitProducerId                      Produce 12-                    TxnOffsetCommit 5    EndTxn 5
//! ```
//!
//! In the second one producing adds the partition, and committing offsets the group, and EndTxn answers the epoch in which the
//! next transaction begins: what is left of an ended one is told from what belongs to the next.
//!
//! Old versions know no code for a producer that another one has replaced: they are told that its epoch is over.

use super::{
    Call, Code, Stop,
    api_versions::TRANSACTION_VERSION,
    partition_index, refused, shown_list, tell,
    wire::{self, ITEM, Reader, Writer},
    with_code,
};
use crate::{
    broker::{
        Broker, Epochs, Error, IfAbsent, Outcome, ProducerIdentity, ResourceName, Result, TopicPartition, is_internal,
    },
    security::Operation,
};
use std::sync::Arc;

/// The first version of InitProducerId that knows the code of a fenced producer.
const FENCED_SINCE_INIT: i16 = 4;
/// The same of the other requests here.
const FENCED_SINCE: i16 = 2;

/// The answer where there is no producer.
const NOBODY: ProducerIdentity = ProducerIdentity { id: -1, epoch: -1 };

/// The code that a version can tell.
fn code(error: &Error, version: i16, fenced_since: i16) -> Code {
    match error.code() {
        Code::ProducerFenced if version < fenced_since => Code::InvalidProducerEpoch,
        code => code,
    }
}

pub(super) fn read_identity(r: &mut Reader<'_>) -> wire::Result<ProducerIdentity> {
    Ok(ProducerIdentity { id: r.i64("producer_id")?, epoch: r.i16("producer_epoch")? })
}

/// InitProducerId (key 22). Without a transactional id it is only a number that no other producer has.
pub(super) fn init_producer_id(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> std::result::Result<(), Stop> {
    let (transactional_id, timeout_ms) = (r.nullable_string("transactional_id")?, r.i32("transaction_timeout_ms")?);
    let known = if r.version >= 3 { read_identity(r)? } else { NOBODY };
    r.tags()?;
    let broker = call.broker;
    let half_known = (known.id == NOBODY.id) != (known.epoch == NOBODY.epoch);
    let of = |error: Error| (code(&error, call.version, FENCED_SINCE_INIT), error.to_string());
    let may = |id| broker.may(Operation::Write, ResourceName::transactional_id(id)).is_ok();
    let made = match transactional_id {
        // What the client had before does not matter, as in Kafka.
        None => broker.new_producer_id().map(|id| ProducerIdentity { id, epoch: 0 }).map_err(of),
        Some(id) if half_known && may(id) => {
            Err((Code::InvalidRequest, "an id and an epoch are known together".into()))
        }
        Some(id) => broker.init_producer(id, timeout_ms, (known != NOBODY).then_some(known)).map_err(of),
    };
    tell(call.explained, || match (transactional_id, &made) {
        (None, Ok(made)) => format!("an id for an idempotent producer: {}", made.id),
        (Some(id), Ok(made)) => format!("{id} is producer {} in epoch {} from here on", made.id, made.epoch),
        (_, Err((_, why))) => format!("no id for a producer: {why}"),
    });
    let mut w = call.respond();
    w.throttle_time();
    w.i16("error_code", made.as_ref().map_or_else(|(code, _)| *code, |_| Code::None).into());
    write_identity(&mut w, made.unwrap_or(NOBODY));
    w.tags();
    Ok(())
}

fn write_identity(w: &mut Writer<'_>, ProducerIdentity { id, epoch }: ProducerIdentity) {
    w.i64("producer_id", id);
    w.i16("producer_epoch", epoch);
}

/// What the fields are called in which an API answers for each of a topic's partitions.
pub(super) struct AnswerNames {
    pub(super) topics: &'static str,
    pub(super) partitions: &'static str,
    pub(super) error_code: &'static str,
}

impl AnswerNames {
    /// AddPartitionsToTxn before version 4.
    const OF_ONE: AnswerNames = AnswerNames { topics: "results_by_topic_v3_and_below", ..AnswerNames::OF_SEVERAL };
    /// AddPartitionsToTxn, for each transaction.
    const OF_SEVERAL: AnswerNames =
        AnswerNames { topics: "topic_results", partitions: "results_by_partition", error_code: "partition_error_code" };
    /// WriteTxnMarkers.
    pub(super) const OF_MARKER: AnswerNames =
        AnswerNames { topics: "topics", partitions: "partitions", error_code: "error_code" };
}

/// A topic, and those of its partitions that something is asked of.
pub(super) struct AskedTopic<'a> {
    pub(super) name: &'a str,
    pub(super) indexes: Vec<i32>,
}

impl<'a> AskedTopic<'a> {
    /// Reads all of them, which are in the field `topics`, and the numbers of a topic's partitions in the field `partitions`.
    pub(super) fn read_all(
        r: &mut Reader<'a>,
        topics: &'static str,
        partitions: &'static str,
    ) -> wire::Result<Vec<AskedTopic<'a>>> {
        r.array(topics, |r| {
            let topic = AskedTopic { name: r.string("name")?, indexes: r.array(partitions, |r| r.i32(ITEM))? };
            r.tags()?;
            Ok(topic)
        })
    }

    /// Writes topics with a code for each of their partitions, in order.
    pub(super) fn write_all(topics: &[AskedTopic<'_>], w: &mut Writer<'_>, codes: &[Code], names: &AnswerNames) {
        let mut codes = codes.iter();
        w.array(names.topics, topics.iter(), |w, topic| {
            w.string("name", topic.name);
            w.array(names.partitions, topic.indexes.iter().zip(&mut codes), |w, (index, &code)| {
                w.i32("partition_index", *index);
                w.i16(names.error_code, code.into());
                w.tags();
            });
            w.tags();
        });
    }

    /// The same in words.
    pub(super) fn shown_all(topics: &[AskedTopic<'_>], codes: &[Code]) -> String {
        let all = topics.iter().flat_map(|topic| topic.indexes.iter().map(|index| format!("{}/{index}", topic.name)));
        let all: Vec<String> = all.zip(codes).map(|(name, code)| with_code(name, *code)).collect();
        shown_list(all.into_iter())
    }
}

/// What is asked of one transaction's partitions.
struct Asked<'a> {
    transactional_id: &'a str,
    producer: ProducerIdentity,
    verify_only: bool,
    topics: Vec<AskedTopic<'a>>,
}

impl<'a> Asked<'a> {
    fn read(r: &mut Reader<'a>) -> wire::Result<Asked<'a>> {
        if r.version < 4 {
            let transactional_id = r.string("v3_and_below_transactional_id")?;
            let (id, epoch) = (r.i64("v3_and_below_producer_id")?, r.i16("v3_and_below_producer_epoch")?);
            let topics = AskedTopic::read_all(r, "v3_and_below_topics", "partitions")?;
            return Ok(Asked {
                transactional_id,
                producer: ProducerIdentity { id, epoch },
                verify_only: false,
                topics,
            });
        }
        let (transactional_id, producer) = (r.string("transactional_id")?, read_identity(r)?);
        let verify_only = r.bool("verify_only")?;
        let topics = AskedTopic::read_all(r, "topics", "partitions")?;
        Ok(Asked { transactional_id, producer, verify_only, topics })
    }

    /// Answers the code of each partition, in order.
    fn add(&self, broker: &Broker, version: i16) -> Vec<Code> {
        let mut partitions = Vec::new();
        for AskedTopic { name, indexes } in &self.topics {
            let topic: Arc<str> = (*name).into();
            let of = |&index: &i32| TopicPartition { topic: topic.clone(), partition: partition_index(index) };
            partitions.extend(indexes.iter().map(of));
        }
        if partitions.iter().any(|of| is_internal(&of.topic)) {
            return vec![Code::InvalidTopicException; partitions.len()];
        }
        let outcomes = broker.add_partitions(self.transactional_id, self.producer, &partitions, self.verify_only);
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => return vec![code(&error, version, FENCED_SINCE); partitions.len()],
        };
        let of = |outcome: &Result<()>| match outcome {
            Ok(()) => Code::None,
            Err(error) => code(error, version, FENCED_SINCE),
        };
        let mut codes: Vec<Code> = outcomes.iter().map(of).collect();
        // Where one is unknown, or not the caller's to write to, none is added.
        if [Code::UnknownTopicOrPartition, Code::TopicAuthorizationFailed].iter().any(|code| codes.contains(code)) {
            codes.iter_mut().filter(|code| **code == Code::None).for_each(|code| *code = Code::OperationNotAttempted);
        }
        codes
    }
}

/// AddPartitionsToTxn (key 24). Since version 4 it is what brokers ask, about several transactions, and may be only to verify.
pub(super) fn add_partitions_to_txn(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> std::result::Result<(), Stop> {
    let asked = if r.version < 4 {
        vec![Asked::read(r)?]
    } else {
        r.array("transactions", |r| {
            let asked = Asked::read(r)?;
            r.tags()?;
            Ok(asked)
        })?
    };
    r.tags()?;
    let version = call.version;
    let of_brokers =
        if version < 4 { Ok(call.broker.clone()) } else { call.broker.for_cluster(Operation::ClusterAction) };
    let whole = of_brokers.as_ref().map_or_else(Error::code, |_| Code::None);
    let asked = if whole == Code::None { asked } else { Vec::new() };
    let codes: Vec<Vec<Code>> = of_brokers
        .map_or_else(|_| Vec::new(), |broker| asked.iter().map(|asked| asked.add(&broker, version)).collect());
    for (Asked { transactional_id, topics, .. }, codes) in asked.iter().zip(&codes) {
        tell(call.explained, || {
            format!("into the transaction of {transactional_id}: {}", AskedTopic::shown_all(topics, codes))
        });
    }
    let mut w = call.respond();
    w.throttle_time();
    if w.version < 4 {
        AskedTopic::write_all(&asked[0].topics, &mut w, &codes[0], &AnswerNames::OF_ONE);
    } else {
        w.i16("error_code", whole.into());
        w.array("results_by_transaction", asked.iter().zip(&codes), |w, (asked, codes)| {
            w.string("transactional_id", asked.transactional_id);
            AskedTopic::write_all(&asked.topics, w, codes, &AnswerNames::OF_SEVERAL);
            w.tags();
        });
    }
    w.tags();
    Ok(())
}

/// AddOffsetsToTxn (key 25).
pub(super) fn add_offsets_to_txn(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> std::result::Result<(), Stop> {
    let (transactional_id, producer, group) = (r.string("transactional_id")?, read_identity(r)?, r.string("group_id")?);
    r.tags()?;
    let added = call.broker.add_group(transactional_id, producer, group);
    tell(call.explained, || {
        let refused = refused(&added);
        format!("group {group} into the transaction of {transactional_id}{refused}")
    });
    let code = added.as_ref().map_or_else(|error| code(error, call.version, FENCED_SINCE), |()| Code::None);
    let mut w = call.respond();
    w.throttle_time();
    w.i16("error_code", code.into());
    w.tags();
    Ok(())
}

/// What is written in a transaction that it is not in is added to it, as long as the feature is not off.
pub(super) fn if_new(broker: &Broker) -> IfAbsent {
    match broker.needs_feature(TRANSACTION_VERSION) {
        Ok(()) => IfAbsent::Add,
        Err(_) => IfAbsent::Off(TRANSACTION_VERSION),
    }
}

/// EndTxn (key 26).
pub(super) fn end_txn(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> std::result::Result<(), Stop> {
    let (transactional_id, producer) = (r.string("transactional_id")?, read_identity(r)?);
    let outcome = if r.bool("committed")? { Outcome::Commit } else { Outcome::Abort };
    r.tags()?;
    let epochs = if call.version >= 5 { Epochs::Raised } else { Epochs::Kept };
    let may = if epochs == Epochs::Raised { call.broker.needs_feature(TRANSACTION_VERSION) } else { Ok(()) };
    let ended = may.and_then(|()| call.broker.end_transaction(transactional_id, producer, outcome, epochs));
    tell(call.explained, || match &ended {
        Ok(next) => {
            format!("{} of the transaction of {transactional_id}; the next is in epoch {}", outcome.name(), next.epoch)
        }
        Err(error) => format!("{} of the transaction of {transactional_id} is refused: {error}", outcome.name()),
    });
    let code = ended.as_ref().map_or_else(|error| code(error, call.version, FENCED_SINCE), |_| Code::None);
    let mut w = call.respond();
    w.throttle_time();
    w.i16("error_code", code.into());
    if w.version >= 5 {
        write_identity(&mut w, ended.unwrap_or(NOBODY));
    }
    w.tags();
    Ok(())
}
