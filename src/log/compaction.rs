//! Compaction: of the sealed segments only the latest record of each key stays, with its offset.
//!
//! ```text
//!              clean, from earlier passes     │ dirty, sealed                        │ active
//! before   [0 a=1  2 b=1  5 c=1] [8 a=2 10 d=1]│[11 b=2  12 a=3  13 c=tombstone] [14..]│[20 ...
//!                                              └──── map: b→11 a→12 c→13 ... ────────┘
//! after    [10 d=1  11 b=2  12 a=3  13 c=tombstone until its horizon] [14..]         │[20 ...
//! ```
//!
//! A pass reads the dirty segments and notes the latest offset of each key in a map; then it writes the segments anew, from
//! the log's start to the end of what is in the map, without each record of a key that has a later one there.
//!
//! - Neighbours that fit one segment together become one. Offsets never change, so there are holes; the log's start never
//!   moves, so there can be one at the start.
//! - A tombstone stays for `delete.retention.ms` from when it was first compacted: that *delete horizon* stands in its
//!   batch's entry. Afterwards it goes: nothing older of its key is left.
//! - Records without a key, and those before the start offset, go.
//! - The newest batch of an idempotent producer keeps its entry, for its sequence, though all its lines went.
//! - What a transaction wrote is compacted once it is committed, and goes at once if it was aborted. A marker is needed for as long as
//!   a record of its transaction is left; then it goes as a tombstone does, after its delete horizon. Nothing from the last stable
//!   offset on is compacted: who began a transaction there may yet abort it.
//! - A damaged segment is left as it is. What comes after it is compacted, but keeps its tombstones: the segment may hold
//!   what they delete.
//! - What compaction wrote is told by its entries ([`Entry::is_compacted`]), so nothing else keeps account of it.
//!
//! **Memory** is bounded by the map: 1.8 million keys in 50 MiB. When it is full the pass ends there, and the next one goes
//! on behind it. It holds 128 bits of each key's hash: two SipHashes with secrets of this process. So nobody can make keys
//! that collide, and any two of a full map do so by chance with a probability of 10⁻²⁶, far below that of a disk which lies.
//! Beside it stand a few words for each idempotent producer that the segments know.
//!
//! **Crashes.** The pair is written beside the old one, and the names change in an order of which every beginning is whole:
//!
//! ```text
//! B.log.new B.batches.new       written, synced, and their names too
//! B.batches.new  → B.batches.swap            commit point: from here on opening the log goes on with this list
//! B.log.new      → B.log                     each step is durable before the next
//! B.batches.swap → B.batches
//! C.log C.batches               merged into B: removed, lines first
//! ```
//!
//! **Readers** hold a segment with its handles, which are kept open before the first name changes; those who come later get
//! the new segment. So no entry is ever read against the other's lines. Whoever works with a segment's path, or takes it from
//! the list of segments, holds the log's `files` lock, and with it DROP and retention wait for no more than those few calls.

mod rewrite;

use super::{
    Error, Log,
    aborted::AbortedList,
    batches::{Entry, Flags, crc32c},
    lines::Lines,
    record::{Malformed, unescape},
    recovery::Window,
    segment::Segment,
    unreadable,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher,
    io,
    ops::Range,
    sync::Arc,
};

/// The most keys in a map: what 2^21 slots hold.
const KEYS_MAX: usize = (1 << 21) / 8 * 7;
/// The most segments that become one at once; each has two files open meanwhile.
const MERGED_MAX: usize = 64;

/// How a log is compacted: a topic's settings.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `message.timestamp.after.max.ms`: a time further ahead says nothing of an age.
    pub timestamp_after_max_ms: i64,
    /// `segment.bytes`: up to here neighbours become one.
    pub segment_bytes: u32,
    /// The sequence of a producer whose newest batch is older than this is forgotten, in ms.
    pub producer_expires_ms: i64,
    /// The most keys in the map.
    pub keys_max: usize,
}

