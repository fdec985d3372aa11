//! A topology at work: threads that run its tasks, over the network or with a broker in this process.

mod globals;
mod identity;
mod metrics;
mod options;
mod queries;
mod sending;
mod states;
mod topics;
mod worker;

pub use options::{Guarantee, Options};
pub use queries::Owner;

use super::{
    context::{Counts, Globals},
    error::Error,
    plan::Plan,
    topology::Topology,
};
use crate::{
    broker::{Broker, Waiter},
    client::{self, Target, processing::Site},
};
use identity::Identity;
use states::{States, WorkerNumber};
use std::{
    any::Any,
    collections::BTreeMap,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::*},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use worker::{Worker, reason_of};

/// The longest commit interval: a transaction, and a silent member, are given up soon after it.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// How long a start waits for a broker that cannot be reached,
const START_PATIENCE: Duration = Duration::from_secs(30);
/// and how long between two attempts.
const START_PAUSE: Duration = Duration::from_millis(100);

/// A topology that runs. Dropped, it stops as [`stop`](Self::stop) does.
pub struct App {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// How many partitions each topic has that is read.
type Partitions = BTreeMap<Arc<str>, u32>;

/// What the threads of an application share.
struct Shared {
    plan: Arc<Plan>,
    site: Site,
    partitions: Partitions,
    options: Options,
    states: States,
    globals: Globals,
    /// What tells this process from others that run the same.
    identity: Identity,
    /// The ids of its members of the group, by worker.
    members: Mutex<BTreeMap<WorkerNumber, String>>,
    is_stopping: AtomicBool,
    waiters: Mutex<Vec<Arc<Waiter>>>,
    /// What keeps it from going on, if anything does.
    trouble: Mutex<Option<String>>,
    failed: Mutex<Option<Error>>,
    totals: Mutex<Totals>,
}

/// What all tasks did since the application started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// What they counted.
    pub counts: Counts,
    /// Records that were read from changelogs.
    pub restored: u64,
    /// How often results took effect.
    pub commits: u64,
    /// How long the commits took together.
    pub committing: Duration,
}

impl Totals {
    fn add(&mut self, before: Counts, now: Counts, took: Duration) {
        self.counts.processed += now.processed - before.processed;
        self.counts.late += now.late - before.late;
        self.counts.skipped += now.skipped - before.skipped;
        self.counts.failed += now.failed - before.failed;
        self.counts.sent += now.sent - before.sent;
        self.commits += 1;
        self.committing += took;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Acquire)
    }

    fn stop(&self) {
        self.is_stopping.store(true, Release);
        lock(&self.waiters).iter().for_each(|waiter| waiter.wake());
    }

    fn add_waiter(&self, waiter: &Arc<Waiter>) {
        lock(&self.waiters).push(waiter.clone());
    }

    fn joined(&self, worker: WorkerNumber, member: String) {
        lock(&self.members).insert(worker, member);
    }

    fn is_member(&self, id: &str) -> bool {
        lock(&self.members).values().any(|member| member == id)
    }

    fn trouble(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }

    fn count(&self, count: impl FnOnce(&mut Totals)) {
        count(&mut lock(&self.totals));
    }

    /// Milliseconds since 1970-01-01 UTC.
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Does something again while the broker cannot be reached.
fn over_outages<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(Error::Client(client::Error::Connection { .. })) if begun.elapsed() < START_PATIENCE => {
                thread::sleep(START_PAUSE);
            }
            done => return done,
        }
    }
}

impl Topology {
    /// Runs it on the broker at an address, `host:port`, which may take half a minute to appear; by TLS and as a user where the target
    /// says so. It fails, by name, where what it reads does not fit together; after that it goes on until it is stopped, over outages too.
    pub fn start(&self, target: impl Into<Target>, options: Options) -> Result<App, Error> {
        self.start_at(Site::Network(target.into()), options)
    }

    /// Runs it on a broker in this process.
    pub fn start_embedded(&self, broker: &Broker, options: Options) -> Result<App, Error> {
        self.start_at(Site::Embedded(broker.clone()), options)
    }

