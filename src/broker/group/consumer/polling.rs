//! Members that poll: those of the text protocol and of the library. They end with their connection.
//!
//! | event | answer | effect |
//! | --- | --- | --- |
//! | `join` | the member's number and partitions | a rebalance; the new member takes at once what nobody owns |
//! | `begin_poll` | the partitions to read | lets go what is to move, takes what is free; the member *polls* until the end |
//! | `end_poll` | the partitions it still owns | its session starts anew |
//! | `begin_commit` | `NotAssigned` unless it owns them all | its session stands still |
//! | `end_commit` | | lets go what is to move; its session starts anew |
//! | `may_commit_later` | `IllegalGeneration` unless it is the one it was told last, `NotAssigned` unless it owns them all | its session starts anew |
//! | `hold` | | takes what is free, unless something is to move; until `release`, or the time given, it stays in its generation with what it owns, and its session stands still |
//! | `release` | | lets go what is to move, takes what is free; its session starts anew |
//! | `owns` | whether it owns a partition | none, not even on its session |
//! | `leave`, a session's end | | its partitions are free; a rebalance |
//! | `topic_changed` | | a rebalance; every subscriber of a dropped topic is told once, by its next poll |
//! | anything from one who is no member | `UnknownMemberId` | |
//!
//! A member commits in a transaction (`may_commit_later`) by its id and a generation, perhaps on another connection than the one
//! it polls on. The generation that it was told holds good until its next poll or commit: before that it lets nothing go, whoever
//! joins meanwhile. While a transaction is open on its own connection no rebalance reaches it.

use super::{Assignor, ConsumerGroup, ConsumerMember, MemberNumber, Owned, SharedPartition};
use crate::broker::{
    Error, Result,
    group::{Core, Group, SessionTimer, Ticket},
};
use std::sync::Arc;

/// The id of a member: its number, and what nobody can guess, since who knows the id can commit for the member.
pub fn member_id(number: MemberNumber, secret: u64) -> String {
    format!("{number}-{secret:016x}")
}

/// What a member joins with.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Each topic, once, and how many partitions it has.
    pub topics: Vec<(Arc<str>, u32)>,
    /// What its client calls itself.
    pub client: Arc<str>,
    /// A member that is silent for this long is removed.
    pub session_timeout_ms: u64,
    /// The assignor that it would have.
    pub assignor: Option<Assignor>,
    /// The part of its [id](member_id) that nobody can guess.
    pub secret: u64,
}

/// What a member is told about its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The group's generation.
    pub generation: i32,
    /// The partitions that the member owns, in order.
    pub owned: Vec<Owned>,
}

/// What a member is held by: no rebalance reaches it before the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// When it ends at the latest.
    pub(super) until: u64,
    /// The generation in which the member stays.
    generation: i32,
}

impl Group {
    /// A member joins. It gets those of its partitions that nobody owns.
    pub fn join(&mut self, now: u64, subscription: Subscription) -> Result<(MemberNumber, Assignment)> {
        let (core, group) = self.consumer_or_new(now)?;
        core.members_numbered += 1;
        let member = core.members_numbered;
        group.join(core, now, member, subscription);
        Ok((member, group.assignment(core, member)))
    }

    /// A member begins to poll. It lets go what is to move and takes what is free. Both also happen while it waits: the
    /// ticket is then answered, and the member is to poll again, with a new ticket.
    pub fn begin_poll(&mut self, now: u64, number: MemberNumber) -> Result<(Ticket, Assignment)> {
        let (core, group) = self.consumer(now)?;
        let member = group.member(number)?;
        member.check_dropped()?;
        member.session.pause();
        (member.polling, member.told) = (true, member.hold.map(|hold| hold.generation));
        group.reconcile(core);
        let ticket = core.ticket();
        group.member(number)?.ticket = Some(ticket);
        Ok((ticket, group.assignment(core, number)))
    }

    /// A poll ends: the member may be handed records of the partitions that it owns now.
    pub fn end_poll(&mut self, now: u64, number: MemberNumber) -> Result<Assignment> {
        let (core, group) = self.consumer(now)?;
        let member = group.member(number)?;
        (member.polling, member.ticket) = (false, None);
        member.heard(now);
        member.told = Some(member.generation(core));
        member.check_dropped()?;
        Ok(group.assignment(core, number))
    }

