//! Opening a log after whatever happened: what was acknowledged is served, what was torn is cut and kept, damage is named.
//!
//! ```text
//! entries of the last segment:   0 ............ mark ............ last whole ...... end of the files
//!                                └── synced ──────┴─ whole again ──┴── torn tail ────┘
//!                                    damage stays    written again,    copied to .cut-<ms>,
//!                                    and is named    synced            then cut
//! ```
//!
//! Every entry carries the *sync mark*: how many entries were known to be durable when it was written. So after a crash
//! only what lies behind the last mark is read, not the log. After a clean stop all is synced, and nothing is read.
//!
//! What was accepted behind the mark is written again in place: after a failed sync the system may hold pages that never
//! reached the disk, and reading them proves nothing. A log without any `.batches` was put there by hand and is
//! *adopted*: its lines are checked and get entries. So are whole lines appended by hand to a log that was stopped cleanly.
//!
//! A [compaction](super::compaction) that reached its commit point is carried to its end before anything else is looked at;
//! what is left of one that did not is removed.

mod check;
mod renames;

pub use check::{Checked, Damage, check};
pub(super) use check::{Window, check_lines};
pub(super) use renames::{base_of, end_renames};

use super::{
    Error, Log, SyncState, Writer,
    batches::{BATCH_BYTES_MAX, ENTRY_BYTES, Entry, Flags, crc32c},
    disk::{self, File},
    handles::Handles,
    record::{Records, first_unprintable, parse_control, parse_fields, shown, split_offset, split_timestamp},
    segment::Segment,
};
use renames::entries_of;
use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, OnceLock, RwLock,
        atomic::{AtomicBool, AtomicU64},
    },
};

/// Bytes of lines in a batch made for lines that had none.
const ADOPTED_BATCH_BYTES: usize = 64 << 10;
/// The largest file that is adopted: positions are 32 bits.
const ADOPTED_BYTES_MAX: u64 = u32::MAX as u64;

/// What opening a log found and did.
#[derive(Debug, Default)]
pub struct Opened {
    /// Sentences for the operator.
    pub notes: Vec<String>,
    /// Whether there was no segment: nothing was ever written here.
    pub is_new: bool,
}

/// Why a log cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotOpen {
    /// A sentence for the operator.
    pub why: String,
    /// What may be done about it.
    pub cause: Cause,
}

/// What keeps a log from being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The disk has no room for what is to be done first.
    DiskFull,
    /// A call of the disk failed, which says nothing of what stands there.
    Disk,
    /// What stands in a file is wrong.
    Content,
}

impl CannotOpen {
    /// For what a disk answers about this file or folder.
    pub fn at(path: &Path) -> impl Fn(io::Error) -> CannotOpen + use<> {
        let path = path.display().to_string();
        move |error| {
            let cause = if disk::is_full(&error) { Cause::DiskFull } else { Cause::Disk };
            CannotOpen { why: format!("{path}: {error}"), cause }
        }
    }
}

impl From<String> for CannotOpen {
    fn from(why: String) -> CannotOpen {
        CannotOpen { why, cause: Cause::Content }
    }
}

