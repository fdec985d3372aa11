//! Power fails, or the disk does, at every call of a script in which members of a share group accept, release and reject, leave and come
//! again, the broker is started again, and the group is deleted and made anew.
//!
//! ```text
//! script ─ fault ─ reboot, some of it survives ─ recovery ─ fault ─ reboot ─ recovery ─ all that is open is handed out, and nothing else
//! ```
//!
//! What was answered holds where every log is synced before it is acknowledged, and in every mode where the process dies and not the machine.

use super::*;
use crate::{
    broker::{
        Broker, Clock, PollLimits, PollWait, ReadSession, View, Waiter,
        share_partition::{Acknowledged, Acknowledgement},
    },
    config::{Config, Flush},
    log::{
        disk::{Call, Fault, MemoryDisk, Survivors},
        record::Records,
    },
};
use Acknowledgement::{Accept, Reject, Release};
use std::{borrow::Cow, collections::BTreeSet};

const CRASHES: [Fault; 3] = [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter];
const PARTITIONS: u32 = 2;
const RECORDS: u64 = 4;

/// What may become of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Fate {
    /// It is handed out.
    #[default]
    Open,
    /// Its end was asked for, and not answered: either.
    Asked,
    /// Its end was answered: it is handed out no more.
    Done,
}

/// What members were told of a record.
#[derive(Clone, Debug, Default)]
struct Told {
    fate: Fate,
    /// How often it was handed out at most.
    deliveries: u32,
    /// How often at least: the group may have been deleted and made anew.
    least: u32,
    /// How often of that is synced.
    synced: u32,
    holder: Option<&'static str>,
    /// Whether somebody may hold it still: what he said of it was not answered.
    is_unsure: bool,
    /// Whether it was done in a group whose deletion was asked for and not answered.
    may_be_done: bool,
}

/// A partition and an offset.
type Place = (u32, u64);

#[derive(Clone, Debug)]
struct Model {
    flush: Flush,
    /// Whether the script goes on after an error: the disk failed once, and has power.
    goes_on: bool,
    told: BTreeMap<Place, Told>,
    /// What was rejected, durably.
    rejected: BTreeSet<Place>,
    /// Whether the group's deletion was asked for, and nobody has joined since.
    is_ended: bool,
}

struct Member {
    name: &'static str,
    membership: ShareMembership,
}

fn open(disk: &MemoryDisk, flush: Flush) -> Result<Broker> {
    let config = Config { flush, ..Config::new("data") };
    let broker = Broker::open_on(Arc::new(disk.clone()), config, Clock::System)?;
    broker.stop_maintenance();
    Ok(broker)
}

/// A disk with the records, and with what the broker makes at first use.
fn prepared() -> MemoryDisk {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk, Flush::Always).unwrap();
    broker.create_topic("orders", PARTITIONS).unwrap();
    for index in 0..PARTITIONS {
        let partition = broker.topic("orders").unwrap().partition(index).unwrap();
        let mut records = Records::default();
        (0..RECORDS).for_each(|at| records.push(None, None, Some(Cow::Owned(format!("{index}-{at}").into_bytes()))));
        let written = partition.write(&records, Default::default()).unwrap();
        partition.make_durable(&written).unwrap();
    }
    drop(broker);
    disk.reboot(Survivors::Everything)
}

impl Model {
    fn new(flush: Flush, goes_on: bool) -> Model {
        let places = (0..PARTITIONS).flat_map(|partition| (0..RECORDS).map(move |offset| (partition, offset)));
        let told = places.map(|place| (place, Told::default())).collect();
        Model { flush, goes_on, told, rejected: BTreeSet::new(), is_ended: false }
    }

    /// What was answered; an error ends the script, unless it goes on.
    fn got<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(_) if self.goes_on => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn join(&mut self, broker: &Broker, name: &'static str) -> Result<Option<Member>> {
        self.is_ended = false;
        let dead_letters = Some("dead".into());
        let options = ShareOptions { deliveries: Some(10), dead_letters, ..ShareOptions::default() };
        let joined = broker.join_queue("jobs", &["orders"], &options);
        Ok(self.got(joined)?.map(|membership| Member { name, membership }))
    }

    /// Hands out at most so many records. Answers how many there were.
    fn poll(&mut self, member: &mut Option<Member>, most: usize) -> Result<usize> {
        let Some(Member { name, membership }) = member else { return Ok(0) };
        let (waiter, mut handed_out) = (Waiter::new(), vec![]);
        let wait = PollWait { waiter: &waiter, deadline: Some(Instant::now()), wait: &mut |_| false };
        let polled = membership.poll(PollLimits { records: most, bytes: 1 << 20 }, wait, &mut |one| {
            handed_out.push(((one.record.partition, one.record.offset), one.deliveries));
        });
        for (place, deliveries) in handed_out {
            let told = self.told.get_mut(&place).expect("there are no others");
            assert_ne!(told.fate, Fate::Done, "{place:?} is handed out again");
            assert_eq!(told.holder, None, "two have {place:?}");
            let may_be = told.synced + 1..=told.deliveries + 1;
            assert!(may_be.contains(&deliveries), "{place:?}: delivery {deliveries}, {told:?}");
            let fate = if told.may_be_done { Fate::Asked } else { Fate::Open };
            (told.fate, told.holder, told.is_unsure) = (fate, Some(*name), false);
            (told.least, told.deliveries) = (deliveries, told.deliveries.max(deliveries));
        }
        Ok(self.got(polled)?.unwrap_or(0))
    }

