//! CONSUME and FETCH: records by position, answered from checked batches.

use super::{
    Answered, Current, Flow, Refusal, Session, Stop,
    words::{self, Place, Position, Words, number_or},
};
use crate::{
    backend::PartitionHandle,
    broker::{self, Batches, Code, Isolation, LineAt, View},
    log::record::{split_offset, split_timestamp, write_i64, write_u64},
    protocol::connection::Output,
    security::Operation,
};
use std::time::{Duration, Instant};

/// The most that one FETCH answers, but for a batch that is larger.
const FETCH_BYTES_MAX: u64 = 16 << 20;
/// An answer to FETCH that is longer is sent in pieces of this size.
const FETCH_BYTES_AT_ONCE: usize = 128 << 10;

impl Session {
    /// `USE <topic>[/<p>]`
    pub(super) fn use_partition(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        self.current = Current::Nothing;
        let place = Place::parse(words.expect("USE takes <topic>[/<p>]; the topic")?)?;
        words.end()?;
        let index = match self.broker.find_topic_to(Operation::Describe, place.topic) {
            Ok(topic) => match (place.partition, topic.partition_count()) {
                (None, count) if count > 1 => {
                    let all = (0..count.min(8)).map(|p| format!("{}/{p}", place.topic)).collect::<Vec<_>>().join(" ");
                    let more = if count > 8 { " ..." } else { "" };
                    let why = format!("'{}' has {count} partitions; USE one of {all}{more}", place.topic);
                    return Err(Refusal::invalid(why).into());
                }
                (index, _) => topic.partition(index.unwrap_or(0))?.index(),
            },
            // First use may make it: then it has partition 0 at least.
            Err(broker::Error::UnknownTopic(_))
                if matches!(place.partition, None | Some(0))
                    && self.broker.config().auto_create
                    && !broker::is_internal(place.topic) =>
            {
                0
            }
            Err(error) => return Err(error.into()),
        };
        self.current = Current::Named(place.topic.into(), index, None);
        let (topic, index) = (place.topic, u64::from(index));
        output.bytes.extend_from_slice(format!("OK topic:{topic} partition:{index}\n").as_bytes());
        Ok(Flow::Next)
    }

    /// `CONSUME <position> [wait:<ms>=0] [isolation:read_committed|read_uncommitted=read_committed]`
    pub(super) fn consume(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let position = Position::parse(
            words.expect("CONSUME takes a position: an offset, -N, earliest, latest or time:<ms>; it")?,
        )?;
        let [wait, isolation] = words.named(["wait", "isolation"])?;
        let isolation = words::isolation(isolation)?;
        let deadline = deadline(number_or("wait:", wait, 0)?);
        // One that this connection knew and that was dropped is gone, whether the DROP came before the wait or in it.
        let mut found = match &mut self.current {
            Current::Named(_, _, known) => known.take(),
            Current::Nothing => None,
        };
        let mut wanted = None;
        loop {
            // Registered before anything is looked at, so that nothing comes unseen in between.
            let broker = self.broker.clone();
            let _topics = broker.register(&output.waiter);
            if let Some(partition) = &found {
                partition.still_there()?;
            }
            match self.partition() {
                Ok(partition) => found = Some(partition),
                Err(refusal) if refusal.code == Code::TopicAuthorizationFailed => return Err(refusal.into()),
                Err(_) => {
                    // It is still to come, or was made since it was looked for, or the refusal stands.
                    if !self.may_come() {
                        found = Some(self.partition()?);
                    }
                    // Its end is 0 until it is made, whatever comes between that and the waking.
                    wanted = wanted.or(matches!(position, Position::Latest | Position::BeforeEnd(_)).then_some(0));
                }
            }
            let _records = found.as_ref().map(|partition| partition.register(&output.waiter));
            if let Some(partition) = &found {
                let offset = match wanted {
                    Some(offset) => offset,
                    None => *wanted.insert(self.read.resolve(isolation, position, partition)?),
                };
                if self.consume_at(isolation, partition, offset, output)? {
                    return Ok(Flow::Next);
                }
            }
            output.flush_before_wait(deadline)?;
            self.read.free();
            if !output.wait(deadline)? {
                output.bytes.extend_from_slice(b"NO_MESSAGE\n");
                return Ok(Flow::Next);
            }
        }
    }

