//! A task: one sub-topology for one partition of its inputs. It does no input and no output of its own.
//!
//! Whoever runs tasks hands them records and takes from them what goes out:
//!
//! ```text
//! Plan::partitions                          which topics there are to be, with how many partitions
//! Task::new                                 state as it was last committed
//! Task::changelogs, restore                 what the state lacks, until each changelog is at its end
//! Task::start                               processors ask for their times
//! loop {
//!     Task::is_full, add, set_at_end        records of the inputs, in the order of each partition
//!     Task::ready, process                  one record; what comes of it goes to the Output
//!     Task::punctuate                       times that have come
//!     Task::flush                           now and then: the changelogs' records go to the Output,
//!     Task::offsets                         and with these offsets all of it is one transaction
//!     Task::commit                          once that counts: the state follows
//! }
//! Task::rollback                            where the transaction was aborted: the task is as it was committed;
//!                                           the records since the last offsets are handed in again
//! ```

use super::{
    context::{Clock, Context, Counts, Globals, Punctuation, TaskId, Wiring},
    error::{Error, Failure, FailureKind, Handler, Handlers, Place},
    event::Event,
    plan::{Plan, Subtopology},
    queue::{Queues, Taken},
    store::{State, StoreSpec, Stores, read_logged},
};
use crate::client::{Message, Record};
use std::{collections::BTreeMap, sync::Arc};

pub use super::context::Outgoing;

/// Where records go: the runtime sends them to the broker, a `TestDriver` keeps them.
pub trait Output {
    /// Takes a record. It counts once the transaction does that it belongs to.
    fn send(&mut self, record: Outgoing) -> Result<(), Error>;
}

/// What tasks do where the topology does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskOptions {
    /// What is done about records that fail.
    pub handlers: Handlers,
    /// How many milliseconds an input without records is waited for, once it is at its end.
    pub max_idle: i64,
}

/// A changelog of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Changelog {
    /// The place of its store in the sub-topology's list.
    pub store: usize,
    /// The topic; its partition is the task's.
    pub topic: Arc<str>,
    /// The offset that the store lacks first; `None` where it lacks all.
    pub next: Option<u64>,
}

/// One sub-topology for one partition of its inputs.
pub struct Task {
    plan: Arc<Plan>,
    options: TaskOptions,
    globals: Globals,
    queues: Queues,
    /// The topic of each store's changelog.
    changelogs: Vec<Arc<str>>,
    context: Context,
    /// A record that is not processed, and why.
    refused: Vec<(Place, String)>,
}

impl Task {
    /// A task over state that has a store for each of the sub-topology's, in their order.
    pub fn new(plan: &Arc<Plan>, id: TaskId, options: &TaskOptions, state: Arc<dyn State>, globals: &Globals) -> Task {
        let part = &plan.subtopologies[id.subtopology];
        let mut task = Task {
            plan: plan.clone(),
            options: options.clone(),
            globals: globals.clone(),
            queues: Queues::new(&part.inputs),
            changelogs: part.stores.iter().map(|store| plan.changelog(&store.name).into()).collect(),
            context: Context {
                slots: Vec::new(),
                children: plan.children.clone(),
                stores: Stores::new(part.stores.clone(), state),
                current: 0,
                task: id,
                place: None,
                stream_time: -1,
                wall_time: 0,
                schedule: Vec::new(),
                outbox: Vec::new(),
                counts: Counts::default(),
            },
            refused: Vec::new(),
        };
        task.wire();
        task
    }

    /// Makes the nodes anew.
    fn wire(&mut self) {
        let wiring = Wiring { stores: &self.context.stores, globals: &self.globals };
        let mut slots: Vec<_> = self.plan.makes.iter().map(|_| None).collect();
        for node in &self.part().nodes {
            slots[*node] = Some((self.plan.makes[*node])(&wiring));
        }
        self.context.slots = slots;
    }

    fn part(&self) -> &Subtopology {
        &self.plan.subtopologies[self.context.task.subtopology]
    }

    /// Which task it is.
    pub fn id(&self) -> TaskId {
        self.context.task
    }

    /// The topics that it reads.
    pub fn inputs(&self) -> impl Iterator<Item = &Arc<str>> {
        self.part().inputs.iter().map(|input| &input.topic)
    }

    /// What it counted since it was made.
    pub fn counts(&self) -> Counts {
        self.context.counts
    }

    /// The highest timestamp that it took, in milliseconds since 1970-01-01 UTC; -1 before the first one.
    pub fn stream_time(&self) -> i64 {
        self.context.stream_time
    }

    /// The state that its stores are in, and what they are.
    pub fn state(&self) -> (&Arc<dyn State>, &[StoreSpec]) {
        (self.context.stores.state(), self.context.stores.specs())
    }

    /// The record that is being processed: after a panic in a function of the topology, the one that it was about.
    pub fn in_hand(&self) -> Option<&Place> {
        self.context.place()
    }