    /// A member says what becomes of one of the records that it holds.
    fn say(&mut self, broker: &Broker, member: &mut Option<Member>, nth: usize, how: Acknowledgement) -> Result<()> {
        let Some(Member { name, membership }) = member else { return Ok(()) };
        let mut held = self.told.iter().filter(|(_, told)| told.holder == Some(name)).map(|(place, _)| *place);
        let Some(place @ (partition, offset)) = held.nth(nth) else { return Ok(()) };
        let told = self.told.get_mut(&place).expect("it was found there");
        (told.holder, told.is_unsure) = (None, true);
        if how != Release {
            told.fate = Fate::Asked;
        }
        let of = broker.find_partition("orders", partition);
        let one = Acknowledged { first: offset, last: offset, how };
        let said = of.and_then(|of| membership.acknowledge(&of, &[one]));
        if said.is_ok() {
            told.fate = if how == Release { Fate::Open } else { Fate::Done };
            (told.is_unsure, told.may_be_done) = (false, false);
            if how == Reject {
                self.rejected.insert(place);
            }
            // The line says of all its records how often they were handed out, but for who has them now.
            for (_, told) in self.told.range_mut((partition, 0)..(partition + 1, 0)) {
                let is_held = told.holder.is_some() || told.is_unsure;
                told.synced = told.synced.max(told.least.saturating_sub(is_held.into()));
            }
        }
        self.got(said).map(drop)
    }

    fn leave(&mut self, member: Option<Member>) -> Result<()> {
        let Some(Member { name, mut membership }) = member else { return Ok(()) };
        let left = membership.leave();
        self.told.values_mut().filter(|told| told.holder == Some(name)).for_each(|told| told.holder = None);
        self.got(left).map(drop)
    }

    fn end(&mut self, broker: &Broker) -> Result<()> {
        self.is_ended = true;
        for told in self.told.values_mut() {
            (told.least, told.synced, told.is_unsure) = (0, 0, true);
            if told.fate != Fate::Open {
                (told.fate, told.may_be_done) = (Fate::Asked, true);
            }
        }
        let ended = broker.delete_group("jobs");
        if ended.is_ok() {
            self.told = Model::new(self.flush, self.goes_on).told;
        }
        self.got(ended).map(drop)
    }

    fn script(&mut self, disk: &MemoryDisk) -> Result<()> {
        if let Some(broker) = self.got(open(disk, self.flush))? {
            let (mut a, mut b) = (self.join(&broker, "a")?, self.join(&broker, "b")?);
            self.poll(&mut a, 3)?;
            self.say(&broker, &mut a, 0, Accept)?;
            self.poll(&mut b, 9)?;
            self.poll(&mut b, 9)?;
            self.say(&broker, &mut b, 1, Reject)?;
            self.say(&broker, &mut a, 1, Release)?;
            self.say(&broker, &mut b, 1, Accept)?;
            self.poll(&mut a, 1)?;
            self.leave(b)?;
            self.poll(&mut a, 9)?;
            self.say(&broker, &mut a, 2, Release)?;
            self.leave(a)?;
        }
        let Some(broker) = self.got(open(disk, self.flush))? else { return Ok(()) };
        let mut a = self.join(&broker, "a")?;
        self.poll(&mut a, 9)?;
        self.poll(&mut a, 2)?;
        self.say(&broker, &mut a, 0, Accept)?;
        self.say(&broker, &mut a, 1, Release)?;
        self.leave(a)?;
        self.end(&broker)?;
        let mut b = self.join(&broker, "b")?;
        self.poll(&mut b, 3)?;
        self.say(&broker, &mut b, 0, Accept)?;
        self.say(&broker, &mut b, 0, Release)?;
        self.leave(b)
    }

    /// Opens the broker after a crash: nobody holds anything.
    fn recovered(&mut self, disk: &MemoryDisk) -> Result<Broker> {
        for told in self.told.values_mut() {
            (told.holder, told.is_unsure) = (None, true);
        }
        let broker = open(disk, self.flush)?;
        // Whoever joins now would find what is left of a group that is gone.
        let is_there = broker.group("jobs")?.is_some();
        assert!(
            !self.is_ended || is_there || broker.share_offsets("jobs")?.is_empty(),
            "a new group inherits something"
        );
        Ok(broker)
    }

    fn recover_and_poll(&mut self, disk: &MemoryDisk) -> Result<()> {
        let broker = self.recovered(disk)?;
        let mut member = self.join(&broker, "c")?;
        self.poll(&mut member, 2)?;
        self.say(&broker, &mut member, 0, Release)?;
        self.leave(member)
    }

