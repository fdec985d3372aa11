"""Kafka clients of every family by TLS, each with every mechanism: who they are, what they may not, and whom they do not believe.

One program a language does what is asked in lines: `new`, the address, the issuer's file, mechanism, user, password (or token), topic and group, tabs between
them, connects, writes ten records, reads them again in a group, and keeps the producer; `again` and a topic writes by that. It answers `ok`, or the
error as the client told it. What is right stands here. The clients take turns beside each other: they wait more than they work.
"""
import base64, concurrent.futures, dataclasses, json, os, re, socket, ssl, subprocess, tempfile, time, traceback

import install
from check import ADDRESS, fresh, say

HERE, DATA, PROGRAMS = os.path.dirname(os.path.abspath(__file__)), os.environ["PLAINLOG_DATA"], os.environ["PLAINLOG_PROGRAMS"]
CA, FOLDER = DATA + "/tls/ca.pem", tempfile.TemporaryDirectory()
ISSUED = FOLDER.name
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
AT_ONCE = 3
PYTHON = [install.python(), HERE + "/secure_clients.py"]
GO = install.go_program("secure-go")
JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", install.java_program("Secure"), "Secure"]


@dataclasses.dataclass
class Kind:
    """How a client is started, and what it calls a wrong password, what it may not, and certificates that it does not believe."""
    command: list
    wrong: str
    forbidden: str
    foreign: str = "unknown authority"
    expired: str = "certificate has expired"
    token: str = None  # what it calls a token that is not taken; empty: it goes on as if it were; None: it has no tokens
    others: tuple = ()  # what the user who may not write may do


KINDS = {
    # The reason of OpenSSL's refusal does not come through.
    "librdkafka": Kind([*PYTHON, "librdkafka"], "_AUTHENTICATION", "TOPIC_AUTHORIZATION_FAILED", "_SSL.*verify failed", "_SSL.*verify failed",
                       token="_AUTHENTICATION"),
    # It does not see an answer that comes together with the end of the connection, neither ours nor Apache Kafka's.
    "kafka-python": Kind([*PYTHON, "kafka-python"], "SaslAuthenticationFailedError|socket disconnected", "TopicAuthorizationFailedError",
                         "unable to get local issuer", token="SaslAuthenticationFailedError|socket disconnected"),
    "aiokafka": Kind([*PYTHON, "aiokafka"], "AuthenticationFailed", "TopicAuthorizationFailedError", "unable to get local issuer", token=""),
    "java": Kind(JAVA, "SaslAuthenticationException", "TopicAuthorizationException", "SslAuthenticationException.*unable to find valid certification path",
                 "SslAuthenticationException.*CertificateExpiredException", "SaslAuthenticationException"),
    "kafkajs": Kind(install.kafkajs("secure.mjs"), "KafkaJSSASLAuthenticationError", "Topic authorization failed", "unable to verify the first certificate",
                    token="SASL state"),
    "franz-go": Kind([GO, "franz-go"], "SASL_AUTHENTICATION_FAILED", "TOPIC_AUTHORIZATION_FAILED", token="unexpected data in oauth response"),
    "sarama": Kind([GO, "sarama"], "SASL Authentication failed", "not authorized to access this topic", token="SASL Authentication failed"),
    # It asks for nothing in a topic that it does not see.
    "kafka-go": Kind([GO, "kafka-go"], r"\[58\]", r"\[29\]", others=(("describe", "topic", "-other"),)),
}


class Admin:
    """The text protocol by TLS, as the user `admin`."""

    def __init__(self, address=ADDRESS, data=DATA):
        host, port = address.rsplit(":", 1)
        self.stream = ssl.create_default_context(cafile=data + "/tls/ca.pem").wrap_socket(socket.create_connection((host, int(port)), 30), server_hostname=host)
        self.answers = self.stream.makefile()
        with open(data + "/~admin-password") as password:
            self.ask("AUTH admin " + password.readline().rstrip("\n"))

    def ask(self, line):
        self.stream.sendall(line.encode() + b"\n")
        answer = self.answers.readline()
        assert answer.startswith("OK"), f"{line}: {answer}"


