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
//! ```
//!
//! - The latest record of a key is what holds; compaction keeps it. So reading back takes time by the number of live keys
//!   and of what was written since the last compaction.
//! - A topic and a number cannot hold a `/`, a group may: a key is read from its end. One that ends in `/<number>` is an
//!   offset's, and one that ends in `/group` a group's, whose value is a [`SavedGroup`].
//! - The record's own timestamp is when the offset was committed, or the group became so.
//! - A line that is none of these is left alone, and said once.
//!
//! Here is the form of the records, and what one group has in the log; who may commit when, and when a group is written, is
//! the coordinator's affair.

use super::{Error, Partition, Result, group::SavedGroup};
use crate::log::{
    Chunk, Line,
    record::{Records, parse_u63, unescape, write_i64, write_word},
};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// The topic's name.
pub(super) const TOPIC: &str = "__consumer_offsets";

/// Its settings: small segments, so that compaction keeps it small; nothing goes by age.
pub(super) const SETTINGS: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.bytes", "4194304"), ("retention.ms", "-1")];

/// How the key of a group's record ends.
const GROUP_KEY_END: &str = "/group";

/// The longest name of a group, Kafka's limit for any string.
pub(super) const NAME_BYTES_MAX: usize = i16::MAX as usize;

/// Bytes read at once at the start.
const READ_BYTES: usize = 1 << 20;

/// How far a group has read a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The offset to read next. Any is taken, as Kafka does; text writes none below 0.
    pub offset: i64,
    /// Leader epoch of the record before it; -1: unknown.
    pub leader_epoch: i32,
    /// What the client noted with it.
    pub metadata: String,
    /// When it was committed, in ms.
    pub timestamp_ms: i64,
}

/// The offsets of one group, by topic and partition.
pub type Offsets = BTreeMap<(Arc<str>, u32), Committed>;

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

/// What the log has of a group.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Logged {
    pub(super) offsets: Offsets,
    pub(super) group: Option<LoggedGroup>,
}

/// A group as it was saved last.
#[derive(Debug, PartialEq)]
pub(super) struct LoggedGroup {
    pub(super) saved: SavedGroup,
    /// Offset of its record.
    pub(super) offset: u64,
}

/// What a log holds of all groups, by name.
type LoggedGroups = BTreeMap<String, Logged>;

/// Reads back what a log of offsets holds, by group. Damage is passed by, and said with `tell`.
pub(super) fn read_back(partition: &Partition, tell: impl Fn(&str)) -> Result<LoggedGroups> {
    let (mut groups, mut chunk, mut strange) = (BTreeMap::new(), Chunk::default(), 0);
    let mut topics: BTreeMap<String, Arc<str>> = BTreeMap::new();
    let mut next = partition.start()?;
    loop {
        match partition.read(next, READ_BYTES, &mut chunk) {
            Err(Error::Corrupt { first, next: behind, place }) => {
                tell(&format!("{TOPIC}: {}", Error::Corrupt { first, next: behind, place }));
                next = behind;
                continue;
            }
            read => read?,
        }
        let mut apply = |line: Line<'_>| apply(&line, &mut groups, &mut topics).is_some();
        strange += chunk.records_from(next).filter(|line| !line.as_ref().is_ok_and(|line| apply(*line))).count();
        match chunk.next_offset() {
            Some(behind) => next = behind,
            None => break,
        }
    }
    if strange > 0 {
        tell(&format!("{TOPIC}: {strange} records are no committed offsets and no groups; they are left alone"));
    }
    Ok(groups)
}

/// The groups that these lines of the log are about, which are in order. One that cannot be read, or is no group's, is left
/// out.
pub(super) fn read_groups(log: &Partition, lines: &[u64], mut each: impl FnMut(&str, LoggedGroup)) -> Result<()> {
    let (mut wanted, mut chunk, mut topics) = (lines.iter().copied().peekable(), Chunk::default(), BTreeMap::new());
    while let Some(&first) = wanted.peek() {
        match log.read(first, if lines.len() > 1 { READ_BYTES } else { 1 }, &mut chunk) {
            Err(Error::Corrupt { .. }) => chunk.clear(),
            read => read?,
        }
        for line in chunk.records_from(first).flatten() {
            while wanted.next_if(|&offset| offset < line.offset).is_some() {}
            let mut found = LoggedGroups::new();
            if wanted.next_if_eq(&line.offset).is_some() && apply(&line, &mut found, &mut topics).is_some() {
                let group = |(name, logged): (String, Logged)| Some((name, logged.group?));
                found.into_iter().filter_map(group).for_each(|(name, group)| each(&name, group));
            }
        }
        // Of those before it, what was not found is not there.
        let behind = chunk.next_offset().unwrap_or(first + 1);
        while wanted.next_if(|&offset| offset < behind).is_some() {}
    }
    Ok(())
}

