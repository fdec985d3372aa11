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

/// Settings that are this program's own to make, and what its verbs promise by them. A user's are refused, not passed over.
const OURS_ALONE: [(&str, &str); 18] = [
    ("group.id", "JOIN names the group"),
    ("group.instance.id", "each JOIN is a member of its own"),
    ("group.protocol", "members are those of the classic protocol"),
    ("isolation.level", "who reads says what is to be seen"),
    ("auto.offset.reset", "what is gone is told, and not passed over"),
    ("enable.partition.eof", "a reader is told where a partition ends"),
    ("enable.auto.commit", "a group commits when a member says so"),
    ("auto.commit.enable", "a group commits when a member says so"),
    ("enable.auto.offset.store", "a group commits when a member says so"),
    ("enable.idempotence", "a record that is sent again is stored once"),
    ("enable.gapless.guarantee", "what becomes of the records behind one that is refused is settled"),
    ("acks", "a record is acknowledged when all in-sync replicas have it"),
    ("request.required.acks", "a record is acknowledged when all in-sync replicas have it"),
    ("delivery.report.only.error", "each record is answered"),
    ("transactional.id", "BEGIN names it"),
    ("transaction.timeout.ms", "BEGIN says how long it may take"),
    ("allow.auto.create.topics", "reading makes no topic"),
    ("offset.store.method", "the cluster keeps what groups commit"),
];

/// Whether a setting, by a name of librdkafka's or of Java's clients, is a secret, which is neither shown nor taken where others can
/// read it.
pub fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 7] =
        ["password", "passphrase", "secret", "key.pem", "keystore.key", "jaas", "oauthbearer.config"];
    WORDS.iter().any(|word| name.contains(word))
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

    /// What every client of librdkafka here begins with; the caller adds what is its own. What the user has set goes before ours,
    /// and is none of those that [`check`](Self::check) refuses.
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
        config.remove("metadata.broker.list");
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

    /// librdkafka refused the settings. They may come from a file with secrets: no value is shown but in a reason, of a setting that
    /// librdkafka knows and that is no secret.
    pub(super) fn refused(error: &rdkafka::error::KafkaError) -> Error {
        let is_name =
            |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        Error::InvalidConfig(match error {
            rdkafka::error::KafkaError::ClientConfig(_, _, name, _) if is_secret(name) => {
                format!("{name}: librdkafka does not take this value, which is not shown")
            }
            // A line of a key, perhaps, that was to go on with the line before it.
            rdkafka::error::KafkaError::ClientConfig(_, _, name, _) if !is_name(name) => {
                "a name, which is not shown, is no setting's; a line ends in \\ where its value goes on in the next"
                    .into()
            }
            rdkafka::error::KafkaError::ClientConfig(_, why, name, _) => format!("{name}: {}", why.trim_end()),
            other => other.to_string(),
        })
    }

    /// An error if librdkafka does not take them, or if one of them is not the user's to make.
    pub fn check(&self) -> Result<()> {
        if let Some((name, why)) = OURS_ALONE.iter().find(|(name, _)| self.settings.contains_key(*name)) {
            return Err(Error::InvalidConfig(format!("{name} cannot be set here: {why}; take it out")));
        }
        let assignors = self.settings.get("partition.assignment.strategy");
        if assignors.is_some_and(|assignors| assignors.contains("cooperative")) {
            let why = "partition.assignment.strategy: members give all partitions up at once, so none of the cooperative ones";
            return Err(Error::InvalidConfig(why.into()));
        }
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

    fn refusal(settings: &[(&str, &str)]) -> Option<String> {
        let mut options = ClusterOptions::new("localhost:1");
        options.settings.extend(settings.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        options.check().err().map(|error| error.to_string())
    }

    #[test]
    fn a_value_that_is_refused_is_not_shown() {
        let jaas = "sasl.jaas.config";
        for name in ["sasl.password.of.nobody", jaas, "ssl.keystore.key", "nobodys", "a=b", "MIIEvQIBADANBgkqhkiG9w0"] {
            let refused = refusal(&[(name, "username=me password=\"hush\"")]).unwrap();
            assert!(!refused.contains("hush") && !refused.contains("MIIE"), "{refused}");
            assert_eq!(refused.contains(&format!("{name}: ")), !name.starts_with("MIIE") && name != "a=b", "{refused}");
        }
        let secrets = ["sasl.password", "ssl.key.pem", "ssl.keystore.password", "sasl.oauthbearer.client.secret"];
        for name in secrets.into_iter().chain([jaas, "ssl.keystore.key"]) {
            assert!(is_secret(name), "{name}");
        }
        assert!(!["ssl.ca.pem", "sasl.username", "ssl.key.location"].into_iter().any(is_secret));
    }

    #[test]
    fn a_setting_that_librdkafka_does_not_take_is_refused_by_its_name() {
        assert_eq!(refusal(&[]), None);
        let refused = refusal(&[("colour", "red")]).unwrap();
        assert!(refused.starts_with("colour: ") && !refused.contains("red"), "{refused}");
        let refused = refusal(&[("socket.timeout.ms", "5")]).unwrap();
        assert!(refused.contains("value 5 is outside allowed range"), "{refused}");
    }

    /// `group.id` stands in the file for consumers that comes with Kafka.
    #[test]
    fn a_setting_on_which_a_verb_depends_is_refused_and_the_others_are_taken() {
        for (name, why) in OURS_ALONE {
            let refused = refusal(&[(name, "1")]).unwrap();
            assert!(refused.starts_with(&format!("{name} cannot be set here: {why}")), "{refused}");
        }
        let strategy = "partition.assignment.strategy";
        assert!(refusal(&[(strategy, "cooperative-sticky")]).unwrap().starts_with(strategy));
        let others = [
            (strategy, "roundrobin"),
            ("compression.type", "zstd"),
            ("delivery.timeout.ms", "5000"),
            ("client.id", "me"),
        ];
        assert_eq!(refusal(&others), None);
        let mut options = ClusterOptions::new("localhost:1");
        options.settings.insert("group.id".into(), "test-consumer-group".into());
        let refused = crate::cluster::Cluster::open(crate::Config::in_memory(), options).unwrap_err().to_string();
        assert!(refused.starts_with("group.id cannot be set here"), "{refused}");
    }

    #[test]
    fn the_nodes_are_those_that_were_named() {
        let mut options = ClusterOptions::new("localhost:1");
        for name in ["bootstrap.servers", "metadata.broker.list"] {
            options.settings.insert(name.into(), "elsewhere:1".into());
        }
        let config = options.client(&[]);
        assert_eq!((config.get("bootstrap.servers"), config.get("metadata.broker.list")), (Some("localhost:1"), None));
    }
}
