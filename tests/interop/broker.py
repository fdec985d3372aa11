"""The broker under test: plainlog, started once for each suite in a folder of its own, or another one that is given.

Each kind has `address`, `restart(cleanly)` (ended by SIGTERM or killed without warning, and started again on the same port and data), `stop()`, which returns
what was wrong with the way it ran or ended, if anything, and for plainlog `data`, the folder of its lines, and `programs`, that of its programs.
"""
import os, re, shutil, signal, socket, subprocess, tempfile, time

from install import jars

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BROKER = os.path.join(ROOT, "target", "release", "broker")


class Plainlog:
    """plainlog's own broker, as a user starts it, with the four partitions for new topics that the foreign suites expect."""
    name = "plainlog"

    def __init__(self, program=BROKER, arguments=(), port=0):
        self.program, self.programs, self.arguments = program, os.path.dirname(os.path.abspath(program)), list(arguments)
        self.folder = tempfile.mkdtemp(prefix="plainlog-interop-")
        self.data, self.errors = self.folder + "/data", self.folder + "/stderr"
        self.start(f"127.0.0.1:{port}")

    def start(self, listen):
        command = [self.program, "--listen", listen, *self.place(), *self.arguments]
        with open(self.errors, "a") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True)
        first = self.process.stdout.readline()
        started = re.fullmatch(r"Broker started on (\S+:\d+)\n", first)
        if not started:
            self.process.kill()
            raise RuntimeError(f"{' '.join(command)} said {first!r}: {self.tail()}")
        self.address = started[1]

    def place(self):
        return ["--data-dir", self.data, "--default-partitions", "4"]

    def restart(self, cleanly=False):
        end(self.process, cleanly)
        self.start(self.address)

    def stop(self):
        """None when it ran without a panic and SIGTERM ended it with status 0 within ten seconds."""
        ended_before = self.process.poll()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "no end within 10 s of SIGTERM"
        tail, panicked = self.tail(), "panicked" in open(self.errors, errors="replace").read()
        shutil.rmtree(self.folder, ignore_errors=True)
        if ended_before is not None:
            return f"the broker ended in mid-suite with {ended_before}: {tail}"
        return f"the broker ended with {status}: {tail}" if status or panicked else None

    def tail(self):
        with open(self.errors, errors="replace") as errors:
            return errors.read()[-800:].strip()


class InFront(Plainlog):
    """plainlog's programs in front of a Kafka cluster: nothing is stored here."""
    name = "plainlog in front of Apache Kafka"

    def __init__(self, servers, arguments=(), program=BROKER):
        self.servers = servers
        super().__init__(program, arguments)

    def place(self):
        return ["--cluster", self.servers]


class Given:
    """A broker that somebody else started: it cannot be restarted from here."""
    name, data, programs, restart = "the broker given", None, None, None

    def __init__(self, address):
        self.address = address

    def stop(self):
        return None


