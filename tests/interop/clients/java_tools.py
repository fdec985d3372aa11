"""Kafka's own command-line tools, from their jars: what a Kafka administrator has in the fingers."""
import json, os, re, subprocess, tempfile

from check import ADDRESS, START, check, equal, for_each, for_each_codec, fresh, main, numbers_across_a_restart, wait_until
from install import KAFKA, jars

TOOLS = {
    "kafka-topics": "tools.TopicCommand", "kafka-console-producer": "tools.ConsoleProducer", "kafka-console-consumer": "tools.consumer.ConsoleConsumer",
    "kafka-consumer-groups": "tools.consumer.group.ConsumerGroupCommand", "kafka-producer-perf-test": "tools.ProducerPerformance",
    "kafka-consumer-perf-test": "tools.ConsumerPerformance", "kafka-verifiable-producer": "tools.VerifiableProducer",
    "kafka-verifiable-consumer": "tools.VerifiableConsumer", "kafka-get-offsets": "tools.GetOffsetShell", "kafka-delete-records": "tools.DeleteRecordsCommand",
    "kafka-log-dirs": "tools.LogDirsCommand", "kafka-broker-api-versions": "tools.BrokerApiVersionsCommand", "kafka-cluster": "tools.ClusterTool",
    "kafka-console-share-consumer": "tools.consumer.ConsoleShareConsumer", "kafka-share-groups": "tools.consumer.group.ShareGroupCommand",
    "kafka-groups": "tools.GroupsCommand", "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-leader-election": "tools.LeaderElectionCommand", "kafka-reassign-partitions": "tools.reassign.ReassignPartitionsCommand",
    "kafka-features": "tools.FeatureCommand", "kafka-metadata-quorum": "tools.MetadataQuorumCommand", "kafka-client-metrics": "tools.ClientMetricsCommand",
    "kafka-acls": "tools.AclCommand", "kafka-transactions": "tools.TransactionsCommand", "transactional-message-copier": "tools.TransactionalMessageCopier",
}


FOLDER = tempfile.TemporaryDirectory()
ARCHIVE = FOLDER.name + "/classes"  # the tools' classes as the JVM wants them: a tool starts in 0.4 s instead of 1.0


def start(tool, *arguments):
    name = TOOLS[tool]
    archive = "-XX:SharedArchiveFile=" if os.path.exists(ARCHIVE) else "-XX:ArchiveClassesAtExit="
    # Quick to start rather than quick for long.
    return subprocess.Popen(["java", archive + ARCHIVE, "-Xlog:disable", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", jars(),
                             name if name.startswith("kafka.") else "org.apache.kafka." + name, *arguments],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(tool, *arguments, given="", status=0):
    """Runs a tool to its end and returns what it printed."""
    process = start(tool, *arguments)
    try:
        out, errors = process.communicate(given, 90)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"{tool} does not end") from None
    assert process.returncode == status, f"{tool} ended with {process.returncode}: {(out + errors)[-400:]}"
    return out


def tool(name, *arguments, **more):
    return run(name, "--bootstrap-server", ADDRESS, *arguments, **more)


def create(topic, partitions=1, *configs):
    tool("kafka-topics", "--create", "--topic", topic, "--partitions", str(partitions), *(word for c in configs for word in ("--config", c)))
    return topic


def rows(table):
    """The lines of a table as dictionaries."""
    head, *lines = [line.split() for line in table.strip().splitlines() if line.strip()]
    return [dict(zip(head, line)) for line in lines]


@check
def topics_are_created_listed_described_altered_and_deleted():
    topic = create(fresh("made"), 2, "retention.ms=3600000")
    assert topic in tool("kafka-topics", "--list").split()
    tool("kafka-topics", "--alter", "--topic", topic, "--partitions", "3")
    described = tool("kafka-topics", "--describe", "--topic", topic)
    assert "PartitionCount: 3" in described and "retention.ms=3600000" in described, described
    equal(re.findall(r"Partition: (\d+)\s+Leader: 1\s+Replicas: 1\s+Isr: 1", described), ["0", "1", "2"])
    assert "Error while executing topic command" in tool("kafka-topics", "--create", "--topic", topic, status=1)
    tool("kafka-topics", "--create", "--if-not-exists", "--topic", topic)
    tool("kafka-topics", "--delete", "--topic", topic)
    assert topic not in tool("kafka-topics", "--list").split()


