package org.example.timeline;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.example.timeline.Client.Known;
import org.example.timeline.Client.Verdict;
import withheld.v1.Common.Liveness;
import withheld.v1.Visibility.WatchWithholdingsResponse;
import withheld.v1.Visibility.WithheldCountries;

/** Asks a running service everything a timeline service asks: see clients/README.md for what it reads and prints. */
public final class Main {
  private static String words(Known known) {
    String fresh = known.freshness().getLiveness() == Liveness.LIVENESS_LIVE ? "live" : "stale";
    String revision = Long.toUnsignedString(known.freshness().getRevision());
    return ", revision " + revision + " " + fresh + (known.countryUnknown() ? ", country unknown" : "");
  }

  private static String words(Verdict verdict) {
    if (verdict instanceof Verdict.Visible visible) {
      return "visible" + words(visible.known());
    }
    if (verdict instanceof Verdict.Withheld withheld) {
      return "withheld " + withheld.noticeKey() + words(withheld.known());
    }
    var problem = ((Verdict.Unknown) verdict).problem();
    List<String> said = new ArrayList<>(List.of("UNKNOWN", problem.code(), problem.reason()));
    said.addAll(problem.badFields());
    return String.join(" ", said).stripTrailing();
  }

  /** False if there is no verdict on something. */
  private static boolean tour(Client client, String country, List<Long> ids, long atLeast) {
    boolean answered = true;
    for (long id : ids) {
      Verdict verdict = client.check(country, id, atLeast);
      answered &= !(verdict instanceof Verdict.Unknown);
      System.out.println("check " + country + " " + Long.toUnsignedString(id) + ": " + words(verdict));
    }
    List<Verdict> batch = client.batchCheck(country, ids, atLeast);
    for (int i = 0; i < ids.size(); i++) {
      answered &= !(batch.get(i) instanceof Verdict.Unknown);
      System.out.println("batch " + country + " " + Long.toUnsignedString(ids.get(i)) + ": " + words(batch.get(i)));
    }
    if (!answered) {
      return false;
    }
    for (long id : ids) {
      System.out.println("check nowhere " + Long.toUnsignedString(id) + ": " + words(client.check("", id, atLeast)));
    }
    List<List<String>> countries = client.withheldCountries(ids, atLeast);
    for (int i = 0; i < ids.size(); i++) {
      String line = "countries " + Long.toUnsignedString(ids.get(i)) + ": " + String.join(" ", countries.get(i));
      System.out.println(line.stripTrailing());
    }
    String first = Long.toUnsignedString(ids.get(0));
    System.out.println("check Atlantis " + first + ": " + words(client.check("Atlantis", ids.get(0), 0)));
    return true;
  }

  private static String words(WithheldCountries change) {
    String subject =
        change.hasAccountId()
            ? "account_id " + Long.toUnsignedString(change.getAccountId())
            : "post_id " + Long.toUnsignedString(change.getPostId());
    return ("changed " + subject + ": " + String.join(" ", change.getCountryCodesList())).stripTrailing();
  }

  private static void watch(Client client, String position, long until) throws InterruptedException {
    client.watch(
        position,
        new Client.Taker() {
          @Override
          public boolean take(WatchWithholdingsResponse message) {
            message.getChangesList().forEach(change -> System.out.println(words(change)));
            System.out.println("resume at " + message.getResumePosition());
            return Long.compareUnsigned(message.getResumeAfterRevision(), until) < 0;
          }

          @Override
          public void forget() {
            System.out.println("forget everything");
          }
        });
  }

  private static Duration milliseconds(String variable) {
    return Duration.ofMillis(Long.parseLong(System.getenv(variable)));
  }

  /** As `tour COUNTRY ID...` or `watch POSITION UNTIL`. */
  public static void main(String[] arguments) throws IOException, InterruptedException {
    Client.ListResolver.register();
    String target = "list:///" + System.getenv("ENDPOINTS");
    String serviceConfig = Files.readString(Path.of(System.getenv("SERVICE_CONFIG")));
    boolean answered = true;
    try (var client =
        new Client(target, serviceConfig, milliseconds("DEADLINE_MS"), milliseconds("MAX_STALENESS_MS"))) {
      if (arguments[0].equals("watch")) {
        watch(client, arguments[1], Long.parseUnsignedLong(arguments[2]));
      } else {
        List<Long> ids = Arrays.stream(arguments).skip(2).map(Long::parseUnsignedLong).toList();
        answered = tour(client, arguments[1], ids, Long.parseUnsignedLong(System.getenv("AT_LEAST_REVISION")));
      }
    }
    System.exit(answered ? 0 : 3);
  }
}
