//! Questions to the state of an application that runs: what of it is in this process, and which process has the rest.
//!
//! They see what was committed last. A key is in one task, so in one process at a time.

use super::App;
use crate::{
    broker::partition_of,
    client::processing::MemberFacts,
    streams::{
        error::{Error, Failure},
        serde::Serde,
        store::{FoundSessions, KeyValue, SessionStore, StoreId, Stored, Stores, WindowStore},
    },
};
use std::marker::PhantomData;

/// What of a store is in this process.
struct Local(Vec<(StoreId, Stores)>);

impl Local {
    /// What the first task answers that has something.
    fn first<T>(
        &self,
        mut ask: impl FnMut(StoreId, &Stores) -> Result<Option<T>, Failure>,
    ) -> Result<Option<T>, Error> {
        for (store, stores) in &self.0 {
            if let Some(found) = ask(*store, stores).map_err(failed)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What all tasks answer.
    fn all<T>(&self, mut ask: impl FnMut(StoreId, &Stores) -> Result<Vec<T>, Failure>) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        for (store, stores) in &self.0 {
            found.extend(ask(*store, stores).map_err(failed)?);
        }
        Ok(found)
    }
}

fn failed(failure: Failure) -> Error {
    Error::State(failure.reason)
}

/// A store of values by key, as far as it is in this process.
pub struct KeyValueQuery<K, V> {
    local: Local,
    types: PhantomData<fn() -> (K, V)>,
}

/// A store of windows, as far as it is in this process.
pub struct WindowQuery<K, V> {
    local: Local,
    types: PhantomData<fn() -> (K, V)>,
}

/// A store of sessions, as far as it is in this process.
pub struct SessionQuery<K, V> {
    local: Local,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Serde, V: Serde> KeyValueQuery<K, V> {
    /// The value of a key.
    pub fn get(&self, key: impl Into<K>) -> Result<Option<V>, Error> {
        let key = key.into();
        self.local.first(|store, stores| Ok(KeyValue::<K, V>::new(store).get(stores, &key)?.map(|stored| stored.value)))
    }

    /// All keys with their values, task by task.
    pub fn all(&self) -> Result<Vec<(K, Stored<V>)>, Error> {
        self.local.all(|store, stores| KeyValue::new(store).all(stores))
    }
}

impl<K: Serde, V: Serde> WindowQuery<K, V> {
    /// The windows of a key that begin from `from` to `to`, both included, in milliseconds since 1970-01-01 UTC: each with its start.
    pub fn fetch(&self, key: impl Into<K>, from: i64, to: i64) -> Result<Vec<(i64, Stored<V>)>, Error> {
        let key = key.into();
        self.local.all(|store, stores| WindowStore::new(store).fetch(stores, &key, from, to))
    }
}

impl<K: Serde, V: Serde> SessionQuery<K, V> {
    /// The sessions of a key that end at `from` or later and begin at `to` or earlier, in milliseconds since 1970-01-01 UTC.
    pub fn fetch(&self, key: impl Into<K>, from: i64, to: i64) -> Result<FoundSessions<K, V>, Error> {
        let key = key.into();
        self.local.all(|store, stores| SessionStore::new(store).find(stores, &key, from, to))
    }
}

/// Which process has a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// What the broker calls the process: the address of its connection.
    pub client: String,
    /// Whether it is this one.
    pub is_here: bool,
}

impl App {
    /// A store of values by key.
    pub fn key_value_store<K: Serde, V: Serde>(&self, name: &str) -> Result<KeyValueQuery<K, V>, Error> {
        Ok(KeyValueQuery { local: self.local(name, "values by key", |spec| spec.is_key_value())?, types: PhantomData })
    }

    /// A store of windows.
    pub fn window_store<K: Serde, V: Serde>(&self, name: &str) -> Result<WindowQuery<K, V>, Error> {
        Ok(WindowQuery { local: self.local(name, "windows", |spec| spec.is_window())?, types: PhantomData })
    }

    /// A store of sessions.
    pub fn session_store<K: Serde, V: Serde>(&self, name: &str) -> Result<SessionQuery<K, V>, Error> {
        Ok(SessionQuery { local: self.local(name, "sessions", |spec| spec.is_session())?, types: PhantomData })
    }

    fn local(
        &self,
        name: &str,
        kind: &str,
        is_kind: impl Fn(&crate::streams::StoreSpec) -> bool,
    ) -> Result<Local, Error> {
        let parts = &self.shared.plan.subtopologies;
        let spec = parts.iter().flat_map(|part| &part.stores).find(|store| store.name == name);
        let spec = spec.ok_or_else(|| Error::Topology(format!("there is no store {name}")))?;
        if !is_kind(spec) {
            return Err(Error::Topology(format!("{name} is no store of {kind}")));
        }
        let open = self.shared.states.of_store(name).into_iter().map(|(id, place, state)| {
            let mut stores = Stores::new(parts[id.subtopology].stores.clone(), state);
            stores.start().map_err(Error::State)?;
            Ok((StoreId(place), stores))
        });
        Ok(Local(open.collect::<Result<_, Error>>()?))
    }

    /// Which process has this key of a store; `None` while nobody has it.
    pub fn owner<K: Serde>(&self, store: &str, key: &K) -> Result<Option<Owner>, Error> {
        let parts = &self.shared.plan.subtopologies;
        let part = parts.iter().find(|part| part.stores.iter().any(|one| one.name == store));
        let input = part.and_then(|part| part.inputs.first());
        let topic = &input.ok_or_else(|| Error::Topology(format!("there is no store {store}")))?.topic;
        let partition = partition_of(&key.to_bytes(), self.shared.partitions[topic]);
        let members = self.shared.site.members(&self.shared.plan.application)?;
        let has = |member: &MemberFacts| member.assigned.iter().any(|(name, p)| **name == **topic && *p == partition);
        Ok(members
            .into_iter()
            .find(has)
            .map(|member| Owner { is_here: self.shared.is_member(&member.id), client: member.client }))
    }
}