@check
def settings_are_altered_and_described():
    topic = create(fresh("settings"))
    tool("kafka-configs", "--alter", "--topic", topic, "--add-config", "cleanup.policy=compact,retention.ms=1000")
    described = tool("kafka-configs", "--describe", "--topic", topic)
    assert "cleanup.policy=compact" in described and "retention.ms=1000" in described, described
    tool("kafka-configs", "--alter", "--topic", topic, "--delete-config", "retention.ms")
    assert "retention.ms" not in tool("kafka-configs", "--describe", "--topic", topic)
    assert "log.retention" in tool("kafka-configs", "--describe", "--all", "--broker", "1")


@check
def settings_of_the_broker_of_groups_and_of_clients_are_altered_and_described():
    topic, group, user = create(fresh("defaults")), fresh("group"), fresh("user")
    configs = lambda *words: tool("kafka-configs", *words)
    for kind, name, setting, value, other in (
        ("brokers", "1", "log.cleaner.delete.retention.ms", "123456", "86400000"), ("groups", group, "consumer.session.timeout.ms", "50000", "45000"),
    ):
        entity = ("--entity-type", kind, "--entity-name", name)
        configs("--alter", *entity, "--add-config", f"{setting}={value}")
        assert f"{setting}={value}" in configs("--describe", *entity), kind
        configs("--alter", *entity, "--delete-config", setting)
        assert f"{setting}={other}" in configs("--describe", "--all", *entity), kind
    configs("--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "log.cleaner.delete.retention.ms=234567")
    assert "delete.retention.ms=234567" in configs("--describe", "--all", "--topic", topic)
    configs("--alter", "--entity-type", "brokers", "--entity-default", "--delete-config", "log.cleaner.delete.retention.ms")
    entity = ("--entity-type", "users", "--entity-name", user)
    configs("--alter", *entity, "--add-config", "producer_byte_rate=1024")
    assert "producer_byte_rate=1024" in configs("--describe", *entity)
    configs("--alter", *entity, "--delete-config", "producer_byte_rate")
    assert "producer_byte_rate" not in configs("--describe", *entity)
    name = fresh("metrics")
    tool("kafka-client-metrics", "--alter", "--name", name, "--interval", "1000", "--metrics", "org.apache.kafka.")
    assert name in tool("kafka-client-metrics", "--list")
    tool("kafka-client-metrics", "--delete", "--name", name)
    assert name not in tool("kafka-client-metrics", "--list")


@check
def features_and_the_quorum_are_described():
    features = tool("kafka-features", "describe")
    assert re.search(r"transaction\.version\s+SupportedMinVersion: 0\s+SupportedMaxVersion: 2\s+FinalizedVersionLevel: 2", features), features
    of_shares = lambda: re.search(r"share\.version\s.*FinalizedVersionLevel: (\d)", tool("kafka-features", "describe")).group(1)
    tool("kafka-features", "downgrade", "--feature", "share.version=0")
    equal(of_shares(), "0")
    tool("kafka-features", "upgrade", "--feature", "share.version=1")
    equal(of_shares(), "1")
    assert re.search(r"LeaderId:\s+1\b", tool("kafka-metadata-quorum", "describe", "--status"))


@check
def the_brokers_own_topics_are_read_by_kafkas_formatters():
    topic, group, identity = create(fresh("formatted")), fresh("group"), fresh("id")
    tool("kafka-producer-perf-test", "--topic", topic, "--num-records", "3", "--record-size", "10", "--throughput", "-1", "--transactional-id", identity)
    equal(len(tool("kafka-console-consumer", "--topic", topic, "--group", group, "--from-beginning", "--max-messages", "3").split()), 3)
    offset = formatted("__consumer_offsets", "OffsetsMessageFormatter", lambda key: key.get("group") == group)
    # The transaction's marker has an offset, too.
    equal((offset["key"]["data"]["topic"], offset["value"]["data"]["offset"]), (topic, 4))
    member = formatted("__consumer_offsets", "GroupMetadataMessageFormatter", lambda key: key.get("group") == group)
    equal(member["value"]["data"]["protocolType"], "consumer")
    state = formatted("__transaction_state", "TransactionLogMessageFormatter", lambda key: key.get("transactionalId") == identity)
    equal(state["value"]["data"]["transactionTimeoutMs"], 60000)


def formatted(topic, formatter, wanted):
    """The first record of a topic of the broker's own that has such a key, as one of Kafka's formatters prints it: without line ends."""
    printed = tool("kafka-console-consumer", "--topic", topic, "--from-beginning", "--timeout-ms", "3000", "--formatter", f"org.apache.kafka.tools.consumer.{formatter}")
    while printed:
        record, end = json.JSONDecoder().raw_decode(printed)
        if wanted(record["key"]["data"]):
            return record
        printed = printed[end:].lstrip()
    raise AssertionError(f"{formatter} prints no such record")


@for_each_codec
def console_producer_and_consumer_exchange_keys_and_headers(codec):
    topic = create(fresh(f"console-{codec}"))
    lines = "".join(f"h1:{n},h2:ü\tkey-{n}\twert {n} 😀\n" for n in range(100))
    tool("kafka-console-producer", "--topic", topic, "--compression-codec", codec, "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true", given=lines)
    read = tool("kafka-console-consumer", "--topic", topic, "--from-beginning", "--max-messages", "100", "--formatter-property", "print.key=true",
                "--formatter-property", "print.headers=true", "--formatter-property", "print.offset=true")
    equal(read, "".join(f"Offset:{n}\t{line}\n" for n, line in enumerate(lines.splitlines())))


@check
def console_consumer_reads_from_an_offset():
    topic = create(fresh("offset"))
    tool("kafka-console-producer", "--topic", topic, given="0\n1\n2\n3\n")
    equal(tool("kafka-console-consumer", "--topic", topic, "--partition", "0", "--offset", "2", "--max-messages", "2"), "2\n3\n")


@check
def offsets_are_found_by_place_and_time():
    topic = create(fresh("offsets"))
    tool("kafka-console-producer", "--topic", topic, given="0\n1\n2\n")
    for time, offset in (("earliest", "0"), ("latest", "3"), ("-1", "3"), (str(START), "0")):
        equal(tool("kafka-get-offsets", "--topic", topic, "--time", time), f"{topic}:0:{offset}\n")


def as_member(group, protocol):
    """What tells a consumer to read in a group by one of the two protocols."""
    return "--group", group, "--command-property", f"group.protocol={protocol}"


@for_each(["classic", "consumer"])
def group_is_listed_described_with_lag_reset_and_deleted(protocol):
    topic, group = create(fresh("grouped")), fresh("group")
    tool("kafka-console-producer", "--topic", topic, given="".join(f"{n}\n" for n in range(10)))
    read = lambda count, *how: tool("kafka-console-consumer", "--topic", topic, *as_member(group, protocol), "--max-messages", str(count), *how)
    equal(read(4, "--from-beginning"), "0\n1\n2\n3\n")
    assert group in tool("kafka-consumer-groups", "--list").split()
    assert re.search(rf"{group} +{protocol} +consumer", tool("kafka-groups", "--list", "--group-type", protocol).lower())
    assert re.search(rf"{group} +{protocol}", tool("kafka-consumer-groups", "--list", "--type", protocol).lower())
    shown, = rows(tool("kafka-consumer-groups", "--describe", "--group", group))
    equal([shown[name] for name in ("TOPIC", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG")], [topic, "4", "10", "6"])
    reset = lambda *how: tool("kafka-consumer-groups", "--reset-offsets", "--group", group, "--topic", topic, "--execute", *how)
    assert re.search(rf"{topic}\s+0\s+1\b", reset("--to-offset", "1"))
    equal(read(2), "1\n2\n")
    assert re.search(rf"{topic}\s+0\s+10\b", reset("--to-latest"))
    tool("kafka-consumer-groups", "--delete-offsets", "--group", group, "--topic", topic)
    tool("kafka-consumer-groups", "--delete", "--group", group)
    assert group not in tool("kafka-consumer-groups", "--list").split()


@for_each(["classic", "consumer"])
def members_of_a_group_are_shown_while_they_read(protocol):
    topic, group = create(fresh("members"), 2), fresh("group")
    reader = start("kafka-console-consumer", "--bootstrap-server", ADDRESS, "--topic", topic, *as_member(group, protocol), "--from-beginning")
    try:
        tool("kafka-console-producer", "--topic", topic, given="hello\n")
        equal(reader.stdout.readline(), "hello\n")
        member, = rows(tool("kafka-consumer-groups", "--describe", "--group", group, "--members"))
        equal(member["#PARTITIONS"], "2")
        state = tool("kafka-consumer-groups", "--describe", "--group", group, "--state")
        assert "Stable" in state and {"classic": "range", "consumer": "uniform"}[protocol] in state, state
        assert "GroupNotEmptyException" in tool("kafka-consumer-groups", "--delete", "--group", group)
    finally:
        reader.terminate()
        reader.wait(20)


@check
def share_group_reads_a_queue_is_described_reset_and_deleted():
    topic, group = create(fresh("queue")), fresh("workers")
    tool("kafka-configs", "--alter", "--entity-type", "groups", "--entity-name", group, "--add-config", "share.auto.offset.reset=earliest")
    tool("kafka-console-producer", "--topic", topic, given="0\n1\n2\n3\n")
    read = lambda count: tool("kafka-console-share-consumer", "--topic", topic, "--group", group, "--max-messages", str(count)).split()
    equal(read(4), ["0", "1", "2", "3"])
    is_empty = lambda: "Empty" in tool("kafka-share-groups", "--describe", "--group", group, "--state")
    wait_until(is_empty, "an empty group")
    assert group in tool("kafka-share-groups", "--list").split()
    assert re.search(rf"{group} +share", tool("kafka-groups", "--list", "--group-type", "share").lower())
    left = lambda: rows(tool("kafka-share-groups", "--describe", "--group", group, "--offsets"))[0]["LAG"]
    equal(left(), "0")
    state = formatted("__share_group_state", "group.share.ShareGroupStateMessageFormatter", lambda key: key["groupId"] == group)
    equal((state["key"]["data"]["partition"], state["value"]["data"]["leaderEpoch"]), (0, 0))
    tool("kafka-share-groups", "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute")
    equal(left(), "4")
    equal(read(4), ["0", "1", "2", "3"])
    wait_until(is_empty, "an empty group")
    tool("kafka-share-groups", "--delete-offsets", "--group", group, "--topic", topic)
    tool("kafka-share-groups", "--delete", "--group", group)
    assert group not in tool("kafka-share-groups", "--list").split()


@check
def records_are_deleted():
    topic = create(fresh("deleted"))
    tool("kafka-console-producer", "--topic", topic, given="0\n1\n2\n")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 2}]}, file)
        file.flush()
        assert "low_watermark: 2" in tool("kafka-delete-records", "--offset-json-file", file.name)
    equal(tool("kafka-console-consumer", "--topic", topic, "--from-beginning", "--max-messages", "1"), "2\n")


