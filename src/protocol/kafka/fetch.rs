//! Fetch: the log's lines as record batches, encoded straight into the response.
//!
//! ```text
//! entries   [0-3] [4] [5] [6] [7] [8 of producer 1000] [9-12 gzip]
//! batches   [0-3] [4────────────7] [8                ] [9-12 gzip]   single records without a producer become one
//! ```
//!
//! - A response holds at least one batch if there is one, even above the limits, and nothing above the high watermark.
//! - Who reads what is committed gets the log up to the last stable offset as it stands, with aborted records and markers, and
//!   the aborted transactions of which something is in the answer: the client passes over their records (KIP-98).
//! - It waits until there are `min_bytes`, for at most `max_wait_ms`, and not at all if a partition has an error.
//! - If compaction left no record up to the end of the log, the response has a batch without records, as Kafka would keep one.
//! - A batch is sent whole, as Kafka does, even if the offset is in the middle of it. The exception is a large batch sent
//!   uncompressed: with more than a megabyte of lines it begins at the offset, with more than two it ends early.
//! - A batch is sent in the codec of its topic's `compression.type`. If that is `producer`, it is sent in the codec in which it
//!   came to the clients that [`FetchCompression`] selects, and uncompressed to the others.

use super::{
    Call, Code, Explained, KEPT_BYTES_MAX, Session, Stop,
    batch::{self, Encoder, HEADER_BYTES, Internal, write_empty},
    check_leader_epoch,
    compression::{Codec, Levels},
    isolation, partition_index, tell,
    topic_ref::TopicRef,
    wire::{ITEM, Reader, Writer},
};
use crate::{
    broker::{self, Broker, Isolation, PartitionHandle, ReadBatch, ReadSession, TopicHandle, View, is_internal},
    config::{CompressionType, FetchCompression, Settings},
    log::{Aborted, Backlog, record::Malformed},
    security::{HeldBack, Operation, Quota},
};
use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

/// The first version that names topics by their ids.
const IDS_FROM: i16 = 13;
/// Single records are joined into batches of about this size. A large batch sent uncompressed ends at twice this size.
const BATCH_BYTES: usize = 1 << 20;
/// The largest answer, whatever a client asks for: the broker's own `fetch.max.bytes` in Kafka.
const ANSWER_BYTES_MAX: usize = 55 << 20;

/// Kafka's index of a log has an entry for every so many bytes, and a Fetch is told what was aborted up to the one behind its records.
/// Clients pass over what is beyond them.
const INDEX_INTERVAL_BYTES: usize = 4 << 10;

/// A Fetch that waits for more than one byte looks again no sooner than this: many small batches may come meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A partition in the request.
struct Asked {
    index: i32,
    leader_epoch: i32,
    offset: i64,
    bytes_max: usize,
    /// The partition, or why it cannot be read.
    found: Result<PartitionHandle, Code>,
}

/// A topic in the request.
struct AskedTopic<'a> {
    topic: TopicRef<'a>,
    /// The codec in which its batches are sent; `None`: each in its own.
    codec: Option<Codec>,
    levels: Levels,
    partitions: Vec<Asked>,
}

/// About how many bytes a backlog would take in Kafka's log.
fn bytes_in_kafka(backlog: Backlog) -> u64 {
    backlog.bytes + backlog.batches * HEADER_BYTES as u64
}

impl Asked {
    /// About how many bytes there are to be read. What exceeds `enough` need not be counted.
    fn bytes_waiting(&self, enough: u64, isolation: Isolation) -> Result<u64, Code> {
        let partition = self.found.as_ref().map_err(|code| *code)?;
        check_leader_epoch(self.leader_epoch, partition.leader_epoch())?;
        let offset = u64::try_from(self.offset).map_err(|_| Code::OffsetOutOfRange)?;
        let backlog = partition.backlog(isolation, offset, enough).map_err(|error| error.code())?;
        Ok(bytes_in_kafka(backlog).min(self.bytes_max as u64))
    }
}

