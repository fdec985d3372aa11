"""What `cluster` has no time for: faults under load, crowds, refusals and moves, before three nodes of Apache Kafka."""
import contextlib, os, random, re, subprocess, tempfile, threading, time

from check import check, equal, fresh, main, netcat, say, wait_until
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType
from confluent_kafka import ElectionType, TopicPartition
from in_front import ALONE, CLUSTER, FRONT, Netcat, PROGRAMS, held, in_front, leader_of, program

ADMIN = AdminClient({"bootstrap.servers": CLUSTER.address})
VALUE = re.compile(r"message:(\S+)$")


class Load:
    """Text producers, readers, members of a group and a loop of transactions, all at once. Each keeps what it was told, and goes on whatever happens."""

    def __init__(self, front, members=3, writers=3, readers=2):
        self.front, self.topic, self.paid, self.group = front, fresh("load"), fresh("paid"), fresh("group")
        netcat(f"CREATE {self.topic} partitions:6", f"CREATE {self.paid} partitions:2", "QUIT", address=front.address)
        self.over, self.troubles = threading.Event(), []
        self.acked, self.sent = [[] for _ in range(writers)], [0] * writers
        self.read = [[] for _ in range(readers)]
        self.polled, self.committed, self.twice = set(), {}, []
        self.transactions = {"committed": [], "aborted": [], "unknown": []}
        loops = [(self.write, writers), (self.tail, readers), (self.poll, members), (self.transact, 1)]
        self.threads = [threading.Thread(target=self.go_on, args=(loop, n)) for loop, count in loops for n in range(count)]
        for thread in self.threads:
            thread.start()

    def go_on(self, loop, n):
        while not self.over.is_set():
            try:
                with contextlib.closing(Netcat(self.front.address)) as connection:
                    loop(n, connection)
            except OSError:  # the program is gone for a while
                time.sleep(0.1)
            except Exception as error:
                self.troubles.append(f"{loop.__name__}: {type(error).__name__}: {error}")
                return

    def write(self, n, connection):
        while not self.over.is_set():
            first, count = self.sent[n], 50
            self.sent[n] += count  # whatever becomes of these, they are not sent again
            connection.say(*(f"SEND {self.topic} key:{n} message:{n}-{number}" for number in range(first, first + count)))
            for number in range(first, first + count):
                answer = connection.line()
                if answer.startswith("ACK"):
                    self.acked[n].append(number)
                else:
                    self.troubles.append(f"write: {answer}")
            time.sleep(0.05)

    def tail(self, n, connection):
        self.read[n] = read = []
        connection.say(f"TAIL {self.topic} from:earliest")
        while not self.over.is_set():
            line = connection.line()
            if line.startswith("ERROR"):
                self.troubles.append(f"tail: {line}")
                return
            read.append(VALUE.search(line)[1])

    def poll(self, n, connection):
        joined, _ = connection.ask(f"JOIN {self.group} {self.topic} session:10000")
        assert joined.startswith("JOINED"), joined
        while not self.over.is_set():
            polled, records = connection.ask("POLL wait:500")
            if polled.startswith("ERROR UNKNOWN_MEMBER_ID"):
                return
            ends = {}
            for record in records:
                partition, offset = map(int, re.search(r"partition:(\d+) offset:(\d+)", record).groups())
                if offset < self.committed.get(partition, 0):
                    self.twice.append(f"{partition}/{offset} of {self.committed[partition]}")
                self.polled.add(VALUE.search(record)[1])
                ends[partition] = offset + 1
            if ends and connection.ask("COMMIT")[0] == "OK":
                for partition, end in ends.items():
                    self.committed[partition] = max(end, self.committed.get(partition, 0))

    def transact(self, _, connection):
        number = -1
        while not self.over.is_set():
            number = 1 + max((max(some, default=-1) for some in self.transactions.values()))
            end = "ABORT" if number % 3 == 2 else "END"
            self.transactions["unknown"].append(number)
            answers = [connection.ask(line)[0] for line in
                       (f"BEGIN {self.paid}", *(f"SEND {self.paid}/{partition} message:{number}" for partition in (0, 1)), end)]
            if all(answer.startswith(("OK", "ACK")) for answer in answers):
                self.transactions["unknown"].remove(number)
                self.transactions["aborted" if end == "ABORT" else "committed"].append(number)
            time.sleep(0.05)

    def goes_on(self, what, seconds=60):
        """Each writer gets new answers, each reader and the group new records, and a transaction ends."""
        had = self.counts()
        try:
            wait_until(lambda: time.sleep(0.2) or self.troubles or all(now > then for now, then in zip(self.counts(), had)), what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {had}, then {self.counts()}")
        say(what)  # into the log

    def counts(self):
        return [*map(len, self.acked), *map(len, self.read), len(self.polled), len(self.transactions["committed"])]

    def end(self, may_fail=()):
        """Ends it, and compares what everybody was told with what the cluster holds."""
        self.over.set()
        netcat(*(f"SEND {self.topic}/{partition} message:last" for partition in range(6)), "QUIT", address=self.front.address)  # wakes those who read
        for thread in self.threads:
            thread.join(60)
        troubles = [trouble for trouble in self.troubles if not any(word in trouble for word in may_fail)]
        equal(troubles[:5], [])
        values = {partition: [value.decode() for value in values if value != b"last"] for partition, values in held(self.topic).items()}
        all_held = {value for some in values.values() for value in some}
        equal(sum(map(len, values.values())), len(all_held))  # none twice
        for n, numbers in enumerate(self.acked):
            lost = [number for number in numbers if f"{n}-{number}" not in all_held]
            equal(lost[:5], [])
            there = [int(value.split("-")[1]) for some in values.values() for value in some if value.startswith(f"{n}-")]
            equal(there, sorted(there))
        # A reader has each partition's records in their order, from the first on.
        for read in self.read:
            by_writer = {}
            for value in read:
                if value != "last":
                    by_writer.setdefault(value.split("-")[0], []).append(value)
            for n, some in by_writer.items():
                equal(some, [value for values in values.values() for value in values if value.startswith(n + "-")][:len(some)])
        equal(self.twice[:5], [])
        # Who joins now goes on from what was committed, and the group has then had everything.
        rest = program("consumer", "-t", self.topic, "--group", self.group, "-e", "--raw", address=self.front.address).splitlines()
        equal(sorted(all_held - self.polled - set(rest))[:5], [])
        whole = [[int(value) for value in values] for values in held(self.paid).values()]
        equal(whole[0], whole[1])
        equal((sorted(set(self.transactions["committed"]) - set(whole[0])), set(self.transactions["aborted"]) & set(whole[0])), ([], set()))
        equal(len(whole[0]), len(set(whole[0])))
        say(f"note   {len(all_held)} records, {sum(map(len, self.acked))} acknowledged, {len(self.polled)} polled, {len(rest)} were left to the group; "
            f"{len(self.transactions['committed'])} transactions, {len(self.transactions['unknown'])} of unknown outcome; {len(self.troubles)} answers were errors")


def in_sync():
    """Waits until each partition has all its copies in sync."""
    def is_whole():
        time.sleep(0.5)
        topics = ADMIN.list_topics(timeout=30).topics.values()
        return all(len(partition.isrs) == len(partition.replicas) for topic in topics for partition in topic.partitions.values())
    wait_until(is_whole, "all copies are in sync", 120)


def tool(name, *arguments):
    """One of Kafka's command-line tools, by its class."""
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", CLUSTER.classes, name, "--bootstrap-server", CLUSTER.address, *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout.decode()[-300:] + done.stderr.decode()[-300:]


@check
def each_node_is_killed_leaders_move_and_one_is_paused_under_load():
    load = Load(FRONT)
    load.goes_on("the load begins")
    for node in range(3):
        CLUSTER.kill(node)
        load.goes_on(f"it goes on without node {node}")
        CLUSTER.start(node)
        CLUSTER.wait(node)
        in_sync()
        load.goes_on(f"it goes on with node {node}")
    # Those that came back lead nothing yet: now each leads what it is to lead.
    partitions = [TopicPartition(load.topic, partition) for partition in range(6)]
    ADMIN.elect_leaders(ElectionType.PREFERRED, partitions).result(30)
    load.goes_on("it goes on with other leaders")
    CLUSTER.pause(leader_of(load.topic))
    try:
        time.sleep(20)
        load.goes_on("it goes on while a node is paused")
    finally:
        for node in range(3):
            CLUSTER.resume(node)
    in_sync()
    load.goes_on("it goes on with all nodes")
    load.end()


@check
def this_program_is_killed_and_started_again_under_load():
    front = in_front()
    load = Load(front)
    for _ in range(4):
        load.goes_on("it goes on")
        front.restart()
    load.goes_on("it goes on after the last start")
    load.end()
    equal(front.stop(), None)


@check
def a_hundred_readers_and_a_hundred_members_of_which_two_are_silent():
    topic, group, front = fresh("crowd"), fresh("group"), in_front()
    netcat(f"CREATE {topic} partitions:100", "QUIT", address=front.address)
    connections = [Netcat(front.address) for _ in range(200)]
    readers, members = connections[:100], connections[100:]
    silent, read, polled, has, over = members.pop(), [0] * 99, [], {}, threading.Event()
    assert silent.ask(f"JOIN {group} {topic} session:6000")[0].startswith("JOINED")
    readers.pop().say(f"TAIL {topic} from:earliest")  # and never reads what comes

    def tail(n, connection):
        connection.say(f"TAIL {topic} from:earliest")
        while read[n] < 20_000:
            line = connection.line()
            assert "message:" in line, line
            read[n] += 1

    def poll(n, connection):
        connection.ask(f"JOIN {group} {topic} commit:auto")
        while not over.is_set():
            answer, records = connection.ask("POLL wait:1000")
            has[n] = answer.count(topic + "/")
            polled.extend(VALUE.search(record)[1] for record in records)
        connection.ask("LEAVE")
    threads = [threading.Thread(target=loop, args=each) for loop, some in ((tail, readers), (poll, members)) for each in enumerate(some)]
    for thread in threads:
        thread.start()
    for first in range(0, 20_000, 1000):
        answers = netcat(*(f"SEND {topic}/{n % 100} message:{n}-{'x' * 100}" for n in range(first, first + 1000)), "QUIT", address=front.address)
        equal([answer for answer in answers if not answer.startswith("ACK")], [])
        say(f"{first + 1000} are sent")  # into the log
    wait_until(lambda: time.sleep(0.5) or say(f"{len(has)} members have {sum(list(has.values()))}") or sum(list(has.values())) == 100 and len(has) == 99, "the others share all partitions", 240)
    wait_until(lambda: time.sleep(0.5) or len(set(polled)) == 20_000, "the group has read everything", 120)
    over.set()
    for thread in threads:
        thread.join(120)
    equal(min(read), 20_000)
    say(f"note   {len(polled) - 20_000} records were polled twice while the group grew")
    equal(front.stop(), None)


@check
def who_may_not_is_told_so_and_what_is_allowed_goes_on():
    topic, free = fresh("secret"), fresh("free")
    netcat(f"CREATE {topic}", f"CREATE {free}", "QUIT")
    rule = AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:somebody", "*", AclOperation.ALL, AclPermissionType.ALLOW)
    for created in ADMIN.create_acls([rule]).values():
        created.result(30)
    with guest("secret") as front:
        for verb in (f"SEND {topic} message:x", f"TAIL {topic} from:earliest until:end", f"JOIN {fresh('g')} {topic}", f"TRIM {topic}/0 1"):
            answer = netcat(verb, "QUIT", address=front.address)[0]
            assert answer.startswith("ERROR TOPIC_AUTHORIZATION_FAILED"), f"{verb}: {answer}"
        mixed = netcat(f"SEND {free} message:1", f"SEND {topic} message:2", f"SEND {free} message:3", "QUIT", address=front.address)
        equal([line.split(" ")[0] for line in mixed], ["ACK", "ERROR", "ACK"])
    equal((held(free), held(topic)), ({0: [b"1", b"3"]}, {0: []}))
    with guest("wrong", "--cluster-timeout", "3s") as front:
        answer = netcat(f"SEND {free} message:4", "QUIT", address=front.address)[0]
        assert answer.startswith("ERROR") and "uthentication" in answer, answer


@contextlib.contextmanager
def guest(password, *arguments):
    """A program that comes to the cluster's other port."""
    with tempfile.NamedTemporaryFile("w", suffix=".properties") as secrets:
        secrets.write(f"security.protocol=sasl_plaintext\nsasl.mechanism=PLAIN\nsasl.username=guest\nsasl.password={password}\n")
        secrets.flush()
        front = in_front("--cluster-config-file", secrets.name, *arguments, servers=CLUSTER.guarded)
        try:
            yield front
        finally:
            equal(front.stop(), None)


@check
def a_quota_slows_down_and_refuses_nothing():
    topic, count = fresh("slow"), 3000
    netcat(f"CREATE {topic}", "QUIT")
    entity = ("--entity-type", "clients", "--entity-default")
    tool("kafka.admin.ConfigCommand", "--alter", "--add-config", "producer_byte_rate=100000,consumer_byte_rate=300000", *entity)
    front = in_front()
    try:
        started = time.monotonic()
        answers = netcat(*(f"SEND {topic} message:{n:0500}" for n in range(count)), "QUIT", address=front.address)
        slow = time.monotonic() - started
        equal([answer for answer in answers if not answer.startswith("ACK")], [])
        read = netcat(f"TAIL {topic} from:earliest until:end", "QUIT", address=front.address)
        equal((len(read), read[-1]), (count + 1, "END"))
        say(f"note   1.5 MB took {slow:.1f} s to write and {time.monotonic() - started - slow:.1f} s to read")
        assert slow > 3, "nobody was throttled"
    finally:
        tool("kafka.admin.ConfigCommand", "--alter", "--delete-config", "producer_byte_rate,consumer_byte_rate", *entity)
    equal(front.stop(), None)


@check
def a_topic_is_dropped_under_a_reader_and_grows_under_a_producer_and_a_group():
    topic, group = fresh("grows"), fresh("group")
    netcat(f"CREATE {topic} partitions:1", "QUIT")
    reader, writer, member = (Netcat(FRONT.address) for _ in range(3))
    reader.say(f"TAIL {topic} from:earliest")
    assert member.ask(f"JOIN {group} {topic} commit:auto")[0].startswith("JOINED")
    netcat(f"ALTER {topic} partitions:4", "QUIT")
    seen, sent, used = set(), 0, set()

    def all_are_used():
        nonlocal sent
        answer, _ = writer.ask(f"SEND {topic} key:{sent} message:{sent}")
        sent += 1
        used.add(re.search(r"partition:(\d)", answer)[1])
        _, records = member.ask("POLL wait:10")
        seen.update(VALUE.search(record)[1] for record in records)
        return len(used) == 4
    wait_until(all_are_used, "a producer writes to partitions that were added", 60)
    while len(seen) < sent:
        seen.update(VALUE.search(record)[1] for record in member.ask("POLL wait:5000")[1])
    read = set()
    while len(read) < sent:
        assert not (line := reader.line()).startswith("ERROR"), f"after {len(read)} records: {line}"
        read.add(VALUE.search(line)[1])
    equal(read, seen)
    started = time.monotonic()
    netcat(f"DROP {topic}", "QUIT")
    told = reader.line()
    assert told.startswith("ERROR UNKNOWN_TOPIC_OR_PARTITION"), told
    say(f"note   a reader was told of the drop after {time.monotonic() - started:.1f} s")
    polled, _ = member.ask("POLL wait:2000")
    assert polled.startswith("POLLED count:0") or "UNKNOWN_TOPIC" in polled, polled


@check
def a_record_that_is_too_large_is_refused_alone():
    topic = fresh("small")
    netcat(f"CREATE {topic} max.message.bytes:20000", "QUIT")
    answers = netcat(f"SEND {topic} message:before", f"SEND {topic} message:{'x' * 50_000}", f"SEND {topic} message:after", "QUIT")
    equal([answer.split(" ")[:2] for answer in answers][1], ["ERROR", "MESSAGE_TOO_LARGE"])
    equal(held(topic), {0: [b"before", b"after"]})


@check
def a_move_is_refused_where_the_topic_has_other_records():
    topic = fresh("taken")
    for address in (ALONE, FRONT.address):
        netcat(f"SEND {topic} message:of-{address}", "QUIT", address=address)
    command = [os.path.join(PROGRAMS, "broker"), "move", "--from", ALONE, "--to", CLUSTER.address, "--topics", topic]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 1 and topic in done.stderr.decode(), done.stderr
    equal(held(topic), {0: [f"of-{FRONT.address}".encode()]})


@check
def a_move_that_is_killed_many_times_while_the_source_goes_on_loses_nothing_and_has_nothing_twice():
    kills, topic, over = int(os.environ.get("PLAINLOG_MOVE_KILLS", 20)), fresh("moved"), threading.Event()
    netcat(f"CREATE {topic} partitions:3", "QUIT", address=ALONE)

    def write():
        connection, number = Netcat(ALONE), 0
        while not over.is_set():
            lines = [f"SEND {topic}/{n % 3} message:{n}" for n in range(number, number + 30)]
            if number % 4 == 0:
                lines = ["BEGIN mover", *lines, "END" if number % 8 else "ABORT"]
            connection.say(*lines)
            for _ in lines:
                assert not (answer := connection.line()).startswith("ERROR"), answer
            number += 30
            time.sleep(0.01)
    writer = threading.Thread(target=write)
    writer.start()
    command = [os.path.join(PROGRAMS, "broker"), "move", "--from", ALONE, "--to", CLUSTER.address, "--topics", topic]
    try:
        for kill in range(kills):
            move = subprocess.Popen([*command, "--follow"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            time.sleep(random.uniform(0.3, 4))
            assert move.poll() is None, f"the move has ended after {kill} kills: {move.stderr.read().decode()[-400:]}"
            move.kill()
            move.wait()
    finally:
        over.set()
        writer.join()
    for mode in ("--until-equal", "--verify"):
        done = subprocess.run([*command, mode], capture_output=True, timeout=300)
        assert done.returncode == 0, f"{mode}: {done.stdout.decode()[-300:]} {done.stderr.decode()[-300:]}"
    numbers = held(topic)
    equal([values == sorted(set(values), key=int) for values in numbers.values()], [True] * 3)
    say(f"note   {sum(map(len, numbers.values()))} records after {kills} kills")


main("plainlog under faults in front of three nodes of Apache Kafka 4.3")
