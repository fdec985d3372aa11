//! A member of one of the cluster's own groups, as two threads see it: its connection's, and the keeper's.
//!
//! ```text
//! keeper      polls the client: partitions come ── and go
//! connection  takes up what came, reads, hands out what is still owned
//! ```
//!
//! A rebalance is served only while a client is polled, and a group waits for each of its members. So nobody's connection is
//! waited for: the keeper polls, and a partition goes at once, wherever its member is. What that was handed out and did not commit
//! comes again, since it may not have arrived. A member whose connection is silent for longer than its session is let go.

use super::keeper::Bell;
use crate::broker::{Code, Error, Result, Waiters};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, Weak},
    thread::Builder,
    time::{Duration, Instant},
};

/// How often a client is polled when it has something to tell, at most.
const POLLS: usize = 16;

pub(super) type Client = BaseConsumer<Events>;

/// All members.
#[derive(Debug, Default)]
pub(super) struct Members(Mutex<Vec<Entry>>);

struct Entry {
    member: Arc<Member>,
    client: Weak<Client>,
}

/// What both threads know.
pub(super) struct Member {
    /// A member that is silent for so long is let go.
    session: Duration,
    state: Mutex<State>,
    /// Who waits for records, or for partitions.
    pub(super) waiters: Waiters,
}

/// Where a member stands.
pub(super) struct State {
    /// How often partitions came or went.
    pub(super) epoch: u64,
    pub(super) owned: Vec<(Arc<str>, u32)>,
    /// How far records were handed out of these.
    pub(super) positions: BTreeMap<(Arc<str>, u32), Handed>,
    /// Until when partitions stay because of a transaction.
    held_until: Option<Instant>,
    /// Offsets of its partitions are on their way: until the cluster has answered, none goes. What is committed for a partition that
    /// has gone would put back the member that has it.
    commits_now: bool,
    /// The group waits for the partitions.
    is_to_give_up: bool,
    /// It is a member no more.
    gone: bool,
    /// Why the group does not take it.
    refused: Option<Error>,
    /// A verb is under way.
    busy: bool,
    /// When the last one ended.
    heard: Instant,
}

/// How far a partition's records were handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handed {
    /// The offset that is next.
    pub(super) next: u64,
    /// Whether it moved since it was last committed.
    pub(super) moved: bool,
}

/// What the client tells.
pub(super) struct Events(pub(super) Arc<Member>);

/// A verb that is under way: the member is not silent.
pub(super) struct Verb(Arc<Member>);

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("session", &self.session).finish_non_exhaustive()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.member.fmt(f)
    }
}

impl Member {
    pub(super) fn new(session: Duration) -> Arc<Member> {
        let state = State {
            epoch: 0,
            owned: Vec::new(),
            positions: BTreeMap::new(),
            held_until: None,
            commits_now: false,
            is_to_give_up: false,
            gone: false,
            refused: None,
            busy: false,
            heard: Instant::now(),
        };
        Arc::new(Member { session, state: Mutex::new(state), waiters: Waiters::default() })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under a member's lock")
    }

    /// A verb begins; an error if it is a member no more.
    pub(super) fn verb(self: &Arc<Member>) -> Result<Verb> {
        let mut state = self.state();
        state.check()?;
        state.busy = true;
        Ok(Verb(self.clone()))
    }

    /// An error if it is a member no more.
    pub(super) fn check(&self) -> Result<()> {
        self.state().check()
    }

    /// It is a member no more, and commits nothing.
    pub(super) fn go(&self) {
        self.state().gone = true;
    }

    /// Partitions stay until then, whoever waits for them; `None`: no longer.
    pub(super) fn hold(&self, until: Option<Instant>) {
        self.state().held_until = until;
    }

    fn look_after(&self, client: &Client) {
        for _ in 0..POLLS {
            // Nobody reads here: messages come to their partitions' own queues.
            match client.poll(Duration::ZERO) {
                Some(Err(error)) => self.failed(&error),
                Some(Ok(_)) => {}
                None => break,
            }
        }
        let mut state = self.state();
        if state.is_to_give_up && !state.is_held() {
            self.give_up(&mut state, client);
        }
        if !state.gone && !state.busy && !state.is_held() && state.heard.elapsed() > self.session {
            state.gone = true;
            client.unsubscribe();
        }
    }