    /// Has a record that panicked treated as one that failed, when it is handed in again after the rollback.
    pub fn refuse(&mut self, place: Place, reason: String) {
        self.refused.push((place, reason));
    }

    /// The changelogs of its stores.
    pub fn changelogs(&self) -> Result<Vec<Changelog>, Error> {
        let changelog = |(store, topic): (usize, &Arc<str>)| {
            let next = self.context.stores.state().offset(store).map_err(Error::State)?;
            Ok(Changelog { store, topic: topic.clone(), next })
        };
        self.changelogs.iter().enumerate().map(changelog).collect()
    }

    /// The topics of the changelogs of its stores, in their order.
    pub fn changelog_topics(&self) -> &[Arc<str>] {
        &self.changelogs
    }

    /// Brings a store up to the offset `next` of its changelog. Not durable yet.
    pub fn restore(&mut self, store: usize, records: &[Message], next: u64) -> Result<(), Error> {
        let spec = &self.context.stores.specs()[store];
        let mut entries = BTreeMap::new();
        for record in records {
            let (key, value) = read_logged(spec, record).map_err(|why| {
                Error::State(format!("the changelog of {} at offset {}: {why}", spec.name, record.offset))
            })?;
            entries.insert(key, value);
        }
        let change = super::store::Changes { store, purge: None, entries: &entries, offset: Some(next) };
        let time = records.iter().map(|record| record.timestamp).max().unwrap_or(-1);
        self.context.stores.state().commit(&[change], time, false).map_err(Error::State)
    }

    /// Lets the processors begin: called once, when the state is restored. `now` is the clock on the wall, in milliseconds since
    /// 1970-01-01 UTC, here and below.
    pub fn start(&mut self, now: i64) -> Result<(), Error> {
        self.context.wall_time = now;
        // What was late stays late.
        self.context.stream_time = self.context.stores.state().time().map_err(Error::State)?;
        self.context.stores.start().map_err(Error::State)?;
        for node in self.part().nodes.clone() {
            let done = self.context.init(node);
            done.map_err(|failure| Error::Topology(format!("{} does not begin: {failure}", self.plan.names[node])))?;
        }
        Ok(())
    }

    /// Takes a record of one of the inputs in. Records of a topic come in the order of their offsets.
    pub fn add(&mut self, message: Message) {
        let known = self.queues.add(message);
        debug_assert!(known, "a task gets records of its inputs");
    }

    /// Whether so many records of a topic wait, or so large ones, that no more are to be handed in.
    pub fn is_full(&self, topic: &str) -> bool {
        self.queues.is_full(topic)
    }

    /// Says that a topic has no partition of this number, so that nothing is waited for there.
    pub fn set_absent(&mut self, topic: &str) {
        self.queues.set_absent(topic);
    }

    /// Says whether all that is in the topic has been handed in.
    pub fn set_at_end(&mut self, topic: &str, at_end: bool) {
        self.queues.set_at_end(topic, at_end);
    }

    /// Whether a record can be processed: where an input has none, it is waited for until it has been at its end for
    /// [`TaskOptions::max_idle`].
    pub fn ready(&mut self, now: i64) -> bool {
        self.queues.ready(now, self.options.max_idle)
    }

    /// Processes the waiting record with the lowest timestamp; answers whether there was one. An error leaves the task with what
    /// counted before the record: it is to be rolled back, or dropped.
    pub fn process(&mut self, now: i64, output: &mut dyn Output) -> Result<bool, Error> {
        let Some(Taken { input, message, time }) = self.queues.take() else { return Ok(false) };
        let Message { topic, partition, offset, timestamp, key, value, headers } = message;
        let place = Place { topic, partition, offset };
        let node = self.part().inputs[input].node;
        self.context.wall_time = now;
        let refused = self.refused.iter().find(|(refused, _)| *refused == place);
        let (timestamp, failure) = match time {
            Ok(time) => (time, refused.map(|(_, reason)| Failure::new(reason))),
            Err(failure) => (timestamp, Some(failure)),
        };
        let event = Event { key, value, timestamp, headers };
        let done = match failure {
            Some(failure) => Err((failure, event)),
            None => {
                self.context.stream_time = self.context.stream_time.max(timestamp);
                self.context.place = Some(place.clone());
                // A copy for the topic of dead letters, where there may be one.
                let copy = self.may_go_to_dead_letters().then(|| event.clone());
                let done = self.context.run(node, event);
                done.map_err(|failure| (failure, copy.unwrap_or(Event::new(None, None, timestamp))))
            }
        };
        self.context.place = None;
        if let Err((failure, event)) = done {
            self.context.stores.undo();
            self.context.outbox.clear();
            self.give_up(place, failure, event)?;
        }
        self.context.counts.processed += 1;
        self.send(output)?;
        self.call_due(Clock::Stream, self.context.stream_time, output)?;
        Ok(true)
    }

    fn may_go_to_dead_letters(&self) -> bool {
        let Handlers { unreadable, refused } = &self.options.handlers;
        [unreadable, refused].iter().any(|handler| matches!(handler, Handler::DeadLetter(_)))
    }

