//! The text protocol: lines in, lines out. [`specification`] is its full description, which the tests run.
//!
//! ```text
//! bytes ── lines ──┬── PRODUCE, SEND ── writing: gathered, appended together, answered in order
//!                  ├── CONSUME, TAIL, FETCH ── reading: first completes what was gathered
//!                  ├── JOIN, POLL, COMMIT, ... ── groups: a membership in a group
//!                  ├── ACCEPT, RELEASE, ... ───── queues: a membership in a share group
//!                  ├── BEGIN, END, ABORT, ... ── transactions: what takes effect together
//!                  └── the other verbs ── one row each in the table of `verbs`
//! ```
//!
//! A line gets one answer, in the order of the lines. What a refused line asked for was not done.

#[cfg(feature = "users")]
mod acls;
mod groups;
mod help;
mod queues;
mod reading;
mod refusal;
mod serve;
mod stream;
mod topics;
mod transactions;
#[cfg(feature = "users")]
mod users;
mod verbs;
#[cfg(feature = "http")]
mod watched;
mod words;
mod writing;

pub use refusal::Refusal;
pub use serve::serve;
#[cfg(feature = "http")]
pub use verbs::name as verb_name;

#[doc = include_str!("../text.md")]
pub mod specification {}

use crate::{
    backend::{Backend, Membership, PartitionHandle, ReadSession, WriteSession},
    broker::ShareMembership,
    protocol::connection::Output,
    security::Quota,
};
use std::{io, time::Instant};
use transactions::Stage;
use writing::Answer;

/// What the text protocol keeps for a connection.
#[derive(Debug)]
struct Session {
    broker: Backend,
    /// Whether nobody knows yet who speaks: there are few verbs then.
    is_stranger: bool,
    /// What PRODUCE and CONSUME mean; USE changes it.
    current: Current,
    /// What was read last.
    read: ReadSession,
    /// What was written and is not durable yet.
    written: WriteSession,
    /// What the lines get that were not answered yet.
    answers: Vec<Answer>,
    /// As whom the connection numbers its records, once it has said PRODUCER.
    producer_id: Option<i64>,
    /// The transaction that the connection is in. It ends before the membership does.
    stage: Stage,
    /// The connection's place in a group.
    member: Option<Membership>,
    /// Its membership in a share group; it has one of the two at most.
    queue: Option<ShareMembership>,
    /// What it has acknowledged and is not durable yet.
    unsettled: Vec<queues::Unsettled>,
    /// Lines of one verb, carried out one after the other, that are not counted yet. They cost one look at the clock, as those do
    /// that are gathered.
    run: LineCount,
    /// When those arrived that are not counted yet, or when what came before them was answered.
    lap: Instant,
    /// With `--explain`: what the line at hand did, step by step.
    steps: Option<Vec<String>>,
    /// The line at hand, if somebody watches it.
    #[cfg(feature = "http")]
    watched: Option<watched::Watched>,
}

/// The connection's partition.
#[derive(Debug)]
enum Current {
    /// One by name; first use may make its topic. The partition is found at first use.
    Named(String, u32, Option<PartitionHandle>),
    /// A USE failed, and PRODUCE and CONSUME fail until one succeeds.
    Nothing,
}

impl Current {
    /// What PRODUCE and CONSUME are told when there is none.
    fn nothing() -> Refusal {
        Refusal::invalid("the last USE failed, so there is no partition; USE <topic>[/<p>] first")
    }
}

/// What becomes of the connection after a line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flow {
    /// It takes the next line.
    Next,
    /// It is closed.
    Close,
}

/// Why a verb did not end as asked.
#[derive(Debug)]
enum Stop {
    /// The client is told why.
    Refused(Refusal),
    /// The connection is broken.
    Broken(io::Error),
}

impl<E: Into<Refusal>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Refused(error.into())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Broken(error)
    }
}

/// Lines of a verb, and how many of them got an error.
#[derive(Debug)]
struct LineCount {
    /// The verb's number in the [table](verbs::VERBS).
    verb: usize,
    lines: u64,
    errors: u64,
}

impl LineCount {
    fn of(verb: usize) -> LineCount {
        LineCount { verb, lines: 0, errors: 0 }
    }
}

/// What a verb answers with.
type Answered = Result<Flow, Stop>;

impl Session {
    fn new(broker: &Backend) -> Session {
        Session {
            broker: broker.clone(),
            is_stranger: !broker.is_admitted(),
            current: Current::Named("messages".into(), 0, None),
            read: broker.read_session(),
            written: broker.write_session(),
            answers: Vec::new(),
            producer_id: None,
            stage: Stage::default(),
            member: None,
            queue: None,
            unsettled: Vec::new(),
            run: LineCount::of(verbs::NONE),
            lap: Instant::now(),
            steps: broker.config().explain.then(Vec::new),
            #[cfg(feature = "http")]
            watched: None,
        }
    }

    /// Counts the lines of one verb that were carried out so far.
    fn count_run(&mut self) {
        if self.run.lines > 0 {
            let run = std::mem::replace(&mut self.run, LineCount::of(verbs::NONE));
            self.count([run]);
        }
    }

    /// Counts lines that were answered now.
    fn count(&mut self, counts: impl IntoIterator<Item = LineCount>) {
        let mut took = None;
        for LineCount { verb, lines, errors } in counts.into_iter().filter(|count| count.lines > 0) {
            let took = *took.get_or_insert_with(|| {
                let now = Instant::now();
                now.duration_since(std::mem::replace(&mut self.lap, now))
            });
            let row = self.broker.metrics().text.row(verb);
            row.took.add(lines, took);
            row.errors.add(errors);
        }
    }

    /// So many bytes of records go to the client. It may have to wait for them.
    fn fetched(&self, bytes: usize, output: &mut Output<'_>) {
        output.slow_down(self.broker.charge(Quota::FetchedBytes, bytes));
    }

    /// The connection's partition, to be read.
    fn partition(&mut self) -> Result<PartitionHandle, Refusal> {
        let Current::Named(topic, index, found) = &mut self.current else { return Err(Current::nothing()) };
        if let Some(partition) = found.as_ref().filter(|partition| partition.still_there().is_ok()) {
            return Ok(partition.clone());
        }
        let partition = self.broker.find_partition(topic, *index)?;
        *found = Some(partition.clone());
        Ok(partition)
    }
}
