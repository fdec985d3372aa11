#!/usr/bin/env python3
"""benches/cluster.py: `broker --cluster` beside Kafka's own clients on the same cluster, and `broker move` beside MirrorMaker 2, in one run.

    cargo build --release --bins --features cluster && benches/cluster.py > table.md

The cluster is three nodes of Apache Kafka on this machine, the topics have one partition with three copies, and what is sent is acknowledged by all
in-sync copies. One round is a warm-up and is not told; then come three, ours and theirs by turns, of which each figure is the median.

    PRODUCE    one connection writes all lines without waiting, and the time ends with the last ACK; beside kafka-producer-perf-test
    TAIL       one connection reads the topic from its start to its end, the client's start included; beside kafka-consumer-perf-test, which tells the
               rate without it
    SEND       one record at a time, from the line to its ACK; beside a librdkafka producer, from the call to the delivery report, with the same linger
    move       a topic of a plainlog to the cluster, which makes it there: from the program's start to its end; beside MirrorMaker 2, from the first
               record at the cluster to the last, since it takes seconds to start
    CPU        of `broker --cluster` or `broker move`, seconds for a million records

Nodes and clients share the machine's cores. Progress goes to stderr.
"""
import argparse, importlib.util, os, re, resource, shutil, socket, statistics, subprocess, sys, tempfile, threading, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "interop"))  # which knows how to get the clients and to start the nodes

import install
from broker import BROKER, InFront, KafkaCluster, Plainlog

if importlib.util.find_spec("confluent_kafka") is None:  # this Python, with the clients
    os.execv(install.python(), [install.python(), os.path.abspath(__file__), *sys.argv[1:]])

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROUNDS = 3
MIRROR = "org.apache.kafka.connect.mirror."


def say(text):
    print(text, file=sys.stderr, flush=True)


def mirror_maker():
    """The class path of MirrorMaker 2."""
    pom = os.path.join(ROOT, "benches", "cluster", "pom.xml")
    def jars(path):
        install.sh("mvn", "-q", "-B", "-f", pom, f"-Dkafka={install.KAFKA}", "dependency:copy-dependencies", "-DoutputDirectory=" + path, log="mvn.log")
    return install.folder("java-mirror", [install.KAFKA, open(pom).read()], jars) + "/*"


def java(tool, cluster, topic, count, *arguments):
    done = subprocess.run(["java", "-cp", install.jars(), "org.apache.kafka.tools." + tool, "--bootstrap-server", cluster, "--topic", topic,
                           "--num-records", str(count), *arguments], capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"{tool} ended with {done.returncode}: {(done.stdout + done.stderr)[-600:]}")
    return done.stdout


def java_produce(cluster, topic, count, size):
    told = java("ProducerPerformance", cluster, topic, count, "--record-size", str(size), "--throughput", "-1", "--command-property", "acks=all")
    return float(re.findall(r"records sent, ([\d.]+) records/sec", told)[-1])


def java_consume(cluster, topic, count):
    return float(java("ConsumerPerformance", cluster, topic, count, "--timeout", "60000").splitlines()[-1].split(", ")[-1])


