"""confluent-kafka, the Python client on librdkafka."""
import itertools, os, subprocess, sys, time

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, ConsumerGroupTopicPartitions, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType)

from check import ADDRESS, RECORDS, START, check, equal, for_each_codec, fresh, main, numbers_across_a_restart, restart_broker, wait_until

CONF = {"bootstrap.servers": ADDRESS}
NEWER = {"group.protocol": "consumer"}
ADMIN = AdminClient(CONF)


def result(futures):
    """The answers to an admin call, by name; the first refusal is raised."""
    return {name: future.result(30) for name, future in futures.items()}


def create(topic, partitions=1, **config):
    result(ADMIN.create_topics([NewTopic(topic, partitions, config=config)]))
    return topic


def produce(topic, records, partition=0, **conf):
    producer, errors = Producer({**CONF, **conf}), []
    for key, value, headers, timestamp in records:
        producer.produce(topic, value, key, partition, timestamp=timestamp, headers=headers, on_delivery=lambda e, m: e and errors.append(e))
        producer.poll(0)
    equal(producer.flush(60), 0)
    equal(errors, [])


def plain(*values):
    """Records with nothing but a value, stamped a second apart."""
    return [(None, value, [], START + 1000 * n) for n, value in enumerate(values)]


def consumer(group=None, **conf):
    # Of the newer protocol the broker says how long a session is, and how often a member is heard of.
    times = {} if "group.protocol" in conf else {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
    return Consumer({**CONF, "group.id": group or fresh("none"), "auto.offset.reset": "earliest", "enable.auto.commit": False, **times, **conf})


def poll(reader):
    """A list of one message, or of none: a message with an empty value is false."""
    message = reader.poll(0.2)
    if message is None:
        return []
    assert not message.error(), message.error()
    return [message]


def take(reader, count):
    messages = []
    wait_until(lambda: messages.extend(poll(reader)) or len(messages) >= count, f"{count} messages")
    return messages


def read_from(topic, offset, count):
    reader = consumer()
    reader.assign([TopicPartition(topic, 0, offset)])
    messages = take(reader, count)
    reader.close()
    return messages


@check
def creates_lists_and_describes_topics():
    topic = create(fresh("made"), 3)
    equal(sorted(ADMIN.list_topics(topic, 10).topics[topic].partitions), [0, 1, 2])
    described = result(ADMIN.describe_topics(TopicCollection([topic])))[topic]
    equal([(p.id, p.leader.id, [n.id for n in p.replicas], [n.id for n in p.isr]) for p in described.partitions], [(p, 1, [1], [1]) for p in range(3)])
    try:
        create(topic)
        raise AssertionError("created twice")
    except confluent_kafka.KafkaException as refusal:
        equal(refusal.args[0].name(), "TOPIC_ALREADY_EXISTS")


@check
def describes_the_cluster():
    cluster = ADMIN.describe_cluster().result(10)
    equal([(n.id, f"{n.host}:{n.port}") for n in cluster.nodes], [(1, ADDRESS)])
    equal(cluster.controller.id, 1)
    assert cluster.cluster_id


@for_each_codec
def keeps_keys_headers_and_timestamps(codec):
    topic = create(fresh(f"codec-{codec}"))
    produce(topic, RECORDS * 50, **{"compression.type": codec, "linger.ms": 50})
    got = [(m.key(), m.value(), m.headers() or [], m.timestamp()[1]) for m in read_from(topic, OFFSET_BEGINNING, 300)]
    equal(got, RECORDS * 50)


@check
def compresses_as_the_topic_asks():
    topic = create(fresh("lz4-topic"), **{"compression.type": "lz4"})
    produce(topic, RECORDS)
    equal([(m.key(), m.value()) for m in read_from(topic, OFFSET_BEGINNING, 6)], [r[:2] for r in RECORDS])


@check
def broker_stamps_a_log_append_time_topic():
    topic = create(fresh("stamped"), **{"message.timestamp.type": "LogAppendTime"})
    produce(topic, RECORDS[:1])
    kind, stamp = read_from(topic, OFFSET_BEGINNING, 1)[0].timestamp()
    equal(kind, confluent_kafka.TIMESTAMP_LOG_APPEND_TIME)
    assert abs(stamp - time.time() * 1000) < 60_000, stamp


@check
def reads_from_beginning_end_and_time():
    topic = create(fresh("places"))
    produce(topic, plain(b"0", b"1", b"2", b"3"))
    equal([m.offset() for m in read_from(topic, OFFSET_BEGINNING, 4)], [0, 1, 2, 3])
    reader = consumer()
    times = [START, START + 1001, START + 3000, START + 3001]
    equal([reader.offsets_for_times([TopicPartition(topic, 0, time)], 10)[0].offset for time in times], [0, 2, 3, OFFSET_END])
    equal(reader.get_watermark_offsets(TopicPartition(topic, 0), 10), (0, 4))
    equal(ADMIN.list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()})[TopicPartition(topic, 0)].result(10).offset, 4)
    reader.close()
    equal([m.value() for m in read_from(topic, 2, 2)], [b"2", b"3"])


