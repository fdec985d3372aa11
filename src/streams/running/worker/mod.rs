//! A thread that runs tasks: those whose partitions its member of the group was given.
//!
//! ```text
//! keep the session ─► take up what was assigned, let go what was not ─► look where the group is ─► restore
//!       ▲                                                                                            │
//!       └── commit: changelogs, offsets, then the stores ◄── process until the interval is over ◄────┘
//! ```
//!
//! - Partitions are let go only between two units of work, so that all that was done there is committed.
//! - A task runs once no open transaction can change any more where the group is in its inputs, and its stores are as far as their
//!   changelogs.
//! - What fails for a reason outside (the connection, a member that was away too long, a transaction that took too long) is given up
//!   and begun again from what was committed. What would fail again ends the application.

mod tasks;
mod unit;

use super::{Shared, sending::Sender, states::WorkerNumber};
use crate::{
    client::{
        self,
        processing::{Arrival, Assignee, Inputs, Key},
    },
    streams::{context::TaskId, error::Error},
};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tasks::Running;

/// How often the state is made durable. After a crash of the machine what came since is read again from the changelogs.
const DURABLE_EVERY: Duration = Duration::from_secs(10);
/// Pauses between two attempts: the first one, doubled up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What one thread has.
pub(super) struct Worker {
    shared: Arc<Shared>,
    number: WorkerNumber,
    member: Option<Assignee>,
    inputs: Inputs,
    tasks: BTreeMap<TaskId, Running>,
    /// Where the group is in the inputs, as it was committed.
    positions: BTreeMap<Key, u64>,
    trimmed: Instant,
    /// The task that had its turn last.
    served: Option<TaskId>,
}

/// Why a unit of work ended.
enum End {
    /// What was committed holds, and can be gone on from.
    Again(client::Error),
    /// It would fail again.
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        match error {
            Error::Client(error) if passes(&error) => End::Again(error),
            error => End::Failed(error),
        }
    }
}

impl From<client::Error> for End {
    fn from(error: client::Error) -> End {
        Error::Client(error).into()
    }
}

/// Whether an error may be gone at the next attempt: of what the broker refuses, what has to do with who asks, and when.
pub(super) fn passes(error: &client::Error) -> bool {
    const CODES: [&str; 12] = [
        // Of the group as the broker knew it before a restart nothing was kept.
        "GROUP_ID_NOT_FOUND",
        "UNKNOWN_MEMBER_ID",
        "ILLEGAL_GENERATION",
        "REBALANCE_IN_PROGRESS",
        "INVALID_PRODUCER_EPOCH",
        "PRODUCER_FENCED",
        "INVALID_TXN_STATE",
        "INVALID_PRODUCER_ID_MAPPING",
        "CONCURRENT_TRANSACTIONS",
        "REQUEST_TIMED_OUT",
        "UNKNOWN_PRODUCER_ID",
        "KAFKA_STORAGE_ERROR",
    ];
    match error {
        client::Error::Connection { .. } | client::Error::Aborted(_) => true,
        client::Error::Refused(refused) => CODES.contains(&&*refused.code),
        _ => false,
    }
}

impl Worker {
    pub(super) fn new(shared: &Arc<Shared>, number: WorkerNumber) -> Worker {
        let inputs = Inputs::new(&shared.site);
        Worker {
            shared: shared.clone(),
            number,
            member: None,
            inputs,
            tasks: BTreeMap::new(),
            positions: BTreeMap::new(),
            trimmed: Instant::now(),
            served: None,
        }
    }

    /// Runs until the application is to stop, or something fails that would fail again.
    pub(super) fn run(mut self) -> Result<(), Error> {
        self.shared.add_waiter(self.inputs.waiter());
        let mut sender = None;
        let mut pause = PAUSES.0;
        loop {
            let again = match self.work(&mut sender, &mut pause) {
                Ok(()) => {
                    self.let_all_go();
                    return self.member.take().map_or(Ok(()), |member| Ok(member.leave()?));
                }
                Err(End::Again(error)) => error,
                Err(End::Failed(error)) => {
                    drop(sender);
                    self.let_all_go();
                    drop(self.member.take().map(Assignee::leave));
                    return Err(error);
                }
            };
            // All begins anew: the member too, so that nobody waits for one who cannot commit.
            self.shared.trouble(Some(again.to_string()));
            (self.member, sender) = (None, None);
            self.let_all_go();
            self.inputs.waiter().wait(Some(Instant::now() + pause));
            pause = (pause * 2).min(PAUSES.1);
            if self.shared.is_stopping() {
                return Ok(());
            }
        }
    }

    fn work(&mut self, sender: &mut Option<Sender>, pause: &mut Duration) -> Result<(), End> {
        let Shared { site, plan, partitions, options, .. } = &*self.shared.clone();
        if sender.is_none() {
            let id = format!("{}-{:016x}-{}", plan.application, self.shared.identity.number, self.number);
            *sender = Some(Sender::new(site, options.guarantee, &id)?);
        }
        if self.member.is_none() {
            let topics: BTreeSet<&Arc<str>> =
                plan.subtopologies.iter().flat_map(|part| &part.inputs).map(|input| &input.topic).collect();
            let topics: Vec<_> = topics.into_iter().cloned().collect();
            debug_assert!(topics.iter().all(|topic| partitions.contains_key(topic)));
            let member = Assignee::join(site, &plan.application, &topics)?;
            self.shared.joined(self.number, member.id());
            self.member = Some(member);
        }
        let sender = sender.as_mut().expect("it was made");
        loop {
            self.take_up()?;
            self.look_up()?;
            self.unit(sender)?;
            self.shared.trouble(None);
            *pause = PAUSES.0;
            if self.shared.is_stopping() {
                return Ok(());
            }
            self.trim()?;
            self.member.as_mut().expect("it has joined").keep()?;
        }
    }
}

/// What has come from a partition. What is gone or damaged in it is passed over.
pub(super) fn take(inputs: &mut Inputs, key: &Key) -> Result<Option<Arrival>, client::Error> {
    loop {
        match inputs.take(key) {
            Err(client::Error::Skipped { .. }) => {}
            taken => return taken,
        }
    }
}

/// What a panic said.
pub(super) fn reason_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