class Text:
    """A connection of text."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def line(self):
        line = b""
        while not line.endswith(b"\n"):
            got = self.socket.recv(4096)
            if not got:
                sys.exit(f"the connection ended behind {line!r}")
            line += got
        return line

    def ask(self, line):
        self.socket.sendall(line)
        return self.line()

    def lines(self, count):
        """Reads so many lines; answers the last bytes of them."""
        held = b""
        while count > 0:
            got = self.socket.recv(1 << 20)
            if not got:
                sys.exit(f"the connection ended, {count} lines too early: {held[-200:]!r}")
            count -= got.count(b"\n")
            held = got if len(got) > 200 else held[-200:] + got
        return held[-200:]


def text_produce(front, topic, count, size):
    connection = Text(front.address)
    connection.ask(f"USE {topic}\n".encode())
    some = 1000
    lines = (b"PRODUCE " + b"x" * size + b"\n") * some
    def write():
        for _ in range(count // some):
            connection.socket.sendall(lines)
    started = time.perf_counter()
    writer = threading.Thread(target=write)
    writer.start()
    last = connection.lines(count)
    took = time.perf_counter() - started
    writer.join()
    if not last.endswith(f"ACK offset:{count - 1}\n".encode()):
        sys.exit(f"the last answer is {last!r}")
    return count / took


def text_tail(front, topic, count):
    connection, started = Text(front.address), time.perf_counter()
    connection.socket.sendall(f"TAIL {topic}/0 from:earliest until:end\n".encode())
    connection.lines(count + 1)  # the last one says where the end is
    return count / (time.perf_counter() - started)


def median_ms(count, once):
    took = []
    for _ in range(count):
        started = time.perf_counter()
        once()
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took[count // 10:])  # the first tenth is getting acquainted


def text_send(front, topic, count):
    connection, line = Text(front.address), f"SEND {topic} message:{'x' * 100}\n".encode()
    def once():
        answer = connection.ask(line)
        if not answer.startswith(b"ACK"):
            sys.exit(f"SEND: {answer!r}")
    return median_ms(count, once)


def librdkafka_send(cluster, topic, count):
    producer = Producer({"bootstrap.servers": cluster, "acks": "all", "linger.ms": 0, "log_level": 0})
    def once():
        done = []
        producer.produce(topic, b"x" * 100, on_delivery=lambda error, _: done.append(error))
        while not done:
            producer.poll(10)
        if done[0]:
            sys.exit(f"librdkafka: {done[0]}")
    return median_ms(count, once)


def end_of(consumer, topic):
    try:
        return consumer.get_watermark_offsets(TopicPartition(topic, 0), 5, cached=False)[1]
    except Exception:
        return 0


def moved(source, cluster, topic, count):
    """Rate, and CPU seconds of the program."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([source.program, "move", "--from", source.address, "--to", cluster, "--topics", topic, "--json"], check=True, stdout=subprocess.DEVNULL)
    took, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return count / took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def mirrored(source, cluster, topic, count):
    folder = tempfile.mkdtemp(prefix="plainlog-mirror-")
    settings = {
        "clusters": "source, target", "source.bootstrap.servers": source.address, "target.bootstrap.servers": cluster, "source->target.enabled": "true",
        "target->source.enabled": "false", "source->target.topics": topic, "replication.policy.class": MIRROR + "IdentityReplicationPolicy",
        "replication.factor": 3, "offset-syncs.topic.location": "target",
        "sync.topic.acls.enabled": "false", "emit.heartbeats.enabled": "false", "emit.checkpoints.enabled": "false", "target.producer.acks": "all",
        **{name + ".replication.factor": 3 for name in ("offset-syncs.topic", "checkpoints.topic", "heartbeats.topic", "offset.storage", "status.storage", "config.storage")}}
    with open(folder + "/mirror.properties", "w") as file:
        file.writelines(f"{name} = {value}\n" for name, value in settings.items())
    log = open(folder + "/log", "w")
    process = subprocess.Popen(["java", "-Xmx1G", "-cp", mirror_maker(), MIRROR + "MirrorMaker", folder + "/mirror.properties"], stdout=log, stderr=log)
    consumer = Consumer({"bootstrap.servers": cluster, "group.id": "mirrored"})
    begun = end = None
    deadline = time.monotonic() + 180
    try:
        while end is None:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("MirrorMaker does not copy: " + open(folder + "/log").read()[-600:])
            at, now = end_of(consumer, topic), time.perf_counter()
            begun = begun or (now if at else None)
            end = now if at >= count else None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
        consumer.close()
        shutil.rmtree(folder, ignore_errors=True)
    return count / (end - begun)