impl Default for Compaction {
    /// Kafka's defaults, and a map of 50 MiB.
    fn default() -> Compaction {
        Compaction {
            delete_retention_ms: 24 * 3600 * 1000,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            timestamp_after_max_ms: 3600 * 1000,
            segment_bytes: 1 << 30,
            producer_expires_ms: 24 * 3600 * 1000,
            keys_max: KEYS_MAX,
        }
    }
}

/// What a pass did.
#[derive(Debug, Default)]
pub struct Compacted {
    /// Bytes of lines that were read to be written anew.
    pub bytes_before: u64,
    /// Bytes of lines that were written.
    pub bytes_after: u64,
    /// Sentences for the operator: damage that was found.
    pub notes: Vec<String>,
}

/// Whether there is something to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    /// A pass has something to do.
    pub now: bool,
    /// When to look again if nothing is written until then, in ms; `None`: never.
    pub next_ms: Option<i64>,
}

/// What compaction knows of a log; [`Log::survey`] reads it from the entries.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    known: bool,
    /// All below it was compacted.
    clean_to: u64,
    /// When the last of the tombstones compacted so far may go, in ms.
    horizon_ms: Option<i64>,
    /// Bases of segments with damage.
    damaged: BTreeSet<u64>,
    /// A pass failed: none follows before the active segment begins behind this offset.
    failed_at: Option<u64>,
    /// A pass ended between two names: none follows before a restart.
    half_done: Option<Error>,
}

/// Why a pass ends early.
#[derive(Debug)]
enum Halt {
    /// It was asked to stop, or the log was closed.
    Stopped,
    /// Retention or TRIM took a segment.
    Gone,
    /// The segment at this base is damaged; the sentence says where.
    Damaged(u64, String),
    /// The disk failed; all is as it was.
    Failed(String),
    /// The disk failed between two names. The old segment is served until a restart ends this.
    HalfDone(String),
}

/// Why a batch cannot be taken: a line of it is none, or the disk failed.
enum Bad {
    Line(String),
    Disk(io::Error),
}

impl From<Malformed> for Bad {
    fn from(error: Malformed) -> Bad {
        Bad::Line(error.0)
    }
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Bad {
        Bad::Disk(error)
    }
}

/// The segments of a log at one moment.
struct Segments {
    sealed: Vec<Sealed>,
    /// Base of the one that is written to.
    active: u64,
}

/// What `min.compaction.lag.ms` leaves to compact.
struct Lag {
    /// The first offset that is to stay as it is.
    bound: u64,
    /// When the next segment may be compacted, in ms; `None`: nothing waits for it.
    ends_ms: Option<i64>,
}

/// A sealed segment with the base of the one that follows it.
#[derive(Clone, Debug)]
struct Sealed {
    segment: Arc<Segment>,
    end: u64,
}

/// 128 bits of a key's hash.
type KeyHash = (u64, u64);

/// The latest offset of each key in the dirty segments.
struct Latest {
    hashers: [RandomState; 2],
    offsets: HashMap<KeyHash, u64>,
    /// All below it is in the map, or was compacted before.
    end: u64,
}

impl Latest {
    fn hash(&self, key: &[u8]) -> Result<KeyHash, Malformed> {
        let key = unescape(key)?;
        Ok((self.hashers[0].hash_one(&*key), self.hashers[1].hash_one(&*key)))
    }
}

/// What a pass goes by.
struct Pass<'a> {
    settings: &'a Compaction,
    now_ms: i64,
    start: u64,
    latest: Latest,
    /// First offset of the newest batch of each producer in the segments of the pass.
    producers: HashMap<i64, u64>,
    aborted: AbortedList,
    stop: &'a dyn Fn() -> bool,
}

