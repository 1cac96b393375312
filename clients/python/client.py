"""Verdicts from withheld for a timeline service. Copy this file; the stubs are made from proto/."""

import random
import threading
from dataclasses import dataclass
from enum import Enum

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from withheld.v1 import common_pb2, visibility_pb2, visibility_pb2_grpc


# [quote: verdict]
class Answer(Enum):
    """UNKNOWN is not VISIBLE: what to show then is the product's decision."""

    UNKNOWN = "UNKNOWN"
    VISIBLE = "visible"
    WITHHELD = "withheld"


@dataclass(frozen=True)
class Verdict:
    answer: Answer
    notice_key: str = ""  # which notice to show, if WITHHELD
    freshness: common_pb2.Freshness | None = None  # what was known when it was answered, unless UNKNOWN
    country_unknown: bool = False  # the server's policy for unknown viewers decided
    problem: "Problem | None" = None  # why it is UNKNOWN


@dataclass(frozen=True)
class Problem:
    code: str  # as UNAVAILABLE
    reason: str = ""  # as TOO_STALE, of withheld.v1.ErrorReason; empty if it is not the service that says so
    bad_fields: tuple[str, ...] = ()

    @staticmethod
    def of(error: grpc.RpcError) -> "Problem":
        reason, fields = "", ()
        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad):
                fields = tuple(violation.field for violation in bad.field_violations)
        return Problem(error.code().name, reason, fields)


# [end]


class Client:
    # [quote: channel]
    def __init__(self, endpoints: str, service_config: str, deadline: float, max_staleness: Duration):
        """One for the whole process. As `dns:///withheld-headless.prod.svc:50051`, or `ipv4:HOST:PORT,HOST:PORT`."""
        options = [
            ("grpc.service_config", service_config),
            ("grpc.service_config_disable_resolution", 1),
            # Of a list of addresses gRPC makes an authority with commas, which no HTTP/2 server takes.
            ("grpc.default_authority", "withheld"),
            # A connection that says nothing any more is found out after 15 s, and not when TCP gives up.
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # A replica that is back is used again soon, and not after two minutes.
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ]
        self._channel = grpc.insecure_channel(endpoints, options=options)
        self._stub = visibility_pb2_grpc.VisibilityServiceStub(self._channel)
        self._deadline, self._max_staleness = deadline, max_staleness

    # [end]

    # [quote: check]
    def check(self, country: str, account_id: int, at_least_revision: int = 0) -> Verdict:
        request = visibility_pb2.CheckRequest(
            account_id=account_id, viewer_country=country, consistency=self._consistency(at_least_revision)
        )
        try:
            response = self._stub.Check(request, timeout=self._deadline)
        except grpc.RpcError as error:
            return Verdict(Answer.UNKNOWN, problem=Problem.of(error))
        return Verdict(
            Answer.WITHHELD if response.withheld else Answer.VISIBLE,
            response.withholding.notice_key,
            response.freshness,
            response.viewer_country_unknown,
        )

    def _consistency(self, at_least_revision: int) -> common_pb2.Consistency:
        return common_pb2.Consistency(at_least_revision=at_least_revision, max_staleness=self._max_staleness)

    # [end]

    # [quote: batch]
    def batch_check(self, country: str, account_ids: list[int], at_least_revision: int = 0) -> list[Verdict]:
        """A verdict for each account, in the order asked, all from one revision."""
        request = visibility_pb2.BatchCheckRequest(
            account_ids=account_ids, viewer_country=country, consistency=self._consistency(at_least_revision)
        )
        try:
            response = self._stub.BatchCheck(request, timeout=self._deadline)
        except grpc.RpcError as error:
            return [Verdict(Answer.UNKNOWN, problem=Problem.of(error))] * len(account_ids)
        known = (response.freshness, response.viewer_country_unknown)
        verdicts = [Verdict(Answer.VISIBLE, "", *known)] * len(account_ids)
        for entry in response.accounts:
            notice_key = response.withholdings[entry.withholding].notice_key
            verdicts[entry.index] = Verdict(Answer.WITHHELD, notice_key, *known)
        return verdicts

    # [end]

    # [quote: countries]
    def withheld_countries(self, account_ids: list[int], at_least_revision: int = 0) -> list[list[str]]:
        """For each account the countries it is withheld in. Raises grpc.RpcError: no answer is not an empty list."""
        request = visibility_pb2.ListWithheldCountriesRequest(
            account_ids=account_ids, consistency=self._consistency(at_least_revision)
        )
        response = self._stub.ListWithheldCountries(request, timeout=self._deadline)
        return [list(subject.country_codes) for subject in response.subjects]

    # [end]

    # [quote: watch]
    def watch(self, position: str, take, forget, stop: threading.Event) -> None:
        """Gives every message to `take(message)` until `stop` is set: whoever stores its changes stores its position
        with them, where it has one. Calls `forget()` where what was told before may not be so: all is told anew."""
        pause = 0.1
        while not stop.is_set():
            request = visibility_pb2.WatchWithholdingsRequest(resume_position=position)
            try:
                # No deadline: it goes on for ever. A dead connection is ended by keepalive.
                call = self._stub.WatchWithholdings(request)
                for message in call:
                    take(message)
                    # Without one, there is more of the same revision to come.
                    position, pause = message.resume_position or position, 0.1
                    if stop.is_set():
                        call.cancel()
                        return
            except grpc.RpcError as error:
                problem = Problem.of(error)
                if problem.reason == "FOREIGN_POSITION":
                    # It is of another journal, or of entries that this one has lost.
                    position = ""
                    forget()
                print(f"the watch is resumed at `{position}`: {problem}", flush=True)
            stop.wait(random.uniform(0, pause))
            pause = min(2 * pause, 5.0)

    # [end]

    def close(self) -> None:
        self._channel.close()
