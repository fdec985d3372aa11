//! The options that put the program in front of a Kafka cluster.

use clap::Args;
use plainlog::{
    cluster::{ClusterOptions, is_secret, properties},
    config,
};
use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

/// Options that speak of a log on this machine, or of what only the cluster decides.
const OF_THE_LOG: [&str; 16] = [
    "flush",
    "default_partitions",
    "segment_bytes",
    "retention_ms",
    "retention_bytes",
    "retention_check_interval",
    "max_message_bytes",
    "strict_replication",
    "advertise",
    "fetch_compression",
    "group_min_session",
    "group_initial_rebalance_delay",
    "max_groups",
    "offsets_retention",
    "transaction_max_timeout_ms",
    "transactional_id_expiration_ms",
];

/// How the cluster is reached.
#[derive(Args)]
pub(crate) struct Options {
    /// Keep nothing here: serve the topics and groups of a Kafka cluster, some of whose nodes these are
    #[arg(long, value_name = "HOST:PORT,...", value_parser = servers, conflicts_with_all = OF_THE_LOG)]
    cluster: Option<String>,
    /// A setting by which its nodes are reached, by librdkafka's name; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting, requires = "cluster")]
    cluster_config: Vec<(String, String)>,
    /// A file of such settings, as Kafka's own clients have them; secrets belong there
    #[arg(long, value_name = "FILE", requires = "cluster")]
    cluster_config_file: Option<PathBuf>,
    /// How long a request may wait for the cluster
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = some_time, requires = "cluster")]
    cluster_timeout: Duration,
    /// How many readers, members of groups and transactions there may be at once; each takes 10 MB
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "cluster")]
    cluster_clients: u32,
}

impl Options {
    /// The cluster, if there is to be one.
    pub(crate) fn read(&self) -> Result<Option<ClusterOptions>, String> {
        let Some(servers) = &self.cluster else { return Ok(None) };
        let settings = settings(&self.cluster_config, self.cluster_config_file.as_ref(), "--cluster-config-file")?;
        let (timeout, clients_max) = (self.cluster_timeout, self.cluster_clients as usize);
        let options = ClusterOptions { settings, timeout, clients_max, ..ClusterOptions::new(servers) };
        options.check().map_err(|error| error.to_string())?;
        Ok(Some(options))
    }
}

/// The settings of a file, and over them those of the command line. A secret there is refused, since everybody on the machine can
/// read it: it belongs in the file, which this option names.
pub(crate) fn settings(
    given: &[(String, String)],
    file: Option<&PathBuf>,
    option: &str,
) -> Result<BTreeMap<String, String>, String> {
    if let Some((name, _)) = given.iter().find(|(name, _)| is_secret(name)) {
        return Err(format!(
            "{name} is a secret, and others on this machine can read a command line; write it into a file for {option}"
        ));
    }
    let mut settings = BTreeMap::new();
    if let Some(file) = file {
        let told = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
        let text = fs::read_to_string(file).map_err(|error| told(&error))?;
        settings = properties(&text).map_err(|why| told(&why))?;
    }
    settings.extend(given.iter().cloned());
    Ok(settings)
}

pub(crate) fn servers(text: &str) -> Result<String, String> {
    let is_named = |server: &str| {
        let server = server.trim();
        !server.is_empty() && !server.contains(char::is_whitespace)
    };
    if text.split(',').all(is_named) { Ok(text.into()) } else { Err("nodes are HOST:PORT,HOST:PORT".into()) }
}

pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is NAME=VALUE")?;
    Ok((name.trim().into(), value.into()))
}

fn some_time(text: &str) -> Result<Duration, String> {
    config::duration(text).and_then(|time| if time.is_zero() { Err("it must be above 0".into()) } else { Ok(time) })
}