class ApacheKafka:
    """Apache Kafka, one node with its default settings and 1 GiB of heap: the reference that every test here must pass, and the bench's neighbour."""
    name, data, programs = "Apache Kafka", None, None

    def __init__(self, port=0, pem=None, **settings):
        """With `pem`, a file with a private key and its certificate, it listens at `secure`, too, by TLS."""
        self.classes, self.folder = jars(), tempfile.mkdtemp(prefix="apache-kafka-")
        self.port, controller = port or free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        if pem:
            self.secure = f"127.0.0.1:{free_port()}"
            listeners = f"CLIENTS://{self.address},SECURE://{self.secure}"
            settings = {"listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}", "advertised_listeners": listeners, "ssl_keystore_type": "PEM",
                        "listener_security_protocol_map": "CLIENTS:PLAINTEXT,SECURE:SSL,CONTROLLER:PLAINTEXT", "ssl_keystore_location": pem, **settings}
        lines = {
            "process.roles": "broker,controller", "node.id": 1, "log.dirs": self.folder + "/data",
            "listeners": f"CLIENTS://{self.address},CONTROLLER://127.0.0.1:{controller}", "advertised.listeners": f"CLIENTS://{self.address}",
            "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT", "inter.broker.listener.name": "CLIENTS",
            "controller.listener.names": "CONTROLLER", "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            **{topic + ".replication.factor": 1 for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")},
            "transaction.state.log.min.isr": 1, "share.coordinator.state.topic.min.isr": 1,
            **{name.replace("_", "."): value for name, value in settings.items()}}
        self.settings = self.folder + "/server.properties"
        with open(self.settings, "w") as file:
            file.writelines(f"{name}={value}\n" for name, value in lines.items())
        self.java("kafka.tools.StorageTool", "format", "-t", "cGxhaW5sb2cgaW50ZXJvcA", "-c", self.settings).wait()
        self.start()

    def java(self, *arguments):
        with open(self.folder + "/log", "a") as log:
            return subprocess.Popen(["java", "-cp", self.classes, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self):
        # The heap and collector of Kafka's own start script.
        self.process = self.java("-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
                                 "-XX:+ExplicitGCInvokesConcurrent", "kafka.Kafka", self.settings)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            if answers(self.port):
                return
            time.sleep(0.05)
        raise RuntimeError("Apache Kafka does not start: " + open(self.folder + "/log").read()[-800:])

    def restart(self, cleanly=False):
        end(self.process, cleanly)
        self.start()

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class KafkaCluster:
    """Three nodes of Apache Kafka on loopback, broker and controller in one, three copies of everything: what stands behind `broker --cluster`.

    At `address` everybody is whom nothing is forbidden; at `guarded` SASL names `guest`, whose password is `secret`.
    """

    def __init__(self, nodes=3):
        self.classes, self.folder = jars(), tempfile.mkdtemp(prefix="apache-kafka-cluster-")
        self.ports, guarded, controllers = ([free_port() for _ in range(nodes)] for _ in range(3))
        self.address, self.guarded = (",".join(f"127.0.0.1:{port}" for port in ports) for ports in (self.ports, guarded))
        voters = ",".join(f"{node + 1}@127.0.0.1:{port}" for node, port in enumerate(controllers))
        self.processes = [None] * nodes
        formats = []
        for node in range(nodes):
            listener = f"CLIENTS://127.0.0.1:{self.ports[node]},GUARDED://127.0.0.1:{guarded[node]}"
            lines = {
                "process.roles": "broker,controller", "node.id": node + 1, "log.dirs": f"{self.folder}/{node}", "controller.quorum.voters": voters,
                "listeners": f"{listener},CONTROLLER://127.0.0.1:{controllers[node]}", "advertised.listeners": listener,
                "listener.security.protocol.map": "CLIENTS:PLAINTEXT,GUARDED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
                "inter.broker.listener.name": "CLIENTS", "controller.listener.names": "CONTROLLER", "default.replication.factor": nodes, "min.insync.replicas": 2,
                "offsets.topic.num.partitions": 5, "transaction.state.log.num.partitions": 5, "group.initial.rebalance.delay.ms": 0,
                "broker.session.timeout.ms": 6000,
                # Whoever comes by the other port may do what no rule speaks of.
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
                "allow.everyone.if.no.acl.found": "true", "sasl.enabled.mechanisms": "PLAIN",
                "listener.name.guarded.plain.sasl.jaas.config":
                    'org.apache.kafka.common.security.plain.PlainLoginModule required user_guest="secret";'}
            with open(self.settings(node), "w") as file:
                file.writelines(f"{name}={value}\n" for name, value in lines.items())
            formats.append(self.java(node, "kafka.tools.StorageTool", "format", "-t", "cGxhaW5sb2cgaW50ZXJvcA", "-c", self.settings(node)))
        for node in range(nodes):
            formats[node].wait()
            self.start(node)
        for node in range(nodes):
            self.wait(node)

    def settings(self, node):
        return f"{self.folder}/{node}.properties"

    def java(self, node, *arguments):
        with open(f"{self.folder}/{node}.log", "a") as log:
            return subprocess.Popen(["java", "-cp", self.classes, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self, node):
        # Three of them share the machine with what they serve.
        self.processes[node] = self.java(node, "-Xmx512m", "-Xms256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "kafka.Kafka", self.settings(node))

    def wait(self, node):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.processes[node].poll() is None:
            if answers(self.ports[node]):
                return
            time.sleep(0.05)
        raise RuntimeError("a node does not start: " + open(f"{self.folder}/{node}.log").read()[-800:])

    def node_at(self, port):
        return self.ports.index(port)

    def kill(self, node):
        end(self.processes[node], cleanly=False)

    def pause(self, node):
        self.processes[node].send_signal(signal.SIGSTOP)

    def resume(self, node):
        self.processes[node].send_signal(signal.SIGCONT)

    def stop(self):
        for process in self.processes:
            if process and process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def end(process, cleanly):
    process.send_signal(signal.SIGTERM if cleanly else signal.SIGKILL)
    process.wait(60)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def answers(port):
    """Whether an ApiVersions request is answered: a broker that listens is not yet one that serves."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(bytes([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255]))
            return len(connection.recv(4)) == 4
    except OSError:
        return False
