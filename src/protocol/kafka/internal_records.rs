//! The broker's own topics as Kafka's clients know them: a line becomes the binary record that Kafka would have written.
//!
//! ```text
//! key:analytics/orders/0 message:offset:42 ...    ->  OffsetCommitKey 1                        OffsetCommitValue 4
//! key:analytics/group message:type:classic ...    ->  GroupMetadataKey 2                       GroupMetadataValue 3
//! key:analytics/group message:type:consumer ...   ->  ConsumerGroupMetadataKey 3               ... Value 0
//! key:jobs/group message:type:share ...           ->  ShareGroupMetadataKey 11                 ... Value 0
//! key:analytics/member:m message:number:1 ...     ->  ConsumerGroupMemberMetadataKey 5         ... Value 0
//! key:analytics/target:m message:partitions:...   ->  ConsumerGroupTargetAssignmentMemberKey 7 ... Value 0
//! key:analytics/current:m message:epoch:3 ...     ->  ConsumerGroupCurrentMemberAssignmentKey 8 ... Value 0
//! key:transfer-1 message:state:ongoing ...        ->  TransactionLogKey 0                      TransactionLogValue 1
//! key:jobs/orders/0 message:start:17 ...          ->  ShareSnapshotKey 0                       ShareSnapshotValue 0
//! ```
//!
//! Key and value each begin with the version of their schema. A line that Kafka has no such record for stays as it stands. In which
//! epoch targets were set (Kafka's key 6) is in a group's line, and what a pattern matched (16) nowhere: neither is a record here. A
//! line of a share group says all that holds, so each is a snapshot, and none a change of one (Kafka's key 1). A topic that is gone
//! has no id any more: its partitions are left out, and how far share groups were in it stays a line.

