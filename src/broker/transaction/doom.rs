//! The first error in a transaction that a connection has begun: nothing of it will take effect.

use crate::{
    broker::{Error, Result},
    log::Outcome,
};

/// Whether something went wrong in a transaction, after which it can only be aborted.
#[derive(Debug, Default)]
pub(crate) struct Doom(Option<String>);

impl Doom {
    /// Something went wrong. The first error counts.
    pub(crate) fn doom(&mut self, why: impl Into<String>) {
        self.0.get_or_insert(why.into());
    }

    /// An error if something did.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |why| {
            Err(Error::InvalidTxnState(format!("the transaction can only be aborted since an error in it: {why}")))
        })
    }
}

/// Ends a transaction with `end_as`: commits it, or where it is `doomed` aborts it and answers why.
pub(crate) fn commit_unless(doomed: Result<()>, end_as: impl FnOnce(Outcome) -> Result<()>) -> Result<()> {
    match doomed {
        Ok(()) => end_as(Outcome::Commit),
        Err(doomed) => match end_as(Outcome::Abort) {
            // That it was lost goes before an error in it.
            Err(lost @ (Error::ProducerFenced(_) | Error::InvalidTxnState(_))) => Err(lost),
            _ => Err(doomed),
        },
    }
}
