//! TLS: the broker's certificate, those of its clients, and whom they name. How bytes go over a stream is the
//! [protocol's](crate::protocol::tls).

mod identity;
mod mapping;
mod names;
mod self_signed;
#[cfg(test)]
pub(crate) mod testing;
mod trust;

pub use identity::Identity;
pub use mapping::Mapping;
pub use names::subject;
pub use self_signed::SelfSigned;
pub use trust::Trust;
