//! The broker's own logs, `__consumer_offsets` and `__transaction_state`: topics of one partition, made when they are first needed.
//!
//! ```text
//! write ──► LogWrite ──► make_durable        under its owner's lock, then without it
//! read_back                                  at the first use: the latest record of each key is what holds
//! ```
//!
//! Their records are lines for people, of which compaction keeps the latest of each key. So reading back takes time by the number
//! of live keys and of what was written since the last compaction.

use super::{BrokerState, Error, Partition, Result, Terms};
use crate::log::{Appended, Chunk, record::Records};
use std::{ops::Range, sync::Arc};

/// Their settings: small segments, so that compaction keeps them small; nothing goes by age.
const SETTINGS: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.bytes", "4194304"), ("retention.ms", "-1")];

/// Bytes read at once.
pub(super) const READ_BYTES: usize = 1 << 20;

/// What was written to such a log, and is as durable as an acknowledged record after [`make_durable`](Self::make_durable).
#[derive(Debug)]
pub struct LogWrite {
    log: Arc<Partition>,
    appended: Appended,
}

impl LogWrite {
    /// Writes records, all or none of them.
    pub(super) fn of(log: &Arc<Partition>, records: &Records<'_>, terms: Terms) -> Result<LogWrite> {
        let appended = log.write(records, Terms { whole: true, ..terms })?;
        Ok(LogWrite { log: log.clone(), appended })
    }

    /// Waits until it is as durable as the flush mode promises.
    pub fn make_durable(&self) -> Result<()> {
        self.log.make_durable(&self.appended)
    }

    /// Waits until it is synced, whatever the flush mode: something else is written only behind it.
    pub(super) fn sync(&self) -> Result<()> {
        self.log.sync_to(self.appended.offsets.end)
    }

    /// Begins to sync, in the background, what [`make_durable`](Self::make_durable) will wait for.
    pub(super) fn sync_soon(&self) {
        if let Ok(settings) = self.log.settings() {
            self.log.sync_soon(&settings);
        }
    }

    /// The offsets of its lines.
    pub(super) fn lines(&self) -> Range<u64> {
        self.appended.offsets.clone()
    }
}

/// Makes durable what was written, if anything was.
pub(super) fn make_durable(written: Option<LogWrite>) -> Result<()> {
    written.map_or(Ok(()), |written| written.make_durable())
}

impl BrokerState {
    /// The one partition of an own topic, if it was ever needed.
    pub(super) fn internal_log(&self, topic: &str) -> Result<Option<Arc<Partition>>> {
        match self.topic(topic) {
            Err(Error::UnknownTopic(_)) => Ok(None),
            topic => topic?.partition(0).map(Some),
        }
    }

    /// The same, made if need be. Not for those who hold a lock that comes behind `creating`.
    pub(super) fn internal_log_or_new(&self, topic: &str) -> Result<Arc<Partition>> {
        match self.internal_log(topic)? {
            Some(log) => Ok(log),
            None => self.internal_topic(topic, &SETTINGS)?.partition(0),
        }
    }
}

/// Hands on what a log holds, from its start to its end, each time with the offset to begin at. Damage is passed by, and said with
/// `tell`. Answers whether there was any.
pub(super) fn read_back(
    log: &Partition,
    topic: &str,
    tell: impl Fn(&str),
    mut each: impl FnMut(&Chunk, u64),
) -> Result<bool> {
    let (mut chunk, mut is_damaged, mut next) = (Chunk::default(), false, log.start()?);
    loop {
        match log.read(next, READ_BYTES, &mut chunk) {
            Err(error @ Error::Corrupt { next: behind, .. }) => {
                tell(&format!("{topic}: {error}"));
                (next, is_damaged) = (behind, true);
                continue;
            }
            read => read?,
        }
        each(&chunk, next);
        match chunk.next_offset() {
            Some(behind) => next = behind,
            None => return Ok(is_damaged),
        }
    }
}
