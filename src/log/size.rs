//! How much a log holds. Of one that was stopped cleanly and that nobody has opened since, its files tell it.
//!
//! ```text
//! first segment's name ─┐        its last entry ─┐  and the size of its .log says whether it is the last
//!   start offset        [ sealed ][ sealed ][ active ) high watermark
//! ```

use super::{
    Error, Log,
    batches::{ENTRY_BYTES, Entry, Flags},
    disk::Disk,
    recovery::base_of,
    segment::path,
};
use std::{
    io::{self, ErrorKind},
    path::Path,
};

/// How much a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Offset of the first record.
    pub start: u64,
    /// Offset behind the last record that readers see.
    pub high_watermark: u64,
    /// Bytes of its lines on disk.
    pub bytes: u64,
    /// How many segments it has; 0: there is no log yet.
    pub segments: usize,
    /// Offset behind the last record that is shown to readers of committed records; `None`: a transaction may be open, and only
    /// opening the log tells where it began.
    pub last_stable_offset: Option<u64>,
}

/// What stands in the files of a segment.
struct Files {
    bytes: u64,
    entries: u64,
    last: Option<Entry>,
}

impl Files {
    fn read(disk: &dyn Disk, dir: &Path, base: u64) -> io::Result<Files> {
        let (log, batches) = (disk.open(&path(dir, base, "log"))?, disk.open(&path(dir, base, "batches"))?);
        let entries = batches.len()? / ENTRY_BYTES as u64;
        let mut entry = [0; ENTRY_BYTES];
        let position = entries.saturating_sub(1) * ENTRY_BYTES as u64;
        let is_read = batches.read_at(&mut entry, position)? == ENTRY_BYTES;
        Ok(Files { bytes: log.len()?, entries, last: is_read.then(|| Entry::decode(&entry)).flatten() })
    }

    /// Offset behind the last record, counted from the segment's base; `None`: the lines are not those of the entries.
    fn end(&self) -> Option<u64> {
        match self.last {
            Some(last) => (u64::from(last.positions().end) == self.bytes).then(|| u64::from(last.last()) + 1),
            None => (self.entries == 0 && self.bytes == 0).then_some(0),
        }
    }
}

/// Whether an empty segment begins behind the last of those before it. One that begins within it is what a failed roll left.
fn follows(disk: &dyn Disk, dir: &Path, active: u64, sealed: &[u64]) -> io::Result<bool> {
    let Some(&base) = sealed.last() else { return Ok(true) };
    let before = Files::read(disk, dir, base)?;
    Ok(before.last.is_none() || before.end().is_some_and(|end| base + end <= active))
}

impl Size {
    /// Of a log that there is none of yet, and that will begin at `start`.
    pub fn nothing(start: u64) -> Size {
        Size { start, high_watermark: start, last_stable_offset: Some(start), bytes: 0, segments: 0 }
    }