@check
def reader_at_the_end_sees_only_what_comes():
    topic = create(fresh("tail"))
    produce(topic, plain(b"before"))
    reader = consumer(**{"enable.partition.eof": True})
    reader.assign([TopicPartition(topic, 0, OFFSET_END)])
    at_end = wait_until(lambda: reader.poll(0.2), "the end of the partition")
    equal(at_end.error().code(), confluent_kafka.KafkaError._PARTITION_EOF)
    produce(topic, plain(b"after"))
    equal(wait_until(lambda: reader.poll(0.2), "the new message").value(), b"after")
    reader.close()


class Member:
    """A consumer in a group that knows its partitions."""
    def __init__(self, topic, group, **conf):
        self.owned, self.messages = set(), []
        self.reader = consumer(group, **conf)
        self.reader.subscribe([topic], on_assign=lambda _, more: self.owned.update(p.partition for p in more),
                              on_revoke=lambda _, less: self.owned.difference_update(p.partition for p in less))

    def poll(self):
        self.messages += poll(self.reader)


def settle(members, shares):
    """Polls all members until their partitions are spread in these shares and none is owned twice."""
    def settled():
        for member in members:
            member.poll()
        owned = [p for member in members for p in member.owned]
        return len(owned) == len(set(owned)) and sorted(len(m.owned) for m in members) == shares
    wait_until(settled, f"shares {shares}, not {[m.owned for m in members]}")


def rebalances(**conf):
    topic, group = create(fresh("shared"), 4), fresh("group")
    first = Member(topic, group, **conf)
    settle([first], [4])
    second = Member(topic, group, **conf)
    settle([first, second], [2, 2])
    for partition in range(4):
        produce(topic, plain(b"%d" % partition), partition)
    def all_came():
        first.poll(), second.poll()
        return len(first.messages) + len(second.messages) == 4
    wait_until(all_came, "one message of each partition")
    second.reader.close()
    settle([first], [4])
    first.reader.close()


@check
def group_rebalances_when_a_member_joins_and_leaves():
    rebalances(**{"partition.assignment.strategy": "range"})


@check
def group_rebalances_cooperatively():
    rebalances(**{"partition.assignment.strategy": "cooperative-sticky"})


@check
def group_of_the_newer_protocol_rebalances():
    rebalances(**NEWER)


@check
def group_of_the_newer_protocol_goes_on_after_a_restart_of_the_broker():
    topic, group = create(fresh("shared"), 4), fresh("group")
    members = [Member(topic, group, **NEWER) for _ in range(2)]
    settle(members, [2, 2])
    restart_broker()
    produce(topic, plain(b"after"))
    def came():
        for member in members:
            member.poll()
        return any(member.messages for member in members)
    wait_until(came, "the record that was written after the restart")
    settle(members, [2, 2])
    for member in members:
        member.reader.close()


@check
def static_member_keeps_its_partitions():
    static()


@check
def static_member_of_the_newer_protocol_keeps_its_partitions():
    static(**NEWER)


def static(**conf):
    topic, group = create(fresh("static"), 2), fresh("group")
    members = [Member(topic, group, **{"group.instance.id": name}, **conf) for name in ("a", "b")]
    settle(members, [1, 1])
    before, kept = members[1].owned.copy(), members[0].owned.copy()
    members[1].reader.close()
    members[1] = Member(topic, group, **{"group.instance.id": "b"}, **conf)
    settle(members, [1, 1])
    equal((members[0].owned, members[1].owned), (kept, before))
    for member in members:
        member.reader.close()


