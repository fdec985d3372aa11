//! What is asked of callers, as the broker was started.

use std::collections::BTreeSet;

/// What is asked of callers; nothing unless something is said.
#[derive(Clone, Debug, Default)]
pub struct SecurityConfig {
    /// Whether callers have to say who they are.
    pub users: bool,
    /// Principals that may do everything, such as `User:alice`, besides the user `admin`.
    pub super_users: BTreeSet<String>,
    /// Whether everybody may do what no rule is about.
    pub allow_if_no_acl: bool,
    /// TLS on the port; `None`: there is none.
    #[cfg(feature = "tls")]
    pub tls: Option<super::TlsConfig>,
}
