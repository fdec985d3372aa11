//! Syncs and rolls of a log where threads and faults of the disk meet.

use super::*;
use disk::{Call, Disk, Fault, MemoryDisk, Survivors};
use record::Records;
use std::{borrow::Cow, ops::Range, thread};

const DIR: &str = "0";
const NOW_MS: i64 = 1_700_000_000_000;
/// Two records of a batch each fit a segment, a third does not.
const SEGMENT_BYTES: u32 = 60;

fn open(disk: &MemoryDisk, open_max: usize) -> Log {
    disk::make_dir(disk, Path::new(DIR)).unwrap();
    open_after(Stop::Unclean, disk, open_max).unwrap()
}

/// How the process ended that had the log open before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    Clean,
    Unclean,
}

fn open_after(stop: Stop, disk: &MemoryDisk, open_max: usize) -> Result<Log, recovery::CannotOpen> {
    open_at(0, stop, disk, open_max)
}

fn open_at(start: u64, stop: Stop, disk: &MemoryDisk, open_max: usize) -> Result<Log, recovery::CannotOpen> {
    let handles = Arc::new(Handles::new(Arc::new(disk.clone()), open_max));
    Ok(Log::open(handles, Path::new(DIR), start, stop == Stop::Clean, NOW_MS, &|_| Ok(()))?.0)
}

fn new() -> (MemoryDisk, Log) {
    let disk = MemoryDisk::crashable();
    let log = open(&disk, 16);
    (disk, log)
}

/// Appends records that readers see once they are synced.
fn append(log: &Log, values: &[&str]) -> Result<Range<u64>, Error> {
    append_numbered(log, values, None)
}

fn append_numbered(log: &Log, values: &[&str], producer: Option<Numbering>) -> Result<Range<u64>, Error> {
    let mut records = Records::default();
    values.iter().for_each(|value| records.push(None, None, Some(Cow::Borrowed(value.as_bytes()))));
    let append = Append {
        content: Content::Records(&records),
        now_ms: NOW_MS,
        flags: Flags::NONE,
        producer,
        whole: false,
        segment_bytes_max: SEGMENT_BYTES,
        segment_ms_max: i64::MAX,
        publish: false,
    };
    let appended = log.append(&append)?;
    appended.failed.map_or(Ok(appended.offsets), Err)
}

/// The lines of the log up to its high watermark.
fn read(log: &Log) -> String {
    let (mut next, mut chunk, mut found) = (log.start(), Chunk::default(), String::new());
    while next < log.high_watermark() {
        log.read(next, 1 << 20, &mut chunk).unwrap();
        found.push_str(std::str::from_utf8(chunk.bytes()).unwrap());
        next = chunk.next_offset().unwrap();
    }
    found
}

fn is_read_only<T: std::fmt::Debug>(answer: Result<T, Error>) -> bool {
    matches!(answer, Err(Error::ReadOnly(_)))
}

/// Waits until an append has given up the writer's lock.
fn until_paused(log: &Log) {
    while !log.writer_now().paused {
        thread::yield_now();
    }
}

/// The sync of two records fails, and before anybody knows, a third record needs a roll. Its sync of the same file finds
/// clean pages and succeeds. It was believed: it showed the two records, and those who waited for the failed sync
/// answered ACK. A crash then lost them.
#[test]
fn a_roll_beside_a_failing_sync_acknowledges_nothing() {
    for nth in 1..=2 {
        let (disk, log) = new();
        append(&log, &["one", "two"]).unwrap();
        disk.fault(Call::Sync, nth, Fault::Error);
        let failing = disk.hold(Call::Sync, nth);
        thread::scope(|scope| {
            let leader = scope.spawn(|| log.sync_to(2));
            failing.reached();
            let waiter = scope.spawn(|| log.sync_to(1));
            let roll = scope.spawn(|| append(&log, &["a third record that does not fit"]));
            until_paused(&log);
            drop(failing);
            assert!(is_read_only(leader.join().unwrap()));
            assert!(is_read_only(waiter.join().unwrap()));
            assert!(is_read_only(roll.join().unwrap()));
        });
        assert_eq!((log.high_watermark(), log.segments()), (0, 1), "sync {nth}");
        assert!(is_read_only(log.sync_to(1)) && is_read_only(log.sync_all()));
    }
}

