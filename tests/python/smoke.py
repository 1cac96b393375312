"""A stranger's client: the API as the proto files and the gRPC ecosystem's own packages have it, in Python.

smoke.py PROTO_DIRECTORY QUERIES ADMIN, the last two as HOST:PORT of a service on an empty journal.
Ends with `ok` and exit code 0, or with the first thing that is not as the API says.
"""

import importlib
import queue
import sys
import tempfile
import threading
from pathlib import Path

import grpc
import grpc_tools
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from grpc_tools import protoc

DEADLINE_SECONDS = 10


def generate(proto_directory, out):
    """Makes the stubs of the public API, as any client's build does, and imports them."""
    files = sorted(str(file.relative_to(proto_directory)) for file in Path(proto_directory).glob("withheld/v1/*.proto"))
    well_known = str(Path(grpc_tools.__file__).parent / "_proto")
    flags = [f"-I{proto_directory}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main(["protoc", *flags, *files]) == 0, "protoc refuses the proto files"
    sys.path.insert(0, out)
    names = ("common_pb2", "visibility_pb2", "visibility_pb2_grpc", "order_pb2", "order_pb2_grpc", "error_pb2")
    return [importlib.import_module(f"withheld.v1.{name}") for name in names]


def expect_error(code, reason, call, request):
    """Calls what must be refused, and gives the details of google.rpc.Status by type."""
    try:
        call(request, timeout=DEADLINE_SECONDS)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        assert error.code() == code, f"{error.code()} instead of {code}: {error.details()}"
        assert status is not None and status.message == error.details(), "no google.rpc.Status goes with it"
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info), f"the first detail is {status.details[0].type_url}"
        assert (info.domain, info.reason) == ("withheld.v1", reason), info
        return info, list(status.details[1:])
    raise AssertionError(f"{request} was not refused")


