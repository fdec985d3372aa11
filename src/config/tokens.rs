//! Which tokens say who somebody is, as the broker was started.

use std::path::PathBuf;

/// Which tokens say who somebody is.
#[derive(Clone, Debug)]
pub struct TokensConfig {
    /// The keys that they are signed with, a JSON Web Key Set (RFC 7517).
    pub keys: PathBuf,
    /// Whom they are for (`aud`).
    pub audience: String,
    /// Who has issued them (`iss`).
    pub issuer: String,
}
