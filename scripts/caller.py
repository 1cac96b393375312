"""A timeline service as clients/ describes one: asks all the time, and counts. Needs Python's gRPC."""

import importlib
import sys
import threading
import time
from pathlib import Path

import grpc
import grpc_tools
from grpc_tools import protoc
from stage import ROOT

QUERIES_A_SECOND = 100


class Caller:
    """Asks for the same accounts all the time, as clients/service-config.json says, in a thread.

    It counts calls and errors. `withheld` has the indices of those accounts that are withheld in India, if that is
    known: any other answer is an error.
    """

    def __init__(self, addresses, stubs, accounts, withheld=None):
        config = (ROOT / "clients/service-config.json").read_text()
        # gRPC makes the list the authority, commas and all, which is none, and is refused.
        options = [("grpc.service_config", config), ("grpc.default_authority", "withheld")]
        self.channel = grpc.insecure_channel(f"ipv4:{','.join(addresses)}", options=options)
        pb, pb_grpc = stubs
        self.see = pb_grpc.VisibilityServiceStub(self.channel)
        self.request = pb.BatchCheckRequest(viewer_country="IN", account_ids=accounts)
        self.withheld = withheld
        self.done, self.errors, self.longest, self.stop = 0, [], 0.0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        due = time.monotonic()
        while not self.stop.is_set():
            due += 1 / QUERIES_A_SECOND
            time.sleep(max(0, due - time.monotonic()))
            try:
                found = [entry.index for entry in self.see.BatchCheck(self.request, timeout=2).accounts]
                if self.withheld not in (None, found):
                    self.errors.append(f"wrong: {found} are withheld, not {self.withheld}")
                self.done += 1
            except grpc.RpcError as error:
                self.errors.append(f"{error.code().name}: {error.details()}")
            # From when it was due: a stall counts for all that had to wait.
            self.longest = max(self.longest, time.monotonic() - due)

    def end(self):
        self.stop.set()
        self.thread.join()


def stubs(out):
    """The API's modules for messages and calls, generated into this directory."""
    protos = sorted(str(file.relative_to(ROOT / "proto")) for file in (ROOT / "proto").glob("withheld/v1/*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    flags = [f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main(["protoc", *flags, *protos]) == 0
    sys.path.insert(0, out)
    return [importlib.import_module(f"withheld.v1.{name}") for name in ("visibility_pb2", "visibility_pb2_grpc")]