    fn start_at(&self, site: Site, options: Options) -> Result<App, Error> {
        let plan = Arc::new(self.plan()?);
        if options.commit_interval > COMMIT_INTERVAL_MAX {
            let why =
                format!("the commit interval is {:?}; it may be {COMMIT_INTERVAL_MAX:?}", options.commit_interval);
            return Err(Error::Topology(why));
        }
        let in_memory = matches!(&site, Site::Embedded(broker) if broker.config().data_dir.is_none());
        let state_dir = (!in_memory).then_some(options.state_dir.as_path());
        let identity = Identity::of(state_dir, &plan.application)?;
        let partitions = over_outages(|| topics::prepare(&plan, &site, state_dir))?;
        let (globals, positions) =
            over_outages(|| globals::read_whole(&plan, &site, &partitions, &options.handlers.unreadable))?;
        let states = States::new(&plan, &partitions, state_dir, options.cache_bytes);
        let shared = Arc::new(Shared {
            plan,
            site,
            partitions,
            states,
            globals,
            members: Mutex::default(),
            identity,
            is_stopping: AtomicBool::new(false),
            waiters: Mutex::default(),
            trouble: Mutex::default(),
            failed: Mutex::default(),
            totals: Mutex::default(),
            options,
        });
        let mut app = App { shared, threads: Vec::new() };
        if !positions.is_empty() {
            app.spawn("globals", |shared| globals::follow(shared, positions))?;
        }
        for number in 0..app.shared.options.threads.max(1) {
            app.spawn(&number.to_string(), move |shared| Worker::new(shared, number).run())?;
        }
        Ok(app)
    }

    /// Begins anew: forgets where the group is, and drops the topics of the application's own. State on disk that belongs to them goes
    /// with the next start. It fails while one runs.
    pub fn reset(&self, target: impl Into<Target>) -> Result<(), Error> {
        self.reset_at(&Site::Network(target.into()))
    }

    /// The same on a broker in this process.
    pub fn reset_embedded(&self, broker: &Broker) -> Result<(), Error> {
        self.reset_at(&Site::Embedded(broker.clone()))
    }

    fn reset_at(&self, site: &Site) -> Result<(), Error> {
        let plan = self.plan()?;
        site.delete_group(&plan.application)?;
        topics::own(&plan).iter().try_for_each(|topic| site.drop_topic(topic).map(drop))?;
        Ok(())
    }
}

impl App {
    /// Commits what was processed, and leaves the group. Fails with what the application ended with, if it did not end by this.
    pub fn stop(self) -> Result<(), Error> {
        self.shared.stop();
        self.wait()
    }

    /// Waits until the application ends: because it was stopped, or because something failed that would fail again.
    pub fn wait(mut self) -> Result<(), Error> {
        self.join();
        lock(&self.shared.failed).take().map_or(Ok(()), Err)
    }

    /// What stops it from another thread, such as a signal's.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || shared.stop()
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.threads.iter().any(|thread| !thread.is_finished())
    }

    /// What keeps it from going on at present, such as a broker that cannot be reached.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.trouble).clone()
    }

    /// What it did so far.
    pub fn totals(&self) -> Totals {
        *lock(&self.shared.totals)
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce(&Arc<Shared>) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name(format!("{}-{name}", shared.plan.application));
        let spawned = thread.spawn(move || {
            let ended = panic::catch_unwind(AssertUnwindSafe(|| run(&shared)));
            let panicked =
                |panic: Box<dyn Any + Send>| Err(Error::State(format!("a thread panicked: {}", reason_of(&*panic))));
            if let Err(error) = ended.unwrap_or_else(panicked) {
                lock(&shared.failed).get_or_insert(error);
            }
            // One that ends ends all: what it did would be left to nobody.
            shared.stop();
        });
        self.threads.push(spawned.map_err(|error: io::Error| Error::State(format!("no thread: {error}")))?);
        Ok(())
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                let panicked = || Error::State("a thread of the application panicked".into());
                lock(&self.shared.failed).get_or_insert_with(panicked);
            }
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.shared.stop();
        self.join();
    }
}

#[cfg(test)]
mod tests;
