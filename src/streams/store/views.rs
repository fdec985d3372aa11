//! What queries see: the committed values of a store, over all tasks of a process that have a part of it.

use super::{KeyValue, Layout, SessionStore, State, StoreSpec, Stored, Stores, WindowStore};
use crate::streams::{
    error::{Error, Failure},
    event::Session,
    serde::Serde,
};
use std::sync::Arc;

/// The state of a task, and what its stores are.
pub type Part = (Arc<dyn State>, Vec<StoreSpec>);

/// Values by key.
pub struct KeyValueView<K, V> {
    parts: Vec<(Stores, KeyValue<K, V>)>,
}

/// Values by key and window.
pub struct WindowView<K, V> {
    parts: Vec<(Stores, WindowStore<K, V>)>,
}

/// Values by key and session.
pub struct SessionView<K, V> {
    parts: Vec<(Stores, SessionStore<K, V>)>,
}

impl<K: Serde, V: Serde> KeyValueView<K, V> {
    /// The store `name` of these tasks. Fails where none has it, or it is of another kind.
    pub fn new(parts: impl IntoIterator<Item = Part>, name: &str) -> Result<Self, Error> {
        let parts = with_store(parts, name, |layout| matches!(layout, Layout::KeyValue))?;
        Ok(KeyValueView { parts: parts.into_iter().map(|(stores, id)| (stores, KeyValue::new(id))).collect() })
    }

    /// The value of a key.
    pub fn get(&self, key: impl Into<K>) -> Result<Option<Stored<V>>, Error> {
        let key = key.into();
        first(&self.parts, |stores, store| store.get(stores, &key))
    }

    /// The entries of all parts, each in the order of its keys' bytes.
    pub fn all(&self) -> Result<Vec<(K, Stored<V>)>, Error> {
        gather(&self.parts, |stores, store| store.all(stores))
    }
}

impl<K: Serde, V: Serde> WindowView<K, V> {
    /// The store `name` of these tasks. Fails where none has it, or it is of another kind.
    pub fn new(parts: impl IntoIterator<Item = Part>, name: &str) -> Result<Self, Error> {
        let parts = with_store(parts, name, |layout| matches!(layout, Layout::Window(_)))?;
        Ok(WindowView { parts: parts.into_iter().map(|(stores, id)| (stores, WindowStore::new(id))).collect() })
    }

    /// The value of a key in the window that begins at `start`, in milliseconds since 1970-01-01 UTC.
    pub fn get(&self, key: impl Into<K>, start: i64) -> Result<Option<Stored<V>>, Error> {
        let key = key.into();
        first(&self.parts, |stores, store| store.get(stores, &key, start))
    }

    /// The windows of a key that begin from `from` to `to`, both included, in their order: each with its start.
    pub fn fetch(&self, key: impl Into<K>, from: i64, to: i64) -> Result<Vec<(i64, Stored<V>)>, Error> {
        let key = key.into();
        gather(&self.parts, |stores, store| store.fetch(stores, &key, from, to))
    }
}

impl<K: Serde, V: Serde> SessionView<K, V> {
    /// The store `name` of these tasks. Fails where none has it, or it is of another kind.
    pub fn new(parts: impl IntoIterator<Item = Part>, name: &str) -> Result<Self, Error> {
        let parts = with_store(parts, name, |layout| matches!(layout, Layout::Session(_)))?;
        Ok(SessionView { parts: parts.into_iter().map(|(stores, id)| (stores, SessionStore::new(id))).collect() })
    }

    /// The sessions of a key, in the order of their ends.
    pub fn fetch(&self, key: impl Into<K>) -> Result<Vec<(Session<K>, Stored<V>)>, Error> {
        let key = key.into();
        gather(&self.parts, |stores, store| store.find(stores, &key, 0, i64::MAX))
    }
}

fn with_store(
    parts: impl IntoIterator<Item = Part>,
    name: &str,
    fits: impl Fn(Layout) -> bool,
) -> Result<Vec<(Stores, super::StoreId)>, Error> {
    let mut found = Vec::new();
    for (state, specs) in parts {
        let stores = Stores::new(specs, state);
        let Some(id) = stores.find(name) else { continue };
        if !fits(stores.layout(id)) {
            return Err(Error::Topology(format!("the store {name:?} is of another kind")));
        }
        found.push((stores, id));
    }
    if found.is_empty() {
        return Err(Error::Topology(format!("there is no store {name:?} here")));
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
