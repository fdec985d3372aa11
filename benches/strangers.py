#!/usr/bin/env python3
"""benches/strangers.py: what strangers cost those who are logged in, and whether a clock tells them which names there are.

    cargo build --release --bin broker && benches/strangers.py

flood     A user sends records of 100 B over one connection, five times without strangers and five times with them, by turns. With them means: 10,000
          connections are kept half open (a TLS hello begun, a frame of Kafka's begun, a login by SCRAM begun, a line and a request of HTTP begun), opened again
          when the broker closes them, and passwords are guessed over 64 more, all from 50 addresses. Strangers take at most CONNECTS new connections a second:
          what they themselves cost is not the broker's, and on a machine of their own they would not cost it. The rate with them is to be at least 0.8 of that
          without.
timing    Wrong passwords for names that there are and for names that there are not, by turns at random, over text and over SCRAM: the times are to be of the
          same distribution (Mann-Whitney, |z| < 4) and the medians within 2 % of each other.

It ends with an error if a limit is broken. The medians are of all rounds; progress goes to stderr."""
import argparse, base64, collections, contextlib, math, os, random, resource, selectors, shutil, socket, statistics, struct, subprocess, sys, tempfile, threading, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HALF_OPEN, GUESSING, CONNECTS, ADDRESSES = 10_000, 64, 1000, 50
ROUNDS, SECONDS = 5, 4
LEAST, Z_MOST, MEDIANS_APART_MOST = 0.8, 4, 0.02


def frame(key, version, body):
    head = struct.pack(">hhih", key, version, 7, -1) + body
    return struct.pack(">i", len(head)) + head


def shake(mechanism):
    return frame(17, 1, struct.pack(">h", len(mechanism)) + mechanism.encode())


def authenticate(message):
    return frame(36, 1, struct.pack(">i", len(message)) + message)


BEGUN = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00\x00\x00\x40\x00\x12",
    shake("SCRAM-SHA-256") + authenticate(b"n,,n=admin,r=fyko+d2lbbFgONRv9qkxdawL"),
    b"AUTH admin ",
    b"GET /api/topics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Ba",
]


