//! One consumer group, as a pure state machine: requests and the time go in, answers come out.
//!
//! It has no lock, clock, socket or thread. `now` is an argument, in milliseconds of any clock that never goes back; the
//! coordinator delivers the answers to those who wait. A group is of one kind while it has members:
//!
//! ```text
//!              JOIN     ┌──────────────────────────────┐   the broker assigns; a partition moves when its
//!            ┌─────────►│ Consumer: Assigning          │   owner lets it go (text, the library, and Kafka's
//!  ┌───────┐ │          │   Reconciling Stable         │   ConsumerGroupHeartbeat)
//!  │ Empty ├─┤ ◄─ last  └──────▲───────────────┬───────┘
//!  └───────┘ │  member gone    │ joined so     │ the last one that joined so is gone
//!            │          ┌──────┴───────────────▼───────┐
//!            └─────────►│ Classic: PreparingRebalance  │   members stop and rejoin, and one of them, the
//!             JoinGroup │   CompletingRebalance Stable │   leader, assigns (Kafka clients)
//!                       └──────────────────────────────┘
//! ```
//!
//! A [`share`] group, whose members are handed each record one at a time, is one from its first member until it is deleted.
//!
//! Each kind has a file or folder, [`consumer`], [`classic`] and [`share`], which says what each state answers, and implements [`Kind`].
//! Rules that always hold:
//! - Classic members whose subscriptions the broker can read go over into a group that it assigns in when a member of that kind
//!   joins, and it is theirs again when none is left ([`consumer::classic_side`]). Else a join of the other kind while there are
//!   members is refused: `INCONSISTENT_GROUP_PROTOCOL`.
//! - The generation rises with every rebalance and never falls, not even when the group empties.
//! - A session ends at its deadline, to the millisecond: each event first ends the sessions that are due.
//! - While a member waits in a request its session does not run; it starts anew with the answer.
//! - Whoever waits holds a [`Ticket`], which is answered once, through [`Group::take_answers`].

pub mod classic;
pub mod consumer;
mod partitions;
mod saved;
mod saved_member;
mod saved_share;
pub mod share;

pub use partitions::{Owned, Partitions};
pub use saved::{SavedClassic, SavedGroup, SavedKind, SavedMember, SavedSeat};
pub use saved_member::{MemberChange, MemberRecord, Part, SavedConsumer, SavedCurrent, SavedSubscription};
pub use saved_share::{SavedShare, SavedShareMember};

use super::Result;
use classic::{ClassicGroup, Joined, Sender};
use consumer::{ConsumerGroup, heartbeat::Topics};
use share::ShareGroup;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What consumers say for their protocol type: the only type of which the broker can read who subscribes to what.
const CONSUMERS: &str = "consumer";

/// Names a request that waits. No two of a group are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Who commits offsets in a transaction (KIP-447).
#[derive(Clone, Copy, Debug)]
pub enum Committer<'a> {
    /// Somebody who names no member, and may commit whoever is in the group, as in Kafka.
    Anybody,
    /// Somebody who names no member, and may commit while the group has none.
    Outsider,
    /// A member.
    Member {
        /// Which one.
        sender: Sender<'a>,
        /// The generation that it was told.
        generation: i32,
    },
}

/// The generation that an OffsetCommit names: for members that the broker assigns to, their epoch.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// Which one.
    pub number: i32,
    /// Whether the protocol in which it is told knows epochs.
    pub is_epoch: bool,
}

impl From<i32> for Generation {
    /// One told in a protocol that does not know epochs.
    fn from(number: i32) -> Generation {
        Generation { number, is_epoch: false }
    }
}

/// Who assigns in a group: Kafka's type of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupType {
    /// One of its members.
    #[default]
    Classic,
    /// The broker.
    Consumer,
    /// Nobody: a partition has as many readers as there are, and each record goes to one of them (KIP-932).
    Share,
}

impl GroupType {
    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            GroupType::Classic => "classic",
            GroupType::Consumer => "consumer",
            GroupType::Share => "share",
        }
    }
}

