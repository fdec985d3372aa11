//! What a share group has of one partition (KIP-932), as a pure state machine: who holds which records, and how often each was
//! handed out.
//!
//! ```text
//!      start                                                     next
//! offset 17        18         19..22     23         24..29       30
//!        acquired  available  done       available  acquired     not looked at yet
//!        by a, 1st after 2               after 1    by b, 1st
//! ```
//!
//! It has no lock, clock or disk. `now` is an argument, in milliseconds of any clock that never goes back. Everything below the
//! start is done; everything from `next` on is still to be handed out for the first time; between them each record is in one of
//! four states:
//!
//! | state | event | then |
//! | --- | --- | --- |
//! | available | [`acquire`](SharePartition::acquire) | acquired, one delivery more |
//! | acquired | [`Accept`](Acknowledgement::Accept), [`Gap`](Acknowledgement::Gap) | done |
//! | acquired | [`Reject`](Acknowledgement::Reject) | done, and [dead](SharePartition::take_dead) |
//! | acquired | [`Release`](Acknowledgement::Release), the lock's time is over, the member is gone | available; after its last delivery done, and dead |
//! | acquired | [`Renew`](Acknowledgement::Renew) | acquired, its lock starts anew |
//! | dead letter to be | its time has come | done, and dead |
//! | done | | the start moves behind it when nothing before it is open |
//!
//! - A record is acquired by one member or none. Only that member acknowledges it.
//! - Deliveries are counted when a record is acquired and never fall, but for what [`give_back`](SharePartition::give_back) takes
//!   back before anybody was handed it.
//! - An acknowledgement is taken whole or not at all: whoever calls works on a copy and keeps it when the log has it.
//! - Records that were handed out often come in ever smaller numbers, at last one by one, so that one that nobody can process does
//!   not take others with it.
//! - At most [`Limits::locks`] records are between the start and `next`, so there are no more spans than that.

#[cfg(test)]
mod model_tests;
mod saved;
#[cfg(test)]
mod tests;

pub use saved::SavedShare;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// What a share group allows in each of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How often a record is handed out at most.
    pub deliveries: u32,
    /// How many records may be behind the start and handed out.
    pub locks: u64,
    /// How long a record is its member's, in ms.
    pub lock_ms: u64,
}

/// How much is to be acquired.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How many records.
    pub records: u64,
    /// Whether there may be no more; else new records come in whole batches.
    pub exactly: bool,
    /// Batches of fewer records are told together.
    pub batch: u64,
}

/// Records that follow one another without a gap, in one batch of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Offset of the first.
    pub first: u64,
    /// Offset of the last.
    pub last: u64,
    /// Whether another run of the same batch follows.
    pub goes_on: bool,
}

/// Records that a member has acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// Offset of the first.
    pub first: u64,
    /// Offset of the last.
    pub last: u64,
    /// How often they were handed out, this time included.
    pub deliveries: u32,
}

impl Acquired {
    /// How many there are.
    pub fn count(self) -> u64 {
        self.last - self.first + 1
    }
}

/// What becomes of records that a member has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// There is no record at this offset.
    Gap,
    /// They were processed.
    Accept,
    /// Somebody may have them again.
    Release,
    /// Nobody can process them.
    Reject,
    /// They are still being processed.
    Renew,
}

/// Records, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    /// Offset of the first.
    pub first: u64,
    /// Offset of the last.
    pub last: u64,
    /// What becomes of them.
    pub how: Acknowledgement,
}

/// Why an acknowledgement is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The member has not acquired this record.
    NotAcquired(u64),
    /// Nothing was handed out from this offset on.
    Past(u64),
}

/// Why a record is handed out no more, though nobody has processed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A member rejected it.
    Rejected,
    /// It was handed out as often as may be.
    Deliveries,
}

/// Records that nobody has processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// Their offsets.
    pub offsets: Range<u64>,
    /// How often they were handed out.
    pub deliveries: u32,
    /// Why they are handed out no more.
    pub cause: Cause,
}

