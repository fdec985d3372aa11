//! Writing: Produce.
//!
//! A request with many partitions first writes to all of them and then makes everything durable. Each partition's batch is
//! atomic, the request is not. With `acks=0` there is no response, so an error closes the connection: the client can be told in
//! no other way.

use super::{
    Call, Code, KEPT_BYTES_MAX, Refusal, Stop,
    batch::{self, Batch, HEADER_BYTES, NAMED_MAX},
    compression::{Codec, Codecs, Levels},
    partition_index, tell,
    topic_ref::TopicRef,
    transactions::if_new,
    wire::{Reader, Writer},
};
use crate::{
    broker::{self, Broker, IfAbsent, ResourceName, StoredBatch, Target, Terms, Ticket, TopicHandle, WriteSession},
    log::{Numbering, batches::Flags, record::RecordRef},
    security::Operation,
};
use std::ops::Range;

/// The first version that names topics by their ids.
const IDS_FROM: i16 = 13;

/// A topic in the request, with a batch for each of these partitions.
struct Topic<'a> {
    topic: TopicRef<'a>,
    /// The topic, or why it cannot be written to.
    found: Result<TopicHandle, Refusal>,
    batches: Vec<Sent<'a>>,
}

/// What is to be written to a partition.
struct Sent<'a> {
    index: i32,
    bytes: Option<&'a [u8]>,
}

/// What became of one partition's batch.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) code: Code,
    pub(super) base_offset: i64,
    pub(super) append_time: i64,
    pub(super) log_start: i64,
    /// The records that were the reason for a refusal, by their positions.
    pub(super) records: Vec<i32>,
    pub(super) why: Option<String>,
}

/// Produce (key 0).
pub(super) fn produce(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    if r.version < 3 {
        return Err(Stop::Broken("versions 0 to 2 carry messages of an older format; they are refused".into()));
    }
    let transactional_id = r.nullable_string("transactional_id")?;
    let acks = r.i16("acks")?;
    let _timeout_ms = r.i32("timeout_ms")?;
    let broker = call.broker;
    let topics = r.array("topic_data", |r| {
        let topic = TopicRef::read(r, "name", IDS_FROM)?;
        let batches = r.array("partition_data", |r| {
            let sent = Sent { index: r.i32("index")?, bytes: r.records("records")? };
            r.tags()?;
            Ok(sent)
        })?;
        r.tags()?;
        Ok(Topic { topic, found: topic.find(broker, Operation::Write), batches })
    })?;
    r.tags()?;
    let outcomes = produce_all(call, transactional_id, acks, &topics);
    if acks == 0 {
        let failed = outcomes.iter().find(|outcome| outcome.code != Code::None);
        return failed.map_or(Ok(()), |outcome| {
            let why = outcome.why.as_deref().unwrap_or("no reason given");
            Err(Stop::Broken(format!("a batch sent with acks=0 is refused with {:?}: {why}", outcome.code)))
        });
    }
    let mut w = call.respond();
    let mut outcomes = outcomes.iter();
    w.array("responses", topics.iter(), |w, Topic { topic, batches, .. }| {
        topic.write(w, "name");
        w.array("partition_responses", batches.iter().zip(&mut outcomes), |w, (sent, outcome)| {
            outcome.write(w, sent.index)
        });
        w.tags();
    });
    w.throttle_time();
    w.tags();
    Ok(())
}

