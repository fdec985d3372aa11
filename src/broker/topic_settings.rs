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

    /// The age at which a segment is sealed. `chance` is a number of that segment's own, by which the jitter is chosen.
    pub(super) fn segment_age_max_ms(&self, chance: u32) -> i64 {
        // What is not sealed is not compacted.
        let lag = if self.cleanup_policy.compacts() { self.max_compaction_lag_ms } else { i64::MAX };
        let age = self.segment_ms.min(lag);
        age - i64::from(chance).checked_rem(self.segment_jitter_ms.min(age)).unwrap_or(0)
    }

    /// How a topic with `cleanup.policy=compact` is compacted.
    pub(super) fn compaction(&self) -> Compaction {
        Compaction {
            delete_retention_ms: self.delete_retention_ms,
            min_cleanable_dirty_ratio: self.min_cleanable_dirty_ratio,
            min_compaction_lag_ms: self.min_compaction_lag_ms,
            max_compaction_lag_ms: self.max_compaction_lag_ms,
            segment_bytes: self.segment_bytes,
            producer_expires_ms: EXPIRES_MS,
            ..Compaction::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CleanupPolicy;

    #[test]
    fn a_segment_is_sealed_sooner_by_chance_and_soon_enough_for_compaction() {
        let settings = Settings { segment_ms: 1000, max_compaction_lag_ms: 300, ..Settings::default() };
        assert_eq!(settings.segment_age_max_ms(7), 1000);
        let jitter = Settings { segment_jitter_ms: 100, ..settings.clone() };
        assert_eq!([0, 7, 99, 100, 250].map(|chance| jitter.segment_age_max_ms(chance)), [1000, 993, 901, 1000, 950]);
        let much = Settings { segment_jitter_ms: i64::MAX, ..settings.clone() };
        assert_eq!([999, 1000, 1001].map(|chance| much.segment_age_max_ms(chance)), [1, 1000, 999]);
        let compacted = Settings { cleanup_policy: CleanupPolicy::Compact, ..settings };
        assert_eq!(compacted.segment_age_max_ms(7), 300);
    }
}
