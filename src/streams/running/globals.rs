//! Global tables: each process reads their topics whole before its tasks run, and goes on reading them. They are in memory.

use super::{
    Partitions, Shared,
    worker::{passes, take},
};
use crate::{
    client::{
        Position,
        processing::{Arrival, Inputs, Key, Site},
    },
    streams::{
        context::Globals,
        error::{Error, Failure, Handler, Place},
        plan::{GlobalSource, Plan},
        store::{MemoryState, State},
    },
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long an outage of the broker, or nothing new, is waited out at a time.
const PAUSE: Duration = Duration::from_secs(1);

/// The partitions of all global tables, and the offset that is read next in each.
type Positions = BTreeMap<Key, u64>;

/// Reads all there is.
pub(super) fn read_whole(
    plan: &Plan,
    site: &Site,
    partitions: &Partitions,
    handler: &Handler,
) -> Result<(Globals, Positions), Error> {
    let state = |global: &GlobalSource| (global.store.clone(), Arc::new(MemoryState::new(1)) as Arc<dyn State>);
    let globals: Globals = plan.globals.iter().map(state).collect();
    let mut positions: Positions = (plan.globals.iter())
        .flat_map(|global| (0..partitions[&global.topic]).map(|partition| ((global.topic.clone(), partition), 0)))
        .collect();
    let mut inputs = Inputs::new(site);
    for key in positions.keys() {
        inputs.open(key, Position::Earliest)?;
    }
    let mut left: Vec<_> = positions.keys().cloned().collect();
    while !left.is_empty() {
        let mut is_busy = false;
        let mut failed = Ok(());
        left.retain(|key| match read(plan, &globals, &mut inputs, key, &mut positions, handler) {
            Ok(None) => true,
            Ok(Some(at_end)) => {
                is_busy = true;
                !at_end
            }
            Err(error) => {
                failed = Err(error);
                true
            }
        });
        failed?;
        if !is_busy {
            inputs.wait(Instant::now() + PAUSE);
        }
    }
    Ok((globals, positions))
}

/// Goes on reading until the application stops.
pub(super) fn follow(shared: &Shared, mut positions: Positions) -> Result<(), Error> {
    let mut inputs = Inputs::new(&shared.site);
    shared.add_waiter(inputs.waiter());
    for (key, next) in &positions {
        inputs.open(key, Position::Offset(*next))?;
    }
    let keys: Vec<_> = positions.keys().cloned().collect();
    while !shared.is_stopping() {
        let mut is_busy = false;
        for key in &keys {
            let handler = &shared.options.handlers.unreadable;
            match read(&shared.plan, &shared.globals, &mut inputs, key, &mut positions, handler) {
                Ok(read) => is_busy |= read.is_some(),
                // The reading goes on by itself.
                Err(Error::Client(error)) if passes(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if !is_busy {
            inputs.wait(Instant::now() + PAUSE);
        }
    }
    Ok(())
}

/// Takes what has come from a partition; whether it reaches the end, if anything has come.
fn read(
    plan: &Plan,
    globals: &Globals,
    inputs: &mut Inputs,
    key: &Key,
    positions: &mut Positions,
    handler: &Handler,
) -> Result<Option<bool>, Error> {
    let Some(Arrival { messages, at_end }) = take(inputs, key)? else { return Ok(None) };
    if let Some(last) = messages.last() {
        let next = last.offset + 1;
        // Each process would send it to a topic of dead letters, and at each start: it is left out.
        let failed = |place: Place, failure: Failure| match handler {
            Handler::Fail => Err(Error::Record { place, failure }),
            Handler::Skip | Handler::DeadLetter(_) => Ok(()),
        };
        for global in plan.globals.iter().filter(|global| global.topic == key.0) {
            global.apply(&*globals[&global.store], &messages, next, failed)?;
        }
        positions.insert(key.clone(), next);
    }
    Ok(Some(at_end))
}
