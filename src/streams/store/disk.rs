//! State in a file: a `redb` database for each task.
//!
//! ```text
//! table     key                 value
//! @meta     format              the version of this layout
//!           offset of <store>   the offset of the changelog up to which the store is
//!           stream time         in ms, once it is known
//! <store>   as its layout has   as stores have it
//! ```
//!
//! Commits are in memory until one that is durable: a crash leaves the file as it was then, and what is missing is in the changelogs.
//! Readers see the last commit, durable or not.

use super::{Changes, Each, State, StoreSpec};
use redb::{Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

/// The version of the layout that this code writes.
const FORMAT: u64 = 1;

/// The key of the stream time.
const TIME: &str = "stream time";

const META: TableDefinition<'static, &str, u64> = TableDefinition::new("@meta");

type Entries = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The state of one task on disk.
pub(in crate::streams) struct DiskState {
    path: PathBuf,
    names: Vec<String>,
    database: Database,
    /// What was committed last.
    view: RwLock<Arc<View>>,
}

struct View {
    meta: ReadOnlyTable<&'static str, u64>,
    stores: Vec<Entries>,
}

fn table(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

impl DiskState {
    /// Opens the file of these stores, or makes it. `cache_bytes` bounds what of it is held in memory. It fails while somebody else has
    /// it open.
    pub(in crate::streams) fn open(path: &Path, stores: &[StoreSpec], cache_bytes: usize) -> Result<DiskState, String> {
        let failed = |error: &dyn Display| format!("{}: {error}", path.display());
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|error| failed(&error))?;
        }
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        let database = match builder.create(path) {
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                return Err(failed(&"another process has it open: each needs a folder of its own"));
            }
            opened => opened.map_err(|error| failed(&error))?,
        };
        let names: Vec<String> = stores.iter().map(|store| store.name.clone()).collect();
        let prepare = || -> Result<(Option<u64>, View), redb::Error> {
            let transaction = database.begin_write()?;
            let format = {
                let mut meta = transaction.open_table(META)?;
                let format = meta.get("format")?.map(|format| format.value());
                if format.is_none() {
                    meta.insert("format", FORMAT)?;
                }
                for name in &names {
                    transaction.open_table(table(name))?;
                }
                format
            };
            transaction.commit()?;
            Ok((format, View::of(&database, &names)?))
        };
        let (format, view) = prepare().map_err(|error| failed(&error))?;
        if let Some(other) = format.filter(|&format| format != FORMAT) {
            return Err(failed(&format_args!("its format is {other}; this version reads {FORMAT}")));
        }
        Ok(DiskState { path: path.into(), names, database, view: RwLock::new(view.into()) })
    }

    fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, error: impl Display) -> String {
        format!("{}: {error}", self.path.display())
    }

    fn write(&self, changes: &[Changes<'_>], time: i64, durable: bool) -> Result<View, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
        // Otherwise opening it after a crash reads all of it.
        transaction.set_quick_repair(durable);
        {
            let mut meta = transaction.open_table(META)?;
            if let Ok(time) = u64::try_from(time) {
                let known = meta.get(TIME)?.map_or(0, |known| known.value());
                meta.insert(TIME, time.max(known))?;
            }
            for Changes { store, purge, entries, offset } in changes {
                let name = &self.names[*store];
                let mut table = transaction.open_table(table(name))?;
                if let Some(purge) = purge {
                    // [0] is the first key that is not empty.
                    table.retain_in::<&[u8], _>(&[0][..]..*purge, |_, _| false)?;
                }
                for (key, value) in entries.iter() {
                    match value {
                        Some(value) => drop(table.insert(&**key, &**value)?),
                        None => drop(table.remove(&**key)?),
                    }
                }
                if let Some(offset) = offset {
                    meta.insert(&*offset_of(name), offset)?;
                }
            }
        }
        transaction.commit()?;
        View::of(&self.database, &self.names)
    }
}

impl View {
    fn of(database: &Database, names: &[String]) -> Result<View, redb::Error> {
        let read = database.begin_read()?;
        let stores = names.iter().map(|name| Ok(read.open_table(table(name))?));
        Ok(View { meta: read.open_table(META)?, stores: stores.collect::<Result<_, redb::Error>>()? })
    }
}

fn offset_of(store: &str) -> String {
    format!("offset of {store}")
}

impl State for DiskState {
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let found = self.view().stores[store].get(key).map_err(|error| self.failed(error))?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(&self, store: usize, from: &[u8], to: Option<&[u8]>, each: &mut Each<'_>) -> Result<(), String> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let view = self.view();
        let range = match to {
            Some(to) => view.stores[store].range(from..to),
            None => view.stores[store].range(from..),
        };
        for entry in range.map_err(|error| self.failed(error))? {
            let (key, value) = entry.map_err(|error| self.failed(error))?;
            if !each(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, store: usize) -> Result<Option<Vec<u8>>, String> {
        let view = self.view();
        let last = view.stores[store].last().map_err(|error| self.failed(error))?;
        Ok(last.map(|(key, _)| key.value().to_vec()))
    }

    fn offset(&self, store: usize) -> Result<Option<u64>, String> {
        let offset = self.view().meta.get(&*offset_of(&self.names[store])).map_err(|error| self.failed(error))?;
        Ok(offset.map(|offset| offset.value()))
    }

    fn time(&self) -> Result<i64, String> {
        let time = self.view().meta.get(TIME).map_err(|error| self.failed(error))?;
        Ok(time.and_then(|time| i64::try_from(time.value()).ok()).unwrap_or(-1))
    }

    fn commit(&self, changes: &[Changes<'_>], time: i64, durable: bool) -> Result<(), String> {
        let view = self.write(changes, time, durable).map_err(|error| self.failed(error))?;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view.into();
        Ok(())
    }
}
