//! The locks and threads of code that waits. They are the standard library's, except in the test that tries out the orders
//! in which threads can run, which brings its own: `RUSTFLAGS='--cfg shuttle' cargo test --lib shuttle`.

#[cfg(not(all(test, shuttle)))]
pub(crate) use std::{
    sync::{Mutex, MutexGuard, atomic::AtomicBool},
    thread::{self, Thread},
};

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::{
    sync::{Mutex, MutexGuard, atomic::AtomicBool},
    thread::{self, Thread},
};
