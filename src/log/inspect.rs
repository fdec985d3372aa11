//! Looking at logs on disk without a broker: every batch checked, or printed. Changes nothing.
//!
//! A compaction that a crash interrupted is carried on in memory, as the next start will do on disk. So what is looked at is
//! what that start would serve.

use super::{
    batches::{ENTRY_BYTES, Entry, Flags, crc32c},
    checked_text,
    disk::{Disk, DryRun, FileDisk, read_small},
    handles::Handles,
    record::{first_unprintable, parse_control, shown, split_offset, write_visible},
    recovery::{Checked, base_of, check_lines, end_renames},
    segment::Segment,
};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Files open at once.
const OPEN_FILES: usize = 64;

/// The largest file beside a segment that is looked at.
const BESIDE_BYTES_MAX: u64 = 1 << 30;

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Partitions looked at.
    pub partitions: usize,
    /// Batches that are whole.
    pub batches: u64,
    /// A sentence for each damage: file, position, offsets; and for lines that would steer a terminal.
    pub damages: Vec<String>,
}

/// Checks every batch of every partition below `dir`. While a broker runs there, what it may be writing is left out.
pub fn verify(dir: &Path) -> io::Result<Verified> {
    let lock = dir.join("~lock");
    let live = lock.exists() && FileDisk.lock(&lock)?.is_none();
    let disk: Arc<dyn Disk> = Arc::new(FileDisk);
    let mut verified = Verified::default();
    for partition in partitions(dir)? {
        verified.partitions += 1;
        verify_partition(&disk, &partition, live, &mut verified)?;
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

/// The segments of a partition, as a start of the broker would find them now.
struct Found {
    handles: Handles,
    segments: Vec<Segment>,
}

fn find(disk: &Arc<dyn Disk>, dir: &Path) -> io::Result<Found> {
    let handles = Handles::new(Arc::new(DryRun::new(disk.clone(), dir)?), OPEN_FILES);
    let dir = Arc::from(dir);
    let segments = end_renames(&handles, &dir)?.into_iter().map(|base| Segment::at(&dir, base)).collect();
    Ok(Found { handles, segments })
}

/// A segment whose batches were checked.
struct Looked {
    checked: Checked,
    /// A sentence for the first line of each batch that would steer a terminal: earlier versions adopted such lines. And for each
    /// marker that is none.
    wrong: Vec<String>,
}

fn look_at(handles: &Handles, segment: &Segment) -> io::Result<Looked> {
    let mut wrong = Vec::new();
    let checked = check_lines(handles, segment, 0, &mut |entry, lines| {
        let mut position = u64::from(entry.position);
        if entry.flags.has(Flags::CONTROL) && !is_its_marker(entry, lines) {
            wrong
                .push(format!("the batch at position {position} is no transaction's marker, though its entry says so"));
        }
        for line in lines.split(|&byte| byte == b'\n') {
            if let Some((at, bytes)) = first_unprintable(line) {
                let bytes = shown(bytes);
                wrong.push(format!("the line at position {position} has '{bytes}' at byte {at}, not escaped"));
                return;
            }
            position += line.len() as u64 + 1;
        }
    })?;
    Ok(Looked { checked, wrong })
}

/// Whether these lines are the one marker that an entry tells of.
fn is_its_marker(entry: &Entry, lines: &[u8]) -> bool {
    let control = lines.strip_suffix(b"\n").and_then(split_offset).and_then(|(_, fields)| parse_control(fields).ok());
    control.is_some_and(|control| Some(control.outcome) == entry.flags.outcome())
}

fn verify_partition(disk: &Arc<dyn Disk>, dir: &Path, live: bool, verified: &mut Verified) -> io::Result<()> {
    let Found { handles, segments } = find(disk, dir)?;
    for (index, segment) in segments.iter().enumerate() {
        let file = segment.path("log");
        let mut looked = look_at(&handles, segment);
        if live && !looked.as_ref().is_ok_and(|looked| looked.checked.damages.is_empty()) {
            // The broker may just have compacted it: another pair bears its names, or it is part of the one before.
            let now = find(disk, dir)?;
            let Some(segment) = now.segments.iter().find(|now| now.base == segment.base) else { continue };
            looked = look_at(&now.handles, segment);
        }
        let Looked { checked, wrong } = match looked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let why = "its .batches is missing; a broker that starts here makes one from the lines";
                verified.damages.push(format!("{}: {why}", file.display()));
                continue;
            }
            looked => looked?,
        };
        for extension in ["producers", "aborted"] {
            let path = segment.path(extension);
            match read_small(handles.disk(), &path, BESIDE_BYTES_MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(bytes) if checked_text::open(&bytes).is_some() => {}
                Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
                _ => verified
                    .damages
                    .push(format!("{}: damaged; a broker that needs it reads the segments", path.display())),
            }
        }
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
        verified.damages.extend(wrong.into_iter().map(|what| format!("{}: {what}", file.display())));
    }
    Ok(())
}

