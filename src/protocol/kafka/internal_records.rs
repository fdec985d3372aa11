//! The broker's own topics as Kafka's clients know them: a line becomes the binary record that Kafka would have written.
//!
//! ```text
//! key:analytics/orders/0 message:offset:42 ...  ->  OffsetCommitKey 1      OffsetCommitValue 4
//! key:analytics/group message:type:classic ...  ->  GroupMetadataKey 2     GroupMetadataValue 3
//! key:transfer-1 message:state:ongoing ...      ->  TransactionLogKey 0    TransactionLogValue 1
//! ```
//!
//! Key and value each begin with the version of their schema. A line that Kafka has no such record for stays as it stands.

use super::wire::{ITEM, Writer};
use crate::{
    broker::{
        Committed, Epochs, InternalRecord,
        group::{SavedClassic, SavedGroup, SavedKind, SavedMember},
        transaction::{Phase, TransactionState},
    },
    log::{
        Outcome,
        record::{Fields, unescape},
    },
};

/// A key and a value, or the end of what the key names.
#[derive(Debug, PartialEq)]
pub(super) struct Binary {
    /// The key.
    pub(super) key: Vec<u8>,
    /// The value.
    pub(super) value: Option<Vec<u8>>,
}

/// The record that Kafka has for a line of `topic`; `None`: the line is the record.
pub(super) fn binary(topic: &str, fields: &Fields<'_>, timestamp_ms: i64) -> Option<Binary> {
    let (key, value) = (unescape(fields.key?).ok()?, fields.value.bytes().ok()?);
    match InternalRecord::read(topic, &key, value.as_deref(), timestamp_ms)? {
        InternalRecord::Offset { group, topic, partition, committed } => Some(Binary {
            key: versioned(1, false, |w| {
                w.string("group", &group);
                w.string("topic", &topic);
                w.i32("partition", partition as i32);
            }),
            value: committed.map(|committed| offset_value(&committed)),
        }),
        InternalRecord::Group { name, saved } => Some(Binary {
            key: versioned(2, false, |w| w.string("group", &name)),
            value: match saved {
                None => None,
                Some(SavedGroup { kind: SavedKind::Classic(classic), generation, .. }) => {
                    Some(group_value(&classic, generation, timestamp_ms))
                }
                Some(_) => return None,
            },
        }),
        InternalRecord::Transaction { id, state } => Some(Binary {
            key: versioned(0, false, |w| w.string("transactional_id", &id)),
            value: state.map(|state| transaction_value(&state, timestamp_ms)),
        }),
    }
}

fn versioned(version: i16, flexible: bool, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = version.to_be_bytes().to_vec();
    write(&mut Writer { out: &mut out, version, flexible, spans: None, refused: None });
    out
}

fn offset_value(Committed { offset, leader_epoch, metadata, timestamp_ms }: &Committed) -> Vec<u8> {
    versioned(4, true, |w| {
        w.i64("offset", *offset);
        w.i32("leader_epoch", *leader_epoch);
        w.string("metadata", metadata);
        w.i64("commit_timestamp", *timestamp_ms);
        // A client that names topics by name commits no topic id in Kafka either.
        w.tags();
    })
}

fn group_value(classic: &SavedClassic, generation: i32, timestamp_ms: i64) -> Vec<u8> {
    versioned(3, false, |w| {
        w.string("protocol_type", &classic.protocol_type);
        w.i32("generation", generation);
        w.nullable_string("protocol", classic.protocol.as_deref());
        w.nullable_string("leader", classic.leader.as_deref());
        w.i64("current_state_timestamp", timestamp_ms);
        w.array("members", classic.members.iter(), |w, member: &SavedMember| {
            w.string("member_id", &member.member_id);
            w.nullable_string("group_instance_id", member.instance_id.as_deref());
            w.string("client_id", &member.client_id);
            w.string("client_host", &member.client_host);
            w.i32("rebalance_timeout", member.rebalance_timeout_ms as i32);
            w.i32("session_timeout", member.session_timeout_ms as i32);
            w.bytes("subscription", &member.subscription);
            w.bytes("assignment", &member.assignment);
        });
    })
}

