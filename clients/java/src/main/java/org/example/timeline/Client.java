package org.example.timeline;

import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.EquivalentAddressGroup;
import io.grpc.ManagedChannel;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.StatusOr;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.StatusProto;
import java.net.InetSocketAddress;
import java.net.URI;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import withheld.v1.Common.Consistency;
import withheld.v1.Common.Freshness;
import withheld.v1.Visibility.BatchCheckRequest;
import withheld.v1.Visibility.BatchCheckResponse;
import withheld.v1.Visibility.CheckRequest;
import withheld.v1.Visibility.CheckResponse;
import withheld.v1.Visibility.ListWithheldCountriesRequest;
import withheld.v1.Visibility.WatchWithholdingsRequest;
import withheld.v1.Visibility.WatchWithholdingsResponse;
import withheld.v1.VisibilityServiceGrpc;
import withheld.v1.VisibilityServiceGrpc.VisibilityServiceBlockingStub;

/** Asks all replicas in turn. One for the whole process. Copy this file; the stubs are made from proto/. */
public final class Client implements AutoCloseable {
  // [quote: verdict]
  /** Unknown is not Visible: what to show then is the product's decision. */
  public sealed interface Verdict {
    /** Nobody has answered, and why. */
    record Unknown(Problem problem) implements Verdict {}

    /** Not withheld. */
    record Visible(Known known) implements Verdict {}

    /** Withheld, and the key of the notice to show. */
    record Withheld(String noticeKey, Known known) implements Verdict {}
  }

  /** What was known when it was answered, and whether the server's policy for unknown viewers decided. */
  public record Known(Freshness freshness, boolean countryUnknown) {}

  /**
   * What an error says: the code, as UNAVAILABLE; the reason, as TOO_STALE, of withheld.v1.ErrorReason, empty if it is
   * not the service that says so; the fields that are wrong.
   */
  public record Problem(String code, String reason, List<String> badFields) {
    static Problem of(StatusRuntimeException error) {
      String reason = "";
      List<String> badFields = new ArrayList<>();
      com.google.rpc.Status status = StatusProto.fromThrowable(error);
      try {
        for (Any detail : status == null ? List.<Any>of() : status.getDetailsList()) {
          if (detail.is(ErrorInfo.class)) {
            reason = detail.unpack(ErrorInfo.class).getReason();
          } else if (detail.is(BadRequest.class)) {
            detail.unpack(BadRequest.class).getFieldViolationsList().forEach(v -> badFields.add(v.getField()));
          }
        }
      } catch (InvalidProtocolBufferException e) {
        // Then the code has to do.
      }
      return new Problem(error.getStatus().getCode().name(), reason, badFields);
    }
  }

  // [end]

  private final ManagedChannel channel;
  private final VisibilityServiceBlockingStub stub;
  private final Duration deadline;
  private final com.google.protobuf.Duration maxStaleness;

  // [quote: channel]
  /** The target is, for example, {@code dns:///withheld-headless.prod.svc:50051}, or {@code list:///HOST:PORT,HOST:PORT}. */
  @SuppressWarnings("unchecked")
  public Client(String target, String serviceConfig, Duration deadline, Duration maxStaleness) {
    channel =
        NettyChannelBuilder.forTarget(target)
            .usePlaintext()
            .overrideAuthority("withheld")
            // Numbers as Double, which is how grpc-java wants them.
            .defaultServiceConfig(new Gson().fromJson(serviceConfig, Map.class))
            .disableServiceConfigLookUp() // none from DNS
            // A connection that says nothing any more is found out after 15 s, and not when TCP gives up.
            .keepAliveTime(10, TimeUnit.SECONDS)
            .keepAliveTimeout(5, TimeUnit.SECONDS)
            .keepAliveWithoutCalls(true)
            .build();
    stub = VisibilityServiceGrpc.newBlockingStub(channel);
    this.deadline = deadline;
    this.maxStaleness =
        com.google.protobuf.Duration.newBuilder()
            .setSeconds(maxStaleness.getSeconds())
            .setNanos(maxStaleness.getNano())
            .build();
  }

  /** A new deadline for each call: a stub that keeps one has it once and for all. */
  private VisibilityServiceBlockingStub call() {
    return stub.withDeadlineAfter(deadline);
  }

  // [end]

  // [quote: check]
  /** Ids are unsigned: read them by {@code Long.parseUnsignedLong}, write them by {@code Long.toUnsignedString}. */
  public Verdict check(String country, long accountId, long atLeastRevision) {
    CheckRequest request =
        CheckRequest.newBuilder()
            .setAccountId(accountId)
            .setViewerCountry(country)
            .setConsistency(consistency(atLeastRevision))
            .build();
    CheckResponse response;
    try {
      response = call().check(request);
    } catch (StatusRuntimeException e) {
      return new Verdict.Unknown(Problem.of(e));
    }
    Known known = new Known(response.getFreshness(), response.getViewerCountryUnknown());
    return response.getWithheld()
        ? new Verdict.Withheld(response.getWithholding().getNoticeKey(), known)
        : new Verdict.Visible(known);
  }

  private Consistency consistency(long atLeastRevision) {
    return Consistency.newBuilder().setAtLeastRevision(atLeastRevision).setMaxStaleness(maxStaleness).build();
  }