impl Pass<'_> {
    /// Whether the batch whose first offset that is belongs to an aborted transaction.
    fn is_aborted(&self, entry: &Entry, first: u64) -> bool {
        entry.flags.has(Flags::TRANSACTIONAL) && self.aborted.holds(entry.producer_id, first)
    }

    /// Whether anything may have to go from these offsets, though no map says so.
    fn holds_aborted(&self, offsets: Range<u64>) -> bool {
        self.aborted.within(offsets).next().is_some()
    }
}

/// Producers of whose present transaction records stay, on the way from the log's start on.
#[derive(Clone, Debug, Default)]
struct Unended(HashSet<i64>);

impl Unended {
    /// Goes over a batch that stays as it is.
    fn pass_by(&mut self, entry: &Entry) {
        if entry.flags.has(Flags::CONTROL) {
            self.0.remove(&entry.producer_id);
        } else if entry.flags.has(Flags::TRANSACTIONAL) && entry.count > 0 {
            self.0.insert(entry.producer_id);
        }
    }
}

fn failed(segment: &Segment) -> impl Fn(io::Error) -> Halt {
    let path = segment.path("log");
    move |error| Halt::Failed(format!("{}: {error}", path.display()))
}

impl Log {
    /// Whether a pass has something to do now, or when. A log that is being compacted has not.
    pub fn compaction_due(&self, now_ms: i64, settings: &Compaction) -> Result<Due, Error> {
        let Ok(mut cleaner) = self.cleaner.try_lock() else { return Ok(Due { now: false, next_ms: None }) };
        self.survey(&mut cleaner)?;
        let Segments { sealed, active } = self.segments_now();
        if cleaner.half_done.is_some() || cleaner.failed_at.is_some_and(|failed_at| active <= failed_at) {
            return Ok(Due { now: false, next_ms: None });
        }
        let Lag { bound, ends_ms: lag_ends_ms } = self.lag(&sealed, now_ms, settings)?;
        let (mut clean, mut dirty, mut late_ms) = (0, 0, None);
        for Sealed { segment, end } in sealed.iter().filter(|sealed| !cleaner.damaged.contains(&sealed.segment.base)) {
            let bytes = self.bytes_of(segment)?;
            match *end {
                end if end <= cleaner.clean_to => clean += bytes,
                end if end <= bound => {
                    dirty += bytes;
                    if settings.max_compaction_lag_ms < i64::MAX {
                        let late =
                            self.begun_ms(segment, now_ms, settings)?.saturating_add(settings.max_compaction_lag_ms);
                        late_ms = Some(late_ms.unwrap_or(i64::MAX).min(late));
                    }
                }
                _ => {}
            }
        }
        let ratio = dirty as f64 / (clean + dirty).max(1) as f64;
        let tombstones = cleaner.horizon_ms.is_some_and(|horizon| horizon <= now_ms);
        let late = late_ms.is_some_and(|late_ms| late_ms <= now_ms);
        let now = dirty > 0 && (ratio > settings.min_cleanable_dirty_ratio || late) || tombstones;
        let later = [cleaner.horizon_ms, late_ms].map(|time| time.filter(|_| !now));
        let next_ms = later.into_iter().chain([lag_ends_ms]).flatten().min();
        Ok(Due { now, next_ms })
    }

    /// One pass over the sealed segments, whether it is due or not. `stop` is asked again and again, and ends the pass.
    pub fn compact(&self, now_ms: i64, settings: &Compaction, stop: &dyn Fn() -> bool) -> Result<Compacted, Error> {
        let mut cleaner = self.cleaner.lock().expect("no panic while a log is compacted");
        if let Some(why) = &cleaner.half_done {
            return Err(why.clone());
        }
        self.survey(&mut cleaner)?;
        let mut done = Compacted::default();
        match self.pass(&mut cleaner, now_ms, settings, stop, &mut done) {
            Ok(()) | Err(Halt::Stopped | Halt::Gone) => Ok(done),
            Err(Halt::Damaged(_, why) | Halt::Failed(why)) => {
                cleaner.failed_at = Some(self.segments_now().active);
                Err(Error::Unreadable(format!("compaction: {why}")))
            }
            Err(Halt::HalfDone(why)) => {
                let why = Error::Unreadable(format!("compaction: {why}; the next start of the broker ends it"));
                Err(cleaner.half_done.insert(why).clone())
            }
        }
    }