fn transaction_value(state: &TransactionState, timestamp_ms: i64) -> Vec<u8> {
    let status = match &state.phase {
        Phase::Empty => 0,
        Phase::Ongoing { .. } => 1,
        Phase::Prepared { outcome: Outcome::Commit, .. } => 2,
        Phase::Prepared { outcome: Outcome::Abort, .. } => 3,
        Phase::Completed { outcome: Outcome::Commit, .. } => 4,
        Phase::Completed { outcome: Outcome::Abort, .. } => 5,
    };
    versioned(1, true, |w| {
        w.i64("producer_id", state.producer.id);
        w.i16("producer_epoch", state.producer.epoch);
        w.i32("transaction_timeout_ms", i32::try_from(state.timeout_ms).unwrap_or(i32::MAX));
        w.i8("transaction_status", status);
        match (&state.phase, state.phase.parts()) {
            // As in Kafka, an id that never had a transaction has no list.
            (Phase::Empty, _) => w.null_array("transaction_partitions"),
            (_, None) => w.empty_array("transaction_partitions"),
            (_, Some(parts)) => w.array("transaction_partitions", parts.topics.iter(), |w, (topic, parts)| {
                w.string("topic", topic);
                w.array("partition_ids", parts.partitions.iter(), |w, &partition| w.i32(ITEM, partition as i32));
                w.tags();
            }),
        }
        w.i64("transaction_last_update_timestamp_ms", timestamp_ms);
        w.i64("transaction_start_timestamp_ms", state.phase.since_ms());
        let raised = state.epochs == Epochs::Raised;
        let tagged = [state.previous.is_some(), state.next_id.is_some(), raised];
        w.uvarint("_tagged_fields", tagged.into_iter().map(u32::from).sum());
        if let Some(previous) = state.previous {
            w.tagged(0, |w| w.i64("previous_producer_id", previous.id));
        }
        if let Some(next) = state.next_id {
            w.tagged(1, |w| w.i64("next_producer_id", next));
        }
        if raised {
            w.tagged(2, |w| w.i16("client_transaction_version", 2));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Lines, batches::Flags};

    fn read(topic: &str, line: &str) -> Option<Binary> {
        let line = format!("offset:1 {line}\n");
        let line = Lines::new(line.as_bytes(), 0x01a2_27ea_7b87, Flags::NONE).next().unwrap().unwrap();
        binary(topic, &line.split().unwrap(), line.timestamp)
    }

    /// The bytes are those that Apache Kafka 4.3.1 wrote for the same.
    #[test]
    fn lines_become_the_records_that_kafka_would_have_written() {
        let offset = read("__consumer_offsets", "key:g9/orders/0 message:offset:42 epoch:3 metadata:meta").unwrap();
        assert_eq!(offset.key, b"\0\x01\0\x02g9\0\x06orders\0\0\0\0");
        let value = b"\0\x04\0\0\0\0\0\0\0*\0\0\0\x03\x05meta\0\0\x01\xa2\x27\xea\x7b\x87\0";
        assert_eq!(offset.value.unwrap(), value);
        let group = read(
            "__consumer_offsets",
            "key:cg/group message:type:classic generation:1 protocol_type:consumer protocol:range leader:m member:m client:diff \
             host:/127.0.0.1 session:10000 rebalance:20000 subscription:sub assignment:abc",
        );
        let group = group.unwrap();
        assert_eq!(group.key, b"\0\x02\0\x02cg");
        let value = b"\0\x03\0\x08consumer\0\0\0\x01\0\x05range\0\x01m\0\0\x01\xa2\x27\xea\x7b\x87\0\0\0\x01\0\x01m\xff\xff\0\x04diff\
                      \0\n/127.0.0.1\0\0N \0\0\x27\x10\0\0\0\x03sub\0\0\0\x03abc";
        assert_eq!(group.value.unwrap(), value);
        let ongoing = "key:tx message:state:ongoing producer_id:0 epoch:0 timeout:60000 since:1795966011425 partitions:orders/0,orders/1 \
                       topics:orders=Nk018hRAQFytWskYqtQduw";
        let transaction = read("__transaction_state", ongoing).unwrap();
        assert_eq!(transaction.key, b"\0\0\0\x02tx");
        let value = b"\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\xea\x60\x01\x02\x07orders\x03\0\0\0\0\0\0\0\x01\0\
                      \0\0\x01\xa2\x27\xea\x7b\x87\0\0\x01\xa2\x27\xea\x88\x21\0";
        assert_eq!(transaction.value.unwrap(), value);
        let done = "key:tx message:state:complete_commit producer_id:0 epoch:1 timeout:60000 since:1795966011425 previous_id:0 \
                    previous_epoch:0 version:2";
        let value =
            b"\0\x01\0\0\0\0\0\0\0\0\0\x01\0\0\xea\x60\x04\x01\0\0\x01\xa2\x27\xea\x7b\x87\0\0\x01\xa2\x27\xea\x88\x21\
                      \x02\0\x08\0\0\0\0\0\0\0\0\x02\x02\0\x02";
        assert_eq!(read("__transaction_state", done).unwrap().value.unwrap(), value);
    }

    #[test]
    fn the_end_of_something_has_its_key_and_no_value() {
        for (topic, line) in [
            ("__consumer_offsets", "key:g/orders/0 tombstone"),
            ("__consumer_offsets", "key:g/group tombstone"),
            ("__transaction_state", "key:tx tombstone"),
        ] {
            let Binary { key, value } = read(topic, line).unwrap();
            assert!(key.starts_with(&[0]) && value.is_none(), "{line}");
        }
    }

    #[test]
    fn what_kafka_has_no_record_for_stays_a_line() {
        for (topic, line) in [
            ("orders", "key:g/orders/0 message:offset:42 epoch:3 metadata:"),
            ("__consumer_offsets", "key:orders message:hello"),
            ("__consumer_offsets", "key:g/orders/0 message:hello"),
            ("__consumer_offsets", "message:hello"),
            ("__consumer_offsets", "key:g/group message:type:consumer generation:3"),
            ("__transaction_state", "key:tx message:state:nonsense"),
        ] {
            assert_eq!(read(topic, line), None, "{topic}: {line}");
        }
    }
}
