"""Both protocols on one broker: what Kafka clients write is read by netcat, `grep` and plainlog's own programs, and the other way round."""
import base64, glob, json, os, re, socket, subprocess, urllib.request

from check import ADDRESS, check, equal, fresh, main, netcat, say, wait_until
from java_tools import start, tool
from kcat import kcat

DATA, PROGRAMS = os.environ["PLAINLOG_DATA"], os.environ["PLAINLOG_PROGRAMS"]


def plainlog(program, *arguments, given=b""):
    """Runs one of plainlog's programs to its end and returns what it printed."""
    done = subprocess.run([os.path.join(PROGRAMS, program), "-b", ADDRESS, *arguments], input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, f"{program} {' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode()[-300:]}"
    return done.stdout.decode()


def stored(topic):
    """The lines of a topic's files, as `cat data/TOPIC/*/*.log` shows them."""
    return "".join(open(file).read() for file in sorted(glob.glob(f"{DATA}/{topic}/*/*.log"))).splitlines()


def read_with_kcat(topic):
    return [json.loads(line) for line in kcat("-C", "-q", "-e", "-J", "-t", topic).splitlines()]


@check
def kcat_lists_what_netcat_created():
    topic = fresh("created")
    netcat(f"CREATE {topic} partitions:3", "QUIT")
    listed = json.loads(kcat("-L", "-J", "-t", topic))
    equal(len(listed["topics"][0]["partitions"]), 3)


@check
def grep_finds_every_record_a_kafka_client_wrote():
    topic = fresh("grepped")
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        kcat("-P", "-t", topic, "-p", "0", "-z", codec, "-k", "user-1", "-H", "codec=" + codec, given=b"".join(b"order %d by %s\n" % (n, codec.encode()) for n in range(100)))
    lines = stored(topic)
    equal(len(lines), 500)
    for n, line in enumerate(lines):
        codec = ("none", "gzip", "snappy", "lz4", "zstd")[n // 100]
        plain = re.sub(r" timestamp:\d+", "", line)
        equal(plain, f"offset:{n} key:user-1 header.codec:{codec} message:order {n % 100} by {codec}")


@check
def netcat_and_consumer_read_what_kcat_wrote():
    topic = fresh("kafka-to-text")
    kcat("-P", "-t", topic, "-p", "0", "-k", "clé", "-H", "a=1", "-H", "a=2", given="größe 😀\n".encode())
    kcat("-P", "-t", topic, "-p", "0", "-K:", "-Z", given=b"gone:\n")
    kcat("-P", "-t", topic, "-p", "0", "-D", "\x01\x01", given=b"\xff\x00")
    kcat("-P", "-t", topic, "-p", "0", "-D", "\x01\x01", given=b"two\nlines")
    read = netcat(f"TAIL {topic}/0 from:0 count:4", "QUIT")
    equal([re.sub(r" timestamp:\d+", "", line) for line in read], ["offset:0 key:clé header.a:1 header.a:2 message:größe 😀", "offset:1 key:gone tombstone",
          "offset:2 base64:/wA=", "offset:3 escaped:two\\nlines", "END next:4"])
    read = [json.loads(line) for line in plainlog("consumer", "-t", topic, "-p", "0", "-e", "--json").splitlines()]
    equal([(m.get("key"), m.get("value"), m.get("value_base64")) for m in read],
          [("clé", "größe 😀", None), ("gone", None, None), (None, None, base64.b64encode(b"\xff\0").decode()), (None, "two\nlines", None)])
    equal(read[0]["headers"], [["a", "1"], ["a", "2"]])


@check
def kcat_reads_what_netcat_and_producer_wrote():
    topic = fresh("text-to-kafka")
    netcat(f"CREATE {topic} partitions:1", f"SEND {topic} timestamp:1700000000000 key:clé header.a:1 header.a:2 message:größe 😀", f"SEND {topic} key:gone tombstone",
           f"SEND {topic} escaped:two\\nlines", f"USE {topic}", "PRODUCE plain", "QUIT")
    plainlog("producer", "-t", topic, "-K", ":", given=b"k:from producer\n")
    read = read_with_kcat(topic)
    equal([(m["key"], m["payload"]) for m in read], [("clé", "größe 😀"), ("gone", None), (None, "two\nlines"), (None, "plain"), ("k", "from producer")])
    equal((read[0]["ts"], read[0]["headers"]), (1700000000000, ["a", "1", "a", "2"]))


@check
def a_key_lands_on_the_same_partition_from_netcat_and_from_java():
    topic = fresh("keyed")
    netcat(f"CREATE {topic} partitions:7", *(f"SEND {topic} key:user-{n} message:text" for n in range(50)), "QUIT")
    tool("kafka-console-producer", "--topic", topic, "--reader-property", "parse.key=true", given="".join(f"user-{n}\tjava\n" for n in range(50)))
    places = {}
    for message in read_with_kcat(topic):
        places.setdefault(message["key"], []).append(message["partition"])
    equal([len(set(partitions)) for partitions in places.values()], [1] * 50)
    equal([len(partitions) for partitions in places.values()], [2] * 50)


@check
def consumer_takes_over_where_the_console_consumer_committed():
    topic, group = fresh("handed-over"), fresh("group")
    netcat(f"CREATE {topic} partitions:1", f"USE {topic}", *(f"PRODUCE {n}" for n in range(6)), "QUIT")
    equal(tool("kafka-console-consumer", "--topic", topic, "--from-beginning", "--group", group, "--max-messages", "2"), "0\n1\n")
    equal(plainlog("consumer", "-t", topic, "--group", group, "--count", "2", "-f", "%s\n"), "2\n3\n")
    equal(tool("kafka-console-consumer", "--topic", topic, "--group", group, "--max-messages", "2"), "4\n5\n")
    shown = netcat(f"GROUP {group}", "QUIT")
    assert any(f"topic:{topic} partition:0 committed:6 end:6 lag:0" in line for line in shown), shown


@check
def netcat_joins_a_group_beside_a_classic_member_of_kafka_and_takes_over_when_it_leaves():
    topic, group = fresh("mixed"), fresh("group")
    netcat(f"CREATE {topic} partitions:1", f"USE {topic}", "PRODUCE hello", "QUIT")
    reader = start("kafka-console-consumer", "--bootstrap-server", ADDRESS, "--topic", topic, "--group", group, "--from-beginning")
    host, port = ADDRESS.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as connection, connection.makefile("rw") as lines:
        def ask(line):
            lines.write(line + "\n")
            lines.flush()
            return lines.readline().rstrip()
        try:
            equal(reader.stdout.readline(), "hello\n")
            joined = ask(f"JOIN {group} {topic}")
            assert joined.startswith("JOINED") and joined.endswith("assigned:"), joined
            netcat(f"SEND {topic} message:world", "QUIT")
            equal(reader.stdout.readline(), "world\n")
        finally:
            reader.terminate()
            reader.wait(20)
        wait_until(lambda: ask("POLL max_bytes:1 wait:0").endswith(f"assigned:{topic}/0"), "the partition of the reader that has left")


def watched(on):
    body = json.dumps({"on": on}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"http://{ADDRESS}/api/wire", body, {"Content-Type": "application/json"}), timeout=30) as answer:
        return json.load(answer)


@check
def wire_explains_every_byte_that_clients_send_and_get():
    topic = fresh("watched")
    watched(True)
    try:
        for codec in ("none", "gzip", "zstd"):
            kcat("-P", "-t", topic, "-p", "0", "-z", codec, "-k", "user-1", "-H", "a=1", given=b"hello\n" * 10)
        equal(len(kcat("-C", "-q", "-e", "-t", topic, "-p", "0").splitlines()), 30)
        tool("kafka-topics", "--list")
        netcat("PING", "QUIT")
        seen = set()
        with urllib.request.urlopen(f"http://{ADDRESS}/api/wire", timeout=30) as events:
            for line in events:
                exchange = json.loads(line[6:]) if line.startswith(b"data: ") else {}
                if "request" not in exchange:
                    continue
                for side in ("request", "response"):
                    message, at = exchange[side], 0
                    for field in message["spans"]:
                        assert field["from"] == at and field["type"] != "not read", (exchange["api"], side, field)
                        at = field["to"]
                    equal((exchange["api"], side, at), (exchange["api"], side, len(message["hex"]) // 2))
                seen.add(exchange["api"].split(" ")[0])
                if exchange["api"] == "PING":
                    break
        assert {"ApiVersions", "Metadata", "Produce", "ListOffsets", "Fetch", "PING"} <= seen, seen
    finally:
        watched(False)


if __name__ == "__main__":
    if DATA:
        main("both protocols on one broker")
    else:
        say("unable all: only plainlog, started here, speaks both protocols")
        say("done")
