//! The topic `__share_group_state`: how far each share group is in each partition, as readable records.
//!
//! ```text
//! offset:17 key:jobs/orders/0 message:start:17 epoch:3 acked:19-22,25 counts:18=2,23=1
//! offset:18 key:jobs/orders/0 tombstone                  the group, or the topic, was deleted
//! ```
//!
//! - The latest record of a key is what holds; compaction keeps it. The form of a line is that of [`SavedShare::to_line`].
//! - A topic and a number cannot hold a `/`, a group may: a key is read from its end.
//! - A line that is none of these is left alone, and said once.

use crate::{
    broker::{
        Partition, Result, Terms, committed_offsets,
        internal_log::{self, LogWrite},
        share_partition::SavedShare,
        words::STRING_BYTES_MAX,
    },
    log::{
        Line,
        record::{Records, unescape},
    },
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The topic's name.
pub(in crate::broker) const TOPIC: &str = "__share_group_state";

/// Whose line it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) group: String,
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
}

/// Appends lines of share partitions, or of their ends (`None`): all or none of them.
pub(super) fn write<'l>(
    log: &Arc<Partition>,
    lines: impl Iterator<Item = (&'l str, &'l str, u32, Option<&'l SavedShare>)>,
) -> Result<LogWrite> {
    let mut records = Records::default();
    for (group, topic, partition, saved) in lines {
        let key = format!("{group}/{topic}/{partition}").into_bytes();
        records.push(None, Some(Cow::Owned(key)), saved.map(|saved| Cow::Owned(saved.to_line())));
    }
    LogWrite::of(log, &records, Terms::default())
}

/// Reads back what the log holds. Damage is passed by, and said with `tell`.
pub(super) fn read_back(log: &Partition, tell: impl Fn(&str)) -> Result<BTreeMap<Name, SavedShare>> {
    let (mut shares, mut topics, mut strange) = (BTreeMap::new(), BTreeSet::new(), 0);
    internal_log::read_back(log, TOPIC, &tell, |chunk, from| {
        let mut applies = |line: &Line<'_>| apply(line, &mut shares, &mut topics).is_some();
        strange += chunk.records_from(from).filter(|line| !line.as_ref().is_ok_and(&mut applies)).count();
    })?;
    if strange > 0 {
        tell(&format!("{TOPIC}: {strange} records are no state of a share group; they are left alone"));
    }
    Ok(shares)
}

/// Takes one line to account; `None`: it is none of the form. One copy is kept of each topic's name.
fn apply(line: &Line<'_>, shares: &mut BTreeMap<Name, SavedShare>, topics: &mut BTreeSet<Arc<str>>) -> Option<()> {
    let fields = line.split().ok()?;
    let key = unescape(fields.key?).ok()?;
    let (group, topic, partition) = committed_offsets::parse_key(std::str::from_utf8(&key).ok()?)?;
    if group.len() > STRING_BYTES_MAX {
        return None;
    }
    let saved = fields.value.bytes().ok()?.map(|value| SavedShare::parse(&value).ok_or(())).transpose().ok()?;
    let topic = topics.get(topic).cloned().unwrap_or_else(|| topic.into());
    topics.insert(topic.clone());
    let name = Name { group: group.into(), topic, partition };
    match saved {
        Some(saved) => drop(shares.insert(name, saved)),
        None => drop(shares.remove(&name)),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Lines, batches::Flags};

    fn applies(line: &str, shares: &mut BTreeMap<Name, SavedShare>) -> bool {
        let line = format!("{line}\n");
        let line = Lines::new(line.as_bytes(), 5, Flags::NONE).next().unwrap();
        line.is_ok_and(|line| apply(&line, shares, &mut BTreeSet::new()).is_some())
    }

    #[test]
    fn the_latest_line_of_a_share_partition_holds() {
        let mut shares = BTreeMap::new();
        assert!(applies("offset:1 key:a/b/orders/0 message:start:1 epoch:0", &mut shares));
        assert!(applies("offset:2 key:a/b/orders/0 message:start:2 epoch:0 acked:4", &mut shares));
        assert!(applies("offset:3 key:a/b/orders/1 message:start:-1 epoch:0", &mut shares));
        let name = Name { group: "a/b".into(), topic: "orders".into(), partition: 0 };
        assert_eq!(shares[&name].start, Some(2));
        assert!(applies("offset:4 key:a/b/orders/0 tombstone", &mut shares));
        assert_eq!(shares.len(), 1);
        for strange in [
            "offset:5 message:start:1 epoch:0",
            "offset:5 key:orders/0 message:start:1 epoch:0",
            "offset:5 key:a/orders/x message:start:1 epoch:0",
            "offset:5 key:a/orders/0 message:start:1",
            &format!("offset:5 key:{}/orders/0 message:start:1 epoch:0", "g".repeat(32_768)),
        ] {
            assert!(!applies(strange, &mut shares), "{strange}");
        }
        assert_eq!(shares.len(), 1);
    }
}
