//! What becomes of transactions as time passes, though nobody asks for them: those that are too old are aborted, markers that
//! could not be written are tried again, ids that nobody uses expire.

use super::{
    IdCell, Ids,
    ending::{Ended, RETRY},
    id_cell::{Hold, IdState},
    state_log,
};
use crate::{
    broker::{
        BrokerState, Partition, Result,
        transaction::{Cause, Phase, Starter},
    },
    log::record::{Records, shown},
};
use std::{
    sync::{Arc, atomic::Ordering::*},
    time::Duration,
};

/// How many lines are written at once where all ids get one.
const LINES_AT_ONCE: usize = 1000;

/// What time asks of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing, until this time, in ms.
    Later(i64),
    /// Its transaction is to be aborted.
    Abort(Cause),
    /// It could not be aborted for want of room.
    AbortAgain,
    /// Its markers are to be written.
    Markers,
    /// It is to be forgotten.
    Expire,
}

impl BrokerState {
    /// Maintenance looks at the ids after this time, or soon after.
    pub(super) fn look_at_transactions_in(&self, time: Duration) {
        self.look_at_transactions_at(self.env.in_ms(time));
    }

    /// The same, at a time of day in ms.
    fn look_at_transactions_at(&self, at_ms: i64) {
        if self.transactions.looks_at_ms.fetch_min(at_ms, AcqRel) > at_ms {
            self.env.schedule.transactions_in(self.env.until(at_ms));
        }
    }

    /// At a start: what the log says is to be gone on with, though nobody asks.
    pub(in crate::broker) fn resume_transactions(&self) {
        if !matches!(self.state_log(), Ok(None)) {
            self.look_at_transactions_in(Duration::ZERO);
        }
    }

    /// What time asks of all ids, and of partitions that were opened with an open transaction. Answers when to look
    /// again, in ms.
    pub(in crate::broker) fn look_after_transactions(&self) -> Result<Option<i64>> {
        self.transactions.looks_at_ms.store(i64::MAX, Release);
        let (now_ms, mut next_ms) = (self.env.clock.now_ms(), i64::MAX);
        for cell in self.id_cells()? {
            let due = self.due(&cell.read(), now_ms);
            let done = match due {
                Due::Later(at_ms) => {
                    next_ms = next_ms.min(at_ms);
                    continue;
                }
                Due::Abort(cause) => self.abort(&cell, cause).and_then(Ended::everywhere),
                Due::AbortAgain => self.abort_due(&cell),
                Due::Markers => self.go_on_ending(&cell),
                Due::Expire => self.expire(&cell, now_ms),
            };
            if let Err(error) = done {
                if !std::mem::replace(&mut cell.write().is_told, true) {
                    self.env.tell(&format!("transaction {}: {error}", shown(cell.name.as_bytes())));
                }
                next_ms = next_ms.min(self.env.in_ms(RETRY));
            } else if let Due::Later(at_ms) = self.due(&cell.read(), now_ms) {
                next_ms = next_ms.min(at_ms);
            }
        }
        if self.end_reopened()? {
            next_ms = next_ms.min(self.env.in_ms(RETRY));
        }
        Ok((next_ms < i64::MAX).then_some(next_ms))
    }

    /// Maintenance looks at the ids when time asks something of this one, which it may do already.
    pub(super) fn look_when_due(&self, state: &IdState) {
        let now_ms = self.env.clock.now_ms();
        let at_ms = match self.due(state, now_ms) {
            Due::Later(at_ms) => at_ms,
            _ => now_ms,
        };
        self.look_at_transactions_at(at_ms);
    }

    fn due(&self, state: &IdState, now_ms: i64) -> Due {
        let Some(known) = &state.known else { return Due::Later(i64::MAX) };
        let at = |at_ms: i64, due: Due| if at_ms <= now_ms { due } else { Due::Later(at_ms) };
        match (state.hold, &known.phase) {
            (Hold::Busy | Hold::InDoubt, _) => Due::Later(i64::MAX),
            (Hold::AbortDue, _) => Due::AbortAgain,
            (Hold::Free, Phase::Prepared { .. }) => Due::Markers,
            (Hold::Free, Phase::Ongoing { .. }) if known.starter == Starter::Text && !state.is_attended => {
                Due::Abort(Cause::Elsewhere)
            }
            (Hold::Free, Phase::Ongoing { .. }) => {
                at(known.times_out_ms().unwrap_or(i64::MAX), Due::Abort(Cause::TimedOut))
            }
            (Hold::Free, Phase::Empty | Phase::Completed { .. }) => {
                let kept_ms = i64::try_from(self.config.transactional_id_expiration.as_millis()).unwrap_or(i64::MAX);
                at(state.written_ms.saturating_add(kept_ms), Due::Expire)
            }
        }
    }

    /// Forgets an id that nobody used for long, if that is still so.
    fn expire(&self, cell: &Arc<IdCell>, now_ms: i64) -> Result<()> {
        let log = self.state_log_or_new()?;
        let mut state = cell.write();
        if self.due(&state, now_ms) != Due::Expire {
            return Ok(());
        }
        let written = state_log::write(&log, &cell.name, None)?;
        self.take_away(cell, &mut state);
        drop(state);
        written.make_durable()
    }

    /// After a crash that may have lost records or lines that were acknowledged: nobody goes on with a producer id that is in
    /// one log and not in another. The ids' lock is held, and each id's is taken within: nobody else knows them yet.
    pub(super) fn renew_all(&self, log: &Arc<Partition>, ids: &Ids) {
        let cells: Vec<_> = ids.by_name.values().collect();
        for cells in cells.chunks(LINES_AT_ONCE) {
            let mut records = Records::default();
            for cell in cells {
                let mut state = cell.write();
                state.known.iter_mut().for_each(|known| known.renew = true);
                state_log::push(&mut records, &cell.name, state.known.as_ref());
            }
            // Until the next crash it is known all the same.
            if let Err(error) = state_log::write_all(log, &records) {
                self.env.tell(&format!("transactional ids: {error}"));
            }
        }
    }
}