@check
def group_resumes_at_committed_offset_and_lag_is_the_rest():
    topic, group = create(fresh("resumed")), fresh("group")
    partition = TopicPartition(topic, 0)
    produce(topic, plain(*(b"%d" % n for n in range(10))))
    reader = consumer(group)
    reader.subscribe([topic])
    take(reader, 4)
    reader.commit(offsets=[TopicPartition(topic, 0, 4, metadata="half way")], asynchronous=False)
    reader.close()
    committed = result(ADMIN.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [partition])]))[group].topic_partitions[0]
    equal((committed.offset, committed.metadata), (4, "half way"))
    end = ADMIN.list_offsets({partition: OffsetSpec.latest()})[partition].result(10).offset
    equal(end - committed.offset, 6)
    reader = consumer(group)
    reader.subscribe([topic])
    equal([m.offset() for m in take(reader, 6)], [4, 5, 6, 7, 8, 9])
    reader.close()


@check
def admin_lists_describes_resets_and_deletes_groups():
    topic, group = create(fresh("administered"), 2), fresh("group")
    member = Member(topic, group)
    settle([member], [2])
    assert group in [g.group_id for g in ADMIN.list_consumer_groups().result(10).valid]
    described = result(ADMIN.describe_consumer_groups([group]))[group]
    equal((described.state.name, len(described.members), described.coordinator.id), ("STABLE", 1, 1))
    equal(sorted(p.partition for p in described.members[0].assignment.topic_partitions), [0, 1])
    try:
        result(ADMIN.delete_consumer_groups([group]))
        raise AssertionError("deleted with a member in it")
    except confluent_kafka.KafkaException as refusal:
        equal(refusal.args[0].name(), "NON_EMPTY_GROUP")
    member.reader.close()
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 7)])
    result(ADMIN.alter_consumer_group_offsets([wanted]))
    equal(result(ADMIN.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group].topic_partitions[0].offset, 7)
    result(ADMIN.delete_consumer_groups([group]))
    assert group not in [g.group_id for g in ADMIN.list_consumer_groups().result(10).valid]


@check
def admin_reads_and_alters_settings():
    topic = create(fresh("settings"), **{"retention.ms": "3600000"})
    def settings():
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return {name: entry.value for name, entry in ADMIN.describe_configs([resource])[resource].result(10).items()}
    equal((settings()["retention.ms"], settings()["cleanup.policy"]), ("3600000", "delete"))
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)])
    ADMIN.incremental_alter_configs([change])[change].result(10)
    wait_until(lambda: settings()["cleanup.policy"] == "compact" or time.sleep(0.05), "the new policy")
    equal(settings()["retention.ms"], "604800000")
    bad = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)])
    try:
        ADMIN.incremental_alter_configs([bad])[bad].result(10)
        raise AssertionError("retention.ms took a word")
    except confluent_kafka.KafkaException as refusal:
        equal(refusal.args[0].name(), "INVALID_CONFIG")
    broker = ConfigResource(ResourceType.BROKER, "1")
    assert len(ADMIN.describe_configs([broker])[broker].result(10)) > 5


@check
def admin_adds_partitions_deletes_records_and_topics():
    topic = create(fresh("changed"))
    result(ADMIN.create_partitions([NewPartitions(topic, 3)]))
    wait_until(lambda: len(ADMIN.list_topics(topic, 10).topics[topic].partitions) == 3 or time.sleep(0.05), "three partitions")
    produce(topic, plain(b"0", b"1", b"2"))
    cut = TopicPartition(topic, 0, 2)
    equal(ADMIN.delete_records([cut])[cut].result(10).low_watermark, 2)
    equal([m.value() for m in read_from(topic, OFFSET_BEGINNING, 1)], [b"2"])
    result(ADMIN.delete_topics([topic]))
    wait_until(lambda: topic not in ADMIN.list_topics(timeout=10).topics or time.sleep(0.05), "the topic's end")


@check
def refuses_a_message_that_is_too_large():
    topic = create(fresh("large"), **{"max.message.bytes": "2000"})
    errors, producer = [], Producer({**CONF, "message.max.bytes": 1_000_000})
    producer.produce(topic, b"x" * 5000, on_delivery=lambda error, _: errors.append(error and error.name()))
    producer.flush(30)
    equal(errors, ["MSG_SIZE_TOO_LARGE"])


