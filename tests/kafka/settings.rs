//! Every setting of a topic, as Kafka's clients and text set and see it.

use super::*;

/// Every setting of a topic, with a value that is not the default and one that is refused. All that Kafka has are here, so that
/// MirrorMaker 2 can copy any topic: it once could not, and the topic appeared by auto-creation with one partition, not compacted.
const SETTINGS: [(&str, &str, &str); 33] = [
    ("cleanup.policy", "compact,delete", "bogus"),
    ("compression.gzip.level", "9", "0"),
    ("compression.lz4.level", "17", "18"),
    ("compression.type", "lz4", "nope"),
    ("compression.zstd.level", "-7", "23"),
    ("delete.retention.ms", "5000", "-1"),
    ("file.delete.delay.ms", "1000", "-1"),
    ("flush.messages", "7", "0"),
    ("flush.ms", "900", "-1"),
    ("follower.replication.throttled.replicas", "0:1,1:1", "none"),
    ("index.interval.bytes", "0", "-1"),
    ("leader.replication.throttled.replicas", "*", "0:1,*"),
    ("local.retention.bytes", "100", "-3"),
    ("local.retention.ms", "-1", "-3"),
    ("max.compaction.lag.ms", "12", "0"),
    ("max.message.bytes", "2000", "-1"),
    ("message.timestamp.after.max.ms", "1000", "-1"),
    ("message.timestamp.before.max.ms", "1000", "-1"),
    ("message.timestamp.type", "LogAppendTime", "CREATETIME"),
    ("min.cleanable.dirty.ratio", "0.25", "1.5"),
    ("min.compaction.lag.ms", "11", "-1"),
    ("min.insync.replicas", "2", "0"),
    ("preallocate", "true", "yes"),
    ("remote.log.copy.disable", "true", "1"),
    ("remote.log.delete.on.disable", "true", "1"),
    ("remote.storage.enable", "false", "true"),
    ("retention.bytes", "123456", "much"),
    ("retention.ms", "86400000", "-2"),
    ("segment.bytes", "4096", "1023"),
    ("segment.index.bytes", "4", "3"),
    ("segment.jitter.ms", "50", "-1"),
    ("segment.ms", "60000", "0"),
    ("unclean.leader.election.enable", "true", "2"),
];

/// The settings as Kafka's clients see them: name, value, whether it is the topic's own.
fn described(broker: &Broker, topic: &str) -> Vec<(String, String, bool)> {
    let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(s(topic));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource.with_configuration_keys(None)]);
    let mut client = Client::connect(broker);
    client.send(ApiKey::DescribeConfigs, 4, &request);
    let mut response: DescribeConfigsResponse = client.receive(4).unwrap();
    let config = |config: DescribeConfigsResourceResult| {
        (config.name.to_string(), config.value.unwrap_or_default().to_string(), config.config_source == 1)
    };
    response.results.remove(0).configs.into_iter().map(config).collect()
}

/// Sets with Kafka's IncrementalAlterConfigs; answers its error code.
fn alter_with(broker: &Broker, topic: &str, configs: &[(&str, &str)]) -> i16 {
    let config = |(name, value): &(&str, &str)| {
        incremental_alter_configs_request::AlterableConfig::default().with_name(s(name)).with_value(Some(s(value)))
    };
    let resource = incremental_alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
    let resource = resource.with_resource_name(s(topic)).with_configs(configs.iter().map(config).collect());
    let mut client = Client::connect(broker);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    client.send(ApiKey::IncrementalAlterConfigs, 1, &request);
    client.receive::<IncrementalAlterConfigsResponse>(1).unwrap().responses[0].error_code
}

#[test]
fn every_setting_is_the_same_however_it_is_set_and_survives_a_restart() {
    let mut broker = Broker::on_disk();
    let good = SETTINGS.map(|(name, value, _)| (name, value));
    let words: String = SETTINGS.map(|(name, value, _)| format!(" {name}:{value}")).concat();
    for topic in ["altered-by-kafka", "altered-by-text"] {
        assert_eq!(create_with(&broker, topic, &[]), 0);
        assert!(described(&broker, topic).iter().all(|(.., own)| !own));
    }
    let defaults = described(&broker, "altered-by-text");
    for (name, _, bad) in SETTINGS {
        assert_eq!(create_with(&broker, "not-there", &[(name, bad)]), 40, "{name}");
        assert_eq!(alter_with(&broker, "altered-by-kafka", &[(name, bad)]), 40, "{name}");
        for verb in ["CREATE not-there", "ALTER altered-by-text"] {
            let answer = text(&broker, &format!("{verb} {name}:{bad}"));
            assert!(answer.starts_with(&format!("ERROR INVALID_CONFIG {name} cannot be '{bad}'")), "{answer}");
        }
    }
    assert_eq!(described(&broker, "altered-by-kafka"), defaults, "what was refused changed nothing");
    assert_eq!(create_with(&broker, "created-by-kafka", &good), 0);
    assert_eq!(alter_with(&broker, "altered-by-kafka", &good), 0);
    for verb in ["CREATE created-by-text", "ALTER altered-by-text"] {
        assert!(text(&broker, &format!("{verb}{words}")).starts_with("OK"));
    }
    let topics = ["created-by-kafka", "altered-by-kafka", "created-by-text", "altered-by-text"];
    for _ in 0..2 {
        for topic in topics {
            let expected = good.map(|(name, value)| (name.to_owned(), value.to_owned(), true));
            assert_eq!(described(&broker, topic), expected, "{topic}");
            assert!(text(&broker, &format!("TOPIC {topic}")).lines().next().unwrap().ends_with(&words), "{topic}");
        }
        broker.restart();
    }
    // AlterConfigs returns what it does not name to its default.
    let config = alter_configs_request::AlterableConfig::default().with_name(s("flush.ms")).with_value(Some(s("9")));
    let resource = alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
    let resource = resource.with_resource_name(s(topics[0])).with_configs(vec![config]);
    let mut client = Client::connect(&broker);
    client.send(ApiKey::AlterConfigs, 2, &AlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(client.receive::<AlterConfigsResponse>(2).unwrap().responses[0].error_code, 0);
    let mut expected = defaults;
    expected.iter_mut().filter(|(name, ..)| name == "flush.ms").for_each(|(_, value, own)| {
        (*value, *own) = ("9".into(), true);
    });
    assert_eq!(described(&broker, topics[0]), expected);
}
