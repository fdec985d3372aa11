//! Maintenance: what has to be done to partitions and groups as time passes, in a thread of its own, which sleeps while
//! nothing is due.
//!
//! ```text
//! a segment was rolled             retention by size; the producers' state is stored, if the append could not wait for that
//! segment.ms is over               the active segment is rolled
//! enough is dirty                  compaction, in another thread, one partition after another
//! records may be too old           retention by time: every --retention-check-interval, or retention.ms if that is shorter
//! a transaction is too old          it is aborted; markers that could not be written are tried again
//! a group's deadline is over       its member is put out; offsets and groups that are too old are forgotten
//! ```
//!
//! Each partition knows when it is due ([`Partition::due_ms`]), and a pass looks only after those that are.

use super::{BrokerState, Error, Result, partition::Partition, survive::survive};
use std::{
    sync::Arc,
    thread::{Builder, Scope, ScopedJoinHandle, scope},
    time::{Duration, Instant},
};

/// A pause between two passes: a log may roll a hundred times a second.
const PAUSE: Duration = Duration::from_secs(1);
/// What failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(30);

/// The thread, until the schedule is stopped.
pub(super) fn run(state: &BrokerState) {
    scope(|scope| {
        let mut compacting = None;
        let mut earliest = Instant::now();
        while let Some(woken) = state.env.schedule.wait(earliest) {
            if woken.transactions {
                look_after_transactions(state);
            }
            if woken.groups {
                look_after_groups(state);
            }
            if woken.partitions {
                look_after_partitions(state, scope, &mut compacting);
            }
            earliest = Instant::now() + PAUSE;
        }
    });
}

fn look_after_groups(state: &BrokerState) {
    if let Some(next) = next_look(state, "groups", || state.look_after_groups()) {
        state.env.schedule.groups_in(next);
    }
}

fn look_after_transactions(state: &BrokerState) {
    if let Some(next) = next_look(state, "transactions", || state.look_after_transactions()) {
        state.env.schedule.transactions_in(next);
    }
}

/// Looks after `what`; answers when it wants to be looked after again.
fn next_look(state: &BrokerState, what: &str, look_after: impl FnOnce() -> Result<Option<i64>>) -> Option<Duration> {
    let tell = |why: &str| state.env.tell(why);
    match survive(&format!("looking after {what}"), tell, look_after) {
        Some(Ok(next_ms)) => next_ms.map(|next_ms| state.env.until(next_ms)),
        Some(Err(error)) => {
            tell(&format!("{what}: {error}"));
            Some(RETRY)
        }
        None => Some(RETRY),
    }
}

/// Looks after each partition that is due, and compacts those that ask for it, unless a compaction runs.
fn look_after_partitions<'s>(
    state: &'s BrokerState,
    scope: &'s Scope<'s, '_>,
    compacting: &mut Option<ScopedJoinHandle<'s, ()>>,
) {
    let (env, mut dirty) = (&state.env, Vec::new());
    let partitions = || state.topics().into_iter().flat_map(|topic| topic.partitions());
    for partition in partitions().filter(|partition| env.until(partition.due_ms()).is_zero()) {
        if env.schedule.is_stopped() {
            return;
        }
        match attempt(state, &partition, || partition.look_after()) {
            Some(true) => dirty.push(partition),
            Some(false) => {}
            None => partition.put_off(RETRY),
        }
    }
    if !dirty.is_empty() {
        if compacting.as_ref().is_none_or(ScopedJoinHandle::is_finished) {
            let builder = Builder::new().name("compaction".into()).stack_size(256 << 10);
            let again = dirty.clone();
            match builder.spawn_scoped(scope, move || compact(state, &dirty)) {
                Ok(thread) => *compacting = Some(thread),
                Err(error) => {
                    env.tell(&format!("no thread for compaction: {error}"));
                    again.iter().for_each(|partition| partition.put_off(RETRY));
                }
            }
        } else {
            // The one that runs may be about to end, and may not have seen these.
            dirty.iter().for_each(|partition| partition.due_in(PAUSE));
        }
    }
    if let Some(next_ms) = partitions().map(|partition| partition.due_ms()).min().filter(|&next_ms| next_ms < i64::MAX)
    {
        env.schedule.partitions_in(env.until(next_ms));
    }
}

