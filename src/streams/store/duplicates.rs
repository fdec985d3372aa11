//! Any number of values of one key and time.

use super::{
    StoreId, Stored, Stores,
    key_value::read,
    layout::{WindowEntry, read_window, segment_prefix, write_window},
    stores::join_value,
    window::scan_key,
};
use crate::streams::error::Failure;
use crate::streams::serde::Serde;

/// A handle of a store of several values of one key and time. Keys are bytes; values may be of several types.
#[derive(Clone, Copy, Debug)]
pub(in crate::streams) struct Duplicates(pub(in crate::streams) StoreId);

/// A value that waits, and where.
pub(in crate::streams) struct Waiting {
    /// The key in the store.
    pub(in crate::streams) entry: Vec<u8>,
    pub(in crate::streams) key: Vec<u8>,
    pub(in crate::streams) time: i64,
    /// The value as the store has it.
    pub(in crate::streams) value: Vec<u8>,
}

impl Duplicates {
    /// Takes notice of a time; answers with the stream time from then on.
    pub(in crate::streams) fn advance(self, stores: &mut impl AsMut<Stores>, time: i64) -> Result<i64, Failure> {
        stores.as_mut().advance(self.0, time)
    }

    /// A time that is kept with the values.
    pub(in crate::streams) fn time(self, stores: &mut impl AsMut<Stores>) -> Result<Option<i64>, Failure> {
        stores.as_mut().time(self.0)
    }

    pub(in crate::streams) fn set_time(
        self,
        stores: &mut impl AsMut<Stores>,
        time: Option<i64>,
    ) -> Result<(), Failure> {
        stores.as_mut().set_time(self.0, time)
    }

    /// Adds a value.
    pub(in crate::streams) fn add<V: Serde>(
        self,
        stores: &mut impl AsMut<Stores>,
        key: &[u8],
        time: i64,
        value: &V,
    ) -> Result<(), Failure> {
        let stores = stores.as_mut();
        if !stores.observe(self.0, time) {
            return Ok(());
        }
        let mut number = 0;
        scan_key(stores, self.0, key, time, time, |entry, _| number = entry.more.map_or(0, |last| last + 1))?;
        let times = stores.layout(self.0).times().expect("a store of duplicates has times");
        let entry = WindowEntry { key: key.into(), time, more: Some(number) };
        stores.put(self.0, write_window(times, &entry), Some(join_value(time, &value.to_bytes())));
        Ok(())
    }

    /// The values of a key whose times are from `from` to `to`, both included, in their order.
    pub(in crate::streams) fn fetch<V: Serde>(
        self,
        stores: &impl AsRef<Stores>,
        key: &[u8],
        from: i64,
        to: i64,
    ) -> Result<Vec<Stored<V>>, Failure> {
        let mut found = Vec::new();
        scan_key(stores.as_ref(), self.0, key, from, to, |_, value| found.push(read(value)))?;
        found.into_iter().collect()
    }

    /// Deletes all values of a key and time.
    pub(in crate::streams) fn delete(
        self,
        stores: &mut impl AsMut<Stores>,
        key: &[u8],
        time: i64,
    ) -> Result<(), Failure> {
        let stores = stores.as_mut();
        let times = stores.layout(self.0).times().expect("a store of duplicates has times");
        let mut found = Vec::new();
        scan_key(stores, self.0, key, time, time, |entry, _| found.push(write_window(times, &entry)))?;
        found.into_iter().for_each(|entry| stores.put(self.0, entry, None));
        Ok(())
    }

    /// Calls `each` for all values, in the order of their times where the store has them so, until it answers false.
    pub(in crate::streams) fn all(
        self,
        stores: &impl AsRef<Stores>,
        mut each: impl FnMut(Waiting) -> bool,
    ) -> Result<(), Failure> {
        stores.as_ref().scan(self.0, &segment_prefix(0), None, |entry, value| match read_window(entry) {
            Some(WindowEntry { key, time, .. }) => {
                each(Waiting { entry: entry.into(), key, time, value: value.into() })
            }
            None => true,
        })
    }

    /// Deletes a value that `all` showed.
    pub(in crate::streams) fn take(self, stores: &mut impl AsMut<Stores>, waiting: Waiting) {
        stores.as_mut().put(self.0, waiting.entry, None);
    }
}