#[test]
fn after_a_failed_sync_none_is_believed() {
    type Sync = fn(&Log) -> Result<(), Error>;
    let syncs: [Sync; 4] = [
        |log| log.sync_to(2),
        |log| log.sync_all(),
        |log| append(log, &["a record that does not fit"]).map(drop),
        |log| log.seal_before(2).map(drop),
    ];
    for (fault, nth) in [(Fault::Error, 1), (Fault::Error, 2), (Fault::Full, 1), (Fault::Full, 2)] {
        for first in syncs {
            for then in syncs {
                let (disk, log) = new();
                append(&log, &["one", "two"]).unwrap();
                disk.fault(Call::Sync, nth, fault);
                assert!(is_read_only(first(&log)), "{fault:?} {nth}");
                // `seal_before` leaves a log alone that is read-only.
                let answer = then(&log);
                assert!(is_read_only(answer.clone()) || answer == Ok(()) && log.segments() == 1, "{answer:?}");
                assert_eq!(log.high_watermark(), 0);
            }
        }
    }
}

/// A roll that leads is what those wait for who come to sync meanwhile.
#[test]
fn a_roll_syncs_for_those_who_wait() {
    for (fault, shown) in [(None, 2), (Some(Fault::Error), 0)] {
        let (disk, log) = new();
        append(&log, &["one", "two"]).unwrap();
        if let Some(fault) = fault {
            disk.fault(Call::Sync, 1, fault);
        }
        let rolling = disk.hold(Call::Sync, 1);
        thread::scope(|scope| {
            let roll = scope.spawn(|| log.seal_before(2));
            rolling.reached();
            let waiter = scope.spawn(|| log.sync_to(2));
            assert_eq!(log.high_watermark(), 0);
            drop(rolling);
            assert_eq!(roll.join().unwrap().is_ok(), fault.is_none());
            assert_eq!(waiter.join().unwrap().is_ok(), fault.is_none());
        });
        assert_eq!(log.high_watermark(), shown);
    }
}

#[test]
fn an_append_that_waits_in_its_midst_gets_offsets_that_follow_each_other() {
    let (disk, log) = new();
    append(&log, &["one"]).unwrap();
    let sync = disk.hold(Call::Sync, 1);
    thread::scope(|scope| {
        let leader = scope.spawn(|| log.sync_to(1));
        sync.reached();
        let long = "a record that fills much of a segment";
        let one = scope.spawn(|| append(&log, &["two", long, long]).unwrap());
        until_paused(&log);
        assert_eq!(log.log_end(), 2, "its first batch is written");
        let other = scope.spawn(|| append(&log, &["late"]).unwrap());
        drop(sync);
        leader.join().unwrap().unwrap();
        assert_eq!((one.join().unwrap(), other.join().unwrap()), (1..4, 4..5));
    });
    log.sync_all().unwrap();
    let long = "message:a record that fills much of a segment";
    let expected = format!(
        "offset:0 message:one\noffset:1 message:two\noffset:2 {long}\noffset:3 {long}\noffset:4 message:late\n"
    );
    assert_eq!(read(&log), expected);
}

#[test]
fn a_log_can_be_closed_while_a_roll_waits_for_a_sync_that_hangs() {
    let (disk, log) = new();
    append(&log, &["one", "two"]).unwrap();
    let hanging = disk.hold(Call::Sync, 1);
    thread::scope(|scope| {
        let leader = scope.spawn(|| log.sync_to(2));
        hanging.reached();
        let roll = scope.spawn(|| append(&log, &["a third record that does not fit"]));
        until_paused(&log);
        log.close();
        drop(hanging);
        leader.join().unwrap().unwrap();
        assert_eq!(roll.join().unwrap(), Err(Error::Closed));
    });
    assert_eq!(log.segments(), 1);
}

/// The files of a segment were closed between a write and its sync, since many others were opened. The kernel failed to
/// write the pages meanwhile. It tells so to each handle once that was open then, and the one that synced was not.
#[test]
fn a_file_that_was_written_to_stays_open_until_its_sync() {
    for extension in ["log", "batches"] {
        let disk = MemoryDisk::crashable();
        let log = open(&disk, 16);
        append(&log, &["one"]).unwrap();
        let others: Vec<_> = (0..40).map(|other| (Arc::default(), PathBuf::from(format!("other{other}")))).collect();
        for (slot, path) in &others {
            disk.create(path).unwrap();
            log.handles.get(slot, path).unwrap();
        }
        disk.fail_writeback(&log.beside(0, extension));
        assert!(is_read_only(log.sync_all()), "{extension}");
        assert_eq!(log.high_watermark(), 0);
    }
}

