#!/usr/bin/env python3
"""benches/kafka.py: plainlog's release build beside Apache Kafka in one run, with clients that neither of them wrote for it.

    cargo build --release && benches/kafka.py > table.md

Both brokers run on this machine at the same time, on one partition, none of them waiting for the disk (`--flush never`, Kafka's default), Kafka with
its default settings and 1 GiB of heap. The first round is told apart, Kafka's JVM having just started; then come three warm rounds, the brokers by
turns, of which each figure is the median. Every client is a new process each time.

    rate        records a second, as the client tells it
    CPU         seconds of the broker's processor time, user and system, for a million records
    memory      resident, after the last round
    latency     from the call that sends a record to the call that returns it, one at a time

The clients share the machine's cores with the brokers, so rates say as much about them; CPU is the broker's own. Progress goes to stderr.

    benches/kafka.py --tls > table.md

does the same over TLS and without, to the same brokers by turns, plainlog's certificate being Kafka's, too, and tells what openssl encrypts on this
machine with the cipher that both choose. Over TLS plainlog's rates are to be 1.5 times Kafka's where the brokers and not the clients are the limit.
"""
import argparse, importlib.util, os, re, statistics, subprocess, sys, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "interop"))  # which knows how to get the clients and to start both brokers

import install
from broker import BROKER, ApacheKafka, Plainlog

if importlib.util.find_spec("confluent_kafka") is None:  # this Python, with the clients
    os.execv(install.python(), [install.python(), os.path.abspath(__file__), *sys.argv[1:]])

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PERFORMANCE = install.librdkafka() + "/examples/rdkafka_performance"
WARM_ROUNDS = 3
NOT_UTF8 = bytes([0xFF, 0x01, 0xC0, 0x80, 0x0A, 0xFE, 0x1B])  # a payload pattern that plainlog must write as base64


TLS = None  # whom to trust, over TLS


def address_of(broker):
    return broker.secure if TLS else broker.address


def of_librdkafka():
    return {"security.protocol": "SSL", "ssl.ca.location": TLS} if TLS else {}


def of_java():
    return [f"{name}={value}" for name, value in {"security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": TLS}.items()] if TLS else []


