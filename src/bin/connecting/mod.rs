//! How `producer` and `consumer` connect to their broker.

use super::common::say;
use plainlog::client::{Error, Target};
use std::time::Duration;

/// Connects; a broker that is not there is waited for, once that has been said. How long the connection is tried
/// again later on is for the caller to set.
pub(crate) fn connect<T>(
    target: &Target,
    retry_for: Duration,
    connect_within: impl Fn(&Target, Duration) -> Result<T, Error>,
) -> Result<T, Error> {
    match connect_within(target, Duration::ZERO) {
        Err(Error::Refused(refused)) if refused.is_login() => Err(Error::Refused(refused)),
        Err(error @ (Error::Connection { .. } | Error::Refused(_))) if !retry_for.is_zero() => {
            say(format_args!("{error}; trying again for {} s", retry_for.as_secs_f32()));
            connect_within(target, retry_for)
        }
        result => result,
    }
}
