//! Retention: whole old segments are removed, oldest first, and the start offset moves with them.
//!
//! The owner of the log stores the new start offset durably before [`Log::remove_before_start`] removes a file. So a crash
//! in between leaves files that the next start removes, never a log that begins earlier than it says.
//!
//! A segment that [compaction](super::compaction) emptied goes together with the next one that retention takes. By itself it
//! does not move the start: whoever committed an offset there goes on at the next record.

use super::{Error, Log, handles::Handles, recovery::base_of, segment::Segment, unreadable};
use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering::*},
};

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

impl Retention {
    /// Whether anything may have to go.
    pub fn is_limited(self) -> bool {
        self.ms >= 0 || self.bytes >= 0
    }

    /// When the records of a segment are all too old; `None`: never, or there is none.
    fn expires_at(self, handles: &Handles, segment: &Segment, now_ms: i64) -> io::Result<Option<i64>> {
        if self.ms < 0 || segment.bytes(handles)? == 0 {
            return Ok(None);
        }
        let latest_ms = now_ms.saturating_add(self.timestamp_after_max_ms);
        let newest_ms = segment.credible_ms(handles, segment.max_timestamp(handles)?, latest_ms)?;
        Ok(Some(newest_ms.saturating_add(self.ms)))
    }
}

/// When a log in `dir` that nobody has opened must be opened, in ms, since retention or compaction may have something to do
/// there; `None`: never. `roll_ms`: it is compacted, and this is the age at which its active segment is rolled.
///
/// It looks at the sizes of files, and at one entry of the oldest segment. A log that was put there by hand, without entries,
/// must be opened now.
pub fn unopened_due_at(
    handles: &Handles,
    dir: &Path,
    now_ms: i64,
    retention: Retention,
    roll_ms: Option<i64>,
) -> io::Result<Option<i64>> {
    const NOW: Option<i64> = Some(i64::MIN);
    let names = match handles.disk().list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        names => names?,
    };
    let dir: Arc<Path> = dir.into();
    let bases = names.iter().filter_map(|name| base_of(&name.name, ".log"));
    let segments: Vec<_> = bases.map(|base| Segment::at(&dir, base)).collect();
    let Some(oldest) = segments.first() else { return Ok(None) };
    if !names.iter().any(|name| base_of(&name.name, ".batches") == Some(oldest.base)) {
        return Ok(NOW);
    }
    let is_sealed = segments.len() > 1;
    if is_sealed && (roll_ms.is_some() || oldest.bytes(handles)? == 0) {
        return Ok(NOW);
    }
    if is_sealed && retention.bytes >= 0 {
        let bytes: u64 = segments.iter().map(|segment| segment.bytes(handles)).sum::<io::Result<_>>()?;
        if bytes - oldest.bytes(handles)? >= retention.bytes as u64 {
            return Ok(NOW);
        }
    }
    let rolls_at = match roll_ms {
        Some(roll_ms) => oldest.entry(handles, 0)?.map(|(_, first)| first.timestamp.saturating_add(roll_ms)),
        None => None,
    };
    Ok(retention.expires_at(handles, oldest, now_ms)?.into_iter().chain(rolls_at).min())
}

impl Log {
    /// The start offset that retention asks for, if it is beyond the present one.
    pub fn expired_to(&self, now_ms: i64, retention: Retention) -> Result<Option<u64>, Error> {
        let segments = self.all_segments();
        let mut left = if retention.bytes < 0 { 0 } else { self.bytes()? as i64 };
        let mut start = None;
        for (index, segment) in segments.iter().enumerate() {
            let failed = unreadable(segment.path("log"));
            let next = segments.get(index + 1).map(|next| next.base);
            let bytes = self.bytes_of(segment)? as i64;
            if bytes == 0 {
                // Compaction emptied it, which neither moves the start nor ends the search.
                continue;
            }
            let expires_at = retention.expires_at(&self.handles, segment, now_ms).map_err(&failed)?;
            let too_old = expires_at.is_some_and(|at| now_ms > at);
            let too_many = retention.bytes >= 0 && next.is_some() && left - bytes >= retention.bytes;
            if !too_old && !too_many {
                break;
            }
            left -= bytes;
            start = Some(next.unwrap_or(self.high_watermark()));
        }
        Ok(start.filter(|&start| start > self.start()))
    }

    /// When [`expired_to`](Self::expired_to) will next have something to do because time passes; `None`: never.
    pub fn expires_at(&self, now_ms: i64, retention: Retention) -> Result<Option<i64>, Error> {
        for segment in self.all_segments() {
            let at = retention.expires_at(&self.handles, &segment, now_ms).map_err(unreadable(segment.path("log")))?;
            if at.is_some() {
                return Ok(at);
            }
        }
        Ok(None)
    }

    /// When [`roll_if_old`](Self::roll_if_old) will next have something to do; `None`: not before something is written.
    pub fn rolls_at(&self, segment_ms_max: i64) -> Option<i64> {
        let writer = self.writer_now();
        (writer.entries > 0).then(|| writer.since_ms.saturating_add(segment_ms_max))
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
        self.forget_aborted_before(offset);
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
            let due_at = log.expires_at(expires_ms - 1, retention);
            assert_eq!(due_at, Ok(Some(expires_ms - 1)), "{times:?}");
        }
        let all_taken = Retention { timestamp_after_max_ms: i64::MAX, ..retention };
        assert_eq!(with_times([FAR; 5]).expired_to(NOW_MS + 2000, all_taken), Ok(None), "who allows it gets it");
    }
}