/// What a group has of a partition.
#[derive(Clone, Debug, Default)]
pub struct SharePartition {
    start: u64,
    next: u64,
    /// By the first offset; without gaps from the start to `next`.
    spans: BTreeMap<u64, Span>,
    dead: Vec<Dead>,
}

/// Records that follow one another and have the same state.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    /// Offset behind the last.
    end: u64,
    state: State,
    deliveries: u32,
    /// What was handed out together at first.
    batch: Batch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    first: u64,
    records: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Available,
    Acquired {
        by: Arc<str>,
        until: u64,
    },
    /// It was handed out as often as may be, and waits to be a dead letter.
    Dead {
        until: u64,
    },
    Done,
}

impl Span {
    fn is_available(&self) -> bool {
        self.state == State::Available
    }

    fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn is_of(&self, member: &str) -> bool {
        matches!(&self.state, State::Acquired { by, .. } if **by == *member)
    }

    /// Whether the next one says the same of its records.
    fn goes_on_in(&self, next: &Span) -> bool {
        let same = self.deliveries == next.deliveries && self.batch == next.batch;
        self.state == next.state && (same || self.is_done())
    }

    /// How many of its records are handed out at once, if that is fewer than others: after half of the deliveries ever smaller
    /// halves of what was handed out together, and at last one.
    fn throttled(&self, limits: Limits) -> Option<u64> {
        let from = limits.deliveries.div_ceil(2).max(2);
        if limits.deliveries <= 2 || self.deliveries < from {
            return None;
        }
        let is_last = self.deliveries + 1 >= limits.deliveries;
        Some(if is_last { 1 } else { (self.batch.records >> (self.deliveries - from + 1)).max(1) })
    }
}

impl SharePartition {
    /// One that begins at an offset.
    pub fn new(start: u64) -> SharePartition {
        SharePartition { start, next: start, ..SharePartition::default() }
    }

    /// Everything below this offset is done.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Nothing from this offset on was handed out.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many records are acquired.
    pub fn acquired(&self) -> u64 {
        let acquired = self.spans.iter().filter(|(_, span)| matches!(span.state, State::Acquired { .. }));
        acquired.map(|(first, span)| span.end - first).sum()
    }

    /// Where to read for the next [`acquire`](Self::acquire); `None`: as many records as may be are on their way.
    pub fn next_fetch(&self, limits: Limits) -> Option<u64> {
        let available = self.spans.iter().find(|(_, span)| span.is_available()).map(|(&first, _)| first);
        available.or_else(|| (self.room(limits) > 0).then_some(self.next))
    }

    /// When the next lock's time is over.
    pub fn next_deadline(&self) -> Option<u64> {
        let until = |span: &Span| match span.state {
            State::Acquired { until, .. } | State::Dead { until } => Some(until),
            State::Available | State::Done => None,
        };
        self.spans.values().filter_map(until).min()
    }

    /// How many records may be handed out for the first time.
    fn room(&self, limits: Limits) -> u64 {
        limits.locks.saturating_sub(self.next - self.start)
    }

    /// A member acquires records of what was read: of the offsets `read`, in which these `runs` are all that there is.
    pub fn acquire(
        &mut self,
        now: u64,
        member: &Arc<str>,
        read: Range<u64>,
        runs: &[Run],
        wanted: Wanted,
        limits: Limits,
    ) -> Vec<Acquired> {
        self.pass_over_gaps(&read, runs);
        let mut taking =
            Taking { member, until: now.saturating_add(limits.lock_ms), wanted, acquired: vec![], count: 0 };
        let is_throttled = self.acquire_again(&read, limits, &mut taking);
        if !is_throttled {
            self.acquire_new(&read, runs, limits, &mut taking);
        }
        self.advance();
        taking.acquired
    }

