//! The topic `__transaction_state`: where each transactional id stands, as readable records.
//!
//! ```text
//! offset:17 key:transfer-1 message:state:ongoing producer_id:1000 epoch:0 timeout:60000 since:1764180000000 partitions:orders/0 ...
//! offset:18 key:transfer-1 tombstone                             the id has expired
//! ```
//!
//! - The latest record of a key is what holds; compaction keeps it. The form of a line is that of
//!   [`TransactionState::to_line`].
//! - The record's own timestamp is when the id became so.
//! - A line that is none of these is left alone, and said once. As after damage, what is not known then is not taken for over.

use crate::{
    broker::{
        BrokerState, Partition, Result, Terms,
        internal_log::{self, LogWrite},
        transaction::TransactionState,
        words::STRING_BYTES_MAX,
    },
    config::Flush,
    log::{
        Line,
        record::{Records, unescape},
    },
};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// The topic's name.
pub(in crate::broker) const TOPIC: &str = "__transaction_state";

/// What the log tells of all ids.
#[derive(Debug, Default)]
pub(super) struct ReadBack {
    pub(super) ids: BTreeMap<String, Found>,
    /// Whether part of it could not be read.
    pub(super) is_incomplete: bool,
}

/// What the log tells of an id.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) state: TransactionState,
    /// When it was written, in ms.
    pub(super) written_ms: i64,
}

impl BrokerState {
    /// The partition of the states, if it was ever needed.
    pub(super) fn state_log(&self) -> Result<Option<Arc<Partition>>> {
        self.internal_log(TOPIC)
    }

    /// The partition of the states, made if need be. Not for those who hold an id's lock.
    pub(super) fn state_log_or_new(&self) -> Result<Arc<Partition>> {
        self.internal_log_or_new(TOPIC)
    }

    /// Makes all that was written to a partition as durable as the flush mode promises. An error if some of it may be lost: a
    /// write or a sync failed since.
    pub(super) fn settle(&self, partition: &Partition) -> Result<()> {
        let (log, mode) = (partition.log()?, partition.settings()?.flush(self.env.flush));
        let end = log.log_end();
        if mode == Flush::Always { partition.sync_to(end) } else { Ok(log.check_intact(end)?) }
    }

    /// Whether a crash may have taken records, or lines of the log, that were acknowledged.
    pub(super) fn may_have_lost_records(&self, log: &Partition) -> bool {
        let is_weak = |topic: Arc<super::super::Topic>| topic.settings().flush(self.env.flush) != Flush::Always;
        !self.env.was_clean(TOPIC, log.index) && self.topics().into_iter().any(is_weak)
    }
}

/// Appends the line of an id, or of its end (`None`).
pub(super) fn write(log: &Arc<Partition>, name: &str, state: Option<&TransactionState>) -> Result<LogWrite> {
    let mut records = Records::default();
    push(&mut records, name, state);
    write_all(log, &records)
}

/// Adds the record of an id, or of its end (`None`).
pub(super) fn push<'a>(records: &mut Records<'a>, name: &'a str, state: Option<&TransactionState>) {
    records.push(None, Some(Cow::Borrowed(name.as_bytes())), state.map(|state| Cow::Owned(state.to_line())));
}

/// Appends lines, all or none of them.
pub(super) fn write_all(log: &Arc<Partition>, records: &Records<'_>) -> Result<LogWrite> {
    LogWrite::of(log, records, Terms::default())
}

/// Whether the log takes more lines, and has lost none: a write that failed then wrote nothing.
pub(super) fn is_intact(log: &Partition) -> bool {
    log.log().is_ok_and(|log| log.check_intact(u64::MAX).is_ok())
}

/// Reads back what the log holds. Damage is passed by, and said with `tell`.
pub(super) fn read_back(log: &Partition, tell: impl Fn(&str)) -> Result<ReadBack> {
    let (mut ids, mut strange) = (BTreeMap::new(), 0);
    let is_damaged = internal_log::read_back(log, TOPIC, &tell, |chunk, from| {
        let mut applies = |line: &Line<'_>| apply(line, &mut ids).is_some();
        strange += chunk.records_from(from).filter(|line| !line.as_ref().is_ok_and(&mut applies)).count();
    })?;
    if strange > 0 {
        tell(&format!("{TOPIC}: {strange} records are no transactional ids; they are left alone"));
    }
    Ok(ReadBack { ids, is_incomplete: is_damaged || strange > 0 })
}

/// Takes one line to account; `None`: it is none of the form.
fn apply(line: &Line<'_>, ids: &mut BTreeMap<String, Found>) -> Option<()> {
    let fields = line.split().ok()?;
    let name = String::from_utf8(unescape(fields.key?).ok()?.into_owned()).ok()?;
    let is_id = !name.is_empty() && name.len() <= STRING_BYTES_MAX;
    match fields.value.bytes().ok()? {
        Some(value) => {
            let state = TransactionState::parse(&value).filter(|_| is_id)?;
            ids.insert(name, Found { state, written_ms: line.timestamp });
        }
        None => drop(ids.remove(&name)),
    }
    Some(())
}
