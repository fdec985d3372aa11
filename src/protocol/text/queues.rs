//! JOIN with `mode:share`, and ACCEPT, RELEASE, REJECT and RENEW: share groups, queues on a log (KIP-932).
//!
//! ```text
//! JOIN jobs orders mode:share   JOINED group:jobs member:1-5f0c9a77b2e4d816 generation:1 assigned:orders/0,orders/1 lock:30000
//! POLL wait:1000                POLLED count:1 generation:1 assigned:orders/0,orders/1
//!                               topic:orders partition:0 offset:0 timestamp:1763600000000 delivery:1 message:hello
//! ACCEPT orders/0 0             OK
//! ```
//!
//! What a POLL answers is this member's until it says what became of it, its lock's time is over, or its connection ends.

use super::{
    Answered, Flow, Refusal, Session,
    groups::{Poll, leave_before, write_count, write_joined, write_places, write_polled},
    words::{self, Position, Words, group_name, number, topic_name},
};
use crate::{
    broker::{
        self, ShareMembership, ShareOptions, ShareWrite,
        share_partition::{Acknowledged, Acknowledgement},
    },
    protocol::connection::Output,
};

/// The answer to an acknowledgement.
const OK: &[u8] = b"OK\n";
/// How many acknowledgements share a sync at most.
const UNSETTLED_MAX: usize = 4096;

/// An acknowledgement that is written and not durable yet.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// The verb's number in the table.
    verb: usize,
    /// Where its answer begins.
    answer: usize,
    written: ShareWrite,
}

impl Session {
    /// What follows `JOIN <group> <topics>` where `mode:share` is among it.
    pub(super) fn join_queue(
        &mut self,
        group: &[u8],
        topics: Vec<&str>,
        words: Words<'_>,
        output: &mut Output<'_>,
    ) -> Answered {
        let group = group_name(group)?;
        let [_, from, lock, deliveries, isolation, dead] =
            words.named(["mode", "from", "lock", "deliveries", "isolation", "dead"])?;
        let options = ShareOptions {
            from: from.map(Position::parse).transpose()?,
            lock_ms: lock.map(|ms| number("lock:", ms)).transpose()?,
            deliveries: deliveries.map(|count| number("deliveries:", count)).transpose()?,
            isolation: isolation.map(|word| words::isolation(Some(word))).transpose()?,
            dead_letters: dead.map(dead_letters).transpose()?.map(String::from),
        };
        self.broker.may_join_queue(&group, &topics, &options)?;
        leave_before(self)?;
        let member = self.queue.insert(self.broker.join_queue(&group, &topics, &options)?);
        write_joined(&group, member.id(), &mut output.bytes);
        write_assignment(member, &mut output.bytes);
        output.bytes.extend_from_slice(format!(" lock:{}\n", self.broker.share_lock_ms(&group)).as_bytes());
        Ok(Flow::Next)
    }

    /// `POLL [max:<n>=500] [max_bytes:<n>=1048576] [wait:<ms>=0]` of a member of a share group.
    pub(super) fn poll_queue(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let asked = Poll::parse(words)?;
        if asked.limits.records == 0 {
            return Err(Refusal::invalid("a POLL of a share group is for one record at least").into());
        }
        let member = queue(&mut self.queue)?;
        let (count, lines) = asked.carry_out(output, |limits, wait, lines| {
            member.poll(limits, wait, &mut |shared| write_polled(&shared.record, Some(shared.deliveries), lines))
        })?;
        write_count(count, &mut output.bytes);
        write_assignment(member, &mut output.bytes);
        output.bytes.push(b'\n');
        output.bytes.extend_from_slice(&lines);
        self.fetched(lines.len(), output);
        Ok(Flow::Next)
    }

    /// `ACCEPT <topic>/<p> <offset>[-<offset>]`
    pub(super) fn accept(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        self.acknowledge(Acknowledgement::Accept, words, output)
    }

