//! ShareFetch and ShareAcknowledge (KIP-932): records are acquired, and what became of them is said.
//!
//! ```text
//! ShareFetch 0           records 0-11          the session begins; all its partitions are answered
//! ShareAcknowledge 1     0-3 accept            what became of them
//! ShareFetch 2           4-7 accept            the same, and more records; only partitions with news are answered
//! ShareFetch -1          8-11 release          the session ends, and what is still held is free
//! ```
//!
//! - What is acknowledged is as durable as the flush mode promises before it is answered. A partition's acknowledgements are taken whole or
//!   not at all.
//! - The batches that are sent are whole, as Kafka's are: those with the first record that was acquired, with the last, and what is between.
//!   Clients hand out what the list of acquired records names.
//! - A Fetch waits for records that are new, that are released, or whose lock's time is over.
//! - Neither looks at who is in the group, as in Kafka.

use super::{
    Call, Code, Refusal, Session, Stop,
    api_versions::SHARE_VERSION,
    batch::Internal,
    compression::Codec,
    fetch::{Target, as_produced, codec_of, compression, write_batches},
    partition_index, tell,
    topic_ref::TopicRef,
    wire::{ITEM, Reader, Uuid, Writer},
    write_code,
};
use crate::broker::{
    Broker, Error, PartitionHandle, ResourceName, SessionChange, SessionPlace, SessionRef, SessionTurn, ShareConsumer,
    ShareTerms, TopicHandle, is_internal,
    share_partition::{Acknowledged, Acknowledgement, Acquired, Wanted},
};
use crate::security::{Operation, Quota};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// The epoch of a request that opens a session.
const OPENS: i32 = 0;
/// The epoch of a request that ends one.
const ENDS: i32 = -1;
/// The largest answer, whatever a client asks for: as of a Fetch.
const ANSWER_BYTES_MAX: usize = 55 << 20;

/// What a request says of a partition's records.
#[derive(Debug)]
struct Said {
    first: i64,
    last: i64,
    types: Vec<i8>,
}

/// A partition in a request.
#[derive(Debug)]
struct Asked {
    place: SessionPlace,
    said: Vec<Said>,
}

/// What is answered of a partition.
#[derive(Debug, Default)]
struct Answer {
    refusal: Option<Refusal>,
    /// What became of its acknowledgements, if there were any.
    acknowledged: Option<Result<(), Refusal>>,
    acquired: Vec<Acquired>,
    records: Vec<u8>,
}

impl Answer {
    fn has_news(&self) -> bool {
        self.refusal.is_some() || !self.acquired.is_empty()
    }
}

/// By topic and partition.
type Answers = BTreeMap<SessionPlace, Answer>;

/// What a member holds is the session's: it outlives the request, however that ends.
struct Hands(Option<ShareConsumer>);

impl Hands {
    fn of(broker: &Broker, (group, member): (&str, &str)) -> Result<Hands, Refusal> {
        Ok(Hands(Some(broker.share_consumer(group, member)?)))
    }

    fn consumer(&mut self) -> &mut ShareConsumer {
        self.0.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(ShareConsumer::hand_over);
    }
}

/// How much a ShareFetch wants.
struct Limits {
    bytes: usize,
    records: u64,
    batch: u64,
    exactly: bool,
}

fn read_topics(r: &mut Reader<'_>) -> Result<Vec<Asked>, Stop> {
    let topics = r.array("topics", |r| {
        let id = r.uuid("topic_id")?;
        let partitions = r.array("partitions", |r| {
            let index = r.i32("partition_index")?;
            let said = r.array("acknowledgement_batches", |r| {
                let (first, last) = (r.i64("first_offset")?, r.i64("last_offset")?);
                let types = r.array("acknowledge_types", |r| r.i8(ITEM))?;
                r.tags()?;
                Ok(Said { first, last, types })
            })?;
            r.tags()?;
            Ok(Asked { place: (id, index), said })
        })?;
        r.tags()?;
        Ok(partitions)
    })?;
    let (mut asked, mut later): (Vec<Asked>, _) = (topics.into_iter().flatten().collect(), BTreeSet::new());
    // As in Kafka: of a partition that stands there more than once the last counts.
    asked.reverse();
    asked.retain(|asked| later.insert(asked.place));
    asked.reverse();
    Ok(asked)
}