fn compact(state: &BrokerState, partitions: &[Arc<Partition>]) {
    let stop = || state.env.schedule.is_stopped();
    for partition in partitions {
        match attempt(state, partition, || partition.compact(&stop)) {
            Some(()) => partition.due_in(Duration::ZERO),
            None => partition.put_off(RETRY),
        }
    }
}

/// Does something with a partition; tells what failed, unless it is that the topic was dropped.
fn attempt<T>(state: &BrokerState, partition: &Partition, work: impl FnOnce() -> Result<T>) -> Option<T> {
    let tell = |why: &str| state.env.tell(why);
    let what = format!("{}: maintenance", partition.dir().display());
    match survive(&what, tell, work)? {
        Ok(done) => Some(done),
        Err(Error::UnknownTopic(_)) if partition.still_there().is_err() => None,
        Err(error) => {
            tell(&format!("{}: {error}", partition.name()));
            None
        }
    }
}

#[cfg(all(test, not(shuttle)))]
impl super::Broker {
    /// Maintenance is the test's affair from here on. It may have begun with what a start asks for: that ends first.
    pub(super) fn stop_maintenance(&self) {
        self.inner().env.schedule.stop();
        let is_running = |thread: &std::thread::JoinHandle<()>| {
            thread.thread().name() == Some("maintenance") && !thread.is_finished()
        };
        while self.running().threads.iter().any(is_running) {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Broker, Clock, Terms},
        config::{Changes, Config, Flush, Overrides},
        log::{
            disk::{Call, Fault, MemoryDisk, Survivors},
            record::Records,
        },
    };
    use std::sync::atomic::{AtomicI64, Ordering::*};

    const START_MS: i64 = 1_700_000_000_000;
    const DAY_MS: i64 = 24 * 3600 * 1000;

    /// A broker, and the clock that it goes by.
    struct Turned {
        broker: Broker,
        clock: Arc<AtomicI64>,
    }

    impl Turned {
        /// One whose maintenance the test does.
        fn new(disk: &MemoryDisk) -> Turned {
            Turned::with(disk, Config::new("data"))
        }

        fn with(disk: &MemoryDisk, config: Config) -> Turned {
            let turned = Turned::running(disk, config);
            turned.broker.inner().env.schedule.stop();
            turned
        }

        fn running(disk: &MemoryDisk, config: Config) -> Turned {
            let clock = Arc::new(AtomicI64::new(START_MS));
            let broker = Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(clock.clone())).unwrap();
            Turned { broker, clock }
        }

        fn create(&self, name: &str, settings: &[(&str, &str)]) {
            let settings: Overrides = settings.iter().map(|&(name, value)| (name.into(), value.into())).collect();
            self.broker.create_topic_with(name, Some(1), settings).unwrap();
            self.partition(name).log().unwrap();
        }

        fn partition(&self, topic: &str) -> Arc<Partition> {
            self.broker.topic(topic).unwrap().partition(0).unwrap()
        }

        fn append(&self, topic: &str, timestamp: Option<i64>, bytes: usize) {
            let mut records = Records::default();
            records.push(timestamp, Some(b"key".as_slice().into()), Some(vec![b'x'; bytes].into()));
            let partition = self.partition(topic);
            partition.write(&records, Terms::default()).and_then(|stored| partition.make_durable(&stored)).unwrap();
        }

