//! The topic `__consumer_offsets`: how far each group has read, and who is in it, as readable records.
//!
//! ```text
//! offset:17 key:analytics/orders/0 message:offset:42 epoch:0 metadata:
//!               │         │      │                │        │          └ what the client noted with it, escaped
//!               │         │      └ partition      │        └ leader epoch of the record before it, -1 unknown
//!               └ group   └ topic                 └ the offset to read next
//! offset:18 key:analytics/orders/0 tombstone        forgotten: reset, dropped, or expired
//! offset:19 key:analytics/group message:type:classic generation:7 protocol_type:consumer protocol:range leader:...
//! offset:20 key:analytics/group tombstone           the group is no more
//! offset:21 key:analytics/member:m-1 message:number:1 client:java host:/127.0.0.1 session:45000 rebalance:300000 topic:orders
//! offset:22 key:analytics/target:m-1 message:partitions:orders/0
//! offset:23 key:analytics/current:m-1 message:epoch:3 previous:2 owned:orders/0@3
//! ```
//!
//! - The latest record of a key is what holds; compaction keeps it.
//! - A topic and a number cannot hold a `/`, a group may: a key is read from its end. One that ends in `/<number>` is an
//!   offset's, and one that ends in `/group` a group's, whose value is a [`SavedGroup`].
//! - One that ends in `/member:<id>`, `/target:<id>` or `/current:<id>` is that of a [member of Kafka's](MemberRecord) where the broker
//!   assigns. In the id `/` is written `%2F` and `%` `%25`. What one change writes of a group and its members is one batch.
//! - The record's own timestamp is when the offset was committed, or the group became so.
//! - A line that is none of these is left alone, and said once.
//! - Offsets that a transaction commits are lines of its batches, and take effect with its marker here. A group's own line is
//!   never part of a transaction.
//!
//! Here is the form of the records, and what one group has in the log; who may commit when, and when a group is written, is
//! the coordinator's affair.

use super::{
    Error, Partition, Result,
    group::{MemberChange, MemberRecord, Part, SavedConsumer, SavedGroup},
    group_offsets::{Committed, GroupOffsets},
    internal_log::{self, READ_BYTES},
    words::STRING_BYTES_MAX,
};
use crate::log::{
    Chunk, Line, Outcome,
    batches::{Entry, Flags},
    record::{Records, parse_u63, unescape, write_i64, write_word},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The topic's name.
pub(crate) const TOPIC: &str = "__consumer_offsets";

/// How the key of a group's record ends.
pub(super) const GROUP_KEY_END: &str = "/group";

/// Adds the record of an offset, or of its end (`None`).
pub(super) fn push(
    records: &mut Records<'_>,
    group: &str,
    (topic, partition): (&str, u32),
    committed: Option<&Committed>,
) {
    let key = format!("{group}/{topic}/{partition}").into_bytes();
    let timestamp = committed.map(|committed| committed.timestamp_ms);
    records.push(timestamp, Some(Cow::Owned(key)), committed.map(|committed| Cow::Owned(committed.value())));
}

/// Adds the record of a group, or of its end (`None`).
pub(super) fn push_group(records: &mut Records<'_>, name: &str, saved: Option<&SavedGroup>) {
    let key = format!("{name}{GROUP_KEY_END}").into_bytes();
    records.push(None, Some(Cow::Owned(key)), saved.map(|saved| Cow::Owned(saved.to_line())));
}

/// Adds the record of a member, or of its end.
pub(super) fn push_member(records: &mut Records<'_>, group: &str, change: &MemberChange) {
    let id = change.member_id.replace('%', "%25").replace('/', "%2F");
    let key = format!("{group}/{}{id}", change.part.word()).into_bytes();
    records.push(None, Some(Cow::Owned(key)), change.record.as_ref().map(|record| Cow::Owned(record.to_line())));
}

/// What the log has of a group.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Logged {
    pub(super) offsets: GroupOffsets,
    pub(super) group: Option<LoggedGroup>,
    /// Kafka's members where the broker assigns, by their ids.
    pub(super) members: BTreeMap<String, SavedConsumer>,
}

/// A group as it was saved last.
#[derive(Debug, PartialEq)]
pub(super) struct LoggedGroup {
    pub(super) saved: SavedGroup,
    /// Offset of its record.
    pub(super) offset: u64,
}

/// What a log holds of all groups, by name.
pub(super) type LoggedGroups = BTreeMap<String, Logged>;

