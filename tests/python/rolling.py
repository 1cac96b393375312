"""A timeline service with the service configuration that is shipped: asks several replicas until its input ends.

rolling.py PROTO_DIRECTORY SERVICE_CONFIG HOST:PORT,HOST:PORT,…
Account 1 is withheld in India, account 2 is not. Says `asking` once it has been answered, and at the end, as JSON: how
many requests were made, which errors came of them, how many verdicts were wrong, and the longest wait in milliseconds.
"""

import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
from smoke import generate

THREADS = 8
DEADLINE_SECONDS = 5


class Asking:
    """One thread's questions, one after the other."""

    def __init__(self, pb, see):
        self.pb, self.see = pb, see
        self.requests, self.errors, self.wrong, self.longest = 0, [], 0, 0.0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop.is_set():
            account = 1 + self.requests % 2
            request = self.pb.CheckRequest(account_id=account, viewer_country="IN")
            began = time.monotonic()
            self.requests += 1
            try:
                answer = self.see.Check(request, timeout=DEADLINE_SECONDS)
                self.wrong += answer.withheld != (account == 1)
            except grpc.RpcError as error:
                self.errors.append(f"{error.code().name}: {error.details()}")
            self.longest = max(self.longest, time.monotonic() - began)
            self.stop.wait(0.002)


def main(proto_directory, config, addresses):
    with tempfile.TemporaryDirectory() as out:
        _, pb, pb_grpc, *_ = generate(proto_directory, out)
        # Made of a list of addresses, the authority would be the list, which is none.
        options = [("grpc.service_config", Path(config).read_text()), ("grpc.default_authority", "withheld")]
        with grpc.insecure_channel(f"ipv4:{addresses}", options=options) as channel:
            see = pb_grpc.VisibilityServiceStub(channel)
            see.Check(pb.CheckRequest(account_id=1, viewer_country="IN"), timeout=DEADLINE_SECONDS)
            print("asking", flush=True)
            asking = [Asking(pb, see) for _ in range(THREADS)]
            sys.stdin.read()
            for one in asking:
                one.stop.set()
            for one in asking:
                one.thread.join()
    result = {
        "requests": sum(one.requests for one in asking),
        "errors": [error for one in asking for error in one.errors],
        "wrong": sum(one.wrong for one in asking),
        "longest_ms": round(max(one.longest for one in asking) * 1000),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
