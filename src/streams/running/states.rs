//! The state of the tasks of this process. A task takes its state along when it goes from one thread to another, and queries read it.

use super::{Partitions, lock};
use crate::streams::{
    context::TaskId,
    error::Error,
    plan::Plan,
    store::{DiskState, MemoryState, State},
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};

/// The least that is cached of the state of a task, in bytes.
const CACHE_BYTES_MIN: usize = 512 << 10;

/// What one worker is among those of the process.
pub(super) type WorkerNumber = usize;

/// The state of all tasks that run here.
pub(super) struct States {
    plan: Arc<Plan>,
    /// The folder of the application; `None` keeps all in memory.
    dir: Option<PathBuf>,
    /// Of one task: a file keeps the cache that it was opened with, and any task may come here.
    cache_bytes: usize,
    open: Mutex<BTreeMap<TaskId, Open>>,
    /// What was closed here, which a query may still look at: then the file is still open.
    closed: Mutex<BTreeMap<TaskId, Weak<dyn State>>>,
}

struct Open {
    state: Arc<dyn State>,
    /// Locked while its owner commits, so that nobody takes it over in the midst of that; all others go on.
    owner: Arc<Mutex<WorkerNumber>>,
    /// It was restored: what it tells is true.
    is_ready: bool,
}

impl Open {
    fn is_of(&self, worker: WorkerNumber) -> bool {
        *lock(&self.owner) == worker
    }
}

impl States {
    /// `cache_bytes` is what all tasks share.
    pub(super) fn new(
        plan: &Arc<Plan>,
        partitions: &Partitions,
        state_dir: Option<&Path>,
        cache_bytes: usize,
    ) -> States {
        let stateful = plan.subtopologies.iter().filter(|part| !part.stores.is_empty());
        let tasks = stateful.filter_map(|part| partitions.get(&part.inputs.first()?.topic));
        let tasks = tasks.map(|count| *count as usize).sum::<usize>().max(1);
        let cache_bytes = (cache_bytes / tasks).max(CACHE_BYTES_MIN);
        let dir = state_dir.map(|dir| dir.join(&plan.application));
        States { plan: plan.clone(), dir, cache_bytes, open: Mutex::default(), closed: Mutex::default() }
    }

    /// Opens the state of a task for a worker, or takes it over from another one that has let the task go.
    pub(super) fn acquire(&self, id: TaskId, worker: WorkerNumber) -> Result<Arc<dyn State>, Error> {
        let mut all = lock(&self.open);
        if let Some(open) = all.get_mut(&id) {
            (*lock(&open.owner), open.is_ready) = (worker, false);
            return Ok(open.state.clone());
        }
        let closed = lock(&self.closed).remove(&id).and_then(|closed| closed.upgrade());
        let state = closed.map_or_else(|| self.make(id), Ok)?;
        all.insert(id, Open { state: state.clone(), owner: Arc::new(worker.into()), is_ready: false });
        Ok(state)
    }

    fn file(&self, id: TaskId) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(format!("{id}.redb")))
    }

    fn make(&self, id: TaskId) -> Result<Arc<dyn State>, Error> {
        let stores = &self.plan.subtopologies[id.subtopology].stores;
        match self.file(id) {
            Some(path) if !stores.is_empty() => {
                Ok(Arc::new(DiskState::open(&path, stores, self.cache_bytes).map_err(Error::State)?))
            }
            _ => Ok(Arc::new(MemoryState::new(stores.len()))),
        }
    }

    /// A task's state is restored, and may be asked.
    pub(super) fn ready(&self, id: TaskId, worker: WorkerNumber) {
        let mut all = lock(&self.open);
        all.get_mut(&id).into_iter().filter(|open| open.is_of(worker)).for_each(|open| open.is_ready = true);
    }

    /// Commits a task's state, unless another worker has it by now: that one has read, or will read, what is missing in the changelogs.
    pub(super) fn commit(
        &self,
        id: TaskId,
        worker: WorkerNumber,
        commit: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(owner) = lock(&self.open).get(&id).map(|open| open.owner.clone()) else { return Ok(()) };
        let owner = lock(&owner);
        if *owner == worker { commit() } else { Ok(()) }
    }

    /// A worker has let a task go. Unless another one has it by now, its state is closed.
    pub(super) fn release(&self, id: TaskId, worker: WorkerNumber) {
        let mut all = lock(&self.open);
        if all.get(&id).is_some_and(|open| open.is_of(worker)) {
            let released = all.remove(&id).map(|open| Arc::downgrade(&open.state));
            lock(&self.closed).extend(released.map(|state| (id, state)));
        }
    }

    /// Forgets the state of a task, which has to be restored from nothing.
    pub(super) fn discard(&self, id: TaskId, worker: WorkerNumber) {
        let mut all = lock(&self.open);
        if all.get(&id).is_some_and(|open| open.is_of(worker)) {
            all.remove(&id);
            lock(&self.closed).remove(&id);
            // If the file stays, so does what it says, and it is discarded again.
            let _ = self.file(id).map(fs::remove_file);
        }
    }

    /// How many tasks here are restored, and the files of their state.
    pub(super) fn sizes(&self) -> Sizes {
        let ready: Vec<TaskId> = lock(&self.open).iter().filter(|(_, open)| open.is_ready).map(|(id, _)| *id).collect();
        let size = |id: &TaskId| Some(fs::metadata(self.file(*id)?).ok()?.len());
        Sizes { tasks: ready.len(), bytes: ready.iter().filter_map(size).sum() }
    }

    /// The state of every task here that has a store of this name and was restored, and the place of the store in it.
    pub(super) fn of_store(&self, name: &str) -> Vec<(TaskId, usize, Arc<dyn State>)> {
        let place =
            |id: &TaskId| self.plan.subtopologies[id.subtopology].stores.iter().position(|store| store.name == name);
        let all = lock(&self.open);
        let ready = all.iter().filter(|(_, open)| open.is_ready);
        ready.filter_map(|(id, open)| Some((*id, place(id)?, open.state.clone()))).collect()
    }
}

/// How much state there is.
pub(super) struct Sizes {
    pub(super) tasks: usize,
    pub(super) bytes: u64,
}

/// Removes the state of all tasks.
pub(super) fn clear(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