/// Reads back what a log of offsets holds, by group. Damage is passed by, and said with `tell`.
pub(super) fn read_back(partition: &Partition, tell: impl Fn(&str)) -> Result<LoggedGroups> {
    let (mut lines, mut strange) = (ReadLines::default(), 0);
    internal_log::read_back(partition, TOPIC, &tell, |chunk, from| {
        for batch in &chunk.batches {
            let Entry { flags, producer_id, .. } = batch.entry;
            if let Some(outcome) = flags.outcome() {
                lines.end(producer_id, outcome, batch.first);
                continue;
            }
            let transaction = flags.has(Flags::TRANSACTIONAL).then_some(producer_id);
            let mut applies = |line: &Line<'_>| lines.apply(line, transaction).is_some();
            strange += chunk.lines_from(batch, from).filter(|line| !line.as_ref().is_ok_and(&mut applies)).count();
        }
    })?;
    if strange > 0 {
        tell(&format!("{TOPIC}: {strange} records are no committed offsets and no groups; they are left alone"));
    }
    Ok(lines.groups)
}

/// The groups that these lines of the log are about, which are in order. One that cannot be read, or is no group's, is left
/// out.
pub(super) fn read_groups(log: &Partition, lines: &[u64], mut each: impl FnMut(&str, LoggedGroup)) -> Result<()> {
    let (mut wanted, mut chunk) = (lines.iter().copied().peekable(), Chunk::default());
    while let Some(&first) = wanted.peek() {
        match log.read(first, if lines.len() > 1 { READ_BYTES } else { 1 }, &mut chunk) {
            Err(Error::Corrupt { .. }) => chunk.clear(),
            read => read?,
        }
        for line in chunk.records_from(first).flatten() {
            while wanted.next_if(|&offset| offset < line.offset).is_some() {}
            let mut found = ReadLines::default();
            if wanted.next_if_eq(&line.offset).is_some() && found.apply(&line, None).is_some() {
                let group = |(name, logged): (String, Logged)| Some((name, logged.group?));
                found.groups.into_iter().filter_map(group).for_each(|(name, group)| each(&name, group));
            }
        }
        // Of those before it, what was not found is not there.
        let behind = chunk.next_offset().unwrap_or(first + 1);
        while wanted.next_if(|&offset| offset < behind).is_some() {}
    }
    Ok(())
}

/// What the lines come to that were read so far.
#[derive(Debug, Default)]
struct ReadLines {
    groups: LoggedGroups,
    /// One copy of each topic's name.
    topics: BTreeMap<String, Arc<str>>,
    /// The groups in which a producer's open transaction has offsets.
    pending: BTreeMap<i64, BTreeSet<String>>,
}

impl ReadLines {
    /// Takes one line to account, which may be part of a producer's transaction; `None`: it is none of the form.
    fn apply(&mut self, line: &Line<'_>, transaction: Option<i64>) -> Option<()> {
        let fields = line.split().ok()?;
        let (key, value) = (unescape(fields.key?).ok()?, fields.value.bytes().ok()?);
        let key = std::str::from_utf8(&key).ok()?;
        let (offset, timestamp_ms) = (line.offset, line.timestamp);
        if let Some(name) = key.strip_suffix(GROUP_KEY_END) {
            let saved = value.map(|value| SavedGroup::parse(&value).ok_or(())).transpose().ok()?;
            if transaction.is_some() {
                return None;
            }
            return self.change(name, |logged| {
                logged.group = saved.map(|saved| LoggedGroup { saved, offset });
            });
        }
        if let Some(MemberKey { group, part, member_id }) = parse_member_key(key) {
            let record = value.map(|value| MemberRecord::parse(part, &value).ok_or(())).transpose().ok()?;
            if transaction.is_some() {
                return None;
            }
            return self.change(group, |logged| {
                let member = logged.members.entry(member_id.clone()).or_default();
                member.apply(part, record);
                if *member == SavedConsumer::default() {
                    logged.members.remove(&member_id);
                }
            });
        }
        let (name, topic, partition) = parse_key(key)?;
        let topic = self.topics.entry(topic.to_owned()).or_insert_with(|| topic.into()).clone();
        let committed = value.map(|value| Committed::parse(&value, timestamp_ms).ok_or(())).transpose().ok()?;
        match (committed, transaction) {
            (Some(committed), None) => {
                self.change(name, |logged| logged.offsets.commit((topic, partition), committed, offset))
            }
            (None, None) => self.change(name, |logged| logged.offsets.delete(&(topic, partition))),
            (Some(committed), Some(producer_id)) => {
                self.change(name, |logged| {
                    logged.offsets.commit_later(producer_id, (topic, partition), committed, offset);
                })?;
                self.pending.entry(producer_id).or_default().insert(name.to_owned());
                Some(())
            }
            (None, Some(_)) => None,
        }
    }