    /// Whether the connection's topic is not there yet, and first use may make it.
    fn may_come(&self) -> bool {
        let Current::Named(topic, ..) = &self.current else { return false };
        let unknown = || matches!(self.broker.find_topic(topic), Err(broker::Error::UnknownTopic(_)));
        self.broker.config().auto_create && unknown() && !broker::is_internal(topic)
    }

    /// Answers the first record at or after `offset`, if there is one.
    fn consume_at(
        &mut self,
        isolation: Isolation,
        partition: &PartitionHandle,
        offset: u64,
        output: &mut Output<'_>,
    ) -> Result<bool, Stop> {
        let (first, end) = (partition.start()?, partition.high_watermark()?);
        if offset < first {
            return Err(broker::Error::OffsetOutOfRange { first, end }.into());
        }
        let found = self.read.record_at(isolation, partition, offset)?;
        let Some(LineAt { offset, text: line }) = found else { return Ok(false) };
        let fields = split_offset(line).map_or(line, |(_, fields)| fields);
        let (_, fields) = split_timestamp(fields);
        if let Some(value) = fields.strip_prefix(b"message:") {
            output.bytes.extend_from_slice(b"MESSAGE offset:");
            write_u64(&mut output.bytes, offset);
            output.bytes.push(b' ');
            output.bytes.extend_from_slice(value);
        } else {
            output.bytes.extend_from_slice(b"RECORD ");
            output.bytes.extend_from_slice(line);
        }
        output.bytes.push(b'\n');
        let bytes = line.len();
        self.fetched(bytes, output);
        self.tell_read();
        Ok(true)
    }

    /// With `--explain`, or while somebody watches: where the records were read.
    pub(super) fn tell_read(&mut self) {
        #[cfg(feature = "http")]
        if self.watched.is_some() {
            self.touched(self.read.place());
        }
        if let Some(steps) = &mut self.steps
            && let Some((file, bytes)) = self.read.place()
        {
            steps.push(format!("read {} bytes {}..{}", file.display(), bytes.start, bytes.end));
        }
    }

    /// `FETCH <tp> <position> [max_bytes:=1048576] [min_bytes:=1] [wait:=0] [isolation:=read_committed]`
    pub(super) fn fetch(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let partition = self.partition_named(words.expect("FETCH takes <topic>/<p> and a position; the partition")?)?;
        let position = Position::parse(words.expect("FETCH takes <topic>/<p> and a position; the position")?)?;
        let [max_bytes, min_bytes, wait, isolation] = words.named(["max_bytes", "min_bytes", "wait", "isolation"])?;
        let isolation = words::isolation(isolation)?;
        let max_bytes = number_or("max_bytes:", max_bytes, 1 << 20)?.min(FETCH_BYTES_MAX) as usize;
        let min_bytes = number_or("min_bytes:", min_bytes, 1)? as usize;
        let deadline = deadline(number_or("wait:", wait, 0)?);
        let mut offset = self.read.resolve(isolation, position, &partition)?;
        loop {
            let registered = partition.register(&output.waiter);
            self.fetch_at(isolation, &partition, &mut offset, max_bytes)?;
            if self.read.batches().bytes().len() >= min_bytes.min(max_bytes.max(1)) {
                break;
            }
            output.flush_before_wait(deadline)?;
            self.read.free();
            let goes_on = output.wait(deadline)?;
            drop(registered);
            partition.still_there()?;
            if !goes_on {
                self.fetch_at(isolation, &partition, &mut offset, max_bytes)?;
                break;
            }
        }
        self.tell_read();
        // Whoever explains shows the beginning of the answer.
        let pieces = if self.steps.is_none() { FETCH_BYTES_AT_ONCE } else { usize::MAX };
        let end = partition.end(isolation)?;
        write_batches(self.read.batches(), &partition, offset, end, pieces, output)?;
        self.fetched(self.read.batches().bytes().len(), output);
        Ok(Flow::Next)
    }