/// The answer to a request that waits.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The partitions of a waiting POLL have changed: ask again for them.
    LookAgain,
    /// The answer to a JoinGroup.
    Joined(Result<Joined>),
    /// The answer to a SyncGroup: the member's assignment.
    Synced(Result<Vec<u8>>),
}

/// A consumer group.
#[derive(Debug, Default)]
pub struct Group {
    core: Core,
    members: Members,
}

/// A group as ListGroups and GROUPS report it.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Who assigns.
    pub group_type: GroupType,
    /// Kafka's name for the state.
    pub state: &'static str,
    /// `consumer`, or what else its members call themselves; empty if there never was one.
    pub protocol_type: String,
    /// How many members it has.
    pub members: usize,
}

/// A group as DescribeGroups and GROUP report it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Who assigns.
    pub group_type: GroupType,
    /// Kafka's name for the state.
    pub state: &'static str,
    /// Counts rebalances, where that is told.
    pub generation: Option<i32>,
    /// Consumer: the generation of the last assignment.
    pub assignment_epoch: i32,
    /// `consumer`, or what else its members call themselves; empty if there never was one.
    pub protocol_type: String,
    /// The assignor that the members agreed on.
    pub protocol: String,
    /// The members.
    pub members: Vec<MemberDescription>,
    /// Whether the disk refused what a restart must find of it, which the coordinator knows.
    pub unsaved: bool,
}

/// A member as DescribeGroups and GROUP report it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberDescription {
    /// Its member id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// The address of its client.
    pub client_host: String,
    /// Classic: its subscription under the protocol that was chosen.
    pub metadata: Vec<u8>,
    /// Classic: what the leader assigned to it.
    pub assignment: Vec<u8>,
    /// Consumer: the partitions that it owns.
    pub owned: Vec<consumer::Owned>,
    /// Consumer: the partitions that it is to have.
    pub target: Vec<(Arc<str>, u32)>,
    /// Consumer: the generation that it is in.
    pub epoch: i32,
    /// Consumer: the topics that it subscribes to by name.
    pub topics: Vec<Arc<str>>,
    /// Consumer: the pattern of those that it subscribes to besides.
    pub pattern: Option<String>,
    /// Consumer: whether its client has the classic protocol.
    pub is_classic: bool,
    /// Consumer: the rack that its client is in.
    pub rack_id: Option<String>,
}

/// What a restart must find of a group and has changed.
#[derive(Debug, Default, PartialEq)]
pub struct Unsaved {
    /// The group itself.
    pub group: Option<SavedGroup>,
    /// Records of members of Kafka's, where the broker assigns.
    pub members: Vec<MemberChange>,
}

/// What a group keeps whatever its kind.
#[derive(Debug, Default)]
struct Core {
    /// How long the first classic member of a group waits for others: `group.initial.rebalance.delay.ms`.
    initial_rebalance_delay_ms: u64,
    generation: i32,
    /// Whether what a restart must find of the group itself has changed.
    unsaved: bool,
    /// Whether all is to be saved, changed or not.
    saves_all: bool,
    /// The members of Kafka's of which the log has records.
    saved_members: BTreeSet<Arc<str>>,
    /// Since when there are no members.
    empty_since: u64,
    /// Member numbers given so far.
    members_numbered: u32,
    /// Tickets given so far.
    tickets: u64,
    answers: Vec<(Ticket, Answer)>,
    /// Members of a share group that are gone, by their ids.
    gone: Vec<Arc<str>>,
}

/// The members, all of one kind: the one table of the kinds.
#[derive(Debug, Default)]
enum Members {
    #[default]
    None,
    Classic(Box<ClassicGroup>),
    Consumer(Box<ConsumerGroup>),
    Share(Box<ShareGroup>),
}

/// What every kind of group does.
trait Kind {
    /// How many members there are.
    fn member_count(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.member_count() == 0
    }

    /// Kafka's name for the state.
    fn state(&self) -> &'static str;

    /// Ends the sessions and rebalances that are due at `now`.
    fn tick(&mut self, core: &mut Core, now: u64);

    /// When [`tick`](Self::tick) has something to do next.
    fn next_deadline(&self) -> Option<u64>;

    /// Everything about it but the generation and what its [`Summary`] has.
    fn describe(&self) -> Description;

