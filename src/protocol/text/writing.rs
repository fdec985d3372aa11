//! PRODUCE and SEND: what arrived together and belongs to one partition is appended together, and answered in order.
//!
//! ```text
//! PRODUCE a   SEND t key:k message:b   PRODUCE c      batch of messages/0: a, c     batch of t/1: b
//! ACK offset:0      ACK topic:t ...    ACK offset:1   answers: (0, 0) (1, 0) (0, 1)
//! ```
//!
//! All batches are written, then all are settled (synced, as far as the flush mode asks), then all lines are answered.
//! While more lines stand in the socket they are written too before anything is settled, up to a bound: a sync costs the
//! less the more it syncs.

use super::{
    Refusal, Session,
    words::{Place, Words},
};
use crate::{
    broker::{self, Partition, Terms, Topic, choose, random},
    config::Settings,
    log::{
        Appended,
        record::{Records, parse_fields, write_u64},
    },
    protocol::connection::Output,
};
use std::{borrow::Cow, sync::Arc};

/// The list of answers is given back when it grew beyond so many.
const ANSWERS_KEPT: usize = 16_384;

/// Lines that ask for writing, gathered until they are carried out together.
#[derive(Debug, Default)]
pub(super) struct Gathered<'a> {
    batches: Vec<Batch<'a>>,
    /// The batch that PRODUCE adds to, and what its topic asks.
    current: Option<(u32, Arc<Settings>)>,
    /// The topic of the last SEND.
    topic: Option<Found>,
    /// Where records without key go, for this time.
    sticky: u64,
    scratch: Records<'a>,
}

/// A topic, what it asks, and its partitions.
type Found = (Arc<Topic>, Arc<Settings>, Vec<Arc<Partition>>);

/// What was written and is not settled yet, and what the lines will get then.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    written: Vec<Written>,
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Written {
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    appended: broker::Result<Appended>,
}

#[derive(Debug)]
struct Batch<'a> {
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    records: Records<'a>,
}

/// What a line gets.
#[derive(Debug)]
enum Answer {
    /// The offset of a record of a batch (its index among the written ones), to a PRODUCE.
    Produced(u32, u32),
    /// The same to a SEND, with topic and partition.
    Sent(u32, u32),
    Refused(Box<Refusal>),
}

impl<'a> Gathered<'a> {
    /// `PRODUCE <message>`: all after the first space.
    pub(super) fn produce(&mut self, session: &mut Session, rest: Option<&'a [u8]>) {
        let answer = self.try_produce(session, rest).unwrap_or_else(|refusal| Answer::Refused(refusal.into()));
        session.unanswered.answers.push(answer);
    }

    fn try_produce(&mut self, session: &mut Session, rest: Option<&'a [u8]>) -> Result<Answer, Refusal> {
        let value =
            rest.ok_or_else(|| Refusal::invalid("PRODUCE takes a space and the message, which may be empty"))?;
        let index = match &self.current {
            Some((index, settings)) => {
                settings.check(None, value.len())?;
                *index
            }
            None => {
                let partition = session.partition(true)?;
                let topic = partition.topic()?;
                let settings = topic.settings();
                settings.check(None, value.len())?;
                let index = self.batch_of(&topic, &partition);
                self.current = Some((index, settings));
                index
            }
        };
        let batch = &mut self.batches[index as usize];
        batch.records.push(None, None, Some(Cow::Borrowed(value)));
        Ok(Answer::Produced(session.unanswered.index_of(index), batch.records.len() as u32 - 1))
    }

    /// `SEND <topic>[/<p>] [timestamp:] [key:] [header.N:]... <value field>`
    pub(super) fn send(&mut self, session: &mut Session, words: Words<'a>) {
        let answer = self.try_send(session, words).unwrap_or_else(|refusal| Answer::Refused(refusal.into()));
        session.unanswered.answers.push(answer);
    }

    fn try_send(&mut self, session: &Session, mut words: Words<'a>) -> Result<Answer, Refusal> {
        let place = Place::parse(words.expect("SEND takes <topic>[/<p>] and a record; the topic")?)?;
        parse_fields(&mut self.scratch, words.rest().unwrap_or_default())?;
        // Only Kafka's clients may say that a record has no time.
        if self.scratch.get(0).and_then(|record| record.timestamp) == Some(-1) {
            self.scratch.pop();
            return Err(Refusal::invalid("'-1' is no time in milliseconds"));
        }
        match self.route(session, place) {
            Ok(index) => {
                let batch = &mut self.batches[index as usize];
                batch.records.take_last(&mut self.scratch);
                Ok(Answer::Sent(session.unanswered.index_of(index), batch.records.len() as u32 - 1))
            }
            Err(refusal) => {
                self.scratch.pop();
                Err(refusal)
            }
        }
    }