impl AskedTopic<'_> {
    /// The codec in which a batch is sent in this version. Clients know zstd since version 10.
    fn codec_of(&self, batch: ReadBatch<'_>, version: i16) -> Codec {
        match codec_of(self.codec, batch) {
            Codec::Zstd if version < 10 => Codec::None,
            codec => codec,
        }
    }
}

/// The codec in which a batch is sent: that one, or (`None`) its own.
pub(super) fn codec_of(chosen: Option<Codec>, batch: ReadBatch<'_>) -> Codec {
    match chosen.unwrap_or_else(|| Codec::of_stored(batch.codec())) {
        _ if batch.is_control() => Codec::None,
        codec => codec,
    }
}

/// Fetch (key 1).
pub(super) fn fetch(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    if r.version < 15 {
        r.i32("replica_id")?;
    }
    let max_wait = Duration::from_millis(r.i32("max_wait_ms")?.max(0) as u64);
    let min_bytes = r.i32("min_bytes")?.max(0) as usize;
    let max_bytes = (r.i32("max_bytes")?.max(0) as usize).min(ANSWER_BYTES_MAX);
    // As in Kafka: more would never be free at once.
    let max_bytes = call.broker.at_once(Quota::FetchedBytes).map_or(max_bytes, |most| max_bytes.min(most as usize));
    // The answer cannot have more than that.
    let min_bytes = min_bytes.min(max_bytes);
    let isolation = isolation(r.i8("isolation_level")?);
    let session_epoch = if r.version >= 7 { (r.i32("session_id")?, r.i32("session_epoch")?).1 } else { -1 };
    let broker = call.broker;
    let as_produced = as_produced(call)?;
    let mut asked_for = HashSet::new();
    let topics = r.array("topics", |r| {
        let topic = TopicRef::read(r, "topic", IDS_FROM)?;
        let found = topic.find(broker, Operation::Read).map_err(|refusal| refusal.code);
        let mut partitions = r.array("partitions", |r| read_partition(r, &found))?;
        r.tags()?;
        // A partition that is listed twice is answered once.
        partitions.retain(|asked| asked_for.insert((topic, asked.index)));
        let settings = found.map(|found| found.settings()).unwrap_or_default();
        let (codec, levels) = compression(&settings, as_produced);
        Ok(AskedTopic { topic, codec, levels, partitions })
    })?;
    if r.version >= 7 {
        r.array("forgotten_topics_data", |r| {
            TopicRef::read(r, "topic", IDS_FROM)?;
            r.array("partitions", |r| r.i32(ITEM))?;
            r.tags()
        })?;
    }
    if r.version >= 11 {
        r.string("rack_id")?;
    }
    r.tags()?;
    // Sessions are never opened, so none can be continued.
    let refused = match isolation {
        _ if !matches!(session_epoch, -1 | 0) => Some(Code::FetchSessionIdNotFound),
        // As in Kafka: where topics have names, each partition says it.
        Err(code) if r.version >= IDS_FROM => Some(code),
        _ => None,
    };
    if let Some(code) = refused {
        let mut w = call.respond();
        write_head(&mut w, code);
        w.empty_array("responses");
        w.tags();
        return Ok(());
    }
    let deadline = Instant::now() + max_wait;
    let waiter = call.output.waiter.clone();
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions).filter_map(|asked| asked.found.as_ref().ok());
    let before = call.output.bytes.len();
    let (bytes, failed) = respond(call, &topics, Some(max_bytes), isolation);
    if bytes >= min_bytes || failed || Instant::now() >= deadline || partitions().next().is_none() {
        hold_back(call, &topics, isolation, before);
        return Ok(());
    }
    call.output.bytes.truncate(before);
    call.response_at = None;
    // Registering before looking again makes sure that no wake-up is missed.
    let _registered: Vec<_> = partitions().map(|partition| partition.register(&waiter)).collect();
    while isolation.is_ok_and(|isolation| !is_enough(&topics, min_bytes, isolation)) {
        // Thousands may wait at once.
        call.session.forget();
        call.output.flush()?;
        let looked = Instant::now();
        if !call.output.wait_while_connected(Some(deadline))? {
            break;
        }
        if min_bytes > 1 {
            let next = deadline.min(looked + LOOK_EVERY);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    let before = call.output.bytes.len();
    respond(call, &topics, Some(max_bytes), isolation);
    hold_back(call, &topics, isolation, before);
    Ok(())
}

/// Takes the records out of a response, which begins there, for whose bytes the client is to wait first.
fn hold_back(call: &mut Call<'_, '_>, topics: &[AskedTopic<'_>], isolation: Result<Isolation, Code>, at: usize) {
    let bytes = call.output.bytes.len() - at;
    match call.broker.hold_back(Quota::FetchedBytes, bytes as f64) {
        HeldBack::No(wait) => call.wait = wait,
        HeldBack::Yes(wait) => {
            call.wait = wait;
            call.output.bytes.truncate(at);
            respond(call, topics, None, isolation);
        }
    }
}

/// Whether batches are sent in the codec in which they came.
pub(super) fn as_produced(call: &Call<'_, '_>) -> Result<bool, Stop> {
    Ok(match call.broker.config().fetch_compression {
        FetchCompression::Auto => !call.output.is_local()?,
        FetchCompression::Always => true,
        FetchCompression::Never => false,
    })
}

/// Whether a waiting Fetch has `min_bytes` to send, or an error. Only the log's entries are read for that: each counts about as
/// many bytes as its batch would take in Kafka's log, and a partition no more than the client wants from it.
fn is_enough(topics: &[AskedTopic<'_>], min_bytes: usize, isolation: Isolation) -> bool {
    let mut missing = min_bytes as u64;
    for asked in topics.iter().flat_map(|topic| &topic.partitions) {
        let Ok(bytes) = asked.bytes_waiting(missing, isolation) else { return true };
        missing = missing.saturating_sub(bytes);
    }
    missing == 0
}

/// The codec in which a topic's batches are sent (`None`: each in its own), and the levels. As in Kafka, a topic's levels apply
/// only to a codec that the topic chose.
pub(super) fn compression(settings: &Settings, as_produced: bool) -> (Option<Codec>, Levels) {
    match settings.compression_type {
        CompressionType::Producer if as_produced => (None, Levels::FAST),
        CompressionType::Producer => (Some(Codec::None), Levels::FAST),
        chosen => (Codec::of_setting(chosen), Levels::of_settings(settings)),
    }
}

fn read_partition(r: &mut Reader<'_>, topic: &Result<TopicHandle, Code>) -> super::wire::Result<Asked> {
    let index = r.i32("partition")?;
    let leader_epoch = if r.version >= 9 { r.i32("current_leader_epoch")? } else { -1 };
    let offset = r.i64("fetch_offset")?;
    if r.version >= 12 {
        r.i32("last_fetched_epoch")?;
    }
    if r.version >= 5 {
        r.i64("log_start_offset")?;
    }
    let bytes_max = r.i32("partition_max_bytes")?.max(0) as usize;
    r.tags()?;
    let found = topic.as_ref().map_err(|code| *code);
    let found = found.and_then(|topic| topic.partition(partition_index(index)).map_err(|error| error.code()));
    Ok(Asked { index, leader_epoch, offset, bytes_max, found })
}

fn write_head(w: &mut Writer<'_>, code: Code) {
    w.throttle_time();
    if w.version >= 7 {
        w.i16("error_code", code.into());
        w.i32("session_id", 0);
    }
}

/// Writes the response; where it may have no bytes, without any records. Returns how many bytes of records it has, and whether a
/// partition has an error.
fn respond(
    call: &mut Call<'_, '_>,
    topics: &[AskedTopic<'_>],
    max_bytes: Option<usize>,
    isolation: Result<Isolation, Code>,
) -> (usize, bool) {
    let (mut bytes, mut failed, mut full) = (0, false, max_bytes.is_none());
    let max_bytes = max_bytes.unwrap_or(0);
    let mut session = std::mem::take(call.session);
    let (explained, is_watched, mut file) = (call.explained, call.spans.is_some(), None);
    let broker = call.broker;
    let mut w = call.respond();
    write_head(&mut w, isolation.err().unwrap_or(Code::None));
    w.array("responses", topics.iter(), |w, topic| {
        session.codecs.levels = topic.levels;
        topic.topic.write(w, "topic");
        w.array("partitions", topic.partitions.iter(), |w, asked| {
            let left = if full { 0 } else { max_bytes.saturating_sub(bytes).min(asked.bytes_max) };
            let at_least_one = bytes == 0 && !full;
            let read = isolation
                .and_then(|isolation| read(asked, isolation, &mut session.read, left, at_least_one, &mut full));
            session.large |= full || session.read.batches().bytes().len() > KEPT_BYTES_MAX;
            failed |= read.is_err();
            if explained.is_some() && (read.is_err() || !session.read.batches().is_empty()) {
                explain(explained, topic, asked, &read, &session.read);
            }
            if is_watched && read.is_ok() && file.is_none() {
                file = session.read.place();
            }
            bytes += write_partition(w, broker, asked, topic, read, left, &mut session);
            w.tags();
        });
        w.tags();
    });
    w.tags();
    *call.session = session;
    call.touched(file);
    (bytes, failed)
}

/// What the response says about a partition besides its records.
struct Bounds {
    high_watermark: i64,
    last_stable: i64,
    start: i64,
    leader_epoch: i32,
    /// The aborted transactions with records or a marker among what was read; `None`: the client wants those records, too.
    aborted: Option<Vec<Aborted>>,
}

impl Bounds {
    /// What is said where nothing can be read. As in Kafka, the list is null for a partition that was looked at.
    fn nowhere(asked: &Asked, code: Code) -> Bounds {
        let aborted = (asked.found.is_err() || code == Code::InvalidRequest).then(Vec::new);
        Bounds { high_watermark: -1, last_stable: -1, start: -1, leader_epoch: 0, aborted }
    }
}

/// Reads as much as fits in `bytes_max`; with `at_least_one`, the first batch even if it does not fit. Without, a first batch that
/// does not fit makes the answer `full`, so that no other is read in vain.
fn read(
    asked: &Asked,
    isolation: Isolation,
    reader: &mut ReadSession,
    bytes_max: usize,
    at_least_one: bool,
    full: &mut bool,
) -> Result<Bounds, Code> {
    let partition = asked.found.as_ref().map_err(|code| *code)?;
    check_leader_epoch(asked.leader_epoch, partition.leader_epoch())?;
    reader.clear();
    let failed = |error: broker::Error| error.code();
    let (start, end) = (partition.start().map_err(failed)?, partition.high_watermark().map_err(failed)?);
    let last_stable = partition.last_stable_offset().map_err(failed)?;
    let offset = u64::try_from(asked.offset).map_err(|_| Code::OffsetOutOfRange)?;
    if bytes_max > 0 || at_least_one || offset > end || offset < start {
        let batches = reader.read(View::stored(isolation), partition, offset, bytes_max).map_err(failed)?;
        let too_large = batches.iter().next().is_some_and(|first| first.bytes() > bytes_max);
        if too_large && !at_least_one {
            reader.clear();
            *full = true;
        }
    }
    // Both may have moved since. A client must not see records above them, nor the one above the other.
    let next = reader.batches().next_offset().unwrap_or(0);
    let last_stable = if isolation == Isolation::ReadCommitted { last_stable.max(next) } else { last_stable };
    let high_watermark = end.max(next).max(last_stable);
    let aborted = match isolation {
        Isolation::ReadUncommitted => None,
        Isolation::ReadCommitted if !reader.batches().have_transactions() => Some(Vec::new()),
        Isolation::ReadCommitted => {
            let enough = (bytes_max + INDEX_INTERVAL_BYTES) as u64;
            let is_last = partition.backlog(isolation, offset, enough).map_err(failed).map(bytes_in_kafka)? < enough;
            let end = if is_last { last_stable } else { next };
            Some(partition.aborted(offset..end.max(offset)).map_err(failed)?)
        }
    };
    // Where nothing was read nobody asked whether that may still be.
    partition.still_there().map_err(failed)?;
    let [high_watermark, last_stable, start] = [high_watermark, last_stable, start].map(|offset| offset as i64);
    Ok(Bounds { high_watermark, last_stable, start, leader_epoch: partition.leader_epoch() as i32, aborted })
}

/// Writes one partition and returns how many bytes of records it has.
fn write_partition(
    w: &mut Writer<'_>,
    broker: &Broker,
    asked: &Asked,
    topic: &AskedTopic<'_>,
    read: Result<Bounds, Code>,
    bytes_max: usize,
    session: &mut Session,
) -> usize {
    w.i32("partition_index", asked.index);
    let code_at = w.out.len();
    w.i16("error_code", read.as_ref().map_or_else(|code| *code, |_| Code::None).into());
    if read.is_err() {
        session.read.clear();
    }
    let Bounds { high_watermark, last_stable, start, leader_epoch, aborted } =
        read.unwrap_or_else(|code| Bounds::nowhere(asked, code));
    w.i64("high_watermark", high_watermark);
    w.i64("last_stable_offset", last_stable);
    if w.version >= 5 {
        w.i64("log_start_offset", start);
    }
    match aborted {
        None => w.null_array("aborted_transactions"),
        Some(aborted) => w.array("aborted_transactions", aborted.iter(), |w, aborted| {
            w.i64("producer_id", aborted.producer_id);
            w.i64("first_offset", aborted.first as i64);
            w.tags();
        }),
    }
    if w.version >= 11 {
        w.i32("preferred_read_replica", -1);
    }
    let version = w.version;
    let estimate = session.read.batches().bytes().len();
    let (bytes, whole) = w.records("records", estimate, |out| {
        let before = out.len();
        let codec_of = |batch: ReadBatch<'_>| topic.codec_of(batch, version);
        let internal = asked.found.as_ref().ok().map(PartitionHandle::topic).filter(|topic| is_internal(topic));
        let internal = internal.map(|topic| Internal { topic, broker });
        let target = Target { offset: asked.offset as u64, through: None, bytes_max, leader_epoch, internal };
        let written = write_batches(out, &target, codec_of, session);
        (out.len() - before, written.is_ok())
    });
    // The very first line is invalid: asking again would not help.
    if bytes == 0 && !whole {
        w.change_code(code_at, Code::CorruptMessage.into());
    }
    bytes
}

fn explain(
    explained: Explained,
    topic: &AskedTopic<'_>,
    asked: &Asked,
    read: &Result<Bounds, Code>,
    reader: &ReadSession,
) {
    let name = match &asked.found {
        Ok(partition) => partition.topic().into(),
        Err(_) => topic.topic.to_string(),
    };
    let what = match (read, reader.place()) {
        (Err(code), _) => format!("{code:?}"),
        (Ok(Bounds { high_watermark, .. }), None) => format!("nothing yet, the end is {high_watermark}"),
        (Ok(_), Some((file, positions))) => {
            let next = reader.batches().next_offset().unwrap_or_default();
            format!("up to offset {next}, bytes {} to {} of {}", positions.start, positions.end, file.display())
        }
    };
    tell(explained, || format!("{name}/{} from offset {}: {what}", asked.index, asked.offset));
}

/// What is wanted of the batches that were read.
pub(super) struct Target<'a> {
    /// Records from this offset on.
    pub(super) offset: u64,
    /// The last offset that is wanted: all up to it, in whole batches. Else what fits.
    pub(super) through: Option<u64>,
    pub(super) bytes_max: usize,
    pub(super) leader_epoch: i32,
    /// The topic, if it is one of the broker's own.
    pub(super) internal: Option<Internal<'a>>,
}

/// Writes the batches that were read, from the one with `offset` on. A small batch can take more bytes than its lines, so this ends
/// before the one that exceeds `bytes_max`, unless it is the first. The CRCs are known to be right, so an invalid line was put there by hand: only
/// what comes before it is written.
pub(super) fn write_batches(
    out: &mut Vec<u8>,
    &Target { offset, through, bytes_max, leader_epoch, internal }: &Target<'_>,
    codec_of: impl Fn(ReadBatch<'_>) -> Codec,
    session: &mut Session,
) -> Result<(), Malformed> {
    let Session { read, codecs, compressed, .. } = session;
    let (read, start) = (read.batches(), out.len());
    if let Some(next) = read.next_offset().filter(|_| read.is_empty() && through.is_none()) {
        // Compaction left no record up to the end, and without a batch the client would ask for the same offset forever.
        write_empty(out, offset..next, leader_epoch);
    }
    let is_wanted = |batch: &ReadBatch<'_>| through.is_none_or(|last| batch.first() <= last && batch.last() >= offset);
    let (bytes_max, lines_max) =
        if through.is_some() { (usize::MAX, usize::MAX) } else { (bytes_max, 2 * BATCH_BYTES) };
    let mut batches = read.iter().filter(is_wanted).peekable();
    while let Some(first) = batches.next() {
        let before = out.len();
        let mut encoder = Encoder::new(out, facts(first, leader_epoch)).of_internal(internal);
        let codec = codec_of(first);
        let mut last = first;
        let mut added = lines(&mut encoder, first, offset, codec, lines_max);
        let joins = |next: ReadBatch<'_>| first.is_plain_record() && next.is_plain_record() && codec_of(next) == codec;
        while let Some(next) =
            batches.next_if(|&next| matches!(added, Ok(true)) && encoder.size() < BATCH_BYTES && joins(next))
        {
            added = lines(&mut encoder, next, offset, codec, lines_max);
            last = next;
        }
        // A batch that ends early covers only the offsets of its own records, and is the last.
        let covered = if matches!(added, Ok(true)) { last.last() } else { 0 };
        encoder.finish(covered, codec, codecs, compressed);
        if out.len() - start > bytes_max && before > start {
            out.truncate(before);
            break;
        }
        if !added? || out.len() - start >= bytes_max {
            break;
        }
    }
    Ok(())
}

/// Adds a batch's lines. Returns whether all of them were added.
fn lines(
    encoder: &mut Encoder<'_>,
    batch: ReadBatch<'_>,
    offset: u64,
    codec: Codec,
    lines_max: usize,
) -> Result<bool, Malformed> {
    if codec != Codec::None {
        return encoder.lines(batch.lines(), usize::MAX);
    }
    let lines = match batch.bytes() {
        0..=BATCH_BYTES => batch.lines(),
        _ => batch.lines_from(offset),
    };
    encoder.lines(lines, encoder.size().saturating_add(lines_max))
}

fn facts(batch: ReadBatch<'_>, leader_epoch: i32) -> batch::Facts {
    batch::Facts {
        first: batch.first(),
        append_time: batch.has_append_time(),
        transactional: batch.is_transactional(),
        control: batch.is_control(),
        producer_id: batch.producer_id(),
        producer_epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
        leader_epoch,
    }
}

#[cfg(all(test, feature = "users"))]
mod tests {
    use super::*;
    use crate::{
        broker::Caller,
        config::Config,
        security::{ANY_HOST, Acl, AclFilter, Operation, PatternType, Permission, Principal, Proof, ResourceType},
    };

    /// Where nothing is read, too.
    #[test]
    fn whose_right_went_is_not_told_where_a_partition_ends() {
        let mut config = Config::in_memory();
        config.security.users = true;
        let broker = Broker::open(config).unwrap();
        broker.create_topic("orders", 1).unwrap();
        let rule = Acl {
            resource_type: ResourceType::Topic,
            pattern: PatternType::Literal,
            name: "orders".into(),
            principal: "User:alice".into(),
            host: ANY_HOST.into(),
            operation: Operation::Read,
            permission: Permission::Allow,
        };
        broker.create_acls(&[rule]).unwrap();
        let alice = Caller { principal: Principal::new("alice", Proof::Password), ..broker.caller().clone() };
        let found = broker.on_behalf_of(alice).find_partition("orders", 0).map_err(|error| error.code());
        let asked = Asked { index: 0, leader_epoch: -1, offset: 0, bytes_max: 0, found };
        let mut reader = broker.read_session();
        let mut told =
            || read(&asked, Isolation::ReadUncommitted, &mut reader, 0, false, &mut false).map(|told| told.start);
        assert_eq!(told(), Ok(0));
        broker.delete_acls(&[AclFilter::default()]).unwrap();
        assert_eq!(told(), Err(Code::TopicAuthorizationFailed));
    }
}