    /// What is available and not there any more is done.
    fn pass_over_gaps(&mut self, read: &Range<u64>, runs: &[Run]) {
        let mut at = read.start;
        let ends = runs.iter().map(|run| (run.first, run.last + 1)).chain([(read.end, read.end)]);
        for (first, behind) in ends {
            let gap = at..first.min(self.next);
            if gap.start < gap.end && self.has_available(&gap) {
                self.change(gap, |span| {
                    if span.is_available() {
                        span.state = State::Done;
                    }
                });
            }
            at = at.max(behind);
        }
    }

    fn has_available(&self, offsets: &Range<u64>) -> bool {
        self.spans_in(offsets).any(|(_, span)| span.is_available())
    }

    /// Acquires what is available. Answers whether nothing else is to come with it.
    fn acquire_again(&mut self, read: &Range<u64>, limits: Limits, taking: &mut Taking<'_>) -> bool {
        let mut from = read.start;
        while taking.left() > 0 {
            let found = self.spans_in(&(from..read.end)).find(|(_, span)| span.is_available());
            let Some((first, span)) = found.map(|(first, span)| (first.max(from), span.clone())) else { return false };
            let throttled = span.throttled(limits);
            if throttled.is_some() && taking.count > 0 {
                return true;
            }
            let most = throttled.map_or(taking.left(), |most| most.min(taking.left()));
            let end = span.end.min(read.end).min(first.saturating_add(most));
            self.change(first..end, |span| {
                span.state = taking.state();
                span.deliveries += 1;
            });
            taking.took(first..end, span.deliveries + 1);
            if throttled.is_some() {
                return true;
            }
            from = end;
        }
        false
    }

    /// Acquires what was handed out to nobody yet.
    fn acquire_new(&mut self, read: &Range<u64>, runs: &[Run], limits: Limits, taking: &mut Taking<'_>) {
        // What of a span of its own is not told yet.
        let mut open: Option<Range<u64>> = None;
        let mut is_batch_begun = false;
        let known = runs.partition_point(|run| run.last < self.next);
        for run in &runs[known..] {
            let planned = open.as_ref().map_or(0, |open| open.end - open.start);
            let left = taking.left().saturating_sub(planned);
            if left == 0 && (taking.wanted.exactly || !is_batch_begun) {
                break;
            }
            let next = open.as_ref().map_or(self.next, |open| open.end);
            let first = run.first.max(next);
            if first > next {
                if let Some(open) = open.take() {
                    self.hand_out(open, taking);
                }
                self.append(first, State::Done, 0, Batch { first: next, records: 0 });
                self.advance();
            }
            let room_end = self.start.saturating_add(limits.locks);
            let most = if taking.wanted.exactly { first.saturating_add(left) } else { u64::MAX };
            let end = (run.last + 1).min(room_end).min(most);
            if first >= end {
                break;
            }
            let begun = open.take().map_or(first, |open| open.start);
            if end <= run.last {
                open = Some(begun..end);
                break;
            }
            is_batch_begun = run.goes_on;
            if is_batch_begun || end - begun < taking.wanted.batch {
                open = Some(begun..end);
            } else {
                self.hand_out(begun..end, taking);
            }
        }
        if let Some(open) = open {
            self.hand_out(open, taking);
        }
        // Behind the last run there is nothing up to the end of what was read.
        let is_all = runs.last().is_none_or(|run| self.next > run.last);
        if is_all && read.start <= self.next && self.next < read.end {
            self.append(read.end, State::Done, 0, Batch { first: self.next, records: 0 });
        }
    }

    fn hand_out(&mut self, offsets: Range<u64>, taking: &mut Taking<'_>) {
        let batch = Batch { first: offsets.start, records: offsets.end - offsets.start };
        self.append(offsets.end, taking.state(), 1, batch);
        taking.took(offsets, 1);
    }

    /// Adds a span from `next` on.
    fn append(&mut self, end: u64, state: State, deliveries: u32, batch: Batch) {
        if self.next < end {
            self.spans.insert(self.next, Span { end, state, deliveries, batch });
            self.merge(self.next..end);
            self.next = end;
        }
    }