/// A roll found the disk full when it synced the directory. The new segment's file stayed behind, and the log went on in
/// the old one. A restart took the file for the end of the log: what was acknowledged meanwhile was gone, and its offsets
/// were given again.
#[test]
fn nothing_is_appended_to_a_segment_whose_roll_could_not_end() {
    // Two syncs of the old files, two names, two syncs of the new files, and the directory's.
    for (fault, nth) in [Fault::Error, Fault::Full].into_iter().flat_map(|fault| (3..=7).map(move |nth| (fault, nth))) {
        let (disk, log) = new();
        append(&log, &["one", "two"]).unwrap();
        disk.fault(Call::Any, nth, fault);
        let rolled = append(&log, &["a third record that does not fit"]).unwrap_err();
        let context = format!("{fault:?} {nth}: {rolled}");
        assert_eq!(matches!(rolled, Error::DiskFull(_)), fault == Fault::Full, "{context}");
        assert_eq!((log.segment_bases(), log.high_watermark()), (vec![0], 2), "{context}");
        // A short one would fit the old segment; it goes into the new one.
        assert_eq!(append(&log, &["3"]), Ok(2..3), "{context}");
        log.sync_all().unwrap();
        assert_eq!(log.segment_bases(), [0, 2], "{context}");
        let expected = read(&log);
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth)] {
            assert_eq!(read(&open(&disk.reboot(survivors), 16)), expected, "{context}, {survivors:?}");
        }
    }
}

/// Whether enough waits to be read was only known by reading it all, at each batch that came.
#[test]
fn what_waits_to_be_read_is_counted_by_the_entries() {
    let (_disk, log) = new();
    for values in
        [&["one", "two"][..], &["three"], &["four"], &["a record that fills a segment of its own, alone"], &["six"]]
    {
        append(&log, values).unwrap();
    }
    log.sync_to(6).unwrap();
    append(&log, &["nobody", "sees this yet"]).unwrap();
    assert!(log.segments() > 2);
    let count = |offset| {
        let (mut next, mut chunk, mut backlog) = (offset, Chunk::default(), Backlog::default());
        while next < log.high_watermark() {
            log.read(next, 0, &mut chunk).unwrap();
            backlog.batches += 1;
            backlog.bytes += chunk.bytes().len() as u64;
            next = chunk.next_offset().unwrap();
        }
        backlog
    };
    assert_eq!(count(0).batches, 5);
    for offset in 0..=6 {
        assert_eq!(log.backlog(offset, u64::MAX), Ok(count(offset)), "from {offset}");
        assert!(log.backlog(offset, 1).unwrap().bytes <= count(offset).bytes);
    }
    assert!(log.backlog(0, 1).unwrap().bytes < count(0).bytes, "one segment is enough");
    assert_eq!(log.backlog(7, 1), Err(Error::OutOfRange { start: 0, high_watermark: 6 }));
}

/// After a crash the lines of the last batch could not be read at the start, for a moment. That was taken for a torn tail: what had
/// been acknowledged was cut off, and its offset given again. Or it was taken for entries of other lines, and the producer's
/// numbering was gone.
#[test]
fn a_read_that_fails_at_a_start_takes_nothing() {
    for (batches, torn, stop) in [
        (1, false, Stop::Unclean),
        (3, false, Stop::Unclean),
        (3, true, Stop::Unclean),
        (5, true, Stop::Unclean),
        (3, false, Stop::Clean),
        (5, false, Stop::Clean),
    ] {
        let (disk, log) = new();
        for base_sequence in 0..batches {
            let producer = Numbering { producer_id: 7, producer_epoch: 0, base_sequence };
            append_numbered(&log, &["a record"], Some(producer)).unwrap();
            log.sync_all().unwrap();
        }
        let (expected, end) = (read(&log), log.high_watermark());
        if torn {
            append(&log, &["torn"]).unwrap();
        }
        for (width, nth) in [1, 2, 3, 6, 100].into_iter().flat_map(|width| (1..).map(move |nth| (width, nth))) {
            let context = format!("{batches} batches, torn: {torn}, {stop:?}, {width} reads fail from the {nth}th on");
            let disk = disk.reboot(if torn { Survivors::Seed(nth) } else { Survivors::Nothing });
            (nth..nth + width).for_each(|nth| disk.fault(Call::Read, nth, Fault::Error));
            drop(open_after(stop, &disk, 16));
            let met_none = disk.faults_left() as u64 == width;
            for survivors in [Survivors::Everything, Survivors::Nothing] {
                let log = open_after(stop, &disk.reboot(survivors), 16).unwrap();
                assert!(read(&log).starts_with(&expected), "{context}, {survivors:?}: {}", read(&log));
                let mut sequences = Vec::new();
                log.each_entry(0, |_, entry| sequences.push(entry.base_sequence)).unwrap();
                assert!(sequences.starts_with(&Vec::from_iter(0..batches)), "{context}, {survivors:?}: {sequences:?}");
                assert!(append(&log, &["more"]).unwrap().start >= end, "{context}, {survivors:?}");
            }
            if met_none {
                assert!(nth > 8, "{context}");
                break;
            }
        }
    }
}

