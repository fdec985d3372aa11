"""What the Python client programs share: checks that report themselves, records that are hard to carry, and patience.

A client program is called with the broker's address and talks to `run` in lines, in whatever language it is written:

    note kcat 1.7.1             who is talking
    pass reads_from_a_time 0.1  a behaviour holds; its seconds are those since the line before, if they are not told
    fail NAME: why              it does not
    unable NAME: why            this client has no way to do it: told loudly, and counted
    restart                     kill the broker and start it again; `restarted` comes back on stdin, or `no` if that is impossible here
    restart cleanly             the same, with SIGTERM
    done                        the last line: a program that ends without it has failed
"""
import socket, sys, threading, time, traceback, uuid

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
START = int(time.time() * 1000) - 3_600_000  # timestamps lie an hour back, so that retention leaves them alone

# key, value, headers, timestamp: null and empty, tombstone, any bytes, line ends, repeated and null headers, order.
RECORDS = [
    (b"user-1", b"hello", [("trace", b"1")], START),
    (None, b"no key", [], START + 1000),
    (b"", b"", [("empty", b""), ("null", None)], START + 2000),
    (b"gone", None, [], START + 3000),
    (bytes(range(256)), b"two\nlines\r\n\0\ttab \\ offset:7", [("b", b"\xff\0"), ("a", b"1"), ("a", b"2")], START + 4000),
    ("schlüssel".encode(), "wert 😀".encode() * 200, [("größe", "ü".encode())], START + 5000),
]
CHECKS = []


class Unable(Exception):
    """This client cannot do what the check asks for."""


def check(function):
    """Registers a behaviour of the program that runs (not of one that it imports); checks run in the order of the file."""
    if function.__module__ == "__main__":
        CHECKS.append((function.__name__, function))
    return function


def for_each(values):
    """Registers a behaviour once for each value."""
    def register(function):
        if function.__module__ == "__main__":
            CHECKS.extend((f"{function.__name__}[{value}]", lambda value=value: function(value)) for value in values)
        return function
    return register


for_each_codec = for_each(CODECS)


def say(line):
    print(line, flush=True)


def netcat(*lines, address=None):
    """What `nc` prints when these lines are piped into it."""
    host, port = (address or ADDRESS).rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall("".join(line + "\n" for line in lines).encode())
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode().splitlines()


def restart_broker():
    say("restart")
    if sys.stdin.readline() != "restarted\n":
        raise Unable("this broker cannot be restarted from here")


def numbers_across_a_restart():
    """0, 1, 2, ... some before the broker is killed, some while it is away, some after it is back."""
    for n in range(500):
        yield n
    failure = []

    def restart():
        try:
            restart_broker()
        except Unable as reason:
            failure.append(reason)
    thread = threading.Thread(target=restart)
    thread.start()
    while thread.is_alive():
        n += 1
        yield n
        time.sleep(0.001)
    if failure:
        raise failure[0]
    for n in range(n + 1, n + 501):
        yield n


def fresh(name):
    """A name nobody has used."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def wait_until(condition, what, seconds=30):
    """Calls `condition`, which does its own waiting (a poll of the client), until it holds; returns what it returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := condition():
            return result
    raise AssertionError(f"not within {seconds} s: {what}")


def equal(got, expected):
    assert got == expected, f"got {got!r}, expected {expected!r}"


def main(note):
    """Runs the checks; `note` names the client and its release."""
    say(f"note {note}")
    for name, function in CHECKS:
        try:
            function()
            say(f"pass {name}")
        except Unable as reason:
            say(f"unable {name}: {reason}")
        except Exception as error:
            traceback.print_exc()
            say(f"fail {name}: " + " ".join(f"{type(error).__name__}: {error}".split())[:400])
    say("done")


ADDRESS = sys.argv[-1]