class Client:
    """A program of one language, and its user."""

    def __init__(self, name):
        self.name, self.kind, self.user, self.password, self.admin = name, KINDS[name], fresh(name), "first of " + name, Admin()
        self.program = subprocess.Popen(self.kind.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.admin.ask(f"USER add {self.user} {self.password}")
        self.admin.ask(f"USER add {self.user}-other secret")
        for operation, resource, user in (("read", "topic", ""), ("write", "topic", ""), ("read", "group", ""), *self.kind.others):
            self.admin.ask(f"ACL add resource:{resource} name:{self.user} pattern:prefixed principal:User:{self.user}{user} operation:{operation}")

    def ask(self, *words):
        self.program.stdin.write("\t".join(words) + "\n")
        self.program.stdin.flush()
        return self.program.stdout.readline().strip()

    def new(self, mechanism="SCRAM-SHA-512", address=ADDRESS, ca=CA, user=None, password=None):
        self.topic = fresh(self.user)
        self.admin.ask(f"CREATE {self.topic} partitions:1")
        return self.ask("new", address, ca, mechanism, user or self.user, password or self.password, self.topic, fresh(self.user))

    # Each behaviour by its name, with every mechanism those that depend on it.

    def logs_in_writes_and_reads_in_a_group(self, mechanism):
        says("^ok$", self.new(mechanism))

    def tells_a_wrong_password(self, mechanism):
        says(self.kind.wrong, self.new(mechanism, password="wrong"))
        says(self.kind.wrong, self.new(mechanism, user="nobody"))

    def goes_on_when_the_password_changes(self, mechanism):
        says("^ok$", self.new(mechanism))
        old, self.password = self.password, fresh("next")
        self.admin.ask(f"USER password {self.user} {self.password}")
        says("^ok$", self.ask("again", self.topic))
        says(self.kind.wrong, self.new(mechanism, password=old))
        says("^ok$", self.new(mechanism))

    def logs_in_by_a_token_and_not_by_one_that_has_ended(self):
        def new(token):
            topic = fresh(self.name)
            Admin(TOKENS, ISSUED + "/tokens").ask(f"CREATE {topic} partitions:1")
            return self.ask("new", TOKENS, ISSUED + "/tokens/tls/ca.pem", "OAUTHBEARER", "robot", token, topic, fresh(self.name))
        says("^ok$", new(token(time.time() + 600)))
        if self.kind.token:
            says(self.kind.token, new(token(time.time() - 1)))

    def is_told_what_it_may_not(self):
        says(self.kind.forbidden, self.new(user=self.user + "-other", password="secret"))

    def does_not_believe_a_foreign_issuer(self):
        says(self.kind.foreign, self.new(ca=ISSUED + "/ca.pem"))

    def does_not_believe_an_expired_certificate(self):
        says(self.kind.expired, self.new(address=EXPIRED, ca=ISSUED + "/ca.pem"))

    def run(self):
        checks = [(check, (mechanism,)) for mechanism in MECHANISMS
                  for check in (self.logs_in_writes_and_reads_in_a_group, self.tells_a_wrong_password, self.goes_on_when_the_password_changes)]
        if self.kind.token is not None:
            checks.append((self.logs_in_by_a_token_and_not_by_one_that_has_ended, ()))
        checks += [(check, ()) for check in (self.is_told_what_it_may_not, self.does_not_believe_a_foreign_issuer, self.does_not_believe_an_expired_certificate)]
        for check, arguments in checks:
            name, begun = f"{check.__name__}[{','.join([self.name, *arguments])}]", time.monotonic()
            try:
                check(*arguments)
                say(f"pass {name} {time.monotonic() - begun:.1f}")
            except Exception as error:
                traceback.print_exc()
                say(f"fail {name}: " + " ".join(str(error).split())[:400])
        self.program.stdin.close()
        self.program.wait(10)


def says(what, answer):
    assert re.search(what, answer), f"not {what}: {answer}"


def openssl(*arguments, said=b""):
    return subprocess.run(["openssl", *arguments], cwd=ISSUED, check=True, capture_output=True, input=said).stdout


def start(*arguments):
    """A broker, and its address."""
    broker = subprocess.Popen([PROGRAMS + "/broker", "--listen", "127.0.0.1:0", *arguments], stdout=subprocess.PIPE, text=True)
    return broker, broker.stdout.readline().split()[-1]


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def token(ends):
    """A JWT of the broker at TOKENS: RS256, for the user `robot`."""
    said = ".".join(base64url(json.dumps(part).encode()) for part in (
        {"alg": "RS256", "kid": "one"}, {"iss": "https://issuer", "aud": "plainlog", "sub": "robot", "exp": int(ends)}))
    return said + "." + base64url(openssl("dgst", "-sha256", "-sign", "token.key", said=said.encode()))


def token_broker():
    """A broker that takes the tokens of one key."""
    openssl("genrsa", "-out", "token.key", "2048")
    modulus = bytes.fromhex(openssl("rsa", "-in", "token.key", "-noout", "-modulus").decode().strip().split("=")[1])
    with open(ISSUED + "/keys.json", "w") as keys:
        json.dump({"keys": [{"kid": "one", "kty": "RSA", "alg": "RS256", "n": base64url(modulus), "e": "AQAB"}]}, keys)
    return start("--data-dir", ISSUED + "/tokens", "--tls-self-signed", "--users", "--login-delay", "off", "--super-users", "User:robot",
                 "--oauth-jwks", ISSUED + "/keys.json", "--oauth-audience", "plainlog", "--oauth-issuer", "https://issuer")


def expired_broker():
    """A broker whose certificate ended yesterday, and its address; its issuer, which is a foreign one elsewhere, is in ISSUED."""
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(*new, "-x509", "-subj", "/CN=foreign", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "request.pem")
    openssl("x509", "-req", "-in", "request.pem", "-copy_extensions", "copy", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "-1", "-out", "cert.pem")
    return start("--data-dir", ISSUED + "/data", "--tls-cert", ISSUED + "/cert.pem", "--tls-key", ISSUED + "/key.pem")


(expired, EXPIRED), (by_token, TOKENS) = expired_broker(), token_broker()
with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
    say(f"note {', '.join(KINDS)} by SASL_SSL with {', '.join(MECHANISMS)}")
    list(pool.map(lambda name: Client(name).run(), KINDS))
for broker in (expired, by_token):
    broker.terminate()
    broker.wait(10)
say("done")
