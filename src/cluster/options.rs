//! What this program is told of the cluster, and what librdkafka is told in turn.

use crate::broker::{Error, Isolation, Result};
use rdkafka::ClientConfig;
use std::{collections::BTreeMap, fmt, time::Duration};

/// How to reach a cluster.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Nodes to begin with: `host:port`, separated by commas.
    pub servers: String,
    /// Settings of librdkafka, by its names.
    pub settings: BTreeMap<String, String>,
    /// How long a request may take before its client is told that time ran out: 30 s.
    pub timeout: Duration,
    /// Readers, members of groups and transactional producers at once: 256.
    pub clients_max: usize,
}

/// Whether a setting of librdkafka's is a secret, which is neither shown nor taken where others can read it.
pub fn is_secret(name: &str) -> bool {
    ["password", "passphrase", "secret", "key.pem", "oauthbearer.config"].iter().any(|word| name.contains(word))
}

/// Without the settings' values, which may be secrets.
impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.settings.keys().collect();
        f.debug_struct("ClusterOptions")
            .field("servers", &self.servers)
            .field("settings", &names)
            .finish_non_exhaustive()
    }
}

impl ClusterOptions {
    /// These nodes, and librdkafka's defaults.
    pub fn new(servers: impl Into<String>) -> ClusterOptions {
        let servers = servers.into();
        ClusterOptions { servers, settings: BTreeMap::new(), timeout: Duration::from_secs(30), clients_max: 256 }
    }

    /// What every client of librdkafka here begins with; the caller adds what is its own. What the user has set goes before ours.
    pub(super) fn client(&self, ours: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "plainlog");
        // A paused leader must not fail what another one could serve within the time.
        config.set("socket.timeout.ms", (self.timeout.as_millis() / 4).max(10).to_string());
        for (name, value) in ours {
            config.set(*name, *value);
        }
        for (name, value) in &self.settings {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.servers);
        config
    }

    /// The same for a client that reads, as a member of a group or not: it commits nothing by itself, makes no topic, and tells where
    /// a partition ends. `more` goes before what is common to all of them.
    pub(super) fn reader(&self, group: &str, isolation: Isolation, more: &[(&str, &str)]) -> ClientConfig {
        let common = [
            // Without a name of a group librdkafka reads nothing.
            ("group.id", group),
            ("isolation.level", isolation.name()),
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("allow.auto.create.topics", "false"),
            ("queued.max.messages.kbytes", "1024"),
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.wait.max.ms", "100"),
        ];
        self.client(&[&common, more].concat())
    }

    /// librdkafka refused the settings.
    pub(super) fn refused(error: &rdkafka::error::KafkaError) -> Error {
        Error::InvalidConfig(match error {
            // The reason may show the value, too.
            rdkafka::error::KafkaError::ClientConfig(_, _, name, _) if is_secret(name) => {
                format!("{name}: librdkafka does not take this value, which is not shown")
            }
            rdkafka::error::KafkaError::ClientConfig(_, why, name, value) => format!("{name}={value}: {why}"),
            other => other.to_string(),
        })
    }

    /// An error if librdkafka does not take them.
    pub fn check(&self) -> Result<()> {
        self.client(&[]).create_native_config().map(drop).map_err(|error| ClusterOptions::refused(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_settings_are_not_shown() {
        let mut options = ClusterOptions::new("localhost:1");
        options.settings.insert("sasl.password".into(), "hush".into());
        let shown = format!("{options:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn a_secret_that_is_refused_is_not_shown() {
        let mut options = ClusterOptions::new("localhost:1");
        options.settings.insert("sasl.password.of.nobody".into(), "hush".into());
        let refused = options.check().unwrap_err().to_string();
        assert!(refused.contains("sasl.password.of.nobody: ") && !refused.contains("hush"), "{refused}");
        for name in ["sasl.password", "ssl.key.pem", "ssl.keystore.password", "sasl.oauthbearer.client.secret"] {
            assert!(is_secret(name), "{name}");
        }
        assert!(!["ssl.ca.pem", "sasl.username", "ssl.key.location"].into_iter().any(is_secret));
    }

    #[test]
    fn a_setting_that_librdkafka_does_not_know_is_refused_by_its_name() {
        let mut options = ClusterOptions::new("localhost:1");
        options.check().unwrap();
        options.settings.insert("colour".into(), "red".into());
        let refused = options.check().unwrap_err().to_string();
        assert!(refused.starts_with("colour=red: "), "{refused}");
    }
}