    /// `RELEASE <topic>/<p> <offset>[-<offset>]`
    pub(super) fn release(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        self.acknowledge(Acknowledgement::Release, words, output)
    }

    /// `REJECT <topic>/<p> <offset>[-<offset>]`
    pub(super) fn reject(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        self.acknowledge(Acknowledgement::Reject, words, output)
    }

    /// `RENEW <topic>/<p> <offset>[-<offset>]`
    pub(super) fn renew(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        self.acknowledge(Acknowledgement::Renew, words, output)
    }

    fn acknowledge(&mut self, how: Acknowledgement, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let place = words.expect("a partition and offsets are to be given; the partition")?;
        let offsets = words.expect("a partition and offsets are to be given; the offset")?;
        words.end()?;
        let (first, last) = match memchr::memchr(b'-', offsets) {
            Some(dash) => (number("the offset", &offsets[..dash])?, number("the offset", &offsets[dash + 1..])?),
            None => {
                let offset = number("the offset", offsets)?;
                (offset, offset)
            }
        };
        if last < first {
            return Err(Refusal::invalid(format!("{first}-{last} is no range: it ends before it begins")).into());
        }
        queue(&mut self.queue)?;
        let of = self.partition_named(place)?;
        let written =
            queue(&mut self.queue)?.write_acknowledgement(of.of_broker()?, &[Acknowledged { first, last, how }])?;
        let answer = output.bytes.len();
        output.bytes.extend_from_slice(OK);
        let verb = self.run.verb;
        self.unsettled.extend(written.map(|written| Unsettled { verb, answer, written }));
        // What is explained, or watched, is shown when it is so.
        #[cfg(feature = "http")]
        let is_watched = self.watched.is_some();
        #[cfg(not(feature = "http"))]
        let is_watched = false;
        if is_watched || self.steps.is_some() || self.unsettled.len() >= UNSETTLED_MAX {
            self.settle(output);
        }
        Ok(Flow::Next)
    }

    /// Whether something is to be durable before a verb is carried out: what was acknowledged by another one.
    pub(super) fn owes_before(&self, verb: usize) -> bool {
        self.unsettled.last().is_some_and(|last| last.verb != verb)
    }

    /// Makes durable what was acknowledged since the last call: many acknowledgements that came together share a sync. To be called
    /// before their answers are sent, and before another verb is carried out that is not gathered. One that is not durable is told so
    /// instead of its `OK`.
    pub(super) fn settle(&mut self, output: &mut Output<'_>) {
        let unsettled = std::mem::take(&mut self.unsettled);
        // Backwards: the last sync covers those before it, and places before a longer answer stay where they are.
        for Unsettled { verb, answer, written } in unsettled.into_iter().rev() {
            if let Err(error) = written.make_durable() {
                let mut told = Vec::new();
                Refusal::from(error).write(&mut told);
                output.bytes.splice(answer..answer + OK.len(), told);
                self.broker.metrics().text.row(verb).errors.add(1);
            }
        }
    }

    /// Leaves the share group.
    pub(super) fn leave_queue(&mut self) -> Result<(), Refusal> {
        let left = queue(&mut self.queue)?.leave();
        self.queue = None;
        match left {
            Err(broker::Error::UnknownMemberId) => Ok(()),
            left => Ok(left?),
        }
    }
}

/// The topic behind `dead:`; nothing: there is to be none.
fn dead_letters(word: &[u8]) -> Result<&str, Refusal> {
    if word.is_empty() { Ok("") } else { topic_name(word) }
}

/// The connection's membership in a share group.
fn queue(member: &mut Option<ShareMembership>) -> Result<&mut ShareMembership, Refusal> {
    member.as_mut().ok_or_else(|| broker::Error::UnknownMemberId.into())
}

/// ` generation:<n> assigned:<tp>,<tp>...`
fn write_assignment(member: &ShareMembership, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(" generation:{}", member.generation()).as_bytes());
    let assigned = member.assigned();
    write_places(" assigned:", assigned.iter().map(|(topic, partition)| (&**topic, *partition)), out);
}
