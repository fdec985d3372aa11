"""What the suites need, each client at a pinned release, into one cache folder outside the repository.

    $XDG_CACHE_HOME (or the folder for temporary files)/plainlog-interop/
      python-<pins>/     confluent-kafka, kafka-python, aiokafka and their codecs
      java-4.3.1/        the jars of Kafka's Java client and tools
      ...

A folder is complete when it holds the file `complete`, and is never touched again after that. Packages come through the ordinary clients of their
kinds (pip, npm, go, mvn, cargo, apt-get) as this machine has set them up; a kind of package that cannot be had raises Missing with the reason.
"""
import fcntl, glob, hashlib, json, os, shutil, subprocess, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir(), "plainlog-interop")
KAFKA = "4.3.1"
PYTHON = ["confluent-kafka==2.16.1", "kafka-python==3.0.12", "aiokafka==0.14.0",
          "lz4==4.4.5", "cramjam==2.14.0", "python-snappy==0.7.3", "zstandard==0.25.0", "crc32c==2.9.post0"]
PYTEST = ["pytest==9.2.0", "pytest-timeout==2.4.0", "pytest-mock==3.17.0"]
KAFKATOP = ["kafkatop==1.16", "humanize==4.17.0", "rich==15.0.0", "readchar==4.2.2"]
OPENAPI = ["openapi-spec-validator==0.9.0"]
NPM = ["kafkajs@2.2.4", "snappyjs@0.7.0", "lz4-napi@2.10.0", "zstd-codec@0.1.5"]
BROWSER = ["playwright-core@1.65.1"]
KAFKA_PYTHON_TESTS = "3.0.12"
SARAMA = "github.com/IBM/sarama@v1.61.1"
KAFKA_GO = "github.com/segmentio/kafka-go@v0.4.51"
KAFKA_GO_PORT = 19092
SARAMA_PORT = 29091  # of the first of the proxies that its tests know; the others follow
# With the features that the programs are tested with: their build has all that these take.
OPERATORS = ["cargo", "test", "--quiet", "--features", "cluster", "--test", "streams_kafka"]
SAME_STREAMS = os.path.join(ROOT, "target", "debug", "examples", "interop-streams")
TOXIPROXY = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0"
LIBRDKAFKA = "=4.10.0"  # the crate rdkafka-sys, which carries librdkafka 2.12.1 with its tests
HEADERS = {"rapidjson/rapidjson.h": "rapidjson-dev", "zstd.h": "libzstd-dev", "zlib.h": "zlib1g-dev", "openssl/ssl.h": "libssl-dev"}


class Missing(Exception):
    """Something that a suite needs is not on this machine and could not be installed."""


def sh(*command, cwd=None, log="install.log", **environment):
    """Runs a command; its output goes to a file in the cache, whose end is told when it fails."""
    os.makedirs(CACHE, exist_ok=True)
    path = os.path.join(CACHE, log)
    with open(path, "w") as out:
        try:
            status = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **environment}).returncode
        except FileNotFoundError:
            raise Missing(f"{command[0]} is not on this machine") from None
    if status:
        with open(path, errors="replace") as out:
            raise Missing(f"`{' '.join(command)}` ended with {status}: ...{out.read()[-600:].strip()}")


def folder(name, pins, build):
    """The folder NAME-<hash of the pins>, made by `build(path)` the first time; another run at the same time waits for it."""
    path = os.path.join(CACHE, f"{name}-{hashlib.sha256(repr(pins).encode()).hexdigest()[:8]}")
    os.makedirs(CACHE, exist_ok=True)
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path + "/complete"):
            shutil.rmtree(path, ignore_errors=True)
            os.makedirs(path)
            build(path)
            open(path + "/complete", "w").close()
    return path


def python():
    """A Python with the three Python clients, pytest, a validator of OpenAPI documents, and kafkatop."""
    def build(path):
        sh("python3", "-m", "venv", path, log="pip.log")
        sh(path + "/bin/pip", "install", "-q", *PYTHON, *PYTEST, *OPENAPI, *KAFKATOP, log="pip.log")
    return folder("python", PYTHON + PYTEST + OPENAPI + KAFKATOP, build) + "/bin/python"