@check
def a_partition_stays_where_it_is():
    topic = create(fresh("stays"))
    elected = tool("kafka-leader-election", "--election-type", "preferred", "--topic", topic, "--partition", "0")
    assert f"Valid replica already elected for partitions {topic}-0" in elected, elected
    assert "No partition reassignments found." in tool("kafka-reassign-partitions", "--list")


@check
def access_control_is_told_to_be_off():
    run("kafka-acls", "--bootstrap-server", ADDRESS, "--list", status=1)


@check
def cluster_versions_and_log_dirs_are_told():
    assert "Cluster ID:" in run("kafka-cluster", "cluster-id", "--bootstrap-server", ADDRESS)
    versions = tool("kafka-broker-api-versions")
    assert re.search(r"Produce\(0\): 0 to \d+", versions) and "UNKNOWN" not in versions, versions
    topic = create(fresh("dirs"))
    told = json.loads(tool("kafka-log-dirs", "--describe", "--topic-list", topic).splitlines()[-1])
    equal([p["partition"] for d in told["brokers"][0]["logDirs"] for p in d["partitions"]], [f"{topic}-0"])


@check
def perf_tests_produce_and_consume():
    topic, count = create(fresh("perf"), 2), 50_000
    told = tool("kafka-producer-perf-test", "--topic", topic, "--num-records", str(count), "--record-size", "100", "--throughput", "-1",
                "--command-property", "acks=all")
    assert told.splitlines()[-1].startswith(f"{count} records sent"), told
    told = tool("kafka-consumer-perf-test", "--topic", topic, "--num-records", str(count), "--timeout", "30000")
    assert float(told.splitlines()[-1].split(", ")[4]) >= count, told


