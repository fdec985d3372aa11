//! Records that wait for their task: one queue for each input, of which the one with the earliest head goes first.

use super::{
    error::{Failure, FailureKind},
    event::Event,
    plan::{Extract, Input},
};
use crate::client::{Header, Message};
use std::{collections::VecDeque, sync::Arc};

/// How many bytes of records of an input wait before no more are taken; those that are handed in together all wait.
const BYTES_MAX: usize = 256 << 10;

/// The inputs of a task.
pub(super) struct Queues {
    inputs: Vec<Queue>,
}

struct Queue {
    topic: Arc<str>,
    extract: Option<Extract>,
    waiting: VecDeque<Message>,
    /// How much memory they take.
    bytes: usize,
    /// Whether the topic has no partition for this task.
    is_absent: bool,
    /// The time of the first one that waits; a failure where it has none.
    head: Option<Result<i64, Failure>>,
    /// Whether nothing more is known to be in the topic.
    at_end: bool,
    /// Since when the queue is empty and at its end, by the clock on the wall.
    idle_since: Option<i64>,
    /// The highest time of a record that was taken out; -1 before the first one.
    time: i64,
    /// The offset behind the last record that was taken out.
    next: Option<u64>,
}

/// A record that is to be processed.
pub(super) struct Taken {
    /// Which input.
    pub(super) input: usize,
    pub(super) message: Message,
    pub(super) time: Result<i64, Failure>,
}

impl Queues {
    pub(super) fn new(inputs: &[Input]) -> Queues {
        let queue = |input: &Input| Queue {
            topic: input.topic.clone(),
            extract: input.extract.clone(),
            waiting: VecDeque::new(),
            bytes: 0,
            is_absent: false,
            head: None,
            at_end: false,
            idle_since: None,
            time: -1,
            next: None,
        };
        Queues { inputs: inputs.iter().map(queue).collect() }
    }

    fn of(&mut self, topic: &str) -> Option<&mut Queue> {
        self.inputs.iter_mut().find(|queue| &*queue.topic == topic)
    }

    /// Takes a record in; answers whether it is of one of the inputs.
    pub(super) fn add(&mut self, message: Message) -> bool {
        let Some(queue) = self.of(&message.topic) else { return false };
        queue.bytes += size(&message);
        queue.waiting.push_back(message);
        queue.idle_since = None;
        queue.look();
        true
    }

    /// Whether no more records of a topic are to be handed in.
    pub(super) fn is_full(&self, topic: &str) -> bool {
        self.inputs.iter().any(|queue| &*queue.topic == topic && queue.bytes >= BYTES_MAX)
    }

    pub(super) fn set_absent(&mut self, topic: &str) {
        self.of(topic).into_iter().for_each(|queue| queue.is_absent = true);
    }

    pub(super) fn set_at_end(&mut self, topic: &str, at_end: bool) {
        if let Some(queue) = self.of(topic) {
            queue.at_end = at_end;
            if !at_end {
                queue.idle_since = None;
            }
        }
    }

    /// Whether a record can be processed: one waits for each input, or those that lack one have been at their end for
    /// `idle` milliseconds.
    pub(super) fn ready(&mut self, now: i64, idle: i64) -> bool {
        let mut any = false;
        for queue in self.inputs.iter_mut().filter(|queue| !queue.is_absent) {
            if queue.head.is_some() {
                any = true;
            } else if !queue.at_end || now < queue.idle_since.get_or_insert(now).saturating_add(idle) {
                return false;
            }
        }
        any
    }

