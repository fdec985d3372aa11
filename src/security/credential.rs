//! What is kept of passwords: the keys of SCRAM (RFC 5802, RFC 7677), by which it is checked who proves to know one.

use std::{collections::BTreeMap, fmt};

/// How a user proves to know a password: by which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScramMechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl ScramMechanism {
    /// All of them.
    pub const ALL: [ScramMechanism; 2] = [ScramMechanism::Sha256, ScramMechanism::Sha512];

    /// Its name among the mechanisms of SASL.
    pub fn name(self) -> &'static str {
        match self {
            ScramMechanism::Sha256 => "SCRAM-SHA-256",
            ScramMechanism::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism of this name.
    pub fn of_name(name: &str) -> Option<ScramMechanism> {
        ScramMechanism::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// What is kept of a password, in one mechanism.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// Which change set it: the newest of a user's has the highest number.
    pub change: u64,
    /// How often the password was hashed.
    pub iterations: u32,
    /// What was hashed with it first.
    pub salt: Vec<u8>,
    /// The hash of the key by which a client proves that it knows the password.
    pub stored_key: Vec<u8>,
    /// The key by which the server proves it.
    pub server_key: Vec<u8>,
}

/// Keys are shown to nobody.
impl fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramCredential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// The credentials of each user who has any.
pub type ScramCredentials = BTreeMap<String, BTreeMap<ScramMechanism, ScramCredential>>;