  // [end]

  // [quote: batch]
  /** A verdict for each account, in the order asked, all from one revision. */
  public List<Verdict> batchCheck(String country, List<Long> accountIds, long atLeastRevision) {
    BatchCheckRequest request =
        BatchCheckRequest.newBuilder()
            .addAllAccountIds(accountIds)
            .setViewerCountry(country)
            .setConsistency(consistency(atLeastRevision))
            .build();
    BatchCheckResponse response;
    try {
      response = call().batchCheck(request);
    } catch (StatusRuntimeException e) {
      return Collections.nCopies(accountIds.size(), new Verdict.Unknown(Problem.of(e)));
    }
    Known known = new Known(response.getFreshness(), response.getViewerCountryUnknown());
    List<Verdict> verdicts = new ArrayList<>(Collections.nCopies(accountIds.size(), new Verdict.Visible(known)));
    response
        .getAccountsList()
        .forEach(
            entry -> {
              String noticeKey = response.getWithholdings(entry.getWithholding()).getNoticeKey();
              verdicts.set(entry.getIndex(), new Verdict.Withheld(noticeKey, known));
            });
    return verdicts;
  }

  // [end]

  // [quote: countries]
  /** For each account the countries it is withheld in. Throws StatusRuntimeException: no answer is not an empty list. */
  public List<List<String>> withheldCountries(List<Long> accountIds, long atLeastRevision) {
    ListWithheldCountriesRequest request =
        ListWithheldCountriesRequest.newBuilder()
            .addAllAccountIds(accountIds)
            .setConsistency(consistency(atLeastRevision))
            .build();
    List<List<String>> countries = new ArrayList<>();
    call().listWithheldCountries(request).getSubjectsList().forEach(s -> countries.add(s.getCountryCodesList()));
    return countries;
  }

  // [end]

  // [quote: watch]
  /** Who is told. */
  public interface Taker {
    /** Whether to go on. Whoever stores the changes stores the position with them, where there is one. */
    boolean take(WatchWithholdingsResponse message);

    /** What was told before may not be so: all of it is told anew. */
    void forget();
  }

  /** Gives every message to the taker, until that says no. */
  public void watch(String position, Taker taker) throws InterruptedException {
    final long least = 100;
    final long most = 5_000;
    long pause = least;
    while (true) {
      WatchWithholdingsRequest request = WatchWithholdingsRequest.newBuilder().setResumePosition(position).build();
      // A call that is read no further is cancelled with its context.
      io.grpc.Context.CancellableContext context = io.grpc.Context.current().withCancellation();
      io.grpc.Context before = context.attach();
      try {
        // No deadline: it goes on for ever. A dead connection is ended by keepalive.
        var messages = stub.watchWithholdings(request);
        while (messages.hasNext()) {
          WatchWithholdingsResponse message = messages.next();
          pause = least;
          // Without one, there is more of the same revision to come.
          if (!message.getResumePosition().isEmpty()) {
            position = message.getResumePosition();
          }
          if (!taker.take(message)) {
            return;
          }
        }
      } catch (StatusRuntimeException e) {
        Problem problem = Problem.of(e);
        if (problem.reason().equals("FOREIGN_POSITION")) {
          // It is of another journal, or of entries that this one has lost.
          position = "";
          taker.forget();
        }
        System.out.println("the watch is resumed at `" + position + "`: " + problem);
      } finally {
        context.detach(before);
        context.cancel(null);
      }
      Thread.sleep(ThreadLocalRandom.current().nextLong(pause));
      pause = Math.min(2 * pause, most);
    }
  }

  // [end]

  @Override
  public void close() {
    channel.shutdownNow();
  }

  // [quote: list]
  /** Where there is no DNS: {@code list:///HOST:PORT,HOST:PORT}, for grpc-java knows no list of addresses. */
  public static final class ListResolver extends NameResolverProvider {
    /** To be called once, before the first channel. */
    public static void register() {
      NameResolverRegistry.getDefaultRegistry().register(new ListResolver());
    }

    @Override
    public String getDefaultScheme() {
      return "list";
    }

    @Override
    protected boolean isAvailable() {
      return true;
    }

    @Override
    protected int priority() {
      return 5;
    }

    @Override
    public NameResolver newNameResolver(URI target, NameResolver.Args args) {
      if (!"list".equals(target.getScheme())) {
        return null;
      }
      List<EquivalentAddressGroup> addresses = new ArrayList<>();
      for (String endpoint : target.getPath().substring(1).split(",")) {
        int colon = endpoint.lastIndexOf(':');
        int port = Integer.parseInt(endpoint.substring(colon + 1));
        addresses.add(new EquivalentAddressGroup(new InetSocketAddress(endpoint.substring(0, colon), port)));
      }
      return new NameResolver() {
        @Override
        public String getServiceAuthority() {
          return "withheld";
        }

        @Override
        public void start(Listener2 listener) {
          listener.onResult(ResolutionResult.newBuilder().setAddressesOrError(StatusOr.fromValue(addresses)).build());
        }

        @Override
        public void shutdown() {}
      };
    }
  }
  // [end]
}
