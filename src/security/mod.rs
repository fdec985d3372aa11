//! Who may do what: principals, rules, and how both are kept from strangers. It is a leaf: it knows names, rules and bytes, and
//! neither topics nor sockets. The [gate](crate::broker) asks it, protocols log callers in with it.
//!
//! # What is defended
//!
//! Nothing without options: then the port is for this machine, and for everybody on it. With `--users` and a certificate:
//!
//! | against | what they get |
//! | --- | --- |
//! | who listens on the way | TLS; without it no password is taken but over loopback (SCRAM shows none), and no answer is hidden |
//! | who reaches the port | that it is plainlog: four verbs and three of Kafka's APIs, in short lines and frames, and no word of what there is |
//! | who makes up a token | nothing: it names one of the issuer's keys, and takes that one's signature by its algorithm; what it says else does not count |
//! | who guesses | three tries for nothing, then each costs twice as long: for the address, and for the name; those who logged in from elsewhere go on |
//! | who asks for names | for one that there is not the same answers, challenges and work as for one that there is |
//! | a user | what rules let it; what it may not describe is not there |
//! | another user of the machine | no file of the data directory; no password in arguments, explanations, errors or what the wire shows |
//! | who writes the `~security` file badly | a start that is refused, with the line's number |
//!
//! In front of a cluster it is the same for text and HTTP; Kafka's protocol is not served where there are users, since the cluster's
//! nodes would not ask for ours.
//!
//! Not defended: against who may alter the cluster (it can set anybody's password), or is root here, or runs the broker in its own
//! process; who has a copy of `~security` cannot read passwords there, but can try weak ones against it, and play the broker; records
//! on the disk are not encrypted, and how much goes over a line can be seen.

#[cfg(feature = "users")]
mod acl;
#[cfg(feature = "users")]
mod acls;
mod credential;
#[cfg(feature = "users")]
pub mod guessing;
#[cfg(feature = "users")]
pub mod password;
mod principal;
mod quotas;
#[cfg(feature = "users")]
mod remembered;
mod resource;
#[cfg(feature = "users")]
pub mod sasl;
#[cfg(feature = "users")]
mod sessions;
#[cfg(feature = "users")]
mod stamp;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "users")]
pub mod tokens;
#[cfg(feature = "users")]
mod turns;

#[cfg(feature = "users")]
pub use acl::{ANY_HOST, ANY_NAME, ANY_USER, Acl, AclFilter, PatternFilter, PatternType, Permission};
#[cfg(feature = "users")]
pub use acls::{Acls, Question};
pub use credential::{ScramCredential, ScramCredentials, ScramMechanism};
pub use principal::{Principal, Proof};
pub use quotas::{Account, HeldBack, Meters, Quota, QuotaEntity, QuotaValues, Quotas};
#[cfg(feature = "users")]
pub use remembered::{Mark, Remembered};
pub use resource::{CLUSTER_NAME, Operation, Operations, ResourceType};
#[cfg(feature = "users")]
pub use sessions::{LASTS as SESSION_LASTS, Sessions};
#[cfg(feature = "users")]
pub use turns::Turns;
