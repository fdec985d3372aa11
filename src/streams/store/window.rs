//! Values by key and the start of a window.

use super::{
    Entry, StoreId, Stored, Stores,
    key_value::read,
    layout::{WindowEntry, key_prefix, read_segment, read_window, segment_prefix, write_window},
    stores::join_value,
};
use crate::streams::{error::Failure, event::Windowed, serde::Serde};
use std::marker::PhantomData;

/// A handle of a store of windows. It is a number: all calls take the context that has the store.
#[derive(Debug)]
pub struct WindowStore<K, V> {
    store: StoreId,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for WindowStore<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for WindowStore<K, V> {}

impl<K: Serde, V: Serde> WindowStore<K, V> {
    pub(in crate::streams) fn new(store: StoreId) -> Self {
        WindowStore { store, types: PhantomData }
    }

    /// Takes notice of a time; answers with the stream time from then on.
    pub(in crate::streams) fn advance(self, stores: &mut impl AsMut<Stores>, time: i64) -> Result<i64, Failure> {
        stores.as_mut().advance(self.store, time)
    }

    fn entry(self, stores: &Stores, key: &K, start: i64) -> Vec<u8> {
        let times = stores.layout(self.store).times().expect("a store of windows has times");
        write_window(times, &WindowEntry { key: key.to_bytes(), time: start, more: None })
    }

    /// The value of a key in the window that begins at `start`, in milliseconds since 1970-01-01 UTC.
    pub fn get(self, stores: &impl AsRef<Stores>, key: &K, start: i64) -> Result<Option<Stored<V>>, Failure> {
        let stores = stores.as_ref();
        if start <= stores.expired(self.store) {
            return Ok(None);
        }
        stores.get(self.store, &self.entry(stores, key, start))?.map(|stored| read(&stored)).transpose()
    }

    /// Sets the value of a key in a window; `None` deletes it. What is older than the store keeps windows is left out.
    pub fn put(self, stores: &mut impl AsMut<Stores>, key: &K, start: i64, value: Option<&V>, timestamp: i64) {
        let stores = stores.as_mut();
        if stores.observe(self.store, start) {
            let value = value.map(|value| join_value(timestamp, &value.to_bytes()));
            stores.put(self.store, self.entry(stores, key, start), value);
        }
    }

    /// The windows of a key that begin from `from` to `to`, both included, in their order. The store does not know their ends.
    pub fn fetch(
        self,
        stores: &impl AsRef<Stores>,
        key: &K,
        from: i64,
        to: i64,
    ) -> Result<Vec<Entry<Windowed<K>, V>>, Failure> {
        let mut found = Vec::new();
        let stores = stores.as_ref();
        scan_key(stores, self.store, &key.to_bytes(), from, to, |entry, value| {
            let key = Windowed { key: key.clone(), start: entry.time, end: i64::MAX };
            found.push(read(value).map(|stored| Entry { key, stored }));
        })?;
        found.into_iter().collect()
    }
}

/// Calls `each` for the entries of a key whose time is from `from` to `to`, both included, that are still kept: in the order of their
/// times.
pub(super) fn scan_key(
    stores: &Stores,
    store: StoreId,
    key: &[u8],
    from: i64,
    to: i64,
    mut each: impl FnMut(WindowEntry, &[u8]),
) -> Result<(), Failure> {
    let times = stores.layout(store).times().expect("a store of windows has times");
    let from = from.max(stores.expired(store).saturating_add(1)).max(0);
    if to < from {
        return Ok(());
    }
    let (mut segment, last) = (times.segment(from), times.segment(to));
    loop {
        let prefix = key_prefix(segment, key);
        let [begin, end] = [from, to.saturating_add(1)].map(|time| [&prefix[..], &time.to_be_bytes()].concat());
        stores.scan(store, &begin, Some(&end), |stored, value| {
            if let Some(entry) = read_window(stored) {
                each(entry, value);
            }
            true
        })?;
        // On to the next segment that has anything.
        let Some(next) = segment.checked_add(1).filter(|next| *next <= last) else { return Ok(()) };
        let mut found = None;
        stores.scan(store, &segment_prefix(next), None, |stored, _| {
            found = read_segment(stored);
            false
        })?;
        match found {
            Some(next) if next <= last => segment = next,
            _ => return Ok(()),
        }
    }
}
