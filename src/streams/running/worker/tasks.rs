//! The tasks of a worker: which it has, and how each comes to where it was committed last.

use super::{DURABLE_EVERY, Worker};
use crate::{
    client::{
        self, Message, Position,
        processing::{Arrival, CommittedAt, Key},
    },
    streams::{
        context::{Counts, TaskId},
        error::Error,
        queue::size,
        task::Task,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

/// How many bytes of a changelog's records are gathered before they go into their store together: what is next to each other in it is
/// written once.
const RESTORED_BYTES: usize = 4 << 20;

/// A task of this worker.
pub(super) struct Running {
    pub(super) task: Task,
    /// The partitions of its inputs that it has.
    pub(super) inputs: BTreeSet<Key>,
    pub(super) phase: Phase,
    pub(super) counted: Counts,
    pub(super) durable_since: Instant,
    /// Whether something was committed since its state was made durable.
    pub(super) is_dirty: bool,
}

pub(super) enum Phase {
    /// Where the group is in its inputs is not known yet.
    New,
    /// Its stores are read from their changelogs, of which these are left.
    Restoring(Vec<Restoring>),
    Running,
}

pub(super) struct Restoring {
    pub(super) store: usize,
    pub(super) changelog: Key,
    /// What was read of it and is not in the store yet,
    pub(super) gathered: Vec<Message>,
    /// and how many bytes of memory that takes.
    pub(super) bytes: usize,
}

impl Running {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether a record, or a time that has come, waits for it.
    pub(super) fn has_work(&mut self, now: i64) -> bool {
        self.is_running() && (self.task.ready(now) || self.task.next_punctuation().is_some_and(|due| due <= now))
    }
}

impl Worker {
    /// Makes tasks for what was assigned, and lets those go whose partitions are another's now.
    pub(super) fn take_up(&mut self) -> Result<(), Error> {
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

    pub(super) fn let_go(&mut self, id: TaskId) -> Result<(), Error> {
        let Some(mut running) = self.tasks.remove(&id) else { return Ok(()) };
        for key in &running.inputs {
            self.inputs.close(key);
            self.positions.remove(key);
        }
        if let Phase::Restoring(left) = &running.phase {
            left.iter().for_each(|one| self.inputs.close(&one.changelog));
        }
        let commit = || if running.is_dirty { running.task.commit(&[], true) } else { Ok(()) };
        let kept = self.shared.states.commit(id, self.number, commit);
        drop(running);
        self.shared.states.release(id, self.number);
        kept
    }

    /// What was not committed is forgotten with the tasks.
    pub(super) fn let_all_go(&mut self) {
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
    pub(super) fn look_up(&mut self) -> Result<(), Error> {
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
                    self.inputs.open(key, from(offset))?;
                }
                let mut left = Vec::new();
                for changelog in running.task.changelogs()? {
                    let key = (changelog.topic, running.task.id().partition);
                    self.inputs.open(&key, from(changelog.next))?;
                    left.push(Restoring { store: changelog.store, changelog: key, gathered: Vec::new(), bytes: 0 });
                }
                running.phase = Phase::Restoring(left);
            }
        }
        Ok(())
    }

    /// Reads on in the changelogs of tasks whose stores are behind them; whether anything came.
    pub(super) fn restore(&mut self) -> Result<bool, Error> {
        let (mut any, mut ahead) = (false, BTreeSet::new());
        for (id, running) in &mut self.tasks {
            let Phase::Restoring(left) = &mut running.phase else { continue };
            let mut at = 0;
            while at < left.len() {
                let Restoring { store, changelog, gathered, bytes } = &mut left[at];
                match self.inputs.take(changelog) {
                    Err(client::Error::Skipped { wanted, reason, .. }) if reason.code == "CORRUPT_MESSAGE" => {
                        let (topic, partition) = changelog;
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
                        *bytes += messages.iter().map(size).sum::<usize>();
                        gathered.extend(messages);
                        if let Some(last) = gathered.last().filter(|_| at_end || *bytes >= RESTORED_BYTES) {
                            running.task.restore(*store, gathered, last.offset + 1)?;
                            running.is_dirty = true;
                            self.shared.count(|totals| totals.restored += gathered.len() as u64);
                            (*gathered, *bytes) = (Vec::new(), 0);
                            if running.durable_since.elapsed() >= DURABLE_EVERY {
                                // So that a crash in the midst of a long way does not begin it again.
                                running.task.commit(&[], true)?;
                                (running.is_dirty, running.durable_since) = (false, Instant::now());
                            }
                        }
                        if at_end {
                            self.inputs.close(changelog);
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
}

/// Where to go on reading: at an offset, or with the first record there is.
pub(super) fn from(offset: Option<u64>) -> Position {
    offset.map_or(Position::Earliest, Position::Offset)
}
