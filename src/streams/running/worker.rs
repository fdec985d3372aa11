//! A thread that runs tasks: those whose partitions its member of the group was given.
//!
//! ```text
//! keep the session ─► take up what was assigned, let go what was not ─► look where the group is ─► restore
//!       ▲                                                                                            │
//!       └── commit: changelogs, offsets, then the stores ◄── process until the interval is over ◄────┘
//! ```
//!
//! - Partitions are let go only between two units of work, so that all that was done there is committed.
//! - A task runs once no open transaction can change any more where the group is in its inputs, and its stores are as far as their
//!   changelogs.
//! - What fails for a reason outside (the connection, a member that was away too long, a transaction that took too long) is given up
//!   and begun again from what was committed. What would fail again ends the application.

use super::{
    Shared,
    sending::{Sender, Unit},
    states::WorkerNumber,
};
use crate::{
    client::{
        self, Position,
        processing::{Arrival, Assignee, CommittedAt, Inputs},
    },
    streams::{
        context::{Counts, TaskId},
        error::{Error, Failure, Handler},
        task::{Changelog, Task},
    },
};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

/// How many records a task processes before the next one has its turn.
const RECORDS_A_TURN: usize = 500;

/// How many bytes of changes wait for a commit before it is made early.
const UNCOMMITTED_BYTES_MAX: usize = 16 << 20;

/// How often the state is made durable. After a crash of the machine what came since is read again from the changelogs.
const DURABLE_EVERY: Duration = Duration::from_secs(10);

/// How often records between sub-topologies that are done with are deleted.
const TRIM_EVERY: Duration = Duration::from_secs(30);

/// Pauses between two attempts: the first one, doubled up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A topic and the number of one of its partitions.
type Key = (Arc<str>, u32);

/// A task of this worker.
struct Running {
    task: Task,
    /// The partitions of its inputs that it has.
    inputs: BTreeSet<Key>,
    phase: Phase,
    counted: Counts,
    durable_since: Instant,
    /// Whether something was committed since its state was made durable.
    is_dirty: bool,
}

enum Phase {
    /// Where the group is in its inputs is not known yet.
    New,
    /// Its stores are read from their changelogs, of which these are left.
    Restoring(Vec<Restoring>),
    Running,
}

struct Restoring {
    store: usize,
    changelog: Key,
}

/// What one thread has.
pub(super) struct Worker {
    shared: Arc<Shared>,
    number: WorkerNumber,
    member: Option<Assignee>,
    inputs: Inputs,
    tasks: BTreeMap<TaskId, Running>,
    /// Where the group is in the inputs, as it was committed.
    positions: BTreeMap<Key, u64>,
    trimmed: Instant,
    /// The task that had its turn last.
    served: Option<TaskId>,
}

/// Why a unit of work ended.
enum End {
    /// What was committed holds, and can be gone on from.
    Again(client::Error),
    /// It would fail again.
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        match error {
            Error::Client(error) if passes(&error) => End::Again(error),
            error => End::Failed(error),
        }
    }
}

impl From<client::Error> for End {
    fn from(error: client::Error) -> End {
        Error::Client(error).into()
    }
}

/// Whether an error may be gone at the next attempt: of what the broker refuses, what has to do with who asks, and when.
pub(super) fn passes(error: &client::Error) -> bool {
    const CODES: [&str; 12] = [
        // Of the group as the broker knew it before a restart nothing was kept.
        "GROUP_ID_NOT_FOUND",
        "UNKNOWN_MEMBER_ID",
        "ILLEGAL_GENERATION",
        "REBALANCE_IN_PROGRESS",
        "INVALID_PRODUCER_EPOCH",
        "PRODUCER_FENCED",
        "INVALID_TXN_STATE",
        "INVALID_PRODUCER_ID_MAPPING",
        "CONCURRENT_TRANSACTIONS",
        "REQUEST_TIMED_OUT",
        "UNKNOWN_PRODUCER_ID",
        "KAFKA_STORAGE_ERROR",
    ];
    match error {
        client::Error::Connection { .. } | client::Error::Aborted(_) => true,
        client::Error::Refused(refused) => CODES.contains(&&*refused.code),
        _ => false,
    }
}

impl Worker {
    pub(super) fn new(shared: &Arc<Shared>, number: WorkerNumber) -> Worker {
        let inputs = Inputs::new(&shared.site);
        Worker {
            shared: shared.clone(),
            number,
            member: None,
            inputs,
            tasks: BTreeMap::new(),
            positions: BTreeMap::new(),
            trimmed: Instant::now(),
            served: None,
        }
    }

