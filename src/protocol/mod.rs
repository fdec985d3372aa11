//! Protocols: bytes in, bytes out. Each turns what a client says into the broker's verbs, and the broker's errors into its
//! own replies. Nothing is kept between connections but the session.

pub mod connection;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod text;
pub mod transport;
