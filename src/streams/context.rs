//! The nodes of a task at work: each gets an event, and hands on what comes of it.
//!
//! A node is typed, and so are its children; the graph between them is not. An event goes from one to the next by value, without
//! a box around it: what is looked up at each step is that the child takes events of these types, which the typed DSL promises.

use super::{
    error::{Failure, Place},
    event::Event,
    serde::Serde,
    store::{KeyValue, State, StoreId, Stores},
};
use crate::client::Record;
use std::{any::Any, collections::BTreeMap, fmt, iter::Sum, mem, sync::Arc, time::Duration};

/// What a step answers.
pub type Done = Result<(), Failure>;

/// The number of a node in the whole graph.
pub(super) type NodeId = usize;

/// A node of one task that takes events of these types.
pub(super) trait Process<K, V>: Send {
    /// Called once, before the first event.
    fn init(&mut self, _context: &mut Context) -> Done {
        Ok(())
    }

    /// Takes an event.
    fn process(&mut self, context: &mut Context, event: Event<K, V>) -> Done;

    /// A time that was asked for has come.
    fn punctuate(&mut self, _context: &mut Context, _at: Punctuation) -> Done {
        Ok(())
    }
}

/// A time that a processor asked to be called at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Punctuation {
    /// Which clock.
    pub clock: Clock,
    /// What it shows: milliseconds since 1970-01-01 UTC.
    pub time: i64,
}

/// By what time a processor is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The highest timestamp that the task has seen: it stands still while nothing arrives.
    Stream,
    /// The clock on the wall.
    Wall,
}

/// A node without its types.
pub(super) struct Slot {
    /// A `Box<dyn Process<K, V>>`.
    process: Box<dyn Any + Send>,
    init: fn(&mut (dyn Any + Send), &mut Context) -> Done,
    punctuate: fn(&mut (dyn Any + Send), &mut Context, Punctuation) -> Done,
}

type Typed<K, V> = Box<dyn Process<K, V>>;

impl Slot {
    pub(super) fn new<K: 'static, V: 'static>(process: impl Process<K, V> + 'static) -> Slot {
        let process: Typed<K, V> = Box::new(process);
        Slot {
            process: Box::new(process),
            init: |process, context| typed::<K, V>(process).init(context),
            punctuate: |process, context, at| typed::<K, V>(process).punctuate(context, at),
        }
    }
}

fn typed<K: 'static, V: 'static>(process: &mut (dyn Any + Send)) -> &mut Typed<K, V> {
    process.downcast_mut().expect("a node's parents hand it the types that it takes")
}

/// The state of each global table, by its name: one store each.
pub type Globals = BTreeMap<String, Arc<dyn State>>;

/// What a task's nodes are made with.
pub(super) struct Wiring<'a> {
    pub(super) stores: &'a Stores,
    pub(super) globals: &'a Globals,
}

impl Wiring<'_> {
    /// A store of the topology.
    pub(super) fn store(&self, name: &str) -> StoreId {
        self.stores.find(name).expect("a node's stores are in the task of the node")
    }

    /// The state of a global table of the topology.
    pub(super) fn global(&self, name: &str) -> Arc<dyn State> {
        self.globals.get(name).expect("whoever makes a task has the state of all global tables").clone()
    }
}

/// What a task counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Records that were processed.
    pub processed: u64,
    /// Records that came after their window had closed.
    pub late: u64,
    /// Records without the key or the value that an operator needs.
    pub skipped: u64,
    /// Records that failed and were left out, or went to the topic of dead letters.
    pub failed: u64,
    /// Records that went to topics, without those of changelogs.
    pub sent: u64,
}

/// A record that goes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The topic.
    pub topic: Arc<str>,
    /// The record. Where it names no partition, its key does.
    pub record: Record,
}

/// What a node sees of its task: stores, times, the record in hand, and its own children.
pub struct Context {
    pub(super) slots: Vec<Option<Slot>>,
    /// The children of each node.
    pub(super) children: Arc<[Vec<NodeId>]>,
    pub(super) stores: Stores,
    pub(super) current: NodeId,
    pub(super) task: TaskId,
    pub(super) place: Option<Place>,
    pub(super) stream_time: i64,
    pub(super) wall_time: i64,
    pub(super) schedule: Vec<Scheduled>,
    pub(super) outbox: Vec<Outgoing>,
    pub(super) counts: Counts,
}