    /// Who assigns.
    fn group_type(&self) -> GroupType;

    /// `consumer`, or what else the members call themselves.
    fn protocol_type(&self) -> &str;

    /// The topics that members subscribe to. `None`: nobody can tell, so it may be any.
    fn subscribed_topics(&self) -> Option<BTreeSet<&str>>;

    /// The topics that it keeps anything of, as far as anybody can tell: it is to hear what becomes of them.
    fn known_topics(&self) -> BTreeSet<&str> {
        self.subscribed_topics().unwrap_or_default()
    }

    /// Whether the sender of an OffsetCommit may commit now; the broker has heard from it by this.
    fn may_commit(&mut self, core: &Core, now: u64, sender: Sender<'_>, generation: Generation) -> Result<()>;

    /// Whether a member may commit offsets of these partitions in a transaction; the broker has heard from it by this.
    fn may_commit_later(
        &mut self,
        core: &Core,
        now: u64,
        sender: Sender<'_>,
        generation: i32,
        partitions: &[(&str, u32)],
    ) -> Result<()>;

    /// A topic has another number of partitions than before, or was dropped (`None`).
    fn topic_changed(&mut self, core: &mut Core, topic: &str, partitions: Option<u32>);

    /// What of its members outlives a restart; `None`: a generation is in the making, of which nothing does.
    fn saved(&self) -> Option<SavedKind>;
}

impl Members {
    fn kind(&self) -> Option<&dyn Kind> {
        match self {
            Members::None => None,
            Members::Classic(group) => Some(&**group),
            Members::Consumer(group) => Some(&**group),
            Members::Share(group) => Some(&**group),
        }
    }

    fn kind_mut(&mut self) -> Option<&mut dyn Kind> {
        match self {
            Members::None => None,
            Members::Classic(group) => Some(&mut **group),
            Members::Consumer(group) => Some(&mut **group),
            Members::Share(group) => Some(&mut **group),
        }
    }
}

/// When a member's session ends. The time stands still while the member waits in a request.
#[derive(Debug)]
struct SessionTimer {
    timeout_ms: u64,
    deadline: Option<u64>,
}

impl SessionTimer {
    fn new(now: u64, timeout_ms: u64) -> SessionTimer {
        SessionTimer { timeout_ms, deadline: Some(now.saturating_add(timeout_ms)) }
    }

    /// The member waits in a request from now on.
    fn pause(&mut self) {
        self.deadline = None;
    }

    /// The broker heard from the member, or its request ended.
    fn restart(&mut self, now: u64) {
        *self = SessionTimer::new(now, self.timeout_ms);
    }

    fn is_over(&self, now: u64) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

impl Core {
    /// Begins the next generation.
    fn begin_generation(&mut self) {
        self.generation = self.generation.saturating_add(1);
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// The answer for a ticket that was only just made: nobody waits with it yet.
    fn take_answer(&mut self, ticket: Ticket) -> Option<Answer> {
        let at = self.answers.iter().position(|(answered, _)| *answered == ticket)?;
        Some(self.answers.swap_remove(at).1)
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.answers.push((ticket, answer));
    }
}

impl Group {
    /// A group without members, whose first classic member waits for others for `initial_rebalance_delay_ms`.
    pub fn new(now: u64, initial_rebalance_delay_ms: u64) -> Group {
        let core = Core { empty_since: now, initial_rebalance_delay_ms, ..Core::default() };
        Group { core, members: Members::None }
    }

    /// The group that was saved so, as it is after a restart: its members have their session timeout to be heard.
    pub fn restore(now: u64, initial_rebalance_delay_ms: u64, saved: SavedGroup) -> Group {
        let SavedGroup { generation, last_member, kind } = saved;
        let new = Group::new(now, initial_rebalance_delay_ms);
        let core = Core { generation, members_numbered: last_member, ..new.core };
        let members = match kind {
            SavedKind::Classic(classic) => Members::Classic(Box::new(ClassicGroup::restore(now, classic))),
            SavedKind::Consumer { assignment_epoch, seats } => {
                Members::Consumer(Box::new(ConsumerGroup::restore(assignment_epoch, seats)))
            }
            SavedKind::Share(share) => Members::Share(Box::new(ShareGroup::restore(now, generation, share))),
        };
        Group { core, members }
    }