    /// Runs until the application is to stop, or something fails that would fail again.
    pub(super) fn run(mut self) -> Result<(), Error> {
        self.shared.add_waiter(self.inputs.waiter());
        let mut sender = None;
        let mut pause = PAUSES.0;
        loop {
            let again = match self.work(&mut sender, &mut pause) {
                Ok(()) => {
                    self.let_all_go();
                    return self.member.take().map_or(Ok(()), |member| Ok(member.leave()?));
                }
                Err(End::Again(error)) => error,
                Err(End::Failed(error)) => {
                    drop(sender);
                    self.let_all_go();
                    drop(self.member.take().map(Assignee::leave));
                    return Err(error);
                }
            };
            // All begins anew: the member too, so that nobody waits for one who cannot commit.
            self.shared.trouble(Some(again.to_string()));
            (self.member, sender) = (None, None);
            self.let_all_go();
            self.inputs.waiter().wait(Some(Instant::now() + pause));
            pause = (pause * 2).min(PAUSES.1);
            if self.shared.is_stopping() {
                return Ok(());
            }
        }
    }

    fn work(&mut self, sender: &mut Option<Sender>, pause: &mut Duration) -> Result<(), End> {
        let Shared { site, plan, partitions, options, .. } = &*self.shared.clone();
        if sender.is_none() {
            let id = format!("{}-{:016x}-{}", plan.application, self.shared.identity.number, self.number);
            *sender = Some(Sender::new(site, options.guarantee, &id)?);
        }
        if self.member.is_none() {
            let topics: BTreeSet<&Arc<str>> =
                plan.subtopologies.iter().flat_map(|part| &part.inputs).map(|input| &input.topic).collect();
            let topics: Vec<_> = topics.into_iter().cloned().collect();
            debug_assert!(topics.iter().all(|topic| partitions.contains_key(topic)));
            let member = Assignee::join(site, &plan.application, &topics)?;
            self.shared.joined(self.number, member.id());
            self.member = Some(member);
        }
        let sender = sender.as_mut().expect("it was made");
        loop {
            self.take_up()?;
            self.look_up()?;
            self.unit(sender)?;
            self.shared.trouble(None);
            *pause = PAUSES.0;
            if self.shared.is_stopping() {
                return Ok(());
            }
            self.trim()?;
            self.member.as_mut().expect("it has joined").keep()?;
        }
    }

