//! Memberships in the cluster's own groups, as a connection (in the library, a thread) holds them. The verbs are those of
//! [the broker's](crate::broker::Membership).
//!
//! ```text
//! poll    commit what the last poll returned (auto) ─► take up what came ─► read ──► hand out what is still owned
//!                                                          ▲                  │
//!                 wait for records or other partitions ────┘◄── nothing there ┘
//! ```
//!
//! - Members of text, of Java and of librdkafka share a group's partitions: the cluster knows no difference.
//! - Partitions come and go between polls, too: see [`Member`].
//! - A position begins where the group committed, otherwise where `from` says, and is looked up here and not by librdkafka.

use super::{
    Cluster, Shared,
    clients::Taken,
    errors::refused,
    feed::Feed,
    keeper::Bell,
    member::{Client, Events, Handed, Member, State, Verb, rings},
    native::{Seat, seat},
    reading::PartitionHandle,
    topics::END,
    transactions::Transaction,
};
use crate::{
    broker::{
        Error, JoinOptions, Permit, PollLimits, PollWait, PolledRecord, Position, Result, Waiter,
        group::consumer::Assignor,
    },
    log::{Chunk, Outcome},
    security::Operation,
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long JOIN waits for the group to give the member something.
const JOINING: Duration = Duration::from_secs(10);
/// How long a poll waits for records that are there and were not fetched yet.
pub(super) const FETCHING: Duration = Duration::from_secs(5);
/// How long the client waits for a place to be moved.
const SEEK: Duration = Duration::from_secs(5);
/// How long records that are fetched wait for those of other partitions.
const GATHERING: Duration = Duration::from_millis(500);
/// What the cluster is told of a session: it need only notice the end of this program.
const SESSION_MS_MIN: u64 = 6_000;
const SESSION_MS_MAX: u64 = 45_000;

/// A membership in a group.
pub struct Membership {
    /// Before the client: what it fetched is given back first.
    partitions: Vec<Assigned>,
    /// `None`: it is a member no more.
    client: Option<Arc<Client>>,
    pub(super) member: Arc<Member>,
    shared: Arc<Shared>,
    permit: Permit,
    /// What it was permitted to read.
    topics: BTreeMap<String, Permit>,
    group: String,
    options: JoinOptions,
    seat: Seat,
    /// Which of its assignments the partitions are of.
    epoch: Option<u64>,
    /// The partition that the next poll begins with.
    turn: usize,
    taken: Option<Taken>,
}

type Key = (Arc<str>, u32);

/// A partition that the member owns.
struct Assigned {
    key: Key,
    feed: Feed<Events>,
    /// What was read and not handed out yet.
    chunk: Chunk,
    /// The end, as it last was heard.
    end: u64,
}

/// Offsets on their way to the cluster. Until this is dropped the member keeps its partitions.
pub(super) struct ToCommit {
    list: TopicPartitionList,
    member: Arc<Member>,
    bell: Arc<Bell>,
}

impl Drop for ToCommit {
    fn drop(&mut self) {
        if self.member.state().commits(false) {
            self.bell.ring();
        }
    }
}

/// What there is to be handed out.
struct Filled {
    any: bool,
    /// Whether there is no room for more.
    is_enough: bool,
}

impl Assigned {
    /// Whether there was nothing more when its end was last heard.
    fn has_read_all(&self) -> bool {
        self.feed.next() >= self.end
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("group", &self.group).field("seat", &self.seat).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Whether a member could [`join`](Self::join) with this, as far as the group has no say in it.
    pub fn may_join(&self, topics: &[&str], options: &JoinOptions) -> Result<()> {
        options.check_session()?;
        for topic in topics {
            let topic = self.find_topic(topic)?;
            if let Position::At(_) = options.from {
                let mut partitions = topic.partitions().into_iter();
                partitions.try_for_each(|one| one.resolve(options.isolation, options.from).map(drop))?;
            }
        }
        Ok(())
    }

    /// Joins a group, and waits until it has given the member its share of the partitions of `topics`. Where that takes longer
    /// than 10 s the member has none yet.
    pub fn join(&self, group: &str, topics: &[&str], options: JoinOptions) -> Result<Membership> {
        let permit = self.door.ask_group(Operation::Read, group)?;
        self.may_join(topics, &options)?;
        if group.is_empty() {
            return Err(Error::InvalidGroup("a group needs a name".into()));
        }
        self.shared.keep()?;
        let taken = self.shared.room()?;
        let session = options.session_ms.clamp(SESSION_MS_MIN, SESSION_MS_MAX);
        let assignors = match options.assignor {
            None => "range,roundrobin",
            Some(Assignor::Range) => "range",
            Some(Assignor::Uniform) => "roundrobin",
        };
        let (session, name) = (session.to_string(), self.caller().name());
        let mut more = vec![
            ("session.timeout.ms", session.as_str()),
            ("heartbeat.interval.ms", "1500"),
            // How soon partitions that were added are the group's, and those of a topic that was dropped are not.
            ("topic.metadata.refresh.interval.ms", "5000"),
            ("partition.assignment.strategy", assignors),
        ];
        if !name.is_empty() {
            more.push(("client.id", &name));
        }
        let member = Member::new(Duration::from_millis(options.session_ms));
        let config = self.shared.options.reader(group, options.isolation, &more);
        let client = config.create_with_context(Events(member.clone()));
        let mut client: Client = client.map_err(|error| super::ClusterOptions::refused(&error))?;
        rings(&mut client, self.shared.keeper.bell());
        let client = Arc::new(client);
        let to_read = |topic: &&str| Ok((topic.to_string(), self.door.ask_topic(Operation::Read, topic)?));
        let topics: BTreeMap<String, Permit> = topics.iter().map(to_read).collect::<Result<_>>()?;
        client
            .subscribe(&topics.keys().map(String::as_str).collect::<Vec<_>>())
            .map_err(|error| refused("joining the group", &error))?;
        self.shared.members.add(member.clone(), &client);
        let mut joined = Membership {
            partitions: Vec::new(),
            client: Some(client),
            member,
            shared: self.shared.clone(),
            permit,
            topics,
            group: group.into(),
            options,
            seat: Seat::default(),
            epoch: None,
            turn: 0,
            taken: Some(taken),
        };
        joined.wait_for_assignment()?;
        Ok(joined)
    }
}

impl Membership {
    /// The group's name.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The member's id; `-` until the cluster has given one.
    pub fn id(&self) -> String {
        if self.seat.member_id.is_empty() { "-".into() } else { self.seat.member_id.clone() }
    }

    /// Whether each poll commits what the one before returned.
    pub fn commits_by_itself(&self) -> bool {
        self.options.auto_commit
    }

    /// The group's generation as the member last heard of it; 0 until the group has told one.
    pub fn generation(&self) -> i32 {
        self.seat.generation.max(0)
    }

    /// What the member owned when it was last told.
    pub fn assigned(&self) -> impl Iterator<Item = (&str, u32)> {
        self.partitions.iter().map(|assigned| (&*assigned.key.0, assigned.key.1))
    }

    /// Hands records to `each`, after waiting for the first. Answers how many there were. With a limit of none it waits for
    /// nothing: it keeps the session, and partitions come and go.
    pub fn poll(
        &mut self,
        limits: PollLimits,
        wait: PollWait<'_>,
        each: &mut dyn FnMut(&PolledRecord<'_>),
    ) -> Result<usize> {
        let _verb = self.verb()?;
        self.check()?;
        if self.options.auto_commit {
            match self.commit_now(None) {
                // What it was to commit is somebody else's, or will be: it comes again.
                Err(Error::UnknownMemberId | Error::IllegalGeneration(_) | Error::RebalanceInProgress) => {}
                committed => committed?,
            }
        }
        if limits.records == 0 {
            return self.take_up().map(|()| 0);
        }
        let member = self.member.clone();
        let mut over = wait.deadline.is_some_and(|deadline| deadline <= Instant::now());
        loop {
            // Registered before anything is looked at, so that nothing comes unseen in between.
            let _registered = member.waiters.register(wait.waiter);
            member.check()?;
            self.take_up()?;
            if self.read(limits, over)? {
                self.check()?;
                match self.hand_out(limits, each) {
                    0 => continue,
                    count => return Ok(count),
                }
            }
            if over {
                return Ok(0);
            }
            over = !(wait.wait)(wait.deadline);
        }
    }

    /// Commits offsets of partitions that the member owns: these, or the positions that moved.
    pub fn commit(&mut self, offsets: Option<&[(&str, u32, u64)]>) -> Result<()> {
        let _verb = self.verb()?;
        self.commit_now(offsets)
    }

    fn commit_now(&mut self, offsets: Option<&[(&str, u32, u64)]>) -> Result<()> {
        let Some(ToCommit { list, .. }) = &self.to_commit(offsets)? else { return Ok(()) };
        self.client()?.commit(list, CommitMode::Sync).map_err(|error| self.uncommitted(&error))?;
        self.member.state().committed(list, offsets.is_some());
        Ok(())
    }

    /// As [`commit`](Self::commit), as part of a transaction.
    pub fn commit_in(&mut self, transaction: &Transaction, offsets: Option<&[(&str, u32, u64)]>) -> Result<()> {
        let _verb = self.verb()?;
        let Some(ToCommit { list, .. }) = &self.to_commit(offsets)? else { return Ok(()) };
        let group = self.client()?.group_metadata().ok_or(Error::UnknownMemberId)?;
        transaction.send_offsets(&self.group, list, &group)?;
        self.member.state().committed(list, offsets.is_some());
        Ok(())
    }

    /// What is to be committed, of partitions that it owns; `None`: nothing.
    pub(super) fn to_commit(&self, offsets: Option<&[(&str, u32, u64)]>) -> Result<Option<ToCommit>> {
        self.permit.check()?;
        let mut state = self.member.state();
        let list = match offsets {
            None => state.moved(),
            Some(offsets) => {
                let mut list = TopicPartitionList::new();
                for &(topic, partition, offset) in offsets {
                    if !state.owns(topic, partition) {
                        return Err(Error::NotAssigned { topic: topic.into(), partition });
                    }
                    let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
                    let added = list.add_partition_offset(topic, partition as i32, offset);
                    added.map_err(|error| self.uncommitted(&error))?;
                }
                list
            }
        };
        if list.count() == 0 {
            return Ok(None);
        }
        state.commits(true);
        Ok(Some(ToCommit { list, member: self.member.clone(), bell: self.shared.keeper.bell() }))
    }

    /// A transaction has begun on the member's connection. Until [`end_transaction`](Self::end_transaction), at most for
    /// `timeout_ms`, no partition goes, and its session stands still.
    pub fn begin_transaction(&mut self, timeout_ms: u64) -> Result<()> {
        let _verb = self.verb()?;
        self.member.hold(Instant::now().checked_add(Duration::from_millis(timeout_ms)));
        Ok(())
    }

    /// The transaction has ended: what is to move may go. If it was aborted the member goes on where the group committed.
    pub fn end_transaction(&mut self, outcome: Outcome) -> Result<()> {
        let _verb = self.verb()?;
        if outcome == Outcome::Abort {
            self.member.state().positions.clear();
            self.epoch = None;
        }
        self.member.hold(None);
        self.shared.keeper.bell().ring();
        Ok(())
    }

    /// Goes on elsewhere in a partition that the member owns. Answers the offset.
    pub fn seek(&mut self, topic: &str, partition: u32, position: Position) -> Result<u64> {
        let _verb = self.verb()?;
        self.take_up()?;
        let not_assigned = || Error::NotAssigned { topic: topic.into(), partition };
        let found = self.partitions.iter().position(|one| (&*one.key.0, one.key.1) == (topic, partition));
        let key = self.partitions[found.ok_or_else(not_assigned)?].key.clone();
        let offset = self.handle(&key)?.resolve(self.options.isolation, position)?;
        self.go_to(&key, offset)?.then_some(offset).ok_or_else(not_assigned)
    }

    /// Leaves the group, after committing the rest if that is automatic. If that fails it is a member as before.
    pub fn leave(&mut self) -> Result<()> {
        let verb = self.verb()?;
        if self.options.auto_commit {
            self.commit_now(None)?;
        }
        drop(verb);
        self.end();
        Ok(())
    }

    /// It is a member no more. The last who has the client waits until it has left the group.
    fn end(&mut self) {
        self.member.go();
        self.partitions.clear();
        (self.client, self.taken) = (None, None);
    }

    fn verb(&mut self) -> Result<Verb> {
        let verb = self.member.verb();
        if verb.is_err() {
            self.end();
        }
        verb
    }

    fn client(&self) -> Result<&Arc<Client>> {
        self.client.as_ref().ok_or(Error::UnknownMemberId)
    }

    fn wait_for_assignment(&mut self) -> Result<()> {
        let (waiter, member) = (Waiter::new(), self.member.clone());
        let _registered = member.waiters.register(&waiter);
        let until = Instant::now() + JOINING.min(self.shared.options.timeout);
        loop {
            let _verb = self.verb()?;
            if self.member.state().epoch > 0 || !waiter.wait(Some(until)) {
                break;
            }
        }
        let _verb = self.verb()?;
        // What `latest` and the like mean is decided now. If nobody can tell, a poll asks again.
        let _ = self.take_up();
        Ok(())
    }

    /// Takes up what the group gave since it last looked, and looks up where to begin there.
    fn take_up(&mut self) -> Result<()> {
        loop {
            let (epoch, owned) = {
                let state = self.member.state();
                if self.epoch == Some(state.epoch) {
                    return Ok(());
                }
                (state.epoch, state.owned.clone())
            };
            self.partitions.clear();
            let positions = self.committed(owned)?;
            let member = self.member.clone();
            let mut state = member.state();
            if state.epoch == epoch {
                return self.begin(&mut state, positions);
            }
        }
    }

    /// Where the group is in these partitions, or where `from` says.
    fn committed(&mut self, owned: Vec<Key>) -> Result<Vec<(Key, u64)>> {
        let client = self.client()?.clone();
        self.seat = seat(&client).unwrap_or_default();
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &owned {
            list.add_partition(topic, *partition as i32);
        }
        if owned.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |error| self.shared.known.explain("asking what the group committed", &error);
        let known = &self.shared.known;
        let answer = known.insist(self.shared.options.timeout, |time| client.committed_offsets(list.clone(), time));
        let answer = answer.map_err(failed)?;
        let position = |key: Key| {
            let element = answer.find_partition(&key.0, key.1 as i32);
            let offset = match element {
                Some(element) => element.error().map(|()| element.offset().to_raw()).map_err(failed)?,
                None => None,
            };
            match offset.and_then(|offset| u64::try_from(offset).ok()) {
                Some(offset) => Ok((key, offset)),
                None => self.from(&key).map(|offset| (key, offset)),
            }
        };
        owned.into_iter().map(position).collect()
    }

    /// Whether it still may be a member, and read what it reads.
    fn check(&self) -> Result<()> {
        self.permit.check()?;
        self.topics.values().try_for_each(Permit::check)
    }

    fn handle(&self, (topic, partition): &Key) -> Result<PartitionHandle> {
        let permit = self.topics.get(&**topic).ok_or_else(|| Error::UnknownTopic(topic.to_string()))?;
        Ok(PartitionHandle::new(&self.shared, permit.clone(), topic.clone(), *partition))
    }

    /// Where a member begins that finds nothing committed, or what it finds gone.
    fn from(&self, key: &Key) -> Result<u64> {
        match (self.handle(key)?.resolve(self.options.isolation, self.options.from), self.options.from) {
            (Err(Error::OffsetOutOfRange { first, end }), Position::At(offset)) => Ok(offset.clamp(first, end)),
            (resolved, _) => resolved,
        }
    }

    /// Fetches these partitions, and no others, from these offsets on. If that fails it takes them up again.
    fn begin(&mut self, state: &mut State, positions: Vec<(Key, u64)>) -> Result<()> {
        let client = self.client.clone().ok_or(Error::UnknownMemberId)?;
        // The old feeds end before there are others of the same partitions.
        self.partitions.clear();
        self.epoch = None;
        let mut list = TopicPartitionList::new();
        for (key, next) in positions {
            let offset = Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX));
            let added = list.add_partition_offset(&key.0, key.1 as i32, offset);
            added.map_err(|error| refused("reading as a member", &error))?;
            let member = self.member.clone();
            let feed = Feed::new(&client, &key.0, key.1, move || member.waiters.wake());
            let mut feed = feed.ok_or_else(|| Error::UnknownTopic(key.0.to_string()))?;
            feed.begin(next);
            state.positions.entry(key.clone()).or_insert(Handed { next, moved: false }).next = next;
            self.partitions.push(Assigned { key, feed, chunk: Chunk::default(), end: 0 });
        }
        client.assign(&list).map_err(|error| refused("reading as a member", &error))?;
        self.epoch = Some(state.epoch);
        Ok(())
    }

    /// Goes on elsewhere in one partition. False: it is not its own any more.
    fn go_to(&mut self, key: &Key, offset: u64) -> Result<bool> {
        let member = self.member.clone();
        let mut state = member.state();
        if self.epoch != Some(state.epoch) {
            return Ok(false);
        }
        state.positions.insert(key.clone(), Handed { next: offset, moved: true });
        let next = |one: &Assigned| (one.key.clone(), state.positions.get(&one.key).map_or(0, |handed| handed.next));
        let positions = self.partitions.iter().map(next).collect();
        self.begin(&mut state, positions)?;
        Ok(true)
    }

    /// Reads what comes next, unless it was read already; whether there is anything. What is there in any of its partitions and
    /// was not fetched yet is waited for, as far as there is room for it. That the cluster does not tell what is there is an error
    /// where there is nothing to hand out and no more time.
    fn read(&mut self, limits: PollLimits, over: bool) -> Result<bool> {
        let filled = self.fill(limits)?;
        if filled.is_enough {
            return Ok(filled.any);
        }
        let patience = if filled.any { GATHERING } else { FETCHING.min(self.shared.options.timeout) };
        match self.is_behind(patience) {
            Ok(true) => {}
            Err(error) if over && !filled.any => return Err(error),
            Ok(false) | Err(_) => return Ok(filled.any),
        }
        let (waiter, member) = (Waiter::new(), self.member.clone());
        let _registered = member.waiters.register(&waiter);
        let begun = Instant::now();
        loop {
            let filled = self.fill(limits)?;
            if filled.is_enough || !self.comes_more() {
                return Ok(filled.any);
            }
            // Other partitions are for the caller to take up.
            if self.epoch != Some(member.state().epoch) {
                return Ok(true);
            }
            // What there is does not wait for long for the rest.
            let until = begun + if filled.any { GATHERING } else { FETCHING.min(self.shared.options.timeout) };
            if !waiter.wait(Some(until)) {
                return Ok(filled.any);
            }
        }
    }

    /// Reads, by turns, until there is enough. A partition that cannot be read is an error when there is nothing else.
    fn fill(&mut self, limits: PollLimits) -> Result<Filled> {
        let (mut records, mut bytes, mut failed, count) = (0, 0, None, self.partitions.len());
        let mut any = false;
        let is_enough = |records, bytes| records >= limits.records || bytes >= limits.bytes && records > 0;
        for index in (0..count).map(|step| (self.turn + step) % count) {
            if is_enough(records, bytes) {
                break;
            }
            let Assigned { chunk, feed, .. } = &mut self.partitions[index];
            if chunk.next_offset().is_none() {
                if let Err(code) = feed.fill(limits.bytes - bytes.min(limits.bytes), chunk) {
                    failed = Some((index, code));
                }
                self.shared.door.metrics().dropped.read(chunk.records(), chunk.bytes().len() as u64);
            }
            any |= chunk.next_offset().is_some();
            records += chunk.records() as usize;
            bytes += chunk.bytes().len();
        }
        if let Some((index, code)) = failed {
            match self.failed(index, code) {
                // It fails again, and is told when there is nothing else.
                Err(_) if any => {}
                outcome => outcome?,
            }
            // All of it is read anew where one goes on elsewhere.
            any = self.partitions.iter().any(|one| one.chunk.next_offset().is_some());
        }
        Ok(Filled { any, is_enough: any && is_enough(records, bytes) })
    }

    /// What a partition that cannot be read means. It is read on where it was, or where there is something.
    fn failed(&mut self, index: usize, code: RDKafkaErrorCode) -> Result<()> {
        use RDKafkaErrorCode::*;
        let key = self.partitions[index].key.clone();
        match code {
            // What was committed is gone.
            AutoOffsetReset | OffsetOutOfRange => {
                let offset = self.from(&key)?;
                self.go_to(&key, offset).map(drop)
            }
            // The group tells of the drop, unless it was none.
            UnknownTopic | UnknownPartition | UnknownTopicOrPartition => {
                self.read_on(index);
                Ok(())
            }
            code => {
                if !self.read_on(index) {
                    let next = self.partitions[index].feed.next();
                    self.go_to(&key, next)?;
                }
                Err(self.shared.unread(&key.0, key.1, &KafkaError::MessageConsumption(code)))
            }
        }
    }

    /// Reads a partition, in which there was an error, from where it was on; the others go on. False: not yet.
    fn read_on(&mut self, index: usize) -> bool {
        let (Some(client), Assigned { key, feed, .. }) = (&self.client, &mut self.partitions[index]) else {
            return false;
        };
        let next = feed.next();
        let offset = Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX));
        let goes_on = client.seek(&key.0, key.1 as i32, offset, SEEK).is_ok();
        if goes_on {
            feed.begin(next);
        }
        goes_on
    }

    /// Whether there are records, by the cluster's word at this moment, that were not fetched yet.
    fn is_behind(&mut self, patience: Duration) -> Result<bool> {
        let places: Vec<_> = self.partitions.iter().map(|one| (&*one.key.0, one.key.1)).collect();
        let ends = self.shared.offsets_within(&places, END, self.options.isolation, patience)?;
        for (one, end) in self.partitions.iter_mut().zip(ends) {
            // The others are read, and it is told when there is nothing else.
            if let Ok(Some(end)) = end {
                one.end = end;
            }
        }
        Ok(self.comes_more())
    }

    /// Whether something is still to come of a partition of which there is nothing yet.
    fn comes_more(&self) -> bool {
        self.partitions.iter().any(|one| one.chunk.next_offset().is_none() && !one.has_read_all())
    }

    /// Hands out what was read of partitions that are still owned.
    fn hand_out(&mut self, limits: PollLimits, each: &mut dyn FnMut(&PolledRecord<'_>)) -> usize {
        let member = self.member.clone();
        let mut state = member.state();
        if self.epoch != Some(state.epoch) {
            return 0;
        }
        let (mut left, count, turn) = (limits, self.partitions.len(), self.turn);
        for index in (0..count).map(|step| (turn + step) % count) {
            let Assigned { key, chunk, .. } = &mut self.partitions[index];
            let Some(behind) = chunk.next_offset() else { continue };
            let Some(handed) = state.positions.get_mut(key) else { continue };
            for line in chunk.records_from(handed.next).flatten() {
                let first = left.records == limits.records;
                if !first && (left.records == 0 || left.bytes < line.text.len()) {
                    self.turn = index;
                    return limits.records - left.records;
                }
                each(&PolledRecord {
                    topic: &key.0,
                    partition: key.1,
                    offset: line.offset,
                    timestamp: line.timestamp,
                    fields: line.fields,
                });
                (left.records, left.bytes) = (left.records - 1, left.bytes.saturating_sub(line.text.len()));
                *handed = Handed { next: line.offset + 1, moved: true };
            }
            *handed = Handed { next: behind, moved: true };
            chunk.clear();
            self.turn = (index + 1) % count;
        }
        limits.records - left.records
    }

    /// Why something was not committed.
    fn uncommitted(&self, error: &KafkaError) -> Error {
        use RDKafkaErrorCode::*;
        match error.rdkafka_error_code() {
            Some(UnknownMemberId) => Error::UnknownMemberId,
            Some(code @ IllegalGeneration) => Error::IllegalGeneration(format!("committing: {code}")),
            Some(RebalanceInProgress) => Error::RebalanceInProgress,
            _ => self.shared.known.explain("committing", error),
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.end();
    }
}