/// ShareFetch (key 78).
pub(super) fn share_fetch(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let (group, member) = (r.nullable_string("group_id")?, r.nullable_string("member_id")?);
    let epoch = r.i32("share_session_epoch")?;
    let max_wait_ms = r.i32("max_wait_ms")?.max(0);
    let min_bytes = r.i32("min_bytes")?;
    let max_bytes = (r.i32("max_bytes")?.max(0) as usize).min(ANSWER_BYTES_MAX);
    let max_bytes = call.broker.at_once(Quota::FetchedBytes).map_or(max_bytes, |most| max_bytes.min(most as usize));
    let (max_records, batch) = (r.i32("max_records")?.max(0) as u64, r.i32("batch_size")?.max(1) as u64);
    let (mode, renews) =
        if r.version >= 2 { (r.i8("share_acquire_mode")?, r.bool("is_renew_ack")?) } else { (0, false) };
    let asked = read_topics(r)?;
    let forgotten = r.array("forgotten_topics_data", |r| {
        let id = r.uuid("topic_id")?;
        let partitions = r.array("partitions", |r| Ok((id, r.i32(ITEM)?)))?;
        r.tags()?;
        Ok(partitions)
    })?;
    r.tags()?;
    let key = (group.unwrap_or_default(), member.unwrap_or_default());
    let limits = Limits { bytes: max_bytes, records: max_records, batch, exactly: mode == 1 };
    let wants_some = max_wait_ms > 0 || min_bytes > 0 || max_bytes > 0 || max_records > 0;
    let refused = if let Err(error) = call.broker.needs_feature(SHARE_VERSION) {
        Some(error.into())
    } else if let Err(error) = call.broker.ask(Operation::Read, ResourceName::group(key.0)) {
        Some(error.into())
    } else if key.1.is_empty() {
        Some(Refusal::new(Code::InvalidRequest, "a share session is of a member".into()))
    } else if renews && wants_some {
        Some(Refusal::new(Code::InvalidRequest, "who holds records for longer asks for none with it".into()))
    } else if epoch == OPENS && asked.iter().any(|asked| !asked.said.is_empty()) {
        Some(Refusal::new(Code::InvalidRequest, "who opens a session has nothing to acknowledge".into()))
    } else {
        // As in Kafka: what may only not be read is refused where it stands.
        let refusal = |asked: &Asked| TopicRef::Id(asked.place.0).find(call.broker, Operation::Read).err();
        asked.iter().filter_map(refusal).find(|refusal| refusal.code == Code::UnknownTopicId)
    };
    let added = asked.iter().map(|asked| asked.place).collect();
    let change = SessionChange { added, forgotten: forgotten.into_iter().flatten().collect() };
    let connection = call.output.counted().id;
    let begun = match refused {
        Some(refusal) => Err(refusal),
        None if epoch == OPENS => call.broker.open_share_session(key, connection, change).map_err(Refusal::from),
        None if epoch == ENDS => {
            let session = call.broker.share_session(key);
            session.map(|session| SessionTurn { places: vec![], session }).map_err(Refusal::from)
        }
        None => call.broker.go_on_in_share_session(key, epoch, change).map_err(Refusal::from),
    };
    let begun = begun.and_then(|turn| Ok((turn, Hands::of(call.broker, key)?)));
    let (SessionTurn { places, session }, mut hands) = match begun {
        Ok(begun) => begun,
        Err(refusal) => {
            tell(call.explained, || format!("{} of share group {}: {}", key.1, key.0, refusal.why));
            let mut w = call.respond();
            write_head(&mut w, Some(&refusal), 0);
            w.empty_array("responses");
            w.empty_array("node_endpoints");
            w.tags();
            return Ok(());
        }
    };
    let (terms, mut answers) = (hands.consumer().terms(), Answers::new());
    if !asked.is_empty() {
        let handles: Vec<_> = asked.iter().filter_map(|asked| Some(find(call.broker, asked.place).ok()?.1)).collect();
        // What fails is told where it is read.
        let _ = hands.consumer().open_all(&terms, &handles);
    }
    if asked.iter().any(|asked| !asked.said.is_empty()) {
        // As in Kafka, what is released with this comes after what is there already.
        acquire(call, hands.consumer(), &terms, &places, &limits, &mut answers)?;
        acknowledge(call.broker, hands.consumer(), &terms, asked, renews, &mut answers);
    }
    if epoch == ENDS {
        call.broker.end_share_session(key);
    } else {
        let wait = Duration::from_millis(max_wait_ms as u64);
        acquire_or_wait(call, &mut hands, &places, &limits, wait, &session, &mut answers)?;
        if session.is_over() {
            give_back(call.broker, hands.consumer(), &mut answers);
        }
    }
    if epoch == OPENS {
        answers = places.into_iter().map(|place| (place, answers.remove(&place).unwrap_or_default())).collect();
    }
    tell(call.explained, || {
        let acquired: u64 = answers.values().flat_map(|answer| &answer.acquired).map(|acquired| acquired.count()).sum();
        format!("{} of share group {} acquires {acquired} records", key.1, key.0)
    });
    // What is acquired is acquired: its member waits afterwards.
    let bytes: usize = answers.values().map(|answer| answer.records.len()).sum();
    call.wait = call.broker.charge(Quota::FetchedBytes, bytes as f64);
    let lock_ms = call.broker.share_lock_ms(key.0) as i32;
    let mut w = call.respond();
    write_head(&mut w, None, lock_ms);
    write_by_topic(&mut w, answers, |w, answer| {
        let Answer { refusal, acknowledged, acquired, records } = answer;
        write_code(w, refusal.as_ref());
        let code = acknowledged.and_then(Result::err).map_or(Code::None, |refusal| refusal.code);
        w.i16("acknowledge_error_code", code.into());
        // As in Kafka, which says why only to a ShareAcknowledge.
        w.nullable_string("acknowledge_error_message", None);
        write_leader(w);
        w.records("records", records.len(), |out| out.extend_from_slice(&records));
        w.array("acquired_records", acquired.iter(), |w, acquired| {
            w.i64("first_offset", acquired.first as i64);
            w.i64("last_offset", acquired.last as i64);
            w.i16("delivery_count", acquired.deliveries.min(i16::MAX as u32) as i16);
            w.tags();
        });
        w.tags();
    });
    w.empty_array("node_endpoints");
    w.tags();
    Ok(())
}

