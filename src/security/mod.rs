//! Who may do what: principals, rules, and how both are kept from strangers. It is a leaf: it knows names, rules and bytes, and
//! neither topics nor sockets. The [gate](crate::broker) asks it, protocols log callers in with it.

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
#[cfg(feature = "tls")]
pub mod tls;
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
pub use turns::Turns;
