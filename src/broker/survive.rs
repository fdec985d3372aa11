//! What the broker's own threads do with a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does one piece of work. A panic ends that piece and not the thread: the operator is told, and what comes next is done.
/// `None`: it panicked.
///
/// Whatever the work left behind in its midst, each lock that it held is poisoned: who needs one of them panics too, and no
/// promise is made on what nobody understands.
pub(super) fn survive<T>(what: &str, tell: impl Fn(&str), work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work))
        .inspect_err(|_| {
            tell(&format!("{what} panicked, as told above; this is a bug in plainlog. Other work goes on"))
        })
        .ok()
}