    /// Restores the members of Kafka's that have records, in a group that the broker assigns in.
    pub fn restore_members(&mut self, now: u64, members: BTreeMap<String, SavedConsumer>, topics: &Topics) {
        self.core.saved_members = members.keys().map(|id| id.as_str().into()).collect();
        if let Members::Consumer(group) = &mut self.members {
            group.restore_members(&mut self.core, now, members, topics);
        }
    }

    /// What a restart must find of it, as far as that has changed since the last call. Nobody is told of a new assignment
    /// before it is in the log.
    pub fn take_unsaved(&mut self) -> Option<Unsaved> {
        let saves_all = self.core.saves_all;
        let has_unsaved = matches!(&self.members, Members::Consumer(group) if group.has_unsaved());
        // What was refused before is not made good by the next change alone.
        let unsaved = self.core.unsaved || has_unsaved && saves_all;
        if !unsaved && !has_unsaved {
            return None;
        }
        let mut group = None;
        if unsaved {
            let kind = self.members.kind().map_or_else(|| Some(SavedKind::Classic(Default::default())), Kind::saved)?;
            group =
                Some(SavedGroup { generation: self.core.generation, last_member: self.core.members_numbered, kind });
        }
        let (mut members, mut known) = (vec![], BTreeSet::new());
        if let Members::Consumer(group) = &mut self.members {
            members = group.take_unsaved(saves_all);
            known.extend(group.ids().filter(|_| unsaved).cloned());
        }
        if unsaved {
            // Whoever goes, or gets another id, leaves the group itself changed.
            self.core.saved_members.retain(|id| !known.contains(id));
            members.extend(self.ends());
            self.core.saved_members = known;
        }
        (self.core.unsaved, self.core.saves_all) = (false, false);
        Some(Unsaved { group, members })
    }

    /// The ends of the records of members that the log has, for when the group ends.
    pub fn ends(&self) -> Vec<MemberChange> {
        let ends = |id: &Arc<str>| Part::ALL.map(|part| MemberChange { member_id: id.clone(), part, record: None });
        self.core.saved_members.iter().flat_map(ends).collect()
    }

    /// The log has nothing of it any more.
    pub fn ended(&mut self) {
        self.core.saved_members.clear();
    }

    /// The log has not what [`take_unsaved`](Self::take_unsaved) answered, or may have lost it: all is to be saved once it is
    /// asked to be [saved again](Self::save_again).
    pub fn not_saved(&mut self, unsaved: Option<Unsaved>) {
        self.core.saves_all = true;
        let ends = unsaved.into_iter().flat_map(|unsaved| unsaved.members).filter(|change| change.record.is_none());
        self.core.saved_members.extend(ends.map(|change| change.member_id));
    }

    /// All is to be saved though it has not changed.
    pub fn save_again(&mut self) {
        (self.core.unsaved, self.core.saves_all) = (true, true);
    }

    /// Lets time pass: ends the sessions and rebalances that are due at `now`.
    pub fn tick(&mut self, now: u64) {
        // Most requests come while nothing is due.
        if let Some(kind) = self.members.kind_mut().filter(|kind| kind.next_deadline().is_some_and(|due| due <= now)) {
            let before = kind.member_count();
            kind.tick(&mut self.core, now);
            if kind.member_count() < before {
                self.downgrade(now);
            }
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_deadline(&self) -> Option<u64> {
        self.members.kind()?.next_deadline()
    }

    /// The answers to waiting requests since the last call. Some tickets may have nobody waiting any more.
    pub fn take_answers(&mut self) -> Vec<(Ticket, Answer)> {
        std::mem::take(&mut self.core.answers)
    }

    /// The ids of members of a share group that are gone since the last call: what they hold is free for others.
    pub fn take_gone(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.core.gone)
    }

    /// Counts rebalances.
    pub fn generation(&self) -> i32 {
        self.core.generation
    }

    /// Whether there are no members, and since when. Members whose session is over count until a [`tick`](Self::tick).
    pub fn empty_since(&self) -> Option<u64> {
        self.members.kind().is_none_or(Kind::is_empty).then_some(self.core.empty_since)
    }

    /// Kafka's name for the state.
    pub fn state(&self) -> &'static str {
        self.members.kind().map_or("Empty", |kind| if kind.is_empty() { "Empty" } else { kind.state() })
    }