        /// Does what is due so long after the start; answers the first offset then.
        fn start_at(&self, topic: &str, since_start_ms: i64) -> u64 {
            self.clock.store(START_MS + since_start_ms, Release);
            let partition = self.partition(topic);
            while partition.due_ms() <= START_MS + since_start_ms {
                partition.look_after().unwrap();
            }
            partition.start().unwrap()
        }
    }

    fn second_of_2001(number: i64) -> Option<i64> {
        Some(1_000_000_000_000 + 1000 * number)
    }

    /// Test suites write fixed old times. Such a record was gone after five seconds.
    #[test]
    fn a_record_dated_long_ago_stays_for_five_minutes() {
        let turned = Turned::new(&MemoryDisk::default());
        turned.create("t", &[]);
        turned.append("t", second_of_2001(0), 1);
        assert_eq!(turned.start_at("t", 299_999), 0);
        assert_eq!(turned.start_at("t", 300_000), 1);
        // Whenever it was written.
        turned.clock.store(START_MS + 500_000, Release);
        turned.append("t", second_of_2001(1), 1);
        assert_eq!(turned.start_at("t", 799_999), 1);
        assert_eq!(turned.start_at("t", 800_000), 2);
    }

    #[test]
    fn retention_looks_sooner_where_less_than_five_minutes_are_wanted() {
        for (retention_ms, interval_ms) in [("60000", 60_000), ("299999", 299_999), ("600000", 300_000), ("1", 5000)] {
            let turned = Turned::new(&MemoryDisk::default());
            turned.create("t", &[("retention.ms", retention_ms)]);
            turned.append("t", second_of_2001(0), 1);
            assert_eq!(turned.start_at("t", interval_ms - 1), 0, "{retention_ms}");
            assert_eq!(turned.start_at("t", interval_ms), 1, "{retention_ms}");
        }
        for (interval, altered) in [(Duration::from_millis(1500), false), (Duration::from_secs(300), true)] {
            let config = Config { retention_check_interval: interval, ..Config::new("data") };
            let turned = Turned::with(&MemoryDisk::default(), config);
            turned.create("t", &[]);
            turned.append("t", second_of_2001(0), 1);
            if altered {
                let named = [("retention.ms".into(), crate::config::Change::Set("1500".into()))].into();
                turned.broker.alter_topic("t", None, &Changes { named, reset_others: false }).unwrap();
            }
            let wanted_ms = if altered { 5000 } else { 1500 };
            assert_eq!(turned.start_at("t", wanted_ms - 1), 0, "{interval:?}");
            assert_eq!(turned.start_at("t", wanted_ms), 1, "{interval:?}");
        }
    }

    #[test]
    fn sizes_are_looked_at_after_each_roll_and_times_are_not() {
        let turned = Turned::new(&MemoryDisk::default());
        turned.create("t", &[("segment.bytes", "1024"), ("retention.bytes", "1024")]);
        // Three fill a segment.
        (0..7).for_each(|number| turned.append("t", second_of_2001(number), 300));
        assert_eq!(turned.start_at("t", 0), 3);
        (0..3).for_each(|number| turned.append("t", second_of_2001(number), 300));
        assert_eq!(turned.start_at("t", 0), 6);
    }

    /// Retention rolled first, for which there was no room, and so it never came to what it was to remove.
    #[test]
    fn retention_frees_room_on_a_full_disk() {
        let disk = MemoryDisk::crashable();
        let turned = Turned::new(&disk);
        turned.create("t", &[("segment.bytes", "1024"), ("segment.ms", "1000"), ("retention.ms", "60000")]);
        (0..7).for_each(|number| turned.append("t", second_of_2001(number), 300));
        for nth in [None, Some(1), Some(2)] {
            disk.set_capacity(disk.used());
            turned.clock.fetch_add(60_000, AcqRel);
            // Where the first call fails, it is put off; then it comes to its end.
            nth.into_iter().for_each(|nth| disk.fault(Call::Any, nth, Fault::Full));
            let done = turned.partition("t").look_after();
            let end = turned.partition("t").high_watermark().unwrap();
            if done.is_err() {
                turned.partition("t").put_off(Duration::ZERO);
                turned.partition("t").look_after().unwrap();
            }
            assert_eq!(turned.partition("t").start(), Ok(end), "{nth:?}: {done:?}");
            disk.set_capacity(u64::MAX);
            (0..7).for_each(|number| turned.append("t", second_of_2001(number), 300));
        }
    }

    /// Two thousand topics were all open five seconds after a start.
    #[test]
    fn what_nobody_touches_is_opened_when_something_is_to_be_done_there() {
        let disk = MemoryDisk::crashable();
        disk.set_now_ms(START_MS);
        let turned = Turned::new(&disk);
        let compacted = [("cleanup.policy", "compact"), ("segment.bytes", "1024"), ("segment.ms", "7200000")];
        let of_size = [("segment.bytes", "1024"), ("retention.bytes", "2000")];
        ["empty", "young", "old"].into_iter().for_each(|topic| turned.create(topic, &[]));
        for (topic, settings) in [("compacted", &compacted), ("dirty", &compacted)] {
            turned.create(topic, settings);
        }
        for (topic, settings) in [("small", of_size), ("large", [("segment.bytes", "1024"), ("retention.ms", "-1")])] {
            turned.create(topic, &settings);
        }
        turned.append("young", Some(START_MS - 1), 300);
        turned.append("old", second_of_2001(0), 300);
        turned.append("compacted", None, 300);
        (0..4).for_each(|_| ["dirty", "small", "large"].into_iter().for_each(|topic| turned.append(topic, None, 300)));
        // As after a crash that came between a roll and what it makes due.
        let disk = disk.reboot(Survivors::Everything);
        let turned = Turned::new(&disk);
        let named = [("retention.bytes".into(), crate::config::Change::Set("100".into()))].into();
        turned.broker.alter_topic("large", None, &Changes { named, reset_others: false }).unwrap();
        let open_at = |since_start_ms| {
            turned.clock.store(START_MS + since_start_ms, Release);
            let topics = turned.broker.topics().into_iter().flat_map(|topic| topic.partitions());
            let due = topics.inspect(|partition| {
                while partition.due_ms() <= START_MS + since_start_ms {
                    partition.look_after().unwrap();
                }
            });
            let open = due.filter(|partition| partition.is_open());
            open.map(|partition| partition.name()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(open_at(0), "large/0", "it is too large");
        assert_eq!(open_at(29_999), "large/0");
        assert_eq!(open_at(30_000), "dirty/0 large/0 old/0");
        assert_eq!(turned.partition("old").start(), Ok(1));
        assert_eq!(open_at(7_200_000), "compacted/0 dirty/0 large/0 old/0", "it is to be rolled, and compacted then");
        assert_eq!(open_at(7 * DAY_MS - 2), "compacted/0 dirty/0 large/0 old/0");
        assert_eq!(open_at(7 * DAY_MS + 600_000), "compacted/0 dirty/0 large/0 old/0 small/0 young/0");
        assert_eq!(turned.start_at("young", 7 * DAY_MS + 1_200_000), 1);
    }

    /// One thread did everything: with 1,500 logs to recover, a partition that was written to went 900 ms without the sync that
    /// `--flush 20` had promised.
    #[test]
    fn a_sync_waits_for_nothing_else() {
        let disk = MemoryDisk::crashable();
        let turned = Turned::new(&disk);
        turned.create("torn", &[("cleanup.policy", "compact"), ("segment.bytes", "1024")]);
        (0..4).for_each(|_| turned.append("torn", None, 300));
        let disk = disk.reboot(Survivors::Everything);
        let config = Config { flush: Flush::Every(Duration::from_millis(1)), ..Config::new("data") };
        let turned = Turned::running(&disk, config);
        turned.create("hot", &[]);
        // The thread is in the midst of opening the torn log.
        let opening = disk.hold(Call::Any, 1);
        turned.partition("torn").settings_changed();
        opening.reached();
        let sync = disk.hold(Call::Sync, 1);
        turned.append("hot", None, 1);
        sync.reached();
        assert!(!turned.partition("torn").is_open());
        drop((sync, opening));
    }

    /// The thread was gone, and with it all that it did, and nobody heard of it.
    #[test]
    fn a_panic_in_a_sync_ends_neither_the_thread_nor_a_wait_for_that_sync() {
        let disk = MemoryDisk::crashable();
        let config = Config { flush: Flush::Every(Duration::from_millis(1)), ..Config::new("data") };
        let turned = Turned::running(&disk, config);
        ["a", "b"].into_iter().for_each(|topic| turned.create(topic, &[]));
        let panic = disk.hold(Call::Sync, 1);
        disk.fault(Call::Sync, 1, Fault::Panic);
        turned.append("a", None, 1);
        panic.reached();
        drop(panic);
        let sync = disk.hold(Call::Sync, 1);
        turned.append("b", None, 1);
        sync.reached();
        drop(sync);
        let why = turned.partition("a").log().unwrap().sync_all().unwrap_err();
        assert!(why.to_string().starts_with("data/a/0: a sync panicked; the partition is read-only until"), "{why}");
    }

    #[test]
    fn a_panic_in_maintenance_ends_neither_the_thread_nor_a_stop() {
        let disk = MemoryDisk::crashable();
        let turned = Turned::running(&disk, Config { flush: Flush::Never, ..Config::new("data") });
        for topic in ["a", "b"] {
            turned.create(topic, &[("segment.ms", "1000")]);
            turned.append(topic, None, 1);
        }
        let (panic, roll) = (disk.hold(Call::Any, 1), disk.hold(Call::Any, 2));
        disk.fault(Call::Any, 1, Fault::Panic);
        turned.clock.store(START_MS + 1000, Release);
        panic.reached();
        drop(panic);
        roll.reached();
        drop(roll);
        drop(turned);
        let turned = Turned::new(&disk);
        assert_eq!(["a", "b"].map(|topic| turned.partition(topic).high_watermark()), [Ok(1), Ok(1)]);
    }
}
