//! A unit of work: what is processed between two commits, and the commit.

use super::{DURABLE_EVERY, End, Worker, reason_of, take, tasks::from};
use crate::{
    client::processing::Arrival,
    streams::{
        context::{Counts, TaskId},
        error::{Error, Failure, Handler},
        running::{
            Shared,
            sending::{Sender, Unit},
        },
    },
};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

/// How many records a task processes before the next one has its turn.
const RECORDS_A_TURN: usize = 500;

/// How many bytes of changes of all tasks wait for a commit before it is made early.
const UNCOMMITTED_BYTES_MAX: usize = 16 << 20;

/// How often records between sub-topologies that are done with are deleted.
const TRIM_EVERY: Duration = Duration::from_secs(30);

/// What came of the tasks' turns.
enum Turn {
    Done { is_busy: bool },
    Panicked { task: TaskId, reason: String },
}

impl Worker {
    /// Hands tasks what has come; whether anything did.
    fn fetch(&mut self) -> Result<bool, Error> {
        let mut any = false;
        for running in self.tasks.values_mut().filter(|running| running.is_running()) {
            for key @ (topic, _) in &running.inputs {
                while !running.task.is_full(topic) {
                    let Some(Arrival { messages, at_end }) = take(&mut self.inputs, key)? else { break };
                    any = true;
                    messages.into_iter().for_each(|message| running.task.add(message));
                    running.task.set_at_end(topic, at_end);
                }
            }
        }
        Ok(any)
    }

    /// Processes until the interval is over, and commits. What is ready when the application stops is left.
    pub(super) fn unit(&mut self, sender: &mut Sender) -> Result<(), End> {
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
            for key in &running.inputs {
                self.inputs.open(key, from(self.positions.get(key).copied()))?;
            }
            running.task.start(shared.now_ms())?;
        }
        self.tasks.get_mut(&id).into_iter().for_each(|running| running.task.refuse(place.clone(), reason.clone()));
        Ok(())
    }

    fn commit(&mut self, mut unit: Unit<'_>) -> Result<(), End> {
        let shared = self.shared.clone();
        let begun = Instant::now();
        let mut offsets = Vec::new();
        for running in self.tasks.values().filter(|running| running.is_running()) {
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
        for (id, running) in self.tasks.iter().filter(|(_, running)| running.is_running()) {
            let end = |topic: &Arc<str>| unit.end_of(topic, id.partition);
            ends.insert(*id, running.task.changelog_topics().iter().map(end).collect::<Vec<_>>());
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
    pub(super) fn trim(&mut self) -> Result<(), Error> {
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
