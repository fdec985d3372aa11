//! What a member of the text protocol, or of the library, joins with.

use super::{SESSION_MS_MAX, SESSION_MS_MIN};
use crate::broker::{Error, Isolation, Position, Result, View, group::consumer::Assignor};

/// What a member joins with.
#[derive(Clone, Copy, Debug)]
pub struct JoinOptions {
    /// Where to read from where the group committed nothing, or what it committed is gone.
    pub from: Position,
    /// Whether each poll commits what the one before returned, and leaving the rest.
    pub auto_commit: bool,
    /// A member that is silent for this long is removed.
    pub session_ms: u64,
    /// The assignor that it would have; the group takes the one that most ask for, and `uniform` where none does.
    pub assignor: Option<Assignor>,
    /// Which records it is handed.
    pub isolation: Isolation,
}

impl Default for JoinOptions {
    fn default() -> JoinOptions {
        let isolation = Isolation::ReadCommitted;
        JoinOptions { from: Position::Earliest, auto_commit: true, session_ms: 45_000, assignor: None, isolation }
    }
}

impl JoinOptions {
    /// An error if no member may be silent for so long, or is to speak so often.
    pub(crate) fn check_session(&self) -> Result<()> {
        if (SESSION_MS_MIN..=SESSION_MS_MAX).contains(&self.session_ms) {
            return Ok(());
        }
        let why = format!("the session is {} ms; it must be {SESSION_MS_MIN} to {SESSION_MS_MAX}", self.session_ms);
        Err(Error::InvalidSessionTimeout(why))
    }

    /// What it sees of the partitions.
    pub(super) fn view(&self) -> View {
        View::records(self.isolation)
    }
}
