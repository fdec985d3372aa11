//! Clients of librdkafka that read: one for each session that reads at the moment.
//!
//! ```text
//! session ── Slot ── Reader ── a client ── Feeds, one for each partition that is read
//!               └ free again when the session ends, given back when idle
//! ```
//!
//! - A reader is idle when it was not read from for [`IDLE`] and nobody waits for what its feeds bring. An idle partition is not
//!   fetched any more; a reader without any is given back, and its session takes another when it reads again.
//! - Before a partition is fetched the client asks where it begins and ends. That finds offsets out of range, and the client
//!   then knows the leader: without it the first record comes half a second later.
//! - One request for records is under way to each node. What is fetched elsewhere waits until that is answered, so it is not
//!   let wait long there; and what is only asked is asked by another client.

use super::{
    Shared,
    clients::{Taken, end_all},
    ends::{Ends, Silent},
    feed::Feed,
    native::Refused,
    place::{Key, Place},
};
use crate::{
    broker::{Code, Error, Isolation, Result},
    log::Chunk,
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering::*},
    },
    thread::Builder,
    time::{Duration, Instant},
};

/// A partition, or a reader, that nobody read from for so long is given back.
const IDLE: Duration = Duration::from_secs(10);
/// How often it is looked whether what was asked for is still waited for.
const LOOKS: Duration = Duration::from_millis(250);
/// How long the client waits for a place to be moved.
const SEEK: Duration = Duration::from_secs(5);

/// All readers.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<Vec<Arc<Slot>>>);

/// A reader that a session has, or had.
pub(super) struct Slot {
    isolation: Isolation,
    taken: AtomicBool,
    /// `None`: it was given back.
    reader: Mutex<Option<Reader>>,
}

/// A client, and what it fetches.
pub(super) struct Reader {
    isolation: Isolation,
    readings: BTreeMap<Key, Reading>,
    client: Arc<BaseConsumer<Silent>>,
    used: Instant,
    /// Dropped last: there is room again when the client is gone.
    _taken: Taken,
}

/// A partition that is fetched.
struct Reading {
    feed: Feed<Silent>,
    /// The end for this reader, as it last was heard.
    end: u64,
    used: Instant,
    /// Whose waiters are woken.
    woken: Arc<Mutex<Weak<Place>>>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("isolation", &self.isolation).field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Shared {
    /// A reader for a session: one that is free, or a new one.
    pub(super) fn reader(self: &Arc<Shared>, isolation: Isolation) -> Result<Arc<Slot>> {
        self.keep()?;
        if let Some(free) = self.readers.take_free(isolation) {
            return Ok(free);
        }
        let taken = self.room()?;
        // It joins no group.
        let config = self.options.reader("plainlog", isolation, &[("max.poll.interval.ms", "86400000")]);
        let client = config.create_with_context(Silent);
        let client = Arc::new(client.map_err(|error| super::ClusterOptions::refused(&error))?);
        let reader = Reader { isolation, readings: BTreeMap::new(), client, used: Instant::now(), _taken: taken };
        let slot = Slot { isolation, taken: AtomicBool::new(true), reader: Mutex::new(Some(reader)) };
        let slot = Arc::new(slot);
        self.readers.list().push(slot.clone());
        Ok(slot)
    }
}

impl Shared {
    /// Room for one more client: a reader that no session has gives way.
    pub(super) fn room(&self) -> Result<Taken> {
        match self.clients.take() {
            Err(_) if self.readers.close_free() => self.clients.take(),
            taken => taken,
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        end_all(std::mem::take(&mut *self.list()));
    }
}

impl Readers {
    fn take_free(&self, isolation: Isolation) -> Option<Arc<Slot>> {
        let list = self.list();
        let free = list.iter().find(|slot| slot.isolation == isolation && !slot.taken.load(Acquire))?;
        free.taken.store(true, Release);
        Some(free.clone())
    }

