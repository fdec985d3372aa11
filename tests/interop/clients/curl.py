"""The API with curl: every route that reads, what is refused, and the document that describes them."""
import json, os, subprocess, tempfile

from openapi_spec_validator import validate

from check import ADDRESS, check, equal, fresh, main

FOLDER = tempfile.TemporaryDirectory(prefix="plainlog-curl-")


def shell(command, status=0):
    """Runs a command whose curl fails if it is refused; returns what it printed."""
    with open(FOLDER.name + "/.curlrc", "w") as options:
        options.write("fail-with-body\nsilent\nshow-error\n")
    command = "set -o pipefail; " + command.replace("localhost:9092", ADDRESS)
    done = subprocess.run(["bash", "-c", command], cwd=FOLDER.name, env={**os.environ, "CURL_HOME": FOLDER.name}, capture_output=True, timeout=60)
    assert done.returncode == status, f"{command} ended with {done.returncode}: {(done.stdout + done.stderr).decode()[-400:]}"
    return done.stdout.decode()


def get(path):
    return json.loads(shell(f"curl 'localhost:9092{path}'"))


@check
def every_route_that_reads_answers():
    topic = fresh("routes")
    shell(f"curl localhost:9092/api/topics -H 'Content-Type: application/json' -d '{{\"name\": \"{topic}\"}}'")
    shell(f"curl localhost:9092/api/groups/{topic}/reset -H 'Content-Type: application/json' -d '{{\"topic\": \"{topic}\", \"to\": 0}}'")
    routes = [route for route in get("/api")["routes"] if route["method"] == "GET"]
    of_users = ["/api/acls", "/api/users"]  # which this broker does not have, and says so
    for path in [route["path"] for route in routes if "text/event-stream" not in route["gives"][:1]]:
        named = path.replace("{topic}", topic).replace("{group}", topic).replace("{file}", "style.css")
        shell(f"curl -o /dev/null 'localhost:9092{named}'", status=22 if path in of_users else 0)
    assert len(routes) >= 12, routes


@check
def refusals_say_what_would_be_right():
    told = shell("curl localhost:9092/api/topics -d name=tea", status=22)
    command = json.loads(told)["message"].split(": ", 1)[1]
    topic = fresh("curl")
    equal(json.loads(shell(f"printf '{{\"name\": \"{topic}\"}}' | {command}"))["name"], topic)
    shell("curl localhost:9092/api/topics/none", status=22)


@check
def the_openapi_document_is_valid():
    document = get("/api/openapi.json")
    validate(document)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    equal(described, {(route["method"], route["path"]) for route in get("/api")["routes"]})


main(shell("curl --version").splitlines()[0].split(" (")[0])
