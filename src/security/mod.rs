//! Who may do what: principals, rules, and how both are kept from strangers. It is a leaf: it knows names, rules and bytes, and
//! neither topics nor sockets. The [gate](crate::broker) asks it, protocols log callers in with it.

mod principal;

pub use principal::{Principal, Proof};
