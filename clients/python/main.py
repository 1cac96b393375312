"""Asks a running service everything a timeline service asks: see clients/README.md for what it reads and prints."""

import os
import sys
import threading

from client import Answer, Client
from google.protobuf.duration_pb2 import Duration
from withheld.v1 import common_pb2


def words(verdict):
    if verdict.answer is Answer.UNKNOWN:
        return " ".join(["UNKNOWN", verdict.problem.code, verdict.problem.reason, *verdict.problem.bad_fields]).strip()
    fresh = "live" if verdict.freshness.liveness == common_pb2.LIVENESS_LIVE else "stale"
    said = f"{verdict.answer.value} {verdict.notice_key}".strip()
    unknown = ", country unknown" if verdict.country_unknown else ""
    return f"{said}, revision {verdict.freshness.revision} {fresh}{unknown}"


def tour(client, country, ids, at_least):
    """False if there is no verdict on something."""
    verdicts = [client.check(country, id, at_least) for id in ids]
    for id, verdict in zip(ids, verdicts, strict=True):
        print(f"check {country} {id}: {words(verdict)}")
    batch = client.batch_check(country, ids, at_least)
    for id, verdict in zip(ids, batch, strict=True):
        print(f"batch {country} {id}: {words(verdict)}")
    if any(verdict.answer is Answer.UNKNOWN for verdict in [*verdicts, *batch]):
        return False
    for id in ids:
        print(f"check nowhere {id}: {words(client.check('', id, at_least))}")
    for id, codes in zip(ids, client.withheld_countries(ids, at_least), strict=True):
        print(f"countries {id}: {' '.join(codes)}".strip())
    print(f"check Atlantis {ids[0]}: {words(client.check('Atlantis', ids[0]))}")
    return True


def watch(client, position, until):
    stop = threading.Event()

    def take(message):
        for change in message.changes:
            kind = change.WhichOneof("subject")
            print(f"changed {kind} {getattr(change, kind)}: {' '.join(change.country_codes)}".strip())
        print(f"resume at {message.resume_position}", flush=True)
        if message.resume_after_revision >= until:
            stop.set()

    client.watch(position, take, lambda: print("forget everything", flush=True), stop)


def main(command, *arguments):
    with open(os.environ["SERVICE_CONFIG"], encoding="utf-8") as file:
        service_config = file.read()
    max_staleness = Duration()
    max_staleness.FromMilliseconds(int(os.environ["MAX_STALENESS_MS"]))
    deadline = int(os.environ["DEADLINE_MS"]) / 1000
    client = Client(f"ipv4:{os.environ['ENDPOINTS']}", service_config, deadline, max_staleness)
    if command == "watch":
        position, until = arguments
        watch(client, position, int(until))
        return 0
    country, *ids = arguments
    answered = tour(client, country, [int(id) for id in ids], int(os.environ["AT_LEAST_REVISION"]))
    return 0 if answered else 3


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
