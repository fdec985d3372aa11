//! Writing: Produce, and InitProducerId for producers that number their batches.
//!
//! A request over many partitions writes to all of them and then makes all durable; each partition is atomic by itself, the
//! request is not. `acks=0` gets no response at all, and an error closes the connection: nothing else can tell its client.

use super::{
    Call, Code, KEPT_BYTES_MAX, Session, Stop,
    batch::{self, Batch, NAMED_MAX, Rules},
    compression::Codec,
    partition_index, tell,
    wire::{Reader, Writer},
};
use crate::{
    broker::{Broker, Partition, Terms, is_internal},
    log::{Appended, record::RecordRef},
};
use std::sync::Arc;

/// How far in the future a timestamp may lie: Kafka's `message.timestamp.after.max.ms`.
const FUTURE_MAX_MS: i64 = 3600 * 1000;

/// A topic's partitions, each with its batch.
type Topic<'a> = (&'a str, Vec<(i32, Option<&'a [u8]>)>);

/// What becomes of one partition's batch.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) code: Code,
    pub(super) base_offset: i64,
    pub(super) append_time: i64,
    pub(super) log_start: i64,
    /// Records that are the reason, and the reason.
    pub(super) records: Vec<i32>,
    pub(super) why: Option<String>,
}

/// Written, and not yet as durable as was promised.
struct Written {
    partition: Arc<Partition>,
    appended: Appended,
    append_time: bool,
}

/// Why a batch is not written, and whether Kafka tells the start offset with it.
struct Refused(Code, String, Vec<i32>, Option<Arc<Partition>>);

/// Produce (key 0).
pub(super) fn produce(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    if r.version < 3 {
        return Err(Stop::Broken("versions 0 to 2 carry messages of an older format; they are refused".into()));
    }
    let _transactional_id = r.nullable_string()?;
    let acks = r.i16()?;
    let _timeout_ms = r.i32()?;
    let topics = r.array(|r| {
        let name = r.string()?;
        let partitions = r.array(|r| {
            let partition = (r.i32()?, r.nullable_bytes()?);
            r.tags()?;
            Ok(partition)
        })?;
        r.tags()?;
        Ok((name, partitions))
    })?;
    r.tags()?;
    let outcomes = produce_all(call, acks, &topics);
    if acks == 0 {
        let failed = outcomes.iter().find(|outcome| outcome.code != Code::None);
        return failed.map_or(Ok(()), |outcome| {
            let why = outcome.why.as_deref().unwrap_or("no reason given");
            Err(Stop::Broken(format!("a batch sent with acks=0 is refused with {:?}: {why}", outcome.code)))
        });
    }
    let mut w = call.respond();
    let mut outcomes = outcomes.iter();
    w.array(topics.iter(), |w, (name, partitions)| {
        w.string(name);
        w.array(partitions.iter().zip(&mut outcomes), |w, ((index, _), outcome)| outcome.write(w, *index));
        w.tags();
    });
    w.i32(0);
    w.tags();
    Ok(())
}