    /// Takes a marker to account.
    fn end(&mut self, producer_id: i64, outcome: Outcome, marker: u64) {
        for name in self.pending.remove(&producer_id).unwrap_or_default() {
            self.change(&name, |logged| logged.offsets.end(producer_id, outcome, marker));
        }
    }

    /// Changes what is known of a group. One of which nothing is left is forgotten.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Logged)) -> Option<()> {
        if name.len() > STRING_BYTES_MAX {
            return None;
        }
        let logged = self.groups.entry(name.to_owned()).or_default();
        change(logged);
        if *logged == Logged::default() {
            self.groups.remove(name);
        }
        Some(())
    }
}

/// What a member's record is about.
#[derive(Debug, PartialEq)]
pub(super) struct MemberKey<'a> {
    pub(super) group: &'a str,
    pub(super) part: Part,
    pub(super) member_id: String,
}

/// Whose record this is; `None`: no member's.
pub(super) fn parse_member_key(key: &str) -> Option<MemberKey<'_>> {
    let (group, last) = key.rsplit_once('/')?;
    let (part, id) = Part::ALL.into_iter().find_map(|part| Some((part, last.strip_prefix(part.word())?)))?;
    let member_id = id.replace("%2F", "/").replace("%25", "%");
    let fits = !member_id.is_empty() && member_id.len() <= STRING_BYTES_MAX;
    fits.then_some(MemberKey { group, part, member_id })
}

/// Group, topic and partition.
pub(super) fn parse_key(key: &str) -> Option<(&str, &str, u32)> {
    let mut parts = key.rsplitn(3, '/');
    let partition = parse_u63(parts.next()?.as_bytes())?;
    let topic = parts.next()?;
    Some((parts.next()?, topic, u32::try_from(partition).ok()?))
}

impl Committed {
    fn value(&self) -> Vec<u8> {
        let mut value = b"offset:".to_vec();
        write_i64(&mut value, self.offset);
        value.extend_from_slice(b" epoch:");
        write_i64(&mut value, i64::from(self.leader_epoch));
        value.extend_from_slice(b" metadata:");
        write_word(&mut value, self.metadata.as_bytes());
        value
    }