/// Prints the batches of a partition with their lines; what would steer a terminal is escaped.
pub fn dump(dir: &Path, out: &mut dyn Write) -> io::Result<()> {
    dump_of(&(Arc::new(FileDisk) as _), dir, out)
}

fn dump_of(disk: &Arc<dyn Disk>, dir: &Path, out: &mut dyn Write) -> io::Result<()> {
    let Found { handles, segments } = find(disk, dir)?;
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
            let producer = producer_of(&entry);
            let times = if entry.flags.has(Flags::RUNNING_TIMES) { " times:running" } else { "" };
            let codec = match entry.flags.codec() {
                0 => "",
                1 => " codec:gzip",
                2 => " codec:snappy",
                3 => " codec:lz4",
                4 => " codec:zstd",
                5.. => " codec:unknown",
            };
            let state = if crc32c(&lines) == entry.lines_crc { "" } else { " DAMAGED" };
            writeln!(
                out,
                "# batch first:{first} count:{count} timestamp:{timestamp}{times}{codec}{producer} position:{position} bytes:{bytes}{state}"
            )?;
            // What is damaged may hold anything, and a terminal may be what gets it.
            for line in lines.split_inclusive(|&byte| byte == b'\n') {
                let mut visible = Vec::with_capacity(line.len());
                write_visible(&mut visible, line.strip_suffix(b"\n").unwrap_or(line));
                visible.push(b'\n');
                out.write_all(&visible)?;
            }
        }
    }
    Ok(())
}

