//! What became of the records that a session has handed over to librdkafka, and waiting for it.
//!
//! The session adds records on its connection's thread; the producer's thread answers them, in any order.

use rdkafka::types::RDKafkaErrorCode;
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

/// The answers that one session waits for.
#[derive(Debug, Default)]
pub(super) struct Answers {
    state: Mutex<State>,
    /// So few bytes are unanswered as somebody waits for.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What is known of each record of each batch.
    batches: Vec<Vec<Outcome>>,
    /// Of records that are handed over and not answered.
    unanswered_bytes: usize,
    /// What was stored and not told by [`Answers::stored`] yet.
    stored: Stored,
    /// Somebody waits until no more than so many are.
    wanted: Option<usize>,
}

/// Records that were stored, and what they counted for while they were unanswered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is not known yet.
    Unanswered,
    /// The in-sync replicas have it, at this offset, if that was told.
    Stored(Option<u64>),
    /// It was refused, or time ran out.
    Failed(RDKafkaErrorCode),
}

/// Which record of which session an answer is for.
#[derive(Debug)]
pub(super) struct Asked {
    answers: Arc<Answers>,
    batch: u32,
    record: u32,
    /// What it counts for while it is unanswered. There are some even of an empty record.
    pub(super) bytes: usize,
}

impl Asked {
    /// The answer.
    pub(super) fn answer(&self, outcome: Outcome) {
        let mut state = self.answers.state();
        state.batches[self.batch as usize][self.record as usize] = outcome;
        state.unanswered_bytes -= self.bytes;
        if let Outcome::Stored(_) = outcome {
            state.stored.records += 1;
            state.stored.bytes += self.bytes as u64;
        }
        if state.wanted.is_some_and(|wanted| state.unanswered_bytes <= wanted) {
            state.wanted = None;
            self.answers.changed.notify_all();
        }
    }
}

impl Answers {
    /// Begins a batch of so many records.
    pub(super) fn begin(&self, records: usize) {
        self.state().batches.push(vec![Outcome::Unanswered; records]);
    }

    /// A record of the last batch is about to be handed over.
    pub(super) fn ask(self: &Arc<Answers>, record: usize, bytes: usize) -> Asked {
        let mut state = self.state();
        state.unanswered_bytes += bytes;
        let batch = state.batches.len() as u32 - 1;
        Asked { answers: self.clone(), batch, record: record as u32, bytes }
    }

    /// How many bytes are unanswered.
    pub(super) fn unanswered_bytes(&self) -> usize {
        self.state().unanswered_bytes
    }

    /// Waits until no more bytes than these are unanswered.
    pub(super) fn wait(&self, most: usize) {
        let mut state = self.state();
        while state.unanswered_bytes > most {
            state.wanted = Some(most);
            state = self.changed.wait(state).expect("no panic under the lock");
        }
    }

    /// Waits for an answer, or for so long.
    pub(super) fn wait_for_one(&self, time: Duration) {
        let mut state = self.state();
        state.wanted = Some(state.unanswered_bytes.saturating_sub(1));
        drop(self.changed.wait_timeout(state, time).expect("no panic under the lock"));
    }

    /// What was stored since this was asked last.
    pub(super) fn stored(&self) -> Stored {
        std::mem::take(&mut self.state().stored)
    }

    /// What became of a record.
    pub(super) fn outcome(&self, batch: u32, record: u32) -> Outcome {
        self.state().batches[batch as usize][record as usize]
    }

    /// How many records a batch has, and where the first and the last were stored.
    pub(super) fn summary(&self, batch: u32) -> String {
        let state = self.state();
        let outcomes = &state.batches[batch as usize];
        let stored: Vec<_> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Stored(offset) => Some(offset.map_or("-".into(), |offset| offset.to_string())),
                _ => None,
            })
            .collect();
        match (stored.first(), stored.last()) {
            (Some(first), Some(last)) => {
                format!("{} of {} records stored, at {first} to {last}", stored.len(), outcomes.len())
            }
            _ => format!("none of {} records stored", outcomes.len()),
        }
    }

    /// Forgets all of it; `false`: something is unanswered, and will be answered here.
    pub(super) fn clear(&self) -> bool {
        let mut state = self.state();
        let is_done = state.unanswered_bytes == 0;
        if is_done {
            state.batches.clear();
        }
        is_done
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_goes_on_when_so_little_is_unanswered() {
        let answers = Arc::new(Answers::default());
        answers.begin(3);
        let [first, second, third] = [0, 1, 2].map(|record| answers.ask(record, 10));
        assert!(!answers.clear(), "their answers come here");
        second.answer(Outcome::Stored(Some(7)));
        answers.wait(20);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                first.answer(Outcome::Failed(RDKafkaErrorCode::MessageTimedOut));
                third.answer(Outcome::Stored(None));
            });
            answers.wait(0);
        });
        let outcomes = [0, 1, 2].map(|record| answers.outcome(0, record));
        let failed = Outcome::Failed(RDKafkaErrorCode::MessageTimedOut);
        assert_eq!(outcomes, [failed, Outcome::Stored(Some(7)), Outcome::Stored(None)]);
        assert!(answers.clear());
    }
}