    fn segments_now(&self) -> Segments {
        let segments = self.all_segments();
        let ends = segments.iter().skip(1).map(|next| next.base);
        let sealed = segments.iter().zip(ends).map(|(segment, end)| Sealed { segment: segment.clone(), end });
        Segments { sealed: sealed.collect(), active: segments.last().map_or(0, |active| active.base) }
    }

    /// Reads from the entries what was compacted.
    fn survey(&self, cleaner: &mut Cleaner) -> Result<(), Error> {
        if cleaner.known {
            return Ok(());
        }
        let Segments { sealed, active: mut clean_to } = self.segments_now();
        let mut horizon_ms = None;
        for Sealed { segment, .. } in sealed.iter().filter(|sealed| !cleaner.damaged.contains(&sealed.segment.base)) {
            let mut dirty = None;
            let surveyed = self.each_entry_of(segment, |index, entry| {
                horizon_ms = horizon_ms.max(entry.delete_horizon_ms());
                if !entry.is_compacted(index) {
                    dirty = Some(segment.base + u64::from(entry.first));
                }
                dirty.is_none()
            });
            surveyed.map_err(unreadable(segment.path("batches")))?;
            if let Some(dirty) = dirty {
                clean_to = dirty;
                break;
            }
        }
        (cleaner.known, cleaner.clean_to, cleaner.horizon_ms) = (true, clean_to, horizon_ms);
        Ok(())
    }

    /// The time of a segment's first batch.
    fn begun_ms(&self, segment: &Segment, now_ms: i64, settings: &Compaction) -> Result<i64, Error> {
        let first = segment.entry(&self.handles, 0).map_err(unreadable(segment.path("batches")))?;
        let timestamp = first.map_or(-1, |(_, entry)| entry.timestamp);
        self.credible_ms(segment, timestamp, now_ms, settings.timestamp_after_max_ms)
    }

    fn lag(&self, sealed: &[Sealed], now_ms: i64, settings: &Compaction) -> Result<Lag, Error> {
        let (mut bound, stable) = (0, self.last_stable_offset());
        for Sealed { segment, end } in sealed {
            if *end > stable {
                // Whoever ends the transaction that is open there has somebody look again.
                return Ok(Lag { bound, ends_ms: None });
            }
            if settings.min_compaction_lag_ms > 0 {
                let newest = self.newest_ms(segment, now_ms, settings.timestamp_after_max_ms)?;
                let free_ms = newest.saturating_add(settings.min_compaction_lag_ms);
                if free_ms > now_ms {
                    return Ok(Lag { bound, ends_ms: Some(free_ms) });
                }
            }
            bound = *end;
        }
        Ok(Lag { bound, ends_ms: None })
    }

