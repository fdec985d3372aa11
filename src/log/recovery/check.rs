//! Whether what stands in a segment is what its entries say.

use crate::log::{
    batches::{ENTRY_BYTES, Entry, crc32c},
    disk::File,
    handles::Handles,
    segment::Segment,
};
use std::io;

/// One batch that is not what its entry says.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// First offset that is damaged.
    pub first: u64,
    /// First offset behind the damage; `None`: to the end of the segment.
    pub next: Option<u64>,
    /// Position in the `.log`.
    pub position: u64,
}

/// What a check of a segment's batches found.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many entries there are up to and with the last whole one.
    pub whole: u32,
    /// The last whole entry.
    pub last: Option<Entry>,
    /// How many entries are known to be synced, by the highest mark.
    pub mark: u32,
    /// The damage, oldest first; what lies behind the last whole entry comes last, without `next`.
    pub damages: Vec<Damage>,
    /// Entries in the file.
    pub entries: u32,
    /// Bytes in the `.log`.
    pub bytes: u64,
    /// Whether the files' sizes agree with the last entry.
    pub sizes_agree: bool,
}

impl Checked {
    /// Position behind the last whole batch.
    pub(super) fn position(&self) -> u64 {
        self.last.map_or(0, |last| u64::from(last.positions().end))
    }

    /// Offset behind the last whole batch, from the segment's base.
    pub(super) fn next(&self) -> u64 {
        self.last.map_or(0, |last| u64::from(last.last()) + 1)
    }
}

/// A window over a file's bytes, moved forward.
pub(in crate::log) struct Window<'a> {
    file: &'a dyn File,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    const BYTES: usize = 1 << 20;

    pub(in crate::log) fn new(file: &'a dyn File) -> Window<'a> {
        Window { file, start: 0, bytes: Vec::new() }
    }

    /// The bytes from `position` on, at least `wanted` if the file has them.
    pub(in crate::log) fn at(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let inside = position >= self.start && position + wanted as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            let there = self.file.len()?.saturating_sub(position);
            self.bytes.resize(wanted.max(Self::BYTES).min(there as usize), 0);
            let read = self.file.read_at(&mut self.bytes, position)?;
            self.bytes.truncate(read);
            self.start = position;
        }
        Ok(&self.bytes[(position - self.start) as usize..])
    }

    /// The same, and at least one byte: that the file ends there is an error.
    pub(in crate::log) fn some_at(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        match self.at(position, wanted)? {
            [] => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read")),
            bytes => Ok(bytes),
        }
    }
}

/// Checks each batch of a segment from entry `from` on against its lines. Changes nothing.
pub fn check(handles: &Handles, segment: &Segment, from: u32) -> io::Result<Checked> {
    check_lines(handles, segment, from, &mut |_, _| {})
}

/// The same, and hands the lines of each batch that is whole on to `each`.
pub(in crate::log) fn check_lines(
    handles: &Handles,
    segment: &Segment,
    from: u32,
    each: &mut dyn FnMut(&Entry, &[u8]),
) -> io::Result<Checked> {
    let log = segment.log(handles)?;
    let entries_bytes = segment.batches(handles)?.len()?;
    let mut checked = Checked {
        entries: (entries_bytes / ENTRY_BYTES as u64).min(u64::from(u32::MAX)) as u32,
        bytes: log.len()?,
        ..Checked::default()
    };
    let mut lines = Window::new(&*log);
    let mut entries = Vec::new();
    let mut index = 0;
    let mut bad = None;
    if from > 0 {
        index = from - 1;
    }
    while index < checked.entries {
        segment.read_entries(handles, index, u32::MAX, checked.entries, &mut entries)?;
        for entry in &entries {
            let fitting = entry.filter(|entry| {
                let follows =
                    u64::from(entry.first) >= checked.next() && u64::from(entry.position) >= checked.position();
                follows && u64::from(entry.positions().end) <= checked.bytes
            });
            let whole = match fitting {
                Some(entry) if index >= from => {
                    // A read that fails says nothing of the lines.
                    let bytes = lines.at(u64::from(entry.position), entry.bytes as usize)?;
                    let lines = bytes.get(..entry.bytes as usize);
                    let lines = lines.filter(|lines| crc32c(lines) == entry.lines_crc);
                    lines.inspect(|lines| each(&entry, lines)).map(|_| entry)
                }
                trusted => trusted,
            };
            checked.mark = checked.mark.max(entry.map_or(0, |entry| entry.sync_mark()));
            index += 1;
            match whole {
                Some(entry) => {
                    if let Some(damage) = bad.take() {
                        checked.damages.push(Damage { next: Some(segment.base + u64::from(entry.first)), ..damage });
                    }
                    checked.whole = index;
                    checked.last = Some(entry);
                }
                None => {
                    bad.get_or_insert(Damage {
                        first: segment.base + checked.next(),
                        next: None,
                        position: checked.position(),
                    });
                }
            }
        }
        if entries.is_empty() {
            break;
        }
    }
    checked.sizes_agree = entries_bytes % ENTRY_BYTES as u64 == 0
        && checked.whole == checked.entries
        && checked.position() == checked.bytes;
    if !checked.sizes_agree && bad.is_none() {
        bad = Some(Damage { first: segment.base + checked.next(), next: None, position: checked.position() });
    }
    checked.damages.extend(bad);
    checked.mark = checked.mark.min(checked.entries);
    Ok(checked)
}
