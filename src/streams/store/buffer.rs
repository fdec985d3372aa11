//! Values by the window of their key, in the order in which the windows end.

use super::{
    Entry, StoreId, Stores,
    key_value::read,
    layout::{WindowEntry, read_window, segment_prefix, write_window},
    stores::join_value,
};
use crate::streams::{error::Failure, event::WindowKey, serde::Serde};
use std::marker::PhantomData;

/// A handle of a store of values that wait for the end of their windows.
pub(in crate::streams) struct Buffer<K, V> {
    store: StoreId,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: WindowKey, V: Serde> Buffer<K, V> {
    pub(in crate::streams) fn new(store: StoreId) -> Self {
        Buffer { store, types: PhantomData }
    }

    fn entry(&self, stores: &Stores, key: &K) -> Vec<u8> {
        let times = stores.layout(self.store).times().expect("a buffer has times");
        write_window(times, &WindowEntry { key: key.inner(), time: key.end(), more: Some(key.start()) })
    }

    /// Takes notice of a time; answers with the stream time from then on.
    pub(in crate::streams) fn advance(&self, stores: &mut impl AsMut<Stores>, time: i64) -> Result<i64, Failure> {
        stores.as_mut().advance(self.store, time)
    }

    pub(in crate::streams) fn has(&self, stores: &impl AsRef<Stores>, key: &K) -> Result<bool, Failure> {
        let stores = stores.as_ref();
        Ok(stores.get(self.store, &self.entry(stores, key))?.is_some())
    }

    pub(in crate::streams) fn put(&self, stores: &mut impl AsMut<Stores>, key: &K, value: Option<&V>, timestamp: i64) {
        let stores = stores.as_mut();
        let value = value.map(|value| join_value(timestamp, &value.to_bytes()));
        stores.put(self.store, self.entry(stores, key), value);
    }

    /// Takes out the values of windows that end at `time` or before.
    pub(in crate::streams) fn take_to(
        &self,
        stores: &mut impl AsMut<Stores>,
        time: i64,
    ) -> Result<Vec<Entry<K, V>>, Failure> {
        let stores = stores.as_mut();
        if time < 0 {
            return Ok(Vec::new());
        }
        let (mut found, mut taken) = (Vec::new(), Vec::new());
        let end = segment_prefix(time.saturating_add(1).unsigned_abs());
        stores.scan(self.store, &segment_prefix(0), Some(&end), |stored, value| {
            taken.push(stored.to_vec());
            let key = read_window(stored).ok_or_else(|| "an entry of a buffer without a window".to_string());
            let key = key.and_then(|entry| K::of(&entry.key, entry.more.unwrap_or(0), entry.time));
            found.push(key.map_err(Failure::state).and_then(|key| Ok(Entry { key, stored: read(value)? })));
            true
        })?;
        taken.into_iter().for_each(|key| stores.put(self.store, key, None));
        found.into_iter().collect()
    }

    /// When the first window ends that waits.
    pub(in crate::streams) fn first(&self, stores: &impl AsRef<Stores>) -> Result<Option<i64>, Failure> {
        let mut first = None;
        stores.as_ref().scan(self.store, &segment_prefix(0), None, |stored, _| {
            first = read_window(stored).map(|entry| entry.time);
            false
        })?;
        Ok(first)
    }
}