/// What an entry tells of its producer and its transaction, as words.
fn producer_of(entry: &Entry) -> String {
    let Entry { producer_id, producer_epoch, base_sequence, flags, .. } = *entry;
    let mut words = match producer_id {
        ..0 => String::new(),
        _ => format!(" producer:{producer_id} epoch:{producer_epoch}"),
    };
    match flags.outcome() {
        Some(outcome) => words += &format!(" marker:{}", outcome.name()),
        None if producer_id >= 0 => words += &format!(" sequence:{base_sequence}"),
        None => {}
    }
    if flags.has(Flags::TRANSACTIONAL) && !flags.has(Flags::CONTROL) {
        words += " transactional";
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{
        Append, Chunk, Compaction, Content, Log, Numbering, Outcome,
        batches::Entry,
        disk::{Call, Fault, MemoryDisk, Survivors},
        record::{ControlLine, Records},
    };
    use std::{borrow::Cow, collections::BTreeSet};

    const DIR: &str = "0";

    fn open(disk: &MemoryDisk) -> Log {
        let handles = Arc::new(Handles::new(Arc::new(disk.clone()), 16));
        Log::open(handles, Path::new(DIR), 0, true, 0, &|_| Ok(())).unwrap().0
    }

    /// Three segments that compaction makes one, and a fourth that is written to.
    fn by_hand() -> (MemoryDisk, Log) {
        let disk = MemoryDisk::crashable();
        disk.create_dir(Path::new(DIR)).unwrap();
        for base in [0, 2, 4, 6] {
            let lines = format!("offset:{base} key:a message:{base}\noffset:{} key:k{base} message:b\n", base + 1);
            let file = disk.create(&Path::new(DIR).join(format!("{base:020}.log"))).unwrap();
            file.write_at(lines.as_bytes(), 0).and_then(|()| file.sync()).unwrap();
        }
        disk.sync_dir(Path::new(DIR)).and_then(|()| disk.sync_dir(Path::new(""))).unwrap();
        let log = open(&disk);
        (disk, log)
    }

    /// What verification and dump say.
    fn inspected(disk: &MemoryDisk) -> (Verified, String) {
        let (disk, mut verified, mut dumped) = (Arc::new(disk.clone()) as _, Verified::default(), Vec::new());
        verify_partition(&disk, Path::new(DIR), false, &mut verified).unwrap();
        dump_of(&disk, Path::new(DIR), &mut dumped).unwrap();
        (verified, String::from_utf8(dumped).unwrap())
    }

    fn files(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
        let bytes = |name: &str| crate::log::disk::read_small(disk, &Path::new(DIR).join(name), 1 << 20).unwrap();
        let names = disk.list(Path::new(DIR)).unwrap();
        names.into_iter().map(|name| (name.name.clone(), bytes(&name.name))).collect()
    }

    fn served(log: &Log) -> String {
        let (mut next, mut chunk, mut lines) = (0, Chunk::default(), String::new());
        while next < log.high_watermark() {
            log.read(next, 1 << 20, &mut chunk).unwrap();
            lines += std::str::from_utf8(chunk.bytes()).unwrap();
            next = chunk.next_offset().unwrap();
        }
        lines
    }

    /// A crash in the midst of a compaction left the lines of one pair beside the entries of another, and `broker log verify`
    /// called them damaged, though the next start would have put the names right.
    #[test]
    fn a_compaction_that_a_crash_interrupted_is_carried_on_in_memory() {
        let survivors = [Survivors::Nothing, Survivors::Everything, Survivors::Seed(1), Survivors::Seed(2)];
        let mut names = BTreeSet::new();
        for nth in 1.. {
            let (disk, log) = by_hand();
            disk.fault(Call::Any, nth, Fault::CrashBefore);
            let compacted = log.compact(0, &Compaction::default(), &|| false);
            if !disk.crashed() {
                assert_eq!((compacted.unwrap().notes, log.segments()), (Vec::new(), 2));
                break;
            }
            for survivors in survivors {
                let context = format!("call {nth}, {survivors:?}");
                let found = disk.reboot(survivors);
                let before = files(&found);
                names.extend(before.iter().map(|(name, _)| name.trim_start_matches('0').to_owned()));
                let (verified, dumped) = inspected(&found);
                assert_eq!(verified.damages, Vec::<String>::new(), "{context}");
                assert_eq!(files(&found), before, "{context}: something was written");
                let lines: String = dumped.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect();
                let log = open(&found);
                assert_eq!(lines, served(&log), "{context}");
                let mut entries = 0;
                log.each_entry(0, |_, _| entries += 1).unwrap();
                assert_eq!(verified.batches, entries, "{context}");
            }
        }
        for name in [".log.new", ".batches.new", ".batches.swap", "2.batches", "4.log"] {
            assert!(names.contains(name), "{name} is not among {names:?}");
        }
    }

    /// Two producers' transactions, one aborted, in a sealed segment; and a record in the one that is written to.
    fn with_transactions(disk: &MemoryDisk) {
        disk.create_dir(Path::new(DIR)).unwrap();
        let log = open(disk);
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Borrowed(b"hello")));
        let (plain, transactional) = (Flags::NONE, Flags::TRANSACTIONAL);
        let marker = |outcome, first| Content::Marker(ControlLine { outcome, first, coordinator_epoch: 0 });
        for (content, flags, producer) in [
            (Content::Records(&records), plain, None),
            (Content::Records(&records), plain, Some((6, 0))),
            (Content::Records(&records), transactional, Some((7, 0))),
            (Content::Records(&records), transactional, Some((8, 3))),
            (marker(Outcome::Abort, Some(2)), plain, Some((7, -1))),
            (marker(Outcome::Commit, None), plain, Some((8, -1))),
        ] {
            let producer = producer.map(|(producer_id, base_sequence)| Numbering {
                producer_id,
                producer_epoch: 1,
                base_sequence,
            });
            let append = Append {
                content,
                now_ms: 50,
                flags,
                producer,
                whole: true,
                segment_bytes_max: 1 << 20,
                segment_ms_max: i64::MAX,
                publish: true,
            };
            log.append(&append).unwrap();
        }
        log.roll_if_old(i64::MAX, 0).unwrap();
        log.keep_aborted(u64::MAX).unwrap();
    }

    #[test]
    fn transactions_and_producers_are_told_and_markers_are_checked() {
        let disk = MemoryDisk::crashable();
        with_transactions(&disk);
        let (verified, dumped) = inspected(&disk);
        assert_eq!((verified.batches, verified.damages), (6, Vec::new()));
        let heads = dumped.lines().filter_map(|line| line.strip_prefix("# batch ")?.split_once(" position:"));
        let heads: Vec<_> = heads.map(|(head, _)| head.replace(" count:1 timestamp:50", "")).collect();
        let expected = [
            "first:0",
            "first:1 producer:6 epoch:1 sequence:0",
            "first:2 producer:7 epoch:1 sequence:0 transactional",
            "first:3 producer:8 epoch:1 sequence:3 transactional",
            "first:4 producer:7 epoch:1 marker:abort",
            "first:5 producer:8 epoch:1 marker:commit",
        ];
        assert_eq!(heads, expected);
        assert!(dumped.contains("offset:4 control:abort first:2\n# batch first:5"), "{dumped}");

        // A line that is no marker where the entry tells of one, and a file that is damaged.
        let entry = Entry { flags: Flags::TRANSACTIONAL | Flags::CONTROL, ..entry_at(&disk, 0) };
        disk.open(Path::new("0/00000000000000000000.batches")).unwrap().write_at(&entry.encode(), 0).unwrap();
        disk.open(Path::new("0/00000000000000000000.aborted")).unwrap().write_at(b"X", 3).unwrap();
        let damages = [
            "0/00000000000000000000.aborted: damaged; a broker that needs it reads the segments",
            "0/00000000000000000000.log: the batch at position 0 is no transaction's marker, though its entry says so",
        ];
        assert_eq!(inspected(&disk).0.damages, damages);
    }

    /// A batch was damaged so that it held an escape sequence, and lines that an earlier version had adopted held others:
    /// `broker log dump` sent both to the terminal.
    #[test]
    fn what_would_steer_a_terminal_is_named_and_printed_escaped() {
        let (disk, log) = by_hand();
        drop(log);
        let log = disk.open(Path::new("0/00000000000000000002.log")).unwrap();
        log.write_at(b"\x1b[2J", 30).unwrap();
        let lines = b"offset:4 message:good\noffset:5 message:caf\xe9\r\n";
        disk.create(Path::new("0/00000000000000000004.log")).unwrap().write_at(lines, 0).unwrap();
        let entry = Entry { bytes: lines.len() as u32, lines_crc: crc32c(lines), ..entry_at(&disk, 4) };
        disk.open(Path::new("0/00000000000000000004.batches")).unwrap().write_at(&entry.encode(), 0).unwrap();

        let (verified, dumped) = inspected(&disk);
        let damages = [
            "0/00000000000000000002.log: damaged at position 0, offsets 2 to the end of the file",
            "0/00000000000000000004.log: the line at position 22 has '\\xe9' at byte 20, not escaped",
        ];
        assert_eq!((verified.batches, verified.damages), (3, damages.map(String::from).to_vec()));
        for line in ["offse\\x1b[2Jkey:k2 message:b\n", "offset:4 message:good\noffset:5 message:caf\\xe9\\r\n"] {
            assert!(dumped.contains(line), "{dumped:?}");
        }
        assert!(!dumped.contains(['\x1b', '\r']), "{dumped:?}");
    }

    fn entry_at(disk: &MemoryDisk, base: u64) -> Entry {
        let handles = Handles::new(Arc::new(disk.clone()), 16);
        Segment::at(&Arc::from(Path::new(DIR)), base).entry(&handles, 0).unwrap().unwrap().1
    }
}
