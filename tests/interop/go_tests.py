"""Runs tests of a foreign suite in Go, those of an allow-list, in the program that Go built of them.

A name is that of a test, or of one part of a test, as TEST/PART.
"""
import os, re, subprocess, sys

from check import say

LIMIT_S = 900


def run(names, program, folder, **environment):
    """Reports each of `names` as it ends; one that did not pass beside others, which may have been about time, is told and tried once more."""
    def tried(names):
        whole, parts = [name for name in names if "/" not in name], [name.split("/") for name in names if "/" in name]
        failed = outcomes(whole, any_of(whole), program, folder, environment)
        pattern = "/".join(any_of(sorted(set(level))) for level in zip(*parts))
        return {**failed, **outcomes(["/".join(part) for part in parts], pattern, program, folder, environment)}
    failed = tried(names)
    for name, why in failed.items():
        say(f"note {name} is tried again: {why}")
    for name, why in tried(failed).items():
        say(f"fail {name}: {why}")


def any_of(names):
    return f"^({'|'.join(map(re.escape, names))})$"


def outcomes(names, pattern, program, folder, environment):
    """What was wrong with each test that did not pass; those that did are reported."""
    if not names:
        return {}
    process = subprocess.Popen([program, "-test.v", f"-test.timeout={LIMIT_S}s", "-test.run", pattern], cwd=folder, env={**os.environ, **environment},
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, errors="replace")
    left, failed = set(names), {}
    for line in process.stdout:
        print(line, end="", file=sys.stderr, flush=True)
        ended = re.match(r" *--- (PASS|FAIL|SKIP): (\S+) \(([\d.]+)s\)", line)
        if ended and ended[2] in left:
            left.remove(ended[2])
            if ended[1] == "PASS":
                say(f"pass {ended[2]} {ended[3]}")
            else:
                failed[ended[2]] = ended[1]
    status = process.wait()
    return {**failed, **{name: f"it did not end; the program ended with {status}" for name in sorted(left)}}
