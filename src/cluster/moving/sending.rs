//! Writes to the target: an idempotent producer whose records stand in the order in which they were sent, without a gap.
//!
//! librdkafka promises no gap but for records that expire: what was sent behind one that did is stored without it. So none expires;
//! when nothing was stored for too long, all that are left are taken back at once.

use super::{
    super::{
        errors::of_code,
        native::{Forwarding, Message},
        producer::Offsets,
    },
    sides::Side,
};
use crate::{
    broker::{Code, Error, Result},
    cluster::ClusterOptions,
};
use rdkafka::{
    ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{DeliveryResult, Producer, ProducerContext, PurgeConfig},
    types::RDKafkaErrorCode,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

/// Settings of ours, by name, with another name that librdkafka knows them by.
const OURS: [(&str, &str, &str); 8] = [
    ("acks", "", "all"),
    ("enable.idempotence", "", "true"),
    // After a record that is refused none is stored.
    ("enable.gapless.guarantee", "", "true"),
    ("allow.auto.create.topics", "", "false"),
    ("linger.ms", "queue.buffering.max.ms", "5"),
    // How large a record may be is the target's to say.
    ("message.max.bytes", "", "268435456"),
    ("queue.buffering.max.messages", "", "0"),
    ("queue.buffering.max.kbytes", "", "1048576"),
];

/// How long nothing may be stored, unless the user has set another time, by one of these names; 0 is for ever.
const PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE_NAMES: [&str; 2] = ["delivery.timeout.ms", "message.timeout.ms"];
/// How long it may take until what is stored is seen by all.
const SEEN: Duration = Duration::from_secs(30);

/// The producer.
pub(super) struct Sending<'s> {
    side: &'s Side,
    patience: Duration,
    forwarding: Forwarding<Delivering>,
    topics: HashMap<String, usize>,
}

/// Hears what became of each record.
#[derive(Default)]
struct Delivering(Mutex<Delivered>);

#[derive(Default)]
struct Delivered {
    /// Offsets at the target, unless they were not told, with the number of the partition, in the order of each partition's records.
    stored: VecDeque<(usize, Option<u64>)>,
    offsets: Offsets,
    /// The first record that was not stored: its partition and why.
    failed: Option<(usize, RDKafkaErrorCode)>,
    /// What went wrong last, since the last record that was stored.
    last_heard: Option<String>,
}

/// A record on its way.
pub(super) struct Outgoing {
    /// The number of its partition.
    pub(super) number: usize,
    pub(super) message: Message,
}

/// What was stored of a partition's records.
#[derive(Default)]
struct Stored {
    count: i64,
    /// It was not told of each where it stands.
    is_untold: bool,
}

/// Where a partition's records go.
pub(super) struct Destination<'d> {
    pub(super) topic: &'d str,
    pub(super) partition: u32,
    /// Where the first of them will stand.
    pub(super) end: i64,
}

impl Delivering {
    fn lock(&self) -> MutexGuard<'_, Delivered> {
        self.0.lock().expect("no panic under the lock")
    }
}