@check
def idempotent_producer_survives_a_broker_restart():
    topic, errors = create(fresh("idempotent")), []
    producer = Producer({**CONF, "enable.idempotence": True, "linger.ms": 1})
    for number in numbers_across_a_restart():
        producer.produce(topic, b"%d" % number, partition=0, on_delivery=lambda e, m: e and errors.append(e))
        producer.poll(0)
    equal((producer.flush(90), errors), (0, []))
    equal([m.value() for m in read_from(topic, OFFSET_BEGINNING, number + 1)], [b"%d" % n for n in range(number + 1)])


def transactional(identity):
    """A transactional producer that has fenced whoever had its id."""
    producer = Producer({**CONF, "transactional.id": identity, "linger.ms": 0})
    producer.init_transactions(30)
    return producer


def send(producer, topic, partition, *values):
    """Sends these values, and waits until the broker has them."""
    errors = []
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: error and errors.append(error))
    equal(producer.flush(30), 0)
    if errors:
        raise confluent_kafka.KafkaException(errors[0])


def read_to_the_end(topic, partition, isolation):
    """What a reader at this isolation level finds before the end of the partition."""
    reader, values = consumer(**{"isolation.level": isolation, "enable.partition.eof": True}), []
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])

    def at_end():
        message = reader.poll(0.2)
        if message is not None and not message.error():
            values.append(message.value())
        return message is not None and message.error() and message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
    wait_until(at_end, "the end of the partition")
    reader.close()
    return values


def committed(topic, partition=0):
    return read_to_the_end(topic, partition, "read_committed")


@check
def transaction_is_seen_whole_or_not_at_all():
    topic = create(fresh("transactions"), 2)
    producer, seen = transactional(fresh("id")), []
    for outcome in (b"commit", b"abort", b"commit"):
        producer.begin_transaction()
        for partition in (0, 1):
            send(producer, topic, partition, outcome, b"more")
        equal(read_to_the_end(topic, 1, "read_uncommitted")[-2:], [outcome, b"more"])
        equal([committed(topic, partition) for partition in (0, 1)], [seen, seen])
        producer.commit_transaction(30) if outcome == b"commit" else producer.abort_transaction(30)
        seen += [b"commit", b"more"] if outcome == b"commit" else []
        # Kafka writes its markers after it has answered.
        wait_until(lambda: [committed(topic, partition) for partition in (0, 1)] == [seen, seen], "the end of the transaction")
    for partition in (0, 1):
        equal(committed(topic, partition), [b"commit", b"more"] * 2)
        equal(read_to_the_end(topic, partition, "read_uncommitted"), [b"commit", b"more", b"abort", b"more", b"commit", b"more"])


@check
def offsets_are_committed_with_the_records_that_were_made_of_them():
    source, target, group, identity = create(fresh("in")), create(fresh("out")), fresh("group"), fresh("id")
    produce(source, plain(*(b"%d" % n for n in range(10))))
    # Each try begins where the last one that was committed ended.
    for commits in (False, True, True):
        reader, producer = consumer(group, **{"isolation.level": "read_committed"}), transactional(identity)
        reader.subscribe([source])
        taken = take(reader, 5)[:5]
        producer.begin_transaction()
        send(producer, target, 0, *(2 * message.value() for message in taken))
        producer.send_offsets_to_transaction([TopicPartition(source, 0, taken[-1].offset() + 1)], reader.consumer_group_metadata(), 30)
        producer.commit_transaction(30) if commits else producer.abort_transaction(30)
        reader.close()
    equal(committed(target), [b"%d%d" % (n, n) for n in range(10)])
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(source, 0)])
    equal(result(ADMIN.list_consumer_group_offsets([asked]))[group].topic_partitions[0].offset, 10)


@check
def second_producer_fences_the_first():
    topic, identity = create(fresh("fenced")), fresh("id")
    first = transactional(identity)
    first.begin_transaction()
    send(first, topic, 0, b"of the first")
    second = transactional(identity)
    second.begin_transaction()
    send(second, topic, 0, b"of the second")
    try:
        first.commit_transaction(30)
        raise AssertionError("it was not fenced")
    except confluent_kafka.KafkaException as refusal:
        assert refusal.args[0].fatal() and refusal.args[0].name() in ("_FENCED", "INVALID_PRODUCER_EPOCH"), refusal
    second.commit_transaction(30)
    equal(committed(topic), [b"of the second"])


