//! Values by key and session.

use super::{
    Entry, StoreId, Stored, Stores,
    key_value::read,
    layout::{WindowEntry, write_window},
    stores::join_value,
    window::scan_key,
};
use crate::streams::{error::Failure, event::Session, serde::Serde};
use std::marker::PhantomData;

/// A handle of a store of sessions. It is a number: all calls take the context that has the store.
#[derive(Debug)]
pub struct SessionStore<K, V> {
    store: StoreId,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for SessionStore<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for SessionStore<K, V> {}

impl<K: Serde, V: Serde> SessionStore<K, V> {
    pub(in crate::streams) fn new(store: StoreId) -> Self {
        SessionStore { store, types: PhantomData }
    }

    /// Takes notice of a time; answers with the stream time from then on.
    pub(in crate::streams) fn advance(self, stores: &mut impl AsMut<Stores>, time: i64) -> Result<i64, Failure> {
        stores.as_mut().advance(self.store, time)
    }

    fn entry(self, stores: &Stores, session: &Session<K>) -> Vec<u8> {
        let times = stores.layout(self.store).times().expect("a store of sessions has times");
        let key = session.key.to_bytes();
        write_window(times, &WindowEntry { key, time: session.end, more: Some(session.start) })
    }

    /// The value of a session.
    pub fn get(self, stores: &impl AsRef<Stores>, session: &Session<K>) -> Result<Option<Stored<V>>, Failure> {
        let stores = stores.as_ref();
        stores.get(self.store, &self.entry(stores, session))?.map(|stored| read(&stored)).transpose()
    }

    /// Sets the value of a session; `None` deletes it. Its timestamp is its end.
    pub fn put(self, stores: &mut impl AsMut<Stores>, session: &Session<K>, value: Option<&V>) {
        let stores = stores.as_mut();
        if stores.observe(self.store, session.end) {
            let value = value.map(|value| join_value(session.end, &value.to_bytes()));
            stores.put(self.store, self.entry(stores, session), value);
        }
    }

    /// The sessions of a key that end at `from` or later and begin at `to` or earlier, in the order of their ends.
    pub fn find(
        self,
        stores: &impl AsRef<Stores>,
        key: &K,
        from: i64,
        to: i64,
    ) -> Result<Vec<Entry<Session<K>, V>>, Failure> {
        let mut found = Vec::new();
        scan_key(stores.as_ref(), self.store, &key.to_bytes(), from, i64::MAX, |entry, value| {
            let start = entry.more.unwrap_or(entry.time);
            if start <= to {
                let key = Session { key: key.clone(), start, end: entry.time };
                found.push(read(value).map(|stored| Entry { key, stored }));
            }
        })?;
        found.into_iter().collect()
    }
}
