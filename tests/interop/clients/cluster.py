"""plainlog's programs in front of three nodes of Apache Kafka, and records moved between a plainlog and the cluster."""
import json, os, re, subprocess, tempfile, threading, time

from check import check, equal, fresh, main, netcat, wait_until
from confluent_kafka import Consumer, Producer
from in_front import ALONE, CLUSTER, FRONT, Netcat, PROGRAMS, get, held, in_front, leader_of, program


@check
def netcat_sends_and_reads_as_it_does_alone():
    topic = fresh("orders")
    lines = netcat(f"SEND {topic} timestamp:1700000000000 key:7 message:paid", f"TAIL {topic} from:earliest until:end", "QUIT")
    equal(lines, [f"ACK topic:{topic} partition:0 offset:0", "partition:0 offset:0 key:7 message:paid", "END"])
    equal(held(topic), {0: [b"paid"]})


@check
def topics_are_the_clusters_with_three_copies():
    topic = fresh("kept")
    netcat(f"CREATE {topic} partitions:3 retention.ms:60000", "QUIT")
    described = netcat(f"TOPIC {topic}", "QUIT")
    assert "retention.ms:60000" in described[0], described
    equal(len([line for line in described if line.startswith("partition:") and "replicas:" in line and "bytes:-" in line]), 3)
    status, body = get(f"/api/topics/{topic}")
    equal(status, 200)
    assert all(len(partition["replicas"]) == 3 for partition in json.loads(body)["partitions"]), body
    netcat(f"ALTER {topic} cleanup.policy:compact partitions:4", "QUIT")
    described = netcat(f"TOPIC {topic}", "QUIT")[0]
    assert "cleanup.policy:compact" in described and "retention.ms:60000" in described and "partitions:4" in described, described
    netcat(f"DROP {topic}", "QUIT")
    wait_until(lambda: netcat(f"TOPIC {topic}", "QUIT")[0].startswith("ERROR UNKNOWN_TOPIC_OR_PARTITION"), "the topic is gone")


@check
def kafka_clients_are_joined_to_a_node():
    topic = fresh("joined")
    producer = Producer({"bootstrap.servers": FRONT.address, "acks": "all"})
    producer.produce(topic, b"hello", key=b"k")
    equal(producer.flush(30), 0)
    equal(held(topic), {0: [b"hello"]})


@check
def members_of_two_programs_share_and_one_that_is_silent_stops_nobody():
    topic, group, other = fresh("crowd"), fresh("group"), in_front()
    netcat(f"CREATE {topic} partitions:12", "QUIT")
    members = [Netcat(address) for address in (FRONT.address, other.address) for _ in range(4)]
    silent, seen, has, over = members.pop(), [], {}, threading.Event()
    joined, _ = silent.ask(f"JOIN {group} {topic} commit:auto session:6000")
    assert joined.startswith("JOINED") and joined.count(topic + "/") == 12, joined

    def read(index, member):
        member.ask(f"JOIN {group} {topic} commit:auto")
        while not over.is_set():
            polled, records = member.ask("POLL wait:500")
            has[index] = polled.count(topic + "/")
            seen.extend(int(re.search(r"message:(\d+)", record)[1]) for record in records)
        member.ask("LEAVE")
    readers = [threading.Thread(target=read, args=each) for each in enumerate(members)]
    for reader in readers:
        reader.start()
    wait_until(lambda: time.sleep(0.1) or sum(list(has.values())) == 12 and min(has.values()) > 0, "the others have all partitions", 120)
    assert silent.ask("POLL")[0].startswith("ERROR UNKNOWN_MEMBER_ID")
    netcat(*(f"SEND {topic}/{n % 12} message:{n}" for n in range(6000)), "QUIT", address=other.address)
    wait_until(lambda: time.sleep(0.1) or len(seen) >= 6000, "all are read", 120)
    over.set()
    for reader in readers:
        reader.join()
    equal(sorted(seen), list(range(6000)))
    equal(other.stop(), None)


@check
def a_text_group_shares_with_a_kafka_client():
    topic, group = fresh("shared"), fresh("group")
    netcat(f"CREATE {topic} partitions:4", *(f"SEND {topic}/{n % 4} message:{n}" for n in range(400)), "QUIT")
    seen, stop = [], threading.Event()
    consumer = Consumer({"bootstrap.servers": CLUSTER.address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                         "partition.assignment.strategy": "range,roundrobin", "session.timeout.ms": 10000})
    consumer.subscribe([topic])

    def read():
        while not stop.is_set():
            message = consumer.poll(0.2)
            if message is not None and not message.error():
                seen.append(int(message.value()))
                consumer.commit(message)
    reader = threading.Thread(target=read)
    reader.start()
    member = Netcat(FRONT.address)
    joined, _ = member.ask(f"JOIN {group} {topic} commit:auto")
    assert joined.startswith("JOINED"), joined

    def has_two():
        polled, records = member.ask("POLL wait:500")
        seen.extend(int(re.search(r"message:(\d+)", record)[1]) for record in records)
        return polled.count(topic + "/") == 2
    wait_until(has_two, "both have two partitions", 120)
    for n in range(400, 480):
        netcat(f"SEND {topic}/{n % 4} message:{n}", "QUIT")
    wait_until(lambda: has_two() and set(seen) >= set(range(480)), "all were read", 120)
    member.ask("COMMIT")
    member.ask("LEAVE")
    stop.set()
    reader.join()
    consumer.close()
    lag = netcat(f"GROUP {group}", "QUIT")
    assert lag[0].startswith("GROUP count:"), lag


