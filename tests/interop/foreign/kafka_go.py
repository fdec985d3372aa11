"""kafka-go's own tests, those of `kafka-go.allow`. They talk to the broker at the place that they name, where `run` started it."""
import os, sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import go_tests
from allow import chosen
from check import say
from install import KAFKA_GO, kafka_go_tests

FOLDER = kafka_go_tests()
VERSION = "2.8.1"  # later ones make tests of transactions skip themselves


def main():
    names = chosen("kafka-go.allow", "--fast" in sys.argv)
    say(f"note {KAFKA_GO}, {len(names)} tests")
    go_tests.run(names, FOLDER + "/tests", FOLDER + "/source", KAFKA_VERSION=VERSION, KAFKA_SKIP_NETTEST="1")
    say("done")


main()