class Bench:
    def __init__(self, program, scale):
        self.scale, self.made = scale, 0
        self.cluster = KafkaCluster()
        self.front = InFront(self.cluster.address, program=program)
        self.admin = AdminClient({"bootstrap.servers": self.cluster.address})
        self.source = Plainlog(program, ["--flush", "never"])

    def stop(self):
        for broker in (self.front, self.source):
            if trouble := broker.stop():
                say(trouble)
        self.cluster.stop()

    def count(self, records):
        return max(1000, int(records * self.scale) // 1000 * 1000)

    def name(self):
        self.made += 1
        return f"bench-{self.made}"

    def topic(self):
        name = self.name()
        self.admin.create_topics([NewTopic(name, 1, 3)])[name].result(30)
        return name

    def drop(self, *names):
        for future in self.admin.delete_topics(list(names)).values():
            future.result(30)

    def front_cpu(self):
        with open(f"/proc/{self.front.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def with_cpu(self, count, work):
        before = self.front_cpu()
        figure = work()
        return figure, (self.front_cpu() - before) / count * 1e6

    def produce_and_tail(self, label, size, count):
        ours, theirs, address = self.topic(), self.topic(), self.cluster.address
        yield f"PRODUCE {label}", (*self.with_cpu(count, lambda: text_produce(self.front, ours, count, size)), java_produce(address, theirs, count, size))
        yield f"TAIL {label}", (*self.with_cpu(count, lambda: text_tail(self.front, ours, count)), java_consume(address, theirs, count))
        self.drop(ours, theirs)

    def send(self, count):
        ours, theirs = self.topic(), self.topic()
        yield "SEND 100 B", (*self.with_cpu(count, lambda: text_send(self.front, ours, count)), librdkafka_send(self.cluster.address, theirs, count))
        self.drop(ours, theirs)

    def move(self, label, size, count):
        ours, theirs = self.name(), self.name()
        for topic in (ours, theirs):
            Text(self.source.address).ask(f"CREATE {topic} partitions:1\n".encode())
            text_produce(self.source, topic, count, size)
        rate, cpu = moved(self.source, self.cluster.address, ours, count)
        yield f"move {label}", (rate, cpu / count * 1e6, mirrored(self.source, self.cluster.address, theirs, count))
        self.drop(ours, theirs)
        for topic in (ours, theirs):
            Text(self.source.address).ask(f"DROP {topic}\n".encode())

    def round(self, parts):
        results, started = {}, time.monotonic()
        for part in parts:
            for what, figures in PARTS[part](self):
                results[what] = figures
                say(f"  {what}: {figures[0]:.2f} beside {figures[2]:.2f}")
        say(f"a round in {time.monotonic() - started:.0f} s")
        return results


PARTS = {
    "100": lambda bench: bench.produce_and_tail("100 B", 100, bench.count(1_000_000)),
    "1000": lambda bench: bench.produce_and_tail("1 KB", 1000, bench.count(200_000)),
    "send": lambda bench: bench.send(bench.count(2000)),
    "move": lambda bench: bench.move("100 B", 100, bench.count(1_000_000)),
}


def table(rounds):
    yield "| what | measured | beside it | ratio | CPU s/M |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for what in rounds[0]:
        ours, cpu, theirs = (statistics.median(one[what][n] for one in rounds) for n in range(3))
        unit = " ms, median" if what.startswith("SEND") else " k/s"
        shown = lambda figure: f"{figure:.2f}{unit}" if what.startswith("SEND") else f"{figure / 1000:.0f}{unit}"
        yield f"| {what} | {shown(ours)} | {shown(theirs)} | **{ours / theirs:.2f}** | {cpu:.2f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default=BROKER, help="plainlog's broker with the feature cluster (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="how many of the usual numbers of records (default: %(default)s)")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be given more than once (default: all)")
    options = parser.parse_args()
    bench, parts = Bench(options.broker, options.scale), options.only or list(PARTS)
    try:
        bench.round(parts)
        print("\n".join(table([bench.round(parts) for _ in range(ROUNDS)])))
    finally:
        bench.stop()


if __name__ == "__main__":
    main()
