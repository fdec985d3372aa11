"""kafka-python, a client in Python alone."""
import threading, time

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import AbortTransactionSpec, ConfigResource, OffsetSpec
from kafka.errors import InvalidProducerEpochError, MessageSizeTooLargeError, ProducerFencedError, TopicAlreadyExistsError

import check as checks
from check import ADDRESS, START, check, equal, for_each_codec, fresh, main, numbers_across_a_restart, wait_until

# This client writes no null headers.
RECORDS = [(key, value, [h for h in headers if h[1] is not None], timestamp) for key, value, headers, timestamp in checks.RECORDS]
ADMIN = KafkaAdminClient(bootstrap_servers=ADDRESS)


def create(topic, partitions=1, **configs):
    ADMIN.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}}, wait_for_metadata=True)
    return topic


def produce(topic, records, partition=0, **conf):
    with KafkaProducer(bootstrap_servers=ADDRESS, **conf) as producer:
        sent = [producer.send(topic, value, key, headers, partition, timestamp) for key, value, headers, timestamp in records]
        producer.flush(60)
        return [future.get(1) for future in sent]


def plain(*values):
    """Records with nothing but a value, stamped a second apart."""
    return [(None, value, [], START + 1000 * n) for n, value in enumerate(values)]


def consumer(*topics, group=None, **conf):
    reader = KafkaConsumer(bootstrap_servers=ADDRESS, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
                           session_timeout_ms=6000, heartbeat_interval_ms=500, **conf)
    if topics:
        # It forgets a subscription that comes while its first Metadata request is under way.
        reader.topics()
        reader.subscribe(topics)
    return reader


def polled(reader):
    return [message for messages in reader.poll(timeout_ms=200).values() for message in messages]


def take(reader, count):
    messages = []
    wait_until(lambda: messages.extend(polled(reader)) or len(messages) >= count, f"{count} messages")
    return messages


def read_all(topic, count):
    with consumer() as reader:
        reader.assign([TopicPartition(topic, 0)])
        reader.seek_to_beginning()
        return take(reader, count)


def refused(error, action):
    try:
        action()
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


@check
def creates_lists_and_describes_topics():
    topic = create(fresh("made"), 3)
    assert topic in ADMIN.list_topics()
    described, = ADMIN.describe_topics([topic])
    partitions = sorted((p["partition_index"], p["leader_id"], p["replica_nodes"], p["isr_nodes"]) for p in described["partitions"])
    equal(partitions, [(p, 1, [1], [1]) for p in range(3)])
    refused(TopicAlreadyExistsError, lambda: create(topic))


@check
def describes_the_cluster():
    cluster = ADMIN.describe_cluster()
    equal([(b["broker_id"], f"{b['host']}:{b['port']}") for b in cluster["brokers"]], [(1, ADDRESS)])
    equal(cluster["controller_id"], 1)
    assert cluster["cluster_id"]


@for_each_codec
def keeps_keys_headers_and_timestamps(codec):
    topic = create(fresh(f"codec-{codec}"))
    sent = produce(topic, RECORDS * 50, compression_type=None if codec == "none" else codec, linger_ms=50)
    equal([metadata.offset for metadata in sent], list(range(300)))
    got = [(m.key, m.value, list(m.headers), m.timestamp) for m in read_all(topic, 300)]
    equal(got, RECORDS * 50)


@check
def reads_from_beginning_end_and_time():
    topic = create(fresh("places"))
    partition = TopicPartition(topic, 0)
    produce(topic, plain(b"0", b"1", b"2", b"3"))
    with consumer() as reader:
        reader.assign([partition])
        equal((reader.beginning_offsets([partition]), reader.end_offsets([partition])), ({partition: 0}, {partition: 4}))
        found = {time: reader.offsets_for_times({partition: time})[partition] for time in (START, START + 1001, START + 3001)}
        equal([at and (at.offset, at.timestamp) for at in found.values()], [(0, START), (2, START + 2000), None])
        reader.seek(partition, found[START + 1001].offset)
        equal([m.value for m in take(reader, 2)], [b"2", b"3"])
        reader.seek_to_end(partition)
        equal(reader.position(partition), 4)
        produce(topic, plain(b"4"))
        equal([m.value for m in take(reader, 1)], [b"4"])
        equal(reader.highwater(partition), 5)


class Listener(kafka.ConsumerRebalanceListener):
    def __init__(self):
        self.owned = set()

    def on_partitions_revoked(self, revoked):
        self.owned -= {p.partition for p in revoked}

    def on_partitions_assigned(self, assigned):
        self.owned |= {p.partition for p in assigned}


class Member:
    """A member of a group on a thread of its own: this client joins in poll, and waits there."""
    def __init__(self, topic, group):
        self.listener, self.stop, self.values = Listener(), threading.Event(), []
        self.thread = threading.Thread(target=self.run, args=(topic, group))
        self.thread.start()

    def run(self, topic, group):
        with consumer(group=group) as reader:
            reader.subscribe([topic], listener=self.listener)
            while not self.stop.is_set():
                self.values += [message.value for message in polled(reader)]

    def leave(self):
        self.stop.set()
        self.thread.join(30)