    /// A member is about to commit offsets of `partitions`. If it may, [`end_commit`](Self::end_commit) must follow.
    pub fn begin_commit<'a>(
        &mut self,
        now: u64,
        number: MemberNumber,
        mut partitions: impl Iterator<Item = (&'a str, u32)>,
    ) -> Result<()> {
        let (_, group) = self.consumer(now)?;
        group.member(number)?;
        if let Some((topic, partition)) = partitions.find(|(topic, partition)| !group.owns(number, topic, *partition)) {
            return Err(Error::NotAssigned { topic: topic.into(), partition });
        }
        group.member(number)?.session.pause();
        Ok(())
    }

    /// The offsets are in the log: what is to move may go.
    pub fn end_commit(&mut self, now: u64, number: MemberNumber) -> Result<()> {
        let (core, group) = self.consumer(now)?;
        let member = group.member(number)?;
        member.heard(now);
        member.told = member.told.map(|_| member.generation(core));
        if member.hold.is_none() {
            group.let_go(core, number);
        }
        Ok(())
    }

    /// A transaction has begun on a member's connection: until [`release`](Self::release), or until `until`, it stays in its
    /// generation and lets nothing go. That is the newest one, with all that is free for it, unless something is to move: then
    /// it is the one that it was told, since in the newest its partitions are another's.
    pub fn hold(&mut self, now: u64, number: MemberNumber, until: u64) -> Result<()> {
        let (core, group) = self.consumer(now)?;
        let member = group.member(number)?;
        let mut generation = member.hold.map(|hold| hold.generation).or(member.told).unwrap_or(core.generation);
        if !group.partitions().any(|shared| shared.moves_from(number)) {
            group.take(core, number);
            generation = core.generation;
        }
        let member = group.member(number)?;
        member.hold = Some(Hold { until, generation });
        member.session.pause();
        Ok(())
    }

    /// The transaction has ended: what is to move may go, and what is free for the member comes.
    pub fn release(&mut self, now: u64, number: MemberNumber) -> Result<()> {
        let (core, group) = self.consumer(now)?;
        let member = group.member(number)?;
        member.hold = None;
        member.heard(now);
        member.told = member.told.map(|_| core.generation);
        group.let_go(core, number);
        group.take(core, number);
        Ok(())
    }

    /// Whether a member owns a partition.
    pub fn owns(&mut self, now: u64, number: MemberNumber, topic: &str, partition: u32) -> Result<bool> {
        let (_, group) = self.consumer(now)?;
        group.member(number)?;
        Ok(group.owns(number, topic, partition))
    }

    /// A member leaves, or its connection was closed.
    pub fn leave(&mut self, now: u64, number: MemberNumber) -> Result<()> {
        let (core, group) = self.consumer(now)?;
        group.member(number)?;
        group.remove(core, now, &[number]);
        self.downgrade(now);
        Ok(())
    }
}

impl ConsumerMember {
    /// Restarts its session, unless it stands still.
    pub(super) fn heard(&mut self, now: u64) {
        if !self.polling && self.hold.is_none() {
            self.session.restart(now);
        }
    }

    /// Ends what holds it, if that is due at `now`; whether it is.
    pub(super) fn end_hold(&mut self, now: u64) -> bool {
        let Some(hold) = self.hold.filter(|hold| hold.until <= now) else { return false };
        self.hold = None;
        // What it took when it was held is of that generation.
        self.told = self.told.map(|_| hold.generation);
        self.heard(hold.until);
        true
    }

    /// Whether it gives and takes partitions at any time.
    pub(super) fn is_moving(&self) -> bool {
        self.polling && self.hold.is_none()
    }

    /// The generation that it is in.
    pub(super) fn generation(&self, core: &Core) -> i32 {
        self.hold.map_or(core.generation, |hold| hold.generation)
    }

    /// An error, once, if a topic of its subscription was dropped.
    pub(super) fn check_dropped(&mut self) -> Result<()> {
        self.dropped.take().map_or(Ok(()), |topic| Err(Error::UnknownTopic(topic.to_string())))
    }
}

