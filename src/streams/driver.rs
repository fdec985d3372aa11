//! A topology in memory, with time in the test's hand.

use super::{
    context::{Counts, Globals, Outgoing, TaskId},
    error::Error,
    event::Event,
    plan::Plan,
    serde::Serde,
    store::{KeyValueQuery, MemoryState, Part, SessionQuery, State, WindowQuery},
    task::{Output, Task, TaskOptions},
    topology::Topology,
};
use crate::client::{Message, Record};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Runs a topology without a broker, one partition of each topic. What is piped in is processed before the call returns.
///
/// ```
/// use plainlog::{
///     Record,
///     streams::{TestDriver, Topology},
/// };
///
/// let topology = Topology::new("shout");
/// topology.stream("lines").map_values(|line| line.to_uppercase()).to("loud");
///
/// let mut driver = TestDriver::new(&topology)?;
/// driver.pipe("lines", Record::new("hello").key("user-1").timestamp(0))?;
/// assert_eq!(driver.lines("loud"), ["user-1=HELLO @0"]);
/// # Ok::<(), plainlog::streams::Error>(())
/// ```
pub struct TestDriver {
    plan: Arc<Plan>,
    tasks: Vec<Task>,
    globals: Globals,
    kept: Kept,
    /// The clock on the wall.
    now: i64,
    /// The next offset of each topic.
    offsets: BTreeMap<Arc<str>, u64>,
}

/// What went out and was not read.
#[derive(Default)]
struct Kept {
    /// Every record, in order, for the topics that are read again.
    sent: VecDeque<Outgoing>,
    topics: BTreeMap<Arc<str>, VecDeque<Outgoing>>,
}

impl Output for Kept {
    fn send(&mut self, record: Outgoing) -> Result<(), Error> {
        self.sent.push_back(record);
        Ok(())
    }
}

impl TestDriver {
    /// Starts a topology; the clock on the wall stands at 0. Records that fail fail the call that piped them in.
    pub fn new(topology: &Topology) -> Result<TestDriver, Error> {
        Self::with_options(topology, &TaskOptions::default())
    }

    /// The same with handlers.
    pub fn with_options(topology: &Topology, options: &TaskOptions) -> Result<TestDriver, Error> {
        let plan = Arc::new(topology.plan()?);
        let globals: Globals = (plan.globals.iter())
            .map(|global| (global.store.clone(), Arc::new(MemoryState::new(1)) as Arc<dyn State>))
            .collect();
        let mut driver = TestDriver {
            plan: plan.clone(),
            tasks: Vec::new(),
            globals: globals.clone(),
            kept: Kept::default(),
            now: 0,
            offsets: BTreeMap::new(),
        };
        for part in &plan.subtopologies {
            let id = TaskId { subtopology: part.id, partition: 0 };
            let state = Arc::new(MemoryState::new(part.stores.len()));
            let mut task = Task::new(&plan, id, options, state, &globals);
            task.start(driver.now)?;
            driver.tasks.push(task);
        }
        Ok(driver)
    }

    /// Pipes a record in; one without a time is of the clock on the wall.
    pub fn pipe(&mut self, topic: &str, record: impl Into<Record>) -> Result<(), Error> {
        self.add(topic.into(), record.into())?;
        self.run()
    }

    /// Pipes records in that are there at once: those of the inputs are processed before what comes of them goes through topics.
    #[cfg(test)]
    pub(super) fn pipe_together(&mut self, records: Vec<(&str, Record)>) -> Result<(), Error> {
        records.into_iter().try_for_each(|(topic, record)| self.add(topic.into(), record))?;
        self.run()
    }

    fn add(&mut self, topic: Arc<str>, record: Record) -> Result<(), Error> {
        let next = self.offsets.entry(topic.clone()).or_default();
        let offset = *next;
        *next += 1;
        let Record { key, value, headers, timestamp, .. } = record;
        let timestamp = timestamp.unwrap_or(self.now);
        let message = Message { topic: topic.clone(), partition: 0, offset, timestamp, key, value, headers };
        let mut readers = self.tasks.iter_mut().filter(|task| task.inputs().any(|input| *input == topic)).peekable();
        let global = self.plan.globals.iter().find(|global| global.topic == topic);
        if let Some(global) = global {
            let failed = |place, failure| Err(Error::Record { place, failure });
            global.apply(&*self.globals[&global.store], std::slice::from_ref(&message), offset + 1, failed)?;
        }
        if readers.peek().is_none() && global.is_none() {
            return Err(Error::Topology(format!("nobody reads the topic {topic}")));
        }
        readers.for_each(|task| task.add(message.clone()));
        Ok(())
    }

