"""Every operator of stream processing beside Kafka Streams, each in its test driver: tests/streams_kafka.rs, with Java at its other end."""
import os, re, subprocess, sys

import install
from check import say

java = f"java -cp {install.operators()} Topologies"
say("note TopologyTestDriver of Kafka Streams")
told = []
with subprocess.Popen([*install.OPERATORS, "--", "--nocapture"], cwd=install.ROOT, env={**os.environ, "KAFKA_STREAMS": java},
                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
    for line in process.stdout:
        print(line, end="", file=sys.stderr, flush=True)
        if topology := re.fullmatch(r"([\w-]+): (differs|\d+ results)\n", line):
            told.append(topology[2])
            say(f"fail {topology[1]}: the results differ" if topology[2] == "differs" else f"pass {topology[1]}")
if process.returncode and "differs" not in told:
    say(f"fail operators: ended with status {process.returncode}")
say("done")