    /// Reads batches at `offset`, which moves over what is passed over.
    fn fetch_at(
        &mut self,
        isolation: Isolation,
        partition: &PartitionHandle,
        offset: &mut u64,
        bytes_max: usize,
    ) -> Result<(), Stop> {
        loop {
            let read = self.read.read(View::log(isolation), partition, *offset, bytes_max)?;
            match read.next_offset().filter(|_| read.is_empty()) {
                Some(behind) => *offset = behind,
                None => return Ok(()),
            }
        }
    }

    /// The partition that `<topic>/<p>` names; `/0` may be left out where it is the only one.
    pub(super) fn partition_named(&self, word: &[u8]) -> Result<PartitionHandle, Refusal> {
        self.partition_named_to(Operation::Read, word)
    }

    /// The same, to do this to it.
    pub(super) fn partition_named_to(&self, operation: Operation, word: &[u8]) -> Result<PartitionHandle, Refusal> {
        let place = Place::parse(word)?;
        let topic = self.broker.find_topic_to(operation, place.topic)?;
        match place.partition {
            Some(index) => Ok(topic.partition(index)?),
            None if topic.partition_count() == 1 => Ok(topic.partition(0)?),
            None => Err(Refusal::invalid(format!(
                "'{}' has {} partitions; name one as {}/0",
                topic.name(),
                topic.partition_count(),
                topic.name()
            ))),
        }
    }
}

/// When a wait of so many ms is over; `None`: not in this life.
pub(super) fn deadline(wait_ms: u64) -> Option<Instant> {
    Instant::now().checked_add(Duration::from_millis(wait_ms))
}

/// FETCH's answer, sent in pieces of so many bytes: a client reads the first while the next is made.
fn write_batches(
    batches: Batches<'_>,
    partition: &PartitionHandle,
    offset: u64,
    end: u64,
    bytes_at_once: usize,
    output: &mut Output<'_>,
) -> Result<(), Stop> {
    let out = &mut output.bytes;
    let field = |out: &mut Vec<u8>, name: &str, number: u64| {
        out.extend_from_slice(name.as_bytes());
        write_u64(out, number);
    };
    out.extend_from_slice(b"RECORDS topic:");
    out.extend_from_slice(partition.topic().as_bytes());
    field(out, " partition:", u64::from(partition.index()));
    field(out, " count:", batches.len() as u64);
    field(out, " next:", batches.next_offset().unwrap_or(offset));
    field(out, " end:", end);
    out.push(b'\n');
    for batch in batches.iter() {
        if output.bytes.len() >= bytes_at_once {
            output.flush()?;
        }
        let out = &mut output.bytes;
        let lines = batch.lines_from(offset);
        let (mut first, mut count, mut timestamp) = (batch.first(), u64::from(batch.count()), batch.timestamp());
        let (trimmed, running) = (offset > first, batch.has_running_times());
        if trimmed || running {
            let mut behind = lines.clone();
            let line = behind.next().and_then(Result::ok);
            timestamp = behind.timestamp();
            if trimmed {
                first = line.map_or(offset, |line| line.offset);
                count = memchr::memchr_iter(b'\n', lines.rest()).count() as u64;
            }
        }
        field(out, "BATCH first:", first);
        field(out, " count:", count);
        out.extend_from_slice(b" timestamp:");
        write_i64(out, timestamp);
        if running {
            out.extend_from_slice(b" times:running");
        }
        field(out, " bytes:", lines.rest().len() as u64);
        out.push(b'\n');
        out.extend_from_slice(lines.rest());
    }
    Ok(())
}
