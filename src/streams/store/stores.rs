//! The stores of one task: what changed since the last commit, over what is committed.

use super::{
    Changes, Layout, State,
    layout::{TIME, read_segment, read_window, segment_prefix},
};
use crate::{client::Message, streams::error::Failure};
use std::{
    collections::BTreeMap,
    mem,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

/// What a change takes in memory beside the bytes of its key and its value.
const CHANGE_BYTES: usize = 128;

/// A store that a topology has.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreSpec {
    /// Its name, which names its changelog, too.
    pub name: String,
    pub(in crate::streams) layout: Layout,
}

impl StoreSpec {
    /// A store of values by key.
    pub fn key_value(name: impl Into<String>) -> StoreSpec {
        StoreSpec { name: name.into(), layout: Layout::KeyValue }
    }

    /// Whether it is one of values by key,
    pub(in crate::streams) fn is_key_value(&self) -> bool {
        matches!(self.layout, Layout::KeyValue)
    }

    /// of values by key and window,
    pub(in crate::streams) fn is_window(&self) -> bool {
        matches!(self.layout, Layout::Window(_))
    }

    /// or of values by session.
    pub(in crate::streams) fn is_session(&self) -> bool {
        matches!(self.layout, Layout::Session(_))
    }

    /// How many milliseconds of stream time an entry is kept; `None` keeps them for good.
    pub fn retention(&self) -> Option<i64> {
        self.layout.times().map(|times| times.retention)
    }
}

/// Which of a task's stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::streams) struct StoreId(pub(in crate::streams) usize);

/// The stores of a task, which the handles of stores read and write.
pub struct Stores {
    specs: Vec<StoreSpec>,
    state: Arc<dyn State>,
    changed: Vec<Changed>,
    /// The highest time of a window in each store; -1 before the first one.
    observed: Vec<i64>,
    /// The time that is kept in each store, where it has been looked up.
    times: Vec<Option<Option<i64>>>,
    /// What the record in hand changed, in order: each with what was there before.
    journal: Vec<Step>,
    /// How often what was changed was undone or forgotten.
    undone: u64,
    /// About how many bytes of memory is taken by what waits for the commit.
    size: usize,
}

/// What changed in a store.
#[derive(Default)]
struct Changed {
    entries: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// All below it are gone.
    purge: Option<Vec<u8>>,
}

enum Step {
    Entry { store: usize, key: Vec<u8>, before: Option<Option<Vec<u8>>> },
    Observed { store: usize, before: i64, purge: Option<Vec<u8>> },
}

impl AsRef<Stores> for Stores {
    fn as_ref(&self) -> &Stores {
        self
    }
}

/// A change as the changelog has it.
pub(in crate::streams) struct Logged {
    pub(in crate::streams) store: StoreId,
    pub(in crate::streams) key: Vec<u8>,
    /// The value and its timestamp.
    pub(in crate::streams) value: Option<(Vec<u8>, i64)>,
}

impl Stores {
    pub(in crate::streams) fn new(specs: Vec<StoreSpec>, state: Arc<dyn State>) -> Stores {
        let changed = specs.iter().map(|_| Changed::default()).collect();
        let (observed, times) = (vec![-1; specs.len()], vec![None; specs.len()]);
        Stores { specs, state, changed, observed, times, journal: Vec::new(), undone: 0, size: 0 }
    }

    pub(in crate::streams) fn specs(&self) -> &[StoreSpec] {
        &self.specs
    }

    pub(in crate::streams) fn state(&self) -> &Arc<dyn State> {
        &self.state
    }

    pub(in crate::streams) fn find(&self, name: &str) -> Option<StoreId> {
        self.specs.iter().position(|spec| spec.name == name).map(StoreId)
    }

    /// The layout and how long windows are kept.
    pub(in crate::streams) fn layout(&self, store: StoreId) -> Layout {
        self.specs[store.0].layout
    }

    /// About how many bytes of memory is taken by what waits for the commit.
    pub(in crate::streams) fn uncommitted(&self) -> usize {
        self.size
    }