    /// How many members it has.
    pub fn member_count(&self) -> usize {
        self.members.kind().map_or(0, Kind::member_count)
    }

    /// What a list of groups says of it.
    pub fn summary(&self) -> Summary {
        let kind = self.members.kind();
        Summary {
            group_type: kind.map(Kind::group_type).unwrap_or_default(),
            state: self.state(),
            protocol_type: kind.map(Kind::protocol_type).unwrap_or_default().into(),
            members: self.member_count(),
        }
    }

    /// Everything about it.
    pub fn describe(&self) -> Description {
        let described = self.members.kind().map(Kind::describe).unwrap_or_default();
        let Summary { group_type, state, protocol_type, .. } = self.summary();
        Description { group_type, state, protocol_type, generation: Some(self.generation()), ..described }
    }

    /// Those of `topics` that no member subscribes to: their offsets may be deleted. `None`: the members are no consumers, and
    /// nobody may touch their offsets.
    pub fn unread<'t>(&self, topics: impl Iterator<Item = &'t str>) -> Option<BTreeSet<&'t str>> {
        let Some(kind) = self.members.kind().filter(|kind| !kind.is_empty()) else { return Some(topics.collect()) };
        if kind.protocol_type() != CONSUMERS {
            return None;
        }
        let subscribed = kind.subscribed_topics();
        Some(topics.filter(|topic| subscribed.as_ref().is_some_and(|all| !all.contains(topic))).collect())
    }

    /// Whether the sender of an OffsetCommit may commit now; the broker has heard from it by this. One without member id and
    /// with a negative generation is no member, and may while there are none, of either kind.
    pub fn may_commit(&mut self, now: u64, sender: Sender<'_>, generation: impl Into<Generation>) -> Result<()> {
        self.tick(now);
        self.keeps_offsets()?;
        let generation = generation.into();
        if self.empty_since().is_some() && generation.number < 0 {
            return Ok(());
        }
        let kind = self.members.kind_mut().ok_or(super::Error::UnknownMemberId)?;
        kind.may_commit(&self.core, now, sender, generation)
    }

    /// Whether offsets of these partitions may be committed in a transaction now. One who names a member and a negative
    /// generation is taken for nobody's member while there are none.
    pub fn may_commit_later(&mut self, now: u64, committer: Committer<'_>, partitions: &[(&str, u32)]) -> Result<()> {
        self.tick(now);
        self.keeps_offsets()?;
        let is_empty = self.empty_since().is_some();
        match committer {
            Committer::Anybody => Ok(()),
            Committer::Outsider if is_empty => Ok(()),
            Committer::Outsider => Err(super::Error::UnknownMemberId),
            Committer::Member { generation: ..0, .. } if is_empty => Ok(()),
            Committer::Member { sender, generation } => {
                let kind = self.members.kind_mut().ok_or(super::Error::UnknownMemberId)?;
                kind.may_commit_later(&self.core, now, sender, generation, partitions)
            }
        }
    }

    /// Whether its members commit offsets: those of a share group acknowledge records.
    pub fn keeps_offsets(&self) -> Result<()> {
        if self.is_share() { Err(super::Error::ShareGroup) } else { Ok(()) }
    }

    /// Whether it may become a group of another kind than it is.
    fn may_change_kind(&self) -> bool {
        self.empty_since().is_some() && !self.is_share()
    }

    /// The topics that its members subscribe to or that it keeps anything of besides, as far as anybody can tell.
    pub fn known_topics(&self) -> BTreeSet<&str> {
        self.members.kind().map(Kind::known_topics).unwrap_or_default()
    }

    /// A topic has another number of partitions than before, or was dropped (`None`).
    pub fn topic_changed(&mut self, now: u64, topic: &str, partitions: Option<u32>) {
        self.tick(now);
        if let Some(kind) = self.members.kind_mut() {
            kind.topic_changed(&mut self.core, topic, partitions);
        }
    }
}
