//! Topics whose files a person, a copy or a client's strange value spoilt: they are there, offline, and told why.
#![allow(clippy::unwrap_used)]

use plainlog::{
    broker::{Broker, Clock, EpochEnd, Error, Terms},
    config::{Change, Changes, Config, Flush, Overrides},
    log::{
        disk::{Call, Disk, Fault, MemoryDisk, Survivors, make_dir, read_small},
        record::Records,
    },
};
use std::{borrow::Cow, collections::BTreeMap, path::Path, sync::Arc, time::Duration};

fn open(disk: &MemoryDisk) -> Broker {
    Broker::open_on(Arc::new(disk.clone()), Config::new("data"), Clock::System).unwrap()
}

fn append(broker: &Broker, topic: &str, value: &[u8]) -> u64 {
    try_to_append(broker, topic, value).unwrap()
}

fn try_to_append(broker: &Broker, topic: &str, value: &[u8]) -> Result<u64, Error> {
    let partition = broker.topic(topic)?.partition(0)?;
    let mut records = Records::default();
    records.push(None, Some(Cow::Borrowed(b"k")), Some(Cow::Borrowed(value)));
    let appended = partition.write(&records, Terms::default())?;
    partition.make_durable(&appended)?;
    Ok(appended.offsets.start)
}

fn end(broker: &Broker, topic: &str) -> u64 {
    broker.find_partition(topic, 0).unwrap().high_watermark().unwrap()
}

fn text(disk: &MemoryDisk, path: &str) -> String {
    String::from_utf8(read_small(disk, Path::new(path), 1 << 20).unwrap()).unwrap()
}

fn put(disk: &MemoryDisk, path: &str, text: &str) {
    disk.create(Path::new(path)).unwrap().write_at(text.as_bytes(), 0).unwrap();
}

/// A client set `cleanup.policy` to "compact\n". The check trimmed each word, the raw value went into the `topic` file, and at
/// the next start that had a line which was none: the topic was left alone, and its records could be had by no verb.
#[test]
fn a_setting_with_a_line_break_keeps_its_topic() {
    for value in ["compact\n", "\ncompact", "compact,\ndelete", "compact\r\n", " compact "] {
        let disk = MemoryDisk::default();
        let broker = open(&disk);
        let setting = Overrides::from([("cleanup.policy".into(), value.into())]);
        let created = broker.create_topic_with("a", Some(1), setting.clone());
        broker.create_topic("b", 1).unwrap();
        let named = BTreeMap::from([("cleanup.policy".into(), Change::Set(value.into()))]);
        let altered = broker.alter_topic("b", None, &Changes { named, reset_others: false });
        created.and(altered).unwrap();
        for topic in ["a", "b"] {
            append(&broker, topic, b"hello");
        }
        drop(broker);
        let broker = open(&disk);
        for topic in ["a", "b"] {
            assert_eq!(end(&broker, topic), 1, "{value:?}");
            assert!(broker.topic(topic).unwrap().overrides()["cleanup.policy"].starts_with("compact"), "{value:?}");
        }
    }
}

