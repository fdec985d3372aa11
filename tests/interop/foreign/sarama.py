"""sarama's functional tests, those of `sarama.allow`, on a broker behind toxiproxy, which they tell to break connections.

They know five brokers, each behind a proxy of its own; here all five proxies lead to one broker, which tells clients the address of the first.
"""
import json, os, subprocess, sys, urllib.request

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import go_tests
from allow import chosen
from broker import free_port
from check import ADDRESS, say, wait_until
from install import KAFKA, SARAMA, SARAMA_PORT, sarama_tests, toxiproxy

FOLDER, CONTROL = sarama_tests(), f"127.0.0.1:{free_port()}"


def add_proxy(number):
    proxy = {"name": f"kafka{number}", "listen": f"127.0.0.1:{SARAMA_PORT + number - 1}", "upstream": ADDRESS, "enabled": True}
    urllib.request.urlopen(f"http://{CONTROL}/proxies", json.dumps(proxy).encode()).close()


def answers():
    try:
        return urllib.request.urlopen(f"http://{CONTROL}/version", timeout=1).status == 200
    except OSError:
        return False


def main():
    names = chosen("sarama.allow", "--fast" in sys.argv)
    say(f"note {SARAMA}, {len(names)} tests")
    host, port = CONTROL.split(":")
    with subprocess.Popen([toxiproxy(), "-host", host, "-port", port], stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr) as proxies:
        try:
            wait_until(answers, "toxiproxy answers")
            for number in range(1, 6):
                add_proxy(number)
            go_tests.run(names, FOLDER + "/tests", FOLDER + "/source", TOXIPROXY_ADDR=f"http://{CONTROL}", KAFKA_VERSION=KAFKA)
        finally:
            proxies.terminate()
    say("done")


main()
