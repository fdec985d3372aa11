"""librdkafka's own tests, one process each: those of `librdkafka.allow`, or with `--consumer-groups` those of `librdkafka-consumer.allow`, whose
consumers then speak the protocol of consumer groups (KIP-848), or with `--secure` those of `librdkafka-secure.allow` by TLS, as a user who logs in
again every few seconds.

One process each because a failed test that leaves threads behind ends its runner before it prints the table. Three at a time: they wait more
than they work. Some are about time, and a busy machine makes them fail: one that fails beside others is tried twice more, alone, and that is told
(once more if so many fail that time is not the reason).
"""
import concurrent.futures, os, re, signal, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from allow import chosen
from check import ADDRESS, say
from install import LIBRDKAFKA, librdkafka

TESTS = librdkafka() + "/tests"
AT_ONCE, TRIES_ALONE, FEW, LIMIT_S = 3, 2, 5, 900
PROTOCOL, LIST, SECURITY = "classic", "librdkafka.allow", ""
if "--consumer-groups" in sys.argv:
    PROTOCOL, LIST = "consumer", "librdkafka-consumer.allow"
elif "--secure" in sys.argv:
    data = os.environ["PLAINLOG_DATA"]
    with open(data + "/~admin-password") as password:
        SECURITY = (f"security.protocol=SASL_SSL\nssl.ca.location={data}/tls/ca.pem\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=admin\n"
                    f"sasl.password={password.readline()}")
    LIST = "librdkafka-secure.allow"
LEFT_OUT = [("SKIPPED", ""), ("SKIPPED", "Filtered due to negative test flags")]


def run(number, settings):
    """None if the test passed, else what happened."""
    environment = {**os.environ, "TESTS": number, "TEST_LEVEL": "1", "TEST_KAFKA_VERSION": "4.1.0", "RDKAFKA_TEST_CONF": settings,
                   "TEST_CONSUMER_GROUP_PROTOCOL": PROTOCOL, "LD_LIBRARY_PATH": "../src:../src-cpp"}
    environment.pop("CI", None)  # it would make some tests easier
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        # -L no tests without broker, -E none that break sockets, -K no known issues. No -Q: it skips parts in silence.
        process = subprocess.Popen(["./test-runner", "-p4", "-L", "-E", "-K"], cwd=TESTS, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=out, start_new_session=True)
        try:
            status = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = f"no end within {LIMIT_S} s"
        out.seek(0)
        text = re.sub(r"\x1b\[[0-9;]*m", "", out.read())
    # A number has a row for each of its parts. Some are left out by the options above, some, without a reason, because they want another scenario.
    rows = re.findall(rf"\| *{number}_\S+ *\| *(\w+) *\|[^|\n]*\|(.*)", text)
    outcomes = [outcome for outcome, reason in rows if (outcome, reason.strip()) not in LEFT_OUT]
    if status == 0 and outcomes and set(outcomes) == {"PASSED"}:
        return None
    print(f"--- {number}\n{text}", file=sys.stderr, flush=True)
    if "SKIPPED" in outcomes:
        return "it skipped itself"
    reasons = re.findall(r"(?:failed|FAIL|assert|abort).*", text)
    return f"status {status}: " + (reasons[0] if reasons else text[-300:].replace("\n", " "))[:300]


def timed(number, settings):
    started = time.monotonic()
    return number, run(number, settings), time.monotonic() - started


def main():
    numbers = chosen(LIST, "--fast" in sys.argv)
    say(f"note librdkafka of rdkafka-sys {LIBRDKAFKA}, {len(numbers)} tests, group.protocol={PROTOCOL}")
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        settings.write(f"metadata.broker.list={ADDRESS}\ntest.timeout.multiplier=3\n{SECURITY}")
        settings.flush()
        again = []
        for done in concurrent.futures.as_completed([pool.submit(timed, number, settings.name) for number in numbers]):
            number, failure, seconds = done.result()
            if failure:
                say(f"note {number} failed beside others and is tried again alone: {failure}")
                again.append(number)
            else:
                say(f"pass {number} {seconds:.1f}")
        for number in again:
            for _ in range(TRIES_ALONE if len(again) <= FEW else 1):
                _, failure, seconds = timed(number, settings.name)
                if not failure:
                    break
            say(f"fail {number}: {failure}" if failure else f"pass {number} {seconds:.1f}")
    say("done")


main()