/// Which task: a sub-topology, and the partition of all its inputs. `Display` has `0_1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// The number of the sub-topology.
    pub subtopology: usize,
    /// The partition.
    pub partition: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.subtopology, self.partition)
    }
}

/// A call that a node asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scheduled {
    pub(super) node: NodeId,
    pub(super) clock: Clock,
    pub(super) interval: i64,
    /// What the clock shows when it is due.
    pub(super) due: i64,
}

impl Context {
    /// The task.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// Where the record in hand came from; `None` in a punctuation.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// The highest timestamp of a record that the task took, in milliseconds since 1970-01-01 UTC; -1 before the first one.
    pub fn stream_time(&self) -> i64 {
        self.stream_time
    }

    /// The clock on the wall, in milliseconds since 1970-01-01 UTC: the test's own under a `TestDriver`.
    pub fn wall_time(&self) -> i64 {
        self.wall_time
    }

    /// A store of values by key that the processor named as its own. Fails where it did not.
    pub fn key_value<K: Serde, V: Serde>(&self, name: &str) -> Result<KeyValue<K, V>, Failure> {
        let store = self.stores.find(name).ok_or_else(|| Failure::new(format_args!("there is no store {name}")))?;
        Ok(KeyValue::new(store))
    }

    /// Has the processor's `punctuate` called whenever a clock is so much further (a millisecond at least): by stream time first
    /// with the first record, by the wall's first after the interval.
    pub fn schedule(&mut self, clock: Clock, interval: Duration) {
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let due = match clock {
            Clock::Wall => self.wall_time.saturating_add(interval),
            // With the first record.
            Clock::Stream => 0,
        };
        self.schedule.push(Scheduled { node: self.current, clock, interval, due });
    }

    /// Counts a record that came too late.
    pub(super) fn late(&mut self) -> Done {
        self.counts.late += 1;
        Ok(())
    }

    /// Counts a record without the key or the value that an operator needs.
    pub(super) fn skip(&mut self) -> Done {
        self.counts.skipped += 1;
        Ok(())
    }

    /// Hands an event to all children of the node at work.
    pub(super) fn forward<K: Clone + 'static, V: Clone + 'static>(&mut self, event: Event<K, V>) -> Done {
        let Some(last) = self.children[self.current].len().checked_sub(1) else { return Ok(()) };
        (0..last).try_for_each(|child| self.forward_to(child, event.clone()))?;
        self.forward_to(last, event)
    }

    /// Hands an event to one of the children of the node at work.
    pub(super) fn forward_to<K: Clone + 'static, V: Clone + 'static>(
        &mut self,
        child: usize,
        event: Event<K, V>,
    ) -> Done {
        match self.children[self.current].get(child).copied() {
            Some(child) => self.run(child, event),
            None => Ok(()),
        }
    }

    /// Hands an event to a node.
    pub(super) fn run<K: 'static, V: 'static>(&mut self, node: NodeId, event: Event<K, V>) -> Done {
        self.at_work(node, |slot, context| typed::<K, V>(&mut *slot.process).process(context, event))
    }

    pub(super) fn init(&mut self, node: NodeId) -> Done {
        self.at_work(node, |slot, context| (slot.init)(&mut *slot.process, context))
    }

    pub(super) fn punctuate(&mut self, node: NodeId, at: Punctuation) -> Done {
        self.at_work(node, |slot, context| (slot.punctuate)(&mut *slot.process, context, at))
    }

    /// A node is out of its slot while it works: the graph has no circles, so that nobody looks for it there.
    fn at_work(&mut self, node: NodeId, work: impl FnOnce(&mut Slot, &mut Context) -> Done) -> Done {
        let mut slot = self.slots[node].take().expect("a node is in its task, and does not hand events to itself");
        let before = mem::replace(&mut self.current, node);
        let done = work(&mut slot, self);
        self.current = before;
        self.slots[node] = Some(slot);
        done
    }
}

impl AsRef<Stores> for Context {
    fn as_ref(&self) -> &Stores {
        &self.stores
    }
}

impl AsMut<Stores> for Context {
    fn as_mut(&mut self) -> &mut Stores {
        &mut self.stores
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(all: I) -> Counts {
        all.fold(Counts::default(), |sum, one| Counts {
            processed: sum.processed + one.processed,
            late: sum.late + one.late,
            skipped: sum.skipped + one.skipped,
            failed: sum.failed + one.failed,
            sent: sum.sent + one.sent,
        })
    }
}