#[test]
fn a_topic_whose_file_cannot_be_read_is_there_and_offline() {
    let disk = MemoryDisk::default();
    let broker = open(&disk);
    broker.create_topic("a", 1).unwrap();
    broker.create_topic("b", 1).unwrap();
    append(&broker, "a", b"hello");
    drop(broker);
    let file = text(&disk, "data/a/topic");
    put(&disk, "data/a/topic", &format!("{file}nonsense\n"));

    let broker = open(&disk);
    let why = "topic 'a' is offline: data/a/topic, line 4: 'nonsense' is no line of a topic file; mend the file and restart the \
               broker, or delete the topic";
    let offline = Err(Error::Storage(why.into()));
    assert_eq!(broker.topic("a").map(drop), offline);
    assert_eq!(broker.describe_topic_or_create("a").map(drop), offline);
    assert_eq!(broker.alter_topic("a", Some(2), &Changes::default()).map(drop), offline);
    assert_eq!(broker.trim("a", 0, 1).map(drop), offline);
    assert_eq!(broker.create_topic("a", 1).map(drop), Err(Error::TopicExists("a".into())));
    let all: Vec<_> = broker.describe_topics().into_iter().map(|(name, topic)| (name, topic.is_ok())).collect();
    assert_eq!(all, [("a".into(), false), ("b".into(), true)]);
    append(&broker, "b", b"hello");
    drop(broker);

    // Mended, it has all it had.
    put(&disk, "data/a/topic", &file);
    let broker = open(&disk);
    assert_eq!(end(&broker, "a"), 1);
    drop(broker);
    put(&disk, "data/a/topic", "nonsense");
    let broker = open(&disk);
    broker.drop_topic("a").unwrap();
    assert!(matches!(broker.topic("a"), Err(Error::UnknownTopic(_))));
    broker.create_topic("a", 1).unwrap();
    assert_eq!(append(&broker, "a", b"again"), 0);
}

/// One file could not be opened for want of a descriptor. The topic was offline until a restart, with the advice to mend its file;
/// or the partition was.
#[test]
fn what_could_not_be_read_once_is_read_when_it_is_asked_for_again() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    broker.create_topic("a", 1).unwrap();
    append(&broker, "a", b"hello");
    drop(broker);
    for nth in 0.. {
        let disk = disk.reboot(Survivors::Everything);
        disk.refuse_descriptors(nth..nth + 1);
        let opened = Broker::open_on(Arc::new(disk.clone()), Config::new("data"), Clock::System);
        let refused =
            opened.as_ref().map_or(None, |broker| broker.find_partition("a", 0).and_then(|a| a.start()).err());
        if disk.descriptors() <= nth {
            assert!(nth > 5, "it opens files");
            break;
        }
        disk.refuse_descriptors(0..0);
        let broker = opened.unwrap_or_else(|_| open(&disk));
        if let Some(error) = refused {
            assert!(
                error.to_string().contains("Too many open files") && !error.to_string().contains("mend"),
                "{error}"
            );
        }
        assert_eq!(append(&broker, "a", b"again"), 1, "{nth}");
        drop(broker);
        assert_eq!(end(&open(&disk.reboot(Survivors::Nothing)), "a"), 2, "{nth}");
    }
}

/// A broker was killed before it had synced the names of a partition's first segment. The next one could not sync them either, and
/// tried again; that sync succeeded, since no name had changed, and proved nothing. A power cut took the segment with its records.
#[test]
fn what_is_acknowledged_after_a_second_try_to_open_a_partition_is_durable() {
    let mut opened_again = 0;
    for nth in 1.. {
        let disk = MemoryDisk::crashable();
        let broker = open(&disk);
        broker.create_topic("a", 1).unwrap();
        drop(broker);
        let identity = text(&disk, "data/~broker").replace("clean:yes\n", "");
        put(&disk, "data/~broker", &identity);
        disk.remove_dir(Path::new("data/a/0")).unwrap();
        make_dir(&disk, Path::new("data/a/0")).unwrap();
        put(&disk, "data/a/0/00000000000000000000.log", "");
        put(&disk, "data/a/0/00000000000000000000.batches", "");
        let broker = open(&disk);
        disk.fault(Call::Sync, nth, Fault::Error);
        let opened = broker.find_partition("a", 0).unwrap().start();
        if disk.faults_left() > 0 {
            break;
        }
        let acknowledged = try_to_append(&broker, "a", b"hello");
        opened_again += u32::from(opened.is_err() && acknowledged.is_ok());
        let found = open(&disk.reboot(Survivors::Nothing)).find_partition("a", 0).unwrap().high_watermark();
        assert_eq!(found.unwrap(), u64::from(acknowledged.is_ok()), "{nth}: {opened:?}");
    }
    assert!(opened_again > 0);
}

