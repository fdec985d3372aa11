//! The thread that looks after what nobody asks for at the moment: readers that are idle, members whose connections are silent.

use super::Shared;
use crate::broker::{Error, Result};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, Weak},
    thread::Builder,
    time::Duration,
};

/// How often it looks at everything.
const LOOKS: Duration = Duration::from_millis(250);

/// Wakes the thread.
#[derive(Debug, Default)]
pub(super) struct Keeper(Arc<Bell>);

#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    rung: bool,
}

impl Keeper {
    /// What rings for it from librdkafka's threads.
    pub(super) fn bell(&self) -> Arc<Bell> {
        self.0.clone()
    }
}

impl Bell {
    /// There is something to do.
    pub(super) fn ring(&self) {
        self.state().rung = true;
        self.rung.notify_all();
    }

    fn wait(&self) {
        let (mut state, _) = self
            .rung
            .wait_timeout_while(self.state(), LOOKS, |state| !state.rung)
            .expect("no panic under the keeper's lock");
        state.rung = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the keeper's lock")
    }
}

impl Shared {
    /// Starts the keeper, which ends with the last that knows the cluster.
    pub(super) fn keep(self: &Arc<Shared>) -> Result<()> {
        let mut state = self.keeper.0.state();
        if state.started {
            return Ok(());
        }
        let (bell, shared) = (self.keeper.bell(), Arc::downgrade(self));
        let thread = Builder::new().name("keeper".into()).stack_size(256 << 10);
        let started = thread.spawn(move || run(&bell, &shared));
        started.map_err(|error| Error::Storage(format!("cannot start a thread: {error}")))?;
        state.started = true;
        Ok(())
    }
}

fn run(bell: &Bell, shared: &Weak<Shared>) {
    loop {
        bell.wait();
        let Some(shared) = shared.upgrade() else { return };
        shared.members.look_after();
        shared.readers.look_after();
    }
}
