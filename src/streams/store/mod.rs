//! State that survives: what a task knows beyond the record in its hand.
//!
//! ```text
//! KeyValue  WindowStore  SessionStore      typed handles of operators and processors
//!        Stores: what changed since the last commit, over
//!          State: memory or redb           what is committed; queries read it
//! ```
//!
//! Changes stay in memory until the task commits: then they go to the changelog topics, and once those records count, to the
//! [`State`] in one commit with the changelogs' offsets. What is not committed is dropped by forgetting it.

mod buffer;
mod disk;
mod duplicates;
mod key_value;
mod layout;
mod memory;
mod prefixed;
mod queries;
mod session;
mod stores;
#[cfg(test)]
mod tests;
mod window;

pub(super) use buffer::Buffer;
pub(super) use disk::DiskState;
pub(super) use duplicates::{Duplicates, Waiting};
pub(super) use key_value::read as read_value;
pub use key_value::{Entry, KeyValue, Stored};
pub(super) use layout::{Layout, Times};
pub use memory::MemoryState;
pub(super) use prefixed::Prefixed;
pub use queries::{KeyValueQuery, Part, SessionQuery, WindowQuery};
pub use session::SessionStore;
pub(super) use stores::{StoreId, join_value, read_logged};
pub use stores::{StoreSpec, Stores};
pub use window::WindowStore;

use std::collections::BTreeMap;

/// Where the committed state of one task is. Its stores are known by their place in the list that it was opened with.
///
/// Queries read it from other threads while the task runs.
pub trait State: Send + Sync {
    /// The value of a key.
    fn get(&self, store: usize, key: &[u8]) -> Result<Option<Vec<u8>>, String>;

    /// Calls `each` for the keys from `from` on and below `to` (to the last one where that is `None`), in their order, until it
    /// answers false.
    fn scan(&self, store: usize, from: &[u8], to: Option<&[u8]>, each: &mut Each<'_>) -> Result<(), String>;

    /// The last key.
    fn last(&self, store: usize) -> Result<Option<Vec<u8>>, String>;

    /// The offset of the changelog up to which the store is; `None` where it has none of it.
    fn offset(&self, store: usize) -> Result<Option<u64>, String>;

    /// The stream time of the task: the highest that it was ever committed with, -1 before the first time.
    fn time(&self) -> Result<i64, String>;

    /// Takes over all changes and the stream time, or nothing of it. What is not `durable` may be gone after a crash, all since
    /// something that was.
    fn commit(&self, changes: &[Changes<'_>], time: i64, durable: bool) -> Result<(), String>;
}

/// What [`State::scan`] calls for each entry: its key and its value.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> bool + 'a;

/// What changes in a store with one commit.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    /// Which store.
    pub store: usize,
    /// All keys below this one go, before anything is written, but the empty one.
    pub purge: Option<&'a [u8]>,
    /// Keys and their values; `None` deletes.
    pub entries: &'a BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The offset of the changelog up to which the store is then.
    pub offset: Option<u64>,
}
