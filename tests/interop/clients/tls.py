"""Kafka clients of several families by TLS, with the issuer that `--tls-self-signed` made; and openssl, the netcat of TLS."""
import os, socket, ssl, subprocess, tempfile

import kafka
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from check import ADDRESS, check, equal, fresh, main
from java_tools import start
from kcat import kcat

DATA, PROGRAMS = os.environ["PLAINLOG_DATA"], os.environ["PLAINLOG_PROGRAMS"]
CA = DATA + "/tls/ca.pem"
LIBRDKAFKA = {"bootstrap.servers": ADDRESS, "security.protocol": "SSL", "ssl.ca.location": CA}
VALUES = [f"{n} größe".encode() for n in range(1000)]

JAVA = tempfile.NamedTemporaryFile("w", suffix=".properties")
JAVA.write(f"security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location={CA}\n")
JAVA.flush()


def openssl(*lines):
    done = subprocess.run(["openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile", CA, "-connect", ADDRESS],
                          input="".join(line + "\n" for line in (*lines, "QUIT")).encode(), capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()[-300:]
    return done.stdout.decode().splitlines()


def java(tool, *arguments, given=""):
    process = start(tool, "--bootstrap-server", ADDRESS, *arguments)
    out, errors = process.communicate(given, 60)
    assert process.returncode == 0, (out + errors)[-400:]
    return out


def written(topic):
    return [line.rsplit("message:", 1)[1] for line in openssl(f"TAIL {topic} from:earliest until:end") if "message:" in line]


@check
def java_writes_and_reads():
    topic = fresh("java")
    java("kafka-console-producer", "--topic", topic, "--command-config", JAVA.name, given="".join(f"{n}\n" for n in range(1000)))
    equal(sorted(map(int, written(topic))), list(range(1000)))
    read = java("kafka-console-consumer", "--topic", topic, "--command-config", JAVA.name, "--group", fresh("g"), "--from-beginning", "--max-messages", "1000")
    equal(sorted(map(int, read.split())), list(range(1000)))


@check
def librdkafka_writes_and_reads_in_a_group():
    topic, producer, errors = fresh("librdkafka"), Producer(LIBRDKAFKA), []
    for value in VALUES:
        producer.produce(topic, value, partition=0, on_delivery=lambda error, _: error and errors.append(error))
        producer.poll(0)
    equal((producer.flush(30), errors), (0, []))
    consumer = Consumer({**LIBRDKAFKA, "group.id": fresh("g"), "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    read = []
    while len(read) < len(VALUES):
        messages = consumer.consume(1000, 20)
        assert messages, f"only {len(read)} came"
        read += [message.value() for message in messages]
    consumer.close()
    equal(read, VALUES)


@check
def kafka_python_writes_and_reads():
    topic, conf = fresh("kafka-python"), {"bootstrap_servers": ADDRESS, "security_protocol": "SSL", "ssl_cafile": CA}
    with kafka.KafkaProducer(**conf) as producer:
        for value in VALUES:
            producer.send(topic, value, partition=0)
        producer.flush(30)
    reader = kafka.KafkaConsumer(topic, auto_offset_reset="earliest", consumer_timeout_ms=20_000, **conf)
    equal([next(reader).value for _ in VALUES], VALUES)
    reader.close()


@check
def kcat_openssl_and_the_programs_share_a_topic():
    topic, by_tls = fresh("shared"), ("-X", "security.protocol=SSL", "-X", "ssl.ca.location=" + CA)
    kcat("-P", "-t", topic, "-p", "0", *by_tls, given=b"kcat\n")
    equal(openssl(f"SEND {topic}/0 message:openssl"), [f"ACK topic:{topic} partition:0 offset:1"])
    program = lambda name, *more: subprocess.run([f"{PROGRAMS}/{name}", "-b", ADDRESS, "-t", topic, "-p", "0", "--ca", CA, *more],
                                                 input=b"producer\n", capture_output=True, timeout=30, check=True).stdout
    program("producer")
    equal(program("consumer", "-e", "-f", "%s\n"), b"kcat\nopenssl\nproducer\n")
    equal(kcat("-C", "-q", "-e", "-t", topic, "-p", "0", *by_tls), b"kcat\nopenssl\nproducer\n")


@check
def who_does_not_trust_it_or_speaks_without_tls_is_let_in_nowhere():
    for conf in ({"bootstrap.servers": ADDRESS}, {"bootstrap.servers": ADDRESS, "security.protocol": "SSL"}):
        try:
            AdminClient({**conf, "log_level": 0}).list_topics(timeout=2)
        except KafkaException:
            continue
        raise AssertionError(f"{conf} was let in")


@check
def python_may_close_without_a_word():
    topic = fresh("closed")
    host, port = ADDRESS.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as plain:
        with ssl.create_default_context(cafile=CA).wrap_socket(plain, server_hostname=host) as stream:
            stream.sendall(f"SEND {topic}/0 message:whole\n".encode())
            equal(stream.recv(1000), f"ACK topic:{topic} partition:0 offset:0\n".encode())
            stream.sendall(f"SEND {topic}/0 message:ha".encode())
    equal(written(topic), ["whole"])


main(f"TLS: {ssl.OPENSSL_VERSION}, Java, librdkafka, kafka-python {kafka.__version__}")