def check_health(channels, services):
    for name, channel in channels.items():
        health = health_pb2_grpc.HealthStub(channel)
        for service in ["", *services[name]]:
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE_SECONDS)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, f"`{service}` of {name}: {answer}"
        try:
            health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=DEADLINE_SECONDS)
            raise AssertionError("a service that nobody knows has a health")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error.code()
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=DEADLINE_SECONDS)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def check_reflection(channels, services):
    for name, channel in channels.items():
        database = ProtoReflectionDescriptorDatabase(channel)
        listed = set(database.get_services())
        ours = {service for service in listed if service.startswith("withheld.")}
        assert ours == set(services[name]), f"{name} lists {sorted(ours)}, and serves {services[name]}"
        assert {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= listed, listed
        pool = DescriptorPool(database)
        for service in listed:
            methods = pool.FindServiceByName(service).methods
            assert len(methods) > 0 and all(method.input_type.full_name for method in methods)


class Watch:
    """WatchWithholdings on a thread; changes come out of a queue."""

    def __init__(self, stub, request):
        self.call = stub.WatchWithholdings(request)
        self.messages = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for message in self.call:
                self.messages.put(message)
        except grpc.RpcError as error:
            self.messages.put(error)

    def until(self, revision):
        """All changes up to a revision: for each subject its last complete list."""
        lists = {}
        while True:
            message = self.messages.get(timeout=DEADLINE_SECONDS)
            if isinstance(message, grpc.RpcError):
                raise message
            for change in message.changes:
                lists[change.account_id or change.post_id] = list(change.country_codes)
            if message.resume_after_revision >= revision:
                return lists


def main(proto_directory, queries, admin):
    with tempfile.TemporaryDirectory() as out:
        common, visibility, visibility_grpc, order, order_grpc, error = generate(proto_directory, out)
    channels = {"queries": grpc.insecure_channel(queries), "admin": grpc.insecure_channel(admin)}
    services = {
        "queries": ["withheld.v1.VisibilityService"],
        "admin": [
            "withheld.v1.AuditService",
            "withheld.v1.JournalService",
            "withheld.v1.OrderService",
            "withheld.v1.ProtectionService",
            "withheld.v1.ReportService",
        ],
    }
    check_health(channels, services)
    check_reflection(channels, services)

    see = visibility_grpc.VisibilityServiceStub(channels["queries"])
    desk = order_grpc.OrderServiceStub(channels["admin"])
    context = common.CommandContext(actor="smoke@example.org", reason="a test", request_id="")
    account, largest, post = 700000000000000001, 2**64 - 1, 1189184660199785015

    # A list by client streaming: two chunks, the last item unresolved.
    def chunks():
        items = [order.Item(locator_type="account_id", locator=str(id)) for id in (account, largest)]
        yield order.UploadItemsRequest(context=context, items=items)
        link = order.Item(locator_type="url", locator=f"https://twitter.com/i/web/status/{post}")
        yield order.UploadItemsRequest(items=[link, order.Item(locator_type="hashtag", locator="#tag")])

    upload = desk.UploadItems(chunks(), timeout=DEADLINE_SECONDS)
    assert (upload.items, [(c.cause, c.items) for c in upload.unresolved]) == (4, [("hashtag", 1)]), upload

    # Preview, and apply exactly that.
    spec = order.OrderSpec(
        order_id="smoke",
        instrument=order.INSTRUMENT_COURT_ORDER,
        issuing_authority="A court",
        legal_basis=["An act, s. 1"],
        territory=order.Territory(countries=order.CountryList(country_codes=["IN", "BR"])),
        specified_items=4,
    )
    request = order.PreviewOrderRequest(order=spec, upload_id=upload.upload_id)
    preview = desk.PreviewOrder(request, timeout=DEADLINE_SECONDS)
    changed = [(c.country_code, c.accounts, c.posts) for c in preview.effect.countries]
    assert changed == [("BR", 2, 1), ("IN", 2, 1)], preview.effect
    assert [item.cause for item in preview.exceptions] == ["hashtag"], preview.exceptions

    apply = order.ApplyOrderRequest(order=spec, upload_id=upload.upload_id, context=context, preview_digest=bytes(32))
    expect_error(grpc.StatusCode.FAILED_PRECONDITION, "PREVIEW_OUTDATED", desk.ApplyOrder, apply)
    apply.preview_digest = preview.digest
    applied = desk.ApplyOrder(apply, timeout=DEADLINE_SECONDS)
    assert applied.order.state == order.ORDER_STATE_IN_FORCE and not applied.already_applied
    again = desk.ApplyOrder(apply, timeout=DEADLINE_SECONDS)
    assert again.already_applied and again.revision == applied.revision
    apply.order.issuing_authority = "Another court"
    info, _ = expect_error(grpc.StatusCode.ALREADY_EXISTS, "ORDER_ID_TAKEN", desk.ApplyOrder, apply)
    assert info.metadata["written"] == "no", info

    # What viewers see, at least as new as the order.
    fresh = common.Consistency(at_least_revision=applied.revision)

    def check(country, **named):
        request = visibility.CheckRequest(viewer_country=country, consistency=fresh, **named)
        return see.Check(request, timeout=DEADLINE_SECONDS)

    answer = check("IN", account_id=account)
    assert answer.withheld and answer.withholding.basis == common.BASIS_LEGAL_DEMAND, answer
    assert answer.withholding.notice_key == "withheld.user.legal_demand", answer
    assert answer.freshness.revision >= applied.revision and answer.freshness.liveness == common.LIVENESS_LIVE
    assert check("BR", account_id=5, post_id=post).withholding.scope == common.SCOPE_STATUS
    assert not check("US", account_id=account).HasField("withholding")
    unknown = check("", account_id=account)
    assert unknown.viewer_country_unknown and not unknown.withheld, unknown

    batch = see.BatchCheck(
        visibility.BatchCheckRequest(
            viewer_country="IN", account_ids=[5, largest, 6, account], post_ids=[post], consistency=fresh
        ),
        timeout=DEADLINE_SECONDS,
    )
    assert [entry.index for entry in batch.accounts] == [1, 3] and [entry.index for entry in batch.posts] == [0], batch
    scopes = [batch.withholdings[entry.withholding].scope for entry in [*batch.accounts, *batch.posts]]
    assert scopes == [common.SCOPE_USER, common.SCOPE_USER, common.SCOPE_STATUS], batch

    # Bad requests name every bad field and say what is wrong with it.
    bad = visibility.CheckRequest(account_id=0, viewer_country="Atlantis")
    _, details = expect_error(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELDS", see.Check, bad)
    request = error_details_pb2.BadRequest()
    assert details[0].Unpack(request), details
    named = {violation.field: violation.description for violation in request.field_violations}
    assert set(named) == {"account_id", "viewer_country"}, named
    assert "`Atlantis`" in named["viewer_country"] and named["account_id"], named
    assert error.ErrorReason.Value("ERROR_REASON_BAD_FIELDS") == 1

    # A watch sees the order, and then its lift, as complete lists.
    watch = Watch(see, visibility.WatchWithholdingsRequest(after_revision=0))
    withheld = ["BR", "IN"]
    assert watch.until(applied.revision) == {account: withheld, largest: withheld, post: withheld}
    lift = order.LiftOrderRequest(order_id="smoke", context=context)
    lifted = desk.LiftOrder(lift, timeout=DEADLINE_SECONDS)
    assert (lifted.effect.accounts_changed, lifted.effect.posts_changed) == (2, 1), lifted
    assert watch.until(lifted.revision) == {account: [], largest: [], post: []}
    watch.call.cancel()
    fresh.at_least_revision = lifted.revision
    assert not check("IN", account_id=account).withheld
    expect_error(grpc.StatusCode.FAILED_PRECONDITION, "WRONG_ORDER_STATE", desk.LiftOrder, lift)

    # Why it was withheld, now and while the order was in force.
    subject = common.Subject(account_id=account)
    explained = desk.ExplainAccount(
        order.ExplainAccountRequest(subject=subject, country_code="IN", consistency=fresh), timeout=DEADLINE_SECONDS
    )
    assert explained.HasField("withheld") and not explained.withheld, explained
    [touch] = explained.orders
    [interval] = touch.intervals
    assert touch.order.spec.order_id == "smoke" and interval.HasField("until"), touch
    then = order.ExplainAccountRequest(subject=subject, country_code="IN", at=getattr(interval, "from"))
    assert desk.ExplainAccount(then, timeout=DEADLINE_SECONDS).withheld
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