    /// Makes tasks for what was assigned, and lets those go whose partitions are another's now.
    fn take_up(&mut self) -> Result<(), Error> {
        let shared = self.shared.clone();
        let member = self.member.as_ref().expect("it has joined");
        let assigned: BTreeSet<Key> =
            member.assigned().into_iter().map(|(topic, partition)| (topic.into(), partition)).collect();
        let mut wanted: BTreeMap<TaskId, BTreeSet<Key>> = BTreeMap::new();
        for part in &shared.plan.subtopologies {
            let topics: BTreeSet<&Arc<str>> = part.inputs.iter().map(|input| &input.topic).collect();
            for key in assigned.iter().filter(|(topic, _)| topics.contains(topic)) {
                let id = TaskId { subtopology: part.id, partition: key.1 };
                wanted.entry(id).or_default().insert(key.clone());
            }
            // One with state waits until all of its inputs are here.
            let inputs = topics.len();
            wanted.retain(|id, keys| id.subtopology != part.id || part.stores.is_empty() || keys.len() == inputs);
        }
        let gone: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(id, running)| wanted.get(id) != Some(&running.inputs))
            .map(|(id, _)| *id)
            .collect();
        gone.into_iter().try_for_each(|id| self.let_go(id))?;
        for (id, inputs) in wanted {
            if self.tasks.contains_key(&id) {
                continue;
            }
            let part = &shared.plan.subtopologies[id.subtopology];
            if let Some(store) =
                part.stores.first().filter(|_| inputs.iter().any(|(topic, p)| *p >= shared.partitions[topic]))
            {
                let (topic, partition) = inputs.first().expect("a task has inputs");
                return Err(Error::Topology(format!(
                    "{topic} was given partition {partition}, for which the store {} has no changelog: stop all that run {}, and reset it",
                    store.name, shared.plan.application
                )));
            }
            let state = shared.states.acquire(id, self.number)?;
            let mut task = Task::new(&shared.plan, id, &shared.options.of_tasks(), state, &shared.globals);
            for input in part.inputs.iter().filter(|input| !inputs.iter().any(|(topic, _)| *topic == input.topic)) {
                task.set_absent(&input.topic);
            }
            let (phase, durable_since) = (Phase::New, Instant::now());
            let running = Running { task, inputs, phase, counted: Counts::default(), durable_since, is_dirty: false };
            self.tasks.insert(id, running);
        }
        Ok(())
    }

    fn let_go(&mut self, id: TaskId) -> Result<(), Error> {
        let Some(mut running) = self.tasks.remove(&id) else { return Ok(()) };
        for (topic, partition) in &running.inputs {
            self.inputs.close(topic, *partition);
            self.positions.remove(&(topic.clone(), *partition));
        }
        if let Phase::Restoring(left) = &running.phase {
            left.iter().for_each(|one| self.inputs.close(&one.changelog.0, one.changelog.1));
        }
        let commit = || if running.is_dirty { running.task.commit(&[], true) } else { Ok(()) };
        let kept = self.shared.states.commit(id, self.number, commit);
        drop(running);
        self.shared.states.release(id, self.number);
        kept
    }

    /// What was not committed is forgotten with the tasks.
    fn let_all_go(&mut self) {
        for id in self.tasks.keys().copied().collect::<Vec<_>>() {
            if let Some(running) = self.tasks.get_mut(&id) {
                running.task.rollback();
            }
            if let Err(error) = self.let_go(id) {
                self.shared.trouble(Some(error.to_string()));
            }
        }
    }

    /// Looks where the group is in the inputs of new tasks.
    fn look_up(&mut self) -> Result<(), Error> {
        if self.tasks.values().any(|running| matches!(running.phase, Phase::New)) {
            let member = self.member.as_mut().expect("it has joined");
            let found = member.committed()?.into_iter();
            let committed: BTreeMap<Key, CommittedAt> =
                found.map(|(topic, partition, at)| ((topic.into(), partition), at)).collect();
            for running in self.tasks.values_mut().filter(|running| matches!(running.phase, Phase::New)) {
                // What is not told, though it was given to this member, cannot be looked at just now.
                let is_settled = |key: &Key| committed.get(key).is_some_and(|at| !at.is_pending);
                if !running.inputs.iter().all(is_settled) {
                    continue;
                }
                for key in &running.inputs {
                    let offset = committed[key].offset;
                    self.positions.extend(offset.map(|offset| (key.clone(), offset)));
                    self.inputs.open(&key.0, key.1, offset.map_or(Position::Earliest, Position::Offset))?;
                }
                let mut left = Vec::new();
                for changelog in running.task.changelogs()? {
                    let key = (Arc::from(&*changelog.topic), running.task.id().partition);
                    self.inputs.open(&key.0, key.1, changelog.next.map_or(Position::Earliest, Position::Offset))?;
                    left.push(Restoring { store: changelog.store, changelog: key });
                }
                running.phase = Phase::Restoring(left);
            }
        }
        Ok(())
    }

    /// Reads on in the changelogs of tasks whose stores are behind them; whether anything came.
    fn restore(&mut self) -> Result<bool, Error> {
        let (mut any, mut ahead) = (false, BTreeSet::new());
        for (id, running) in &mut self.tasks {
            let Phase::Restoring(left) = &mut running.phase else { continue };
            let mut at = 0;
            while at < left.len() {
                let Restoring { store, changelog: (topic, partition) } = &left[at];
                match self.inputs.take(topic, *partition) {
                    Err(client::Error::Skipped { wanted, reason, .. }) if reason.code == "CORRUPT_MESSAGE" => {
                        let why = format!("the changelog {topic}/{partition} is damaged at offset {wanted}: {reason}");
                        return Err(Error::State(why));
                    }
                    // What compaction and retention took is not needed.
                    Err(client::Error::Skipped { wanted, next, .. }) if next >= wanted => {}
                    Err(client::Error::Skipped { .. }) => {
                        ahead.insert(*id);
                        at += 1;
                    }
                    Err(error) => return Err(error.into()),
                    Ok(None) => at += 1,
                    Ok(Some(Arrival { messages, at_end })) => {
                        any = true;
                        if let Some(last) = messages.last() {
                            running.task.restore(*store, &messages, last.offset + 1)?;
                            running.is_dirty = true;
                            self.shared.count(|totals| totals.restored += messages.len() as u64);
                        }
                        if at_end {
                            self.inputs.close(topic, *partition);
                            left.swap_remove(at);
                        } else {
                            // The others, and the session, have their turn.
                            at += 1;
                        }
                    }
                }
            }
            if left.is_empty() && !ahead.contains(id) {
                running.task.start(self.shared.now_ms())?;
                running.phase = Phase::Running;
                self.shared.states.ready(*id, self.number);
            }
        }
        // The changelog has lost what the state still has, and so the state is of records that will be processed again.
        for id in ahead {
            self.tasks.get_mut(&id).into_iter().for_each(|running| running.is_dirty = false);
            self.shared.states.discard(id, self.number);
            self.let_go(id)?;
        }
        Ok(any)
    }

    /// Hands tasks what has come; whether anything did.
    fn fetch(&mut self) -> Result<bool, Error> {
        let mut any = false;
        for running in self.tasks.values_mut().filter(|running| running.is_running()) {
            for (topic, partition) in &running.inputs {
                while !running.task.is_full(topic) {
                    let Some(Arrival { messages, at_end }) = take(&mut self.inputs, topic, *partition)? else { break };
                    any = true;
                    messages.into_iter().for_each(|message| running.task.add(message));
                    running.task.set_at_end(topic, at_end);
                }
            }
        }
        Ok(any)
    }

    /// Processes until the interval is over, and commits. What is ready when the application stops is left.
    fn unit(&mut self, sender: &mut Sender) -> Result<(), End> {
        let shared = self.shared.clone();
        let interval = shared.options.commit_interval;
        let until = Instant::now() + interval;
        loop {
            let is_busy = self.restore()? | self.fetch()?;
            let now = shared.now_ms();
            if self.tasks.values_mut().any(|running| running.has_work(now)) {
                break;
            }
            if shared.is_stopping() || Instant::now() >= until {
                return Ok(());
            }
            if !is_busy {
                self.inputs.wait(self.due(now).map_or(until, |due| due.min(until)));
            }
        }
        let mut unit = sender.begin()?;
        let until = Instant::now() + interval;
        loop {
            match self.turns(&mut unit, until)? {
                Turn::Panicked { task, reason } => {
                    drop(unit);
                    return self.go_back(task, reason);
                }
                Turn::Done { is_busy } => {
                    let is_busy = self.restore()? | self.fetch()? | is_busy;
                    let uncommitted: usize = self.tasks.values().map(|running| running.task.uncommitted()).sum();
                    if shared.is_stopping() || Instant::now() >= until || uncommitted >= UNCOMMITTED_BYTES_MAX {
                        break;
                    }
                    if !is_busy {
                        self.inputs.wait(self.due(shared.now_ms()).map_or(until, |due| due.min(until)));
                    }
                }
            }
        }
        self.commit(unit)
    }

    /// When a task is to be called by the clock on the wall.
    fn due(&self, now: i64) -> Option<Instant> {
        let due = self.tasks.values().filter(|running| running.is_running());
        let due = due.filter_map(|running| running.task.next_punctuation()).min()?;
        Some(Instant::now() + Duration::from_millis(due.saturating_sub(now).max(0) as u64))
    }

    /// Each task has its turn, which ends with the unit of work: a member that is busy for too long is taken for dead.
    fn turns(&mut self, unit: &mut Unit<'_>, until: Instant) -> Result<Turn, Error> {
        let now = self.shared.now_ms();
        let mut is_busy = false;
        // Who is behind the one that was served last comes first.
        let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
        let first = self.served.and_then(|served| ids.iter().position(|id| *id > served)).unwrap_or(0);
        for id in ids[first..].iter().chain(&ids[..first]) {
            if is_busy && Instant::now() >= until {
                break;
            }
            let Some(running) = self.tasks.get_mut(id).filter(|running| running.is_running()) else { continue };
            self.served = Some(*id);
            let task = &mut running.task;
            let turn = catch_unwind(AssertUnwindSafe(|| {
                let mut any = false;
                if task.next_punctuation().is_some_and(|due| due <= now) {
                    any |= task.punctuate(now, unit)?;
                }
                for _ in 0..RECORDS_A_TURN {
                    if !task.ready(now) {
                        break;
                    }
                    any |= task.process(now, unit)?;
                    if Instant::now() >= until {
                        break;
                    }
                }
                Ok::<_, Error>(any)
            }));
            match turn {
                Ok(any) => is_busy |= any?,
                Err(panic) => return Ok(Turn::Panicked { task: *id, reason: reason_of(&*panic) }),
            }
        }
        Ok(Turn::Done { is_busy })
    }

    /// A function of the topology panicked: what was not committed is forgotten. The record that it was about goes to the handler when
    /// it comes again.
    fn go_back(&mut self, id: TaskId, reason: String) -> Result<(), End> {
        let shared = self.shared.clone();
        let panicked = self.tasks.get(&id).and_then(|running| running.task.in_hand().cloned());
        let reason = format!("a panic: {reason}");
        let place = match panicked {
            Some(place) if shared.options.handlers.refused != Handler::Fail => place,
            Some(place) => return Err(End::Failed(Error::Record { place, failure: Failure::new(reason) })),
            None => return Err(End::Failed(Error::Topology(format!("the task {id} failed: {reason}")))),
        };
        for running in self.tasks.values_mut().filter(|running| running.is_running()) {
            running.task.rollback();
            for (topic, partition) in &running.inputs {
                let position = self.positions.get(&(topic.clone(), *partition)).copied();
                self.inputs.open(topic, *partition, position.map_or(Position::Earliest, Position::Offset))?;
            }
            running.task.start(shared.now_ms())?;
        }
        self.tasks.get_mut(&id).into_iter().for_each(|running| running.task.refuse(place.clone(), reason.clone()));
        Ok(())
    }

    fn commit(&mut self, mut unit: Unit<'_>) -> Result<(), End> {
        let shared = self.shared.clone();
        let begun = Instant::now();
        let running = || self.tasks.values().filter(|running| running.is_running());
        let mut offsets = Vec::new();
        for running in running() {
            let known = offsets.len();
            for (topic, next) in running.task.offsets() {
                let key = (topic.clone(), running.task.id().partition);
                if self.positions.get(&key) != Some(&next) {
                    offsets.push((key.0, key.1, next));
                }
            }
            let did_anything = running.task.uncommitted() > 0 || running.task.counts() != running.counted;
            if let (true, true, Some(key)) = (did_anything, offsets.len() == known, running.inputs.first()) {
                // What a clock led to has no offset of its own. With one the broker sees to it that nobody does it who is no member any
                // more, and that the next owner waits until it is known what became of it.
                offsets.push((key.0.clone(), key.1, self.positions.get(key).copied().unwrap_or(0)));
            }
        }
        for running in self.tasks.values_mut().filter(|running| running.is_running()) {
            running.task.flush(&mut unit.changelogs())?;
        }
        unit.flush()?;
        let mut ends = BTreeMap::new();
        for (id, running) in &self.tasks {
            let changelogs = running.task.changelogs()?;
            let end = |changelog: &Changelog| unit.end_of(&changelog.topic, id.partition);
            ends.insert(*id, changelogs.iter().map(end).collect::<Vec<_>>());
        }
        unit.commit(self.member.as_mut().expect("it has joined"), offsets.clone())?;
        for (topic, partition, next) in offsets {
            self.positions.insert((topic, partition), next);
        }
        let mut counts = Vec::new();
        for (id, running) in self.tasks.iter_mut().filter(|(_, running)| running.is_running()) {
            let is_due = running.durable_since.elapsed() >= DURABLE_EVERY || shared.is_stopping();
            running.is_dirty |= running.task.uncommitted() > 0;
            let durably = is_due && running.is_dirty;
            shared.states.commit(*id, self.number, || running.task.commit(&ends[id], durably))?;
            running.is_dirty &= !durably;
            if is_due {
                running.durable_since = Instant::now();
            }
            counts.push(std::mem::replace(&mut running.counted, running.task.counts()));
        }
        let before: Counts = counts.into_iter().sum();
        let now: Counts = self.tasks.values().map(|running| running.counted).sum();
        shared.count(|totals| totals.add(before, now, begun.elapsed()));
        Ok(())
    }

    /// Deletes what is done with in the topics between sub-topologies.
    fn trim(&mut self) -> Result<(), Error> {
        if self.trimmed.elapsed() < TRIM_EVERY {
            return Ok(());
        }
        self.trimmed = Instant::now();
        let Shared { site, plan, .. } = &*self.shared;
        for ((topic, partition), next) in &self.positions {
            if plan.repartitions.iter().any(|one| one.topic == *topic) {
                site.trim(topic, *partition, *next)?;
            }
        }
        Ok(())
    }
}

/// What came of the tasks' turns.
enum Turn {
    Done { is_busy: bool },
    Panicked { task: TaskId, reason: String },
}

impl Running {
    fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether a record, or a time that has come, waits for it.
    fn has_work(&mut self, now: i64) -> bool {
        self.is_running() && (self.task.ready(now) || self.task.next_punctuation().is_some_and(|due| due <= now))
    }
}

/// What has come from a partition. What is gone or damaged in it is passed over.
pub(super) fn take(inputs: &mut Inputs, topic: &Arc<str>, partition: u32) -> Result<Option<Arrival>, client::Error> {
    loop {
        match inputs.take(topic, partition) {
            Err(client::Error::Skipped { .. }) => {}
            taken => return taken,
        }
    }
}

/// What a panic said.
pub(super) fn reason_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
