//! A membership in a share group, as a connection (in the library, a thread) holds it: records are acquired from all partitions of its
//! topics by turns, and are its own until it says what became of them.

use super::{ShareConsumer, ShareTerms, ShareWrite};
use crate::{
    broker::{
        Broker, BrokerState, Error, Isolation, PartitionHandle, Permit, PollLimits, PollWait, PolledRecord, Position,
        ReadSession, Registered, Resource, ResourceKind, Result, ShareSeat,
        share_partition::{Acknowledged, Acquired, Wanted},
        writable,
    },
    config::{Change, Changes, DEAD_LETTERS, Described, GroupSettings, Setting},
    security::Operation,
};
use std::{collections::BTreeSet, sync::Arc, time::Instant};

/// The settings of a group that its first member may make, in the order of [`ShareOptions`].
const SETTINGS: [&str; 5] = [
    "share.auto.offset.reset",
    "share.record.lock.duration.ms",
    "share.delivery.count.limit",
    "share.isolation.level",
    DEAD_LETTERS,
];

/// What a member joins a share group with. It becomes the group's if the group is new, and is to be the same if it is not.
#[derive(Clone, Debug, Default)]
pub struct ShareOptions {
    /// Where the group begins; with the first record, unless it says otherwise.
    pub from: Option<Position>,
    /// How long a record is its member's, in ms.
    pub lock_ms: Option<u64>,
    /// How often a record is handed out at most.
    pub deliveries: Option<u64>,
    /// Which records are handed out: committed ones, unless it says otherwise.
    pub isolation: Option<Isolation>,
    /// The topic of records that nobody could process; empty: there is none.
    pub dead_letters: Option<String>,
}

/// A record that a member has acquired.
#[derive(Debug)]
pub struct SharedRecord<'a> {
    /// The record.
    pub record: PolledRecord<'a>,
    /// How often it was handed out, this time included.
    pub deliveries: u32,
}

/// A membership. Dropping it leaves the group, and releases what it holds.
#[derive(Debug)]
pub struct ShareMembership {
    broker: Broker,
    // Released before the seat is left.
    consumer: ShareConsumer,
    seat: ShareSeat,
    read: ReadSession,
    /// The partition that the next poll begins with.
    turn: usize,
}

/// What a member makes of the settings of its group: its own, or, where it alters what somebody has set, the group's.
struct Made {
    resource: Resource,
    changes: Changes,
}

impl ShareOptions {
    /// An error if a share group cannot begin there.
    pub fn check_from(&self) -> Result<()> {
        match self.from {
            None | Some(Position::Earliest | Position::Latest) => Ok(()),
            Some(_) => Err(Error::InvalidConfig("a share group begins at 'earliest' or 'latest'".into())),
        }
    }

