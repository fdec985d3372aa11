"""kcat, the netcat of Kafka (librdkafka as Debian has it)."""
import json, re, subprocess

from check import ADDRESS, RECORDS, START, check, equal, for_each_codec, fresh, main, numbers_across_a_restart


def kcat(*arguments, given=b"", seconds=60):
    """Runs kcat to its end and returns its stdout."""
    done = subprocess.run(["kcat", "-b", ADDRESS, *arguments], input=given, capture_output=True, timeout=seconds)
    assert done.returncode == 0, f"kcat {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()[-300:]}"
    return done.stdout


def produce(topic, *lines, options=()):
    kcat("-P", "-t", topic, *options, given=b"".join(line + b"\n" for line in lines))


def consume(topic, *options):
    """The topic's values from the offset in `options` to its end, partition by partition as they come."""
    return kcat("-C", "-q", "-e", "-t", topic, *options).splitlines()


@check
def lists_broker_and_topics():
    topic = fresh("listed")
    produce(topic, b"x")
    shown = json.loads(kcat("-L", "-J"))
    host, port = ADDRESS.rsplit(":", 1)
    assert shown["brokers"] == [{"id": 1, "name": f"{host}:{port}"}], shown["brokers"]
    equal([len(t["partitions"]) for t in shown["topics"] if t["topic"] == topic], [4])


@for_each_codec
def keeps_keys_headers_and_values(codec):
    topic = fresh(f"codec-{codec}")
    kcat("-P", "-t", topic, "-p", "0", "-z", codec, "-k", "user-1", "-H", "a=1", "-H", "b=2", "-H", "a=3", given=b"hello\n" * 100)
    shown = [json.loads(line) for line in kcat("-C", "-q", "-e", "-J", "-t", topic, "-p", "0").splitlines()]
    equal(len(shown), 100)
    for offset, message in enumerate(shown):
        equal([message[name] for name in ("offset", "key", "payload", "headers")], [offset, "user-1", "hello", ["a", "1", "b", "2", "a", "3"]])


@check
def carries_any_bytes():
    topic, value = fresh("bytes"), RECORDS[4][2 - 1]
    kcat("-P", "-t", topic, "-p", "0", "-D", "\x01\x01", given=value)
    equal(kcat("-C", "-q", "-e", "-t", topic, "-p", "0", "-f", "%s"), value)


@check
def tells_a_tombstone_from_an_empty_value():
    topic = fresh("tombstone")
    produce(topic, b"a:", options=["-p", "0", "-K:", "-Z"])
    produce(topic, b"b:", options=["-p", "0", "-K:"])
    equal(kcat("-C", "-q", "-e", "-t", topic, "-p", "0", "-f", "%k=%S\n"), b"a=-1\nb=0\n")


@check
def reads_from_beginning_end_and_offset():
    topic = fresh("offsets")
    produce(topic, *(b"%d" % n for n in range(10)), options=["-p", "0"])
    equal(consume(topic, "-p", "0", "-o", "beginning"), [b"%d" % n for n in range(10)])
    equal(consume(topic, "-p", "0", "-o", "7"), [b"7", b"8", b"9"])
    equal(consume(topic, "-p", "0", "-o", "-2"), [b"8", b"9"])
    equal(consume(topic, "-p", "0", "-o", "end"), [])


@check
def reads_from_a_time():
    topic = fresh("times")
    for value in (b"early", b"late"):
        produce(topic, value, options=["-p", "0"])
    early, late = (int(line) for line in kcat("-C", "-q", "-e", "-t", topic, "-p", "0", "-f", "%T\n").split())
    assert early < late, "two programs one after the other stamped the same millisecond"
    equal(consume(topic, "-p", "0", "-o", f"s@{late}"), [b"late"])
    equal(consume(topic, "-p", "0", "-o", f"s@{early}", "-o", f"e@{late}"), [b"early"])
    for time, offset in ((START, b"0"), (late, b"1"), (late + 3_600_000, b"-1")):
        equal(kcat("-Q", "-t", f"{topic}:0:{time}").split()[-1], offset)


@check
def follows_a_topic():
    topic = fresh("followed")
    produce(topic, b"first", options=["-p", "0"])
    reader = subprocess.Popen(["kcat", "-b", ADDRESS, "-C", "-q", "-u", "-t", topic, "-p", "0", "-o", "beginning", "-c", "2"], stdout=subprocess.PIPE)
    equal(reader.stdout.readline(), b"first\n")
    produce(topic, b"second", options=["-p", "0"])
    equal((reader.stdout.readline(), reader.wait(20)), (b"second\n", 0))


def member(group, topic):
    """A member of a group and the partition lists it is assigned, as kcat tells them on stderr."""
    process = subprocess.Popen(["kcat", "-b", ADDRESS, "-u", "-G", group, topic], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def assignment():
        for line in process.stderr:
            if found := re.search(r"assigned: (.*)$", line):
                return sorted(re.findall(r"\[(\d+)\]", found[1]))
    return process, assignment


@check
def group_rebalances_when_a_member_joins_and_leaves():
    topic, group = fresh("shared"), fresh("group")
    produce(topic, b"x")
    first, first_assignment = member(group, topic)
    equal(first_assignment(), ["0", "1", "2", "3"])
    second, second_assignment = member(group, topic)
    taken = second_assignment()
    equal((len(taken), sorted(taken + first_assignment())), (2, ["0", "1", "2", "3"]))
    second.terminate()
    equal(second.wait(20), 0)
    equal(first_assignment(), ["0", "1", "2", "3"])
    first.terminate()
    equal(first.wait(20), 0)


@check
def group_resumes_at_committed_offset():
    topic, group = fresh("resumed"), fresh("group")
    produce(topic, b"0", b"1", b"2", options=["-p", "0"])
    read = lambda count: kcat("-q", "-G", group, "-X", "auto.offset.reset=earliest", "-c", str(count), topic).split()
    equal(read(2), [b"0", b"1"])
    equal(read(1), [b"2"])


@check
def idempotent_producer_survives_a_broker_restart():
    topic, written = fresh("idempotent"), 0
    writer = subprocess.Popen(["kcat", "-b", ADDRESS, "-P", "-E", "-t", topic, "-p", "0", "-X", "enable.idempotence=true", "-X", "linger.ms=1"],
                              stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    for written in numbers_across_a_restart():
        writer.stdin.write(b"%d\n" % written)
        writer.stdin.flush()
    writer.stdin.close()
    equal(writer.wait(60), 0)
    equal(consume(topic, "-p", "0"), [b"%d" % n for n in range(written + 1)])


if __name__ == "__main__":
    main(re.search(r"Version .*", subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout)[0])
