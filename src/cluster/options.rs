//! What this program is told of the cluster, and what librdkafka is told in turn.

use crate::broker::{Error, Result};
use rdkafka::ClientConfig;
use std::{collections::BTreeMap, time::Duration};

/// How to reach a cluster.
#[derive(Clone, Debug)]
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

    /// librdkafka refused the settings.
    pub(super) fn refused(error: &rdkafka::error::KafkaError) -> Error {
        Error::InvalidConfig(match error {
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
    fn a_setting_that_librdkafka_does_not_know_is_refused_by_its_name() {
        let mut options = ClusterOptions::new("localhost:1");
        options.check().unwrap();
        options.settings.insert("colour".into(), "red".into());
        let refused = options.check().unwrap_err().to_string();
        assert!(refused.starts_with("colour=red: "), "{refused}");
    }
}