@for_each(["classic", "consumer"])
def verifiable_consumer_sees_what_verifiable_producer_wrote(protocol):
    topic, count = create(fresh("verified"), 2), 5000
    events = lambda text: [json.loads(line) for line in text.splitlines()]
    written = events(tool("kafka-verifiable-producer", "--topic", topic, "--max-messages", str(count), "--acks", "-1"))
    equal(sum(event["name"] == "producer_send_success" for event in written), count)
    read = events(tool("kafka-verifiable-consumer", "--topic", topic, "--group-id", fresh("group"), "--group-protocol", protocol, "--max-messages", str(count),
                       "--reset-policy", "earliest", "--verbose"))
    equal(sorted(int(e["value"]) for e in read if e["name"] == "record_data"), list(range(count)))
    assert all(e["success"] for e in read if e["name"] == "offsets_committed")


@check
def verifiable_producer_survives_a_broker_restart():
    topic = create(fresh("restarted"))
    with tempfile.NamedTemporaryFile("w", suffix=".properties") as conf:
        conf.write("enable.idempotence=true\nretries=2147483647\n")
        conf.flush()
        writer = start("kafka-verifiable-producer", "--bootstrap-server", ADDRESS, "--topic", topic, "--throughput", "1000", "--acks", "-1", "--command-config", conf.name)
        sent = []
        try:
            for line in writer.stdout:
                sent.append(json.loads(line))
                if len(sent) == 500:
                    for _ in numbers_across_a_restart():
                        pass
                elif len(sent) == 2000:
                    writer.terminate()
            writer.wait(30)
        finally:
            writer.kill()
    equal([e for e in sent if e["name"] == "producer_send_error"], [])
    acknowledged = [int(e["value"]) for e in sent if e["name"] == "producer_send_success"]
    read = tool("kafka-console-consumer", "--topic", topic, "--from-beginning", "--max-messages", str(len(acknowledged)))
    equal([int(line) for line in read.split()], acknowledged)


