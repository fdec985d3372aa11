//! A share group under random events, beside a plain model of who is a member until when.

use super::*;
use crate::broker::group::SavedGroup;
use proptest::prelude::*;

const TOPICS: [&str; 3] = ["a", "b", "c"];
const IDS: [&str; 6] = ["m0", "m1", "m2", "m3", "m4", "m5"];
const SESSION_MS: u64 = 100;

type Place = (Arc<str>, u32);

#[derive(Clone, Debug)]
enum Event {
    /// A member of Kafka's joins, or joins again, with topics as bits.
    Join(usize, u8),
    /// A heartbeat in the epoch that the member was told.
    Beat(usize),
    Resubscribe(usize, u8),
    Leave(usize),
    /// A member of text.
    Sit(u8),
    Rise(usize),
    Wait(u64),
    /// A topic has so many partitions.
    Count(usize, Option<u32>),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let (member, mask) = (0..IDS.len(), 1..8u8);
    prop_oneof![
        4 => (member.clone(), mask.clone()).prop_map(|(index, topics)| Event::Join(index, topics)),
        8 => member.clone().prop_map(Event::Beat),
        2 => (member.clone(), 0..8u8).prop_map(|(index, topics)| Event::Resubscribe(index, topics)),
        2 => member.clone().prop_map(Event::Leave),
        1 => mask.prop_map(Event::Sit),
        1 => member.prop_map(Event::Rise),
        3 => (0..60u64).prop_map(Event::Wait),
        2 => (0..3usize, proptest::option::of(1..4u32)).prop_map(|(topic, count)| Event::Count(topic, count)),
        1 => Just(Event::Restart),
    ]
}

#[derive(Debug)]
struct Modelled {
    topics: BTreeSet<&'static str>,
    deadline: u64,
    /// What it was told last.
    epoch: i32,
    reads: BTreeSet<Place>,
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    group: Group,
    members: BTreeMap<&'static str, Modelled>,
    seats: BTreeMap<MemberNumber, BTreeSet<&'static str>>,
    counts: BTreeMap<&'static str, u32>,
    /// What was in the log when the members were last told something.
    line: Option<Vec<u8>>,
    /// What a member was told to read in each epoch.
    told: BTreeMap<(&'static str, i32), BTreeSet<Place>>,
}

fn names(mask: u8) -> BTreeSet<&'static str> {
    TOPICS.into_iter().zip(0..).filter(|(_, bit)| mask >> bit & 1 == 1).map(|(name, _)| name).collect()
}

impl Model {
    fn carry_out(&mut self, event: Event) {
        let generation = self.group.generation();
        match event {
            Event::Join(index, mask) => {
                let member = Modelled { topics: names(mask), deadline: 0, epoch: 0, reads: BTreeSet::new() };
                let known = self.members.get(IDS[index]);
                let begins = known.is_none_or(|known| known.topics != member.topics);
                self.members.insert(IDS[index], member);
                // Nothing that was told before holds for who joins anew.
                self.told.retain(|(id, _), _| *id != IDS[index]);
                self.beat(index, true);
                assert!(!begins || self.group.generation() > generation, "who joins begins an epoch");
            }
            Event::Beat(index) => self.beat(index, false),
            Event::Resubscribe(index, mask) => {
                if let Some(member) = self.members.get_mut(IDS[index]) {
                    member.topics = names(mask);
                    self.beat(index, true);
                }
            }
            Event::Leave(index) => {
                let left = self.group.share_heartbeat(self.now, self.request(index, -1, false), || unreachable!());
                let was = self.members.remove(IDS[index]).is_some();
                assert_eq!(left.is_ok(), was);
                self.told.retain(|(id, _), _| *id != IDS[index]);
            }
            Event::Sit(mask) => {
                let known = names(mask).into_iter().filter(|topic| self.counts.contains_key(topic));
                let topics: BTreeSet<_> = known.collect();
                let counted = topics.iter().map(|&topic| (topic.into(), self.counts[topic])).collect();
                let subscription = Subscription { topics: counted, client: "nc".into(), secret: 1 };
                let number = self.group.join_share(self.now, subscription).unwrap();
                assert!(self.seats.insert(number, topics).is_none(), "numbers are given once");
            }
            Event::Rise(index) => {
                let Some(&number) = self.seats.keys().nth(index) else { return };
                self.seats.remove(&number);
                self.group.leave_share(self.now, number).unwrap();
            }
            Event::Wait(time) => {
                self.now += time;
                self.group.tick(self.now);
                self.members.retain(|_, member| member.deadline > self.now);
                let members = &self.members;
                self.told.retain(|(id, _), _| members.contains_key(id));
            }
            Event::Count(index, count) => {
                // Partitions only become more, unless the topic goes.
                let before = self.counts.remove(TOPICS[index]).unwrap_or(0);
                self.counts.extend(count.map(|count| (TOPICS[index], count.max(before))));
                self.group.topic_changed(self.now, TOPICS[index], self.counts.get(TOPICS[index]).copied());
            }
            Event::Restart => self.restart(),
        }
        self.save();
        assert!(self.group.generation() >= generation);
        let due = self.members.values().map(|member| member.deadline).min();
        assert_eq!(self.group.next_deadline(), due);
        assert_eq!(self.group.member_count(), self.members.len() + self.seats.len());
        self.seats_read_everything();
    }