@check
def transactions_are_whole_or_not_at_all():
    topic, id = fresh("paid"), fresh("transfer")
    ended = netcat(f"BEGIN {id}", f"SEND {topic} message:1", f"SEND {topic} message:2", "END", "QUIT")
    equal([line.split(" ")[0] for line in ended], ["OK", "ACK", "ACK", "OK"])
    aborted = netcat(f"BEGIN {id}", f"SEND {topic} message:3", "ABORT", "QUIT")
    equal(aborted[-1], "OK")
    equal(held(topic), {0: [b"1", b"2"]})
    equal([line for line in netcat(f"TAIL {topic}/0 from:0 until:end", "QUIT") if "message:" in line][-1].split("message:")[1], "2")


@check
def the_leader_is_killed_under_a_producer_and_nothing_is_lost_or_twice():
    topic, count = fresh("load"), 300_000
    netcat(f"CREATE {topic} partitions:1", "QUIT")
    given = "".join(f"{n}\n" for n in range(count)).encode()
    environment, errors = {**os.environ, "PLAINLOG_BROKER": FRONT.address}, tempfile.TemporaryFile()
    producer = subprocess.Popen([os.path.join(PROGRAMS, "producer"), "-t", topic], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
    producer.stdin.write(given[:len(given) // 3])
    producer.stdin.flush()
    leader = leader_of(topic)
    CLUSTER.kill(leader)
    producer.stdin.write(given[len(given) // 3:])
    producer.stdin.close()
    status = producer.wait(120)
    errors.seek(0)
    assert status == 0, f"the producer ended with {status}: {errors.read()[-300:]}"
    CLUSTER.start(leader)
    CLUSTER.wait(leader)
    equal([int(value) for value in held(topic)[0]], list(range(count)))


@check
def while_most_nodes_are_paused_lines_get_errors_and_then_all_goes_on():
    topic, impatient = fresh("paused"), in_front("--cluster-timeout", "5s")
    netcat(f"CREATE {topic} partitions:3", *(f"SEND {topic}/{n} message:before" for n in range(3)), "QUIT")
    for node in (0, 1):
        CLUSTER.pause(node)
    try:
        started = time.monotonic()
        refused = netcat(*(f"SEND {topic}/{n} message:during" for n in range(3)), "PING", "QUIT", address=impatient.address)
        assert time.monotonic() - started < 30, "an answer took longer than six times the timeout"
        equal([line.split(" ")[0] for line in refused[:3]].count("ERROR"), 3)
        equal(refused[3], "PONG")
    finally:
        for node in (0, 1):
            CLUSTER.resume(node)
        equal(impatient.stop(), None)
    wait_until(lambda: all(line.startswith("ACK") for line in netcat(*(f"SEND {topic}/{n} message:after" for n in range(3)), "QUIT")), "all goes on", 120)


@check
def what_does_not_answer_is_named_and_everything_else_is_there():
    nobody = in_front("--cluster-timeout", "2s", servers="127.0.0.1:1")
    try:
        lines = netcat("PING", "TOPIC orders", "QUIT", address=nobody.address)
        equal(lines[0], "PONG")
        assert lines[1].startswith("ERROR BROKER_NOT_AVAILABLE") and "127.0.0.1:1" in lines[1], lines
        equal((get("/ready", nobody.address)[0], get("/health", nobody.address)[0]), (503, 200))
    finally:
        equal(nobody.stop(), None)
    equal(get("/ready")[0], 200)


@check
def records_and_groups_move_there_and_back():
    topic, group = fresh("moved"), fresh("analytics")
    given = "".join(f"k{n % 7}:{n}\n" for n in range(5000)).encode()
    program("broker", "topic", "create", topic, "-p", "3", "-c", "retention.ms=86400000", address=ALONE)
    program("producer", "-t", topic, "-K", ":", given=given, address=ALONE)
    program("consumer", "-t", topic, "--group", group, "-c", "1200", address=ALONE)
    program("broker", "move", "--from", ALONE, "--to", CLUSTER.address, "--topics", topic, "--groups")
    program("broker", "move", "--from", ALONE, "--to", CLUSTER.address, "--topics", topic, "--verify")
    equal(sum(map(len, held(topic).values())), 5000)
    rest = program("consumer", "-t", topic, "--group", group, "-e").splitlines()
    equal(len(rest), 3800)
    back = fresh("back")
    program("broker", "move", "--from", CLUSTER.address, "--to", ALONE, "--topics", topic, "--rename", f"{topic}={back}")
    program("broker", "move", "--from", CLUSTER.address, "--to", ALONE, "--topics", topic, "--rename", f"{topic}={back}", "--verify")
    read = [program("consumer", "-t", name, "-p", str(p), "-e", "--json", address=ALONE) for name in (topic, back) for p in range(3)]
    equal([line.replace(back, topic) for line in read[3:]], read[:3])


main("plainlog in front of three nodes of Apache Kafka 4.3")
