#!/usr/bin/env python3
"""Consumer groups of Kafka's newer protocol (KIP-848): how soon a new member reads, how soon a dead one's partitions are read again,
and what a thousand members cost that only say that they are there.

    cargo build --release && benches/groups.py

It speaks Kafka's protocol itself, so that no client's own pauses count."""

import os
import pathlib
import re
import socket
import statistics
import struct
import subprocess
import tempfile
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
BROKER = pathlib.Path(os.environ.get("BROKER", ROOT / "target/release/broker"))
MEMBERS, CONNECTIONS = 1000, 20
SESSION_SECONDS = 45


def varint(number):
    out = b""
    while number >= 0x80:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def text(value):
    return varint(0) if value is None else varint(len(value) + 1) + value.encode()


def array(items):
    return varint(0) if items is None else varint(len(items) + 1) + b"".join(items)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def varint(self):
        shift = result = 0
        while True:
            byte = self.take(1)[0]
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    def text(self):
        length = self.varint()
        return None if length == 0 else self.take(length - 1).decode()


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, api, version, body):
        request = struct.pack(">hhih", api, version, 1, 1) + b"g" + b"\0" + body
        self.socket.sendall(struct.pack(">i", len(request)) + request)

    def receive(self):
        length = struct.unpack(">i", self.exactly(4))[0]
        reader = Reader(self.exactly(length))
        reader.take(5)
        return reader

    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise SystemExit("the broker closed the connection")
            data += part
        return data


class Member:
    def __init__(self, connection, group, topic):
        self.connection, self.group, self.topic = connection, group, topic
        self.id, self.epoch, self.partitions = str(uuid.uuid4()), 0, []

    def send(self):
        joins = self.epoch == 0
        owned = [b"".join([topic, array([struct.pack(">i", p) for p in sorted(numbers)]), b"\0"]) for topic, numbers in self.partitions]
        body = text(self.group) + text(self.id) + struct.pack(">i", self.epoch) + text(None) + text(None)
        body += struct.pack(">i", 300_000 if joins else -1)
        body += array([text(self.topic)] if joins else None) + text(None) + text(None)
        body += array(owned) + b"\0"
        self.connection.send(68, 1, body)

    def receive(self):
        reader = self.connection.receive()
        reader.number("i")
        error, why = reader.number("h"), reader.text()
        if error:
            raise SystemExit(f"a heartbeat was answered with {error}: {why}")
        reader.text()
        self.epoch, _ = reader.number("i"), reader.number("i")
        if reader.number("b") == 1:
            topics = range(reader.varint() - 1)
            self.partitions = []
            for _ in topics:
                topic = reader.take(16)
                self.partitions.append((topic, [reader.number("i") for _ in range(reader.varint() - 1)]))
                reader.varint()

    def beat(self):
        self.send()
        self.receive()

    def fetch(self):
        """The length of what it reads from the first offset of its first partition."""
        topic, (partition, *_) = self.partitions[0]
        one = struct.pack(">iiqiqi", partition, -1, 0, -1, -1, 1 << 20) + b"\0"
        body = struct.pack(">iiiibii", -1, 0, 1, 1 << 20, 0, 0, -1)
        body += array([topic + array([one]) + b"\0"]) + array([]) + text("") + b"\0"
        self.connection.send(1, 13, body)
        return len(self.connection.receive().data)


def ask(port, *lines):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall("".join(line + "\n" for line in (*lines, "QUIT")).encode())
        while connection.recv(65536):
            pass


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_records(port):
    """Milliseconds from a member's first heartbeat to its first record, each in a group of its own."""
    times = []
    for number in range(200):
        member = Member(Connection(port), f"new-{number}", "one")
        begun = time.perf_counter()
        while not member.partitions:
            member.beat()
        if member.fetch() < 60:
            raise SystemExit("there was no record")
        times.append((time.perf_counter() - begun) * 1000)
    return times


def takeover(port):
    """Milliseconds beyond the session until a record is read again whose reader died."""
    dead, heir = (Member(Connection(port), "takeover", "one") for _ in range(2))
    while not dead.partitions:
        dead.beat()
    heir.beat()
    dead.beat()
    died = time.perf_counter()
    while not heir.partitions:
        time.sleep(0.005)
        heir.beat()
    heir.fetch()
    return (time.perf_counter() - died - SESSION_SECONDS) * 1000


def thousand(port, pid):
    """The part of a core that a thousand members take, each of which says every five seconds that it is there."""
    connections = [Connection(port) for _ in range(CONNECTIONS)]
    members = [Member(connections[number % CONNECTIONS], "many", "thousand") for number in range(MEMBERS)]
    for member in members:
        member.beat()
    # Until each has its partition.
    while any(len(numbers) != 1 for member in members for _, numbers in member.partitions or [(0, [])]):
        for member in members:
            member.beat()
    begun, used = time.perf_counter(), cpu_seconds(pid)
    for number in range(4 * MEMBERS):
        due = begun + number * 5 / MEMBERS
        time.sleep(max(0, due - time.perf_counter()))
        members[number % MEMBERS].beat()
    return (cpu_seconds(pid) - used) / (time.perf_counter() - begun)


def main():
    with tempfile.TemporaryDirectory() as folder:
        broker = subprocess.Popen(
            [BROKER, "--listen", "127.0.0.1:0", "--data-dir", f"{folder}/data"], stdout=subprocess.PIPE, text=True
        )
        try:
            port = int(re.search(r":(\d+)", broker.stdout.readline()).group(1))
            ask(port, "CREATE one partitions:1", "SEND one message:" + "x" * 100, f"CREATE thousand partitions:{MEMBERS}")
            times = sorted(first_records(port))
            print(f"first record after the first heartbeat: median {statistics.median(times):.2f} ms, p99 {times[-3]:.2f} ms")
            part = thousand(port, broker.pid)
            print(f"{MEMBERS} members, a heartbeat each 5 s: {100 * part:.1f} % of a core, {5e6 * part / MEMBERS:.0f} us a heartbeat")
            print(f"a dead member's partition is read again {takeover(port):.0f} ms after its session")
        finally:
            broker.kill()
            broker.wait()


main()
