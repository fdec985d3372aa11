//! Values by key.

use super::{
    StoreId, Stores,
    stores::{join_value, split_value},
};
use crate::streams::{error::Failure, serde::Serde};
use std::marker::PhantomData;

/// A value in a store and the time of the event that it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<V> {
    /// The value.
    pub value: V,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp: i64,
}

/// What a store has under a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<K, V> {
    /// The key: of a window, or of a session, where the store is of those.
    pub key: K,
    /// The value.
    pub stored: Stored<V>,
}

/// A handle of a store of values by key. It is a number: all calls take the context that has the store.
#[derive(Debug)]
pub struct KeyValue<K, V> {
    store: StoreId,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for KeyValue<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for KeyValue<K, V> {}

impl<K: Serde, V: Serde> KeyValue<K, V> {
    pub(in crate::streams) fn new(store: StoreId) -> Self {
        KeyValue { store, types: PhantomData }
    }

    /// The value of a key.
    pub fn get(self, stores: &impl AsRef<Stores>, key: &K) -> Result<Option<Stored<V>>, Failure> {
        stores.as_ref().get(self.store, &key.to_bytes())?.map(|stored| read(&stored)).transpose()
    }

    /// Sets the value of a key; `None` deletes it.
    pub fn put(self, stores: &mut impl AsMut<Stores>, key: &K, value: Option<&V>, timestamp: i64) {
        let value = value.map(|value| join_value(timestamp, &value.to_bytes()));
        stores.as_mut().put(self.store, key.to_bytes(), value);
    }

    /// The entries, in the order of their keys' bytes.
    pub fn all(self, stores: &impl AsRef<Stores>) -> Result<Vec<Entry<K, V>>, Failure> {
        let mut found = Vec::new();
        let each = |key: &[u8], value: &[u8]| {
            found.push(
                K::from_bytes(key).map_err(Failure::state).and_then(|key| Ok(Entry { key, stored: read(value)? })),
            );
            true
        };
        stores.as_ref().scan(self.store, b"", None, each)?;
        found.into_iter().collect()
    }
}

/// The value of an entry.
pub(in crate::streams) fn read<V: Serde>(stored: &[u8]) -> Result<Stored<V>, Failure> {
    let (timestamp, value) = split_value(stored);
    Ok(Stored { value: V::from_bytes(value).map_err(Failure::state)?, timestamp })
}
