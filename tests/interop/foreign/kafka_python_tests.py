"""kafka-python's own integration tests, those of `kafka-python.allow`, in one run of pytest.

A consumer of this release that subscribes while its first Metadata request is under way forgets, at the answer, that it wants another, and sees
nothing for five minutes (`ClusterMetadata.set_topics` says so itself). The faster the broker, the likelier. So tests that fail are
run twice more, and that is told.
"""
import os, subprocess, sys, tempfile
import xml.etree.ElementTree as xml

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from allow import chosen
from check import ADDRESS, say
from install import KAFKA_PYTHON_TESTS, kafka_python_tests

ROOT = kafka_python_tests()


TRIES_MORE = 2


def run(names):
    """The tests that pytest ran, by name."""
    environment = {**os.environ, "KAFKA_ROOT": ROOT, "KAFKA_URI": f"kafka://{ADDRESS}", "KAFKA_VERSION": "4.2"}
    with tempfile.TemporaryDirectory() as folder:
        report = folder + "/report.xml"
        # Their own setting logs every request and answer.
        status = subprocess.run([sys.executable, "-m", "pytest", "-q", "--timeout", "60", "-p", "no:cacheprovider", "--junit-xml", report, "-o", "log_level=ERROR",
                                 *(f"test/integration/{name}" for name in names)], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                                stdout=sys.stderr).returncode
        if status not in (0, 1):
            raise SystemExit(f"pytest ended with {status}")
        return {case.get("classname").split(".")[-1] + ".py::" + case.get("name"): case for case in xml.parse(report).iter("testcase")}


def trouble(case):
    """What was wrong with a test; None: it passed."""
    if case is None:
        return "pytest did not run it"
    wrong = [child for child in case if child.tag in ("failure", "error", "skipped")]
    return f"{wrong[0].tag}: {' '.join((wrong[0].get('message') or '').split())[:300]}" if wrong else None


def main():
    names = chosen("kafka-python.allow", "--fast" in sys.argv)
    say(f"note kafka-python's tests {KAFKA_PYTHON_TESTS}, {len(names)} tests")
    ran = run(names)
    for _ in range(TRIES_MORE):
        again = [name for name in names if trouble(ran.get(name))]
        for name in again:
            say(f"note {name} is tried again: {trouble(ran.get(name))}")
        if again:
            ran.update(run(again))
    for name in names:
        why = trouble(ran.get(name))
        say(f"fail {name}: {why}" if why else f"pass {name} {ran[name].get('time')}")
    say("done")


main()
