"""Prometheus, as Debian has it: its linter on what a scrape gets, and a server that scrapes and is asked what dashboards ask."""
import contextlib, json, shutil, socket, subprocess, tempfile, urllib.parse, urllib.request

from check import ADDRESS, check, equal, fresh, main, netcat, wait_until

URL = f"http://{ADDRESS}/metrics"
# What the dashboard "Kafka Exporter Overview" (7589) asks, with a range that a short test fills.
DASHBOARD = [
    'sum(rate(kafka_topic_partition_current_offset{topic!="__consumer_offsets"}[10s])) by (topic)',
    "sum(kafka_consumergroup_lag) by (consumergroup, topic)",
    "sum(delta(kafka_consumergroup_current_offset[10s]) / 10) by (consumergroup, topic)",
    'sum by(topic) (kafka_topic_partitions{topic!="__consumer_offsets"})',
]


def use(topic, group):
    """Three records in a topic of two partitions, of which a group has read one; some requests are refused."""
    answers = netcat(f"CREATE {topic} partitions:2", *[f"SEND {topic}/1 message:{n}" for n in range(3)], f"RESET {group} {topic}/1 1", "PINK", "QUIT")
    equal([answer.split()[0] for answer in answers], ["OK", "ACK", "ACK", "ACK", "OK", "ERROR"])


@contextlib.contextmanager
def server():
    """A Prometheus that scrapes the broker each second; gives a function that asks it a query."""
    folder = tempfile.mkdtemp(prefix="plainlog-prometheus-")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open(folder + "/prometheus.yml", "w") as config:
        config.write(f"scrape_configs:\n- job_name: plainlog\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{ADDRESS}']\n")
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with open(folder + "/log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(query):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}", timeout=10) as answer:
                rows = json.load(answer)["data"]["result"]
        except OSError:  # it has only just started
            assert process.poll() is None, open(folder + "/log").read()[-300:]
            return []
        return [(row["metric"], float(row["value"][1])) for row in rows]
    try:
        yield ask
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@check
def its_linter_has_nothing_to_say():
    use(fresh("linted"), fresh('a "group" \\x0a of \\x5c many'.replace(" ", "\\x20")))
    with urllib.request.urlopen(URL, timeout=10) as answer:
        text = answer.read()
    linted = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60)
    equal((linted.returncode, linted.stdout, linted.stderr), (0, b"", b""))


@check
def a_server_scrapes_and_answers_what_a_dashboard_asks():
    topic, group = fresh("scraped"), fresh("group")
    use(topic, group)
    with server() as ask:
        wait_until(lambda: ask(f'kafka_topic_partition_current_offset{{topic="{topic}",partition="1"}} == 3'), "the end of a partition")
        equal([value for _, value in ask(f'kafka_consumergroup_lag{{consumergroup="{group}",topic="{topic}",partition="1"}}')], [2])
        equal([value for _, value in ask('up{job="plainlog"}')], [1])
        for query in DASHBOARD:
            wait_until(lambda: [labels for labels, _ in ask(query) if labels.get("topic") == topic], query)
        quantile = 'histogram_quantile(0.99, sum by (le) (rate(plainlog_request_duration_seconds_bucket{request="GET /metrics"}[10s]))) > 0'
        wait_until(lambda: ask(quantile), quantile)


main(subprocess.run(["prometheus", "--version"], capture_output=True, text=True).stdout.split(" (")[0].replace(", version", ""))
