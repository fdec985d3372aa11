//! What a crash left between two names: of compactions, of files that were replaced, of segments on their way in or out.

use crate::log::{
    batches::ENTRY_BYTES,
    disk::Disk,
    handles::Handles,
    segment::{Segment, path},
};
use std::{io, path::Path, sync::Arc};

/// The base offset in the name of a segment's file.
pub(in crate::log) fn base_of(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension).filter(|digits| digits.len() == 20)?;
    digits.parse().ok().filter(|&base| base <= i64::MAX as u64)
}

/// Ends or undoes what a crash left between two names, and answers the bases of the segments that are there then.
pub(in crate::log) fn end_renames(handles: &Handles, dir: &Arc<Path>) -> io::Result<Vec<u64>> {
    let disk = handles.disk();
    end_compaction(disk, dir)?;
    let names = disk.list(dir)?;
    let mut bases: Vec<u64> = names.iter().filter_map(|name| base_of(&name.name, ".log")).collect();
    for name in &names {
        let lone = base_of(&name.name, ".batches").is_some_and(|base| !bases.contains(&base));
        if lone || name.name.ends_with(".tmp~") {
            disk.remove_file(&dir.join(&name.name))?;
        }
    }
    remove_merged(handles, dir, &mut bases)?;
    Ok(bases)
}

/// Carries a compaction that reached its commit point on to its end, and removes what is left of one that did not.
fn end_compaction(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let names = disk.list(dir)?;
    let is_there = |name: &Path| names.iter().any(|other| name.ends_with(&other.name));
    for base in names.iter().filter_map(|name| base_of(&name.name, ".batches.swap")) {
        let rename = |from, to| disk.rename(&path(dir, base, from), &path(dir, base, to));
        // The sync of the last of these names may have failed, and to sync it again proves nothing: it is given again.
        if is_there(&path(dir, base, "log.new")) {
            rename("batches.swap", "batches.new")?;
            rename("batches.new", "batches.swap")?;
            disk.sync_dir(dir)?;
        } else if is_there(&path(dir, base, "log")) {
            rename("log", "log.new")?;
        } else {
            // TRIM or retention took the segment.
            disk.remove_file(&path(dir, base, "batches.swap"))?;
            continue;
        }
        rename("log.new", "log")?;
        disk.sync_dir(dir)?;
        rename("batches.swap", "batches")?;
        disk.sync_dir(dir)?;
    }
    for name in disk.list(dir)? {
        if [".log.new", ".batches.new"].iter().any(|extension| base_of(&name.name, extension).is_some()) {
            disk.remove_file(&dir.join(&name.name))?;
        }
    }
    Ok(())
}

/// Removes sealed segments whose records a compaction took into the segment before them, and no crash let it remove.
fn remove_merged(handles: &Handles, dir: &Arc<Path>, bases: &mut Vec<u64>) -> io::Result<()> {
    let (mut end, mut kept) = (0, Vec::new());
    for (index, &base) in bases.iter().enumerate() {
        let segment = Segment::at(dir, base);
        if base < end && index + 1 < bases.len() {
            segment.remove_file(handles, "log")?;
            handles.disk().sync_dir(dir)?;
            segment.remove(handles)?;
            continue;
        }
        kept.push(base);
        let last = entries_of(handles, &segment)?.checked_sub(1);
        let last = last.map(|last| segment.entry(handles, last)).transpose()?.flatten();
        let compacted = last.filter(|(index, entry)| entry.is_compacted(*index));
        end = compacted.map_or(0, |(_, entry)| base + u64::from(entry.last()) + 1);
    }
    *bases = kept;
    Ok(())
}

/// Entries in a segment's file; a file that is missing has none.
pub(super) fn entries_of(handles: &Handles, segment: &Segment) -> io::Result<u32> {
    match segment.batches(handles).and_then(|batches| batches.len()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        length => Ok((length? / ENTRY_BYTES as u64) as u32),
    }
}
