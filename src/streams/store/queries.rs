//! Questions to a store: they see what was committed last, in all tasks of a process that have a part of it.

use super::{Entry, KeyValue, SessionStore, State, StoreId, StoreSpec, Stored, Stores, WindowStore};
use crate::streams::{
    error::{Error, Failure},
    event::{Session, Windowed},
    serde::Serde,
};
use std::sync::Arc;

/// The state of a task, and what its stores are.
pub type Part = (Arc<dyn State>, Vec<StoreSpec>);

/// Values by key.
pub struct KeyValueQuery<K, V> {
    parts: Vec<(Stores, KeyValue<K, V>)>,
}

/// Values by key and window.
pub struct WindowQuery<K, V> {
    parts: Vec<(Stores, WindowStore<K, V>)>,
}

/// Values by key and session.
pub struct SessionQuery<K, V> {
    parts: Vec<(Stores, SessionStore<K, V>)>,
}

impl<K: Serde, V: Serde> KeyValueQuery<K, V> {
    /// The store `name`, where the topology has it, over these tasks. Fails where there is none, or it is of another kind.
    pub(in crate::streams) fn new(spec: Option<&StoreSpec>, parts: Vec<Part>, name: &str) -> Result<Self, Error> {
        let parts = with_store(spec, parts, name, "values by key", StoreSpec::is_key_value)?;
        Ok(KeyValueQuery { parts: parts.into_iter().map(|(stores, id)| (stores, KeyValue::new(id))).collect() })
    }

    /// The value of a key.
    pub fn get(&self, key: impl Into<K>) -> Result<Option<Stored<V>>, Error> {
        let key = key.into();
        first(&self.parts, |stores, store| store.get(stores, &key))
    }

    /// The entries of all parts, each in the order of its keys' bytes.
    pub fn all(&self) -> Result<Vec<Entry<K, V>>, Error> {
        gather(&self.parts, |stores, store| store.all(stores))
    }
}

impl<K: Serde, V: Serde> WindowQuery<K, V> {
    /// The store `name`, where the topology has it, over these tasks. Fails where there is none, or it is of another kind.
    pub(in crate::streams) fn new(spec: Option<&StoreSpec>, parts: Vec<Part>, name: &str) -> Result<Self, Error> {
        let parts = with_store(spec, parts, name, "windows", StoreSpec::is_window)?;
        Ok(WindowQuery { parts: parts.into_iter().map(|(stores, id)| (stores, WindowStore::new(id))).collect() })
    }

    /// The value of a key in the window that begins at `start`, in milliseconds since 1970-01-01 UTC.
    pub fn get(&self, key: impl Into<K>, start: i64) -> Result<Option<Stored<V>>, Error> {
        let key = key.into();
        first(&self.parts, |stores, store| store.get(stores, &key, start))
    }

    /// The windows of a key that begin from `from` to `to`, both included, in their order. The store does not know their ends.
    pub fn fetch(&self, key: impl Into<K>, from: i64, to: i64) -> Result<Vec<Entry<Windowed<K>, V>>, Error> {
        let key = key.into();
        gather(&self.parts, |stores, store| store.fetch(stores, &key, from, to))
    }
}

impl<K: Serde, V: Serde> SessionQuery<K, V> {
    /// The store `name`, where the topology has it, over these tasks. Fails where there is none, or it is of another kind.
    pub(in crate::streams) fn new(spec: Option<&StoreSpec>, parts: Vec<Part>, name: &str) -> Result<Self, Error> {
        let parts = with_store(spec, parts, name, "sessions", StoreSpec::is_session)?;
        Ok(SessionQuery { parts: parts.into_iter().map(|(stores, id)| (stores, SessionStore::new(id))).collect() })
    }

    /// The sessions of a key, in the order of their ends.
    pub fn fetch(&self, key: impl Into<K>) -> Result<Vec<Entry<Session<K>, V>>, Error> {
        let key = key.into();
        gather(&self.parts, |stores, store| store.find(stores, &key, 0, i64::MAX))
    }
}

fn with_store(
    spec: Option<&StoreSpec>,
    parts: Vec<Part>,
    name: &str,
    kind: &str,
    is_kind: fn(&StoreSpec) -> bool,
) -> Result<Vec<(Stores, StoreId)>, Error> {
    let spec = spec.ok_or_else(|| Error::Topology(format!("there is no store {name}")))?;
    if !is_kind(spec) {
        return Err(Error::Topology(format!("{name} is no store of {kind}")));
    }
    let mut found = Vec::new();
    for (state, specs) in parts {
        let mut stores = Stores::new(specs, state);
        if let Some(id) = stores.find(name) {
            stores.look(id).map_err(Error::State)?;
            found.push((stores, id));
        }
    }
    Ok(found)
}

fn first<H: Copy, T>(
    parts: &[(Stores, H)],
    get: impl Fn(&Stores, H) -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Error> {
    for (stores, handle) in parts {
        if let Some(found) = get(stores, *handle).map_err(told)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn gather<H: Copy, T>(
    parts: &[(Stores, H)],
    get: impl Fn(&Stores, H) -> Result<Vec<T>, Failure>,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    for (stores, handle) in parts {
        found.extend(get(stores, *handle).map_err(told)?);
    }
    Ok(found)
}

fn told(failure: Failure) -> Error {
    Error::State(failure.reason)
}
