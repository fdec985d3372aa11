//! What the programs `producer` and `consumer` are made of, beside a [`Producer`](super::Producer) and a
//! [`Consumer`](super::Consumer).
//!
//! ```text
//! producer   input ──► intake (records) ──► pour, or converse with a person ──► tally, progress
//! consumer   messages ──► style ──► stdout
//! ```

mod conversation;
pub mod input;
pub mod intake;
mod pour;
pub mod progress;
pub mod style;
mod tally;
mod transactions;

pub use conversation::converse;
pub use pour::{News, pour};
pub use tally::Tally;
pub use transactions::pour_in_transactions;
