"""What the suites of a cluster share: three nodes of Apache Kafka, plainlog's programs in front of them, and a plainlog of its own beside."""
import atexit, os, re, socket, subprocess, sys, time, urllib.error, urllib.request

import check as checks
from broker import InFront, KafkaCluster
from check import fresh, say, wait_until
from confluent_kafka import Consumer, OFFSET_BEGINNING, TopicPartition
from confluent_kafka.admin import AdminClient

PROGRAMS = os.environ["PLAINLOG_PROGRAMS"]
if not PROGRAMS:
    say("unable everything: it takes plainlog's programs, in front of a cluster")
    say("done")
    sys.exit()
ALONE = checks.ADDRESS  # a plainlog of its own, that records are moved from and to
CLUSTER = KafkaCluster()
atexit.register(CLUSTER.stop)


def in_front(*arguments, servers=CLUSTER.address):
    return InFront(servers, arguments, os.path.join(PROGRAMS, "broker"))


FRONT = in_front()
atexit.register(FRONT.stop)
checks.ADDRESS = FRONT.address  # what `netcat` talks to
# A machine that starts three nodes at once is slow for a while: nothing of three copies can be made before all are there.
wait_until(lambda: len(AdminClient({"bootstrap.servers": CLUSTER.address}).list_topics(timeout=30).brokers) == 3, "the cluster has three nodes", 120)


def program(name, *arguments, given=b"", address=None, status=0, seconds=120):
    command = [os.path.join(PROGRAMS, name), *arguments]
    environment = {**os.environ, "PLAINLOG_BROKER": address or FRONT.address}
    done = subprocess.run(command, input=given, capture_output=True, timeout=seconds, env=environment)
    assert done.returncode == status, f"{name} {' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode()[-400:]}"
    return done.stdout.decode()


def held(topic, isolation="read_committed"):
    """The values that the cluster holds, by partition, as a Kafka client reads them from the nodes themselves."""
    consumer = Consumer({"bootstrap.servers": CLUSTER.address, "group.id": fresh("reader"), "enable.auto.commit": False, "isolation.level": isolation,
                         "enable.partition.eof": True, "auto.offset.reset": "earliest"})
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    values, ended = {partition: [] for partition in partitions}, set()
    deadline = time.monotonic() + 120
    while len(ended) < len(partitions):
        assert time.monotonic() < deadline, f"{topic} does not come to its end"
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            ended.add(message.partition())
        else:
            values[message.partition()].append(message.value())
    consumer.close()
    return values


def leader_of(topic, partition=0):
    metadata = AdminClient({"bootstrap.servers": CLUSTER.address}).list_topics(topic, 30)
    node = metadata.topics[topic].partitions[partition].leader
    return CLUSTER.node_at(metadata.brokers[node].port)


def get(path, address=None):
    try:
        with urllib.request.urlopen(f"http://{address or FRONT.address}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


class Netcat:
    """A connection that asks and waits for its answer. One that breaks is an OSError."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.connection = socket.create_connection((host, int(port)), 120)
        self.lines = self.connection.makefile("r")

    def say(self, *lines):
        self.connection.sendall("".join(line + "\n" for line in lines).encode())

    def line(self):
        line = self.lines.readline()
        if not line.endswith("\n"):
            raise ConnectionError("it was closed")
        return line.rstrip("\n")

    def ask(self, line):
        """The answer, and the lines that it counts."""
        self.say(line)
        first = self.line()
        count = int(found[1]) if (found := re.search(r" count:(\d+)", first)) else 0
        return first, [self.line() for _ in range(count)]

    def close(self):
        self.lines.close()
        self.connection.close()