def settle(members, shares):
    """Waits until the partitions are spread in these shares and none is owned twice."""
    def settled():
        time.sleep(0.05)
        owned = [p for member in members for p in set(member.listener.owned)]
        return len(owned) == len(set(owned)) == sum(shares) and sorted(len(m.listener.owned) for m in members) == shares
    wait_until(settled, f"shares {shares}")


@check
def group_rebalances_when_a_member_joins_and_leaves():
    topic, group = create(fresh("shared"), 4), fresh("group")
    members = [Member(topic, group)]
    try:
        settle(members, [4])
        members.append(Member(topic, group))
        settle(members, [2, 2])
        for partition in range(4):
            produce(topic, plain(b"%d" % partition), partition)
        wait_until(lambda: time.sleep(0.05) or len(members[0].values) + len(members[1].values) == 4, "one message of each partition")
        members[1].leave()
        settle(members[:1], [4])
    finally:
        for member in members:
            member.leave()


@check
def group_resumes_at_committed_offset_and_lag_is_the_rest():
    topic, group = create(fresh("resumed")), fresh("group")
    partition = TopicPartition(topic, 0)
    produce(topic, plain(*(b"%d" % n for n in range(10))))
    with consumer(topic, group=group) as reader:
        take(reader, 4)
        reader.commit({partition: OffsetAndMetadata(4, "half way", -1)})
    committed = ADMIN.list_group_offsets([group])[group][partition]
    equal((committed.offset, committed.metadata), (4, "half way"))
    end = ADMIN.list_partition_offsets({partition: OffsetSpec.LATEST})[partition].offset
    equal(end - committed.offset, 6)
    with consumer(topic, group=group) as reader:
        equal([m.offset for m in take(reader, 6)], [4, 5, 6, 7, 8, 9])


@check
def admin_lists_describes_resets_and_deletes_groups():
    topic, group = create(fresh("administered"), 2), fresh("group")
    member = Member(topic, group)
    try:
        settle([member], [2])
        assert group in [g["group_id"] for g in ADMIN.list_groups()]
        described = ADMIN.describe_groups([group])[group]
        equal((described["group_state"], len(described["members"])), ("Stable", 1))
        equal(ADMIN.delete_groups([group]), {group: "NonEmptyGroupError"})
    finally:
        member.leave()
    partition = TopicPartition(topic, 0)
    ADMIN.alter_group_offsets(group, {partition: OffsetAndMetadata(7, "", -1)})
    equal(ADMIN.list_group_offsets([group])[group][partition].offset, 7)
    equal(ADMIN.delete_groups([group]), {group: "OK"})
    assert group not in [g["group_id"] for g in ADMIN.list_groups()]


@check
def admin_reads_and_alters_settings():
    topic = create(fresh("settings"), **{"retention.ms": "3600000"})
    def settings():
        return {name: entry["value"] for name, entry in ADMIN.describe_configs([ConfigResource("topic", topic)], config_filter="all")["topic"][topic].items()}
    equal((settings()["retention.ms"], settings()["cleanup.policy"]), ("3600000", "delete"))
    ADMIN.alter_configs([ConfigResource("topic", topic, {"cleanup.policy": "compact", "retention.ms": ("DELETE", None)})], incremental=True)
    wait_until(lambda: time.sleep(0.05) or settings()["cleanup.policy"] == "compact", "the new policy")
    equal(settings()["retention.ms"], "604800000")
    ADMIN.alter_configs([ConfigResource("topic", topic, {"retention.bytes": "5000000"})], incremental=False)
    wait_until(lambda: time.sleep(0.05) or settings()["retention.bytes"] == "5000000", "the new limit")


@check
def admin_adds_partitions_deletes_records_and_topics():
    topic = create(fresh("changed"))
    ADMIN.create_partitions({topic: 3})
    wait_until(lambda: time.sleep(0.05) or len(ADMIN.describe_topics([topic])[0]["partitions"]) == 3, "three partitions")
    produce(topic, plain(b"0", b"1", b"2"))
    partition = TopicPartition(topic, 0)
    equal(ADMIN.delete_records({partition: 2})[partition]["low_watermark"], 2)
    equal([m.value for m in read_all(topic, 1)], [b"2"])
    ADMIN.delete_topics([topic])
    wait_until(lambda: time.sleep(0.05) or topic not in ADMIN.list_topics(), "the topic's end")


@check
def refuses_a_message_that_is_too_large():
    topic = create(fresh("large"), **{"max.message.bytes": "2000"})
    refused(MessageSizeTooLargeError, lambda: produce(topic, plain(b"x" * 5000)))


