//! State in a `redb` database: one file for each task, with a table for each store and one for the offsets of the changelogs.

use super::{Changes, Each, State, StoreSpec};
use redb::{
    Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};
use std::{
    fmt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

type Bytes = &'static [u8];

/// Store -> the offset of its changelog up to which it is. No store has this name: names of topics begin otherwise.
const OFFSETS: TableDefinition<'_, &str, u64> = TableDefinition::new("/offsets");

/// State in a file.
pub struct RedbState {
    database: Database,
    names: Vec<String>,
    /// What was committed last, open for reading.
    committed: RwLock<Arc<Committed>>,
}

struct Committed {
    stores: Vec<ReadOnlyTable<Bytes, Bytes>>,
    offsets: ReadOnlyTable<&'static str, u64>,
}

impl RedbState {
    /// Opens the file, or makes it, with a table for each store, and at most so many bytes of it in memory.
    ///
    /// Only one process can have it open. A file that is damaged is an error; without it the changelogs bring all back.
    pub fn open(path: &Path, stores: &[StoreSpec], cache: usize) -> Result<RedbState, String> {
        let database = Builder::new().set_cache_size(cache).create(path).map_err(told)?;
        let names: Vec<String> = stores.iter().map(|spec| spec.name.clone()).collect();
        let transaction = database.begin_write().map_err(told)?;
        for name in &names {
            transaction.open_table(definition(name)).map_err(told)?;
        }
        transaction.open_table(OFFSETS).map_err(told)?;
        transaction.commit().map_err(told)?;
        let committed = RwLock::new(Arc::new(read(&database, &names)?));
        Ok(RedbState { database, names, committed })
    }

    fn committed(&self) -> Arc<Committed> {
        self.committed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn definition(name: &str) -> TableDefinition<'_, Bytes, Bytes> {
    TableDefinition::new(name)
}

fn read(database: &Database, names: &[String]) -> Result<Committed, String> {
    let transaction = database.begin_read().map_err(told)?;
    let stores: Result<Vec<_>, TableError> =
        names.iter().map(|name| transaction.open_table(definition(name))).collect();
    Ok(Committed { stores: stores.map_err(told)?, offsets: transaction.open_table(OFFSETS).map_err(told)? })
}

fn told(error: impl fmt::Display) -> String {
    error.to_string()
}

impl State for RedbState {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let found = self.committed().stores[store].get(key).map_err(told)?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(&self, store: usize, from: &[u8], to: Option<&[u8]>, each: &mut Each<'_>) -> Result<(), String> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let committed = self.committed();
        let table = &committed.stores[store];
        let range = match to {
            Some(to) => table.range(from..to),
            None => table.range(from..),
        };
        for entry in range.map_err(told)? {
            let (key, value) = entry.map_err(told)?;
            if !each(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, store: usize) -> Result<Option<Vec<u8>>, String> {
        let last = self.committed().stores[store].last().map_err(told)?.map(|(key, _)| key.value().to_vec());
        Ok(last)
    }

    fn offset(&self, store: usize) -> Result<Option<u64>, String> {
        let offset = self.committed().offsets.get(self.names[store].as_str()).map_err(told)?;
        Ok(offset.map(|offset| offset.value()))
    }

    fn commit(&self, changes: &[Changes<'_>], durable: bool) -> Result<(), String> {
        let mut transaction = self.database.begin_write().map_err(told)?;
        transaction.set_durability(if durable { Durability::Immediate } else { Durability::None }).map_err(told)?;
        {
            let mut offsets = transaction.open_table(OFFSETS).map_err(told)?;
            for change in changes {
                let name = self.names[change.store].as_str();
                let mut table = transaction.open_table(definition(name)).map_err(told)?;
                if let Some(purge) = change.purge {
                    table.retain_in(..purge, |_, _| false).map_err(told)?;
                }
                for (key, value) in change.entries {
                    match value {
                        Some(value) => drop(table.insert(key.as_slice(), value.as_slice()).map_err(told)?),
                        None => drop(table.remove(key.as_slice()).map_err(told)?),
                    }
                }
                if let Some(offset) = change.offset {
                    offsets.insert(name, offset).map_err(told)?;
                }
            }
        }
        transaction.commit().map_err(told)?;
        *self.committed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read(&self.database, &self.names)?);
        Ok(())
    }
}
