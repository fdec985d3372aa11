//! What is asked of callers, as the broker was started.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

/// What is asked of callers; nothing unless something is said.
#[derive(Clone, Debug)]
pub struct SecurityConfig {
    /// Whether callers have to say who they are.
    pub users: bool,
    /// Whether a data directory that has users is served to everybody all the same: no.
    pub without_users: bool,
    /// Whether callers from this machine need not log in: no. They are `User:ANONYMOUS`, for whom there may be rules.
    pub anonymous_loopback: bool,
    /// Principals that may do everything, such as `User:alice`, besides the user `admin`.
    pub super_users: BTreeSet<String>,
    /// Whether everybody may do what no rule is about.
    pub allow_if_no_acl: bool,
    /// Whether passwords and tokens are taken over lines that others can read along: no.
    pub plaintext_passwords: bool,
    /// For how long a login of a Kafka client holds (Kafka: `connections.max.reauth.ms`); `None`: for ever.
    pub reauth: Option<Duration>,
    /// Whether wrong passwords cost time: yes.
    pub login_delay: bool,
    /// Where logins, refusals and changes are told; `None`: nowhere.
    pub audit: Option<PathBuf>,
    /// How long a client may take to shake hands and log in, in all: 10 s.
    pub login_within: Duration,
    /// Whether `/metrics` and `INFO` tell everything to everybody, `/metrics` without a login, too: no.
    pub metrics_open: bool,
    /// How many connections there may be at once from one address, of IPv6 from one /64; `None`: any number.
    pub connections_per_address: Option<usize>,
    /// Which tokens say who somebody is; `None`: none does.
    pub tokens: Option<super::TokensConfig>,
    /// TLS on the port; `None`: there is none.
    #[cfg(feature = "tls")]
    pub tls: Option<super::TlsConfig>,
}

impl Default for SecurityConfig {
    fn default() -> SecurityConfig {
        SecurityConfig {
            users: false,
            without_users: false,
            anonymous_loopback: false,
            super_users: BTreeSet::new(),
            allow_if_no_acl: false,
            plaintext_passwords: false,
            reauth: None,
            login_delay: true,
            audit: None,
            login_within: Duration::from_secs(10),
            metrics_open: false,
            connections_per_address: None,
            tokens: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}