@check
def idempotent_producer_survives_a_broker_restart():
    topic = create(fresh("idempotent"))
    with KafkaProducer(bootstrap_servers=ADDRESS, enable_idempotence=True, linger_ms=1, delivery_timeout_ms=90_000) as producer:
        sent = [producer.send(topic, b"%d" % number, partition=0) for number in numbers_across_a_restart()]
        producer.flush(90)
        equal([future.get(1).offset for future in sent], list(range(len(sent))))
    equal([m.value for m in read_all(topic, len(sent))], [b"%d" % n for n in range(len(sent))])


def transactional(identity):
    """A transactional producer that has fenced whoever had its id."""
    producer = KafkaProducer(bootstrap_servers=ADDRESS, transactional_id=identity, linger_ms=0, max_block_ms=30_000)
    producer.init_transactions()
    return producer


def send(producer, topic, partition, *values):
    """Sends these values, and waits until the broker has them."""
    for future in [producer.send(topic, value, partition=partition) for value in values]:
        future.get(30)


def read_to_the_end(topic, partition, isolation):
    """What a reader at this isolation level finds before the end of the partition."""
    one = TopicPartition(topic, partition)
    with consumer(isolation_level=isolation) as reader:
        reader.assign([one])
        reader.seek_to_beginning()
        end, values = reader.end_offsets([one])[one], []
        wait_until(lambda: values.extend(message.value for message in polled(reader)) or reader.position(one) >= end, "the end of the partition")
        return values


def committed(topic, partition=0):
    return read_to_the_end(topic, partition, "read_committed")


@check
def transaction_is_seen_whole_or_not_at_all():
    topic = create(fresh("transactions"), 2)
    seen = []
    with transactional(fresh("id")) as producer:
        for outcome in (b"commit", b"abort", b"commit"):
            producer.begin_transaction()
            for partition in (0, 1):
                send(producer, topic, partition, outcome, b"more")
            equal(read_to_the_end(topic, 1, "read_uncommitted")[-2:], [outcome, b"more"])
            equal([committed(topic, partition) for partition in (0, 1)], [seen, seen])
            producer.commit_transaction() if outcome == b"commit" else producer.abort_transaction()
            seen += [b"commit", b"more"] if outcome == b"commit" else []
            # Kafka writes its markers after it has answered.
            wait_until(lambda: [committed(topic, partition) for partition in (0, 1)] == [seen, seen], "the end of the transaction")
    for partition in (0, 1):
        equal(committed(topic, partition), [b"commit", b"more"] * 2)
        equal(read_to_the_end(topic, partition, "read_uncommitted"), [b"commit", b"more", b"abort", b"more", b"commit", b"more"])


@check
def offsets_are_committed_with_the_records_that_were_made_of_them():
    source, target, group, identity = create(fresh("in")), create(fresh("out")), fresh("group"), fresh("id")
    partition = TopicPartition(source, 0)
    produce(source, plain(*(b"%d" % n for n in range(10))))
    # Each try begins where the last one that was committed ended.
    for commits in (False, True, True):
        with consumer(source, group=group, isolation_level="read_committed", max_poll_records=5) as reader, transactional(identity) as producer:
            taken = take(reader, 5)
            producer.begin_transaction()
            send(producer, target, 0, *(2 * message.value for message in taken))
            producer.send_offsets_to_transaction({partition: OffsetAndMetadata(taken[-1].offset + 1, "", -1)}, reader.group_metadata())
            producer.commit_transaction() if commits else producer.abort_transaction()
    equal(committed(target), [b"%d%d" % (n, n) for n in range(10)])
    equal(ADMIN.list_group_offsets([group])[group][partition].offset, 10)


@check
def second_producer_fences_the_first():
    topic, identity = create(fresh("fenced")), fresh("id")
    first = transactional(identity)
    first.begin_transaction()
    send(first, topic, 0, b"of the first")
    with transactional(identity) as second:
        second.begin_transaction()
        send(second, topic, 0, b"of the second")
        refused((ProducerFencedError, InvalidProducerEpochError), first.commit_transaction)
        second.commit_transaction()
    first.close(timeout=0)
    equal(committed(topic), [b"of the second"])


@check
def admin_lists_describes_and_aborts_transactions():
    topic, identity = create(fresh("administered")), fresh("id")
    partition = TopicPartition(topic, 0)
    with transactional(identity) as producer:
        producer.begin_transaction()
        send(producer, topic, 0, b"hangs")
        listed = [one for all_of_a_broker in ADMIN.list_transactions(state_filters=["Ongoing"]).values() for one in all_of_a_broker]
        assert identity in [one.transactional_id for one in listed], listed
        described = ADMIN.describe_transactions([identity])[identity]
        equal((described.state.value, set(described.topic_partitions)), ("Ongoing", {partition}))
        active, = ADMIN.describe_producers([partition])[partition].active_producers
        equal((active.producer_id, active.current_transaction_start_offset), (described.producer_id, 0))
        ADMIN.abort_transaction(AbortTransactionSpec(partition, active.producer_id, active.producer_epoch, max(active.coordinator_epoch, 0)))
        equal(committed(topic), [])
        producer.abort_transaction()


if __name__ == "__main__":
    main(f"kafka-python {kafka.__version__}")
