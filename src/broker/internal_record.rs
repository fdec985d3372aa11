//! What the records of the broker's own topics say, for whoever shows them in another form than their lines.

use super::{
    Committed,
    committed_offsets::{self, MemberKey},
    group::{MemberRecord, Part, SavedGroup},
    share_coordinator,
    share_partition::SavedShare,
    transaction::TransactionState,
    transaction_coordinator,
};

/// A record of the broker's own topics. Without a value, it says that what its key names is no more.
#[derive(Clone, Debug, PartialEq)]
pub enum InternalRecord {
    /// How far a group has read.
    Offset {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// Its partition.
        partition: u32,
        /// What was committed.
        committed: Option<Committed>,
    },
    /// Who is in a group.
    Group {
        /// Its name.
        name: String,
        /// The group.
        saved: Option<SavedGroup>,
    },
    /// A member of Kafka's in a group whose partitions the broker assigns.
    Member {
        /// The group.
        group: String,
        /// The member's id.
        member_id: String,
        /// Which of its records.
        part: Part,
        /// What it says.
        record: Option<MemberRecord>,
    },
    /// How far a share group is.
    Share {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// Its partition.
        partition: u32,
        /// What the group has of it.
        saved: Option<SavedShare>,
    },
    /// Where a transactional id stands.
    Transaction {
        /// The id.
        id: String,
        /// Its state.
        state: Option<Box<TransactionState>>,
    },
}

impl InternalRecord {
    /// Reads the key and the value of a record of `topic`. `None`: that is no topic of the broker's own, or has no such records.
    pub fn read(topic: &str, key: &[u8], value: Option<&[u8]>, timestamp_ms: i64) -> Option<InternalRecord> {
        let key = std::str::from_utf8(key).ok()?;
        match topic {
            committed_offsets::TOPIC => InternalRecord::of_groups(key, value, timestamp_ms),
            transaction_coordinator::STATE_TOPIC => {
                let state = value.map(|value| TransactionState::parse(value).map(Box::new).ok_or(()));
                Some(InternalRecord::Transaction { id: key.into(), state: state.transpose().ok()? })
            }
            share_coordinator::STATE_TOPIC => {
                let (group, topic, partition) = committed_offsets::parse_key(key)?;
                let saved = value.map(|value| SavedShare::parse(value).ok_or(())).transpose().ok()?;
                Some(InternalRecord::Share { group: group.into(), topic: topic.into(), partition, saved })
            }
            _ => None,
        }
    }

    fn of_groups(key: &str, value: Option<&[u8]>, timestamp_ms: i64) -> Option<InternalRecord> {
        if let Some(name) = key.strip_suffix(committed_offsets::GROUP_KEY_END) {
            let saved = value.map(|value| SavedGroup::parse(value).ok_or(()));
            return Some(InternalRecord::Group { name: name.into(), saved: saved.transpose().ok()? });
        }
        if let Some(MemberKey { group, part, member_id }) = committed_offsets::parse_member_key(key) {
            let record = value.map(|value| MemberRecord::parse(part, value).ok_or(())).transpose().ok()?;
            return Some(InternalRecord::Member { group: group.into(), member_id, part, record });
        }
        let (group, topic, partition) = committed_offsets::parse_key(key)?;
        let committed = value.map(|value| Committed::parse(value, timestamp_ms).ok_or(())).transpose().ok()?;
        Some(InternalRecord::Offset { group: group.into(), topic: topic.into(), partition, committed })
    }
}