impl ClientContext for Delivering {
    /// Why the target does not take records for now stands only there: `... encountered error: REASON (actions ...)`.
    fn log(&self, _: RDKafkaLogLevel, _: &str, line: &str) {
        let reason = line.split_once(" encountered error: ").map(|(_, rest)| rest.split(" (actions").next());
        if let Some(reason) = reason.flatten() {
            self.lock().last_heard = Some(reason.to_owned());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut delivered = self.lock();
        // That all are down says less than what was heard before it.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) || delivered.last_heard.is_none() {
            delivered.last_heard = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for Delivering {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let mut delivered = self.lock();
        match result {
            Ok(message) => {
                delivered.last_heard = None;
                let offset = delivered.offsets.told(message.offset());
                delivered.stored.push_back((number, offset));
            }
            Err((error, _)) => {
                use RDKafkaErrorCode::*;
                let code = error.rdkafka_error_code().unwrap_or(Fail);
                // Those behind it were taken back, which says less.
                let is_first = match &delivered.failed {
                    None => true,
                    Some((_, Fatal | PurgeQueue | PurgeInflight)) => {
                        !matches!(code, Fatal | PurgeQueue | PurgeInflight)
                    }
                    Some(_) => false,
                };
                if is_first {
                    delivered.failed = Some((number, code));
                }
            }
        }
    }
}

impl<'s> Sending<'s> {
    /// No batch has more bytes than `batch_bytes`, which each topic takes.
    pub(super) fn open(side: &'s Side, batch_bytes: i64) -> Result<Sending<'s>> {
        let is_set = |other: &str| side.options.settings.contains_key(other);
        let batch = batch_bytes.clamp(1, 1_000_000).to_string();
        let mut ours: Vec<_> =
            OURS.iter().filter(|(_, other, _)| !is_set(other)).map(|(name, _, value)| (*name, *value)).collect();
        ours.extend([("batch.size", &*batch), ("debug", "msg")]);
        let mut config = side.options.client(&ours);
        let mut patience = PATIENCE;
        for name in PATIENCE_NAMES {
            // What is no number librdkafka refuses.
            let Some(ms) = config.get(name).and_then(|ms| ms.parse::<u32>().ok()) else { continue };
            patience = if ms == 0 { Duration::MAX } else { Duration::from_millis(ms.into()) };
            config.remove(name);
        }
        if !PATIENCE_NAMES.iter().any(|name| config.get(name).is_some()) {
            config.set("message.timeout.ms", "0");
        }
        let producer = config.set_log_level(RDKafkaLogLevel::Debug).create_with_context(Delivering::default());
        let producer = producer.map_err(|error| ClusterOptions::refused(&error))?;
        Ok(Sending { side, patience, forwarding: Forwarding::new(producer), topics: HashMap::new() })
    }

    /// Writes records, and waits until all are stored. An error names the record of the source that is not.
    pub(super) fn write<'d>(
        &mut self,
        records: &[Outgoing],
        destination: impl Fn(usize) -> Destination<'d>,
    ) -> Result<()> {
        let mut stored: HashMap<usize, Stored> = HashMap::new();
        let mut refused = None;
        for record in records {
            let to = destination(record.number);
            let topic = self.topic(to.topic)?;
            let time_ms = record.message.time().ms;
            // librdkafka takes 0 for now.
            let time_ms = if time_ms == 0 { 1 } else { time_ms };
            let sent = self.forwarding.send(topic, to.partition, &record.message, time_ms, record.number);
            if let Err(why) = sent {
                refused = Some((record, why));
                break;
            }
        }
        let failed = self.until_stored(&destination, &mut stored)?;
        if let Some((number, code)) = failed {
            let nth = stored.get(&number).map_or(0, |stored| stored.count) as usize;
            let record = records.iter().filter(|record| record.number == number).nth(nth);
            let offset = record.map_or(0, |record| record.message.offset());
            return Err(self.why(&destination(number), offset, code));
        }
        if let Some((record, why)) = refused {
            let to = destination(record.number);
            let what = self.what(&to, record.message.offset());
            return Err(self.side.explain(&what, why));
        }
        let untold = stored.iter().filter(|(_, stored)| stored.is_untold);
        untold
            .map(|(number, stored)| (destination(*number), stored))
            .try_for_each(|(to, stored)| self.ends_at(&to, to.end + stored.count))
    }

    /// An error unless the partition ends there: somebody else writes to it, or has removed what was stored.
    fn ends_at(&self, to: &Destination<'_>, expected: i64) -> Result<()> {
        let (place, begun) = ([(to.topic.to_string(), to.partition)], Instant::now());
        loop {
            let end = self.side.ends(&place)?[0].end;
            if end == expected {
                return Ok(());
            }
            // What is stored is seen once all copies have it.
            if end > expected || begun.elapsed() > SEEN {
                return Err(Error::OfCluster {
                    code: Code::InvalidRecord,
                    why: format!(
                        "'{}' partition {} of the {} ends at {end} instead of {expected}: somebody else writes there, or it lost records",
                        to.topic, to.partition, self.side.name
                    ),
                });
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until something has become of each record; answers the first that failed.
    fn until_stored<'d>(
        &self,
        destination: &impl Fn(usize) -> Destination<'d>,
        stored: &mut HashMap<usize, Stored>,
    ) -> Result<Option<(usize, RDKafkaErrorCode)>> {
        use RDKafkaErrorCode::*;
        let producer = self.forwarding.producer();
        let (mut heard, mut is_late, mut reason) = (Instant::now(), false, None);
        loop {
            if !is_late && heard.elapsed() > self.patience {
                is_late = true;
                // What is heard from here on is that they are taken back.
                reason = producer.context().lock().last_heard.clone();
                producer.purge(PurgeConfig::default().queue().inflight());
            }
            let is_over = producer.in_flight_count() == 0;
            producer.poll(Duration::from_millis(u64::from(!is_over)));
            let mut delivered = producer.context().lock();
            for (number, offset) in delivered.stored.drain(..) {
                heard = Instant::now();
                let Stored { count, is_untold } = stored.entry(number).or_default();
                let to = destination(number);
                *is_untold |= offset.is_none();
                if let Some(offset) = offset.filter(|offset| i64::try_from(*offset) != Ok(to.end + *count)) {
                    return Err(Error::OfCluster {
                        code: Code::InvalidRecord,
                        why: format!(
                            "a record stands at offset {offset} of '{}' partition {} of the {} instead of {}: somebody else writes there",
                            to.topic,
                            to.partition,
                            self.side.name,
                            to.end + *count
                        ),
                    });
                }
                *count += 1;
            }
            if is_over {
                let failed = delivered.failed.take();
                if !is_late {
                    return Ok(failed);
                }
                delivered.last_heard = reason;
                return Ok(failed.map(|(number, code)| match code {
                    PurgeQueue | PurgeInflight => (number, MessageTimedOut),
                    code => (number, code),
                }));
            }
        }
    }

    fn topic(&mut self, name: &str) -> Result<usize> {
        if let Some(number) = self.topics.get(name) {
            return Ok(*number);
        }
        let number = self.forwarding.topic(name).map_err(|refused| self.side.explain("writing", refused))?;
        self.topics.insert(name.into(), number);
        Ok(number)
    }

    fn what(&self, to: &Destination<'_>, offset: i64) -> String {
        format!("writing the source's offset {offset} to '{}' partition {}", to.topic, to.partition)
    }

    /// Why a record was not stored.
    fn why(&self, to: &Destination<'_>, offset: i64, code: RDKafkaErrorCode) -> Error {
        use RDKafkaErrorCode::*;
        let what = format!("{} of the {}", self.what(to, offset), self.side.name);
        let producer = self.forwarding.producer();
        let heard = || producer.context().lock().last_heard.clone().map_or(String::new(), |why| format!(": {why}"));
        match code {
            MessageTimedOut => {
                let why = format!("{what}: it did not acknowledge it in time{}", heard());
                Error::OfCluster { code: Code::RequestTimedOut, why }
            }
            Fatal | PurgeQueue | PurgeInflight => match producer.client().fatal_error() {
                Some((_, why)) => Error::OfCluster { code: Code::UnknownServerError, why: format!("{what}: {why}") },
                None => of_code(&what, code),
            },
            MessageSizeTooLarge => {
                let why = format!("{what}: the record is larger than it takes (max.message.bytes)");
                Error::OfCluster { code: Code::MessageTooLarge, why }
            }
            code => of_code(&what, code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{
        moving::reading::{Read, Reading},
        testing::Fixture,
    };
    use rdkafka::{
        mocking::MockCluster,
        types::{RDKafkaApiKey, RDKafkaRespErr},
    };

    /// A source with records in partition 0 of topic `t`.
    fn source(values: &[&str]) -> (Fixture, Side) {
        let fixture = Fixture::new();
        fixture.broker.create_topic("t", 1).unwrap();
        fixture.produce("t", 0, values);
        let side = Side::open("source", &fixture.options()).unwrap();
        (fixture, side)
    }

    /// All of them.
    fn read(reading: &mut Reading<'_>) -> Vec<Outgoing> {
        reading.assign(&[("t", 0, 0)]).unwrap();
        let mut records = Vec::new();
        loop {
            match reading.next(Duration::from_secs(60)).unwrap().expect("within a minute") {
                Read::Record(number, message) => records.push(Outgoing { number, message }),
                Read::End(..) => return records,
            }
        }
    }

    /// Partition 0 of topic `t`, which ends there.
    fn at(end: i64) -> impl Fn(usize) -> Destination<'static> {
        move |_| Destination { topic: "t", partition: 0, end }
    }

    #[test]
    fn records_that_were_stored_before_are_counted_though_it_is_not_told_where_they_stand() {
        let (_from, source) = source(&["a", "b", "c"]);
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("t", 1, 1).unwrap();
        let target = Side::open("target", &ClusterOptions::new(mock.bootstrap_servers())).unwrap();
        let mut sending = Sending::open(&target, 1 << 20).unwrap();
        let mut reading = Reading::open(&source).unwrap();
        let records = read(&mut reading);
        sending.write(&records, at(0)).unwrap();
        // So a node answers whose first answer was lost. (One batch each, at most.)
        let stored_before = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER; 9];
        mock.request_errors(RDKafkaApiKey::Produce, &stored_before);
        sending.write(&records, at(0)).unwrap();
        let refused = sending.write(&records[..2], at(0)).unwrap_err().to_string();
        assert!(refused.contains("'t' partition 0 of the target ends at 3 instead of 2"), "{refused}");
    }

    #[test]
    fn what_is_not_stored_in_time_is_taken_back_at_once() {
        let (_from, source) = source(&["a", "b", "c"]);
        let (to, valve) = Fixture::behind_a_valve(Duration::from_secs(60));
        to.broker.create_topic("t", 1).unwrap();
        let mut options = to.cluster.shared.options.clone();
        options.settings.insert("message.timeout.ms".into(), "500".into());
        let target = Side::open("target", &options).unwrap();
        let mut sending = Sending::open(&target, 1 << 20).unwrap();
        assert_eq!(sending.patience, Duration::from_millis(500));
        let mut reading = Reading::open(&source).unwrap();
        let records = read(&mut reading);
        sending.patience = Duration::MAX;
        sending.write(&records[..1], at(0)).unwrap();
        sending.patience = Duration::from_millis(500);
        valve.close(true);
        let refused = sending.write(&records[1..], at(1)).unwrap_err();
        assert_eq!(refused.code(), Code::RequestTimedOut);
        let expected =
            "writing the source's offset 1 to 't' partition 0 of the target: it did not acknowledge it in time";
        assert!(refused.to_string().contains(expected), "{refused}");
        assert_eq!(sending.forwarding.producer().in_flight_count(), 0);
    }

    #[test]
    fn why_a_target_does_not_take_records_for_now_is_kept() {
        let delivering = Delivering::default();
        let line = "[thrd:x]: x:1/1: t [0]: MessageSet with 3 message(s) (MsgId 1, BaseSeq 0) encountered error: \
                    Broker: Disk error when trying to access log file on disk (actions Refresh,MsgNotPersisted)";
        delivering.log(RDKafkaLogLevel::Debug, "MSGSET", "[thrd:x]: x:1/1: t [0]: MessageSet delivered");
        assert_eq!(delivering.lock().last_heard, None);
        delivering.log(RDKafkaLogLevel::Debug, "MSGSET", line);
        let heard = delivering.lock().last_heard.clone();
        assert_eq!(heard.as_deref(), Some("Broker: Disk error when trying to access log file on disk"));
    }
}
