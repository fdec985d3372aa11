//! Quotas as Kafka's clients feel them: the response says for how long the client is to wait (`throttle_time_ms`), and nothing more of
//! its connection is read until then (KIP-13, KIP-219; changes of topics: KIP-599).

use super::{Call, PRODUCE, Refusal, Stop, tell};
use crate::{broker, security::Quota};
use std::time::Duration;

/// How long the processor has worked for this thread. What it waited for is no work.
pub(super) fn processor_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(Duration::ZERO, Duration::from)
}

impl Call<'_, '_> {
    /// What the request of so many bytes has used goes to the client's quotas: it is told for how long it is to wait, and nothing more
    /// of its connection is read until then. `processor` is what [`processor_time`] told when it began.
    pub(super) fn slow_down(&mut self, bytes: usize, processor: Option<Duration>) -> Result<(), Stop> {
        let mut wait = self.wait;
        if self.api.key == PRODUCE {
            wait = wait.max(self.broker.charge(Quota::ProducedBytes, bytes as f64));
        }
        if let Some(before) = processor {
            let used = processor_time().saturating_sub(before);
            wait = wait.max(self.broker.charge(Quota::RequestTime, used.as_secs_f64()));
        }
        if wait.is_zero() {
            return Ok(());
        }
        tell(self.explained, || format!("has used up its quota: it is to wait for {} ms", wait.as_millis()));
        if let Some(at) = self.throttle_at {
            self.output.bytes[at..at + 4].copy_from_slice(&(wait.as_millis() as u32).to_be_bytes());
        }
        // Commits that share a sync with others would be answered after the wait.
        self.session.commits_follow = false;
        self.session.commits.make_durable(self.broker, self.output);
        self.output.slow_down(wait);
        Ok(())
    }

    /// Whether topics may be made, grown or dropped now. Who cannot be told otherwise, since its version is older than that, may, and
    /// waits afterwards.
    pub(super) fn may_change_topics(&mut self, told_from: i16) -> Result<(), Refusal> {
        if self.version < told_from {
            return Ok(());
        }
        self.broker.may_change_topics().map_err(|error| {
            if let broker::Error::TooFast(wait) = error {
                self.wait = self.wait.max(wait);
            }
            Refusal::from(error)
        })
    }

    /// Has the client wait for changes of topics that it could not be refused.
    pub(super) fn changed_topics(&mut self, told_from: i16) {
        if self.version < told_from {
            self.wait = self.wait.max(self.broker.charge(Quota::Changes, 0.0));
        }
    }
}
