//! A consumer group under random events, beside a plain model of who is a member until when.

use super::{Assignment, Group, MemberNumber, Members, SharedPartition, Subscription};
use crate::broker::Error;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

const TOPICS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Event {
    /// Topics as bits, and a session.
    Join(u8, u64),
    Leave(usize),
    /// A poll that is answered at once.
    Poll(usize),
    /// A poll that goes on until another event ends it.
    StartPoll(usize),
    EndPoll(usize),
    /// A commit of what the member was told it holds.
    Commit(usize),
    /// A transaction begins on the member's connection, with so much time.
    Hold(usize, u64),
    Release(usize),
    Wait(u64),
    /// A topic gets so many partitions more.
    Grow(usize, u32),
    Drop(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let member = 0..8usize;
    prop_oneof![
        3 => (1..8u8, 100..1000u64).prop_map(|(topics, session)| Event::Join(topics, session)),
        1 => member.clone().prop_map(Event::Leave),
        6 => member.clone().prop_map(Event::Poll),
        3 => member.clone().prop_map(Event::StartPoll),
        3 => member.clone().prop_map(Event::EndPoll),
        3 => member.clone().prop_map(Event::Commit),
        2 => (member.clone(), 0..500u64).prop_map(|(index, time)| Event::Hold(index, time)),
        2 => member.prop_map(Event::Release),
        4 => (0..300u64).prop_map(Event::Wait),
        1 => (0..3usize, 1..4u32).prop_map(|(topic, more)| Event::Grow(topic, more)),
        1 => (0..3usize).prop_map(Event::Drop),
    ]
}

/// What the model knows of a member.
#[derive(Debug)]
struct Modelled {
    topics: BTreeSet<&'static str>,
    session_ms: u64,
    /// `None` while it polls or is held.
    deadline: Option<u64>,
    polls: bool,
    held_until: Option<u64>,
    /// What it was told last.
    told: Assignment,
    /// Topics that were dropped under it and that it was not told of.
    dropped: bool,
}

impl Modelled {
    fn heard(&mut self, now: u64) {
        self.deadline = (!self.polls && self.held_until.is_none()).then_some(now + self.session_ms);
    }
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    group: Group,
    members: BTreeMap<MemberNumber, Modelled>,
    counts: BTreeMap<&'static str, u32>,
    /// Whom the records of a partition could be handed to, in each generation.
    handed: HashMap<(Arc<str>, u32, i32), MemberNumber>,
}

impl Model {
    fn carry_out(&mut self, event: Event) {
        let (generation, owned_before) = (self.group.generation(), self.current());
        let before: Vec<_> = self.members.keys().copied().collect();
        let pick = |index: usize| (!before.is_empty()).then(|| before[index % before.len().max(1)]);
        let mut changed = false;
        match event {
            Event::Join(mask, session_ms) => changed = self.join(mask, session_ms),
            Event::Wait(time) => {
                self.now += time;
                changed = self.expire();
                self.group.tick(self.now);
            }
            Event::Leave(index) => changed = pick(index).is_some_and(|number| self.leave(number)),
            Event::Poll(index) => pick(index).into_iter().for_each(|number| {
                self.start_poll(number);
                self.end_poll(number);
            }),
            Event::StartPoll(index) => pick(index).into_iter().for_each(|number| self.start_poll(number)),
            Event::EndPoll(index) => pick(index).into_iter().for_each(|number| self.end_poll(number)),
            Event::Commit(index) => pick(index).into_iter().for_each(|number| self.commit(number)),
            Event::Hold(index, time) => pick(index).into_iter().for_each(|number| self.hold(number, time)),
            Event::Release(index) => pick(index).into_iter().for_each(|number| self.release(number)),
            Event::Grow(index, more) => changed = self.grow(TOPICS[index], more),
            Event::Drop(index) => changed = self.drop(TOPICS[index]),
        }
        assert_eq!(self.group.generation() > generation, changed, "a generation is a rebalance");
        assert_eq!(self.members.keys().copied().collect::<Vec<_>>(), self.numbers(), "sessions end exactly");
        let due = self.members.values().filter_map(|member| member.deadline.or(member.held_until)).min();
        assert_eq!(self.group.next_deadline(), due);
        if changed {
            self.moves_no_more_than_it_must(&owned_before);
        }
        self.owners_are_subscribers();
        self.group.take_answers();
    }

    fn join(&mut self, mask: u8, session_ms: u64) -> bool {
        let topics: BTreeSet<_> =
            TOPICS.into_iter().zip(0..).filter(|(_, n)| mask >> n & 1 == 1).map(|(t, _)| t).collect();
        for topic in &topics {
            self.counts.entry(topic).or_insert(2);
        }
        let counted = topics.iter().map(|topic| (Arc::from(*topic), self.counts[topic])).collect();
        let subscription = Subscription {
            topics: counted,
            client: "c".into(),
            session_timeout_ms: session_ms,
            assignor: None,
            secret: 0,
        };
        let (number, told) = self.group.join(self.now, subscription).unwrap();
        self.hand(number, &told);
        let deadline = Some(self.now + session_ms);
        let (polls, held_until, dropped) = (false, None, false);
        self.members.insert(number, Modelled { topics, session_ms, deadline, polls, held_until, told, dropped });
        true
    }

    fn leave(&mut self, number: MemberNumber) -> bool {
        self.members.remove(&number);
        self.group.leave(self.now, number).unwrap();
        assert_eq!(self.group.leave(self.now, number), Err(Error::UnknownMemberId));
        true
    }

    fn expire(&mut self) -> bool {
        let before = self.members.len();
        for member in self.members.values_mut() {
            if let Some(until) = member.held_until.take_if(|until| *until <= self.now) {
                member.heard(until);
            }
        }
        self.members.retain(|_, member| member.deadline.is_none_or(|deadline| deadline > self.now));
        self.members.len() < before
    }

    fn start_poll(&mut self, number: MemberNumber) {
        let member = self.members.get_mut(&number).unwrap();
        match self.group.begin_poll(self.now, number) {
            Ok(_) => (member.polls, member.deadline) = (true, None),
            Err(error) => {
                assert!(member.dropped && matches!(error, Error::UnknownTopic(_)));
                member.dropped = false;
            }
        }
    }

    fn end_poll(&mut self, number: MemberNumber) {
        let member = self.members.get_mut(&number).unwrap();
        if !std::mem::take(&mut member.polls) {
            return;
        }
        member.heard(self.now);
        match self.group.end_poll(self.now, number) {
            Ok(told) => {
                self.hand(number, &told);
                self.members.get_mut(&number).unwrap().told = told;
            }
            Err(error) => {
                assert!(member.dropped && matches!(error, Error::UnknownTopic(_)));
                member.dropped = false;
            }
        }
    }

    fn commit(&mut self, number: MemberNumber) {
        if self.members[&number].polls {
            return;
        }
        let told = self.members[&number].told.clone();
        let partitions = told.owned.iter().map(|owned| (&*owned.topic, owned.partition));
        let holds = |(topic, partition)| {
            self.partitions().any(|(t, p, shared)| (t, p, shared.owner) == (topic, partition, Some(number)))
        };
        let holds_all = partitions.clone().all(holds);
        assert_eq!(self.group.begin_commit(self.now, number, partitions.clone()).is_ok(), holds_all);
        if holds_all {
            self.group.end_commit(self.now, number).unwrap();
            let member = self.members.get_mut(&number).unwrap();
            member.heard(self.now);
            let is_held = member.held_until.is_some();
            assert!(is_held || !self.has_to_let_go(number), "what is to move goes with the commit");
        }
    }

    fn hold(&mut self, number: MemberNumber, time: u64) {
        let member = self.members.get_mut(&number).unwrap();
        if member.polls {
            return;
        }
        // What is over at once is over when somebody next looks.
        let until = self.now + time + 1;
        (member.held_until, member.deadline) = (Some(until), None);
        self.group.hold(self.now, number, until).unwrap();
    }

    fn release(&mut self, number: MemberNumber) {
        let member = self.members.get_mut(&number).unwrap();
        if member.polls {
            return;
        }
        member.held_until = None;
        member.heard(self.now);
        self.group.release(self.now, number).unwrap();
        assert!(!self.has_to_let_go(number), "what is to move goes with the end");
    }

    fn has_to_let_go(&self, number: MemberNumber) -> bool {
        let to_move = |shared: &SharedPartition| shared.owner == Some(number) && shared.target != shared.owner;
        self.partitions().any(|(_, _, shared)| to_move(shared))
    }

    fn grow(&mut self, topic: &'static str, more: u32) -> bool {
        let subscribed = self.members.values().any(|member| member.topics.contains(topic));
        let partitions = self.counts.entry(topic).or_insert(0);
        *partitions += more;
        self.group.topic_changed(self.now, topic, Some(*partitions));
        subscribed
    }

    fn drop(&mut self, topic: &'static str) -> bool {
        let was = self.counts.remove(topic).unwrap_or(0);
        self.group.topic_changed(self.now, topic, None);
        let mut subscribers = self.members.values_mut().filter(|member| member.topics.contains(topic));
        let mut subscribed = false;
        if was > 0 {
            subscribers.by_ref().for_each(|member| (member.dropped, subscribed) = (true, true));
        }
        subscribed
    }

    /// Records of these partitions may be handed out in this generation: to nobody else.
    fn hand(&mut self, number: MemberNumber, told: &Assignment) {
        for owned in &told.owned {
            let to = *self.handed.entry((owned.topic.clone(), owned.partition, told.generation)).or_insert(number);
            assert_eq!(to, number, "{owned:?} has two owners in generation {}", told.generation);
        }
    }

    fn numbers(&self) -> Vec<MemberNumber> {
        match &self.group.members {
            Members::Consumer(group) => group.members.keys().copied().collect(),
            _ => vec![],
        }
    }

    fn partitions(&self) -> impl Iterator<Item = (&str, u32, &SharedPartition)> {
        let group = match &self.group.members {
            Members::Consumer(group) => Some(group),
            _ => None,
        };
        let topics = group.into_iter().flat_map(|group| &group.topics);
        topics.flat_map(|(topic, all)| all.iter().zip(0..).map(|(shared, partition)| (&**topic, partition, shared)))
    }

    fn current(&self) -> BTreeMap<(String, u32), MemberNumber> {
        let has = |(topic, partition, shared): (&str, u32, &SharedPartition)| {
            Some(((topic.to_owned(), partition), shared.owner.or(shared.target)?))
        };
        self.partitions().filter_map(has).collect()
    }

    /// For a group with one subscription of one topic: no fewer moves would have done.
    fn moves_no_more_than_it_must(&self, before: &BTreeMap<(String, u32), MemberNumber>) {
        let subscriptions: BTreeSet<_> = self.members.values().map(|member| &member.topics).collect();
        if subscriptions.len() != 1 || subscriptions.first().unwrap().len() != 1 {
            return;
        }
        let mut has: BTreeMap<MemberNumber, usize> = self.members.keys().map(|&number| (number, 0)).collect();
        let (mut moved, mut partitions) = (0, 0);
        for (topic, partition, shared) in self.partitions() {
            partitions += 1;
            if let Some(number) = before.get(&(topic.to_owned(), partition)).filter(|number| has.contains_key(number)) {
                *has.get_mut(number).unwrap() += 1;
                moved += usize::from(shared.target != Some(*number));
            }
        }
        let mut has: Vec<_> = has.into_values().collect();
        has.sort_by(|a, b| b.cmp(a));
        let (even, extra) = (partitions / has.len(), partitions % has.len());
        let must = has.iter().zip(0..).map(|(has, n)| has.saturating_sub(even + usize::from(n < extra))).sum::<usize>();
        assert_eq!(moved, must);
    }

    fn owners_are_subscribers(&self) {
        for (topic, partition, shared) in self.partitions() {
            for number in shared.owner.iter().chain(&shared.target) {
                assert!(self.members[number].topics.contains(topic), "{topic}/{partition} {shared:?}");
            }
            let moves = |number: Option<MemberNumber>| {
                number
                    .map(|number| &self.members[&number])
                    .is_some_and(|member| member.polls && member.held_until.is_none())
            };
            assert!(shared.owner == shared.target || !moves(shared.owner), "who polls lets go: {shared:?}");
            assert!(shared.owner.is_some() || !moves(shared.target), "who polls takes: {shared:?}");
        }
    }

    /// Once every member has polled, every partition has the owner it is to have.
    fn one_round_of_polls_reconciles(&mut self) {
        let numbers: Vec<_> = self.members.keys().copied().collect();
        for &number in &numbers {
            self.end_poll(number);
            self.release(number);
        }
        for &number in &numbers {
            self.start_poll(number);
            self.start_poll(number);
        }
        for (topic, partitions) in &self.counts {
            let subscribed = self.members.values().any(|member| member.topics.contains(topic));
            let owned = self.partitions().filter(|(name, _, shared)| name == topic && shared.owner.is_some()).count();
            assert_eq!(owned, if subscribed { *partitions as usize } else { 0 }, "{topic}");
        }
        assert_eq!(self.group.state(), if numbers.is_empty() { "Empty" } else { "Stable" });
        numbers.into_iter().for_each(|number| self.end_poll(number));
    }
}

proptest! {
    #[test]
    fn partitions_have_one_owner_and_sessions_end_exactly(events in proptest::collection::vec(event(), 1..80)) {
        let mut model = Model::default();
        for event in events {
            model.carry_out(event);
        }
        model.one_round_of_polls_reconciles();
    }
}