    /// Gives one back that no session has, to make room.
    fn close_free(&self) -> bool {
        let mut list = self.list();
        let Some(index) = list.iter().position(|slot| !slot.taken.load(Acquire)) else { return false };
        let slot = list.swap_remove(index);
        drop(list);
        let reader = slot.lock().take();
        drop(reader);
        true
    }

    /// Gives back what is idle, and lets the others' clients tell what they have to.
    pub(super) fn look_after(&self) {
        let all = self.list().clone();
        for slot in all {
            // One that is being read from is looked after by who reads.
            let Ok(mut reader) = slot.reader.try_lock() else { continue };
            if reader.as_mut().is_some_and(|reader| !reader.look_after()) {
                continue;
            }
            let closing = reader.take();
            drop(reader);
            self.list().retain(|one| !Arc::ptr_eq(one, &slot));
            // A client takes its time to end. Where there is no thread it ends here.
            let _ = Builder::new().name("closing".into()).stack_size(256 << 10).spawn(move || drop(closing));
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.0.lock().expect("no panic under the readers' lock")
    }
}

impl Slot {
    pub(super) fn isolation(&self) -> Isolation {
        self.isolation
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Reader>> {
        self.reader.lock().expect("no panic under a reader's lock")
    }

    /// Another session may have it.
    pub(super) fn free(&self) {
        self.taken.store(false, Release);
    }
}

impl Reader {
    /// Reads what stands at `offset` and behind: at least one record, more while they fit. Nothing at the reader's end.
    pub(super) fn read(
        &mut self,
        shared: &Shared,
        place: &Arc<Place>,
        offset: u64,
        bytes_max: usize,
        chunk: &mut Chunk,
    ) -> Result<()> {
        let (begun, isolation) = (Instant::now(), self.isolation);
        let deadline = begun + shared.options.timeout;
        loop {
            self.go_to(shared, place, offset)?;
            self.used = Instant::now();
            let Some(reading) = self.readings.get_mut(&place.key()) else { return Ok(()) };
            reading.used = self.used;
            match reading.feed.fill(bytes_max, chunk) {
                Ok(()) if chunk.next_offset().is_some() => return Ok(()),
                Ok(()) => {}
                // Going there again says what is in range.
                Err(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
                    if Instant::now() < deadline =>
                {
                    continue;
                }
                Err(code) => {
                    return Err(shared.unread(&place.topic, place.index, &KafkaError::MessageConsumption(code)));
                }
            }
            serve(&self.client);
            if offset >= reading.end {
                let ends = shared.ends(&place.topic, place.index, isolation)?;
                reading.end = ends.end;
                in_range(shared, place, offset, ends)?;
                if offset >= ends.end {
                    return Ok(());
                }
            }
            while !reading.feed.wait(LOOKS.min(deadline.saturating_duration_since(Instant::now()))) {
                if shared.known.is_vain(begun) {
                    return Err(shared.known.unreachable(begun.elapsed(), None));
                }
                if Instant::now() < deadline {
                    continue;
                }
                let (end, ms) = (reading.end, shared.options.timeout.as_millis());
                let what = format!("{}/{} ends at {end}, and nothing came from {offset} on", place.topic, place.index);
                return Err(Error::TimedOut(format!("{what} within {ms} ms")));
            }
        }
    }

    /// Fetches a partition from this offset on, unless that comes next anyway.
    fn go_to(&mut self, shared: &Shared, place: &Arc<Place>, offset: u64) -> Result<()> {
        let (key, isolation) = (place.key(), self.isolation);
        if let Some(reading) = self.readings.get_mut(&key)
            && reading.feed.comes_to(offset)
        {
            reading.wakes(place);
            return Ok(());
        }
        let ends = match self.readings.contains_key(&key) {
            true => shared.ends(&place.topic, place.index, isolation)?,
            false => ends(&self.client, shared, place)?,
        };
        in_range(shared, place, offset, ends)?;
        let to = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        if let Some(reading) = self.readings.get_mut(&key) {
            if !reading.feed.is_broken() && self.client.seek(&place.topic, place.index as i32, to, SEEK).is_ok() {
                reading.feed.begin(offset);
                reading.end = ends.end;
                reading.wakes(place);
                return Ok(());
            }
            self.forget(std::slice::from_ref(&key));
        }
        let failed = |error| shared.unread(&place.topic, place.index, &error);
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset(&place.topic, place.index as i32, to).map_err(failed)?;
        let woken = Arc::new(Mutex::new(Arc::downgrade(place)));
        let wakes = woken.clone();
        let wake = move || {
            let place = wakes.lock().expect("no panic under a place's lock").upgrade();
            place.into_iter().for_each(|place| place.waiters.wake());
        };
        let feed = Feed::new(&self.client, &place.topic, place.index, wake);
        let mut feed = feed.ok_or_else(|| Error::UnknownTopic(place.topic.to_string()))?;
        feed.begin(offset);
        self.client.incremental_assign(&wanted).map_err(failed)?;
        self.readings.insert(key, Reading { feed, end: ends.end, used: Instant::now(), woken });
        Ok(())
    }

    /// Gives back what is idle; answers whether that is all.
    fn look_after(&mut self) -> bool {
        serve(&self.client);
        let idle = |reading: &Reading| reading.used.elapsed() >= IDLE && !reading.is_waited_for();
        let idle: Vec<Key> =
            self.readings.iter().filter(|(_, reading)| idle(reading)).map(|(key, _)| key.clone()).collect();
        self.forget(&idle);
        self.readings.is_empty() && self.used.elapsed() >= IDLE
    }

    /// Fetches these no more.
    fn forget(&mut self, keys: &[Key]) {
        if keys.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (topic, index) in keys {
            list.add_partition(topic, *index as i32);
            self.readings.remove(&(topic.clone(), *index));
        }
        // What is not fetched needs no end of it.
        let _ = self.client.incremental_unassign(&list);
    }
}

impl Reading {
    /// From here on it wakes who waits at this place.
    fn wakes(&self, place: &Arc<Place>) {
        let mut woken = self.woken.lock().expect("no panic under a place's lock");
        if !std::ptr::eq(woken.as_ptr(), Arc::as_ptr(place)) {
            *woken = Arc::downgrade(place);
        }
    }

