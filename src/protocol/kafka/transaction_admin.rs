//! Transactions as administrators look at them, and end those that hang: ListTransactions, DescribeTransactions,
//! DescribeProducers, WriteTxnMarkers (KIP-664). `kafka-transactions.sh` asks nothing else.
//!
//! WriteTxnMarkers is what a coordinator sends to the leaders of partitions. Here the two are one, so only those send it who
//! abort what no coordinator knows any more; the marker keeps the coordinator epoch that they name.

use super::{
    Call, Code, Refusal, Stop, partition_index, shown_list, tell,
    transactions::{AnswerNames, AskedTopic},
    wire::{ITEM, Reader},
    write_code,
};
use crate::{
    broker::{Error, Marker, Outcome, Pattern, ResourceName, TransactionDescription, check_name},
    security::Operation,
};
use std::collections::{BTreeMap, BTreeSet};

/// The states that Kafka knows, and so do filters.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// ListTransactions (key 66). Filters that name no state are named back and match nothing.
pub(super) fn list_transactions(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let states: BTreeSet<&str> = r.array("state_filters", |r| r.string(ITEM))?.into_iter().collect();
    let producer_ids: BTreeSet<i64> = r.array("producer_id_filters", |r| r.i64(ITEM))?.into_iter().collect();
    let duration_ms = if r.version >= 1 { r.i64("duration_filter")? } else { -1 };
    let pattern = if r.version >= 2 { r.nullable_string("transactional_id_pattern")? } else { None };
    r.tags()?;
    tell(call.explained, || "which transactions there are".into());
    let pattern = pattern.filter(|pattern| !pattern.is_empty()).map(Pattern::new).transpose();
    let listed = match &pattern {
        Ok(_) => call.broker.transactions().map_err(|error| error.code()),
        Err(_) => Err(Code::InvalidRegularExpression),
    };
    let code = listed.as_ref().map_or_else(|code| *code, |_| Code::None);
    let is_named = |id: &str| pattern.iter().flatten().all(|pattern| pattern.matches(id));
    let unknown: Vec<&str> = states.iter().copied().filter(|name| !STATES.contains(name)).collect();
    let old = call.broker.now_ms().saturating_sub(duration_ms.max(0));
    let mut listed = listed.unwrap_or_default();
    listed.retain(|one| {
        (states.is_empty() || states.contains(one.kafka_state))
            && (producer_ids.is_empty() || producer_ids.contains(&one.producer.id))
            // As in Kafka, an id that never had one (-1) is as old as can be.
            && (duration_ms <= 0 || one.since_ms < old)
            && is_named(&one.transactional_id)
    });
    let mut w = call.respond();
    w.throttle_time();
    w.i16("error_code", code.into());
    w.array("unknown_state_filters", unknown.iter(), |w, name| w.string(ITEM, name));
    w.array("transaction_states", listed.iter(), |w, one| {
        w.string("transactional_id", &one.transactional_id);
        w.i64("producer_id", one.producer.id);
        w.string("transaction_state", one.kafka_state);
        w.tags();
    });
    w.tags();
    Ok(())
}

