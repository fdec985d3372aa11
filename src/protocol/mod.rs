//! The protocols. Each turns a client's requests into calls of the broker's verbs, and the broker's errors into its own
//! replies. What a protocol remembers belongs to one connection.

pub mod connection;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "cluster")]
pub mod joined;
#[cfg(feature = "kafka")]
pub mod kafka;
mod needs;
#[cfg(all(test, feature = "users", not(shuttle)))]
mod open_line_tests;
pub mod position;
#[cfg(any(feature = "comfort", feature = "http"))]
pub mod record_json;
pub mod text;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transport;
#[cfg(feature = "http")]
pub mod wire_view;