def patiently(action):
    """Calls it again while librdkafka says that this is safe."""
    for _ in range(20):
        try:
            return action(10)
        except confluent_kafka.KafkaException as failure:
            if not failure.args[0].retriable():
                raise
    raise AssertionError("it never succeeded")


@check
def transactions_survive_a_broker_restart():
    topic, producer, values = create(fresh("restarted"), 2), transactional(fresh("id")), []
    for number in itertools.islice(numbers_across_a_restart(), 0, None, 20):
        producer.begin_transaction()
        for partition in (0, 1):
            producer.produce(topic, b"%d" % number, partition=partition)
        patiently(producer.commit_transaction)
        values.append(b"%d" % number)
    for partition in (0, 1):
        equal(committed(topic, partition), values)


class Worker:
    """A process that copies one topic into another, each batch and its offsets in a transaction."""
    def __init__(self, *arguments):
        self.arguments = arguments
        self.start()

    def start(self):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "copy", *self.arguments, ADDRESS], stderr=sys.stderr)

    def kill(self):
        self.process.kill()
        self.process.wait()


def copy(source, target, group, identity):
    """What a worker does, until an error ends it: whoever starts it again goes on where it committed last."""
    reader, producer = consumer(group, **{"isolation.level": "read_committed", "group.instance.id": identity}), transactional(identity)
    reader.subscribe([source])
    while True:
        if messages := reader.consume(20, 0.2):
            producer.begin_transaction()
            for message in messages:
                assert not message.error(), message.error()
                producer.produce(target, message.value(), partition=message.partition())
            producer.send_offsets_to_transaction(reader.position(reader.assignment()), reader.consumer_group_metadata(), 30)
            producer.commit_transaction(30)


@check
def workers_copy_each_message_once_though_they_and_the_broker_are_killed():
    source, target, group, partitions, count = create(fresh("source"), 3), create(fresh("target"), 3), fresh("group"), range(3), 5000
    for partition in partitions:
        produce(source, plain(*(b"%d" % n for n in range(count))), partition)
    workers = [Worker(source, target, group, fresh("worker")) for _ in partitions]
    watcher = consumer(**{"isolation.level": "read_committed"})

    def copied():
        """Where the partitions end, together; -1 while the broker is away."""
        try:
            return sum(watcher.get_watermark_offsets(TopicPartition(target, partition), 10)[1] for partition in partitions)
        except confluent_kafka.KafkaException:
            return -1

    def go_on():
        """Starts those again that an error has ended."""
        for worker in workers:
            if worker.process.poll() is not None:
                worker.start()
        time.sleep(0.05)
    try:
        # Each is killed when more has been copied than before, so that there is something to lose.
        for victim in [*workers, None, *workers]:
            before = copied()
            wait_until(lambda: go_on() or copied() > before, "more is copied", 60)
            victim.kill() if victim else restart_broker()
        wait_until(lambda: go_on() or all(len(committed(target, partition)) >= count for partition in partitions), "all is copied", 120)
    finally:
        for worker in workers:
            worker.kill()
        watcher.close()
    for partition in partitions:
        equal(committed(target, partition), [b"%d" % n for n in range(count)])


@check
def order_example_produces_and_consumes():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "examples", "confluent")
    topic = fresh("orders")
    run = lambda program, *arguments: subprocess.run([sys.executable, os.path.join(folder, program), "--broker", ADDRESS, "--topic", topic, *arguments],
                                                     capture_output=True, text=True, timeout=60)
    placed = run("producer.py", "--count", "3")
    equal((placed.returncode, placed.stdout.count("\n"), placed.stderr), (0, 3, ""))
    seen = run("consumer.py", "--group", fresh("kitchen"), "--count", "3")
    equal((seen.returncode, seen.stdout.count("placed"), seen.stderr), (0, 3, ""))


if __name__ == "__main__" and sys.argv[1] == "copy":
    copy(*sys.argv[2:-1])
elif __name__ == "__main__":
    main(f"confluent-kafka {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}")
