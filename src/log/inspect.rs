//! Looking at logs on disk without a broker: every batch checked, or printed. Changes nothing.

use super::{
    batches::{ENTRY_BYTES, Flags},
    disk::{Disk, FileDisk},
    handles::Handles,
    recovery::check,
    segment::Segment,
};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Files open at once.
const OPEN_FILES: usize = 64;

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Partitions looked at.
    pub partitions: usize,
    /// Batches that are whole.
    pub batches: u64,
    /// A sentence for each damage: file, position, offsets.
    pub damages: Vec<String>,
}

/// Checks every batch of every partition below `dir`. While a broker runs there, what it may be writing is left out.
pub fn verify(dir: &Path) -> io::Result<Verified> {
    let lock = dir.join("~lock");
    let live = lock.exists() && FileDisk.lock(&lock)?.is_none();
    let mut verified = Verified::default();
    for partition in partitions(dir)? {
        verified.partitions += 1;
        verify_partition(&partition, live, &mut verified)?;
    }
    Ok(verified)
}

/// The directories of partitions below a data directory, a topic's or a partition's own.
fn partitions(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let names = FileDisk.list(dir)?;
    if names.iter().any(|name| base_of(&name.name, ".log").is_some()) {
        found.push(dir.to_path_buf());
    }
    for name in names.iter().filter(|name| name.is_dir && !name.name.starts_with('~')) {
        found.extend(partitions(&dir.join(&name.name))?);
    }
    Ok(found)
}

fn base_of(name: &str, extension: &str) -> Option<u64> {
    name.strip_suffix(extension).filter(|digits| digits.len() == 20)?.parse().ok()
}

fn segments(handles: &Handles, dir: &Path) -> io::Result<Vec<Segment>> {
    let (names, dir) = (handles.disk().list(dir)?, Arc::from(dir));
    Ok(names.iter().filter_map(|name| base_of(&name.name, ".log")).map(|base| Segment::at(&dir, base)).collect())
}

fn verify_partition(dir: &Path, live: bool, verified: &mut Verified) -> io::Result<()> {
    let handles = Handles::new(Arc::new(FileDisk), OPEN_FILES);
    let segments = segments(&handles, dir)?;
    for (index, segment) in segments.iter().enumerate() {
        let file = segment.path("log");
        let mut checked = check(&handles, segment, 0);
        if live && !checked.as_ref().is_ok_and(|checked| checked.damages.is_empty()) {
            // The broker may just have compacted it: another pair bears its names, or it is part of the one before.
            if !file.exists() {
                continue;
            }
            checked = check(&handles, &Segment::at(&dir.into(), segment.base), 0);
        }
        let checked = match checked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let why = "its .batches is missing; a broker that starts here makes one from the lines";
                verified.damages.push(format!("{}: {why}", file.display()));
                continue;
            }
            checked => checked?,
        };
        let growing = live && index + 1 == segments.len();
        let damages: Vec<_> = checked.damages.iter().filter(|damage| !growing || damage.next.is_some()).collect();
        verified.batches += u64::from(checked.whole);
        for damage in damages {
            let to =
                damage.next.map_or("to the end of the file".into(), |next| format!("to {}", next.saturating_sub(1)));
            let what =
                format!("{}: damaged at position {}, offsets {} {to}", file.display(), damage.position, damage.first);
            verified.damages.push(what);
        }
    }
    Ok(())
}

/// Prints the batches of a partition with their lines.
pub fn dump(dir: &Path, out: &mut dyn Write) -> io::Result<()> {
    let handles = Handles::new(Arc::new(FileDisk), OPEN_FILES);
    let segments = segments(&handles, dir)?;
    if segments.is_empty() {
        let why = format!("{}: no partition's directory: there is no <offset>.log in it", dir.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    for segment in segments {
        writeln!(out, "# {}", segment.path("log").display())?;
        let (log, batches) = (segment.log(&handles)?, segment.batches(&handles)?);
        let (length, entries) = (log.len()?, batches.len()? / ENTRY_BYTES as u64);
        for index in 0..entries as u32 {
            let Some((_, entry)) = segment.entry(&handles, index)? else {
                writeln!(out, "# entry {index} is damaged")?;
                continue;
            };
            let (first, bytes, timestamp) = (segment.base + u64::from(entry.first), entry.bytes, entry.timestamp);
            let (count, position) = (entry.count, entry.position);
            let there = length.saturating_sub(u64::from(position)).min(u64::from(bytes));
            let mut lines = vec![0; there as usize];
            log.read_at(&mut lines, u64::from(position))?;
            let times = if entry.flags.has(Flags::RUNNING_TIMES) { " times:running" } else { "" };
            let state = if crc32c::crc32c(&lines) == entry.lines_crc { "" } else { " DAMAGED" };
            writeln!(
                out,
                "# batch first:{first} count:{count} timestamp:{timestamp}{times} position:{position} bytes:{bytes}{state}"
            )?;
            out.write_all(&lines)?;
        }
    }
    Ok(())
}