/// ShareAcknowledge (key 79).
pub(super) fn share_acknowledge(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let (group, member) = (r.nullable_string("group_id")?, r.nullable_string("member_id")?);
    let epoch = r.i32("share_session_epoch")?;
    let renews = r.version >= 2 && r.bool("is_renew_ack")?;
    let asked = read_topics(r)?;
    r.tags()?;
    let key = (group.unwrap_or_default(), member.unwrap_or_default());
    let begun = match epoch {
        _ if let Err(error) = call.broker.needs_feature(SHARE_VERSION) => Err(error.into()),
        _ if let Err(error) = call.broker.ask(Operation::Read, ResourceName::group(key.0)) => Err(error.into()),
        _ if key.1.is_empty() => Err(Refusal::new(Code::InvalidRequest, "a share session is of a member".into())),
        OPENS => {
            let why = "no session begins with what became of records".into();
            Err(Refusal::new(Code::InvalidShareSessionEpoch, why))
        }
        ENDS => call.broker.share_session(key).map(drop).map_err(Refusal::from),
        epoch => {
            let gone_on = call.broker.go_on_in_share_session(key, epoch, SessionChange::default());
            gone_on.map(drop).map_err(Refusal::from)
        }
    };
    let done = begun.and_then(|()| Hands::of(call.broker, key)).map(|mut hands| {
        let (terms, mut answers) = (hands.consumer().terms(), Answers::new());
        acknowledge(call.broker, hands.consumer(), &terms, asked, renews, &mut answers);
        if epoch == ENDS {
            call.broker.end_share_session(key);
        }
        answers
    });
    tell(call.explained, || match &done {
        Ok(answers) => {
            format!("{} of share group {} says what became of records of {} partitions", key.1, key.0, answers.len())
        }
        Err(refusal) => format!("{} of share group {}: {}", key.1, key.0, refusal.why),
    });
    let lock_ms = if done.is_ok() { call.broker.share_lock_ms(key.0) as i32 } else { 0 };
    let mut w = call.respond();
    write_code_head(&mut w, done.as_ref().err());
    if w.version >= 2 {
        w.i32("acquisition_lock_timeout_ms", lock_ms);
    }
    write_by_topic(&mut w, done.unwrap_or_default(), |w, answer| {
        write_code(w, answer.acknowledged.as_ref().and_then(|done| done.as_ref().err()));
        write_leader(w);
        w.tags();
    });
    w.empty_array("node_endpoints");
    w.tags();
    Ok(())
}

/// Takes what became of records, of each partition for itself, and makes it durable.
fn acknowledge(
    broker: &Broker,
    consumer: &mut ShareConsumer,
    terms: &ShareTerms,
    asked: Vec<Asked>,
    renews: bool,
    answers: &mut Answers,
) {
    let mut written = vec![];
    for Asked { place, said } in asked.into_iter().filter(|asked| !asked.said.is_empty()) {
        let taken = checked(&said, renews).and_then(|batches| Ok((find(broker, place)?.1, batches)));
        let taken = taken.and_then(|(of, batches)| Ok(consumer.acknowledge(terms, &of, &batches)?));
        let taken = taken.map(|write| written.extend(write.map(|write| (place, write))));
        answers.entry(place).or_default().acknowledged = Some(taken);
    }
    for (place, write) in written {
        if let Err(error) = write.make_durable() {
            answers.entry(place).or_default().acknowledged = Some(Err(error.into()));
        }
    }
}