    /// A recovery with nothing in its way: what is open is handed out, all of it.
    fn check(&mut self, disk: &MemoryDisk, context: &str) {
        let go = |model: &mut Model| -> Result<()> {
            let broker = model.recovered(disk)?;
            let mut member = model.join(&broker, "d")?;
            while model.poll(&mut member, 9)? > 0 {}
            for (place, told) in &model.told {
                assert!(told.fate != Fate::Open || told.holder.is_some(), "{place:?} is lost: {told:?}");
            }
            let buried = dead_letters(&broker);
            assert!(model.rejected.is_subset(&buried), "{:?} are not all in {buried:?}", model.rejected);
            // What is done now stays so.
            while model.told.values().any(|told| told.holder.is_some()) {
                model.say(&broker, &mut member, 0, Accept)?;
            }
            model.leave(member)?;
            let mut member = model.join(&broker, "e")?;
            assert_eq!(model.poll(&mut member, 9)?, 0);
            Ok(())
        };
        self.goes_on = false;
        go(self).unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

/// Where the records were that are dead letters now.
fn dead_letters(broker: &Broker) -> BTreeSet<Place> {
    let mut found = BTreeSet::new();
    for of in broker.find_topic("dead").iter().flat_map(|topic| topic.partitions()) {
        let mut read = ReadSession::default();
        let batches = read.read(View::records(Isolation::ReadUncommitted), &of, 0, 1 << 20).unwrap();
        for line in batches.records_from(0) {
            let value = line.unwrap().split().unwrap().value.bytes().unwrap().unwrap().into_owned();
            let value = String::from_utf8(value).unwrap();
            let (partition, offset) = value.split_once('-').unwrap();
            found.insert((partition.parse().unwrap(), offset.parse().unwrap()));
        }
    }
    found
}

/// Runs the script into each crash, and each crash into several recoveries.
fn crash_everywhere(flush: Flush) {
    let base = prepared();
    let disk = base.reboot(Survivors::Everything);
    let mut all = Model::new(flush, false);
    all.script(&disk).unwrap();
    all.check(&disk.reboot(Survivors::Everything), "no crash");
    let (calls, is_always) = (disk.calls(), flush == Flush::Always);
    let mut second_crashes = 0;
    for nth in 1..=calls {
        let crash = CRASHES[nth as usize % 3];
        let (disk, mut model) = (base.reboot(Survivors::Everything), Model::new(flush, false));
        disk.fault(Call::Any, nth, crash);
        let done = model.script(&disk);
        assert!(disk.crashed() || done.is_ok(), "{flush}, {crash:?} call {nth}: {done:?}");
        let survivors = [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth)][nth as usize / 3 % 3];
        let survivors = if is_always { survivors } else { Survivors::Everything };
        let context = format!("{flush}, {crash:?} call {nth}, {survivors:?}");
        model.clone().check(&disk.reboot(survivors), &context);
        let found = disk.reboot(survivors);
        let (again, crash_again) = (1 + nth % 23, CRASHES[nth as usize / 23 % 3]);
        let context = format!("{context}, {crash_again:?} call {again}");
        found.fault(Call::Any, again, crash_again);
        drop(model.recover_and_poll(&found));
        second_crashes += u64::from(found.crashed());
        model.check(&found.reboot(survivors), &context);
    }
    assert!(second_crashes * 4 > calls, "most recoveries are interrupted: {second_crashes} of {calls}");
}

/// The disk fails, or is full, for one call, and the script goes on; then power fails, soon after or at the end.
fn fault_everywhere(flush: Flush, fault: Fault) {
    let base = prepared();
    let disk = base.reboot(Survivors::Everything);
    Model::new(flush, true).script(&disk).unwrap();
    for nth in 1..=disk.calls() {
        let survivors = [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth)][nth as usize % 3];
        let survivors = if flush == Flush::Always { survivors } else { Survivors::Everything };
        for crash in [None, Some((nth + 1 + nth % 13, CRASHES[nth as usize / 3 % 3]))] {
            let (disk, mut model) = (base.reboot(Survivors::Everything), Model::new(flush, true));
            disk.fault(Call::Any, nth, fault);
            crash.iter().for_each(|&(later, crash)| disk.fault(Call::Any, later, crash));
            model.script(&disk).unwrap();
            let context = format!("{flush}, {fault:?} call {nth}, then {crash:?}, {survivors:?}");
            model.check(&disk.reboot(survivors), &context);
        }
    }
}

#[test]
fn what_is_done_stays_so_and_nothing_else_does_after_any_crash() {
    crash_everywhere(Flush::Always);
}

#[test]
fn what_is_done_stays_so_and_nothing_else_does_when_the_process_dies_in_any_mode() {
    crash_everywhere(Flush::Every(Duration::from_secs(3600)));
}

#[test]
fn what_is_done_stays_so_and_nothing_else_does_whatever_call_of_the_disk_fails() {
    fault_everywhere(Flush::Always, Fault::Error);
    fault_everywhere(Flush::Never, Fault::Error);
}

#[test]
fn what_is_done_stays_so_and_nothing_else_does_wherever_the_disk_is_full() {
    fault_everywhere(Flush::Always, Fault::Full);
    fault_everywhere(Flush::Never, Fault::Full);
}
