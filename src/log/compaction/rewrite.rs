//! A segment written anew: the lines of a few segments that stay, as one new pair of files, which then gets their names.

use super::{
    super::{
        Log, Outcome,
        batches::{Entry, Flags, crc32c},
        disk::File,
        lines::Lines,
        record::Value,
        segment::Segment,
    },
    Bad, Compacted, Halt, Pass, Unended, failed,
};
use std::{io, sync::Arc};

/// Bytes gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

/// A file that is written from its start.
struct Output {
    file: Arc<dyn File>,
    written: u64,
    buffer: Vec<u8>,
}

impl Output {
    fn new(file: Arc<dyn File>) -> Output {
        Output { file, written: 0, buffer: Vec::new() }
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write()?;
        self.file.sync()
    }
}

fn half_done(segment: &Segment) -> impl Fn(io::Error) -> Halt {
    let path = segment.path("log");
    move |error| Halt::HalfDone(format!("{}: {error}", path.display()))
}

impl Log {
    /// Writes the segments anew as one, and puts it into their place.
    pub(super) fn rewrite(
        &self,
        segments: &[Arc<Segment>],
        pass: &Pass<'_>,
        unended: &mut Unended,
        keep_tombstones: bool,
        done: &mut Compacted,
    ) -> Result<(), Halt> {
        let (first, disk) = (&segments[0], self.handles.disk());
        let failed_before = self.failed_name_syncs();
        self.pinned(segments, || {
            let made = {
                let _files = self.files();
                self.present(segments)?;
                let create = |extension| disk.create(&first.path(extension)).map(Output::new);
                create("log.new").and_then(|log| Ok((log, create("batches.new")?))).map_err(failed(first))
            };
            let written = made.and_then(|(log, batches)| {
                let mut rewrite = Rewrite {
                    base: first.base,
                    log,
                    batches,
                    index: 0,
                    newest: -1,
                    kept: Vec::new(),
                    so_far: Flags::NONE,
                    unended,
                    aborts_gone: Vec::new(),
                    pass,
                    keep_tombstones,
                };
                for segment in segments {
                    self.each_batch(segment, pass.stop, |entry, lines| rewrite.batch(segment.base, entry, lines))?;
                }
                rewrite.finish().map_err(failed(first))?;
                Ok(rewrite)
            });
            let files = self.files();
            let replaced = written.and_then(|rewrite| {
                self.present(segments)?;
                let before = segments.iter().map(|segment| segment.bytes(&self.handles)).sum::<io::Result<u64>>();
                done.bytes_before += before.map_err(failed(first))?;
                done.bytes_after += rewrite.log.written;
                self.replace(segments, &rewrite, failed_before)
            });
            if matches!(replaced, Err(Halt::Stopped | Halt::Gone | Halt::Damaged(..) | Halt::Failed(_)))
                && !self.is_closed()
            {
                let removed =
                    first.remove_file(&self.handles, "log.new").and(first.remove_file(&self.handles, "batches.new"));
                // The next pass would take a name that is there for a durable one.
                removed.map_err(half_done(first))?;
            }
            let segment = replaced?;
            drop(files);
            // Whoever asks what was aborted reads the segment where this fails.
            let _ = self.keep_aborted_of(&segment);
            Ok(())
        })
    }

    /// Gives the new pair its names, and the log the new segment. Held: `files`.
    fn replace(
        &self,
        segments: &[Arc<Segment>],
        rewrite: &Rewrite<'_>,
        failed_before: u64,
    ) -> Result<Arc<Segment>, Halt> {
        let (first, disk) = (&segments[0], self.handles.disk());
        let sync_names = || self.sync_names(failed_before);
        let rename = |from, to| disk.rename(&first.path(from), &first.path(to));
        // It tells of markers that may be gone from the new segment, which is read where it is missing.
        first.remove_file(&self.handles, "aborted").map_err(failed(first))?;
        sync_names().map_err(failed(first))?;
        // From here on the old segments are served from these handles only, for as long as somebody reads them.
        self.pin(segments)?;
        let half_done = half_done(first);
        rename("batches.new", "batches.swap")
            .and_then(|()| sync_names())
            .and_then(|()| rename("log.new", "log"))
            .and_then(|()| sync_names())
            .and_then(|()| rename("batches.swap", "batches"))
            .map_err(&half_done)?;
        let segment = Segment::at(&self.dir, first.base);
        segment.grow(rewrite.index, rewrite.log.written, rewrite.newest);
        segment.mark_synced(rewrite.index, rewrite.log.written);
        // First: nobody reads the new segment and is told of a marker that is not in it.
        self.forget_aborted(&rewrite.aborts_gone);
        let segment = Arc::new(segment);
        let mut all = self.segments.write().expect("no panic under the segments' lock");
        let at = all.iter().position(|other| Arc::ptr_eq(other, first)).ok_or(Halt::Gone)?;
        all.splice(at..at + segments.len(), [segment.clone()]);
        drop(all);
        let removed = sync_names().and_then(|()| {
            if segments.len() > 1 {
                // Lines without entries would be taken for a log that was put there by hand.
                segments[1..].iter().try_for_each(|segment| segment.remove_file(&self.handles, "log"))?;
                sync_names()?;
            }
            segments[1..].iter().try_for_each(|segment| segment.remove(&self.handles))
        });
        removed.map_err(half_done)?;
        Ok(segment)
    }
}