    fn pass(
        &self,
        cleaner: &mut Cleaner,
        now_ms: i64,
        settings: &Compaction,
        stop: &dyn Fn() -> bool,
        done: &mut Compacted,
    ) -> Result<(), Halt> {
        let sealed = self.segments_now().sealed;
        let Lag { bound, .. } = self.lag(&sealed, now_ms, settings).map_err(|error| Halt::Failed(error.to_string()))?;
        let (hashers, offsets) = ([RandomState::new(), RandomState::new()], HashMap::new());
        let latest = Latest { hashers, offsets, end: cleaner.clean_to };
        // After the bound was told: all that is below it is committed by now, or aborted.
        let aborted = self.read_aborted().map_err(|error| Halt::Failed(error.to_string()))?;
        let (start, producers) = (self.start(), HashMap::new());
        let mut pass = Pass { settings, now_ms, start, latest, producers, aborted, stop };
        self.map(&sealed, bound, cleaner, &mut pass, done)?;
        let end = pass.latest.end;
        for Sealed { segment, .. } in sealed.iter().filter(|sealed| sealed.segment.base < end) {
            self.note_producers(segment, &mut pass)?;
        }
        self.rewrite_all(cleaner, &pass, false, done)?;
        // What shrank may fit one segment with its neighbours now.
        self.rewrite_all(cleaner, &pass, true, done)?;
        cleaner.known = false;
        self.survey(cleaner).map_err(|error| Halt::Failed(error.to_string()))?;
        // Damaged segments are passed by; all else below the map's end is clean.
        cleaner.clean_to = cleaner.clean_to.max(end);
        // A tombstone behind damage is still there.
        cleaner.horizon_ms = cleaner.horizon_ms.filter(|&horizon| horizon > now_ms);
        Ok(())
    }

    /// Notes the latest offset of each key from `clean_to` on, up to `bound` or until the map is full.
    fn map(
        &self,
        sealed: &[Sealed],
        bound: u64,
        cleaner: &mut Cleaner,
        pass: &mut Pass<'_>,
        done: &mut Compacted,
    ) -> Result<(), Halt> {
        let dirty = |sealed: &&Sealed| cleaner.clean_to < sealed.end && sealed.end <= bound;
        let dirty: Vec<Sealed> = sealed.iter().filter(dirty).cloned().collect();
        let mut records = 0;
        for Sealed { segment, .. } in &dirty {
            let count = self.each_entry_of(segment, |_, entry| {
                records += entry.count as usize;
                records < pass.settings.keys_max
            });
            count.map_err(failed(segment))?;
        }
        // A map that grows would hold its keys twice meanwhile. What is not used of it takes no memory.
        pass.latest.offsets.reserve(records.min(pass.settings.keys_max));
        for Sealed { segment, end } in dirty {
            if cleaner.damaged.contains(&segment.base) {
                pass.latest.end = end;
                continue;
            }
            match self.pinned(std::slice::from_ref(&segment), || self.map_segment(&segment, cleaner.clean_to, pass)) {
                Ok(true) => pass.latest.end = end,
                Ok(false) => return Ok(()),
                Err(Halt::Damaged(base, why)) => {
                    note_damage(cleaner, done, base, &why);
                    pass.latest.end = end;
                }
                Err(halt) => return Err(halt),
            }
        }
        Ok(())
    }

    /// Notes the keys of a segment from offset `from` on. Answers whether they all found room.
    fn map_segment(&self, segment: &Segment, from: u64, pass: &mut Pass<'_>) -> Result<bool, Halt> {
        let mut full = false;
        self.each_batch(segment, pass.stop, |entry, lines| {
            let first = segment.base + u64::from(entry.first);
            if first < from || entry.flags.has(Flags::CONTROL) || pass.is_aborted(entry, first) {
                return Ok(true);
            }
            let keys = pass.latest.offsets.len();
            if keys > 0 && keys + entry.count as usize > pass.settings.keys_max {
                // The next pass goes on here.
                pass.latest.end = first;
                full = true;
                return Ok(false);
            }
            for line in Lines::of(entry, lines) {
                let line = line?;
                if let Some(key) = line.split()?.key {
                    let hash = pass.latest.hash(key)?;
                    pass.latest.offsets.insert(hash, line.offset);
                }
            }
            Ok(true)
        })?;
        Ok(!full)
    }

    /// Notes the newest batch of each producer.
    fn note_producers(&self, segment: &Segment, pass: &mut Pass<'_>) -> Result<(), Halt> {
        let oldest_ms = pass.now_ms - pass.settings.producer_expires_ms;
        let noted = self.each_entry_of(segment, |_, entry| {
            if entry.producer_id >= 0 && entry.timestamp >= oldest_ms && !entry.flags.has(Flags::CONTROL) {
                pass.producers.insert(entry.producer_id, segment.base + u64::from(entry.first));
            }
            true
        });
        noted.map_err(failed(segment))
    }