    /// The waiting record with the lowest time; among equals that of the first input.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let heads = self.inputs.iter().enumerate().filter_map(|(input, queue)| {
            // What has no time is dealt with at once.
            queue.head.as_ref().map(|time| (*time.as_ref().unwrap_or(&-1), input))
        });
        let (_, input) = heads.min()?;
        let queue = &mut self.inputs[input];
        let time = queue.head.take()?;
        let message = queue.waiting.pop_front()?;
        queue.bytes -= size(&message);
        queue.time = queue.time.max(*time.as_ref().unwrap_or(&-1));
        queue.next = Some(message.offset + 1);
        queue.look();
        Some(Taken { input, message, time })
    }

    /// The offset behind the last record that was taken from each topic.
    pub(super) fn offsets(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.inputs.iter().filter_map(|queue| queue.next.map(|next| (&queue.topic, next)))
    }

    /// Forgets what waits, and what was taken.
    pub(super) fn clear(&mut self) {
        for queue in &mut self.inputs {
            queue.waiting.clear();
            (queue.bytes, queue.time) = (0, -1);
            (queue.head, queue.next, queue.at_end, queue.idle_since) = (None, None, false, None);
        }
    }
}

/// About how much memory a record takes, in bytes.
pub(super) fn size(message: &Message) -> usize {
    let Message { key, value, headers, .. } = message;
    let header =
        |(name, value): &Header| size_of::<Header>() + name.len() + value.as_ref().map_or(0, |value| value.len());
    let bytes = key.as_ref().map_or(0, Vec::len) + value.as_ref().map_or(0, Vec::len);
    size_of::<Message>() + bytes + headers.iter().map(header).sum::<usize>()
}

impl Queue {
    /// Tells the time of the first one that waits.
    fn look(&mut self) {
        if self.head.is_some() {
            return;
        }
        let Some(message) = self.waiting.front() else { return };
        let time = match &self.extract {
            None => Ok(message.timestamp),
            Some(extract) => {
                let Message { key, value, timestamp, headers, .. } = message.clone();
                extract(Event { key, value, timestamp, headers }, self.time)
            }
        };
        self.head = Some(time.and_then(|time| match time {
            0.. => Ok(time),
            _ => Err(Failure { kind: FailureKind::Unreadable, reason: format!("it has no time, but {time}") }),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, offset: u64, timestamp: i64) -> Message {
        Message { topic: topic.into(), partition: 0, offset, timestamp, key: None, value: None, headers: vec![] }
    }

    fn queues() -> Queues {
        let input = |topic: &str| Input { topic: topic.into(), node: 0, extract: None };
        Queues::new(&[input("a"), input("b")])
    }

    #[test]
    fn the_earliest_head_goes_first() {
        let mut queues = queues();
        for (topic, offset, time) in [("a", 0, 5), ("a", 1, 2), ("b", 0, 3), ("b", 1, 5)] {
            assert!(queues.add(message(topic, offset, time)));
        }
        assert!(!queues.add(message("c", 0, 0)));
        let order: Vec<_> = std::iter::from_fn(|| queues.take()).map(|taken| taken.time.unwrap()).collect();
        assert_eq!(order, [3, 5, 2, 5]);
        assert_eq!(queues.offsets().map(|(_, next)| next).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn an_empty_input_is_waited_for_until_it_idles_at_its_end() {
        let mut queues = queues();
        assert!(!queues.ready(0, 10));
        queues.add(message("a", 0, 5));
        assert!(!queues.ready(100, 10), "more may be in b");
        queues.set_at_end("b", true);
        assert!(!queues.ready(100, 10));
        assert!(!queues.ready(109, 10));
        assert!(queues.ready(110, 10));
        queues.add(message("b", 0, 5));
        assert!(queues.ready(111, 10));
    }

    #[test]
    fn an_input_is_full_by_the_memory_of_what_waits() {
        let (mut queues, mut count) = (queues(), 0);
        while !queues.is_full("a") {
            queues.add(message("a", count, 0));
            count += 1;
        }
        assert!((1000..5000).contains(&count), "{count}");
        assert!(!queues.is_full("b"));
        queues.take();
        assert!(!queues.is_full("a"));
        let header = (vec![b'h'; BYTES_MAX].into(), None);
        queues.add(Message { headers: vec![header], ..message("b", 0, 0) });
        assert!(queues.is_full("b"), "headers count");
    }

    #[test]
    fn what_has_no_time_is_dealt_with_at_once() {
        let mut queues = queues();
        queues.add(message("a", 0, 0));
        queues.add(message("b", 0, -1));
        assert!(queues.take().unwrap().time.is_err());
        assert!(queues.take().unwrap().time.is_ok());
    }
}
