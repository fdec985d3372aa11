"""kafkatop, a program that watches how far groups are behind: it is shown groups of every kind, all of which have read some of a topic."""
import json, os, subprocess, sys

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from check import ADDRESS, check, equal, fresh, main, netcat, wait_until
from install import KAFKATOP
from java_tools import tool

ADMIN = AdminClient({"bootstrap.servers": ADDRESS})
READ, WRITTEN, PARTITIONS = 4, 10, 2


def topic_of_ten():
    topic = fresh("watched")
    ADMIN.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(30)
    producer = Producer({"bootstrap.servers": ADDRESS})
    for n in range(PARTITIONS * WRITTEN):
        producer.produce(topic, b"%d" % n, partition=n % PARTITIONS)
    equal(producer.flush(60), 0)
    return topic


def member(topic, protocol):
    """A consumer in a group of its own that has committed, and stays."""
    group = fresh(protocol)
    consumer = Consumer({"bootstrap.servers": ADDRESS, "group.id": group, "group.protocol": protocol, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    wait_until(lambda: consumer.poll(0.2) and len(consumer.assignment()) == PARTITIONS, "its partitions")
    consumer.commit(offsets=[TopicPartition(topic, partition, READ) for partition in range(PARTITIONS)], asynchronous=False)
    return group, consumer


def groups_of(topic):
    """Groups of Kafka's two protocols with a member and without, one that only has offsets, and one of text; a share group has read, too."""
    members = [member(topic, protocol) for protocol in ("classic", "consumer") for _ in range(2)]
    for _, consumer in members[::2]:
        consumer.close()
    simple = fresh("simple")
    offsets = [TopicPartition(topic, partition, READ) for partition in range(PARTITIONS)]
    ADMIN.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(simple, offsets)])[simple].result(30)
    text = [fresh("text")] * bool(os.environ["PLAINLOG_DATA"])
    for group in text:
        equal(netcat(f"RESET {group} " + " ".join(f"{topic}/{partition} {READ}" for partition in range(PARTITIONS)), "QUIT"), ["OK"])
    share = fresh("share")
    tool("kafka-configs", "--alter", "--entity-type", "groups", "--entity-name", share, "--add-config", "share.auto.offset.reset=earliest")
    tool("kafka-console-share-consumer", "--topic", topic, "--group", share, "--max-messages", str(READ))
    return [*(group for group, _ in members), simple, *text], [consumer for _, consumer in members[1::2]]


@check
def lag_is_told_of_groups_of_every_kind():
    topic = topic_of_ten()
    watched, members = groups_of(topic)
    shown = subprocess.run([os.path.join(os.path.dirname(sys.executable), "kafkatop"), "--kafka-broker", ADDRESS, "--summary-json", "--all"], capture_output=True, text=True, timeout=60)
    equal((shown.returncode, shown.stderr), (0, ""))
    summary = json.loads(shown.stdout)
    lag = {"partitions": PARTITIONS, "lag_max": WRITTEN - READ, "lag_min": WRITTEN - READ}
    equal({group: summary.get(group, {}).get("topics") for group in watched}, {group: {topic: lag} for group in watched})
    for consumer in members:
        consumer.close()


main(KAFKATOP[0])
