//! Partitions that members have or are to have, and how lines have them: `orders/0,orders/1`.

use crate::{
    broker::words::{Words, push},
    log::record::parse_u63,
};
use std::sync::Arc;

/// Topics and numbers of partitions, in order.
pub type Partitions = Vec<(Arc<str>, u32)>;

/// A partition that a member owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owned {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The generation in which the member took it: another one is another ownership.
    pub since: i32,
}

/// Appends partitions as `orders/0,orders/1`.
pub(super) fn push_partitions(line: &mut Vec<u8>, name: &str, partitions: &Partitions) {
    let partitions: Vec<_> = partitions.iter().map(|(topic, partition)| format!("{topic}/{partition}")).collect();
    push(line, name, partitions.join(",").as_bytes());
}

/// Reads partitions.
pub(super) fn parse_partitions(words: &mut Words<'_>, name: &str) -> Option<Partitions> {
    let list = words.word(name)?;
    let mut last: Arc<str> = "".into();
    parts(list).map(|part| parse_partition(part, &mut last)).collect()
}

/// The parts of a list, which may have none.
pub(super) fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|_| !list.is_empty())
}

/// Reads one partition. Those that follow each other share the copy of their topic's name.
pub(super) fn parse_partition(part: &str, last: &mut Arc<str>) -> Option<(Arc<str>, u32)> {
    let (topic, partition) = part.rsplit_once('/')?;
    if **last != *topic {
        *last = topic.into();
    }
    Some((last.clone(), u32::try_from(parse_u63(partition.as_bytes())?).ok()?))
}