    /// The batch that the record in `scratch` belongs to, if its topic takes it.
    fn route(&mut self, session: &Session, place: Place<'_>) -> Result<u32, Refusal> {
        if self.topic.as_ref().is_none_or(|(topic, ..)| topic.name != place.topic) {
            broker::writable(place.topic)?;
            let makes = place.partition.is_none_or(|index| index < session.broker.config().default_partitions);
            let broker = &session.broker;
            let topic = if makes { broker.topic_or_create(place.topic)? } else { broker.topic(place.topic)? };
            self.topic = Some((topic.clone(), topic.settings(), topic.partitions()));
        }
        let (topic, settings, partitions) = self.topic.as_ref().expect("found above");
        let record = self.scratch.get(0).expect("parsed before");
        settings.check(record.key.as_deref(), self.scratch.size_of(record))?;
        let count = partitions.len() as u32;
        if self.sticky == 0 {
            self.sticky = random::number().max(1);
        }
        let index = choose(place.partition, record.key.as_deref(), self.sticky, count);
        let partition = partitions.get(index as usize).ok_or_else(|| broker::Error::UnknownPartition {
            topic: topic.name.clone(),
            partition: index,
            partitions: count,
        })?;
        let (topic, partition) = (topic.clone(), partition.clone());
        Ok(self.batch_of(&topic, &partition))
    }

    fn batch_of(&mut self, topic: &Arc<Topic>, partition: &Arc<Partition>) -> u32 {
        let found = self.batches.iter().position(|batch| Arc::ptr_eq(&batch.partition, partition));
        let index = found.unwrap_or_else(|| {
            self.batches.push(Batch {
                topic: topic.clone(),
                partition: partition.clone(),
                records: Records::default(),
            });
            self.batches.len() - 1
        });
        index as u32
    }

    /// Answers a line that never came to be carried out.
    pub(super) fn refuse(&mut self, session: &mut Session, refusal: Refusal) {
        session.unanswered.answers.push(Answer::Refused(refusal.into()));
    }

    /// Writes what was gathered; it is settled and answered with what else is unanswered.
    pub(super) fn write(&mut self, session: &mut Session) {
        for Batch { topic, partition, records, .. } in std::mem::take(self).batches {
            let appended = partition.write(&records, Terms::default());
            session.unanswered.written.push(Written { topic, partition, appended });
        }
    }

    /// Carries out what was gathered, and writes the answers.
    pub(super) fn complete(&mut self, session: &mut Session, output: &mut Output<'_>) {
        self.write(session);
        session.answer(output);
    }
}

impl Session {
    /// Settles what was written, and writes the answers.
    pub(super) fn answer(&mut self, output: &mut Output<'_>) {
        let mut unanswered = std::mem::take(&mut self.unanswered);
        let flush = self.broker.config().flush;
        for Written { partition, appended, .. } in &mut unanswered.written {
            let settled = appended.as_ref().map_err(Clone::clone).and_then(|appended| partition.settle(appended));
            match (settled, &*appended) {
                (Ok(()), Ok(Appended { place: (file, bytes), .. })) => {
                    self.step(|| {
                        format!("wrote {} bytes {}..{} (flush: {flush})", file.display(), bytes.start, bytes.end)
                    });
                }
                (Ok(()), Err(_)) => {}
                (Err(error), _) => *appended = Err(error),
            }
        }
        for answer in unanswered.answers.drain(..) {
            match answer {
                Answer::Produced(index, record) => match unanswered.written[index as usize].offset(record) {
                    Ok(offset) => {
                        output.bytes.extend_from_slice(b"ACK offset:");
                        write_u64(&mut output.bytes, offset);
                        output.bytes.push(b'\n');
                    }
                    Err(error) => Refusal::from(error).write(&mut output.bytes),
                },
                Answer::Sent(index, record) => {
                    let written = &unanswered.written[index as usize];
                    match written.offset(record) {
                        Ok(offset) => written.acknowledge(offset, &mut output.bytes),
                        Err(error) => Refusal::from(error).write(&mut output.bytes),
                    }
                }
                Answer::Refused(refusal) => refusal.write(&mut output.bytes),
            }
        }
        if unanswered.answers.capacity() <= ANSWERS_KEPT {
            self.unanswered.answers = unanswered.answers;
        }
    }
}

impl Unanswered {
    /// How many lines wait for their answer.
    pub(super) fn lines(&self) -> usize {
        self.answers.len()
    }

    /// Begins to sync what will be settled, in the background, while more is written.
    pub(super) fn sync_soon(&self) {
        self.written.iter().for_each(|written| written.partition.sync_soon());
    }

    /// The index that a gathered batch will have among the written ones.
    fn index_of(&self, batch: u32) -> u32 {
        self.written.len() as u32 + batch
    }
}

impl Written {
    /// The offset that a record got, or why it got none.
    fn offset(&self, record: u32) -> broker::Result<u64> {
        let appended = self.appended.as_ref().map_err(Clone::clone)?;
        Ok(appended.offset_of(u64::from(record))?)
    }

    fn acknowledge(&self, offset: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"ACK topic:");
        out.extend_from_slice(self.topic.name.as_bytes());
        out.extend_from_slice(b" partition:");
        write_u64(out, u64::from(self.partition.index));
        out.extend_from_slice(b" offset:");
        write_u64(out, offset);
        out.push(b'\n');
    }
}