/// Gives entries to the lines of a `.log` behind `last`, its last entry so far; the next segment begins at `end`. Answers the
/// entries as they stand in the file. An error names the line, counted from the file's start.
///
/// `so_far`: what is true of the entries before them, and so of these.
fn adopt(
    segment: &Segment,
    end: u64,
    log: &dyn File,
    last: Option<Entry>,
    so_far: Flags,
) -> Result<Vec<u8>, CannotOpen> {
    let file = segment.path("log");
    let failed = CannotOpen::at(&file);
    let wrong = |position: u64, what: &str| match lines_before(log, position) {
        Ok(lines) => format!("{} at position {position}: line {}: {what}", file.display(), lines + 1).into(),
        Err(error) => failed(error),
    };
    let length = log.len().map_err(&failed)?;
    if length > ADOPTED_BYTES_MAX {
        let what = format!("{length} bytes are more than the {ADOPTED_BYTES_MAX} that can be adopted");
        return Err(format!("{}: {what}", file.display()).into());
    }
    let file_time = log.modified_ms().map_err(&failed)?;
    let mut position = last.map_or(0, |last| u64::from(last.positions().end));
    let mut next = last.map_or(0, |last| u64::from(last.last()) + 1);
    let mut max_timestamp = last.map_or(-1, |last| last.max_timestamp);
    let (mut window, mut out) = (Window::new(log), Vec::new());
    while position < length {
        let mut wanted = ADOPTED_BATCH_BYTES;
        let bytes = loop {
            let found = window.at(position, wanted).map_err(&failed)?;
            let found = &found[..found.len().min(wanted)];
            match memchr::memchr(b'\n', found) {
                Some(first_end) => {
                    let limit = found.len().min(ADOPTED_BATCH_BYTES.max(first_end + 1));
                    break memchr::memrchr(b'\n', &found[..limit]).unwrap_or(first_end) + 1;
                }
                None if found.len() < wanted || wanted == BATCH_BYTES_MAX => {
                    return Err(wrong(position, &format!("no line end within {} bytes", found.len())));
                }
                None => wanted *= 2,
            }
        };
        let bytes = &window.at(position, bytes).map_err(&failed)?[..bytes];
        let (first, mut at) = (next, position);
        for line in bytes[..bytes.len() - 1].split(|&byte| byte == b'\n') {
            let offset = segment.base + next;
            let timestamp = checked_line(line, offset).and_then(|timestamp| match offset < end {
                true => Ok(timestamp),
                false => Err(format!("offset:{offset} is in the next segment, which begins at {end}")),
            });
            let timestamp = timestamp.map_err(|what| wrong(at, &what))?;
            max_timestamp = max_timestamp.max(timestamp.unwrap_or(file_time));
            next += 1;
            at += line.len() as u64 + 1;
        }
        if next > 1 << 32 {
            return Err(wrong(position, "more than 2^32 records"));
        }
        let entry = Entry {
            first: first as u32,
            position: position as u32,
            bytes: bytes.len() as u32,
            last_delta: (next - 1 - first) as u32,
            count: (next - first) as u32,
            flags: so_far,
            producer_epoch: -1,
            producer_id: -1,
            base_sequence: -1,
            mark: 0,
            timestamp: file_time,
            max_timestamp,
            lines_crc: crc32c(bytes),
        };
        out.extend_from_slice(&entry.encode());
        position += bytes.len() as u64;
    }
    Ok(out)
}

/// How many lines end before `position`.
fn lines_before(log: &dyn File, position: u64) -> io::Result<u64> {
    let (mut window, mut at, mut lines) = (Window::new(log), 0, 0);
    while at < position {
        let bytes = window.some_at(at, 1)?;
        let bytes = &bytes[..bytes.len().min((position - at) as usize)];
        lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        at += bytes.len() as u64;
    }
    Ok(lines)
}

/// What stands behind the last whole batch of the segment that grows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tail {
    /// Nothing.
    Whole,
    /// What a crash left of appends that were promised to nobody. It is cut.
    Torn,
    /// What was promised, and is not what it was. It stays, and none of its offsets is given again.
    Damaged {
        /// Entries that stay.
        entries: u32,
        /// The offset behind them.
        log_end: u64,
    },
    /// Lines that somebody appended.
    ByHand,
    /// Lines that the entries do not describe, not one, and that could all be somebody's.
    Foreign,
}

/// Whether a line is the record at `offset`, and one that the log itself could hold; answers its own timestamp.
fn checked_line(line: &[u8], offset: u64) -> Result<Option<i64>, String> {
    let (found, fields) = split_offset(line).ok_or_else(|| "it does not begin with offset:<n>".to_string())?;
    if found != offset {
        return Err(format!("offset:{found} where offset:{offset} follows"));
    }
    match first_unprintable(line) {
        Some((at, b"\r")) if at + 1 == line.len() => return Err("it ends with CR LF; a line ends with LF alone".into()),
        Some((at, bytes)) => {
            let hint = "a line is UTF-8 without control characters: write the value behind escaped: or base64:";
            return Err(format!("'{}' at byte {at}; {hint}", shown(bytes)));
        }
        None => {}
    }
    if parse_control(fields).is_ok() {
        return Err(
            "it ends a transaction; which records were in it stood in the .batches of this log, which is lost".into()
        );
    }
    let (own, fields) = split_timestamp(fields);
    let mut records = Records::default();
    parse_fields(&mut records, fields).map_err(|error| error.0)?;
    if records.get(0).is_some_and(|record| record.timestamp.is_some()) {
        return Err("timestamp: stands right behind offset: or nowhere".into());
    }
    Ok(own)
}