/// What was said of records, if it can be meant: in the order of their offsets, with one type for all of a range or one for each.
fn checked(said: &[Said], renews: bool) -> Result<Vec<Acknowledged>, Refusal> {
    let wrong = |why: &str| Refusal::new(Code::InvalidRequest, why.into());
    let (mut checked, mut before): (Vec<Acknowledged>, i64) = (vec![], 0);
    for &Said { first, last, ref types } in said {
        if first < before || last < first {
            return Err(wrong("offsets ascend"));
        }
        before = last;
        if types.len() != 1 && types.len() as i64 != (last - first).saturating_add(1) {
            return Err(wrong("a range has one type, or one for each of its offsets"));
        }
        let last_of = |at: u64| if types.len() == 1 { last as u64 } else { at };
        for (kind, at) in types.iter().zip(first as u64..) {
            let how = match kind {
                0 => Acknowledgement::Gap,
                1 => Acknowledgement::Accept,
                2 => Acknowledgement::Release,
                3 => Acknowledgement::Reject,
                4 if renews => Acknowledgement::Renew,
                _ => return Err(wrong("there is no such type of acknowledgement here")),
            };
            match checked.last_mut() {
                Some(one) if one.how == how && one.last + 1 == at && at > first as u64 => one.last = at,
                _ => checked.push(Acknowledged { first: at, last: last_of(at), how }),
            }
        }
    }
    Ok(checked)
}

fn find(broker: &Broker, (id, index): SessionPlace) -> Result<(TopicHandle, PartitionHandle), Refusal> {
    let topic = TopicRef::Id(id).find(broker, Operation::Read)?;
    let partition = topic.partition(partition_index(index))?;
    Ok((topic, partition))
}

/// Acquires records, after waiting for some.
fn acquire_or_wait(
    call: &mut Call<'_, '_>,
    hands: &mut Hands,
    places: &[SessionPlace],
    limits: &Limits,
    wait: Duration,
    session: &SessionRef,
    answers: &mut Answers,
) -> Result<(), Stop> {
    let is_done = |answers: &Answers| session.is_over() || answers.values().any(Answer::has_news);
    if is_done(answers) {
        return Ok(());
    }
    let (deadline, waiter) = (Instant::now() + wait, call.output.waiter.clone());
    let terms = hands.consumer().terms();
    acquire(call, hands.consumer(), &terms, places, limits, answers)?;
    if is_done(answers) || wait.is_zero() {
        return Ok(());
    }
    let broker = call.broker;
    let handles: Vec<PartitionHandle> = places.iter().filter_map(|place| Some(find(broker, *place).ok()?.1)).collect();
    // It only watches: the other one goes on acquiring.
    let (group, member) = (hands.consumer().group().to_owned(), hands.consumer().member().to_owned());
    let Ok(mut watching) = Hands::of(broker, (&group, &member)) else { return Ok(()) };
    // Registering before looking again makes sure that no wake-up is missed.
    let _registered: Vec<_> = handles.iter().map(|of| of.register(&waiter)).collect();
    let _ends = session.register(&waiter);
    loop {
        let watching = watching.consumer();
        // Each time, for the group's offsets may be deleted meanwhile: what is released then is told in other places.
        let terms = watching.terms();
        handles.iter().for_each(|of| drop(watching.open(&terms, of)));
        let _released = watching.register(&waiter);
        acquire(call, hands.consumer(), &terms, places, limits, answers)?;
        if is_done(answers) || Instant::now() >= deadline {
            return Ok(());
        }
        call.session.forget();
        call.output.flush()?;
        let due = watching.next_deadline().map_or(deadline, |due| due.min(deadline));
        if !call.output.wait_while_connected(Some(due))? && Instant::now() < due {
            // The client is gone, or the broker stops.
            return Ok(());
        }
    }
}