/// Takes one line to account; `None`: it is none of the form.
fn apply(line: &Line<'_>, groups: &mut LoggedGroups, topics: &mut BTreeMap<String, Arc<str>>) -> Option<()> {
    let fields = line.split().ok()?;
    let (key, value) = (unescape(fields.key?).ok()?, fields.value.bytes().ok()?);
    let key = std::str::from_utf8(&key).ok()?;
    let (offset, timestamp_ms) = (line.offset, line.timestamp);
    if let Some(name) = key.strip_suffix(GROUP_KEY_END) {
        let saved = value.map(|value| SavedGroup::parse(&value).ok_or(())).transpose().ok()?;
        change(groups, name, |logged| {
            logged.group = saved.map(|saved| LoggedGroup { saved, offset });
        })
    } else {
        let (name, topic, partition) = parse_key(key)?;
        let topic = topics.entry(topic.to_owned()).or_insert_with(|| topic.into()).clone();
        let committed = value.map(|value| Committed::parse(&value, timestamp_ms).ok_or(())).transpose().ok()?;
        change(groups, name, |logged| match committed {
            Some(committed) => drop(logged.offsets.insert((topic, partition), committed)),
            None => drop(logged.offsets.remove(&(topic, partition))),
        })
    }
}

/// Changes what is known of a group. One of which nothing is left is forgotten.
fn change(groups: &mut LoggedGroups, name: &str, change: impl FnOnce(&mut Logged)) -> Option<()> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let logged = groups.entry(name.to_owned()).or_default();
    change(logged);
    if *logged == Logged::default() {
        groups.remove(name);
    }
    Some(())
}

/// Group, topic and partition.
fn parse_key(key: &str) -> Option<(&str, &str, u32)> {
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

    fn parse(value: &[u8], timestamp_ms: i64) -> Option<Committed> {
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

    fn applies(line: &str, groups: &mut LoggedGroups) -> bool {
        let line = format!("{line}\n");
        let line = Lines::new(line.as_bytes(), 5, Flags::NONE).next().unwrap();
        line.is_ok_and(|line| apply(&line, groups, &mut BTreeMap::new()).is_some())
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
        let mut groups = BTreeMap::new();
        let saved = SavedGroup::parse(b"type:consumer generation:3 last_member:2").unwrap();
        let group = |name, saved| line_of(|records| push_group(records, name, saved));
        assert_eq!(group("a b", None), "offset:17 key:a\\x20b/group tombstone");
        let line_of_group = group("a/orders/0", Some(&saved));
        assert_eq!(line_of_group, "offset:17 key:a/orders/0/group message:type:consumer generation:3 last_member:2");
        assert!(applies(&line_of_group, &mut groups));
        assert!(applies(&line(Some(&committed(42, "")), "a/orders/0"), &mut groups));
        let logged = &groups["a/orders/0"];
        assert_eq!(logged.group, Some(LoggedGroup { saved: saved.clone(), offset: 17 }));
        assert_eq!(logged.offsets.len(), 1);
        assert!(applies(&line(None, "a/orders/0"), &mut groups));
        assert!(!applies("offset:18 key:a/orders/0/group message:type:classic", &mut groups));
        assert!(groups["a/orders/0"].group.is_some(), "what is no line of a group changes none");
        assert!(applies(&group("a/orders/0", None), &mut groups));
        assert!(groups.is_empty());
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
            assert!(!applies(strange, &mut BTreeMap::new()), "{strange}");
        }
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
            let mut groups = BTreeMap::new();
            prop_assert!(applies(&line(Some(&committed), &group), &mut groups));
            prop_assert_eq!(&groups[&group].offsets[&("orders".into(), 0)], &committed);
            prop_assert!(applies(&line(None, &group), &mut groups));
            prop_assert!(groups.is_empty());
        }
    }
}
