#!/usr/bin/env python3
"""benches/streams.py: plainlog's stream processing beside Kafka Streams 4.3, on plainlog and on Apache Kafka, in one run.

    cargo build --release --bin broker --example bench-streams && benches/streams.py > table.md

Words are counted (lines of five words, of a hundred thousand; each word goes through a topic to its task), and numbers are summed in windows of ten
seconds (a thousand keys). One partition, one thread, a commit each 100 ms, no cache that holds updates back, state on disk: redb in ours, RocksDB in
Kafka Streams. For each the broker is a new one, and the input is there before the application starts.

    rate        results a second, from the first one that is seen to the last
    CPU         seconds of the application's processor time, user and system, for a million results, its start included
    memory      of the application, resident when all is done
    first       seconds from the start of the application to its first result, with nothing to restore
    restart     seconds from its start to the next result, after it ended cleanly
    restore     records of the changelog a second, when it starts without its state: what that takes beyond a restart

Application and broker share the machine's cores. Progress goes to stderr.
"""
import argparse, importlib.util, os, random, shutil, signal, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HERE = os.path.join(ROOT, "benches", "streams")
sys.path.insert(0, os.path.join(ROOT, "tests", "interop"))  # which knows how to get the clients and to start both brokers

import install
from broker import BROKER, ApacheKafka, Plainlog

if importlib.util.find_spec("confluent_kafka") is None:  # this Python, with the clients
    os.execv(install.python(), [install.python(), os.path.abspath(__file__), *sys.argv[1:]])

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

WORDS, KEYS, GUARANTEES = 100_000, 1000, ["exactly_once_v2", "at_least_once"]
INPUTS = {"count": "lines", "sum": "numbers"}


def java():
    pom, source = os.path.join(HERE, "pom.xml"), os.path.join(HERE, "Bench.java")
    def jars(path):
        install.sh("mvn", "-q", "-B", "-f", pom, f"-Dkafka={install.KAFKA}", "dependency:copy-dependencies", "-DoutputDirectory=" + path, log="mvn.log")
    path = install.folder("java-bench-streams", [install.KAFKA, open(pom).read()], jars) + "/*"
    return install.folder("java-program", [path, open(source).read()], lambda out: install.sh("javac", "-cp", path, "-d", out, source, log="javac.log")) + ":" + path


class Application:
    """A process that counts or sums."""

    def __init__(self, engine, what, guarantee, folder, address, programs):
        command = [programs + "/examples/bench-streams"] if engine == "ours" else ["java", "-cp", java(), "Bench"]
        self.started = time.monotonic()
        self.process = subprocess.Popen([*command, what, guarantee, folder, address], stdin=subprocess.DEVNULL)

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class Scene:
    """A broker with the input in it, and what tells how many results there are."""

    def __init__(self, broker, what, count, words):
        self.broker, self.what, self.count, self.words = broker, what, count, words
        names = [INPUTS[what], what + "-out"]
        self.admin = AdminClient({"bootstrap.servers": broker.address})
        for made in self.admin.create_topics([NewTopic(name, 1) for name in names]).values():
            made.result(30)
        self.producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 20, "acks": 1})
        self.reader = Consumer({"bootstrap.servers": broker.address, "group.id": "bench"})
        self.random, self.begin, self.sent = random.Random(1), int(time.time() * 1000) - 3_600_000, 0
        self.send(count)

    def send(self, results):
        """Input that leads to so many results."""
        below = lambda limit: int(self.random.random() * limit)
        while results > 0:
            time_ms, lines = self.begin + self.sent * 2, self.what == "count"  # five thousand to a window
            words = min(5, results) if lines else 1
            value = " ".join(f"word-{below(self.words)}" for _ in range(words)) if lines else str(below(1000))
            while True:
                try:
                    self.producer.produce(INPUTS[self.what], value, None if lines else f"key-{below(KEYS)}", timestamp=time_ms)
                    break
                except BufferError:
                    self.producer.poll(0.1)
            self.sent += 1
            results -= words
        self.producer.flush()

    def end(self, topic):
        return self.reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]

    def results(self):
        return self.end(self.what + "-out")

    def until(self, count, application):
        """Waits for so many results, markers of transactions among them; answers how many there are."""
        deadline = time.monotonic() + 600
        while (there := self.results()) < count:
            if application.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{there} of {count} results, and {application.process.args} {'ended' if application.process.poll() is not None else 'goes on'}")
            time.sleep(0.02)
        return there


def measure(engine, start_broker, what, guarantee, count, different, programs):
    broker, folder = start_broker(), tempfile.mkdtemp(prefix="plainlog-streams-bench-")
    try:
        scene = Scene(broker, what, count, different)
        start = lambda: Application(engine, what, guarantee, folder, broker.address, programs)
        application = start()
        before = scene.until(1, application)
        began = time.monotonic()
        first = began - application.started
        there = scene.until(count, application)
        rate = (there - before) / max(time.monotonic() - began, 0.001)
        time.sleep(0.5)
        cpu, memory = application.cpu_s() / count * 1e6, application.memory_mb()

        def again():
            """Stops it, adds one, and starts it: the seconds until the next result."""
            application.stop()
            before = scene.results()
            scene.send(1)
            new = start()
            scene.until(before + 1, new)
            return new, time.monotonic() - new.started

        application, restart = again()
        time.sleep(0.5)
        application.stop()
        changelog = next(name for name in scene.admin.list_topics(timeout=10).topics if name.endswith("-changelog"))
        records = scene.end(changelog)
        shutil.rmtree(folder)
        application = start()
        before = scene.results()
        scene.send(1)
        scene.until(before + 1, application)
        took = time.monotonic() - application.started
        application.stop()
        return {"rate": rate, "cpu": cpu, "memory": memory, "first": first, "restart": restart, "restore": records / max(took - restart, 0.01), "records": records}
    finally:
        if trouble := broker.stop():
            print(trouble, file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default=BROKER, help="plainlog's broker, beside which are the examples (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1_000_000, help="how many results (default: %(default)s)")
    parser.add_argument("--words", type=int, default=WORDS, help="how many different words there are (default: %(default)s)")
    parser.add_argument("--only", action="append", help="only rows with this word, as count, sum, ours, at_least_once; may be given more than once")
    options = parser.parse_args()
    programs = os.path.dirname(os.path.abspath(options.broker))
    plainlog = lambda: Plainlog(options.broker, ["--flush", "never"])
    pairs = [("ours", "plainlog", plainlog), ("Kafka Streams", "plainlog", plainlog), ("Kafka Streams", "Kafka", ApacheKafka)]
    print("| application | broker | what | guarantee | results/s | CPU s/M | memory, MB | first, s | restart, s | restore, records/s |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for what in INPUTS:
        for guarantee in GUARANTEES:
            for engine, name, start in pairs:
                if options.only and not all(word in (what, guarantee, engine, name) for word in options.only):
                    continue
                one = measure(engine, start, what, guarantee, options.count, options.words, programs)
                print(f"| {engine} | {name} | {what} | {guarantee} | {one['rate']:,.0f} | {one['cpu']:.2f} | {one['memory']:.0f} | {one['first']:.2f} "
                      f"| {one['restart']:.2f} | {one['restore']:,.0f} |", flush=True)
                print(f"{what} {guarantee} {engine} {name}: {one}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