    /// What a record's value says, which has this time; `None`: it is no such value.
    pub(super) fn parse(value: &[u8], timestamp_ms: i64) -> Option<Committed> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let offset = words.next()?.strip_prefix("offset:")?.parse().ok()?;
        let leader_epoch = words.next()?.strip_prefix("epoch:")?.parse().ok()?;
        let metadata = unescape(words.next()?.strip_prefix("metadata:")?.as_bytes()).ok()?;
        let metadata = String::from_utf8(metadata.into_owned()).ok()?;
        words.next().is_none().then_some(Committed { offset, leader_epoch, metadata, timestamp_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Lines, batches::Flags, record::write_fields};
    use proptest::prelude::*;

    fn line(committed: Option<&Committed>, group: &str) -> String {
        line_of(|records| push(records, group, ("orders", 0), committed))
    }

    fn line_of(push: impl FnOnce(&mut Records<'_>)) -> String {
        let mut records = Records::default();
        push(&mut records);
        let (record, mut out) = (records.get(0).unwrap(), b"offset:17 ".to_vec());
        write_fields(&mut out, None, record.key.as_deref(), &[], record.value.as_deref());
        String::from_utf8(out).unwrap()
    }

    fn applies(line: &str, read: &mut ReadLines) -> bool {
        applies_in(None, line, read)
    }

    fn applies_in(transaction: Option<i64>, line: &str, read: &mut ReadLines) -> bool {
        let line = format!("{line}\n");
        let line = Lines::new(line.as_bytes(), 5, Flags::NONE).next().unwrap();
        line.is_ok_and(|line| read.apply(&line, transaction).is_some())
    }

    fn committed(offset: i64, metadata: &str) -> Committed {
        Committed { offset, leader_epoch: 0, metadata: metadata.into(), timestamp_ms: 5 }
    }

    #[test]
    fn offsets_are_readable_lines() {
        let of = |offset, metadata, group| line(Some(&committed(offset, metadata)), group);
        assert_eq!(of(42, "", "analytics"), "offset:17 key:analytics/orders/0 message:offset:42 epoch:0 metadata:");
        assert_eq!(
            of(-1, "a b\n", "a/b c"),
            "offset:17 key:a/b\\x20c/orders/0 message:offset:-1 epoch:0 metadata:a\\x20b\\n"
        );
        assert_eq!(line(None, "analytics"), "offset:17 key:analytics/orders/0 tombstone");
    }

    #[test]
    fn groups_are_readable_lines_beside_their_offsets() {
        let mut read = ReadLines::default();
        let saved = SavedGroup::parse(b"type:consumer generation:3 last_member:2").unwrap();
        let group = |name, saved| line_of(|records| push_group(records, name, saved));
        assert_eq!(group("a b", None), "offset:17 key:a\\x20b/group tombstone");
        let line_of_group = group("a/orders/0", Some(&saved));
        assert_eq!(line_of_group, "offset:17 key:a/orders/0/group message:type:consumer generation:3 last_member:2");
        assert!(applies(&line_of_group, &mut read));
        assert!(applies(&line(Some(&committed(42, "")), "a/orders/0"), &mut read));
        let logged = &read.groups["a/orders/0"];
        assert_eq!(logged.group, Some(LoggedGroup { saved: saved.clone(), offset: 17 }));
        assert_eq!(logged.offsets.committed().len(), 1);
        assert!(applies(&line(None, "a/orders/0"), &mut read));
        assert!(!applies("offset:18 key:a/orders/0/group message:type:classic", &mut read));
        assert!(read.groups["a/orders/0"].group.is_some(), "what is no line of a group changes none");
        assert!(applies(&group("a/orders/0", None), &mut read));
        assert!(read.groups.is_empty());
    }

    #[test]
    fn other_lines_are_told_apart() {
        for strange in [
            "",
            "offset:1 message:offset:42 epoch:0 metadata:",
            "offset:1 key:orders/0 message:offset:42 epoch:0 metadata:",
            "offset:1 key:g/orders/x message:offset:42 epoch:0 metadata:",
            "offset:1 key:g/orders/4294967296 message:offset:42 epoch:0 metadata:",
            "offset:1 key:g/orders/0 message:offset:42 epoch:0",
            "offset:1 key:g/orders/0 message:offset:x epoch:0 metadata:",
            "offset:1 key:g/orders/0 message:offset:42 epoch:0 metadata: more",
            "offset:1 key:g/orders/0 message:offset:42 epoch:0 metadata:\\q",
            "offset:1 key:/group message:type:consumer generation:-1",
            "offset:1 key:group message:type:consumer generation:1",
            &format!("offset:1 key:{}/group message:type:consumer generation:1", "g".repeat(32_768)),
            &format!("offset:1 key:{}/orders/0 message:offset:42 epoch:0 metadata:", "g".repeat(32_768)),
        ] {
            assert!(!applies(strange, &mut ReadLines::default()), "{strange}");
        }
    }

    #[test]
    fn offsets_of_a_transaction_take_effect_with_its_marker() {
        for (outcome, then) in [(Outcome::Commit, Some(42)), (Outcome::Abort, None)] {
            let mut read = ReadLines::default();
            let first = line(Some(&committed(42, "")), "analytics");
            assert!(applies_in(Some(7), &first, &mut read));
            assert!(!applies_in(Some(7), &line(None, "analytics"), &mut read), "no transaction deletes offsets");
            assert!(read.groups["analytics"].offsets.committed().is_empty());
            read.end(8, outcome, 18);
            assert!(read.groups.contains_key("analytics"), "it has an offset that may come to count");
            read.end(7, outcome, 18);
            let found = read.groups.get("analytics").map(|logged| logged.offsets.committed());
            assert_eq!(found.map(|offsets| offsets[&("orders".into(), 0)].offset), then);
        }
        let group = "offset:17 key:g/group message:type:consumer generation:1";
        assert!(!applies_in(Some(7), group, &mut ReadLines::default()), "no group is part of one");
    }

    proptest! {
        #[test]
        fn offsets_of_any_group_are_read_back(
            group in any::<String>(),
            offset: i64,
            leader_epoch: i32,
            metadata in any::<String>(),
        ) {
            let committed = Committed { offset, leader_epoch, metadata, timestamp_ms: 5 };
            let mut read = ReadLines::default();
            prop_assert!(applies(&line(Some(&committed), &group), &mut read));
            prop_assert_eq!(&read.groups[&group].offsets.committed()[&("orders".into(), 0)], &committed);
            prop_assert!(applies(&line(None, &group), &mut read));
            prop_assert!(read.groups.is_empty());
        }
    }
}