/// A log of two records in one segment, though a roll between them found the disk full when it synced the directory. It took its
/// names back, but a crash may bring them back. After a clean stop the second record was appended, and both are synced.
fn after_a_failed_roll() -> (MemoryDisk, Log) {
    let (disk, log) = new();
    append(&log, &["one"]).unwrap();
    disk.fault(Call::Any, 7, Fault::Full);
    assert!(matches!(log.seal_before(1), Err(Error::DiskFull(_))));
    log.sync_all().unwrap();
    let log = open_after(Stop::Clean, &disk, 16).unwrap();
    append(&log, &["2"]).unwrap();
    log.sync_all().unwrap();
    (disk, log)
}

/// Power failed in the midst of an append, the failed roll's empty segment was back, and the last entry before it was torn: the
/// segment was taken for the end of the log, and hid what had been acknowledged.
#[test]
fn a_roll_that_failed_before_a_clean_stop_hides_nothing() {
    let (disk, log) = after_a_failed_roll();
    let acknowledged = read(&log);
    append(&log, &["3"]).unwrap();
    assert_eq!(log.segment_bases(), [0]);
    for seed in 0..500 {
        let log = open(&disk.reboot(Survivors::Seed(seed)), 16);
        assert!(read(&log).starts_with(&acknowledged), "{seed}: {}", read(&log));
        assert!(append(&log, &["next"]).unwrap().start >= 2, "{seed}");
    }
}

/// The empty segment of such a roll was back, and TRIM had moved the start to its base meanwhile. The whole segment before it was taken
/// for one that lies before the start, and removed, with all that had been acknowledged behind the start.
#[test]
fn a_segment_that_a_failed_roll_left_ends_none_before_the_start() {
    let (disk, log) = after_a_failed_roll();
    let mut came_back = 0;
    for seed in 0..100 {
        let disk = disk.reboot(Survivors::Seed(seed));
        came_back += u64::from(disk.open(&log.beside(1, "log")).is_ok());
        let log = open_at(1, Stop::Unclean, &disk, 16).unwrap();
        assert_eq!((read(&log).as_str(), log.high_watermark()), ("offset:1 message:2\n", 2), "{seed}");
    }
    assert!(came_back > 10, "{came_back}");
}

/// The first append of a segment failed, and was cut off. The next start found nothing to sync, nor did its clean stop. Then power
/// failed, what had been cut off was back, and was taken for lines put there by hand: the partition was offline for good.
#[test]
fn what_was_cut_off_stays_gone_after_a_start_and_a_clean_stop() {
    for nth in 1..=2 {
        let (disk, log) = new();
        disk.fault(Call::Write, nth, Fault::Error);
        assert!(is_read_only(append(&log, &["refused"])));
        open(&disk, 16).sync_all().unwrap();
        for seed in 0..200 {
            let log = open_after(Stop::Clean, &disk.reboot(Survivors::Seed(seed)), 16).unwrap();
            assert_eq!(append(&log, &["first"]), Ok(0..1), "write {nth}, seed {seed}");
        }
    }
}