    /// Hands each batch of a segment with its lines on to `each`, which answers whether it wants more.
    fn each_batch(
        &self,
        segment: &Segment,
        stop: &dyn Fn() -> bool,
        mut each: impl FnMut(&Entry, &[u8]) -> Result<bool, Bad>,
    ) -> Result<(), Halt> {
        let failed = failed(segment);
        let damaged = |position: u64, why: &str| {
            let why = format!("{} is left as it is: at position {position} {why}", segment.path("log").display());
            Halt::Damaged(segment.base, why)
        };
        let log = segment.log(&self.handles).map_err(&failed)?;
        let all = segment.entries(&self.handles).map_err(&failed)?;
        let (mut window, mut entries) = (Window::new(&*log), Vec::new());
        let (mut index, mut position, mut next) = (0, 0, 0);
        while index < all {
            if stop() || self.is_closed() {
                return Err(Halt::Stopped);
            }
            segment.read_entries(&self.handles, index, u32::MAX, all, &mut entries).map_err(&failed)?;
            if entries.is_empty() {
                return Err(damaged(position, "entries are missing"));
            }
            for entry in &entries {
                let entry =
                    entry.filter(|entry| u64::from(entry.position) == position && u64::from(entry.first) >= next);
                let entry = entry.ok_or_else(|| damaged(position, "an entry is damaged"))?;
                let lines = window.at(position, entry.bytes as usize).map_err(&failed)?;
                let lines = lines.get(..entry.bytes as usize).filter(|lines| crc32c(lines) == entry.lines_crc);
                let lines = lines.filter(|lines| lines.last().is_none_or(|&end| end == b'\n'));
                let lines = lines.ok_or_else(|| damaged(position, "lines are damaged"))?;
                match each(&entry, lines) {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(Bad::Line(why)) => return Err(damaged(position, &why)),
                    Err(Bad::Disk(error)) => return Err(failed(error)),
                }
                index += 1;
                (position, next) = (u64::from(entry.positions().end), u64::from(entry.last()) + 1);
            }
        }
        if position != segment.bytes(&self.handles).map_err(&failed)? {
            return Err(damaged(position, "there are lines without entries"));
        }
        Ok(())
    }

    /// Does `work` while the files of these segments are kept open, under whatever names.
    fn pinned<T>(&self, segments: &[Arc<Segment>], work: impl FnOnce() -> Result<T, Halt>) -> Result<T, Halt> {
        let files = self.files();
        self.present(segments)?;
        self.pin(segments)?;
        drop(files);
        let done = work();
        segments.iter().for_each(|segment| segment.unpin(&self.handles));
        done
    }

    fn pin(&self, segments: &[Arc<Segment>]) -> Result<(), Halt> {
        for (index, segment) in segments.iter().enumerate() {
            if let Err(error) = segment.pin(&self.handles) {
                segments[..index].iter().for_each(|segment| segment.unpin(&self.handles));
                return Err(failed(segment)(error));
            }
        }
        Ok(())
    }

    /// An error if the paths of these segments are not theirs any more. Held: `files`.
    fn present(&self, segments: &[Arc<Segment>]) -> Result<(), Halt> {
        if self.is_closed() {
            return Err(Halt::Stopped);
        }
        let all = self.all_segments();
        let first = all.iter().position(|other| Arc::ptr_eq(other, &segments[0])).ok_or(Halt::Gone)?;
        let same = all[first..].iter().zip(segments).filter(|(one, other)| Arc::ptr_eq(one, other)).count();
        if same == segments.len() { Ok(()) } else { Err(Halt::Gone) }
    }

