//! State in memory, gone with the process; the changelog brings it back.

use super::{Changes, Each, State};
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::{
        PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicI64, Ordering::*},
    },
};

/// State in memory.
#[derive(Debug)]
pub struct MemoryState {
    stores: RwLock<Vec<Store>>,
    time: AtomicI64,
}

#[derive(Clone, Debug, Default)]
struct Store {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    offset: Option<u64>,
}

impl MemoryState {
    /// So many empty stores.
    pub fn new(stores: usize) -> MemoryState {
        MemoryState { stores: RwLock::new(vec![Store::default(); stores]), time: AtomicI64::new(-1) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Store>> {
        self.stores.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State for MemoryState {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.read()[store].entries.get(key).cloned())
    }

    fn scan(&self, store: usize, from: &[u8], to: Option<&[u8]>, each: &mut Each<'_>) -> Result<(), String> {
        let stores = self.read();
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let range = (Included(from), to.map_or(Unbounded, Excluded));
        for (key, value) in stores[store].entries.range::<[u8], _>(range) {
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, store: usize) -> Result<Option<Vec<u8>>, String> {
        Ok(self.read()[store].entries.last_key_value().map(|(key, _)| key.clone()))
    }

    fn offset(&self, store: usize) -> Result<Option<u64>, String> {
        Ok(self.read()[store].offset)
    }

    fn time(&self) -> Result<i64, String> {
        Ok(self.time.load(Acquire))
    }

    fn commit(&self, changes: &[Changes<'_>], time: i64, _durable: bool) -> Result<(), String> {
        self.time.fetch_max(time, AcqRel);
        let mut stores = self.stores.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let store = &mut stores[change.store];
            if let Some(purge) = change.purge {
                let empty = store.entries.remove_entry(&[][..]);
                store.entries = store.entries.split_off(purge);
                store.entries.extend(empty);
            }
            for (key, value) in change.entries {
                match value {
                    Some(value) => drop(store.entries.insert(key.clone(), value.clone())),
                    None => drop(store.entries.remove(key)),
                }
            }
            store.offset = change.offset.or(store.offset);
        }
        Ok(())
    }
}
