"""Runs tests of a foreign suite in Go, those of an allow-list, in one run of the program that Go built of them."""
import os, re, subprocess, sys

from check import say

LIMIT_S = 900


def run(names, program, folder, **environment):
    """Reports each of `names` as it ends; a test that did not pass in a run with others, which may have been about time, is told and tried once more."""
    failed = outcomes(names, program, folder, environment)
    for name, why in failed.items():
        say(f"note {name} is tried again: {why}")
    for name, why in (outcomes(failed, program, folder, environment) if failed else {}).items():
        say(f"fail {name}: {why}")


def outcomes(names, program, folder, environment):
    """What was wrong with each test that did not pass; those that did are reported."""
    process = subprocess.Popen([program, "-test.v", f"-test.timeout={LIMIT_S}s", f"-test.run=^({'|'.join(names)})$"], cwd=folder, env={**os.environ, **environment},
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, errors="replace")
    left, failed = set(names), {}
    for line in process.stdout:
        print(line, end="", file=sys.stderr, flush=True)
        ended = re.match(r"--- (PASS|FAIL|SKIP): (\S+) \(([\d.]+)s\)", line)
        if ended and ended[2] in left:
            left.remove(ended[2])
            if ended[1] == "PASS":
                say(f"pass {ended[2]} {ended[3]}")
            else:
                failed[ended[2]] = ended[1]
    status = process.wait()
    return {**failed, **{name: f"it did not end; the program ended with {status}" for name in sorted(left)}}
