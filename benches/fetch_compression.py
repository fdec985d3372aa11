#!/usr/bin/env python3
"""benches/fetch_compression.py: what it costs the broker to send batches in the codec in which they came.

    cargo build --release && benches/fetch_compression.py > table.md

A log of JSON records of about a hundred bytes for each codec, read over loopback from beginning to end by one reader and by three at once, which only
take the bytes off the socket. Each figure is the median of three rounds.
"""
import importlib.util, os, random, socket, statistics, struct, sys, threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "interop"))

import install
from broker import BROKER, Plainlog

if importlib.util.find_spec("confluent_kafka") is None:  # this Python, with the clients
    os.execv(install.python(), [install.python(), os.path.abspath(__file__), *sys.argv[1:]])

from confluent_kafka import Producer

RECORDS, ROUNDS, READERS = 500_000, 3, (1, 3)
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def values():
    chance = random.Random(1)
    for number in range(RECORDS):
        yield b'{"order":%d,"user":%d,"status":"%s","item":"item%d","price":%d.%02d}' % (
            number, chance.randrange(100_000), chance.choice([b"placed", b"paid", b"shipped", b"returned"]), chance.randrange(500), chance.randrange(100),
            chance.randrange(100))


def produce(address):
    for codec in CODECS:
        producer = Producer({"bootstrap.servers": address, "compression.type": codec, "linger.ms": 20, "batch.num.messages": 2000,
                             "queue.buffering.max.messages": RECORDS})
        for value in values():
            producer.produce(codec, value, partition=0)
        assert producer.flush(60) == 0


def exactly(connection, count):
    received = bytearray(count)
    rest = memoryview(received)
    while rest:
        rest = rest[connection.recv_into(rest) or sys.exit("the broker hung up"):]
    return received


def read(address, topic, sizes):
    """Fetches (version 10, the first with zstd) a whole log, and adds how many bytes its batches are."""
    host, port = address.rsplit(":", 1)
    name, offset, size = struct.pack(">h", len(topic)) + topic.encode(), 0, 0
    with socket.create_connection((host, int(port))) as connection:
        while offset < RECORDS:
            body = struct.pack(">iiiibiii", -1, 0, 1, 8 << 20, 0, 0, -1, 1) + name + struct.pack(">iiiqqii", 1, 0, -1, offset, -1, 1 << 20, 0)
            request = struct.pack(">hhih", 1, 10, 1, -1) + body
            connection.sendall(struct.pack(">i", len(request)) + request)
            response = exactly(connection, *struct.unpack(">i", exactly(connection, 4)))
            # Correlation id, throttle time, error, session, topics; name, partitions; index, error, three offsets, aborted transactions, length.
            at = 4 + 4 + 2 + 4 + 4 + len(name) + 4 + 4 + 2 + 3 * 8 + 4 + 4
            size += len(response) - at
            while at < len(response):
                base, length, last = struct.unpack(">qi11xi", response[at:at + 27])
                at, offset = at + 12 + length, base + last + 1
    sizes.append(size)


def cpu_s(broker):
    with open(f"/proc/{broker.process.pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(broker, codec, readers):
    """(CPU seconds for a million records and each reader, MB that one reader got)."""
    rounds, sizes = [], []
    for _ in range(ROUNDS):
        before = cpu_s(broker)
        threads = [threading.Thread(target=read, args=(broker.address, codec, sizes)) for _ in range(readers)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        rounds.append((cpu_s(broker) - before) / readers / RECORDS * 1e6)
    return statistics.median(rounds), sizes[0] / 1e6


def main():
    print("| produced in | sent | MB sent | CPU s/M, one reader | CPU s/M for each of three |")
    print("| --- | --- | ---: | ---: | ---: |")
    for how in ("never", "always"):
        broker = Plainlog(BROKER, ["--flush", "never", "--fetch-compression", how])
        try:
            produce(broker.address)
            for codec in CODECS if how == "always" else ["gzip"]:
                (one, size), (three, _) = (measured(broker, codec, readers) for readers in READERS)
                print(f"| {codec} | {'as it came' if how == 'always' else 'uncompressed'} | {size:.1f} | {one:.2f} | {three:.2f} |", flush=True)
        finally:
            if trouble := broker.stop():
                print(trouble, file=sys.stderr)


main()