    /// Of the log in `dir`, which was stopped cleanly, is not open, and begins at `start` or later. `None`: only opening it tells.
    pub fn of_unopened(disk: &dyn Disk, dir: &Path, start: u64) -> io::Result<Option<Size>> {
        let names = match disk.list(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        if names.is_empty() {
            return Ok(Some(Size::nothing(start)));
        }
        // What a crash left of a compaction is carried to its end first.
        let is_left = |name: &str| [".new", ".swap"].iter().any(|end| name.ends_with(end));
        let mut bases: Vec<u64> = names.iter().filter_map(|name| base_of(&name.name, ".log")).collect();
        let described: Vec<u64> = names.iter().filter_map(|name| base_of(&name.name, ".batches")).collect();
        if bases != described || names.iter().any(|name| is_left(&name.name)) {
            return Ok(None);
        }
        let trimmed = bases.iter().skip(1).take_while(|next| **next <= start).count();
        bases.drain(..trimmed);
        let Some((&active, sealed)) = bases.split_last() else { return Ok(None) };
        let files = Files::read(disk, dir, active)?;
        let Some(end) = files.end() else { return Ok(None) };
        let high_watermark = active + end;
        if high_watermark < start || files.entries == 0 && !follows(disk, dir, active, sealed)? {
            return Ok(None);
        }
        // There may be thousands of these: of each only the size is asked.
        let bytes = sealed.iter().try_fold(files.bytes, |sum, &base| {
            Ok::<u64, io::Error>(sum + disk.open(&path(dir, base, "log"))?.len()?)
        })?;
        // Where there is no entry, nobody knows.
        let may_be_open = files.last.map_or(active > 0, |last| last.so_far().has(Flags::TRANSACTIONS));
        Ok(Some(Size {
            start: start.max(bases[0]),
            high_watermark,
            bytes,
            segments: bases.len(),
            last_stable_offset: (!may_be_open).then_some(high_watermark),
        }))
    }
}

impl Log {
    /// How much it holds.
    pub fn size(&self) -> Result<Size, Error> {
        // In this order: none of the offsets is above the next, though they rise meanwhile.
        let (start, last_stable_offset) = (self.start(), Some(self.last_stable_offset()));
        let high_watermark = self.high_watermark();
        Ok(Size { start, high_watermark, bytes: self.bytes()?, segments: self.segments(), last_stable_offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{
        Append, Content,
        disk::{self, MemoryDisk},
        handles::Handles,
        record::Records,
    };
    use std::{borrow::Cow, sync::Arc};

    const DIR: &str = "0";

    fn open(disk: &MemoryDisk, start: u64) -> Log {
        let handles = Arc::new(Handles::new(Arc::new(disk.clone()), 16));
        Log::open(handles, Path::new(DIR), start, true, 1, &|_| Ok(())).unwrap().0
    }

    /// Appends a batch of so many records; two fit a segment.
    fn append(log: &Log, count: usize, flags: Flags) {
        let mut records = Records::default();
        (0..count).for_each(|_| records.push(None, None, Some(Cow::Borrowed(b"hello"))));
        let append = Append {
            content: Content::Records(&records),
            now_ms: 1,
            flags,
            producer: None,
            whole: true,
            segment_bytes_max: 60,
            segment_ms_max: i64::MAX,
            publish: true,
        };
        log.append(&append).unwrap();
    }

    fn unopened(disk: &MemoryDisk, start: u64) -> Option<Size> {
        Size::of_unopened(disk, Path::new(DIR), start).unwrap()
    }

    /// A log with six records in three segments, which is closed.
    fn written() -> MemoryDisk {
        let disk = MemoryDisk::default();
        disk::make_dir(&disk, Path::new(DIR)).unwrap();
        let log = open(&disk, 0);
        (0..3).for_each(|_| append(&log, 2, Flags::NONE));
        assert_eq!(log.segments(), 3);
        disk
    }

    #[test]
    fn the_files_of_a_log_tell_what_opening_it_tells() {
        let empty = MemoryDisk::default();
        assert_eq!(unopened(&empty, 7), Some(Size::nothing(7)));
        disk::make_dir(&empty, Path::new(DIR)).unwrap();
        assert_eq!(unopened(&empty, 0), Some(Size::nothing(0)));
        let disk = written();
        for start in [0, 1, 2, 5, 6] {
            let told = unopened(&disk, start);
            assert_eq!(told, Some(open(&disk, start).size().unwrap()), "{start}");
        }
        let new = MemoryDisk::default();
        disk::make_dir(&new, Path::new(DIR)).unwrap();
        let size = open(&new, 0).size().unwrap();
        assert_eq!((unopened(&new, 0), size.segments), (Some(size), 1));
    }

    #[test]
    fn an_active_segment_without_records_is_told_too() {
        let disk = written();
        let log = open(&disk, 0);
        assert!(log.seal_before(6).unwrap());
        let size = log.size().unwrap();
        drop(log);
        assert_eq!((size.segments, size.high_watermark), (4, 6));
        // Without an entry it is opened to learn whether a transaction is open.
        assert_eq!(unopened(&disk, 0), Some(Size { last_stable_offset: None, ..size }));
    }

    #[test]
    fn what_may_hold_an_open_transaction_is_said_to() {
        let disk = written();
        assert_eq!(unopened(&disk, 0).unwrap().last_stable_offset, Some(6));
        append(&open(&disk, 0), 1, Flags::TRANSACTIONAL);
        let size = unopened(&disk, 0).unwrap();
        assert_eq!((size.high_watermark, size.last_stable_offset), (7, None));
    }

    #[test]
    fn what_opening_would_change_is_not_told() {
        type Change = fn(&MemoryDisk);
        let changes: [(&str, Change); 5] = [
            ("a line written by hand", |disk| {
                let log = disk.open(&path(Path::new(DIR), 4, "log")).unwrap();
                log.write_at(b"message:by hand\n", log.len().unwrap()).unwrap();
            }),
            ("a segment without entries", |disk| disk.remove_file(&path(Path::new(DIR), 0, "batches")).unwrap()),
            ("what is left of a compaction", |disk| {
                drop(disk.create(&path(Path::new(DIR), 0, "batches.swap")).unwrap())
            }),
            ("an entry that is damaged", |disk| {
                let batches = disk.open(&path(Path::new(DIR), 4, "batches")).unwrap();
                batches.write_at(b"!", batches.len().unwrap() - 1).unwrap();
            }),
            ("a segment that a failed roll left", |disk| {
                disk.create(&path(Path::new(DIR), 5, "batches")).unwrap();
                disk.create(&path(Path::new(DIR), 5, "log")).unwrap();
            }),
        ];
        for (what, change) in changes {
            let disk = written();
            change(&disk);
            assert_eq!(unopened(&disk, 0), None, "{what}");
        }
        assert_eq!(unopened(&written(), 7), None, "the start lies behind its end");
    }
}