use super::wire::{ITEM, Uuid, Writer};
use crate::{
    broker::{
        Committed, Epochs, InternalRecord,
        group::{
            MemberRecord, Part, SavedClassic, SavedCurrent, SavedGroup, SavedKind, SavedMember, SavedSubscription,
            consumer::{Owned, heartbeat::AWAY},
        },
        share_partition::SavedShare,
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

/// The record that Kafka has for a line of `topic`, where topics have these ids; `None`: the line is the record.
pub(super) fn binary(
    topic: &str,
    fields: &Fields<'_>,
    timestamp_ms: i64,
    id_of: impl Fn(&str) -> Option<Uuid>,
) -> Option<Binary> {
    let (key, value) = (unescape(fields.key?).ok()?, fields.value.bytes().ok()?);
    match InternalRecord::read(topic, &key, value.as_deref(), timestamp_ms)? {
        InternalRecord::Offset { group, topic, partition, committed } => Some(Binary {
            key: versioned(1, false, |w| {
                w.string("group", &group);
                w.string("topic", &topic);
                w.i32("partition", partition as i32);
            }),
            value: committed.map(|committed| offset_value(&committed, id_of(&topic))),
        }),
        InternalRecord::Group { name, saved } => {
            let (key, value) = match saved {
                None => (2, None),
                Some(SavedGroup { kind: SavedKind::Classic(classic), generation, .. }) => {
                    (2, Some(group_value(&classic, generation, timestamp_ms)))
                }
                Some(SavedGroup { kind: SavedKind::Consumer { .. }, generation, .. }) => {
                    (3, Some(flexible(|w| w.i32("epoch", generation))))
                }
                // The hash of the topics is something that only Kafka's coordinator compares.
                Some(SavedGroup { kind: SavedKind::Share(_), generation, .. }) => {
                    let epoch = |w: &mut Writer<'_>| {
                        w.i32("epoch", generation);
                        w.i64("metadata_hash", 0);
                    };
                    (11, Some(flexible(epoch)))
                }
            };
            Some(Binary { key: versioned(key, false, |w| w.string("group", &name)), value })
        }
        InternalRecord::Member { group, member_id, part, record } => {
            let key = match part {
                Part::Subscription => 5,
                Part::Target => 7,
                Part::Current => 8,
            };
            let key = versioned(key, false, |w| {
                w.string("group_id", &group);
                w.string("member_id", &member_id);
            });
            Some(Binary { key, value: record.map(|record| member_value(&record, id_of)) })
        }
        InternalRecord::Share { group, topic, partition, saved } => {
            let id = id_of(&topic)?;
            let key = versioned(0, false, |w| {
                w.string("group_id", &group);
                w.uuid("topic_id", &id);
                w.i32("partition", partition as i32);
            });
            Some(Binary { key, value: saved.map(|saved| share_value(&saved, timestamp_ms)) })
        }
        InternalRecord::Transaction { id, state } => Some(Binary {
            key: versioned(0, false, |w| w.string("transactional_id", &id)),
            value: state.map(|state| transaction_value(&state, timestamp_ms)),
        }),
    }
}

fn versioned(version: i16, flexible: bool, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = version.to_be_bytes().to_vec();
    write(&mut Writer { out: &mut out, version, flexible, spans: None, refused: None, throttle_at: None });
    out
}

/// A value of version 0 whose fields these are, and that ends with no tagged one.
fn flexible(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    versioned(0, true, |w| {
        write(w);
        w.tags();
    })
}

fn member_value(record: &MemberRecord, id_of: impl Fn(&str) -> Option<Uuid>) -> Vec<u8> {
    match record {
        MemberRecord::Subscription(subscription) => subscription_value(subscription),
        MemberRecord::Target(target) => flexible(|w| {
            let target = target.iter().map(|(topic, partition)| (&**topic, *partition, 0));
            write_partitions(w, "topic_partitions", &by_topic(target, id_of), false);
        }),
        MemberRecord::Current(current) => flexible(|w| {
            let SavedCurrent { epoch, previous_epoch, is_away, waits, owned, gives_up } = current;
            w.i32("member_epoch", if *is_away { AWAY } else { *epoch });
            w.i32("previous_member_epoch", *previous_epoch);
            w.i8("state", if !gives_up.is_empty() { 1 } else { i8::from(*waits) * 2 });
            for (field, owned) in [("assigned_partitions", owned), ("partitions_pending_revocation", gives_up)] {
                let owned = owned.iter().map(|Owned { topic, partition, since }| (&**topic, *partition, *since));
                write_partitions(w, field, &by_topic(owned, &id_of), true);
            }
        }),
    }
}

fn subscription_value(subscription: &SavedSubscription) -> Vec<u8> {
    versioned(0, true, |w| {
        w.nullable_string("instance_id", subscription.instance_id.as_deref());
        w.nullable_string("rack_id", subscription.rack_id.as_deref());
        w.string("client_id", &subscription.client_id);
        w.string("client_host", &subscription.client_host);
        w.array("subscribed_topic_names", subscription.names.iter(), |w, name| w.string(ITEM, name));
        w.nullable_string("subscribed_topic_regex", Some(subscription.pattern.as_deref().unwrap_or_default()));
        w.i32("rebalance_timeout_ms", subscription.rebalance_timeout_ms as i32);
        w.nullable_string("server_assignor", subscription.assignor.as_deref());
        w.uvarint("_tagged_fields", 1);
        w.tagged(0, |w| {
            let is_classic = !subscription.protocols.is_empty();
            w.uvarint("classic_member_metadata", is_classic.into());
            if is_classic {
                w.i32("session_timeout_ms", subscription.session_timeout_ms as i32);
                w.array("supported_protocols", subscription.protocols.iter(), |w, protocol| {
                    w.string("name", &protocol.name);
                    w.bytes("metadata", &protocol.metadata);
                    w.tags();
                });
                w.tags();
            }
        });
    })
}

/// A topic's partitions, and since which epoch they are a member's.
struct TopicPartitions {
    id: Uuid,
    partitions: Vec<u32>,
    since: Vec<i32>,
}

/// Those of topics that are there.
fn by_topic<'a>(
    partitions: impl Iterator<Item = (&'a str, u32, i32)>,
    id_of: impl Fn(&str) -> Option<Uuid>,
) -> Vec<TopicPartitions> {
    let (mut topics, mut last) = (Vec::<TopicPartitions>::new(), None);
    for (topic, partition, since) in partitions {
        if last != Some(topic) {
            let Some(id) = id_of(topic) else { continue };
            topics.push(TopicPartitions { id, partitions: vec![], since: vec![] });
            last = Some(topic);
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(partition);
            topic.since.push(since);
        }
    }
    topics
}

fn write_partitions(w: &mut Writer<'_>, field: &'static str, topics: &[TopicPartitions], with_epochs: bool) {
    w.array(field, topics.iter(), |w, TopicPartitions { id, partitions, since }| {
        w.uuid("topic_id", id);
        w.array("partitions", partitions.iter(), |w, &partition| w.i32(ITEM, partition as i32));
        w.uvarint("_tagged_fields", with_epochs.into());
        if with_epochs {
            w.tagged(0, |w| w.array("assignment_epochs", since.iter(), |w, &since| w.i32(ITEM, since)));
        }
    });
}

fn offset_value(committed: &Committed, topic_id: Option<Uuid>) -> Vec<u8> {
    let Committed { offset, leader_epoch, metadata, timestamp_ms } = committed;
    versioned(4, true, |w| {
        w.i64("offset", *offset);
        w.i32("leader_epoch", *leader_epoch);
        w.string("metadata", metadata);
        w.i64("commit_timestamp", *timestamp_ms);
        w.uvarint("_tagged_fields", topic_id.is_some().into());
        topic_id.iter().for_each(|id| w.tagged(0, |w| w.uuid("topic_id", id)));
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

/// What is done may be processed or rejected, after however many deliveries: a line has no more of it than that.
fn share_value(saved: &SavedShare, timestamp_ms: i64) -> Vec<u8> {
    const AVAILABLE: i8 = 0;
    const ACKNOWLEDGED: i8 = 2;
    let done = saved.done.iter().map(|offsets| (offsets, ACKNOWLEDGED, 1));
    let counts = saved.counts.iter().map(|count| (&count.offsets, AVAILABLE, count.deliveries));
    let mut batches: Vec<_> = done.chain(counts).collect();
    batches.sort_by_key(|(offsets, ..)| offsets.start);
    versioned(0, true, |w| {
        w.i32("snapshot_epoch", 0);
        w.i32("state_epoch", 0);
        w.i32("leader_epoch", saved.leader_epoch as i32);
        w.i64("start_offset", saved.start.map_or(-1, |start| start as i64));
        w.i64("create_timestamp", timestamp_ms);
        w.i64("write_timestamp", timestamp_ms);
        w.array("state_batches", batches.into_iter(), |w, (offsets, state, deliveries)| {
            w.i64("first_offset", offsets.start as i64);
            w.i64("last_offset", offsets.end as i64 - 1);
            w.i8("delivery_state", state);
            w.i16("delivery_count", deliveries as i16);
            w.tags();
        });
        w.uvarint("_tagged_fields", saved.start.is_some().into());
        if saved.start.is_some() {
            w.tagged(0, |w| w.i32("delivery_complete_count", i32::try_from(saved.done_count()).unwrap_or(i32::MAX)));
        }
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

    const ID: Uuid = *b"\xc7\x9c\xd7\xf1\x34\x28A\xb5\x91X\n\xfb-\x1b\x06\x87";

    fn read(topic: &str, line: &str) -> Option<Binary> {
        let line = format!("offset:1 {line}\n");
        let line = Lines::new(line.as_bytes(), 0x01a2_27ea_7b87, Flags::NONE).next().unwrap().unwrap();
        binary(topic, &line.split().unwrap(), line.timestamp, |topic| (topic == "orders").then_some(ID))
    }

    /// The bytes are those that Apache Kafka 4.3.1 wrote for the same.
    #[test]
    fn lines_become_the_records_that_kafka_would_have_written() {
        let offset = read("__consumer_offsets", "key:g9/orders/0 message:offset:42 epoch:3 metadata:meta").unwrap();
        assert_eq!(offset.key, b"\0\x01\0\x02g9\0\x06orders\0\0\0\0");
        let value = b"\0\x04\0\0\0\0\0\0\0*\0\0\0\x03\x05meta\0\0\x01\xa2\x27\xea\x7b\x87";
        assert_eq!(offset.value.unwrap(), [&value[..], b"\x01\0\x10", &ID].concat());
        let gone = read("__consumer_offsets", "key:g9/gone/0 message:offset:42 epoch:3 metadata:meta").unwrap();
        assert_eq!(gone.value.unwrap(), [&value[..], b"\0"].concat());
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

    /// The bytes are those that Apache Kafka 4.3.1 wrote for the same, but for the hash of topics that it has with the epoch.
    #[test]
    fn lines_of_members_become_the_records_that_kafka_would_have_written() {
        let read = |line: &str| {
            let Binary { key, value } = read("__consumer_offsets", line).unwrap();
            (key, value.unwrap())
        };
        let group = read("key:cg/group message:type:consumer generation:2 last_member:1");
        assert_eq!(group, (b"\0\x03\0\x02cg".into(), b"\0\0\0\0\0\x02\0".into()));
        let share = read("key:jobs/group message:type:share generation:3 had:orders/1");
        assert_eq!(share, (b"\0\x0b\0\x04jobs".into(), b"\0\0\0\0\0\x03\0\0\0\0\0\0\0\0\0".into()));
        let (key, value) = read(
            "key:cg/member:a message:number:1 rack:rk client:diff host:/127.0.0.1 session:45000 rebalance:30000 topic:orders",
        );
        assert_eq!(key, b"\0\x05\0\x02cg\0\x01a");
        assert_eq!(value, b"\0\0\0\x03rk\x05diff\x0b/127.0.0.1\x02\x07orders\x01\0\0u0\0\x01\0\x01\0");
        let (_, value) = read(
            "key:cg/member:b message:number:2 instance:i client:diff host:/127.0.0.1 session:45000 rebalance:30000 \
             assignor:range pattern:or.*",
        );
        assert_eq!(value, b"\0\0\x02i\0\x05diff\x0b/127.0.0.1\x01\x05or.*\0\0u0\x06range\x01\0\x01\0");
        let (_, value) = read(
            "key:cg/member:c message:number:3 instance:j client:diff host:/127.0.0.1 session:10000 rebalance:20000 topic:orders \
             protocol:range metadata:\\x00\\x00\\x00\\x00\\x00\\x01\\x00\\x06orders\\xff\\xff\\xff\\xff",
        );
        let classic = b"\x01\0!\x01\0\0'\x10\x02\x06range\x13\0\0\0\0\0\x01\0\x06orders\xff\xff\xff\xff\0\0";
        let begin = b"\0\0\x02j\0\x05diff\x0b/127.0.0.1\x02\x07orders\x01\0\0N \0";
        assert_eq!(value, [&begin[..], classic].concat());

        let (key, value) = read("key:cg/target:a message:partitions:gone/7,orders/2,orders/3");
        assert_eq!(key, b"\0\x07\0\x02cg\0\x01a");
        assert_eq!(value, [&b"\0\0\x02"[..], &ID, b"\x03\0\0\0\x02\0\0\0\x03\0\0"].concat());
        let (key, value) = read("key:cg/current:a message:epoch:2 previous:0 owned:orders/0@2,orders/1@2");
        assert_eq!(key, b"\0\x08\0\x02cg\0\x01a");
        let two = |first: &[u8], second: &[u8], since: &[u8]| {
            let epochs = [b"\x01\0\x09\x03", since, since].concat();
            [b"\x02", &ID[..], b"\x03", first, second, &epochs].concat()
        };
        let (zero, one, epoch_2) = (b"\0\0\0\0", b"\0\0\0\x01", b"\0\0\0\x02");
        assert_eq!(value, [b"\0\0\0\0\0\x02\0\0\0\0\0", &two(zero, one, epoch_2)[..], b"\x01\0"].concat());
        let (_, value) =
            read("key:cg/current:a message:epoch:2 owned:orders/2@2,orders/3@2 gives_up:orders/0@2,orders/1@2");
        let kept = two(epoch_2, b"\0\0\0\x03", epoch_2);
        let expected = [b"\0\0\0\0\0\x02\0\0\0\x02\x01", &kept[..], &two(zero, one, epoch_2), b"\0"].concat();
        assert_eq!(value, expected);
        let (_, value) = read("key:cg/current:b message:epoch:3 previous:2 waits:yes owned:");
        assert_eq!(value, b"\0\0\0\0\0\x03\0\0\0\x02\x02\x01\x01\0");
        let (_, value) = read("key:cg/current:b message:epoch:3 away:yes owned:");
        assert_eq!(value, b"\0\0\xff\xff\xff\xfe\0\0\0\x03\0\x01\x01\0");
    }

    /// The bytes are those that Apache Kafka 4.3.1 wrote for a group that nobody has read in, and what its own classes come to for the
    /// rest; the epochs are those of its coordinators.
    #[test]
    fn lines_of_share_groups_become_the_snapshots_that_kafka_would_have_written() {
        let unread = read("__share_group_state", "key:jobs/orders/2 message:start:-1 epoch:0").unwrap();
        assert_eq!(unread.key, [b"\0\0\0\x04jobs", &ID[..], b"\0\0\0\x02"].concat());
        let time = b"\0\0\x01\xa2\x27\xea\x7b\x87";
        let nowhere = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(unread.value.unwrap(), [nowhere, &time[..], time, b"\x01\0"].concat());
        let line = "key:a/jobs/orders/0 message:start:17 epoch:3 acked:19-22,25 counts:18=2,23-24=1";
        let read_by_some = read("__share_group_state", line).unwrap();
        assert_eq!(read_by_some.key, [b"\0\0\0\x06a/jobs", &ID[..], b"\0\0\0\0"].concat());
        let batch = |first, last, rest: &[u8]| [&[0; 7], &[first][..], &[0; 7], &[last], rest, &[0]].concat();
        let expected = [
            &b"\0\0\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x11"[..],
            time,
            time,
            b"\x05",
            &batch(18, 18, b"\0\0\x02"),
            &batch(19, 22, b"\x02\0\x01"),
            &batch(23, 24, b"\0\0\x01"),
            &batch(25, 25, b"\x02\0\x01"),
            b"\x01\0\x04\0\0\0\x05",
        ];
        assert_eq!(read_by_some.value.unwrap(), expected.concat());
        assert_eq!(read("__share_group_state", "key:jobs/gone/0 message:start:1 epoch:0"), None, "it has no id");
    }

    #[test]
    fn the_end_of_something_has_its_key_and_no_value() {
        for (topic, line) in [
            ("__consumer_offsets", "key:g/orders/0 tombstone"),
            ("__consumer_offsets", "key:g/group tombstone"),
            ("__consumer_offsets", "key:g/member:m tombstone"),
            ("__consumer_offsets", "key:g/target:m tombstone"),
            ("__consumer_offsets", "key:g/current:m tombstone"),
            ("__transaction_state", "key:tx tombstone"),
            ("__share_group_state", "key:g/orders/0 tombstone"),
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
            ("__transaction_state", "key:tx message:state:nonsense"),
            ("__share_group_state", "key:jobs message:start:1 epoch:0"),
            ("__share_group_state", "key:jobs/orders/0 message:start:nonsense"),
        ] {
            assert_eq!(read(topic, line), None, "{topic}: {line}");
        }
    }
}
