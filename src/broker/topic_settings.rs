//! What a topic's settings mean to the broker: which records it takes, what retention and compaction do to its log.

use super::{Error, Result, producer_state::EXPIRES_MS};
use crate::{
    config::Settings,
    log::{Compaction, Retention},
};

impl Settings {
    /// Whether the topic takes a record of this key, and so many bytes of key, value and headers.
    pub fn check(&self, key: Option<&[u8]>, bytes: usize) -> Result<()> {
        if bytes > self.max_message_bytes as usize {
            return Err(Error::TooLarge { bytes, limit: self.max_message_bytes as usize });
        }
        self.check_key(key)
    }

    /// Whether the topic takes a record of this key.
    pub fn check_key(&self, key: Option<&[u8]>) -> Result<()> {
        if self.cleanup_policy.compacts() && key.is_none() {
            return Err(Error::KeyRequired);
        }
        Ok(())
    }

    /// What `cleanup.policy` lets go by age and size.
    pub(super) fn retention(&self) -> Retention {
        if self.cleanup_policy.deletes() {
            Retention { ms: self.retention_ms, bytes: self.retention_bytes }
        } else {
            Retention { ms: -1, bytes: -1 }
        }
    }

    /// How a topic with `cleanup.policy=compact` is compacted.
    pub(super) fn compaction(&self) -> Compaction {
        Compaction {
            delete_retention_ms: self.delete_retention_ms,
            min_cleanable_dirty_ratio: self.min_cleanable_dirty_ratio,
            min_compaction_lag_ms: self.min_compaction_lag_ms,
            segment_bytes: self.segment_bytes,
            producer_expires_ms: EXPIRES_MS,
            ..Compaction::default()
        }
    }
}