    /// Writes the segments below the map's end anew, as few as they fit; only where several become one, if `merging`.
    fn rewrite_all(
        &self,
        cleaner: &mut Cleaner,
        pass: &Pass<'_>,
        merging: bool,
        done: &mut Compacted,
    ) -> Result<(), Halt> {
        let mut sealed = self.segments_now().sealed;
        sealed.retain(|sealed| sealed.segment.base < pass.latest.end);
        let (mut index, mut unended) = (0, Unended::default());
        while index < sealed.len() {
            let group = self.group(&sealed[index..], cleaner, pass)?;
            let segments: Vec<_> = sealed[index..index + group].iter().map(|sealed| sealed.segment.clone()).collect();
            let keep_tombstones = cleaner.damaged.first().is_some_and(|&damaged| damaged < sealed[index].segment.base);
            let wanted = match merging {
                true => group > 1,
                false if group == 0 => false,
                false => {
                    !pass.latest.offsets.is_empty()
                        || !keep_tombstones && self.has_expired(&segments, pass)?
                        || pass.holds_aborted(sealed[index].segment.base..sealed[index + group - 1].end)
                }
            };
            if !wanted {
                for Sealed { segment, .. } in &sealed[index..index + group.max(1)] {
                    self.pass_by(segment, &mut unended)?;
                }
                index += group.max(1);
                continue;
            }
            let before = unended.clone();
            match self.rewrite(&segments, pass, &mut unended, keep_tombstones, done) {
                Err(Halt::Damaged(base, why)) => {
                    unended = before;
                    note_damage(cleaner, done, base, &why);
                }
                Err(Halt::Gone) => {
                    unended = before;
                    index += 1;
                }
                rewritten => {
                    rewritten?;
                    index += group;
                }
            }
        }
        Ok(())
    }

    /// Goes over the batches of a segment that stays as it is.
    fn pass_by(&self, segment: &Segment, unended: &mut Unended) -> Result<(), Halt> {
        if !self.may_hold(segment, Flags::TRANSACTIONS).map_err(|error| Halt::Failed(error.to_string()))? {
            return Ok(());
        }
        let passed = self.each_entry_of(segment, |_, entry| {
            unended.pass_by(entry);
            true
        });
        passed.map_err(failed(segment))
    }

    /// How many of the segments, from the first on, fit one; 0: the first is damaged.
    fn group(&self, sealed: &[Sealed], cleaner: &Cleaner, pass: &Pass<'_>) -> Result<usize, Halt> {
        let base = sealed[0].segment.base;
        let mut bytes = 0;
        for (index, Sealed { segment, end }) in sealed.iter().enumerate().take(MERGED_MAX) {
            bytes += segment.bytes(&self.handles).map_err(failed(segment))?;
            // A segment that the map reaches in part stays alone: what was merged must be known as compacted to its end, so
            // that opening the log after a crash removes what it was merged from.
            let fits = index == 0
                || bytes <= u64::from(pass.settings.segment_bytes) && end - base <= 1 << 32 && *end <= pass.latest.end;
            if !fits || cleaner.damaged.contains(&segment.base) {
                return Ok(index);
            }
        }
        Ok(sealed.len().min(MERGED_MAX))
    }

    /// Whether a tombstone may go by now.
    fn has_expired(&self, segments: &[Arc<Segment>], pass: &Pass<'_>) -> Result<bool, Halt> {
        let mut expired = false;
        for segment in segments {
            let looked = self.each_entry_of(segment, |_, entry| {
                expired |= entry.delete_horizon_ms().is_some_and(|horizon| horizon <= pass.now_ms);
                !expired
            });
            looked.map_err(failed(segment))?;
        }
        Ok(expired)
    }
}

fn note_damage(cleaner: &mut Cleaner, done: &mut Compacted, base: u64, why: &str) {
    cleaner.damaged.insert(base);
    done.notes.push(format!("compaction: {why}"));
}

#[cfg(test)]
mod tests;
