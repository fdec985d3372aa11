//! One consumer group, as a pure state machine: requests and the time go in, answers come out.
//!
//! It has no lock, clock, socket or thread: `now` is an argument, in milliseconds of any clock that never goes back, and
//! the coordinator brings what it is told here to those who wait. A group has one kind of members at a time:
//!
//! ```text
//!              JOIN     ┌───────────────────────────────────┐
//!            ┌─────────►│ ServerAssigned: Reconciling Stable│   the broker assigns, a partition moves when
//!  ┌───────┐ │          └───────────────────────────────────┘   its owner lets it go (text, the library)
//!  │ Empty ├─┤ ◄─ last member gone, from either
//!  └───────┘ │          ┌───────────────────────────────────┐
//!            └─────────►│ Classic: PreparingRebalance       │   members stop, rejoin, and one of them, the
//!             JoinGroup │   CompletingRebalance Stable      │   leader, assigns (Kafka clients)
//!                       └───────────────────────────────────┘
//! ```
//!
//! What each state answers stands in [`server_assigned`] and [`classic`]. Rules that always hold:
//! - A join of the other kind while there are members is refused: `INCONSISTENT_GROUP_PROTOCOL`.
//! - The generation rises with every rebalance and never falls, not even when the group empties.
//! - A session ends at its deadline, to the millisecond: each event first ends the sessions that are due, so nobody is
//!   early, and nobody who comes at the deadline or later is let in.
//! - A member that waits in a request is there, so its session does not run; it starts anew with the answer.
//! - One who waits holds a [`Ticket`]; it is answered once, through [`Group::take_answers`].
//!
//! Left out: no initial delay (the first member starts at once, later ones rebalance), no limit of members, and nothing
//! of this is stored: after a restart members join again, and only committed offsets outlive the broker.

mod assignment;
pub mod classic;
#[cfg(test)]
mod model_tests;
pub mod server_assigned;

use super::Result;
use classic::{Classic, Joined};
use server_assigned::ServerAssigned;

/// A request that waits. No two of a group are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What one who waits is told.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The partitions of a waiting POLL are others now: ask again what they are.
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

/// A group as those see it who look.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Kafka's name of the state.
    pub state: &'static str,
    /// Counts rebalances.
    pub generation: i32,
    /// What kind of group this is; empty if no member ever said.
    pub protocol_type: String,
    /// The assignor that the members agreed on.
    pub protocol: String,
    /// The members.
    pub members: Vec<MemberDescription>,
}

/// A member as those see it who look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberDescription {
    /// Its member id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Who it is.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// Classic: what it said with the protocol that was chosen.
    pub metadata: Vec<u8>,
    /// Classic: what its leader gave it.
    pub assignment: Vec<u8>,
    /// Server-assigned: the partitions that it owns.
    pub owned: Vec<server_assigned::Owned>,
}

/// What both kinds of members share.
#[derive(Debug, Default)]
struct Core {
    generation: i32,
    /// Since when there are no members.
    empty_since: u64,
    /// Seats given so far.
    seats: u32,
    /// Tickets given so far.
    tickets: u64,
    answers: Vec<(Ticket, Answer)>,
}

#[derive(Debug, Default)]
enum Members {
    #[default]
    None,
    ServerAssigned(ServerAssigned),
    Classic(Classic),
}

/// When a member is given up. Its clock stands still while it waits in a request.
#[derive(Debug)]
struct Session {
    timeout_ms: u64,
    deadline: Option<u64>,
}

impl Session {
    fn new(now: u64, timeout_ms: u64) -> Session {
        Session { timeout_ms, deadline: Some(now.saturating_add(timeout_ms)) }
    }

    /// The member is in a request now.
    fn pause(&mut self) {
        self.deadline = None;
    }

    /// The member was heard, or its request ended.
    fn restart(&mut self, now: u64) {
        *self = Session::new(now, self.timeout_ms);
    }

    fn is_over(&self, now: u64) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

impl Core {
    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// The answer for a ticket that nobody waits with yet.
    fn take_answer(&mut self, ticket: Ticket) -> Option<Answer> {
        let at = self.answers.iter().position(|(answered, _)| *answered == ticket)?;
        Some(self.answers.swap_remove(at).1)
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.answers.push((ticket, answer));
    }
}

impl Group {
    /// A group without members.
    pub fn new(now: u64) -> Group {
        Group { core: Core { empty_since: now, ..Core::default() }, members: Members::None }
    }

    /// Lets time pass: ends the sessions and rebalances that are due at `now`.
    pub fn tick(&mut self, now: u64) {
        match &mut self.members {
            Members::None => {}
            Members::ServerAssigned(members) => members.tick(&mut self.core, now),
            Members::Classic(members) => members.tick(&mut self.core, now),
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_deadline(&self) -> Option<u64> {
        match &self.members {
            Members::None => None,
            Members::ServerAssigned(members) => members.next_deadline(),
            Members::Classic(members) => members.next_deadline(),
        }
    }

    /// What those who wait are to be told since the last call. A ticket that nobody waits with any more may be among them.
    pub fn take_answers(&mut self) -> Vec<(Ticket, Answer)> {
        std::mem::take(&mut self.core.answers)
    }

    /// Counts rebalances.
    pub fn generation(&self) -> i32 {
        self.core.generation
    }

    /// Whether there are no members, and since when. Members whose session is over count until a [`tick`](Self::tick).
    pub fn empty_since(&self) -> Option<u64> {
        let empty = match &self.members {
            Members::None => true,
            Members::ServerAssigned(members) => members.is_empty(),
            Members::Classic(members) => members.is_empty(),
        };
        empty.then_some(self.core.empty_since)
    }

    /// Whether Kafka's members are there.
    pub fn has_classic_members(&self) -> bool {
        matches!(&self.members, Members::Classic(members) if !members.is_empty())
    }

    /// The state, by Kafka's name for it.
    pub fn state(&self) -> &'static str {
        match &self.members {
            _ if self.empty_since().is_some() => "Empty",
            Members::None => "Empty",
            Members::ServerAssigned(members) => members.state(),
            Members::Classic(members) => members.state(),
        }
    }

    /// All about it.
    pub fn describe(&self) -> Description {
        let (protocol_type, protocol) = match &self.members {
            Members::None => ("", ""),
            Members::ServerAssigned(_) => ("consumer", "range"),
            Members::Classic(members) => members.protocol(),
        };
        Description {
            state: self.state(),
            generation: self.generation(),
            protocol_type: protocol_type.into(),
            protocol: protocol.into(),
            members: match &self.members {
                Members::None => vec![],
                Members::ServerAssigned(members) => members.describe().collect(),
                Members::Classic(members) => members.describe().collect(),
            },
        }
    }
}