def apt(*packages):
    """Debian's packages, when this is Debian and we may install."""
    sh("apt-get", "-o", "DPkg::Lock::Timeout=120", "update", log="apt.log")
    sh("apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "-y", "-q", *packages, log="apt.log", DEBIAN_FRONTEND="noninteractive")


def kcat():
    if not shutil.which("kcat"):
        apt("kcat")
    return shutil.which("kcat")


def curl():
    if not shutil.which("curl"):
        apt("curl")
    return shutil.which("curl")


def prometheus():
    """The server and its linter."""
    if not shutil.which("promtool"):
        apt("prometheus")
    return shutil.which("promtool")


def kafkajs(program="kafkajs.mjs"):
    """A folder with kafkajs, its codecs (nothing to compile) and a program of ours."""
    def build(path):
        sh("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", path, *NPM, log="npm.log")
    path = folder("kafkajs", NPM, build)
    return ["node", shutil.copy(os.path.join(HERE, "clients", program), path)]


def console(program="console.mjs", *options):
    """Chromium of this machine, driven by playwright-core, with a program of ours."""
    if not shutil.which("chromium"):
        apt("chromium")
    def build(path):
        sh("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", path, *BROWSER, log="npm.log")
    path = folder("console", BROWSER, build)
    for file in ("browser.mjs", program):
        # Another program may be reading it.
        os.replace(shutil.copy(os.path.join(HERE, "clients", file), f"{path}/{file}.new"), f"{path}/{file}")
    return ["env", "CHROMIUM=" + shutil.which("chromium"), "node", f"{path}/{program}", *options]


def go_program(name):
    """Our Go program of this name, built from its go.mod."""
    source = os.path.join(HERE, "clients", name)
    pins = [open(file).read() for file in sorted(glob.glob(source + "/*"))]
    return folder(name, pins, lambda path: sh("go", "build", "-o", f"{path}/{name}", ".", cwd=source, log="go.log")) + "/" + name


def franz_go_tests():
    """A folder with the program `tests`, franz-go's own tests at the release that our program uses."""
    source = os.path.join(HERE, "clients", "franz-go")
    def build(path):
        sh("go", "mod", "download", cwd=source, log="go.log")
        module = subprocess.run(["go", "list", "-m", "-f", "{{.Dir}}", "github.com/twmb/franz-go"], cwd=source, capture_output=True, text=True).stdout.strip()
        sh("go", "test", "-c", "-o", path + "/tests", "./pkg/kgo", cwd=module, log="go.log")
    return folder("franz-go-tests", open(source + "/go.mod").read(), build)


def go_module_tests(name, module, changes, *options):
    """A folder with `source`, a Go module, and the program `tests`, made of its own tests; `changes` are what sed does to its files first."""
    def build(path):
        try:
            found = subprocess.run(["go", "mod", "download", "-json", module], cwd=path, capture_output=True, text=True)
        except FileNotFoundError:
            raise Missing("go is not on this machine") from None
        if found.returncode:
            raise Missing(f"go cannot fetch {module}: {found.stdout[-400:]}")
        source = path + "/source"
        sh("cp", "-r", "--no-preserve=mode", json.loads(found.stdout)["Dir"], source, log="go.log")
        sh("sed", "-i", "-E", changes, *glob.glob(source + "/*.go"), log="go.log")
        sh("go", "test", "-mod=mod", "-c", *options, "-o", path + "/tests", ".", cwd=source, log="go.log")
    return folder(name, [module, changes, options], build)


def toxiproxy():
    """A proxy that its clients may tell to break connections."""
    return folder("toxiproxy", TOXIPROXY, lambda path: sh("go", "install", TOXIPROXY, log="go.log", GOBIN=path)) + "/server"


def sarama_tests():
    """sarama's functional tests, with topics that fit on one broker."""
    return go_module_tests("sarama-tests", SARAMA, "s/ReplicationFactor: 3/ReplicationFactor: 1/", "-tags", "functional")


def kafka_go_tests():
    """kafka-go's own tests, with the broker at a port of theirs instead of Kafka's usual one."""
    return go_module_tests("kafka-go-tests", KAFKA_GO, rf"s/\b9092\b/{KAFKA_GO_PORT}/g")


def jars():
    """The class path of Kafka's Java client, its tools, and Apache Kafka itself, the reference."""
    pom = os.path.join(HERE, "clients", "java", "pom.xml")
    def build(path):
        sh("mvn", "-q", "-B", "-f", pom, f"-Dkafka={KAFKA}", "dependency:copy-dependencies", "-DoutputDirectory=" + path, log="mvn.log")
    return folder("java", [KAFKA, open(pom).read()], build) + "/*"


def java_program(name):
    """The class path of the jars and one of our Java programs."""
    source, path = os.path.join(HERE, "clients", "java", name + ".java"), jars()
    return folder("java-program", [path, open(source).read()], lambda out: sh("javac", "-encoding", "UTF-8", "-cp", path, "-d", out, source, log="javac.log")) + ":" + path


def streams():
    """Our side of the suite `streams`, and the class path of the other."""
    sh("cargo", "build", "--quiet", "--features", "cluster", "--example", "interop-streams", cwd=ROOT, log="cargo.log")
    return java_program("SameStreams")


def operators():
    """Our side of the suite `operators`, and the class path of the other."""
    sh(*OPERATORS, "--no-run", cwd=ROOT, log="cargo.log")
    return java_program("Topologies")


def librdkafka():
    """librdkafka with its tests and its load program, built from the crate that carries their sources."""
    def build(path):
        needed = [package for header, package in HEADERS.items() if not os.path.exists("/usr/include/" + header)]
        if needed:
            apt(*needed)
        os.makedirs(path + "/src")
        open(path + "/src/lib.rs", "w").close()
        with open(path + "/Cargo.toml", "w") as manifest:
            manifest.write('[package]\nname = "sources"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n'
                           f'rdkafka-sys = {{ version = "{LIBRDKAFKA}", default-features = false }}\n')
        try:
            metadata = subprocess.run(["cargo", "metadata", "--format-version", "1"], cwd=path, capture_output=True, text=True)
        except FileNotFoundError:
            raise Missing("cargo is not on this machine") from None
        if metadata.returncode:
            raise Missing("cargo cannot fetch rdkafka-sys: " + metadata.stderr[-400:])
        crate = next(p["manifest_path"] for p in json.loads(metadata.stdout)["packages"] if p["name"] == "rdkafka-sys")
        tree = path + "/librdkafka"
        shutil.copytree(os.path.join(os.path.dirname(crate), "librdkafka"), tree)
        sh("bash", "./configure", "--disable-gssapi", cwd=tree, log="librdkafka.log")
        sh("make", "-j2", "libs", cwd=tree, log="librdkafka.log")
        sh("make", "-j2", "-C", "tests", "test-runner", cwd=tree, log="librdkafka.log")
        sh("make", "-C", "examples", "rdkafka_performance", cwd=tree, log="librdkafka.log")
    return folder("librdkafka", LIBRDKAFKA, build) + "/librdkafka"


def kafka_python_tests():
    """The tests of kafka-python from its source package, with the two small files that it leaves out."""
    def build(path):
        sh(python(), "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", path, "kafka-python==" + KAFKA_PYTHON_TESTS, log="sdist.log")
        sh("tar", "-xzf", *glob.glob(path + "/*.tar.gz"), "-C", path, "--strip-components=1", log="sdist.log")
        open(path + "/test/__init__.py", "a").close()
        with open(path + "/test/service.py", "w") as service:
            service.write("class ExternalService:\n    def __init__(self, host, port):\n        self.host, self.port = host, port\n\n"
                          "    def open(self):\n        pass\n\n    def close(self):\n        pass\n\n\n"
                          "class SpawnedService:\n    pass\n")
    return folder("kafka-python-tests", KAFKA_PYTHON_TESTS, build)
