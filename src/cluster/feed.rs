//! One partition as a client of librdkafka's fetches it, on its way into a chunk of lines.
//!
//! ```text
//! librdkafka's queue ── pending ── lines of a Chunk
//!        └ wakes who waits         └ a batch ends where an offset is missing or the time is another
//! ```
//!
//! The end of the partition comes through the queue too, behind the records before it: so what lies between the last record
//! and the end is known to hold none for this reader.

use super::native::{Message, PartitionQueue};
use crate::log::{
    Chunk,
    batches::Flags,
    record::{Records, write_line},
};
use rdkafka::{
    consumer::{BaseConsumer, ConsumerContext},
    types::RDKafkaErrorCode,
};
use std::{borrow::Cow, collections::VecDeque, sync::Arc, time::Duration};

/// A partition that is fetched.
pub(super) struct Feed<C: ConsumerContext> {
    /// Taken out of the queue, and not read yet. Dropped before the queue, as librdkafka wants it.
    pending: VecDeque<Message>,
    queue: PartitionQueue<C>,
    /// Nothing before this is to come.
    next: u64,
    /// Why there is nothing more to come from where it is.
    broken: Option<RDKafkaErrorCode>,
}

impl<C: ConsumerContext> Feed<C> {
    /// A partition of which nothing is fetched yet. `wake` is called on librdkafka's threads when something has come.
    pub(super) fn new(
        client: &Arc<BaseConsumer<C>>,
        topic: &str,
        partition: u32,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Option<Feed<C>> {
        let queue = PartitionQueue::new(client, topic, partition, wake)?;
        Some(Feed { pending: VecDeque::new(), queue, next: 0, broken: None })
    }

    /// It is fetched from this offset on.
    pub(super) fn begin(&mut self, offset: u64) {
        self.pending.clear();
        (self.next, self.broken) = (offset, None);
    }

    /// Whether what comes next is what stands at `offset`.
    pub(super) fn comes_to(&mut self, offset: u64) -> bool {
        let last = self.pending.back().map_or(self.next, |last| last.offset().max(0) as u64);
        if self.broken.is_some() || !(self.next..=last.max(self.next)).contains(&offset) {
            return false;
        }
        self.next = offset;
        true
    }

    /// Nothing before this is to come.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether nothing more comes from where it is.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Adds what has come: at least one record, more while they fit.
    pub(super) fn fill(&mut self, bytes_max: usize, chunk: &mut Chunk) -> Result<(), RDKafkaErrorCode> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let mut spare = Records::default();
        loop {
            if self.pending.is_empty() {
                self.queue.take(&mut self.pending);
            }
            let Some(message) = self.pending.front() else { return Ok(()) };
            match message.error() {
                Some(RDKafkaErrorCode::PartitionEOF) => {
                    let end = u64::try_from(message.offset()).unwrap_or(0);
                    if end > self.next {
                        self.next = end;
                        chunk.pass_over(end);
                    }
                }
                Some(error) => {
                    if chunk.next_offset().is_some() {
                        return Ok(());
                    }
                    // What comes behind it would stand behind a hole that is none.
                    self.pending.clear();
                    self.broken = Some(error);
                    return Err(error);
                }
                None => {
                    let offset = u64::try_from(message.offset()).unwrap_or(0);
                    if offset >= self.next {
                        let bytes = chunk.bytes().len() + size(message);
                        if bytes > bytes_max && !chunk.batches.is_empty() {
                            return Ok(());
                        }
                        let records = add(message, offset, spare.recycle(), chunk);
                        spare = records.recycle();
                        self.next = offset + 1;
                    }
                }
            }
            self.pending.pop_front();
        }
    }

    /// Waits until something comes; answers whether it did.
    pub(super) fn wait(&mut self, time: Duration) -> bool {
        if self.pending.is_empty() {
            self.pending.extend(self.queue.wait(time));
        }
        !self.pending.is_empty()
    }
}

/// Bytes of a message, about.
fn size(message: &Message) -> usize {
    message.key().map_or(0, <[u8]>::len) + message.value().map_or(0, <[u8]>::len)
}

fn add<'a>(message: &'a Message, offset: u64, mut records: Records<'a>, chunk: &mut Chunk) -> Records<'a> {
    let time = message.time();
    records.push(Some(time.ms), message.key().map(Cow::Borrowed), message.value().map(Cow::Borrowed));
    message.headers(|name, value| records.header(Cow::Borrowed(name), value.map(Cow::Borrowed)));
    let flags = if time.of_append { Flags::APPEND_TIME } else { Flags::NONE };
    if let Some(record) = records.last() {
        chunk.add(offset, time.ms, flags, |out| write_line(out, offset, None, &records, record));
    }
    records
}