/// A DROP could neither be done nor undone. Its records were not synced, and the stop was called clean: after the next start nobody
/// looked for what a crash had torn there.
#[test]
fn a_topic_that_a_drop_left_in_doubt_was_not_stopped_cleanly() {
    let (disk, config) = (MemoryDisk::crashable(), Config { flush: Flush::Never, ..Config::new("data") });
    let open = || Broker::open_on(Arc::new(disk.clone()), config.clone(), Clock::System).unwrap();
    let broker = open();
    broker.create_topic("a", 1).unwrap();
    broker.create_topic("b", 1).unwrap();
    drop(broker);
    let broker = open();
    append(&broker, "a", b"not synced");
    for nth in [1, 2] {
        disk.fault(Call::Sync, nth, Fault::Error);
    }
    broker.drop_topic("a").unwrap_err();
    assert!(broker.topic("a").is_err_and(|error| error.to_string().contains("known after a restart")));
    drop(broker);
    let said = text(&disk, "data/~broker");
    assert!(said.ends_with("clean:yes\nunclean:a\n"), "{said}");
}

/// A TRIM could neither be made durable nor undone; the next start found it done, and clients saw that. But nobody made it durable,
/// and a power cut brought the records back.
#[test]
fn a_trim_that_was_seen_after_a_restart_stays_done() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    broker.create_topic("a", 1).unwrap();
    (0..3).for_each(|offset| assert_eq!(append(&broker, "a", b"hello"), offset));
    // The sync of the topic's folder, and the file that was to bring the old bytes back.
    disk.fault(Call::Any, 5, Fault::Error);
    disk.fault(Call::Any, 6, Fault::Error);
    let error = broker.trim("a", 0, 2).unwrap_err().to_string();
    assert!(error.contains("a restart may find the file as it was or as it was to be"), "{error}");
    drop(broker);
    let start = |broker: &Broker| broker.find_partition("a", 0).unwrap().start().unwrap();
    assert_eq!(start(&open(&disk)), 2);
    assert_eq!(start(&open(&disk.reboot(Survivors::Nothing))), 2);
}

/// `cp -r data/a data/b`: whoever asks for a topic by its id must not be given the other.
#[test]
fn a_topic_that_was_copied_gets_an_id_of_its_own() {
    let disk = MemoryDisk::default();
    let broker = open(&disk);
    let id = broker.create_topic("a", 1).unwrap().id;
    append(&broker, "a", b"hello");
    drop(broker);
    make_dir(&disk, Path::new("data/b/0")).unwrap();
    for file in ["topic", "0/00000000000000000000.log", "0/00000000000000000000.batches"] {
        let bytes = read_small(&disk, &Path::new("data/a").join(file), 1 << 20).unwrap();
        disk.create(&Path::new("data/b").join(file)).unwrap().write_at(&bytes, 0).unwrap();
    }
    let broker = open(&disk);
    let copy = broker.topic("b").unwrap().id;
    assert_ne!(copy, id);
    assert_eq!(broker.describe_topic_by_id(&id).unwrap().name, "a");
    assert_eq!(broker.describe_topic_by_id(&copy).unwrap().name, "b");
    assert_eq!(end(&broker, "b"), 1);
    drop(broker);
    assert_eq!(open(&disk).topic("b").unwrap().id, copy);
}

#[test]
fn a_topic_is_found_by_its_id_for_as_long_as_it_is_there() {
    let broker = Broker::in_memory();
    let ids: Vec<_> = (0..100).map(|index| broker.create_topic(&format!("t{index}"), 1).unwrap().id).collect();
    for (index, id) in ids.iter().enumerate() {
        assert_eq!(broker.describe_topic_by_id(id).unwrap().name, format!("t{index}"));
    }
    broker.drop_topic("t7").unwrap();
    assert!(broker.describe_topic_by_id(&ids[7]).is_none());
    assert!(broker.describe_topic_by_id(&ids[8]).is_some());
    assert_ne!(broker.create_topic("t7", 1).unwrap().id, ids[7]);
}