    /// The settings that it names.
    fn settings(&self) -> Result<Vec<(&'static str, String)>> {
        self.check_from()?;
        let from = self.from.map(|from| if from == Position::Latest { "latest" } else { "earliest" }.to_owned());
        let all = [
            from,
            self.lock_ms.map(|ms| ms.to_string()),
            self.deliveries.map(|count| count.to_string()),
            self.isolation.map(|isolation| isolation.name().to_owned()),
            self.dead_letters.clone(),
        ];
        Ok(SETTINGS.into_iter().zip(all).filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

impl Broker {
    /// Whether a member could [`join`](Self::join_queue) with this, as things stand.
    pub fn may_join_queue(&self, group: &str, topics: &[&str], options: &ShareOptions) -> Result<()> {
        topics.iter().try_for_each(|topic| self.topic_for(Operation::Read, topic).map(drop))?;
        self.has_room_to_share(group)?;
        self.agree_on(group, topics, options).map(drop)
    }

    /// Joins a share group, which is made if need be. Who gets no seat in it changes none of its settings.
    pub fn join_queue(&self, group: &str, topics: &[&str], options: &ShareOptions) -> Result<ShareMembership> {
        topics.iter().try_for_each(|topic| self.topic_for(Operation::Read, topic).map(drop))?;
        let permit = self.ask_group(Operation::Read, group)?;
        let state = self.state(&permit);
        state.internal_log_or_new(super::state_log::TOPIC)?;
        let seat = {
            // Whoever comes first makes the settings; the next one finds them.
            let _one = state.shares.joining.lock().expect("no panic while a share group is joined");
            let made = self.agree_on(group, topics, options)?;
            self.join_with(group, topics, &made)?
        };
        let consumer = self.share_consumer(group, seat.id())?;
        let (broker, read) = (self.clone(), self.read_session());
        let mut member = ShareMembership { broker, consumer, seat, read, turn: 0 };
        // What `latest` means is decided now, not at the first poll.
        let terms = member.consumer.terms();
        let partitions = member.partitions();
        member.consumer.open_all(&terms, &partitions)?;
        Ok(member)
    }

    /// What a member makes of the settings of its group: those of one that is new become these, those of another are to be the same. All of
    /// it is checked, and nothing is changed.
    fn agree_on(&self, group: &str, topics: &[&str], options: &ShareOptions) -> Result<Made> {
        let mut wanted = options.settings()?;
        let permit = self.ask_group(Operation::Read, group)?;
        let resource = Resource { kind: ResourceKind::Group, name: group.into() };
        let (theirs, configs) = (Resource::joined(group), &self.env(&permit).configs);
        let own = configs.of(&resource);
        let is_new = self.group(group)?.is_none() && !self.state(&permit).has_shares(group)?;
        let settings = match is_new {
            // What may be left of another group of the name is none of this one's.
            true => GroupSettings::default().with(&own).expect("they were checked when they were set or read"),
            false => self.group_settings(group),
        };
        let dead_letters = options.dead_letters.as_deref().unwrap_or(&settings.dead_letter_topic.0);
        if topics.contains(&dead_letters) {
            return Err(Error::InvalidConfig(format!(
                "dead letters go to '{dead_letters}', which the member would read"
            )));
        }
        if let Some(topic) = options.dead_letters.as_ref().filter(|topic| !topic.is_empty()) {
            writable(topic)?;
            if !self.ask_dead_letters(topic)? && !self.config().auto_create {
                return Err(Error::InvalidConfig(format!("there is no topic '{topic}' for dead letters")));
            }
        }
        let value_in = |settings: &GroupSettings, name: &str| {
            Setting::<GroupSettings>::named(name).expect("the names are the table's").value(settings)
        };
        if !is_new {
            let differs = |(name, value): &(&'static str, String)| {
                Some((*name, value_in(&settings, name))).filter(|(_, set)| set != value)
            };
            return match wanted.iter().find_map(differs) {
                None => Ok(Made { resource, changes: Changes::default() }),
                Some((name, value)) => {
                    let is_hidden = name == DEAD_LETTERS && !value.is_empty() && !self.may_describe(&value);
                    let value = if is_hidden { "another".into() } else { format!("'{value}'") };
                    let why = format!("{name} of this group is {value}; leave it out, or use another group");
                    Err(Error::InvalidConfig(why))
                }
            };
        }
        // Whoever makes the group makes its settings, but for those that somebody has set for it.
        let alters = wanted.iter().any(|(name, value)| own.get(*name).is_some_and(|set| set != value));
        if alters {
            self.ask_group(Operation::AlterConfigs, group)?;
        }
        for (name, default) in [("share.auto.offset.reset", "earliest"), ("share.isolation.level", "read_committed")] {
            if !own.contains_key(name) && !wanted.iter().any(|(wanted, _)| *wanted == name) {
                wanted.push((name, default.into()));
            }
        }
        let defaults = GroupSettings::default();
        wanted.retain(|(name, value)| own.get(*name).map_or(value_in(&defaults, name) != *value, |set| set != value));
        let named = wanted.into_iter().map(|(name, value)| (name.to_owned(), Change::Set(value))).collect();
        let reset_others = !alters && !configs.of(&theirs).is_empty();
        let made = Made { resource: if alters { resource } else { theirs }, changes: Changes { named, reset_others } };
        self.change_settings(&made, true)?;
        Ok(made)
    }

    /// Takes a seat in a group whose settings are made so; they are taken back if there is none to be had.
    fn join_with(&self, group: &str, topics: &[&str], made: &Made) -> Result<ShareSeat> {
        let before = self.env(&self.ask_group(Operation::Read, group)?).configs.of(&made.resource);
        self.change_settings(made, false)?;
        let seat = self.join_share(group, topics).inspect_err(|_| {
            let named = before.into_iter().map(|(name, value)| (name, Change::Set(value))).collect();
            let back = Made { resource: made.resource.clone(), changes: Changes { named, reset_others: true } };
            let taken_back = if made.changes.any() { self.change_settings(&back, false) } else { Ok(()) };
            if let Err(error) = taken_back {
                self.state(&Permit::for_everybody())
                    .env
                    .tell(&format!("settings stay of a group that nobody could join: {error}"));
            }
        })?;
        if made.changes.any() {
            self.note_settings(&made.resource, &made.changes);
        }
        Ok(seat)
    }

    /// Changes the settings of a group for who makes it. Where there is nothing to change nothing is written.
    fn change_settings(&self, Made { resource, changes }: &Made, dry: bool) -> Result<()> {
        if !changes.any() {
            return Ok(());
        }
        self.state(&self.ask_group(Operation::Read, &resource.name)?).alter_configs(resource, changes, &|_| false, dry)
    }
}

impl BrokerState {
    /// A group was deleted: what its first member made of its settings goes with it, unless another has its name by now.
    pub(in crate::broker) fn forget_joined(&self, group: &str) {
        let _one = self.shares.joining.lock().expect("no panic while a share group is joined");
        let resource = Resource::joined(group);
        if self.env.configs.of(&resource).is_empty() || self.has_group(group) != Ok(false) {
            return;
        }
        let all = Changes { reset_others: true, ..Changes::default() };
        if let Err(error) = self.alter_configs(&resource, &all, &|_| false, false) {
            self.env.tell(&format!("settings stay of a group that was deleted: {error}"));
        }
    }
}

impl ShareMembership {
    /// The group's name.
    pub fn group(&self) -> &str {
        self.seat.group()
    }

    /// The member's id.
    pub fn id(&self) -> &str {
        self.seat.id()
    }

    /// The group's generation.
    pub fn generation(&self) -> i32 {
        self.seat.generation()
    }

    /// The partitions that it reads: all of its topics that are there.
    pub fn assigned(&self) -> Vec<(Arc<str>, u32)> {
        self.seat.assigned()
    }

    fn partitions(&self) -> Vec<PartitionHandle> {
        let topics: BTreeSet<Arc<str>> = self.assigned().into_iter().map(|(topic, _)| topic).collect();
        let found = topics.into_iter().filter_map(|topic| self.broker.find_topic(&topic).ok());
        found.flat_map(|topic| topic.partitions()).collect()
    }

    /// Acquires records and hands them to `each`, after waiting for the first. Answers how many there were. All are of one partition,
    /// whose turn it is; the next poll begins with another.
    pub fn poll(
        &mut self,
        limits: PollLimits,
        mut wait: PollWait<'_>,
        each: &mut dyn FnMut(&SharedRecord<'_>),
    ) -> Result<usize> {
        let wanted = Wanted { records: limits.records as u64, exactly: true, batch: 1 };
        loop {
            let partitions = self.partitions();
            let (count, terms) = (partitions.len(), self.consumer.terms());
            for index in (0..count).map(|step| (self.turn + step) % count) {
                let of = &partitions[index];
                let acquired = match self.consumer.acquire(&terms, of, wanted, limits.bytes, &mut self.read) {
                    // The group tells of the drop.
                    Err(Error::UnknownTopic(_)) => continue,
                    Err(error) => {
                        self.turn = (index + 1) % count;
                        return Err(error);
                    }
                    Ok(acquired) => acquired,
                };
                if !acquired.is_empty() {
                    self.turn = (index + 1) % count;
                    return Ok(hand_out(of, &self.read, &acquired, each));
                }
            }
            self.read.free();
            if wait.deadline.is_some_and(|deadline| deadline <= Instant::now())
                || !self.wait(&terms, &partitions, &mut wait)?
            {
                return Ok(0);
            }
        }
    }

    /// Waits until there may be something; answers whether there may.
    fn wait(&self, terms: &ShareTerms, partitions: &[PartitionHandle], wait: &mut PollWait<'_>) -> Result<bool> {
        let _grows = self.broker.register(wait.waiter);
        let _appended: Vec<_> = partitions.iter().map(|of| of.register(wait.waiter)).collect();
        let _released: Vec<Registered<'_>> = self.consumer.register(wait.waiter);
        if partitions.iter().any(|of| self.consumer.has_more(terms, of)) || self.partitions().len() != partitions.len()
        {
            return Ok(true);
        }
        let due = self.consumer.next_deadline();
        let woken = (wait.wait)(due.into_iter().chain(wait.deadline).min());
        Ok(woken || due.is_some_and(|due| due <= Instant::now()))
    }

    /// Says what becomes of records that it holds: all of it is taken, durably, or nothing.
    pub fn acknowledge(&mut self, of: &PartitionHandle, batches: &[Acknowledged]) -> Result<()> {
        let written = self.write_acknowledgement(of, batches)?;
        written.map_or(Ok(()), |written| written.make_durable())
    }

    /// As [`acknowledge`](Self::acknowledge), but the caller makes durable what it answers.
    pub fn write_acknowledgement(
        &mut self,
        of: &PartitionHandle,
        batches: &[Acknowledged],
    ) -> Result<Option<ShareWrite>> {
        self.consumer.acknowledge_held(of, batches)
    }

    /// Leaves the group; what it holds is released.
    pub fn leave(&mut self) -> Result<()> {
        self.consumer.release();
        self.seat.leave()
    }
}

fn hand_out(
    of: &PartitionHandle,
    read: &ReadSession,
    acquired: &[Acquired],
    each: &mut dyn FnMut(&SharedRecord<'_>),
) -> usize {
    let (Some(first), Some(last)) = (acquired.first(), acquired.last()) else { return 0 };
    let (mut ranges, mut count) = (acquired.iter().peekable(), 0);
    for line in read.batches().records_from(first.first).flatten().take_while(|line| line.offset <= last.last) {
        while ranges.next_if(|range| range.last < line.offset).is_some() {}
        let Some(range) = ranges.peek().filter(|range| range.first <= line.offset) else { continue };
        let (topic, partition) = (of.topic(), of.index());
        let record =
            PolledRecord { topic, partition, offset: line.offset, timestamp: line.timestamp, fields: line.fields };
        each(&SharedRecord { record, deliveries: range.deliveries });
        count += 1;
    }
    count
}