    fn save(&mut self) {
        if let Some(saved) = self.group.take_unsaved().and_then(|unsaved| unsaved.group) {
            self.line = Some(saved.to_line());
        }
    }

    fn restart(&mut self) {
        let Some(line) = &self.line else { return };
        self.group = Group::restore(self.now, 0, SavedGroup::parse(line).expect("what is written can be read"));
        for topic in TOPICS {
            self.group.topic_changed(self.now, topic, self.counts.get(topic).copied());
        }
        self.seats.clear();
        self.members.values_mut().for_each(|member| member.deadline = self.now + SESSION_MS);
    }

    fn request(&self, index: usize, epoch: i32, subscribes: bool) -> HeartbeatRequest<'static> {
        let topics = self.members.get(IDS[index]).map(|member| member.topics.iter().copied().collect());
        HeartbeatRequest {
            member_id: IDS[index],
            epoch,
            rack_id: None,
            client_id: "c",
            client_host: "h",
            session_timeout_ms: SESSION_MS,
            names: topics.filter(|_| subscribes),
        }
    }

    fn beat(&mut self, index: usize, subscribes: bool) {
        let epoch = self.members.get(IDS[index]).map_or(1, |member| member.epoch);
        let counts = || self.counts.iter().map(|(&topic, &count)| (topic.into(), count)).collect();
        let beat = self.group.share_heartbeat(self.now, self.request(index, epoch, subscribes), counts);
        let Some(member) = self.members.get_mut(IDS[index]) else {
            assert!(beat.is_err());
            return;
        };
        let beat = beat.unwrap();
        assert!(beat.epoch >= member.epoch, "epochs never fall");
        (member.epoch, member.deadline) = (beat.epoch, self.now + SESSION_MS);
        if let Some(assigned) = beat.assigned {
            member.reads = assigned.into_iter().collect();
        }
        let told = self.told.entry((IDS[index], beat.epoch)).or_insert_with(|| member.reads.clone());
        assert_eq!(*told, member.reads, "an epoch means one assignment");
    }

    fn seats_read_everything(&self) {
        for described in self.group.describe().members {
            let Some((number, _)) = described.member_id.split_once('-') else { continue };
            let topics = &self.seats[&number.parse().unwrap()];
            let all: u32 = topics.iter().filter_map(|topic| self.counts.get(topic)).sum();
            assert_eq!(described.owned.len(), all as usize);
        }
    }

    /// Once every member was heard twice, it knows what it is to read, and every partition is read.
    fn all_is_read(&mut self) {
        for index in (0..IDS.len()).chain(0..IDS.len()) {
            self.beat(index, false);
        }
        let mut read_by: BTreeMap<Place, usize> = BTreeMap::new();
        for member in self.members.values() {
            assert_eq!(member.epoch, self.group.generation());
            assert!(member.reads.iter().all(|(topic, _)| member.topics.contains(&**topic)));
            member.reads.iter().for_each(|place| *read_by.entry(place.clone()).or_default() += 1);
        }
        for (&topic, &count) in &self.counts {
            let is_read = self.members.values().any(|member| member.topics.contains(topic));
            let read = read_by.keys().filter(|(of, partition)| **of == *topic && *partition < count).count();
            assert_eq!(read, if is_read { count as usize } else { 0 }, "{topic}");
        }
        let subscriptions: BTreeSet<_> = self.members.values().map(|member| &member.topics).collect();
        if subscriptions.len() == 1 && !read_by.is_empty() {
            let loads = || self.members.values().map(|member| member.reads.len());
            assert!(loads().max() <= loads().min().map(|least| least + 1));
            assert!(read_by.values().max() <= read_by.values().min().map(|least| least + 1).as_ref());
        }
    }
}

proptest! {
    #[test]
    fn every_partition_is_read_and_no_epoch_is_used_twice(events in proptest::collection::vec(event(), 1..80)) {
        let mut model = Model::default();
        model.group.make_share(0).unwrap();
        model.save();
        for event in events {
            model.carry_out(event);
        }
        model.all_is_read();
    }
}