@check
def transactions_are_listed_described_found_hanging_and_aborted():
    topic, identity = create(fresh("hanging")), fresh("id")
    # It writes for half a minute into one transaction, and is killed before that.
    writer = start("kafka-producer-perf-test", "--bootstrap-server", ADDRESS, "--topic", topic, "--transactional-id", identity, "--num-records", "30000",
                   "--throughput", "1000", "--record-size", "10", "--transaction-duration-ms", "60000")
    try:
        wait_until(lambda: (state := open_transaction(identity)) and topic in state, "an open transaction", 60)
    finally:
        writer.kill()
        writer.wait(20)
    listed = [row for row in rows(tool("kafka-transactions", "list")) if row["TransactionalId"] == identity]
    equal([row["TransactionState"] for row in listed], ["Ongoing"])
    equal([row["CurrentTransactionStartOffset"] for row in rows(tool("kafka-transactions", "describe-producers", "--topic", topic, "--partition", "0"))], ["0"])
    # None is as old as the coordinator's longest timeout: what it knows does not hang.
    assert topic not in tool("kafka-transactions", "find-hanging", "--broker-id", "1")
    tool("kafka-transactions", "abort", "--topic", topic, "--partition", "0", "--start-offset", "0")
    equal([row["CurrentTransactionStartOffset"] for row in rows(tool("kafka-transactions", "describe-producers", "--topic", topic, "--partition", "0"))], ["None"])
    equal(committed(topic, "none of it"), ["none of it"])


def open_transaction(identity):
    """What is told of a transaction that is open; empty: it is not, or nobody knows the id yet."""
    process = start("kafka-transactions", "--bootstrap-server", ADDRESS, "describe", "--transactional-id", identity)
    out, _ = process.communicate("", 90)
    return out if "Ongoing" in out else ""


def committed(topic, end):
    """What was committed before a last message that is written now."""
    tool("kafka-console-producer", "--topic", topic, given=end + "\n")
    reader = start("kafka-console-consumer", "--bootstrap-server", ADDRESS, "--topic", topic, "--from-beginning", "--isolation-level", "read_committed")
    try:
        lines = []
        while not lines or lines[-1] != end:
            lines.append(reader.stdout.readline().rstrip("\n"))
        return lines
    finally:
        reader.kill()
        reader.wait(20)


@check
def copier_copies_each_message_once_though_it_aborts_at_random_and_the_broker_is_restarted():
    source, target, count = create(fresh("source")), create(fresh("target")), 20_000
    tool("kafka-console-producer", "--topic", source, given="".join(f"{n}\n" for n in range(count)))
    copier = start("transactional-message-copier", "--broker-list", ADDRESS, "--input-topic", source, "--input-partition", "0", "--output-topic", target,
                   "--transactional-id", fresh("id"), "--consumer-group", fresh("group"), "--transaction-size", "50", "--max-messages", str(count),
                   "--enable-random-aborts", "--use-group-metadata")
    told = []
    try:
        for line in copier.stdout:
            told.append(line)
            if len(told) == 20:
                for _ in numbers_across_a_restart():
                    pass
        equal(copier.wait(60), 0)
    finally:
        copier.kill()
    equal(committed(target, "end"), [f"{n}" for n in range(count)] + ["end"])


if __name__ == "__main__":
    main(f"Apache Kafka's tools {KAFKA}")