    /// The client met an error. Those that pass are its own business.
    pub(super) fn failed(&self, error: &KafkaError) {
        use RDKafkaErrorCode::*;
        let Some(code) = error.rdkafka_error_code() else { return };
        let refused = match code {
            InvalidSessionTimeout => Error::InvalidSessionTimeout("the cluster does not take such a session".into()),
            InconsistentGroupProtocol => Error::InconsistentGroupProtocol,
            InvalidGroupId => Error::InvalidGroup("the cluster does not take such a group".into()),
            GroupAuthorizationFailed | GroupMaxSizeReached | TopicAuthorizationFailed | Fatal => {
                super::errors::of_code("joining the group", code)
            }
            Authentication => {
                Error::OfCluster { code: Code::SaslAuthenticationFailed, why: format!("joining the group: {error}") }
            }
            _ => return,
        };
        self.state().refused = Some(refused);
        self.waiters.wake();
    }

    fn take(&self, client: &Client, partitions: &TopicPartitionList) {
        let mut state = self.state();
        let mut topics: BTreeMap<String, Arc<str>> = BTreeMap::new();
        let mut owned = Vec::with_capacity(partitions.count());
        for element in partitions.elements() {
            let topic = element.topic();
            let topic = topics.entry(topic.into()).or_insert_with(|| topic.into()).clone();
            owned.extend(u32::try_from(element.partition()).ok().map(|partition| (topic, partition)));
        }
        owned.sort();
        state.change(owned);
        // Nothing is fetched before its connection has looked up where to begin.
        let _ = client.assign(&TopicPartitionList::new());
        drop(state);
        self.waiters.wake();
    }

    /// Its partitions go.
    fn give_up(&self, state: &mut State, client: &Client) {
        state.is_to_give_up = false;
        state.change(Vec::new());
        let _ = client.unassign();
        self.waiters.wake();
    }
}

impl State {
    fn check(&self) -> Result<()> {
        match &self.refused {
            Some(error) => Err(error.clone()),
            None if self.gone => Err(Error::UnknownMemberId),
            None => Ok(()),
        }
    }

    /// Whether a transaction keeps its partitions, or a commit.
    fn is_held(&self) -> bool {
        !self.gone && (self.commits_now || self.held_until.is_some_and(|until| until > Instant::now()))
    }

    /// A commit begins, or has been answered; whether the group waits for its partitions.
    pub(super) fn commits(&mut self, now: bool) -> bool {
        self.commits_now = now;
        self.is_to_give_up
    }

    fn change(&mut self, owned: Vec<(Arc<str>, u32)>) {
        (self.epoch, self.owned) = (self.epoch + 1, owned);
        self.positions.clear();
    }

    pub(super) fn owns(&self, topic: &str, partition: u32) -> bool {
        self.owned.iter().any(|(owned, index)| (&**owned, *index) == (topic, partition))
    }

    /// The positions that moved since they were last committed.
    pub(super) fn moved(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), handed) in self.positions.iter().filter(|(_, handed)| handed.moved) {
            // An offset that is none is not committed.
            let _ = list.add_partition_offset(topic, *partition as i32, Offset::Offset(handed.next as i64));
        }
        list
    }

    /// These are committed; if they were `named`, they and not where the positions are.
    pub(super) fn committed(&mut self, list: &TopicPartitionList, named: bool) {
        for element in list.elements() {
            let key = (Arc::from(element.topic()), u32::try_from(element.partition()).unwrap_or(u32::MAX));
            if let Some(handed) = self.positions.get_mut(&key) {
                handed.moved &= !named && element.offset().to_raw() != Some(handed.next as i64);
            }
        }
    }
}

impl Drop for Verb {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.busy, state.heard) = (false, Instant::now());
    }
}

impl ClientContext for Events {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Events {
    fn rebalance(&self, client: &Client, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let member = &self.0;
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            return member.take(client, partitions);
        }
        let mut state = member.state();
        if state.is_held() && !client.assignment_lost() {
            state.is_to_give_up = true;
        } else {
            member.give_up(&mut state, client);
        }
    }
}

impl Members {
    /// From here on the keeper polls its client.
    pub(super) fn add(&self, member: Arc<Member>, client: &Arc<Client>) {
        self.list().push(Entry { member, client: Arc::downgrade(client) });
    }

    pub(super) fn look_after(&self) {
        self.list().retain(|entry| entry.client.strong_count() > 0);
        let all: Vec<_> =
            self.list().iter().filter_map(|entry| Some((entry.member.clone(), entry.client.upgrade()?))).collect();
        for (member, client) in all {
            member.look_after(&client);
            close(client);
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().expect("no panic under the members' lock")
    }
}

/// Gives a client up. The last who has it waits until it has left its group, which is not the keeper's to do.
fn close(client: Arc<Client>) {
    if let Some(last) = Arc::into_inner(client) {
        let _ = Builder::new().name("closing".into()).stack_size(256 << 10).spawn(move || drop(last));
    }
}

/// What wakes the keeper when a client has something to tell.
pub(super) fn rings(client: &mut Client, bell: Arc<Bell>) {
    client.set_nonempty_callback(move || bell.ring());
}
