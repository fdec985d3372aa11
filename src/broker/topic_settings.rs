//! What a topic's settings mean to the broker: which records it takes ([`Rules`]), and how its log is retained and compacted.

use super::{Error, Result, producer_state::EXPIRES_MS};
use crate::{
    config::Settings,
    log::{Compaction, Retention},
};
use std::ops::RangeInclusive;

/// What a topic asks of each record.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The broker's clock stamps the records; their own times are dropped, whatever they are.
    pub append_time: bool,
    /// A record without a key is refused: the topic is compacted.
    pub key_required: bool,
    /// The times that a record may have. (That it has none is for Kafka's clients to say.)
    pub timestamps: RangeInclusive<i64>,
    /// How many bytes key, value and headers may have.
    pub bytes_max: usize,
}

/// What the rules look at in a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape<'a> {
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<&'a [u8]>,
    /// Of key, value and headers together.
    pub(super) bytes: usize,
}

impl Rules {
    /// Whether the topic takes such a record.
    pub(super) fn check(&self, Shape { timestamp, key, bytes }: Shape<'_>) -> Result<()> {
        if bytes > self.bytes_max {
            return Err(Error::TooLarge { bytes, limit: self.bytes_max });
        }
        if self.key_required && key.is_none() {
            return Err(Error::KeyRequired);
        }
        match timestamp {
            Some(timestamp @ ..0) => Err(Error::NoTime(timestamp)),
            Some(timestamp) if !self.append_time && !self.timestamps.contains(&timestamp) => {
                let (least, most) = self.timestamps.clone().into_inner();
                Err(Error::InvalidTimestamp { timestamp, least, most })
            }
            _ => Ok(()),
        }
    }
}

impl Settings {
    /// What the topic asks of records that come now.
    pub(super) fn rules(&self, now_ms: i64) -> Rules {
        let least = now_ms.saturating_sub(self.message_timestamp_before_max_ms).max(0);
        let most = now_ms.saturating_add(self.message_timestamp_after_max_ms);
        Rules {
            append_time: self.append_time(),
            key_required: self.cleanup_policy.compacts(),
            timestamps: least..=most,
            bytes_max: self.max_message_bytes as usize,
        }
    }

    /// What `cleanup.policy` lets go by age and size.
    pub(super) fn retention(&self) -> Retention {
        let timestamp_after_max_ms = self.message_timestamp_after_max_ms;
        if self.cleanup_policy.deletes() {
            Retention { ms: self.retention_ms, bytes: self.retention_bytes, timestamp_after_max_ms }
        } else {
            Retention { ms: -1, bytes: -1, timestamp_after_max_ms }
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
            timestamp_after_max_ms: self.message_timestamp_after_max_ms,
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