def output_of(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        sys.exit(f"{command[0]} ended with {done.returncode}: {text[-600:]}")
    return text


def last(pattern, text):
    found = re.findall(pattern, text)
    if not found:
        sys.exit(f"no {pattern} in: {text[-600:]}")
    return found[-1]


def rdkafka(address, topic, count, *arguments):
    """Rate of librdkafka's load program."""
    told = last(r"(\d+) (?:delivered .*|messages \(\d+ bytes\) consumed) in \d+ms: (\d+) msgs/s",
                output_of(PERFORMANCE, *arguments, *(part for name, value in of_librdkafka().items() for part in ("-X", f"{name}={value}")), "-t", topic, "-p", "0", "-c", str(count), "-b", address, "-i", "60000"))
    if int(told[0]) != count:
        sys.exit(f"rdkafka_performance counted {told[0]} of {count}")
    return int(told[1])


def rdkafka_produce(address, topic, count, size, acks, pattern=None):
    return rdkafka(address, topic, count, "-P", "-s", str(size), "-a", str(acks), "-X", "linger.ms=5", *(["-m", pattern] if pattern else []))


def rdkafka_consume(address, topic, count):
    return rdkafka(address, topic, count, "-C", "-o", "beginning")


def java(tool, address, topic, count, *arguments):
    return output_of("java", "-cp", install.jars(), "org.apache.kafka.tools." + tool, "--bootstrap-server", address, "--topic", topic,
                     "--num-records", str(count), *arguments)


def java_produce(address, topic, count, size, acks):
    return float(last(r"records sent, ([\d.]+) records/sec", java("ProducerPerformance", address, topic, count, "--record-size", str(size),
                                                                   "--throughput", "-1", "--command-property", f"acks={acks}", "linger.ms=5", *of_java())))


def java_consume(address, topic, count):
    secured = [part for setting in of_java() for part in ("--command-property", setting)]
    return float(java("ConsumerPerformance", address, topic, count, "--timeout", "60000", *secured).splitlines()[-1].split(", ")[-1])


def from_the_first(address, group):
    output_of("java", "-cp", install.jars(), "kafka.admin.ConfigCommand", "--bootstrap-server", address, "--alter", "--entity-type", "groups", "--entity-name", group,
              "--add-config", "share.auto.offset.reset=earliest")


def java_share(address, topic, count):
    """Rate of one member of a share group, which acknowledges what it was given before."""
    # start, end, MB, MB/s, records/s, records, fetch time
    return float(java("ShareConsumerPerformance", address, topic, count, "--group", topic, "--timeout", "60000").splitlines()[-1].split(", ")[4])


def cpu_s(broker):
    with open(f"/proc/{broker.process.pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(broker):
    with open(f"/proc/{broker.process.pid}/status") as status:
        return int(last(r"VmRSS:\s+(\d+) kB", status.read())) / 1024


class Topic:
    """A new topic of one partition for one block."""
    made = 0

    def __init__(self, broker):
        Topic.made += 1
        self.admin, self.name = AdminClient({"bootstrap.servers": broker.address}), f"bench-{Topic.made}"

    def __enter__(self):
        self.admin.create_topics([NewTopic(self.name, 1)])[self.name].result(30)
        return self.name

    def __exit__(self, *_):
        self.admin.delete_topics([self.name])[self.name].result(30)


def measured(broker, count, action):
    """(rate, CPU seconds for a million records) of one client run."""
    before = cpu_s(broker)
    rate = action()
    return rate, (cpu_s(broker) - before) / count * 1e6


def produce_and_consume(broker, results, client, sizes, produce, consume, all_acks):
    for label, size, count, more in sizes:
        for acks in all_acks:
            with Topic(broker) as topic:
                results[client, f"produce {label}, acks={'all' if acks == -1 else acks}"] = measured(broker, count, lambda: produce(address_of(broker), topic, count, size, acks, *more))
                if acks == all_acks[-1]:
                    results[client, f"consume {label}"] = measured(broker, count, lambda: consume(address_of(broker), topic, count))


def small_transactions(address, topic, count, size):
    """Rate of one transaction after the other, each of `size` records; each commit is waited for."""
    producer = Producer({"bootstrap.servers": address, "transactional.id": topic, "linger.ms": 0})
    producer.init_transactions(30)
    started = time.perf_counter()
    for _ in range(count // size):
        producer.begin_transaction()
        for _ in range(size):
            producer.produce(topic, bytes(100), partition=0)
        producer.commit_transaction(30)
    return count / (time.perf_counter() - started)


def long_transactions(address, topic, count):
    return float(last(r"records sent, ([\d.]+) records/sec", java("ProducerPerformance", address, topic, count, "--record-size", "100", "--throughput", "-1",
                                                                   "--transactional-id", topic, "--transaction-duration-ms", "100", "--command-property", "linger.ms=5")))


def consume_committed(address, topic, count):
    told = java("ConsumerPerformance", address, topic, count, "--timeout", "60000", "--command-property", "isolation.level=read_committed")
    return float(told.splitlines()[-1].split(", ")[-1])


def transactions(broker, results, small, count):
    for size in (1, 100):
        with Topic(broker) as topic:
            results["librdkafka", f"transactions of {size} × 100 B"] = measured(broker, small * size, lambda: small_transactions(broker.address, topic, small * size, size))
    with Topic(broker) as topic:
        results["Java", "produce 100 B, a commit each 100 ms"] = measured(broker, count, lambda: long_transactions(broker.address, topic, count))
        results["Java", "consume 100 B, read_committed"] = measured(broker, count, lambda: consume_committed(broker.address, topic, count))


def share_groups(broker, results, count):
    with Topic(broker) as topic:
        java_produce(broker.address, topic, count, 100, 1)
        from_the_first(broker.address, topic)
        results["Java", "share group, consume 100 B"] = measured(broker, count, lambda: java_share(broker.address, topic, count))


def latency(broker, results, count):
    """Mean and 99th percentile in ms, with confluent-kafka here and with Kafka's own tool, which tells whole ms for the percentile."""
    with Topic(broker) as topic:
        reader = Consumer({"bootstrap.servers": broker.address, "group.id": topic, "enable.auto.commit": False})
        reader.assign([TopicPartition(topic, 0, 0)])
        producer, took = Producer({"bootstrap.servers": broker.address, "linger.ms": 0, "acks": 1}), []
        for number in range(count):
            started = time.perf_counter()
            producer.produce(topic, b"%0100d" % number, partition=0)
            producer.poll(0)
            while (message := reader.poll(10)) is None or message.value() != b"%0100d" % number:
                pass
            took.append((time.perf_counter() - started) * 1000)
        reader.close()
        producer.flush()
    took = sorted(took[count // 10:])  # the first tenth is getting acquainted
    results["latency", "librdkafka"] = statistics.fmean(took), took[len(took) * 99 // 100]
    with Topic(broker) as topic:
        told = java("EndToEndLatency", broker.address, topic, count, "--producer-acks", "1", "--record-size", "100")
    results["latency", "Java"] = float(last(r"Avg latency: ([\d.]+)", told)), float(last(r"99th = ([\d.]+)", told))


def clients(broker, results, count):
    produce_and_consume(broker, results, "librdkafka", [("100 B", 100, count(4_000_000), []), ("1 KB", 1000, count(800_000), [])], rdkafka_produce, rdkafka_consume, (1, -1))
    produce_and_consume(broker, results, "librdkafka", [("1 KB binary", 1000, count(800_000), [NOT_UTF8])], rdkafka_produce, rdkafka_consume, (1,))
    produce_and_consume(broker, results, "Java", [("100 B", 100, count(2_000_000), []), ("1 KB", 1000, count(400_000), [])], java_produce, java_consume, (1, -1))


def over_tls(broker, results, count):
    """Each client without TLS, then with it."""
    global TLS
    for TLS in (None, broker.ca):
        told = {}
        produce_and_consume(broker, told, "librdkafka", [("100 B", 100, count(4_000_000), []), ("1 KB", 1000, count(800_000), [])], rdkafka_produce, rdkafka_consume, (1,))
        produce_and_consume(broker, told, "Java", [("1 KB", 1000, count(400_000), [])], java_produce, java_consume, (1,))
        results.update({(*key, bool(TLS)): value for key, value in told.items()})
    TLS = None


PARTS = {
    "clients": clients,
    "transactions": lambda broker, results, count: transactions(broker, results, count(2000), count(2_000_000)),
    "share": lambda broker, results, count: share_groups(broker, results, count(500_000)),
    "latency": lambda broker, results, count: latency(broker, results, count(3000)),
}


def one_round(broker, scale, parts):
    results, started = {}, time.monotonic()
    for part in parts:
        (over_tls if part == "tls" else PARTS[part])(broker, results, lambda records: max(1000, int(records * scale)))
    print(f"{broker.name}: a round in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return results


def medians(rounds):
    return {key: tuple(statistics.median(one[key][n] for one in rounds) for n in (0, 1)) for key in rounds[0]}


def rate(records):
    return f"{records / 1e6:.2f} M" if records >= 1e6 else f"{records / 1e3:.0f} k"


def table(first, warm, memory):
    """The table of benches/README.md: `first` and `warm` are results by broker."""
    ours, theirs = Plainlog.name, ApacheKafka.name
    yield "| client | what | plainlog, records/s | Kafka, records/s | plainlog / Kafka | plainlog, CPU s/M | Kafka, CPU s/M | first round, plainlog | first round, Kafka |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for key in warm[ours]:
        if key[0] != "latency":
            (a, a_cpu), (b, b_cpu) = warm[ours][key], warm[theirs][key]
            yield (f"| {key[0]} | {key[1]} | {rate(a)} | {rate(b)} | **{a / b:.2f}** | {a_cpu:.2f} | {b_cpu:.2f} "
                   f"| {rate(first[ours][key][0])} | {rate(first[theirs][key][0])} |")
    yield ""
    yield "| | plainlog | Kafka | plainlog / Kafka | first round, plainlog | first round, Kafka |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for key in warm[ours]:
        if key[0] == "latency":
            (a, a_99), (b, b_99) = warm[ours][key], warm[theirs][key]
            shown = lambda results: "{:.2f} / {:.2f}".format(*results[key])
            yield f"| end-to-end latency, {key[1]} client, mean / p99, ms | {a:.2f} / {a_99:.2f} | {b:.2f} / {b_99:.2f} | **{a / b:.2f}** / {a_99 / b_99:.2f} | {shown(first[ours])} | {shown(first[theirs])} |"
    yield f"| resident memory, MB | {memory[ours]:.0f} | {memory[theirs]:.0f} | **1/{memory[theirs] / memory[ours]:.0f}** | | |"


CIPHER = "aes-256-gcm"


def tls_table(first, warm, memory):
    """The same over TLS and without."""
    ours, theirs = Plainlog.name, ApacheKafka.name
    told = last(rf"(?i){CIPHER}\s+([\d.]+)k", output_of("openssl", "speed", "-seconds", "3", "-bytes", "16384", "-evp", CIPHER))
    yield f"openssl encrypts {float(told) / 1000:.0f} MB/s with {CIPHER}, in records of 16 KiB on one core."
    yield ""
    yield "| client | what | plainlog, records/s over TLS | Kafka, records/s over TLS | plainlog / Kafka | plainlog, TLS / without | Kafka, TLS / without | plainlog, CPU s/M | Kafka, CPU s/M |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for key in (key for key in warm[ours] if key[2]):
        (a, a_cpu), (b, b_cpu) = warm[ours][key], warm[theirs][key]
        plain = [warm[broker][*key[:2], False][0] for broker in (ours, theirs)]
        yield f"| {key[0]} | {key[1]} | {rate(a)} | {rate(b)} | **{a / b:.2f}** | {a / plain[0]:.2f} | {b / plain[1]:.2f} | {a_cpu:.2f} | {b_cpu:.2f} |"


def secure_plainlog(program):
    broker = Plainlog(program, ["--flush", "never", "--tls-self-signed", "--tls", "optional"])
    broker.ca, broker.secure = broker.data + "/tls/ca.pem", broker.address
    return broker


def secure_kafka(plainlog):
    """With the certificate of plainlog."""
    pem = plainlog.folder + "/kafka.pem"
    with open(pem, "w") as both:
        both.writelines(open(f"{plainlog.data}/tls/{file}").read() for file in ("broker.key", "broker.pem"))
    broker = ApacheKafka(pem=pem)
    broker.ca = plainlog.ca
    return broker


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default=BROKER, help="plainlog's broker (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="how many of the usual numbers of records (default: %(default)s)")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be given more than once (default: all)")
    parser.add_argument("--tls", action="store_true", help="over TLS beside without")
    options = parser.parse_args()
    parts = ["tls"] if options.tls else options.only or list(PARTS)
    brokers, first = [], {}
    try:
        plain = lambda: Plainlog(options.broker, ["--flush", "never"]), ApacheKafka
        secure = lambda: secure_plainlog(options.broker), lambda: secure_kafka(brokers[0])
        for start in secure if options.tls else plain:
            brokers.append(start())
            first[brokers[-1].name] = one_round(brokers[-1], options.scale, parts)
        rounds = [[one_round(broker, options.scale, parts) for broker in brokers] for _ in range(WARM_ROUNDS)]
        warm = {broker.name: medians([both[n] for both in rounds]) for n, broker in enumerate(brokers)}
        print("\n".join((tls_table if options.tls else table)(first, warm, {broker.name: memory_mb(broker) for broker in brokers})))
    finally:
        for broker in brokers:
            if trouble := broker.stop():
                print(trouble, file=sys.stderr)


if __name__ == "__main__":
    main()
