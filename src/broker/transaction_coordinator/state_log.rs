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
    broker::{BrokerState, Error, Partition, Result, Terms, transaction::TransactionState},
    config::Flush,
    log::{
        Appended, Chunk, Line,
        record::{Records, unescape},
    },
};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// The topic's name.
pub(super) const TOPIC: &str = "__transaction_state";

/// Its settings: small segments, so that compaction keeps it small; nothing goes by age.
const SETTINGS: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.bytes", "4194304"), ("retention.ms", "-1")];

/// Bytes read at once at the start.
const READ_BYTES: usize = 1 << 20;

/// What was written to the log, and is as durable as an acknowledged record after [`make_durable`](Self::make_durable).
#[derive(Debug)]
pub(in crate::broker) struct StateWrite {
    log: Arc<Partition>,
    appended: Appended,
}

impl StateWrite {
    /// Waits until it is as durable as the flush mode promises.
    pub(in crate::broker) fn make_durable(&self) -> Result<()> {
        self.log.make_durable(&self.appended)
    }

    /// Begins to sync, in the background, what [`make_durable`](Self::make_durable) will wait for.
    pub(in crate::broker) fn sync_soon(&self) {
        if let Ok(settings) = self.log.settings() {
            self.log.sync_soon(&settings);
        }
    }
}

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
        match self.topic(TOPIC) {
            Err(Error::UnknownTopic(_)) => Ok(None),
            topic => topic?.partition(0).map(Some),
        }
    }

    /// The partition of the states, made if need be. Not for those who hold an id's lock.
    pub(super) fn state_log_or_new(&self) -> Result<Arc<Partition>> {
        match self.state_log()? {
            Some(log) => Ok(log),
            None => self.internal_topic(TOPIC, &SETTINGS)?.partition(0),
        }
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
pub(super) fn write(log: &Arc<Partition>, name: &str, state: Option<&TransactionState>) -> Result<StateWrite> {
    let mut records = Records::default();
    push(&mut records, name, state);
    write_all(log, &records)
}

/// Adds the record of an id, or of its end (`None`).
pub(super) fn push<'a>(records: &mut Records<'a>, name: &'a str, state: Option<&TransactionState>) {
    records.push(None, Some(Cow::Borrowed(name.as_bytes())), state.map(|state| Cow::Owned(state.to_line())));
}

/// Appends lines, all or none of them.
pub(super) fn write_all(log: &Arc<Partition>, records: &Records<'_>) -> Result<StateWrite> {
    let appended = log.write(records, Terms { whole: true, ..Terms::default() })?;
    Ok(StateWrite { log: log.clone(), appended })
}

/// Whether the log takes more lines, and has lost none: a write that failed then wrote nothing.
pub(super) fn is_intact(log: &Partition) -> bool {
    log.log().is_ok_and(|log| log.check_intact(u64::MAX).is_ok())
}

/// Reads back what the log holds. Damage is passed by, and said with `tell`.
pub(super) fn read_back(log: &Partition, tell: impl Fn(&str)) -> Result<ReadBack> {
    let (mut read, mut chunk, mut strange) = (ReadBack::default(), Chunk::default(), 0);
    let mut next = log.start()?;
    loop {
        match log.read(next, READ_BYTES, &mut chunk) {
            Err(Error::Corrupt { first, next: behind, place }) => {
                tell(&format!("{TOPIC}: {}", Error::Corrupt { first, next: behind, place }));
                (next, read.is_incomplete) = (behind, true);
                continue;
            }
            done => done?,
        }
        for line in chunk.records_from(next) {
            if line.ok().and_then(|line| apply(&line, &mut read.ids)).is_none() {
                strange += 1;
            }
        }
        match chunk.next_offset() {
            Some(behind) => next = behind,
            None => break,
        }
    }
    if strange > 0 {
        tell(&format!("{TOPIC}: {strange} records are no transactional ids; they are left alone"));
        read.is_incomplete = true;
    }
    Ok(read)
}

/// Takes one line to account; `None`: it is none of the form.
fn apply(line: &Line<'_>, ids: &mut BTreeMap<String, Found>) -> Option<()> {
    let fields = line.split().ok()?;
    let name = String::from_utf8(unescape(fields.key?).ok()?.into_owned()).ok()?;
    let is_id = !name.is_empty() && name.len() <= super::NAME_BYTES_MAX;
    match fields.value.bytes().ok()? {
        Some(value) => {
            let state = TransactionState::parse(&value).filter(|_| is_id)?;
            ids.insert(name, Found { state, written_ms: line.timestamp });
        }
        None => drop(ids.remove(&name)),
    }
    Some(())
}
