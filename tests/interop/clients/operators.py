"""Every operator of stream processing beside Kafka Streams, each in its test driver: tests/streams_kafka.rs, with Java at its other end."""
import os, re, subprocess, sys

import install
from check import say

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

java = f"java -cp {install.java_program('Topologies')} Topologies"
told = subprocess.run(
    ["cargo", "test", "--quiet", "--test", "streams_kafka", "--", "--nocapture"],
    cwd=ROOT, env={**os.environ, "KAFKA_STREAMS": java}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
)
say("note TopologyTestDriver of Kafka Streams")
if told.returncode == 0:
    for name in re.findall(r"^([\w-]+): \d+ results$", told.stdout, re.MULTILINE):
        say(f"pass {name} 0")
else:
    sys.stderr.write(told.stdout)
    say(f"fail operators: {told.stdout[-2000:].splitlines()[-1:]}; see the log")
say("done")
