"""kafka-python's own integration tests, those of `kafka-python.allow`, in one run of pytest."""
import os, subprocess, sys, tempfile
import xml.etree.ElementTree as xml

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from allow import chosen
from check import ADDRESS, say
from install import KAFKA_PYTHON_TESTS, kafka_python_tests

ROOT = kafka_python_tests()


def main():
    names = chosen("kafka-python.allow", "--fast" in sys.argv)
    say(f"note kafka-python's tests {KAFKA_PYTHON_TESTS}, {len(names)} tests")
    environment = {**os.environ, "KAFKA_ROOT": ROOT, "KAFKA_URI": f"kafka://{ADDRESS}", "KAFKA_VERSION": "4.2"}
    with tempfile.TemporaryDirectory() as folder:
        report = folder + "/report.xml"
        # Their own setting logs every request and answer.
        status = subprocess.run([sys.executable, "-m", "pytest", "-q", "--timeout", "60", "-p", "no:cacheprovider", "--junit-xml", report, "-o", "log_level=ERROR",
                                 *(f"test/integration/{name}" for name in names)], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                                stdout=sys.stderr).returncode
        if status not in (0, 1):
            raise SystemExit(f"pytest ended with {status}")
        ran = {case.get("classname").split(".")[-1] + ".py::" + case.get("name"): case for case in xml.parse(report).iter("testcase")}
    for name in names:
        case = ran.get(name)
        trouble = [child for child in case if child.tag in ("failure", "error", "skipped")] if case is not None else []
        if case is None:
            say(f"fail {name}: pytest did not run it")
        elif trouble:
            say(f"fail {name}: {trouble[0].tag}: {' '.join((trouble[0].get('message') or '').split())[:300]}")
        else:
            say(f"pass {name} {case.get('time')}")
    say("done")


main()