/// A torn tail could not be cut since the disk was full, and then a rename failed midway: the entries were gone, the tail was
/// taken for lines put there by hand, and the partition was offline for good.
#[test]
fn a_tail_that_can_be_cut_only_later_is_still_a_torn_tail_then() {
    let torn = || {
        let (disk, log) = new();
        disk.fault(Call::Write, 1, Fault::CrashMidway);
        append(&log, &["torn"]).unwrap_err();
        disk.reboot(Survivors::Everything)
    };
    for full in 1..=8 {
        for error in 1..=8 {
            let disk = torn();
            disk.fault(Call::Any, full, Fault::Full);
            disk.fault(Call::Any, full + error, Fault::Error);
            drop(open_after(Stop::Unclean, &disk, 16));
            let disk = disk.reboot(Survivors::Everything);
            let log = open_after(Stop::Unclean, &disk, 16).unwrap();
            assert_eq!(append(&log, &["first"]), Ok(0..1), "full at call {full}, error {error} later");
        }
    }
}

/// A crash left lines of an idempotent producer's first batch, and of its entry zeros, or an entry of more lines. They were
/// taken for another log's, and adopted without the producer's number: the batch was stored again when it was sent again.
#[test]
fn a_torn_first_batch_is_not_adopted_without_its_number() {
    let (disk, log) = new();
    let producer = Numbering { producer_id: 7, producer_epoch: 0, base_sequence: 0 };
    append_numbered(&log, &["a", "b"], Some(producer)).unwrap();
    let (mut stored, mut torn) = (0, 0);
    for seed in 0..2000 {
        let log = open(&disk.reboot(Survivors::Seed(seed)), 16);
        log.each_entry(0, |_, entry| assert_eq!(entry.producer_id, 7, "{seed}: {}", read(&log))).unwrap();
        match log.high_watermark() {
            0 => torn += 1,
            end => stored += end / 2,
        }
    }
    assert!(stored > 10 && torn > 10, "{stored} {torn}");
}

/// A file became shorter beside who copied it. He found no more bytes, and looked for them for ever.
#[test]
fn the_bytes_of_a_file_that_became_shorter_are_an_error() {
    let disk = MemoryDisk::crashable();
    let file = disk.create(Path::new("f")).unwrap();
    file.write_at(b"0123456789", 0).unwrap();
    let mut window = recovery::Window::new(&*file);
    file.set_len(3).unwrap();
    assert_eq!(window.some_at(2, 5).unwrap(), b"2");
    assert_eq!(window.some_at(5, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// A roll could neither sync its names nor take them back, and the log was read-only. After a restart the new segment was there, and its
/// directory was synced with nothing to do: what was acknowledged in it was gone after a crash.
#[test]
fn names_that_a_failed_roll_left_are_made_durable_by_the_next_start() {
    let (disk, log) = new();
    append(&log, &["one"]).unwrap();
    [7, 8, 9].into_iter().for_each(|nth| disk.fault(Call::Any, nth, Fault::Error));
    assert!(is_read_only(log.seal_before(1)));
    drop(log);
    let log = open(&disk, 16);
    assert_eq!((log.segment_bases(), append(&log, &["two"])), (vec![0, 1], Ok(1..2)));
    log.sync_all().unwrap();
    for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seed(1)] {
        assert_eq!(open(&disk.reboot(survivors), 16).high_watermark(), 2, "{survivors:?}");
    }
}

/// A roll came when no descriptor was free. The segment was synced, and its files had been closed; that they could not be opened was
/// taken for a sync that failed, and the log was read-only until a restart.
#[test]
fn a_roll_that_gets_no_descriptor_is_tried_again() {
    type Roll = fn(&Log) -> Result<(), Error>;
    let rolls: [Roll; 2] = [|log| log.seal_before(1).map(drop), |log| append(log, &[&"x".repeat(60)]).map(drop)];
    for (roll, nth) in rolls.into_iter().flat_map(|roll| (1..=2).map(move |nth| (roll, nth))) {
        let (disk, log) = new();
        append(&log, &["one"]).unwrap();
        log.sync_all().unwrap();
        for other in (0..40).map(|other| PathBuf::from(format!("other{other}"))) {
            disk.create(&other).unwrap();
            log.handles.get(&Arc::default(), &other).unwrap();
        }
        disk.fault(Call::Read, nth, Fault::Error);
        let rolled = roll(&log);
        assert!(matches!(rolled, Err(Error::Unreadable(_))), "{nth}: {rolled:?}");
        roll(&log).unwrap();
        append(&log, &["more"]).unwrap();
        log.sync_all().unwrap();
        assert_eq!(log.segment_bases()[..2], [0, 1]);
    }
}
