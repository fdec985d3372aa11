//! How a topology is run.

use crate::streams::{error::Handlers, task::TaskOptions};
use std::{path::PathBuf, time::Duration};

/// What is promised about the results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// What a record leads to, in topics and in stores, takes effect once, whatever crashes: results, changelogs and offsets are one
    /// transaction. Whoever reads the results reads committed records, as plainlog's clients do unasked. Processing one record may take
    /// 10 s: then the broker takes the worker for hung, and aborts what it did.
    #[default]
    ExactlyOnce,
    /// Each record takes effect, after a crash perhaps again.
    AtLeastOnce,
}

/// How a topology is run.
///
/// ```
/// use plainlog::streams::Options;
///
/// let options = Options { threads: 2, state_dir: "state".into(), ..Options::default() };
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// What is promised about the results: exactly once.
    pub guarantee: Guarantee,
    /// How many threads share the tasks of this process: one. Other processes that run the same topology share them, too.
    pub threads: usize,
    /// Where the state is, in a folder of the topology's name: `streams`. Of a broker that runs in memory in this process the state is
    /// there, too. What is lost of it is read again from the changelogs.
    pub state_dir: PathBuf,
    /// How often results take effect: every 100 ms, and at least every 5 s.
    pub commit_interval: Duration,
    /// What is done about records that fail: the application stops.
    pub handlers: Handlers,
    /// How long a task waits for a record of an input without any, once it has read all that is there, so that records of several
    /// inputs are taken in the order of their times: not at all. (Kafka: `max.task.idle.ms`.)
    pub max_idle: Duration,
    /// How much memory caches what is on disk of the state, in bytes: 16 MiB. All tasks of the topology that have state share it
    /// equally, wherever they run, but each has 512 KiB at least.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            guarantee: Guarantee::ExactlyOnce,
            threads: 1,
            state_dir: "streams".into(),
            commit_interval: Duration::from_millis(100),
            handlers: Handlers::default(),
            max_idle: Duration::ZERO,
            cache_bytes: 16 << 20,
        }
    }
}

impl Options {
    /// The defaults, but each record takes effect at least once.
    pub fn at_least_once() -> Options {
        Options { guarantee: Guarantee::AtLeastOnce, ..Options::default() }
    }

    pub(super) fn of_tasks(&self) -> TaskOptions {
        let max_idle = i64::try_from(self.max_idle.as_millis()).unwrap_or(i64::MAX);
        TaskOptions { handlers: self.handlers.clone(), max_idle }
    }
}