    /// Takes back what a member acquired last from `first` on: it was handed none of it.
    pub fn give_back(&mut self, member: &str, offsets: Range<u64>) {
        self.change(offsets, |span| {
            if span.is_of(member) {
                (span.state, span.deliveries) = (State::Available, span.deliveries - 1);
            }
        });
    }

    /// A member acknowledges records, in the order of their offsets. After an error some of it may be taken.
    pub fn acknowledge(
        &mut self,
        now: u64,
        member: &str,
        batches: &[Acknowledged],
        limits: Limits,
    ) -> Result<(), Refused> {
        for &Acknowledged { first, last, how } in batches {
            if last < self.start {
                continue;
            }
            let offsets = first.max(self.start)..last.saturating_add(1);
            if offsets.end > self.next {
                return Err(Refused::Past(offsets.start.max(self.next)));
            }
            if let Some((first, _)) = self.spans_in(&offsets).find(|(_, span)| !span.is_of(member)) {
                return Err(Refused::NotAcquired(first.max(offsets.start)));
            }
            self.end_acquisition(offsets, how, now.saturating_add(limits.lock_ms), limits, |_| true);
        }
        Ok(())
    }

    /// Whether a member has acquired all of these.
    pub fn is_acquired(&self, member: &str, offsets: &Range<u64>) -> bool {
        let is_within = self.start <= offsets.start && offsets.end <= self.next;
        is_within && self.spans_in(offsets).all(|(_, span)| span.is_of(member))
    }

    /// A member is gone: what it has acquired is released. Answers whether that is anything.
    pub fn release(&mut self, member: &str, limits: Limits) -> bool {
        if !self.spans.values().any(|span| span.is_of(member)) {
            return false;
        }
        self.end_acquisition(self.start..self.next, Acknowledgement::Release, 0, limits, |span| span.is_of(member));
        true
    }

    /// Releases what is locked for too long. Answers whether that is anything.
    pub fn tick(&mut self, now: u64, limits: Limits) -> bool {
        if self.next_deadline().is_none_or(|due| due > now) {
            return false;
        }
        let is_over = |span: &Span| match span.state {
            State::Acquired { until, .. } | State::Dead { until } => until <= now,
            State::Available | State::Done => false,
        };
        self.end_acquisition(self.start..self.next, Acknowledgement::Release, 0, limits, is_over);
        true
    }

    /// Records that are dead, and cannot be dead letters before a later time, are not done until then.
    pub fn hold_back(&mut self, dead: &Dead, until: u64) {
        self.change(dead.offsets.clone(), |span| {
            (span.state, span.deliveries) = (State::Dead { until }, dead.deliveries);
        });
    }

    /// What was handed out as often as may be is dead, though nobody has it: a restart, or a limit that was lowered before it, finds such records.
    pub fn condemn(&mut self, limits: Limits) {
        for span in self.spans.values_mut() {
            if span.is_available() && span.deliveries >= limits.deliveries {
                span.state = State::Dead { until: 0 };
            }
        }
        self.merge(self.start..self.next);
    }

    fn end_acquisition(
        &mut self,
        offsets: Range<u64>,
        how: Acknowledgement,
        renewed_until: u64,
        limits: Limits,
        is_meant: impl Fn(&Span) -> bool,
    ) {
        let cause_of = |deliveries: u32| match how {
            Acknowledgement::Reject => Some(Cause::Rejected),
            Acknowledgement::Release if deliveries >= limits.deliveries => Some(Cause::Deliveries),
            _ => None,
        };
        let mut dead = vec![];
        for (first, span) in self.spans_in(&offsets).filter(|(_, span)| is_meant(span)) {
            if let Some(cause) = cause_of(span.deliveries) {
                let offsets = first.max(offsets.start)..span.end.min(offsets.end);
                dead.push(Dead { offsets, deliveries: span.deliveries, cause });
            }
        }
        self.dead.extend(dead);
        self.change(offsets, |span| {
            if !is_meant(span) {
                return;
            }
            match (how, &mut span.state) {
                (Acknowledgement::Renew, State::Acquired { until, .. }) => *until = renewed_until,
                (Acknowledgement::Release, state) if cause_of(span.deliveries).is_none() => *state = State::Available,
                (_, state) => *state = State::Done,
            }
        });
    }