/// The offset behind the last line that can be read from `position` on: what may have been shown to a reader.
fn end_by_lines(segment: &Segment, log: &dyn File, mut position: u64, next: u64) -> io::Result<u64> {
    let (length, mut window, mut end) = (log.len()?, Window::new(log), segment.base + next);
    while position < length {
        let bytes = window.some_at(position, 4096)?;
        if let Some((offset, _)) = split_offset(&bytes[..bytes.len().min(40)]) {
            end = end.max(offset.saturating_add(1).min(segment.base + u64::from(u32::MAX)));
        }
        position += memchr::memchr(b'\n', bytes).map_or(bytes.len() as u64, |at| at as u64 + 1);
    }
    Ok(end)
}

/// One log on its way to being open.
struct Recovery<'a> {
    handles: &'a Handles,
    dir: &'a Arc<Path>,
    clean: bool,
    now_ms: i64,
    /// Ends the leader epoch at an offset, durably, before those behind it are cut off, which will be given again.
    cutting: &'a dyn Fn(u64) -> io::Result<()>,
    opened: Opened,
    /// Why nothing can be appended.
    read_only: Option<String>,
    /// What the last entry of the sealed segments tells of the one that follows: it may have begun within a transaction.
    within: Flags,
}

impl Recovery<'_> {
    fn note(&mut self, segment: &Segment, what: &str) {
        self.opened.notes.push(format!("{}: {what}", segment.path("log").display()));
    }

    /// Removes an empty last segment if records of the one before it reach behind its base. A roll that failed may have left
    /// it, whereupon the log went on in the old segment after a restart: a crash can bring back names that were taken away. The
    /// very last entry may be torn.
    fn remove_overtaken(&mut self, bases: &mut Vec<u64>) -> io::Result<()> {
        let [.., before, base] = bases[..] else { return Ok(()) };
        let (before, last) = (Segment::at(self.dir, before), Segment::at(self.dir, base));
        if last.log(self.handles)?.len()? > 0 {
            return Ok(());
        }
        let entries = entries_of(self.handles, &before)?;
        let Some((_, entry)) = before.last_whole(self.handles, entries)? else { return Ok(()) };
        let end = before.base + u64::from(entry.last()) + 1;
        let has_more = before.log(self.handles)?.len()? > u64::from(entry.positions().end);
        if end > base || end == base && has_more {
            self.note(&last, "it is empty and begins within the segment before it; a roll that failed left it");
            last.remove(self.handles)?;
            bases.pop();
        }
        Ok(())
    }

    /// Entries for a segment that has none, or for lines behind its entries; the next segment begins at `end`.
    fn adopt(&mut self, segment: &Segment, end: u64, checked: &Checked) -> Result<(), CannotOpen> {
        let failed = CannotOpen::at(&segment.path("batches"));
        let log = segment.log(self.handles).map_err(&failed)?;
        let so_far = checked.last.map_or(self.within, |last| last.so_far());
        let mut entries = adopt(segment, end, &*log, checked.last, so_far)?;
        let adopted = entries.len() / ENTRY_BYTES;
        if checked.whole > 0 {
            let mut before = vec![0; checked.whole as usize * ENTRY_BYTES];
            segment.batches(self.handles).and_then(|file| file.read_at(&mut before, 0)).map_err(&failed)?;
            before.append(&mut entries);
            entries = before;
        }
        log.sync()
            .and_then(|()| disk::replace(self.handles.disk(), &segment.path("batches"), &entries))
            .map_err(failed)?;
        if adopted > 0 {
            self.note(segment, &format!("adopted lines that had no entries, as {adopted} batches"));
        }
        Ok(())
    }

    /// A sealed segment was synced whole, so what is wrong with it is damage. Lines without entries get them back. The next
    /// segment begins at `end`.
    fn sealed(&mut self, base: u64, end: u64) -> Result<Segment, CannotOpen> {
        let segment = Segment::at(self.dir, base);
        let failed = CannotOpen::at(&segment.path("log"));
        let entries =
            (segment.batches(self.handles).and_then(|file| file.len()).map_err(&failed)? / ENTRY_BYTES as u64) as u32;
        let last = entries.checked_sub(1).map(|last| segment.entry(self.handles, last)).transpose().map_err(&failed)?;
        let bytes = segment.log(self.handles).and_then(|log| log.len()).map_err(&failed)?;
        if let Some(last) = last {
            self.within = last.map_or(Flags::TRANSACTIONS, |(_, entry)| entry.flags.only(Flags::TRANSACTIONS));
        }
        let described = last.flatten().map_or(0, |(_, entry)| u64::from(entry.positions().end));
        if described != bytes {
            let checked = check(self.handles, &segment, 0).map_err(&failed)?;
            self.name_damages(&segment, &checked.damages);
            if checked.whole == checked.entries {
                match self.adopt(&segment, end, &checked) {
                    Err(CannotOpen { why, cause: Cause::Content | Cause::DiskFull }) => self.opened.notes.push(why),
                    adopted => return adopted.map(|()| Segment::at(self.dir, base)),
                }
            }
        }
        Ok(segment)
    }

    fn name_damages(&mut self, segment: &Segment, damages: &[Damage]) {
        self.handles.damaged.add(damages.len() as u64);
        for damage in damages {
            let to = damage.next.map_or("on".into(), |next| format!("to {}", next.saturating_sub(1)));
            self.note(segment, &format!("damaged at position {}: offsets {} {to}", damage.position, damage.first));
        }
    }

    /// The segment that grows. Answers it with the state of its writer.
    fn last(&mut self, base: u64) -> Result<Writer, CannotOpen> {
        let mut segment = Segment::at(self.dir, base);
        let failed = CannotOpen::at(&segment.path("log"));
        let mut checked = self.check_last(&segment).map_err(&failed)?;
        let mut tail = self.tail(&segment, &checked)?;
        if tail == Tail::Foreign {
            (self.cutting)(base).and_then(|()| self.set_aside(&segment, "batches", 0)).map_err(&failed)?;
            self.note(&segment, "its .batches describes other lines; it was set aside");
            checked = Checked { bytes: checked.bytes, ..Checked::default() };
        }
        if matches!(tail, Tail::Foreign | Tail::ByHand) {
            match self.adopt(&segment, u64::MAX, &checked) {
                Err(CannotOpen { why, cause: Cause::DiskFull }) if tail == Tail::ByHand => self.leave_tail(&why),
                adopted => {
                    adopted?;
                    segment = Segment::at(self.dir, base);
                    checked = self.check_last(&segment).map_err(&failed)?;
                    tail = self.tail(&segment, &checked)?;
                }
            }
        }
        let is_damaged = matches!(tail, Tail::Damaged { .. });
        checked.damages.retain(|damage| is_damaged || damage.next.is_some());
        self.name_damages(&segment, &checked.damages);
        let (mut entries, mut log_end, mut position) = (checked.whole, base + checked.next(), checked.position());
        match tail {
            Tail::Whole => {}
            Tail::Torn => match self.cut_tail(&segment, &checked).map_err(&failed) {
                Err(CannotOpen { why, cause: Cause::DiskFull }) => self.leave_tail(&why),
                cut => cut?,
            },
            Tail::Damaged { entries: kept, log_end: end } => {
                (entries, log_end, position) = (kept, end, checked.bytes);
                if entries < checked.entries {
                    (self.cutting)(log_end).map_err(&failed)?;
                }
                let batches = segment.batches(self.handles).map_err(&failed)?;
                let cut = batches.set_len(u64::from(entries) * ENTRY_BYTES as u64);
                cut.and_then(|()| batches.sync()).map_err(&failed)?;
            }
            // Those that found no room are left where they are.
            Tail::ByHand | Tail::Foreign if self.read_only.is_some() => {}
            Tail::ByHand | Tail::Foreign => {
                return Err(format!("{}: it changed while it was read", segment.path("log").display()).into());
            }
        }
        if !self.clean {
            self.write_again(&segment, checked.mark, checked.whole).map_err(&failed)?;
        }
        if !self.clean && entries == 0 && position == 0 && self.read_only.is_none() {
            // The process may have ended before it synced the names. A sync that failed took them for clean: they are synced
            // again with one that changes. It is that of an empty file, so nothing is lost if it cannot be given back.
            let (disk, batches, away) = (self.handles.disk(), segment.path("batches"), segment.path("batches.new"));
            let changed = disk.rename(&batches, &away).and_then(|()| disk.rename(&away, &batches));
            changed.and_then(|()| disk.sync_dir(self.dir)).map_err(&failed)?;
        }
        let max_timestamp = checked.last.map_or(-1, |last| last.max_timestamp);
        segment.grow(entries, position, max_timestamp);
        segment.mark_synced(entries, position);
        let first = if entries > 0 { segment.entry(self.handles, 0).map_err(&failed)? } else { None };
        let since_ms = first.map_or(self.now_ms, |(_, entry)| entry.timestamp).clamp(0, self.now_ms);
        let so_far = checked.last.map_or(self.within, |last| last.so_far());
        // Nobody knows what was in what is damaged.
        let so_far = if is_damaged { Flags::SO_FAR } else { so_far };
        let empty = Writer::of(Arc::new(segment), log_end, since_ms, Vec::new());
        Ok(Writer { position, entries, max_timestamp, so_far, ..empty })
    }

    /// What stands behind the last whole batch. Changes nothing.
    fn tail(&self, segment: &Segment, checked: &Checked) -> Result<Tail, CannotOpen> {
        if checked.sizes_agree {
            return Ok(Tail::Whole);
        }
        let failed = CannotOpen::at(&segment.path("log"));
        let log = segment.log(self.handles).map_err(&failed)?;
        // After a crash, entries of which none is known to be synced may be torn, as their lines may.
        if (self.clean || checked.mark > 0) && checked.whole == 0 && checked.bytes > 0 && checked.entries > 0 {
            match adopt(segment, u64::MAX, &*log, None, Flags::NONE) {
                Ok(_) => return Ok(Tail::Foreign),
                Err(CannotOpen { cause: Cause::Content, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if self.clean && checked.whole == checked.entries && checked.position() < checked.bytes {
            return Ok(Tail::ByHand);
        }
        let promised = if self.clean { checked.entries } else { checked.whole.max(checked.mark) };
        if promised == checked.whole {
            return Ok(Tail::Torn);
        }
        let (mut behind, mut all_read) = (0, true);
        for index in checked.whole..promised {
            match segment.entry(self.handles, index).map_err(&failed)? {
                Some((_, entry)) => behind = behind.max(u64::from(entry.last()) + 1),
                None => all_read = false,
            }
        }
        if self.clean && behind == 0 && checked.position() == checked.bytes {
            // Zeros behind the last entry, where each line has its own, describe nothing.
            return Ok(Tail::Torn);
        }
        let mut log_end = segment.base + behind.max(checked.next());
        if !all_read {
            let shown = end_by_lines(segment, &*log, checked.position(), checked.next()).map_err(&failed)?;
            log_end = log_end.max(shown);
        }
        Ok(Tail::Damaged { entries: promised, log_end })
    }

    /// The disk has no room for what is to be done with the log's end. What stands before it can be read.
    fn leave_tail(&mut self, why: &str) {
        let what = "the disk is full; the partition is read-only until there is room and the broker restarts";
        self.read_only = Some(format!("{why}: {what}"));
    }

    /// Checks the last segment from its sync mark on, or wholly if its sizes disagree.
    fn check_last(&self, segment: &Segment) -> io::Result<Checked> {
        let entries = (segment.batches(self.handles)?.len()? / ENTRY_BYTES as u64) as u32;
        let last = segment.last_whole(self.handles, entries)?;
        let mark = if self.clean { entries } else { last.map_or(0, |(index, entry)| entry.sync_mark().min(index)) };
        let checked = check(self.handles, segment, mark)?;
        if checked.sizes_agree || mark == 0 { Ok(checked) } else { check(self.handles, segment, 0) }
    }

    /// Copies what stands from `position` on in a file to `<base>.cut-<ms>`, durably, and over no earlier copy. Answers how many
    /// bytes that were, and the copy.
    fn set_aside(&self, segment: &Segment, extension: &str, position: u64) -> io::Result<(u64, PathBuf)> {
        let file = self.handles.disk().open(&segment.path(extension))?;
        let bytes = file.len()?.saturating_sub(position);
        let taken = self.handles.disk().list(self.dir)?;
        let is_free = |path: &PathBuf| !taken.iter().any(|name| path.ends_with(&name.name));
        let mut copies = (self.now_ms..).map(|ms| segment.path(&format!("cut-{ms}")));
        let path = copies.find(is_free).expect("there are more names than files");
        let copied = self.copy(&*file, position..position + bytes, &path);
        // On a full disk half a copy would take the rest of the room.
        copied.inspect_err(|_| drop(self.handles.disk().remove_file(&path)))?;
        Ok((bytes, path))
    }

    fn copy(&self, file: &dyn File, range: Range<u64>, to: &Path) -> io::Result<()> {
        let copy = self.handles.disk().create(to)?;
        let (mut window, mut position) = (Window::new(file), range.start);
        while position < range.end {
            let part = window.some_at(position, 1)?;
            copy.write_at(part, position - range.start)?;
            position += part.len() as u64;
        }
        copy.sync()?;
        self.handles.disk().sync_dir(self.dir)
    }

    /// Cuts what stands behind the last whole batch, once a copy of it is durable.
    fn cut_tail(&mut self, segment: &Segment, checked: &Checked) -> io::Result<()> {
        let (log, batches) = (segment.log(self.handles)?, segment.batches(self.handles)?);
        let (position, entries_end) = (checked.position(), u64::from(checked.whole) * ENTRY_BYTES as u64);
        let lost = batches.len()?.saturating_sub(entries_end);
        if checked.bytes > position || lost > 0 {
            (self.cutting)(segment.base + checked.next())?;
        }
        if checked.bytes > position {
            let (bytes, copy) = self.set_aside(segment, "log", position)?;
            let what =
                format!("a torn tail of {bytes} bytes at position {position} was cut; {} keeps it", copy.display());
            self.note(segment, &what);
            log.set_len(position)?;
            log.sync()?;
        } else if lost > 0 {
            self.note(
                segment,
                &format!("{lost} bytes of entries without their lines were cut behind position {position}"),
            );
        }
        if lost > 0 {
            batches.set_len(entries_end)?;
            batches.sync()?;
        }
        Ok(())
    }

    /// A segment that begins the log, or goes on behind a gap.
    fn begin(&self, base: u64) -> io::Result<Writer> {
        let made = Segment::create(self.handles, self.dir, base);
        let durable = made.and_then(|segment| self.handles.disk().sync_dir(self.dir).map(|()| segment));
        let segment = durable.inspect_err(|_| drop(Segment::at(self.dir, base).remove(self.handles)))?;
        Ok(Writer::of(Arc::new(segment), base, self.now_ms, Vec::new()))
    }

    /// Writes entries `mark..whole` and their lines again in place, and syncs them, and what was cut off before.
    fn write_again(&self, segment: &Segment, mark: u32, whole: u32) -> io::Result<()> {
        if mark >= whole {
            return segment.sync(self.handles, &segment.open(self.handles)?);
        }
        let (log, batches) = (segment.log(self.handles)?, segment.batches(self.handles)?);
        let before = mark.checked_sub(1).map(|index| segment.entry(self.handles, index)).transpose()?.flatten();
        let from = before.map_or(0, |(_, entry)| u64::from(entry.positions().end));
        let entries_from = u64::from(mark) * ENTRY_BYTES as u64;
        for (file, mut position) in [(log, from), (batches, entries_from)] {
            let end = file.len()?;
            let mut window = Window::new(&*file);
            while position < end {
                let bytes = window.some_at(position, 1)?;
                file.write_at(bytes, position)?;
                position += bytes.len() as u64;
            }
            file.sync()?;
        }
        Ok(())
    }
}

impl Log {
    /// Opens the log in `dir`, which is there, as the module's documentation says. An empty one begins at `start`.
    ///
    /// `clean`: the broker that wrote it stopped cleanly. `cutting` is called with the offset from which on records are about
    /// to be cut off, and will be given again: it ends the leader epoch there. An error leaves every file as it is, but for
    /// leftovers.
    pub fn open(
        handles: Arc<Handles>,
        dir: &Path,
        start: u64,
        clean: bool,
        now_ms: i64,
        cutting: &dyn Fn(u64) -> io::Result<()>,
    ) -> Result<(Log, Opened), CannotOpen> {
        let dir: Arc<Path> = dir.into();
        let mut recovery = Recovery {
            handles: &handles,
            dir: &dir,
            clean,
            now_ms,
            cutting,
            opened: Opened::default(),
            read_only: None,
            within: Flags::NONE,
        };
        let failed = CannotOpen::at(&dir);
        let mut bases = end_renames(&handles, &dir).map_err(&failed)?;
        // First: it says nothing of where the segment before it ends.
        recovery.remove_overtaken(&mut bases).map_err(&failed)?;
        while bases.get(1).is_some_and(|&next| next <= start) {
            // What a crash left of it may be one file of two, and is nobody's any more.
            Segment::at(&dir, bases.remove(0)).remove(&handles).map_err(&failed)?;
        }
        let names = handles.disk().list(&dir).map_err(&failed)?;
        let ends: Vec<u64> = bases.iter().skip(1).copied().chain([u64::MAX]).collect();
        for (&base, &end) in bases.iter().zip(&ends) {
            if !names.iter().any(|name| name.name == format!("{base:020}.batches")) {
                recovery.adopt(&Segment::at(&dir, base), end, &Checked::default())?;
            }
        }
        let mut segments = Vec::new();
        let mut writer = match bases.split_last() {
            Some((&last, sealed)) => {
                for (&base, &end) in sealed.iter().zip(&ends) {
                    segments.push(Arc::new(recovery.sealed(base, end)?));
                }
                recovery.last(last)?
            }
            None => {
                recovery.opened.is_new = true;
                recovery.begin(start).map_err(&failed)?
            }
        };
        segments.push(writer.segment.clone());
        if writer.log_end < start {
            // Records that TRIM or retention had taken were not even all on disk: the log goes on where they ended.
            writer = recovery.begin(start).map_err(&failed)?;
            segments.push(writer.segment.clone());
        }
        let (log_end, first) = (writer.log_end, segments[0].base);
        let Recovery { mut opened, read_only, .. } = recovery;
        opened.notes.extend(read_only.clone());
        let log = Log {
            handles: handles.clone(),
            dir: dir.clone(),
            segments: RwLock::new(segments),
            start: AtomicU64::new(start.max(first)),
            high_watermark: AtomicU64::new(log_end),
            first_unstable: AtomicU64::new(u64::MAX),
            aborted: RwLock::default(),
            writer: Mutex::new(writer),
            resumed: Condvar::new(),
            sync: Mutex::new(SyncState { synced_end: log_end, leader: false, failed: None }),
            synced: Condvar::new(),
            read_only: read_only.map(Error::ReadOnly).map_or_else(OnceLock::new, OnceLock::from),
            closed: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            files: Mutex::default(),
            cleaner: Mutex::default(),
            names: Mutex::default(),
        };
        Ok((log, opened))
    }
}