    /// Processes all that waits, and what comes of it.
    fn run(&mut self) -> Result<(), Error> {
        loop {
            let mut any = false;
            for at in 0..self.tasks.len() {
                while self.tasks[at].process(self.now, &mut self.kept)? {
                    any = true;
                }
            }
            self.hand_out()?;
            if !any {
                break;
            }
        }
        for task in &mut self.tasks {
            task.flush(&mut self.kept)?;
            task.commit(&[], false)?;
        }
        self.hand_out()
    }

    /// Sorts what was sent into topics; what is read again is handed in.
    fn hand_out(&mut self) -> Result<(), Error> {
        while let Some(outgoing) = self.kept.sent.pop_front() {
            let topic = outgoing.topic.clone();
            if self.tasks.iter().any(|task| task.inputs().any(|input| *input == topic)) {
                self.add(topic.clone(), outgoing.record.clone())?;
            }
            self.kept.topics.entry(topic).or_default().push_back(outgoing);
        }
        Ok(())
    }

    /// Lets the clock on the wall go on.
    pub fn advance(&mut self, by: Duration) -> Result<(), Error> {
        self.now = self.now.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
        for task in &mut self.tasks {
            task.punctuate(self.now, &mut self.kept)?;
        }
        self.hand_out()?;
        self.run()
    }

    /// Takes the next record of a topic that was written, changelogs too.
    pub fn read<K: Serde, V: Serde>(&mut self, topic: &str) -> Result<Option<Event<K, V>>, Error> {
        let Some(Outgoing { record, .. }) = self.kept.topics.get_mut(topic).and_then(VecDeque::pop_front) else {
            return Ok(None);
        };
        let failed = |why: String| Error::State(format!("a record of {topic}: {why}"));
        let key = record.key.map(|key| K::from_bytes(&key)).transpose().map_err(failed)?;
        let value = record.value.map(|value| V::from_bytes(&value)).transpose().map_err(failed)?;
        Ok(Some(Event { key, value, timestamp: record.timestamp.unwrap_or(self.now), headers: record.headers }))
    }

    /// Takes all records of a topic, each as `key=value @timestamp`; null is `-`.
    pub fn lines(&mut self, topic: &str) -> Vec<String> {
        let word =
            |bytes: Option<Vec<u8>>| bytes.map_or("-".into(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
        let taken = self.kept.topics.remove(topic).unwrap_or_default().into_iter().map(|outgoing| outgoing.record);
        taken
            .map(|record| {
                let time = record.timestamp.unwrap_or(self.now);
                format!("{}={} @{time}", word(record.key), word(record.value))
            })
            .collect()
    }

    /// A store of values by key.
    pub fn key_value_store<K: Serde, V: Serde>(&self, name: &str) -> Result<KeyValueQuery<K, V>, Error> {
        KeyValueQuery::new(self.plan.store(name), self.parts(), name)
    }

    /// A store of windows.
    pub fn window_store<K: Serde, V: Serde>(&self, name: &str) -> Result<WindowQuery<K, V>, Error> {
        WindowQuery::new(self.plan.store(name), self.parts(), name)
    }

    /// A store of sessions.
    pub fn session_store<K: Serde, V: Serde>(&self, name: &str) -> Result<SessionQuery<K, V>, Error> {
        SessionQuery::new(self.plan.store(name), self.parts(), name)
    }

    fn parts(&self) -> Vec<Part> {
        let part = |task: &Task| {
            let (state, specs) = task.state();
            (state.clone(), specs.to_vec())
        };
        self.tasks.iter().map(part).collect()
    }

    /// What all tasks counted together.
    pub fn counts(&self) -> Counts {
        self.tasks.iter().map(Task::counts).sum()
    }

    /// The plan that it runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}