    /// Records that nobody has processed, since the last call.
    pub fn take_dead(&mut self) -> Vec<Dead> {
        std::mem::take(&mut self.dead)
    }

    /// The log begins here: what was before is done.
    pub fn trim(&mut self, log_start: u64) {
        if log_start <= self.start {
            return;
        }
        self.split(log_start);
        self.spans = self.spans.split_off(&log_start);
        (self.start, self.next) = (log_start, self.next.max(log_start));
        self.advance();
    }

    /// What stood from here on in the log was lost, and other records stand there or will.
    pub fn cut(&mut self, end: u64) {
        if end < self.next {
            self.split(end);
            drop(self.spans.split_off(&end));
            (self.start, self.next) = (self.start.min(end), end);
        }
    }

    /// Moves the start behind what is done.
    pub fn advance(&mut self) {
        while let Some(first) = self.spans.first_entry().filter(|first| first.get().is_done()) {
            self.start = first.remove().end;
        }
    }

    /// The spans with any of these offsets.
    fn spans_in(&self, offsets: &Range<u64>) -> impl Iterator<Item = (u64, &Span)> {
        let before = self.spans.range(..offsets.start).next_back().filter(|(_, span)| span.end > offsets.start);
        let within = self.spans.range(offsets.start..offsets.end.max(offsets.start));
        before.into_iter().chain(within).map(|(&first, span)| (first, span))
    }

    /// Changes the spans of these offsets, which get spans of their own for that.
    fn change(&mut self, offsets: Range<u64>, mut change: impl FnMut(&mut Span)) {
        if offsets.is_empty() {
            return;
        }
        self.split(offsets.start);
        self.split(offsets.end);
        self.spans.range_mut(offsets.clone()).for_each(|(_, span)| change(span));
        self.merge(offsets);
    }

    /// Sees to it that no span has offsets on both sides of `at`.
    fn split(&mut self, at: u64) {
        if let Some((_, span)) = self.spans.range_mut(..at).next_back().filter(|(_, span)| span.end > at) {
            let behind = span.clone();
            span.end = at;
            self.spans.insert(at, behind);
        }
    }

    /// Joins spans from the one before these offsets to the one behind them.
    fn merge(&mut self, offsets: Range<u64>) {
        let mut at = self.spans.range(..offsets.start).next_back().map_or(offsets.start, |(&first, _)| first);
        while at <= offsets.end {
            let Some(span) = self.spans.get(&at) else { return };
            let end = span.end;
            match self.spans.get(&end) {
                Some(next) if span.goes_on_in(next) => {
                    let next_end = next.end;
                    self.spans.remove(&end);
                    self.spans.get_mut(&at).expect("it was there above").end = next_end;
                }
                _ => at = end,
            }
        }
    }
}

/// What a member takes in one go.
struct Taking<'m> {
    member: &'m Arc<str>,
    until: u64,
    wanted: Wanted,
    acquired: Vec<Acquired>,
    count: u64,
}

impl Taking<'_> {
    fn left(&self) -> u64 {
        self.wanted.records.saturating_sub(self.count)
    }

    fn state(&self) -> State {
        State::Acquired { by: self.member.clone(), until: self.until }
    }

    fn took(&mut self, offsets: Range<u64>, deliveries: u32) {
        self.count += offsets.end - offsets.start;
        self.acquired.push(Acquired { first: offsets.start, last: offsets.end - 1, deliveries });
    }
}