class Broker:
    def __init__(self, program, *options):
        self.folder = tempfile.mkdtemp(prefix="plainlog-strangers-")
        secret = self.folder + "/secret"
        with open(secret, "w") as file:
            file.write("admin-secret\n")
        command = [program, "--listen", "127.0.0.1:0", "--data-dir", self.folder + "/data", "--users", "--admin-password-file", secret, "--flush", "never", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def admin(self):
        connection = self.connect()
        connection.sendall(b"AUTH admin admin-secret\n")
        told = connection.makefile("rb").readline()
        if told != b"OK principal:User:admin\n":
            sys.exit(f"admin is told {told}")
        return connection

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Strangers:
    """Those who are half open, and those who guess. Runs in a process of its own."""

    def __init__(self, port):
        self.port, self.selector, self.open = port, selectors.DefaultSelector(), collections.Counter()
        self.made = self.guessed = 0

    def connect(self, kind):
        stream = socket.socket()
        stream.setblocking(False)
        stream.bind((f"127.0.1.{1 + random.randrange(ADDRESSES)}", 0))
        stream.connect_ex(("127.0.0.1", self.port))
        self.selector.register(stream, selectors.EVENT_WRITE, kind)
        self.open[kind] += 1
        self.made += 1

    def close(self, stream, kind):
        self.selector.unregister(stream)
        stream.close()
        self.open[kind] -= 1

    def ready(self, stream, kind, events):
        try:
            if events & selectors.EVENT_WRITE:
                stream.send(random.choice(BEGUN) if kind == "half" else b"AUTH admin guess\n")
                self.selector.modify(stream, selectors.EVENT_READ, kind)
            elif not (told := stream.recv(4096)):
                self.close(stream, kind)
            elif kind == "guess":
                self.guessed += told.count(b"\n")
                if b"INVALID_REQUEST" not in told:
                    stream.send(b"AUTH admin guess\n")
        except BlockingIOError:
            pass
        except OSError:
            self.close(stream, kind)

    def run(self, told):
        begun = time.monotonic()
        next_told = begun
        while True:
            now = time.monotonic()
            allowed = int((now - begun) * CONNECTS) - self.made
            # Those who guess are not to starve for the others.
            for kind, most in (("guess", GUESSING), ("half", HALF_OPEN)):
                for _ in range(min(allowed, most - self.open[kind], 100)):
                    self.connect(kind)
                    allowed -= 1
            for key, events in self.selector.select(0.005):
                self.ready(key.fileobj, key.data, events)
            if now > next_told:
                next_told = now + 0.5
                print(self.made, self.guessed, self.open["half"], file=told, flush=True)


class Flood:
    """A process of strangers, who are there while it lasts."""

    def __init__(self, port):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--strangers", str(port)], stdout=subprocess.PIPE, text=True)
        self.last = [0, 0, 0]
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            self.last = [int(word) for word in line.split()]

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.kill()
        self.process.wait()


class Sender:
    """A user who sends records, as many as are acknowledged."""

    def __init__(self, broker):
        self.connection, self.acknowledged = broker.admin(), 0
        self.room = threading.Semaphore(4)
        threading.Thread(target=self.send, daemon=True).start()
        threading.Thread(target=self.count, daemon=True).start()

    def send(self):
        """Until the broker is gone, as does `count`."""
        lines = (b"PRODUCE " + b"x" * 100 + b"\n") * 5000
        with contextlib.suppress(OSError):
            while True:
                self.room.acquire()
                self.connection.sendall(lines)

    def count(self):
        since = 0
        with contextlib.suppress(OSError):
            while told := self.connection.recv(1 << 20):
                acknowledged = told.count(b"\n")
                self.acknowledged += acknowledged
                since += acknowledged
                while since >= 5000:
                    since -= 5000
                    self.room.release()

    def rate(self):
        before, begun = self.acknowledged, time.monotonic()
        time.sleep(SECONDS)
        return (self.acknowledged - before) / (time.monotonic() - begun)


def flood(program):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with Broker(program, "--tls-self-signed", "--tls", "optional", "--retention-bytes", str(1 << 28)) as broker:
        sender = Sender(broker)
        time.sleep(1)
        rates, cpu = {False: [], True: []}, {False: [], True: []}
        for number in range(ROUNDS):
            for strangers in (False, True):
                flood = Flood(broker.port) if strangers else None
                if flood:
                    # Until there are as many as there will be.
                    time.sleep(HALF_OPEN / CONNECTS / 2)
                before, own, made = broker.cpu_s(), flood.cpu_s() if flood else 0, flood.last if flood else [0, 0, 0]
                rates[strangers].append(sender.rate())
                cpu[strangers].append((broker.cpu_s() - before) / SECONDS)
                if flood:
                    own = (flood.cpu_s() - own) / SECONDS
                    made = [(now - then) / SECONDS for now, then in zip(flood.last[:2], made)]
                    print(f"round {number}: {flood.last[2]} half open, {made[0]:.0f} connections/s, {made[1]:.0f} answers to guesses/s, {own:.2f} cores of their own",
                          file=sys.stderr, flush=True)
                    flood.end()
                    time.sleep(2)
        without, among = (statistics.median(rates[strangers]) for strangers in (False, True))
        print("| | records/s | broker, cores |\n| --- | ---: | ---: |")
        for name, strangers in (("without strangers", False), ("among strangers", True)):
            print(f"| {name} | {statistics.median(rates[strangers]) / 1e6:.2f} M | {statistics.median(cpu[strangers]):.2f} |")
        print(f"\n{among / without:.2f} of the rate; at least {LEAST} is due")
        return among / without >= LEAST


def z_of(ones, others):
    """How unlikely it is that both are of one distribution, in standard deviations of the rank sum."""
    ranked = sorted([(time, 0) for time in ones] + [(time, 1) for time in others])
    ranks = sum(rank for rank, (_, which) in enumerate(ranked, 1) if which == 0)
    n, m = len(ones), len(others)
    return (ranks - n * (n + m + 1) / 2) / math.sqrt(n * m * (n + m + 1) / 12)


def by_text(connection, name):
    begun = time.perf_counter()
    connection.sendall(f"AUTH {name} guess\n".encode())
    told = connection.recv(4096)
    took = time.perf_counter() - begun
    if not told.startswith(b"ERROR SASL_AUTHENTICATION_FAILED"):
        sys.exit(f"a guess is told {told}")
    return took


def by_scram(broker, name):
    """The time of the last message."""
    with broker.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(shake("SCRAM-SHA-256"))
        connection.recv(4096)
        connection.sendall(authenticate(f"n,,n={name},r=fyko+d2lbbFgONRv9qkxdawL".encode()))
        challenge = connection.recv(4096)
        nonce = challenge[challenge.index(b"r=") + 2:].split(b",")[0]
        begun = time.perf_counter()
        connection.sendall(authenticate(b"c=biws,r=" + nonce + b",p=" + base64.b64encode(bytes(32))))
        told = connection.recv(4096)
        took = time.perf_counter() - begun
    if told[8:10] != struct.pack(">h", 58):
        sys.exit(f"a guess is told {told}")
    return took


def timing(program):
    names = [f"name-{number:04}" for number in range(40)]
    there = set(random.sample(names, 20))
    with Broker(program, "--login-delay", "off") as broker:
        admin = broker.admin().makefile("rwb")
        for name in there:
            admin.write(f"USER add {name} right\n".encode())
            admin.flush()
            admin.readline()
        connection, well = broker.connect(), True
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Some have been there.
        for name in list(there)[:10]:
            with broker.connect() as known:
                known.sendall(f"AUTH {name} right\n".encode())
                known.recv(4096)
        print("| | of a name that there is, median µs | of none | apart | z |\n| --- | ---: | ---: | ---: | ---: |")
        ways = {"text": lambda name: by_text(connection, name), "SCRAM": lambda name: by_scram(broker, name)}
        for way, count in (("text", 4000), ("SCRAM", 6000)):
            took = {True: [], False: []}
            for number in range(count):
                if way == "text" and number % 200 == 0:  # before a stranger has to go
                    connection.close()
                    connection = broker.connect()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                name = random.choice(names)
                took[name in there].append(ways[way](name))
            known, unknown = (statistics.median(took[is_there]) * 1e6 for is_there in (True, False))
            apart, z = abs(known / unknown - 1), z_of(took[True], took[False])
            print(f"| {way} | {known:.1f} | {unknown:.1f} | {apart:.2%} | {z:.2f} |", flush=True)
            well &= abs(z) < Z_MOST and apart < MEDIANS_APART_MOST
    print(f"\nwell is |z| < {Z_MOST} and less than {MEDIANS_APART_MOST:.0%} apart")
    return well


PARTS = {"flood": flood, "timing": timing}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default=os.path.join(ROOT, "target", "release", "broker"), help="plainlog's broker (default: %(default)s)")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part (default: all)")
    parser.add_argument("--strangers", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.strangers:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        return Strangers(options.strangers).run(sys.stdout)
    done = [PARTS[part](options.broker) for part in options.only or PARTS]
    sys.exit(0 if all(done) else 1)


if __name__ == "__main__":
    main()