/// A client that read what a crash took must learn where what it knows is over; a broker that knew only the current epoch answered
/// with the log's end.
#[test]
fn each_leader_epoch_is_known_to_end_where_a_crash_cut_the_log() {
    let mut disk = MemoryDisk::crashable();
    let open = |disk: &MemoryDisk| {
        let config = Config { flush: Flush::Never, ..Config::new("data") };
        Broker::open_on(Arc::new(disk.clone()), config, Clock::System).unwrap()
    };
    let end_of = |broker: &Broker, epoch| {
        let end = broker.end_of_epoch("a", 0, epoch).unwrap();
        end.map(|EpochEnd { epoch, end }| (epoch, end))
    };
    open(&disk).create_topic("a", 1).unwrap();
    for synced in [3, 5] {
        let broker = open(&disk);
        for _ in end(&broker, "a")..synced {
            append(&broker, "a", b"hello");
        }
        broker.topic("a").unwrap().partition(0).unwrap().log().unwrap().sync_all().unwrap();
        append(&broker, "a", b"lost");
        append(&broker, "a", b"lost");
        // The lines are found, and no entries for them: a torn tail.
        disk = disk.reboot(Survivors::Everything);
        let entries = disk.open(Path::new("data/a/0/00000000000000000000.batches")).unwrap();
        entries.set_len(synced * 64).unwrap();
        assert_eq!(end(&open(&disk), "a"), synced);
    }
    let broker = open(&disk);
    append(&broker, "a", b"again");
    let ends: Vec<_> = (0..4).map(|epoch| end_of(&broker, epoch)).collect();
    assert_eq!(ends, [Some((0, 3)), Some((1, 5)), Some((2, 6)), None]);
    drop(broker);
    let broker = open(&disk);
    assert_eq!(end_of(&broker, 0), Some((0, 3)));
    assert_eq!(broker.leader_epoch("a", 0).unwrap(), 2);
}

/// Records were shown before they were synced, and a power cut took some: both files were shorter, and agreed. The epoch stayed, so
/// a reader passed over the records that got their offsets, and was not told of it.
#[test]
fn an_epoch_ends_where_a_crash_may_have_taken_records_without_a_trace() {
    for flush in [Flush::Never, Flush::Every(Duration::from_secs(3600)), Flush::Always] {
        let open = |disk: &MemoryDisk| {
            let config = Config { flush, ..Config::new("data") };
            Broker::open_on(Arc::new(disk.clone()), config, Clock::System).unwrap()
        };
        let start = MemoryDisk::crashable();
        let broker = open(&start);
        broker.create_topic("a", 1).unwrap();
        (0..3).for_each(|offset| assert_eq!(append(&broker, "a", b"synced"), offset));
        drop(broker);
        let (shown_early, mut lost) = (flush != Flush::Always, 0);
        for seed in 0..40 {
            let disk = start.reboot(Survivors::Everything);
            let broker = open(&disk);
            assert_eq!(broker.leader_epoch("a", 0).unwrap(), 0, "it was stopped cleanly");
            (3..5).for_each(|offset| assert_eq!(append(&broker, "a", b"shown"), offset));
            let disk = disk.reboot(Survivors::Seed(seed));
            let broker = open(&disk);
            let found = end(&broker, "a");
            assert_eq!(broker.leader_epoch("a", 0).unwrap(), u32::from(shown_early), "{flush:?}, {seed}");
            append(&broker, "a", b"again");
            let end_of_0 = broker.end_of_epoch("a", 0, 0).unwrap().unwrap();
            assert_eq!(end_of_0, EpochEnd { epoch: 0, end: found + u64::from(!shown_early) }, "{flush:?}, {seed}");
            broker.create_topic("b", 1).unwrap();
            append(&broker, "b", b"hello");
            assert_eq!(broker.leader_epoch("b", 0).unwrap(), 0, "no crash took anything there");
            lost += u32::from(found < 5);
        }
        assert_eq!(lost > 0, shown_early, "{flush:?}: {lost}");
    }
}

