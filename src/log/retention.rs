//! Retention: whole old segments go, oldest first, and the start offset with them.
//!
//! The owner of the log stores the new start offset durably before [`Log::remove_before_start`] removes a file, so a crash
//! in between leaves files that the next start removes, never a log that begins earlier than it says.
//!
//! A segment that [compaction](super::compaction) emptied goes with the next one that retention takes. By itself it moves nothing:
//! who committed an offset there goes on at the next record.

use super::{Error, Log, segment::Segment, unreadable};
use std::sync::atomic::Ordering::*;

/// What may stay: `retention.ms` and `retention.bytes`, -1 for unlimited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retention {
    /// Largest age of a segment's newest record, in ms.
    pub ms: i64,
    /// Bytes that stay at least.
    pub bytes: i64,
    /// `message.timestamp.after.max.ms`: a time further ahead says nothing of an age.
    pub timestamp_after_max_ms: i64,
}

impl Log {
    /// The start offset that retention asks for, if it is beyond the present one.
    pub fn expired_to(&self, now_ms: i64, retention: Retention) -> Result<Option<u64>, Error> {
        let segments = self.all_segments();
        let mut left = if retention.bytes < 0 { 0 } else { self.bytes()? as i64 };
        let mut start = None;
        for (index, segment) in segments.iter().enumerate() {
            let next = segments.get(index + 1).map(|next| next.base);
            let bytes = self.bytes_of(segment)? as i64;
            if bytes == 0 {
                // Compaction emptied it, which neither moves the start nor ends the look.
                continue;
            }
            let too_old = self.expires_at(segment, now_ms, retention)?.is_some_and(|at| now_ms > at);
            let too_many = retention.bytes >= 0 && next.is_some() && left - bytes >= retention.bytes;
            if !too_old && !too_many {
                break;
            }
            left -= bytes;
            start = Some(next.unwrap_or(self.high_watermark()));
        }
        Ok(start.filter(|&start| start > self.start()))
    }

    /// When the records of a segment are all too old; `None`: never, or there is none.
    fn expires_at(&self, segment: &Segment, now_ms: i64, retention: Retention) -> Result<Option<i64>, Error> {
        if retention.ms < 0 || self.bytes_of(segment)? == 0 {
            return Ok(None);
        }
        let newest = self.newest_ms(segment, now_ms, retention.timestamp_after_max_ms)?;
        Ok(Some(newest.saturating_add(retention.ms)))
    }

    /// When [`expired_to`](Self::expired_to) or [`roll_if_old`](Self::roll_if_old) will next have something to do because
    /// time passes; `None`: never.
    pub fn due_at(&self, now_ms: i64, retention: Retention, segment_ms_max: i64) -> Result<Option<i64>, Error> {
        let expire = self.all_segments();
        let mut expire = expire.iter().map(|segment| self.expires_at(segment, now_ms, retention));
        let expires = expire.find(|at| !matches!(at, Ok(None))).transpose()?.flatten();
        let writer = self.writer_now();
        let rolls = (writer.entries > 0).then(|| writer.since_ms.saturating_add(segment_ms_max));
        Ok([expires, rolls].into_iter().flatten().min())
    }

    /// Seals a segment whose first record is older than `segment.ms`, so that retention can take it though nothing comes.
    /// Answers whether there was one.
    pub fn roll_if_old(&self, now_ms: i64, segment_ms_max: i64) -> Result<bool, Error> {
        self.roll_if(|writer| writer.sealed || writer.is_old(now_ms, segment_ms_max))
    }

    /// Seals the last segment if all its records lie before `offset`: a log that loses its last record keeps an empty segment
    /// named by its end. Answers whether it did.
    pub fn seal_before(&self, offset: u64) -> Result<bool, Error> {
        self.roll_if(|writer| writer.entries > 0 && writer.log_end <= offset)
    }

    /// Makes `offset` the start: what lies before it is gone. The caller has stored it durably.
    pub fn advance_start(&self, offset: u64) {
        self.start.fetch_max(offset, AcqRel);
    }

    /// Removes the files of the sealed segments that lie before the start. What cannot be removed waits for the next call,
    /// or for the next open.
    pub fn remove_before_start(&self) -> Result<(), Error> {
        let mut doomed = self.files();
        let mut segments = self.segments.write().expect("no panic under the segments' lock");
        let expired = segments.iter().skip(1).take_while(|next| next.base <= self.start()).count();
        doomed.extend(segments.drain(..expired));
        drop(segments);
        while let Some(segment) = doomed.first() {
            segment.remove(&self.handles).map_err(unreadable(segment.path("log")))?;
            doomed.remove(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{
        disk::{Disk, MemoryDisk},
        handles::Handles,
    };
    use std::{path::Path, sync::Arc};

    const NOW_MS: i64 = 1_700_000_000_000;
    /// One hour, as by default.
    const AFTER_MAX_MS: i64 = 3_600_000;

    /// A log of lines that somebody put there at `NOW_MS`: two segments, and a third that is written to.
    fn by_hand(segments: [&str; 3]) -> Log {
        let (disk, dir) = (MemoryDisk::crashable(), Path::new("0"));
        disk.set_now_ms(NOW_MS);
        disk.create_dir(dir).unwrap();
        for (lines, base) in segments.into_iter().zip([0, 2, 4]) {
            disk.create(&dir.join(format!("{base:020}.log"))).unwrap().write_at(lines.as_bytes(), 0).unwrap();
        }
        let handles = Arc::new(Handles::new(Arc::new(disk), 16));
        Log::open(handles, dir, 0, true, NOW_MS, &|_| Ok(())).unwrap().0
    }

    fn with_times(times: [i64; 5]) -> Log {
        let [a, b, c, d, e] = times;
        by_hand([
            &format!("offset:0 timestamp:{a} key:k message:a\noffset:1 timestamp:{b} key:k message:b\n"),
            &format!("offset:2 timestamp:{c} key:k message:c\noffset:3 timestamp:{d} key:k message:d\n"),
            &format!("offset:4 timestamp:{e} key:k message:e\n"),
        ])
    }

    /// One record of a log put there by hand was dated 2096. Nothing behind it was ever too old again.
    #[test]
    fn a_time_in_the_far_future_says_nothing_of_an_age() {
        const FAR: i64 = 4_000_000_000_000;
        let old = NOW_MS - 5000;
        let retention = Retention { ms: 1000, bytes: -1, timestamp_after_max_ms: AFTER_MAX_MS };
        for (times, expires_ms, start) in [
            ([old; 5], old + 1001, 5),
            ([old, FAR, old, old, old], NOW_MS + 1001, 5),
            ([FAR, i64::MAX, FAR, FAR, NOW_MS + 7], NOW_MS + 1001, 4),
            ([FAR, old, NOW_MS + AFTER_MAX_MS - 1001, old, old], NOW_MS + 1001, 2),
            ([NOW_MS + AFTER_MAX_MS + 1002, old, old, old, old], NOW_MS + 1001, 5),
        ] {
            let log = with_times(times);
            assert_eq!(log.expired_to(expires_ms - 1, retention), Ok(None), "{times:?}");
            assert_eq!(log.expired_to(expires_ms, retention), Ok(Some(start)), "{times:?}");
            let due_at = log.due_at(expires_ms - 1, retention, i64::MAX);
            assert_eq!(due_at, Ok(Some(expires_ms - 1)), "{times:?}");
        }
        let all_taken = Retention { timestamp_after_max_ms: i64::MAX, ..retention };
        assert_eq!(with_times([FAR; 5]).expired_to(NOW_MS + 2000, all_taken), Ok(None), "who allows it gets it");
    }
}
