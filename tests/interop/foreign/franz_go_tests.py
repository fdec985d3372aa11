"""franz-go's own tests, those of `franz-go.allow`, in one run of the test program that Go builds of them."""
import os, re, subprocess, sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from allow import chosen
from check import ADDRESS, say
from install import franz_go_tests

FOLDER, LIMIT_S, RECORDS = franz_go_tests(), 900, 100_000


def main():
    names = chosen("franz-go.allow", "--fast" in sys.argv)
    say(f"note franz-go's tests, {len(names)} tests")
    environment = {**os.environ, "KGO_SEEDS": ADDRESS, "KGO_TEST_RF": "1", "KGO_TEST_RECORDS": str(RECORDS), "KGO_LOG_LEVEL": "none"}
    process = subprocess.Popen([FOLDER + "/tests", "-test.v", f"-test.timeout={LIMIT_S}s", f"-test.run=^({'|'.join(names)})$"], cwd=FOLDER, env=environment,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, errors="replace")
    left = set(names)
    for line in process.stdout:
        print(line, end="", file=sys.stderr, flush=True)
        ended = re.match(r"--- (PASS|FAIL|SKIP): (\S+) \(([\d.]+)s\)", line)
        if ended and ended[2] in left:
            left.remove(ended[2])
            say(f"pass {ended[2]} {ended[3]}" if ended[1] == "PASS" else f"fail {ended[2]}: {ended[1]}")
    status = process.wait()
    for name in sorted(left):
        say(f"fail {name}: it did not end; the program ended with {status}")
    say("done")


main()