/// Writes everything, then makes everything durable. Returns an outcome for each partition, in order.
fn produce_all(
    call: &mut Call<'_, '_>,
    transactional_id: Option<&str>,
    acks: i16,
    topics: &[Topic<'_>],
) -> Vec<Outcome> {
    let batches = || topics.iter().flat_map(|topic| topic.batches.iter().map(move |sent| (topic, sent)));
    // Asked only where a batch needs it: who is not let is told of.
    let may = |id| call.broker.ask(Operation::Write, ResourceName::transactional_id(id)).is_ok();
    let in_transaction = batches().any(|(_, sent)| sent.bytes.is_some_and(is_transactional));
    let refused = if in_transaction && !transactional_id.is_some_and(may) {
        let why = match transactional_id {
            Some(_) => "you may not write in transactions of this id",
            None => "a batch is of a transaction, and the request has no transactional id",
        };
        Some((Code::TransactionalIdAuthorizationFailed, why))
    } else if !(-1..=1).contains(&acks) {
        Some((Code::InvalidRequiredAcks, "acks is -1, 0 or 1"))
    } else {
        None
    };
    if let Some((code, why)) = refused {
        return batches().map(|_| Outcome::refused(code, why)).collect();
    }
    let (mut written, mut named_left) = (call.broker.write_session(), NAMED_MAX);
    let mut tickets = Vec::new();
    for (topic, sent) in batches() {
        let mut ticket = write(call, &mut written, transactional_id, &topic.found, sent);
        // The limit holds for the request, which may have any number of batches.
        if let Err(outcome) = &mut ticket {
            outcome.records.truncate(named_left);
            outcome.records.shrink_to_fit();
            named_left -= outcome.records.len();
        }
        tickets.push(ticket);
    }
    written.make_durable();
    let outcome = |ticket: Result<Ticket, Outcome>| {
        ticket.and_then(|ticket| stored(&written, ticket)).unwrap_or_else(|refused| refused)
    };
    let outcomes: Vec<Outcome> = tickets.iter().cloned().map(outcome).collect();
    call.touched(written.places().next());
    for (((Topic { topic, found, .. }, sent), ticket), outcome) in batches().zip(&tickets).zip(&outcomes) {
        tell(call.explained, || {
            let size = sent.bytes.map_or(0, |bytes| bytes.len());
            let name = found.as_ref().map_or_else(|_| topic.to_string(), |found| found.name().into());
            let what = match ticket {
                Ok(ticket) if outcome.code == Code::None => shown(&written, *ticket),
                _ => outcome.shown(),
            };
            format!("{name}/{}: a batch of {size} bytes {what}", sent.index)
        });
    }
    outcomes
}

fn is_transactional(bytes: &[u8]) -> bool {
    Batch::open(bytes).is_ok_and(|batch| batch.is_transactional())
}

/// Writes one batch, or returns why it is refused. Where one is of a transaction the request has named a transactional id.
fn write(
    call: &mut Call<'_, '_>,
    written: &mut WriteSession,
    transactional_id: Option<&str>,
    topic: &Result<TopicHandle, Refusal>,
    sent: &Sent<'_>,
) -> Result<Ticket, Outcome> {
    let (broker, version, session) = (call.broker, call.version, &mut *call.session);
    let topic = topic.as_ref().map_err(|refusal| Outcome::refused(refusal.code, &*refusal.why))?;
    let target = written.target(topic, partition_index(sent.index)).map_err(Outcome::failed)?;
    let bytes = sent.bytes.unwrap_or_default();
    let batch = Batch::open(bytes).map_err(|error| Outcome::batch(error, None))?;
    let header = &batch.header;
    if version < 7 && batch.codec().map_or(true, |codec| codec == Codec::Zstd) {
        let why = "zstd is for Produce version 7 and later, and there is no codec behind it";
        return Err(Outcome::refused(Code::UnsupportedCompressionType, why));
    }
    batch.check(target.rules().bytes_max).map_err(|error| Outcome::batch(error, Some(&target)))?;
    if bytes.len() > target.settings().segment_bytes as usize {
        let why = "the record batch is larger than segment.bytes";
        return Err(Outcome::refused(Code::RecordListTooLarge, why).in_log_of(&target));
    }
    let refused = |error| Outcome::batch(error, Some(&target));
    let body = batch.body(&mut session.codecs, &mut session.decompressed).map_err(refused)?;
    let records = batch.records(body, target.rules(), std::mem::take(&mut session.records)).map_err(refused)?;
    if would_store_too_much(&batch, body, &target, &mut session.codecs, &mut session.compressed) {
        let why = "in its topic's compression.type the record batch is larger than max.message.bytes";
        return Err(refused(batch::Error::TooLarge(why)));
    }
    // A record may have only 7 bytes and a header 2, and takes far more in memory.
    let parsed = records.iter().map(|record| 1 + records.headers_of(record).len()).sum::<usize>();
    session.large |= parsed * size_of::<RecordRef<'_>>() > 4 * KEPT_BYTES_MAX;
    let producer = (header.producer_id >= 0).then_some(Numbering {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    });
    // Without a producer a batch is in no transaction, whatever it says of itself: Kafka takes it, too.
    let in_transaction = transactional_id.filter(|_| producer.is_some() && batch.is_transactional());
    let flags = Flags::of_codec(batch.codec().map_or(0, |codec| codec as u8));
    let terms = Terms { producer, flags, ..Terms::default() };
    let ticket = match in_transaction {
        Some(id) => written.write_batch_in_transaction(target.clone(), &records, terms, id, if_absent(broker, version)),
        None => written.write_batch(target.clone(), &records, terms),
    };
    session.records = records.recycle();
    ticket.map_err(|error| match error {
        // As in Kafka, the start offset is told by who looks into the log. The coordinator of transactions does not.
        broker::Error::Sequence(_) => Outcome::failed(error).in_log_of(&target),
        _ if in_transaction.is_some() => Outcome::failed(error),
        _ => Outcome::failed(error).in_log_of(&target),
    })
}

/// What becomes of a batch whose partition is not in the transaction (KIP-890).
fn if_absent(broker: &Broker, version: i16) -> IfAbsent {
    match version {
        ..11 => IfAbsent::Refuse,
        11 => IfAbsent::AskToAbort,
        12.. => if_new(broker),
    }
}

/// Whether the batch would exceed `max.message.bytes` in the codec that its topic asks for, if that is not the one in which it
/// came. A batch that fits uncompressed need not be compressed to find out.
fn would_store_too_much(
    batch: &Batch<'_>,
    body: &[u8],
    target: &Target,
    codecs: &mut Codecs,
    compressed: &mut Vec<u8>,
) -> bool {
    let (settings, most) = (target.settings(), target.rules().bytes_max);
    let wanted = Codec::of_setting(settings.compression_type).filter(|&codec| batch.codec() != Ok(codec));
    let Some(codec) = wanted.filter(|_| HEADER_BYTES + body.len() > most) else { return false };
    if codec == Codec::None {
        return true;
    }
    codecs.levels = Levels::of_settings(settings);
    codecs.compress(codec, body, compressed);
    HEADER_BYTES + compressed.len() > most
}

/// What the client is told about a batch that was stored.
fn stored(written: &WriteSession, ticket: Ticket) -> Result<Outcome, Outcome> {
    let StoredBatch { offsets, appended_ms, duplicate, start } = written.stored(ticket).map_err(Outcome::failed)?;
    Ok(Outcome {
        code: Code::None,
        base_offset: offsets.start as i64,
        // For a duplicate Kafka tells it even if the topic's timestamps are the producer's.
        append_time: if written.target_of(ticket).rules().append_time || duplicate { appended_ms } else { -1 },
        log_start: start.map_or(-1, |start| start as i64),
        records: Vec::new(),
        why: None,
    })
}

/// The same in words, for `--explain`.
fn shown(written: &WriteSession, ticket: Ticket) -> String {
    let (Ok(stored), Some((file, positions))) = (written.stored(ticket), written.place(ticket)) else {
        return "is gone".into();
    };
    let (first, last) = (stored.offsets.start, stored.offsets.end - 1);
    if stored.duplicate {
        return format!("was written before, as offsets {first} to {last}; it is not written again");
    }
    let Range { start, end } = positions;
    format!("becomes offsets {first} to {last}, bytes {start} to {end} of {}", file.display())
}

impl Outcome {
    fn refused(code: Code, why: impl Into<String>) -> Outcome {
        Outcome { code, base_offset: -1, append_time: -1, log_start: -1, records: Vec::new(), why: Some(why.into()) }
    }

    fn failed(error: broker::Error) -> Outcome {
        Outcome::refused(error.code(), error.to_string())
    }

    /// Why a batch is refused. As in Kafka, the start offset is told unless the batch was refused before its records were read.
    fn batch(error: batch::Error, target: Option<&Target>) -> Outcome {
        let (code, why) = error.answer();
        let records = if let batch::Error::Records(_, _, records) = error { records } else { Vec::new() };
        let refused = Outcome { records, ..Outcome::refused(code, why) };
        match target {
            Some(target) if !matches!(code, Code::CorruptMessage | Code::MessageTooLarge) => refused.in_log_of(target),
            _ => refused,
        }
    }

    fn in_log_of(self, target: &Target) -> Outcome {
        Outcome { log_start: target.start().map_or(-1, |start| start as i64), ..self }
    }

    fn shown(&self) -> String {
        format!("is refused with {:?}: {}", self.code, self.why.as_deref().unwrap_or_default())
    }

    pub(super) fn write(&self, w: &mut Writer<'_>, index: i32) {
        w.i32("index", index);
        w.i16("error_code", self.code.into());
        w.i64("base_offset", self.base_offset);
        w.i64("log_append_time_ms", self.append_time);
        if w.version >= 5 {
            w.i64("log_start_offset", self.log_start);
        }
        if w.version >= 8 {
            w.array("record_errors", self.records.iter(), |w, &index| {
                w.i32("batch_index", index);
                w.nullable_string("batch_index_error_message", self.why.as_deref());
                w.tags();
            });
            w.nullable_string("error_message", self.why.as_deref());
        }
        w.tags();
    }
}