/// The session ended while this was acquired: what its end did not release is released now.
fn give_back(broker: &Broker, consumer: &mut ShareConsumer, answers: &mut Answers) {
    let terms = consumer.terms();
    for (&place, answer) in answers {
        let released =
            |one: &Acquired| Acknowledged { first: one.first, last: one.last, how: Acknowledgement::Release };
        let acquired = std::mem::take(&mut answer.acquired);
        answer.records.clear();
        let Ok((_, of)) = find(broker, place) else { continue };
        for one in &acquired {
            // Where it is refused the end has released it, or the time of the lock will.
            drop(consumer.acknowledge(&terms, &of, &[released(one)]));
        }
    }
}

/// Acquires what there is, partition by partition, up to the limits.
fn acquire(
    call: &mut Call<'_, '_>,
    consumer: &mut ShareConsumer,
    terms: &ShareTerms,
    places: &[SessionPlace],
    limits: &Limits,
    answers: &mut Answers,
) -> Result<(), Stop> {
    let as_produced = as_produced(call)?;
    let mut session = std::mem::take(call.session);
    let (mut records, mut bytes, mut file) = (limits.records, limits.bytes, None);
    for &place in places {
        if limits.records > 0 && records == 0 || limits.bytes > 0 && bytes == 0 {
            break;
        }
        let wanted = Wanted { records, exactly: limits.exactly, batch: limits.batch };
        let acquired = find(call.broker, place).and_then(|(topic, of)| {
            let wanted = if bytes == 0 { Wanted { records: 0, ..wanted } } else { wanted };
            let acquired =
                consumer.acquire(terms, &of, wanted, bytes, &mut session.read).map_err(|error| match error {
                    // As of a group without a name in Kafka: clients take it for what may pass.
                    Error::NotShareGroup => Refusal::new(Code::UnknownServerError, error.to_string()),
                    error => error.into(),
                })?;
            Ok((acquired, topic, of))
        });
        match acquired {
            Ok((acquired, topic, of)) if !acquired.is_empty() => {
                file = file.or(session.read.place());
                let answer = answers.entry(place).or_default();
                let (codec, levels) = compression(&topic.settings(), as_produced);
                session.codecs.levels = levels;
                let written = encode(&mut answer.records, call.broker, &of, &acquired, codec, &mut session);
                if !written {
                    answer.refusal = Some(Refusal::new(Code::CorruptMessage, "a line of the log is none".into()));
                }
                let count: u64 = acquired.iter().map(|one| one.count()).sum();
                (records, bytes) = (records.saturating_sub(count), bytes.saturating_sub(answer.records.len()));
                session.large |= answer.records.len() > super::KEPT_BYTES_MAX;
                answer.acquired = acquired;
            }
            Ok(_) => {}
            Err(refusal) => answers.entry(place).or_default().refusal = Some(refusal),
        }
    }
    *call.session = session;
    call.touched(file);
    Ok(())
}

/// Writes the batches with what was acquired; whether all of it could be.
fn encode(
    out: &mut Vec<u8>,
    broker: &Broker,
    of: &PartitionHandle,
    acquired: &[Acquired],
    codec: Option<Codec>,
    session: &mut Session,
) -> bool {
    let (Some(first), Some(last)) = (acquired.first(), acquired.last()) else { return true };
    let target = Target {
        offset: first.first,
        through: Some(last.last),
        bytes_max: usize::MAX,
        leader_epoch: of.leader_epoch() as i32,
        internal: Some(of.topic()).filter(|topic| is_internal(topic)).map(|topic| Internal { topic, broker }),
    };
    write_batches(out, &target, |batch| codec_of(codec, batch), session).is_ok()
}

fn write_code_head(w: &mut Writer<'_>, refusal: Option<&Refusal>) {
    w.throttle_time();
    write_code(w, refusal);
}

fn write_head(w: &mut Writer<'_>, refusal: Option<&Refusal>, lock_ms: i32) {
    write_code_head(w, refusal);
    w.i32("acquisition_lock_timeout_ms", lock_ms);
}

/// Only who asked the wrong broker is told which one leads.
fn write_leader(w: &mut Writer<'_>) {
    w.i32("leader_id", 0);
    w.i32("leader_epoch", 0);
    w.tags();
}

fn write_by_topic(w: &mut Writer<'_>, answers: Answers, write: impl Fn(&mut Writer<'_>, Answer)) {
    let mut topics: BTreeMap<Uuid, Vec<(i32, Answer)>> = BTreeMap::new();
    answers.into_iter().for_each(|((id, index), answer)| topics.entry(id).or_default().push((index, answer)));
    w.array("responses", topics.into_iter(), |w, (id, partitions)| {
        w.uuid("topic_id", &id);
        w.array("partitions", partitions.into_iter(), |w, (index, answer)| {
            w.i32("partition_index", index);
            write(w, answer);
        });
        w.tags();
    });
}