    /// Does what the handler says about a record that failed.
    fn give_up(&mut self, place: Place, failure: Failure, event: Event<Vec<u8>, Vec<u8>>) -> Result<(), Error> {
        let handler = match failure.kind {
            FailureKind::Unreadable => &self.options.handlers.unreadable,
            FailureKind::Refused => &self.options.handlers.refused,
            FailureKind::State => return Err(Error::State(failure.reason)),
        };
        match handler {
            Handler::Fail => return Err(Error::Record { place, failure }),
            Handler::Skip => {}
            Handler::DeadLetter(topic) => {
                let record = dead_letter(&self.plan.application, &place, &failure.reason, event);
                self.context.outbox.push(Outgoing { topic: topic.as_str().into(), record });
            }
        }
        self.context.counts.failed += 1;
        Ok(())
    }

    /// Hands what the record in hand sent to the output: it counts now.
    fn send(&mut self, output: &mut dyn Output) -> Result<(), Error> {
        self.context.stores.keep();
        for record in self.context.outbox.drain(..) {
            self.context.counts.sent += 1;
            output.send(record)?;
        }
        Ok(())
    }

    /// Calls the processors whose times by the clock on the wall have come; answers whether there were any. Those by stream time
    /// are called as records are processed.
    pub fn punctuate(&mut self, now: i64, output: &mut dyn Output) -> Result<bool, Error> {
        self.context.wall_time = now;
        self.call_due(Clock::Wall, now, output)
    }

    fn call_due(&mut self, clock: Clock, time: i64, output: &mut dyn Output) -> Result<bool, Error> {
        let mut any = false;
        for at in 0..self.context.schedule.len() {
            let one = &mut self.context.schedule[at];
            if one.clock != clock || one.due > time {
                continue;
            }
            // Those that were missed are not made up for.
            one.due = one.due.saturating_add(((time - one.due) / one.interval + 1).saturating_mul(one.interval));
            let node = one.node;
            any = true;
            if let Err(failure) = self.context.punctuate(node, Punctuation { clock, time }) {
                self.context.stores.undo();
                self.context.outbox.clear();
                let name = &self.plan.names[node];
                return Err(match failure.kind {
                    FailureKind::State => Error::State(failure.reason),
                    _ => Error::Topology(format!("{name} failed at {time} of the {clock:?} clock: {failure}")),
                });
            }
            self.send(output)?;
        }
        Ok(any)
    }

    /// When `punctuate` has something to do next, in milliseconds since 1970-01-01 UTC.
    pub fn next_punctuation(&self) -> Option<i64> {
        self.context.schedule.iter().filter(|one| one.clock == Clock::Wall).map(|one| one.due).min()
    }

    /// About how many bytes of memory the changes take that wait for a commit; the runtime commits early where they are many.
    pub fn uncommitted(&self) -> usize {
        self.context.stores.uncommitted()
    }

    /// Sends what changed in the stores since the last commit to their changelogs: before a commit, and once.
    pub fn flush(&mut self, output: &mut dyn Output) -> Result<(), Error> {
        for logged in self.context.stores.logged() {
            let (value, timestamp) = match logged.value {
                Some((value, timestamp)) => (Some(value), timestamp),
                None => (None, self.context.stream_time),
            };
            let timestamp = Some(timestamp.max(0));
            let key = Some(logged.key);
            let record =
                Record { key, value, timestamp, partition: Some(self.context.task.partition), headers: Vec::new() };
            output.send(Outgoing { topic: self.changelogs[logged.store.0].clone(), record })?;
        }
        Ok(())
    }

    /// The offset of the first record of each topic that the next commit does not have; topics of which none was processed
    /// are left out.
    pub fn offsets(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.queues.offsets()
    }

    /// Commits the state, with the offset behind the last record of each store's changelog where one was sent or is known.
    pub fn commit(&mut self, changelogs: &[Option<u64>], durable: bool) -> Result<(), Error> {
        self.refused.clear();
        self.context.stores.commit(changelogs, self.context.stream_time, durable).map_err(Error::State)
    }

    /// Goes back to what was committed: what waits is forgotten, and `start` is to be called again.
    pub fn rollback(&mut self) {
        self.context.stream_time = -1;
        self.queues.clear();
        self.context.stores.forget();
        self.context.outbox.clear();
        self.context.schedule.clear();
        self.context.place = None;
        self.wire();
    }
}

/// A record that failed, as it goes to the topic of dead letters.
fn dead_letter(application: &str, place: &Place, reason: &str, event: Event<Vec<u8>, Vec<u8>>) -> Record {
    let Event { key, value, timestamp, mut headers } = event;
    let why = [("failed.reason", reason), ("failed.application", application), ("failed.place", &place.to_string())];
    headers.extend(why.map(|(name, value)| (name.as_bytes().to_vec().into(), Some(value.as_bytes().to_vec().into()))));
    Record { key, value, headers, timestamp: (timestamp >= 0).then_some(timestamp), partition: None }
}