/// Writes everything, then settles everything. An outcome for each partition, in order.
fn produce_all(call: &mut Call<'_, '_>, acks: i16, topics: &[Topic<'_>]) -> Vec<Outcome> {
    let batches = || topics.iter().flat_map(|(name, partitions)| partitions.iter().map(move |p| (*name, p)));
    let refused = if !(-1..=1).contains(&acks) {
        Some((Code::InvalidRequiredAcks, "acks is -1, 0 or 1"))
    } else if batches().any(|(_, (_, bytes))| bytes.is_some_and(is_transactional)) {
        Some((Code::TransactionalIdAuthorizationFailed, "there are no transactions here"))
    } else {
        None
    };
    if let Some((code, why)) = refused {
        return batches().map(|_| Outcome::refused(Refused(code, why.into(), vec![], None))).collect();
    }
    let (broker, version) = (call.broker, call.version);
    let (mut written, mut named_left) = (Vec::new(), NAMED_MAX);
    for (name, (index, bytes)) in batches() {
        let mut outcome = write(broker, call.session, version, name, *index, bytes.unwrap_or_default());
        // So many records are named in all: a request may hold any number of batches.
        if let Err(Refused(_, _, records, _)) = &mut outcome {
            records.truncate(named_left);
            records.shrink_to_fit();
            named_left -= records.len();
        }
        written.push(outcome);
    }
    for ((name, (index, bytes)), written) in batches().zip(&written) {
        tell(call.explained, || {
            let size = bytes.map_or(0, |bytes| bytes.len());
            format!(
                "{name}/{index}: a batch of {size} bytes {}",
                written.as_ref().map_or_else(Refused::shown, Written::shown)
            )
        });
    }
    written.into_iter().map(|written| written.and_then(settle).unwrap_or_else(Outcome::refused)).collect()
}

fn is_transactional(bytes: &[u8]) -> bool {
    Batch::open(bytes).is_ok_and(|batch| batch.is_transactional())
}

fn write(
    broker: &Broker,
    session: &mut Session,
    version: i16,
    name: &str,
    index: i32,
    bytes: &[u8],
) -> Result<Written, Refused> {
    let refused = |error: crate::broker::Error| Refused(error.code(), error.to_string(), vec![], None);
    let topic = broker.topic(name).map_err(refused)?;
    if is_internal(name) {
        return Err(Refused(Code::InvalidTopicException, "this is the broker's own topic".into(), vec![], None));
    }
    let partition = topic.partition(partition_index(index)).map_err(refused)?;
    let settings = topic.settings();
    let batch = Batch::open(bytes).map_err(|error| Refused::batch(error, None))?;
    let told = Some(partition.clone());
    let header = &batch.header;
    if version < 7 && batch.codec().map_or(true, |codec| codec == Codec::Zstd) {
        let why = "zstd is for Produce version 7 and later, and there is no codec behind it";
        return Err(Refused(Code::UnsupportedCompressionType, why.into(), vec![], None));
    }
    batch.check(settings.max_message_bytes as usize).map_err(|error| Refused::batch(error, told.clone()))?;
    if bytes.len() > settings.segment_bytes as usize {
        let why = "the record batch is larger than segment.bytes";
        return Err(Refused(Code::RecordListTooLarge, why.into(), vec![], told));
    }
    let rules = Rules {
        append_time: settings.append_time(),
        keys_required: settings.cleanup_policy.compacts(),
        timestamp_max: broker.now_ms() + FUTURE_MAX_MS,
    };
    let records = std::mem::take(&mut session.records);
    let records = batch.records(&rules, &mut session.codecs, &mut session.decompressed, records);
    let records = records.map_err(|error| Refused::batch(error, told.clone()))?;
    // Few bytes become many: 7 are a record, 2 a header.
    let parsed = records.iter().map(|record| 1 + records.headers_of(record).len()).sum::<usize>();
    session.large |= parsed * size_of::<RecordRef<'_>>() > 4 * KEPT_BYTES_MAX;
    // No flags: no transaction comes this far.
    let terms = Terms {
        flags: 0,
        producer: (header.producer_id >= 0).then_some((
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
        )),
        whole: true,
    };
    let appended = partition.write(&records, terms);
    session.records = records.recycle();
    let appended = appended.map_err(|error| Refused(error.code(), error.to_string(), vec![], told))?;
    Ok(Written { partition, appended, append_time: settings.append_time() })
}

fn settle(written: Written) -> Result<Outcome, Refused> {
    let Written { partition, appended, append_time } = written;
    partition.settle(&appended).map_err(|error| Refused(error.code(), error.to_string(), vec![], None))?;
    Ok(Outcome {
        code: Code::None,
        base_offset: appended.offsets.start as i64,
        // Kafka tells it of duplicates, whatever the topic's clock is.
        append_time: if append_time || appended.known { appended.now_ms } else { -1 },
        log_start: partition.start().map_or(-1, |start| start as i64),
        records: Vec::new(),
        why: None,
    })
}

impl Written {
    fn shown(&self) -> String {
        let Appended { offsets, place: (file, positions), .. } = &self.appended;
        let (first, last) = (offsets.start, offsets.end - 1);
        if self.appended.known {
            return format!("was written before, as offsets {first} to {last}; it is not written again");
        }
        format!(
            "becomes offsets {first} to {last}, bytes {} to {} of {}",
            positions.start,
            positions.end,
            file.display()
        )
    }
}

impl Refused {
    fn shown(&self) -> String {
        format!("is refused with {:?}: {}", self.0, self.1)
    }

    fn batch(error: batch::Error, partition: Option<Arc<Partition>>) -> Refused {
        let (code, why) = error.answer();
        let told = partition.filter(|_| !matches!(code, Code::CorruptMessage | Code::MessageTooLarge));
        let records = if let batch::Error::Records(_, _, records) = error { records } else { Vec::new() };
        Refused(code, why.into(), records, told)
    }
}

impl Outcome {
    fn refused(Refused(code, why, records, partition): Refused) -> Outcome {
        let log_start = partition.and_then(|partition| partition.start().ok()).map_or(-1, |start| start as i64);
        Outcome { code, base_offset: -1, append_time: -1, log_start, records, why: Some(why) }
    }

    pub(super) fn write(&self, w: &mut Writer<'_>, index: i32) {
        w.i32(index);
        w.i16(self.code.into());
        w.i64(self.base_offset);
        w.i64(self.append_time);
        if w.version >= 5 {
            w.i64(self.log_start);
        }
        if w.version >= 8 {
            w.array(self.records.iter(), |w, &index| {
                w.i32(index);
                w.nullable_string(self.why.as_deref());
                w.tags();
            });
            w.nullable_string(self.why.as_deref());
        }
        w.tags();
    }
}

/// InitProducerId (key 22).
pub(super) fn init_producer_id(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let transactional_id = r.nullable_string()?;
    let _timeout_ms = r.i32()?;
    if r.version >= 3 {
        // Without a transactional id Kafka does not look at the id and epoch that a client has: it gets new ones.
        let _known = (r.i64()?, r.i16()?);
    }
    r.tags()?;
    let made = match transactional_id {
        None => call.broker.new_producer_id().map_err(|error| error.code()),
        Some("") => Err(Code::InvalidRequest),
        Some(_) => Err(Code::TransactionalIdAuthorizationFailed),
    };
    tell(call.explained, || match made {
        Ok(id) => format!("an id for an idempotent producer: {id}"),
        Err(code) => format!("no id for a producer: {code:?}"),
    });
    let mut w = call.respond();
    w.i32(0);
    w.i16(made.map_or_else(|code| code, |_| Code::None).into());
    w.i64(made.unwrap_or(-1));
    w.i16(if made.is_ok() { 0 } else { -1 });
    w.tags();
    Ok(())
}