    fn is_waited_for(&self) -> bool {
        let place = self.woken.lock().expect("no panic under a place's lock").upgrade();
        place.is_some_and(|place| !place.waiters.is_empty())
    }
}

/// Lets a client tell what it has to: librdkafka keeps it until somebody asks.
fn serve(client: &BaseConsumer<Silent>) {
    let _ = client.poll(Duration::ZERO);
}

/// Asks on the client that is to read: so it knows the leader, too.
fn ends(client: &BaseConsumer<Silent>, shared: &Shared, place: &Place) -> Result<Ends> {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic};
    let ask = |time| {
        let asked = client.fetch_watermarks(&place.topic, place.index as i32, time);
        asked.map_err(|error| {
            let code = error.rdkafka_error_code();
            if matches!(code, Some(UnknownTopic | UnknownPartition)) {
                // Which partitions there are it heard before this one was made.
                let _ = client.fetch_metadata(Some(&place.topic), time);
            }
            let number = code.map_or(Code::UnknownServerError as i32, |code| code as i32);
            Refused { number, why: error.to_string() }
        })
    };
    shared.insist_on(&place.topic, place.index, ask).map(Ends::of)
}

/// An error if a partition with these ends has nothing at this offset and will not have it next.
fn in_range(shared: &Shared, place: &Place, offset: u64, ends: Ends) -> Result<()> {
    if (ends.start..=ends.end).contains(&offset) {
        return Ok(());
    }
    // Behind the end for this reader there may be something that it is not to see yet.
    let all = shared.ends(&place.topic, place.index, Isolation::ReadUncommitted)?;
    match (all.start..=all.end).contains(&offset) {
        true => Ok(()),
        false => Err(Error::OffsetOutOfRange { first: all.start, end: all.end }),
    }
}