    pub(in crate::streams) fn get(&self, store: StoreId, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        match self.changed[store.0].entries.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.state.get(store.0, key).map_err(Failure::state),
        }
    }

    pub(in crate::streams) fn put(&mut self, store: StoreId, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.size += CHANGE_BYTES + key.len() + value.as_ref().map_or(0, Vec::len);
        let before = self.changed[store.0].entries.insert(key.clone(), value);
        self.journal.push(Step::Entry { store: store.0, key, before });
    }

    /// Calls `each` for the keys from `from` on and below `to`, in order, until it answers false.
    pub(in crate::streams) fn scan(
        &self,
        store: StoreId,
        from: &[u8],
        to: Option<&[u8]>,
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Failure> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let range = (Included(from), to.map_or(Unbounded, Excluded));
        let mut changed = self.changed[store.0].entries.range::<[u8], _>(range).peekable();
        let mut goes_on = true;
        let scanned = self.state.scan(store.0, from, to, &mut |key, value| {
            while goes_on && let Some((first, new)) = changed.next_if(|(first, _)| first.as_slice() < key) {
                goes_on = new.as_ref().is_none_or(|new| each(first, new));
            }
            match changed.next_if(|(first, _)| first.as_slice() == key) {
                Some((key, Some(new))) => goes_on = goes_on && each(key, new),
                Some((_, None)) => {}
                None => goes_on = goes_on && each(key, value),
            }
            goes_on
        });
        scanned.map_err(Failure::state)?;
        while goes_on && let Some((key, new)) = changed.next() {
            goes_on = new.as_ref().is_none_or(|new| each(key, new));
        }
        Ok(())
    }

    /// Finds out how far the windows of each store are, once they are restored.
    pub(in crate::streams) fn start(&mut self) -> Result<(), String> {
        (0..self.specs.len()).try_for_each(|store| self.look(StoreId(store)))
    }

    /// Finds out how far the windows of a store are.
    pub(in crate::streams) fn look(&mut self, store: StoreId) -> Result<(), String> {
        let observed = &mut self.observed[store.0];
        *observed = -1;
        let times = self.specs[store.0].layout.times();
        let Some((_, last)) = times.zip(self.state.last(store.0)?) else { return Ok(()) };
        let segment = segment_prefix(read_segment(&last).unwrap_or(0));
        self.state.scan(store.0, &segment, None, &mut |key, _| {
            *observed = read_window(key).map_or(*observed, |entry| entry.time.max(*observed));
            true
        })
    }

    /// The time that the operator of a store of windows keeps in it.
    pub(in crate::streams) fn time(&mut self, store: StoreId) -> Result<Option<i64>, Failure> {
        if let Some(known) = self.times[store.0] {
            return Ok(known);
        }
        let time = self.get(store, TIME)?.map(|stored| split_value(&stored).0);
        self.times[store.0] = Some(time);
        Ok(time)
    }

    pub(in crate::streams) fn set_time(&mut self, store: StoreId, time: Option<i64>) -> Result<(), Failure> {
        if self.time(store)? != time {
            self.put(store, TIME.into(), time.map(|time| join_value(time, time.to_string().as_bytes())));
            self.times[store.0] = Some(time);
        }
        Ok(())
    }

    /// Takes notice of the time of a record that the operator of a store gets; answers with the stream time from then on. It is in
    /// the store, so that what was late is late after a crash, too.
    pub(in crate::streams) fn advance(&mut self, store: StoreId, time: i64) -> Result<i64, Failure> {
        let now = self.time(store)?.map_or(time, |known| known.max(time));
        self.set_time(store, Some(now))?;
        Ok(now)
    }

    /// The time up to which windows are gone: those at it and before it.
    pub(in crate::streams) fn expired(&self, store: StoreId) -> i64 {
        let retention = self.layout(store).times().map_or(i64::MAX, |times| times.retention);
        self.observed[store.0].saturating_sub(retention)
    }

    /// Takes notice of a window that is written; answers whether it is still kept.
    pub(in crate::streams) fn observe(&mut self, store: StoreId, time: i64) -> bool {
        let Some(times) = self.layout(store).times() else { return true };
        if time > self.observed[store.0] {
            let before = mem::replace(&mut self.observed[store.0], time);
            let purge = self.changed[store.0].purge.clone();
            self.journal.push(Step::Observed { store: store.0, before, purge });
            let expired = self.expired(store);
            if expired >= 0 && times.segment(expired) > 0 {
                self.purge(store, times.segment(expired));
            }
        }
        time > self.expired(store)
    }

    /// Lets the segments below `segment` go with the next commit. Nobody asks for what is in them any more.
    fn purge(&mut self, store: StoreId, segment: u64) {
        let changed = &mut self.changed[store.0];
        let prefix = segment_prefix(segment).to_vec();
        if changed.purge.as_ref().is_none_or(|purge| *purge < prefix) {
            changed.purge = Some(prefix);
        }
    }

    /// The record in hand is done: what it changed counts.
    pub(in crate::streams) fn keep(&mut self) {
        self.journal.clear();
    }

    /// The record in hand failed: what it changed does not count.
    pub(in crate::streams) fn undo(&mut self) {
        self.undone += 1;
        self.times.fill(None);
        for step in self.journal.drain(..).rev() {
            match step {
                Step::Entry { store, key, before: Some(before) } => {
                    drop(self.changed[store].entries.insert(key, before))
                }
                Step::Entry { store, key, before: None } => drop(self.changed[store].entries.remove(&key)),
                Step::Observed { store, before, purge } => {
                    self.observed[store] = before;
                    self.changed[store].purge = purge;
                }
            }
        }
    }

    /// A number that changes when what was changed is undone or forgotten: who remembers something of a store looks again.
    pub(in crate::streams) fn undone(&self) -> u64 {
        self.undone
    }

    /// What changed since the last commit, as the changelogs have it: the last change of each key.
    pub(in crate::streams) fn logged(&self) -> impl Iterator<Item = Logged> {
        self.changed.iter().zip(&self.specs).enumerate().flat_map(|(store, (changed, spec))| {
            let purge = changed.purge.as_deref().unwrap_or_default();
            let time = changed.entries.get_key_value(TIME).filter(|_| !purge.is_empty());
            let entries = changed.entries.range::<[u8], _>((Included(purge), Unbounded));
            time.into_iter().chain(entries).map(move |(key, value)| Logged {
                store: StoreId(store),
                key: spec.layout.changelog_key(key),
                value: value.as_deref().map(|value| {
                    let (timestamp, value) = split_value(value);
                    (value.into(), timestamp)
                }),
            })
        })
    }

    /// Commits the changes, with the offset of each store's changelog where it is known.
    pub(in crate::streams) fn commit(
        &mut self,
        offsets: &[Option<u64>],
        time: i64,
        durable: bool,
    ) -> Result<(), String> {
        for changed in &mut self.changed {
            if let Some(purge) = &changed.purge {
                let time = changed.entries.remove_entry(TIME);
                changed.entries = changed.entries.split_off(purge);
                changed.entries.extend(time);
            }
        }
        let changes: Vec<Changes<'_>> = (self.changed.iter().enumerate())
            .map(|(store, Changed { entries, purge })| Changes {
                store,
                purge: purge.as_deref(),
                entries,
                offset: offsets.get(store).copied().flatten(),
            })
            .filter(|change| !change.entries.is_empty() || change.purge.is_some() || change.offset.is_some())
            .collect();
        if !changes.is_empty() || durable || self.state.time()? < time {
            self.state.commit(&changes, time, durable)?;
        }
        self.clear();
        Ok(())
    }

    /// Forgets all that is not committed. `start` finds out again how far windows are.
    pub(in crate::streams) fn forget(&mut self) {
        self.undone += 1;
        self.observed.fill(-1);
        self.times.fill(None);
        self.clear();
    }

    fn clear(&mut self) {
        self.changed.iter_mut().for_each(|changed| *changed = Changed::default());
        self.journal.clear();
        self.size = 0;
    }
}