/// DescribeTransactions (key 65).
pub(super) fn describe_transactions(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    // Each is answered once: its partitions may take many times the bytes of its id.
    let ids: BTreeSet<&str> = r.array("transactional_ids", |r| r.string(ITEM))?.into_iter().collect();
    r.tags()?;
    tell(call.explained, || {
        format!("what is in the transactions of {}", shown_list(ids.iter().map(|id| id.to_string())))
    });
    let describe = |id: &&str| match *id {
        "" => Err(Code::InvalidRequest),
        id => call.broker.transaction(id).map_err(|error| error.code()),
    };
    let described: Vec<_> = ids.iter().map(describe).collect();
    let mut w = call.respond();
    w.throttle_time();
    w.array("transaction_states", ids.iter().zip(&described), |w, (id, described)| {
        w.i16("error_code", described.as_ref().map_or_else(|code| *code, |_| Code::None).into());
        w.string("transactional_id", id);
        let topics = described.as_ref().map(by_topic).unwrap_or_default();
        let summary = described.as_ref().ok().map(|described| &described.summary);
        w.string("transaction_state", summary.map_or("", |one| one.kafka_state));
        w.i32("transaction_timeout_ms", summary.map_or(0, |one| one.timeout_ms as i32));
        w.i64("transaction_start_time_ms", summary.map_or(0, |one| one.since_ms));
        w.i64("producer_id", summary.map_or(0, |one| one.producer.id));
        w.i16("producer_epoch", summary.map_or(0, |one| one.producer.epoch));
        w.array("topics", topics.iter(), |w, (topic, indexes)| {
            w.string("topic", topic);
            w.array("partitions", indexes.iter(), |w, &index| w.i32(ITEM, index as i32));
            w.tags();
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

fn by_topic(described: &TransactionDescription) -> BTreeMap<&str, Vec<u32>> {
    let mut topics: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for of in &described.partitions {
        topics.entry(&of.topic).or_default().push(of.partition);
    }
    topics
}

/// DescribeProducers (key 61): who writes to a partition with sequences, and since where in a transaction.
pub(super) fn describe_producers(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    r.array("topics", |r| {
        topics.entry(r.string("name")?).or_default().extend(r.array("partition_indexes", |r| r.i32(ITEM))?);
        r.tags()
    })?;
    r.tags()?;
    tell(call.explained, || {
        let all = topics.iter().flat_map(|(name, indexes)| indexes.iter().map(move |index| format!("{name}/{index}")));
        format!("who writes to {}", shown_list(all.collect::<Vec<_>>().into_iter()))
    });
    let broker = call.broker;
    let mut w = call.respond();
    w.throttle_time();
    w.array("topics", topics.iter(), |w, (name, indexes)| {
        w.string("name", name);
        w.array("partitions", indexes.iter(), |w, &index| {
            let known = broker.ask(Operation::Read, ResourceName::topic(name)).and_then(|_| check_name(name));
            let producers = known.and_then(|()| broker.active_producers(name, partition_index(index)));
            let producers = producers.map_err(Refusal::from);
            w.i32("partition_index", index);
            write_code(w, producers.as_ref().err());
            w.array("active_producers", producers.unwrap_or_default().iter(), |w, producer| {
                w.i64("producer_id", producer.producer_id);
                w.i32("producer_epoch", producer.producer_epoch.into());
                w.i32("last_sequence", producer.last_sequence);
                w.i64("last_timestamp", producer.last_timestamp);
                w.i32("coordinator_epoch", producer.coordinator_epoch);
                w.i64("current_txn_start_offset", producer.transaction_first.map_or(-1, |first| first as i64));
                w.tags();
            });
            w.tags();
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

/// A marker, and where it is to be written.
struct AskedMarker<'a> {
    marker: Marker,
    topics: Vec<AskedTopic<'a>>,
}

/// WriteTxnMarkers (key 27). Markers for nothing are not answered, as in Kafka.
pub(super) fn write_txn_markers(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let mut asked = r.array("markers", |r| {
        let (producer_id, producer_epoch) = (r.i64("producer_id")?, r.i16("producer_epoch")?);
        let outcome = if r.bool("transaction_result")? { Outcome::Commit } else { Outcome::Abort };
        let topics = AskedTopic::read_all(r, "topics", "partition_indexes")?;
        let coordinator_epoch = r.i32("coordinator_epoch")?;
        if r.version >= 2 {
            // Whether the epoch was raised for the marker. It says that itself.
            r.i8("transaction_version")?;
        }
        r.tags()?;
        let marker = Marker { producer_id, producer_epoch, outcome, coordinator_epoch };
        Ok(AskedMarker { marker, topics })
    })?;
    r.tags()?;
    asked.iter_mut().for_each(|asked| asked.topics.retain(|topic| !topic.indexes.is_empty()));
    asked.retain(|asked| !asked.topics.is_empty());
    let broker = call.broker;
    let write = |asked: &AskedMarker<'_>| -> Vec<Code> {
        let each = asked.topics.iter().flat_map(|topic| topic.indexes.iter().map(|&index| (topic.name, index)));
        let written = each.map(|(name, index)| broker.write_marker(name, partition_index(index), asked.marker));
        written.map(|written| written.as_ref().map_or_else(Error::code, |()| Code::None)).collect()
    };
    let codes: Vec<Vec<Code>> = asked.iter().map(write).collect();
    for (AskedMarker { marker, topics }, codes) in asked.iter().zip(&codes) {
        tell(call.explained, || {
            let each = AskedTopic::shown_all(topics, codes);
            format!("{} of producer {}: {each}", marker.outcome.name(), marker.producer_id)
        });
    }
    let mut w = call.respond();
    w.array("markers", asked.iter().zip(&codes), |w, (asked, codes)| {
        w.i64("producer_id", asked.marker.producer_id);
        AskedTopic::write_all(&asked.topics, w, codes, &AnswerNames::OF_MARKER);
        w.tags();
    });
    w.tags();
    Ok(())
}