/// A segment on its way to being written.
struct Rewrite<'a> {
    base: u64,
    log: Output,
    batches: Output,
    /// Entries so far.
    index: u32,
    /// The largest timestamp so far.
    newest: i64,
    /// The lines of one batch that stay.
    kept: Vec<u8>,
    /// What is true of the segment so far.
    so_far: Flags,
    unended: &'a mut Unended,
    /// Offsets of markers that abort, and do not stay.
    aborts_gone: Vec<u64>,
    pass: &'a Pass<'a>,
    keep_tombstones: bool,
}

impl Rewrite<'_> {
    /// Takes a batch of the segment at `base`: the lines that stay, and its entry if there are any, or its producer needs it.
    fn batch(&mut self, base: u64, entry: &Entry, lines: &[u8]) -> Result<bool, Bad> {
        let (pass, first) = (self.pass, base + u64::from(entry.first));
        // What the map does not reach loses superseded records only: more may be superseded.
        let reached = first < pass.latest.end;
        let horizon_ms = entry.delete_horizon_ms();
        let expired = !self.keep_tombstones && horizon_ms.is_some_and(|horizon| horizon <= pass.now_ms);
        // What says so may go, or be in another segment of those that become one.
        self.so_far = self.so_far | entry.flags.only(Flags::TRANSACTIONS);
        let (mut count, mut tombstones) = (0, false);
        let (running, mut last) = (entry.flags.has(Flags::RUNNING_TIMES), entry.timestamp);
        self.kept.clear();
        if let Some(outcome) = entry.flags.outcome() {
            let is_needed = self.unended.0.remove(&entry.producer_id);
            // It goes as a tombstone does.
            tombstones = !is_needed;
            let is_abort = outcome == Outcome::Abort;
            if is_needed || !expired {
                self.kept.extend_from_slice(lines);
                self.newest = self.newest.max(entry.timestamp);
                self.so_far = self.so_far | if is_abort { Flags::ABORTS } else { Flags::NONE };
                count = entry.count;
            } else if is_abort {
                self.aborts_gone.push(first);
            }
        } else if !pass.is_aborted(entry, first) {
            for line in Lines::of(entry, lines) {
                let line = line?;
                let (offset, fields) = (line.offset, line.split()?);
                let is_tombstone = matches!(fields.value, Value::Tombstone);
                let latest = match fields.key {
                    Some(_) if pass.latest.offsets.is_empty() => true,
                    Some(key) => {
                        pass.latest.offsets.get(&pass.latest.hash(key)?).is_none_or(|&latest| latest <= offset)
                    }
                    None => !reached,
                };
                if !latest || offset < pass.start || is_tombstone && expired {
                    continue;
                }
                if running {
                    // The line that told its time may be gone.
                    line.write(&mut self.kept, Some(line.timestamp).filter(|&time| time != last));
                    last = line.timestamp;
                } else {
                    self.kept.extend_from_slice(line.text);
                    self.kept.push(b'\n');
                }
                self.newest = self.newest.max(line.timestamp);
                tombstones |= is_tombstone;
                count += 1;
            }
        }
        self.unended.pass_by(&Entry { count, ..*entry });
        let numbered = entry.producer_id >= 0 && pass.producers.get(&entry.producer_id) == Some(&first);
        if count == 0 && !numbered {
            return Ok(true);
        }
        let horizon_ms = match horizon_ms {
            None if !reached || self.keep_tombstones => None,
            known => Some(known.unwrap_or(pass.now_ms.saturating_add(pass.settings.delete_retention_ms))),
        };
        let flags = entry.flags.without(Flags::DELETE_HORIZON | Flags::SO_FAR) | self.so_far;
        let (flags, mark) = match horizon_ms.filter(|_| tombstones) {
            Some(ms) => {
                (flags | Flags::DELETE_HORIZON, u32::try_from(ms.saturating_add(999) / 1000).unwrap_or(u32::MAX))
            }
            None => (flags, if reached { self.index + 1 } else { 0 }),
        };
        let entry = Entry {
            first: (first - self.base) as u32,
            position: self.log.position() as u32,
            bytes: self.kept.len() as u32,
            count,
            flags,
            mark,
            max_timestamp: self.newest,
            lines_crc: crc32c(&self.kept),
            ..*entry
        };
        self.log.push(&self.kept)?;
        self.batches.push(&entry.encode())?;
        self.index += 1;
        Ok(true)
    }

    /// Makes the pair durable.
    fn finish(&mut self) -> io::Result<()> {
        self.log.finish()?;
        self.batches.finish()
    }
}