/// The entry that a record of a store's changelog stands for.
pub(in crate::streams) fn read_logged(spec: &StoreSpec, record: &Message) -> Result<Entry, String> {
    let key = record.key.as_deref().ok_or("a record without a key")?;
    let value = record.value.as_deref().map(|value| join_value(record.timestamp, value));
    Ok((spec.layout.stored_key(key)?, value))
}

/// A key and its value; `None` deletes.
pub(in crate::streams) type Entry = (Vec<u8>, Option<Vec<u8>>);

/// A value as stores have it.
pub(in crate::streams) fn join_value(timestamp: i64, value: &[u8]) -> Vec<u8> {
    [&timestamp.to_be_bytes(), value].concat()
}

/// The timestamp and the value.
pub(in crate::streams) fn split_value(stored: &[u8]) -> (i64, &[u8]) {
    let (timestamp, value) = stored.split_first_chunk().expect("a store's values have a timestamp");
    (i64::from_be_bytes(*timestamp), value)
}

#[cfg(test)]
mod tests {
    use super::super::MemoryState;
    use super::*;

    const STORE: StoreId = StoreId(0);

    fn all(stores: &Stores) -> String {
        let mut found = Vec::new();
        let each = |key: &[u8], value: &[u8]| {
            found.push(format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
            true
        };
        stores.scan(STORE, b"", None, each).unwrap();
        found.join(" ")
    }

    fn put(stores: &mut Stores, key: &str, value: Option<&str>) {
        stores.put(STORE, key.into(), value.map(Into::into));
    }

    #[test]
    fn what_changed_stands_over_what_is_committed() {
        let mut stores = Stores::new(vec![StoreSpec::key_value("s")], Arc::new(MemoryState::new(1)));
        ["b", "d", "f"].iter().for_each(|key| put(&mut stores, key, Some("1")));
        stores.commit(&[Some(3)], 7, true).unwrap();
        assert_eq!(stores.state().offset(0), Ok(Some(3)));
        for (key, value) in [("a", Some("2")), ("b", Some("2")), ("d", None), ("e", Some("2")), ("g", Some("2"))] {
            put(&mut stores, key, value);
        }
        assert_eq!(all(&stores), "a=2 b=2 e=2 f=1 g=2");
        assert_eq!(stores.get(STORE, b"d").unwrap(), None);
        let mut first = None;
        stores.scan(STORE, b"b", Some(b"f"), |key, _| first.replace(key.to_vec()).is_some()).unwrap();
        assert_eq!(first, Some(b"b".to_vec()));
        stores.forget();
        assert_eq!(all(&stores), "b=1 d=1 f=1");
    }

    #[test]
    fn what_a_failed_record_changed_is_undone() {
        let mut stores = Stores::new(vec![StoreSpec::key_value("s")], Arc::new(MemoryState::new(1)));
        put(&mut stores, "a", Some("1"));
        stores.keep();
        put(&mut stores, "a", Some("2"));
        put(&mut stores, "a", None);
        put(&mut stores, "b", Some("1"));
        stores.undo();
        assert_eq!(all(&stores), "a=1");
    }
}