impl ConsumerGroup {
    pub(super) fn assignment(&self, core: &Core, number: MemberNumber) -> Assignment {
        let generation = self.members.get(&number).map_or(core.generation, |member| member.generation(core));
        Assignment { generation, owned: self.owned(number) }
    }

    pub(super) fn join(&mut self, core: &mut Core, now: u64, number: MemberNumber, subscription: Subscription) {
        for (topic, partitions) in &subscription.topics {
            self.topics.entry(topic.clone()).or_default().resize(*partitions as usize, SharedPartition::default());
        }
        let topics = subscription.topics.into_iter().map(|(topic, _)| topic).collect();
        let session = SessionTimer::new(now, subscription.session_timeout_ms);
        let Subscription { client, assignor, secret, .. } = subscription;
        let member = ConsumerMember { polling: true, assignor, ..ConsumerMember::new(client, topics, session, secret) };
        self.members.insert(number, member.into());
        let seat = self.vacant.pop_front().unwrap_or_default();
        self.claimed.extend(seat.into_iter().map(|partition| (partition, number)));
        self.rebalance(core);
        let generation = core.generation;
        self.members.entry(number).and_modify(|member| (member.polling, member.told) = (false, Some(generation)));
    }

    /// A member lets go what is to move.
    pub(super) fn let_go(&mut self, core: &mut Core, number: MemberNumber) {
        let partitions = self.topics.values_mut().flatten();
        partitions.filter(|partition| partition.moves_from(number)).for_each(SharedPartition::free);
        self.reconcile(core);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::group::{Answer, Committer, classic::Sender};

    fn two_partitions() -> Subscription {
        Subscription {
            topics: vec![("t".into(), 2)],
            client: "nc".into(),
            session_timeout_ms: 100,
            assignor: None,
            secret: 10,
        }
    }

    fn poll(group: &mut Group, seat: MemberNumber) -> Vec<u32> {
        group.begin_poll(0, seat).unwrap();
        numbers(group.end_poll(0, seat).unwrap())
    }

    fn numbers(assignment: Assignment) -> Vec<u32> {
        assignment.owned.iter().map(|owned| owned.partition).collect()
    }

    /// The picture of the module: `a` has both partitions when `b` comes.
    fn newcomer() -> (Group, MemberNumber, MemberNumber) {
        let mut group = Group::new(0, 0);
        let (a, both) = group.join(0, two_partitions()).unwrap();
        assert_eq!((both.generation, numbers(both)), (1, vec![0, 1]));
        let (b, none) = group.join(0, two_partitions()).unwrap();
        assert_eq!((none.generation, numbers(none), group.state()), (2, vec![], "Reconciling"));
        (group, a, b)
    }

    #[test]
    fn partition_moves_when_its_owner_polls() {
        let (mut group, a, b) = newcomer();
        assert_eq!(poll(&mut group, b), [0; 0]);
        assert_eq!(poll(&mut group, a), [0]);
        assert_eq!(group.state(), "Reconciling");
        assert_eq!(poll(&mut group, b), [1]);
        assert_eq!((group.state(), group.generation()), ("Stable", 2));
    }

    #[test]
    fn partition_moves_when_its_owner_has_committed() {
        let (mut group, a, b) = newcomer();
        let both = [("t", 0), ("t", 1)];
        group.begin_commit(0, a, both.into_iter()).unwrap();
        assert_eq!(poll(&mut group, b), [0; 0], "not before the offsets are in the log");
        group.end_commit(0, a).unwrap();
        assert_eq!(poll(&mut group, b), [1]);
        let refused = group.begin_commit(0, a, both.into_iter());
        assert_eq!(refused, Err(Error::NotAssigned { topic: "t".into(), partition: 1 }));
        assert_eq!(group.owns(0, a, "t", 1), Ok(false));
        assert_eq!(group.owns(0, a, "t", 2), Ok(false));
    }

    #[test]
    fn who_waits_lets_go_at_once_and_is_told() {
        let mut group = Group::new(0, 0);
        let (a, _) = group.join(0, two_partitions()).unwrap();
        let (ticket, _) = group.begin_poll(0, a).unwrap();
        let (b, gets) = group.join(0, two_partitions()).unwrap();
        assert_eq!(numbers(gets), [1]);
        assert_eq!(group.take_answers(), [(ticket, Answer::LookAgain)]);
        let (ticket, has) = group.begin_poll(0, a).unwrap();
        assert_eq!(numbers(has), [0]);
        group.leave(0, b).unwrap();
        assert_eq!(group.take_answers(), [(ticket, Answer::LookAgain)]);
        let (_, has) = group.begin_poll(0, a).unwrap();
        assert_eq!(has.owned.iter().map(|owned| owned.since).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn member_that_is_in_a_request_keeps_its_session() {
        let (mut group, a, b) = newcomer();
        group.begin_poll(50, a).unwrap();
        group.begin_commit(60, b, [].into_iter()).unwrap();
        group.tick(10_000);
        group.end_poll(10_000, a).unwrap();
        group.end_commit(10_001, b).unwrap();
        assert_eq!(group.next_deadline(), Some(10_100));
        assert_eq!(group.end_poll(10_100, a), Err(Error::UnknownMemberId));
        assert_eq!(group.begin_poll(10_100, a), Err(Error::UnknownMemberId));
        assert_eq!(group.empty_since(), None);
        group.tick(20_000);
        assert_eq!(group.empty_since(), Some(10_101));
    }

    #[test]
    fn partitions_that_are_new_are_shared_out() {
        let (mut group, a, b) = newcomer();
        group.topic_changed(0, "t", Some(4));
        group.topic_changed(0, "other", Some(4));
        assert_eq!((poll(&mut group, a), poll(&mut group, b)), (vec![0, 1], vec![2, 3]));
        assert_eq!(group.generation(), 3);
    }

    #[test]
    fn every_subscriber_of_a_dropped_topic_is_told_once() {
        let (mut group, a, b) = newcomer();
        let (ticket, _) = group.begin_poll(0, a).unwrap();
        group.take_answers();
        group.topic_changed(0, "t", None);
        assert_eq!(group.take_answers(), [(ticket, Answer::LookAgain)]);
        assert_eq!(group.end_poll(0, a), Err(Error::UnknownTopic("t".into())));
        assert_eq!(group.begin_poll(0, b).map(drop), Err(Error::UnknownTopic("t".into())));
        assert_eq!((poll(&mut group, a), poll(&mut group, b)), (vec![], vec![]));
        group.topic_changed(0, "t", Some(2));
        assert_eq!((poll(&mut group, a), poll(&mut group, b)), (vec![0], vec![1]));
    }

    fn commits(group: &mut Group, member_id: &str, generation: i32, partition: u32) -> Result<()> {
        let sender = Sender { member_id, instance_id: None };
        group.may_commit_later(0, Committer::Member { sender, generation }, &[("t", partition)])
    }

    #[test]
    fn who_commits_in_a_transaction_names_itself_and_the_generation_that_it_was_told() {
        let (mut group, a, b) = newcomer();
        let (a_id, b_id) = ("1-000000000000000a", "2-000000000000000a");
        assert_eq!(group.describe().members[0].member_id, a_id);
        assert_eq!(
            commits(&mut group, a_id, 1, 1),
            Ok(()),
            "it was told of the first, and lets nothing go before its next poll"
        );
        assert!(matches!(commits(&mut group, a_id, 2, 0), Err(Error::IllegalGeneration(_))));
        for unknown in ["", "1", "1-", "1-000000000000000b", "01-000000000000000a", "3-000000000000000a", "-a"] {
            assert_eq!(commits(&mut group, unknown, 1, 0), Err(Error::UnknownMemberId), "{unknown}");
        }
        assert_eq!(commits(&mut group, b_id, 2, 1), Err(Error::NotAssigned { topic: "t".into(), partition: 1 }));

        group.begin_poll(0, a).unwrap();
        assert!(matches!(commits(&mut group, a_id, 1, 0), Err(Error::IllegalGeneration(_))), "it polls");
        group.end_poll(0, a).unwrap();
        assert_eq!(commits(&mut group, a_id, 2, 0), Ok(()));
        assert!(matches!(commits(&mut group, a_id, 2, 1), Err(Error::NotAssigned { .. })));

        let (_, _) = group.join(0, two_partitions()).unwrap();
        group.begin_commit(0, b, [].into_iter()).unwrap();
        group.end_commit(0, b).unwrap();
        assert!(matches!(commits(&mut group, b_id, 2, 1), Err(Error::IllegalGeneration(_))), "its commit let it go");
    }

    #[test]
    fn members_are_named_or_there_is_none() {
        let commits = |group: &mut Group, committer| group.may_commit_later(0, committer, &[("t", 0)]);
        let nobody = Committer::Member { sender: Sender { member_id: "", instance_id: None }, generation: -1 };
        let mut group = Group::new(0, 0);
        for committer in [Committer::Anybody, Committer::Outsider, nobody] {
            assert_eq!(commits(&mut group, committer), Ok(()));
        }
        let (_, _) = group.join(0, two_partitions()).unwrap();
        assert_eq!(commits(&mut group, Committer::Anybody), Ok(()));
        assert_eq!(commits(&mut group, Committer::Outsider), Err(Error::UnknownMemberId));
        assert_eq!(commits(&mut group, nobody), Err(Error::UnknownMemberId));
    }

    #[test]
    fn who_is_in_a_transaction_lets_nothing_go_and_keeps_its_session() {
        let (mut group, a, b) = newcomer();
        group.hold(0, a, 10_000).unwrap();
        assert_eq!(poll(&mut group, a), [0, 1]);
        group.begin_commit(0, a, [("t", 1)].into_iter()).unwrap();
        group.end_commit(0, a).unwrap();
        group.hold(0, b, 10_000).unwrap();
        assert_eq!((poll(&mut group, b), group.next_deadline()), (vec![], Some(10_000)));
        group.tick(9_999);
        group.release(9_999, a).unwrap();
        assert_eq!(group.next_deadline(), Some(10_000));
        group.begin_poll(9_999, b).unwrap();
        assert_eq!(numbers(group.end_poll(9_999, b).unwrap()), [0; 0], "who is held takes nothing either");
        group.begin_poll(10_000, b).unwrap();
        assert_eq!(numbers(group.end_poll(10_000, b).unwrap()), [1]);
    }

    /// Workers that polled only in transactions never got a partition.
    #[test]
    fn who_polls_only_in_transactions_gets_its_share() {
        let (mut group, a, b) = newcomer();
        let transact = |group: &mut Group, member| {
            group.hold(0, member, 10_000).unwrap();
            group.begin_poll(0, member).unwrap();
            let told = group.end_poll(0, member).unwrap();
            group.release(0, member).unwrap();
            (told.generation, numbers(told))
        };
        assert_eq!(transact(&mut group, a), (1, vec![0, 1]), "in the next generation one of them is another's");
        assert_eq!(transact(&mut group, b), (2, vec![1]));
        assert_eq!(transact(&mut group, a), (2, vec![0]));
        group.leave(0, a).unwrap();
        assert_eq!(transact(&mut group, b), (3, vec![0, 1]));
    }

    #[test]
    fn a_transaction_that_never_ends_holds_for_as_long_as_it_may_take() {
        let (mut group, a, b) = newcomer();
        group.hold(0, a, 10_000).unwrap();
        let (_, none) = group.begin_poll(0, b).unwrap();
        assert_eq!(numbers(none), [0; 0]);
        let (ticket, both) = group.begin_poll(0, a).unwrap();
        assert_eq!((numbers(both), group.take_answers()), (vec![0, 1], vec![]));
        group.tick(10_000);
        let told = group.take_answers();
        assert!(told.contains(&(ticket, Answer::LookAgain)), "who waits lets go then: {told:?}");
        assert_eq!(numbers(group.end_poll(10_000, b).unwrap()), [1]);
        assert_eq!(numbers(group.end_poll(10_000, a).unwrap()), [0]);

        group.hold(10_000, a, 20_000).unwrap();
        group.hold(10_000, b, 40_000).unwrap();
        group.tick(20_099);
        assert!(group.owns(20_099, a, "t", 0).is_ok());
        assert_eq!(group.owns(20_100, a, "t", 0), Err(Error::UnknownMemberId), "its session began when that was over");
    }
}
