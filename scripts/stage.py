"""What deploy/ describes, run on this machine without containers: for scripts that try it out and break it.

Redis under Sentinels, three replicas of the service, a Prometheus. It knows nothing of what is tried with them. All is
on loopback: the replicas have the same ports on 127.0.0.1, 127.0.0.2 and 127.0.0.3, as they would on three machines.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PROMETHEUS = ROOT / "target/tools/go/prometheus"
SECRETS = {name: f"secret-of-{name}" for name in ("withheld", "replication", "sentinel", "keeper")}
REPLICAS = range(3)
RAN_OUT = "it did not come to pass within {} s: {}"
BEGAN = time.monotonic()


def say(text):
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


def until(what, true, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(RAN_OUT.format(seconds, what))


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [bound.getsockname()[1] for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


def fetch(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def with_secrets(text):
    return re.sub(r"CHANGE-(\w+)", lambda found: SECRETS[found[1]], text)


def redis_program():
    return shutil.which("redis-server") or str(ROOT / "target/test-redis/redis-server")


class Processes:
    """Processes, each in a directory of its own. Those left in the end are killed, and on an error their logs told."""

    def __init__(self, work):
        self.work = Path(work)
        self.processes = {}

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        for name in list(self.processes):
            if kind:
                print(f"--- {name}", *self.log(name).splitlines()[-15:], sep="\n", file=sys.stderr)
            self.end(name, kill=True)

    def start(self, name, command, **environment):
        directory = self.work / name
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "log").open("a") as log:
            self.processes[name] = subprocess.Popen(
                [str(part) for part in command],
                cwd=directory,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )

    def log(self, name):
        return (self.work / name / "log").read_text(encoding="utf-8")

    def end(self, name, kill=False):
        process = self.processes.pop(name)
        process.kill() if kill else process.terminate()
        process.wait()


class Stage(Processes):
    """All of a deployment."""

    def __init__(self, work, program, **settings):
        super().__init__(work)
        self.program, self.settings = program, settings
        ports = free_ports(10)
        self.redis, self.sentinels, self.prometheus = ports[:3], ports[3:6], ports[6]
        self.queries, self.admin, self.http = ([f"127.0.0.{at + 1}:{port}" for at in REPLICAS] for port in ports[7:])

    def start_all(self):
        """Redis, Sentinels, replicas, Prometheus; comes back when the replicas are ready."""
        for at in REPLICAS:
            self.start_redis(at)
        until("Redis answers", lambda: all("Ready to accept" in self.log(f"redis-{at}") for at in REPLICAS))
        for at in REPLICAS:
            self.start_sentinel(at)
        until("the journal is made", self.create_journal)
        for at in REPLICAS:
            self.start_withheld(at)
        self.start_prometheus()
        until("all are ready", lambda: all(self.ready(at) for at in REPLICAS))

    def start_redis(self, at):
        directory = self.work / f"redis-{at}"
        file = directory / "redis.conf"
        if not file.exists():
            directory.mkdir()
            (directory / "users.acl").write_text(with_secrets((DEPLOY / "redis/users.acl").read_text()))
            lines = (DEPLOY / "redis/redis.conf").read_text().replace("CHANGE-hostname", "127.0.0.1")
            lines = with_secrets(lines).replace("/etc/redis/users.acl", f"{directory}/users.acl")
            if at > 0:
                lines = lines.replace("# replicaof redis-1 6379", f"replicaof 127.0.0.1 {self.redis[0]}")
            lines += f"\nport {self.redis[at]}\nbind 127.0.0.1\ndir {directory}\n"
            file.write_text(lines)
        self.start(f"redis-{at}", [redis_program(), file])

    def start_sentinel(self, at):
        directory = self.work / f"sentinel-{at}"
        directory.mkdir()
        lines = with_secrets((DEPLOY / "redis/sentinel.conf").read_text())
        lines = lines.replace("port 26379", f"port {self.sentinels[at]}\nbind 127.0.0.1\ndir {directory}")
        lines = lines.replace("redis-1 6379", f"127.0.0.1 {self.redis[0]}")
        (directory / "sentinel.conf").write_text(lines)
        self.start(f"sentinel-{at}", [redis_program(), directory / "sentinel.conf", "--sentinel"])

    def journal(self):
        """Which journal, and who asks for it."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return {
            "WITHHELD_JOURNAL": f"redis+sentinel://{hosts}/withheld",
            "WITHHELD_REDIS_USER": "withheld",
            "WITHHELD_REDIS_PASSWORD": SECRETS["withheld"],
            "WITHHELD_REDIS_SENTINEL_USER": "withheld",
            "WITHHELD_REDIS_SENTINEL_PASSWORD": SECRETS["withheld"],
        }

    def create_journal(self):
        """Makes the journal, once, as an operator does; gives whether it is there."""
        own = {"WITHHELD_ACTOR": Path(sys.argv[0]).name, "WITHHELD_HISTORY": str(self.work / "created.history")}
        command = [self.program, "journal", "create", "--servers", str(len(REPLICAS))]
        environment = {**os.environ, **self.journal(), **own}
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0

    def start_withheld(self, at):
        self.start(
            f"withheld-{at}",
            [self.program, "serve"],
            **self.journal(),
            WITHHELD_LISTEN=self.queries[at],
            WITHHELD_ADMIN_LISTEN=self.admin[at],
            WITHHELD_HTTP_LISTEN=self.http[at],
            **{"WITHHELD_SNAPSHOT_EVERY": "20", **self.settings},
        )

    def start_prometheus(self):
        directory = self.work / "prometheus"
        directory.mkdir()
        for name in ("rules.yaml", "alerts.yaml"):
            shutil.copy(DEPLOY / "prometheus" / name, directory)
        targets = json.dumps(self.http)
        config = (DEPLOY / "compose/prometheus.yaml").read_text().replace("5s", "1s")
        (directory / "prometheus.yaml").write_text(re.sub(r"targets: .*", f"targets: {targets}", config))
        listen = f"--web.listen-address=127.0.0.1:{self.prometheus}"
        self.start("prometheus", [PROMETHEUS, "--config.file=prometheus.yaml", "--storage.tsdb.path=data", listen])

    def ready(self, at):
        try:
            return fetch(f"http://{self.http[at]}/readyz") == "ready\n"
        except OSError:
            return False

    def ask_prometheus(self, path, **parameters):
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            return json.loads(fetch(url))["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def firing(self):
        alerts = self.ask_prometheus("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def apply(self, order, at=0):
        """Puts an order that names one account into force; gives whether it was acknowledged."""
        items = self.work / f"{order}.csv"
        items.write_text(f"account_id\n{abs(hash(order)) % 10**15 + 1}\n")
        return self.apply_list(order, "IN", items, at)

    def apply_list(self, order, country, items, at=0):
        """Puts an order into force through the command line; gives whether it was acknowledged."""
        file = self.work / f"{order}.toml"
        file.write_text(
            f'order_id = "{order}"\ninstrument = "court_order"\nissuing_authority = "a court"\n'
            f'legal_basis = ["a law"]\n[territory]\ncountries = ["{country}"]\n'
        )
        endpoints = {
            "WITHHELD_ENDPOINT": f"http://{self.queries[at]}",
            "WITHHELD_ADMIN_ENDPOINT": f"http://{self.admin[at]}",
            "WITHHELD_ACTOR": Path(sys.argv[0]).name,
        }
        command = [self.program, "order", "apply", "--file", file, "--items", items, "--yes"]
        done = subprocess.run(command, env={**os.environ, **endpoints}, capture_output=True, text=True, check=False)
        return done.returncode == 0

    def keeper(self, at, *command):
        """What a Redis server answers its administrator."""
        login = ["--user", "keeper", "-a", SECRETS["keeper"], "--no-auth-warning"]
        command = ["redis-cli", "-p", str(self.redis[at]), *login, *command]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def orders(self, at):
        return self.orders_at(self.admin[at])

    def orders_at(self, address):
        command = [self.program, "--output", "json", "order", "list", "--limit", "1000"]
        environment = {**os.environ, "WITHHELD_ADMIN_ENDPOINT": f"http://{address}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return {order["order_id"] for order in json.loads(done.stdout)["orders"]}
