//! How a client reaches its broker: in this process, or at an address that is tried again while an outage lasts.

use super::{Connection, Error, Target};
use crate::backend::Backend;
use std::{
    thread,
    time::{Duration, Instant},
};

/// What a broker in this process has for an address.
pub(super) const IN_PROCESS: &str = "this process";

/// How long a lost connection is tried to be made again, unless a program says otherwise.
pub(super) const RETRY_FOR: Duration = Duration::from_secs(30);

/// Where a broker is.
#[derive(Debug)]
pub(super) enum Endpoint {
    /// At an address, with an idle connection if there is one.
    Network { target: Target, connection: Option<Connection> },
    /// In this process.
    Embedded(Backend),
}

/// Connects, trying again for so long.
pub(super) fn connect_within(target: &Target, retry_for: Duration) -> Result<Connection, Error> {
    reconnect(target, retry_for, &mut Outage::begin(), None)
}

/// Connects; while that fails and `retry_for` is not over, tries again after a pause. What is no address or no broker is
/// not tried twice.
pub(super) fn reconnect(
    target: &Target,
    retry_for: Duration,
    outage: &mut Outage,
    mut failed: Option<Error>,
) -> Result<Connection, Error> {
    loop {
        match failed {
            Some(error @ (Error::Answer(_) | Error::Invalid(_))) => return Err(error),
            Some(Error::Refused(refused)) if refused.is_login() => return Err(Error::Refused(refused)),
            Some(error) if outage.lasted() >= retry_for => return Err(error),
            Some(_) => thread::sleep(outage.next_pause()),
            None => {}
        }
        match Connection::open(target) {
            Ok(connection) => return Ok(connection),
            Err(error) => failed = Some(error),
        }
    }
}

/// A time without a broker, and the pauses between attempts: 20 ms, doubled up to a second.
#[derive(Debug)]
pub(super) struct Outage {
    since: Instant,
    pause: Duration,
}

impl Outage {
    pub(super) fn begin() -> Outage {
        Outage { since: Instant::now(), pause: Duration::from_millis(20) }
    }

    pub(super) fn lasted(&self) -> Duration {
        self.since.elapsed()
    }

    /// It was told of; the next time to tell is as long from now.
    pub(super) fn begin_again(&mut self) {
        self.since = Instant::now();
    }

    /// How long to wait now; the next will be longer.
    pub(super) fn next_pause(&mut self) -> Duration {
        let longer = (self.pause * 2).min(Duration::from_secs(1));
        std::mem::replace(&mut self.pause, longer)
    }
}