/// One partition was offline, so the broker did not call its stop clean, and lines that somebody appended by hand to another,
/// healthy log were cut off as a torn tail.
#[test]
fn a_partition_that_is_offline_does_not_make_the_stop_of_others_unclean() {
    let (log, spoilt) = ("data/a/0/00000000000000000000.log", "data/b/0/00000000000000000000.log");
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    broker.create_topic("a", 1).unwrap();
    broker.create_topic("b", 2).unwrap();
    append(&broker, "a", b"hello");
    // A crash, and a log that cannot be opened.
    let disk = disk.reboot(Survivors::Everything);
    put(&disk, spoilt, "no record\n");
    let broker = open(&disk);
    append(&broker, "a", b"world");
    assert!(matches!(broker.describe_partition("b", 0), Err(Error::Storage(_))));
    drop(broker);
    assert!(text(&disk, "data/~broker").ends_with("\nclean:yes\nunclean:b/0\n"), "{}", text(&disk, "data/~broker"));

    let lines = text(&disk, log) + "offset:2 key:k message:by hand\n";
    put(&disk, log, &lines);
    let broker = open(&disk);
    assert_eq!(end(&broker, "a"), 3);
    assert_eq!(broker.leader_epoch("a", 0).unwrap(), 0, "nothing was cut");
    append(&broker, "a", b"more");
    drop(broker);
    // Mended, with a torn tail that the crash left: it is told from a line added by hand.
    put(&disk, spoilt, "offset:0 message:a\n");
    let broker = open(&disk);
    assert_eq!(broker.describe_partition("b", 0).unwrap().high_watermark, 1);
    drop(broker);
    assert!(text(&disk, "data/~broker").ends_with("\nclean:yes\n"));
}

/// The same of a topic whose file cannot be read: nobody can open its partitions, and after a crash nobody has.
#[test]
fn a_topic_that_is_offline_through_a_stop_is_checked_when_it_is_mended() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    broker.create_topic("a", 1).unwrap();
    append(&broker, "a", b"hello");
    let disk = disk.reboot(Survivors::Everything);
    let (log, file) = ("data/a/0/00000000000000000000.log", text(&disk, "data/a/topic"));
    put(&disk, "data/a/topic", "nonsense");
    put(&disk, log, "offset:0 key:k message:hello\noffset:1 key:k message:torn by the crash\n");
    for _ in 0..2 {
        drop(open(&disk));
        assert!(text(&disk, "data/~broker").ends_with("\nclean:yes\nunclean:a\n"));
    }
    put(&disk, "data/a/topic", &file);
    let broker = open(&disk);
    assert_eq!((end(&broker, "a"), broker.leader_epoch("a", 0).unwrap()), (1, 1));
}

/// What was counted of a topic fell out of the sums while it was dropped, and for good where a failing disk took it offline.
#[test]
fn no_sum_falls_when_a_topic_goes() {
    for nth in 1..8 {
        let disk = MemoryDisk::crashable();
        let broker = open(&disk);
        broker.create_topic("a", 2).unwrap();
        append(&broker, "a", b"hello");
        let before = broker.traffic();
        assert_eq!(before.records_in, 1);
        [nth, nth + 1].iter().for_each(|&nth| disk.fault(Call::Any, nth, Fault::Error));
        let dropped = broker.drop_topic("a");
        assert_eq!(broker.traffic(), before, "call {nth}: {dropped:?}");
    }
}

#[test]
fn no_sum_falls_while_topics_are_dropped() {
    let broker = open(&MemoryDisk::default());
    let names: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
    for name in &names {
        broker.create_topic(name, 1).unwrap();
        append(&broker, name, b"hello");
    }
    let before = broker.traffic();
    std::thread::scope(|scope| {
        let dropping = scope.spawn(|| names.iter().for_each(|name| broker.drop_topic(name).unwrap()));
        while !dropping.is_finished() {
            assert_eq!(broker.traffic(), before);
        }
    });
    assert_eq!(broker.traffic(), before);
}
