/** Verdicts from withheld for a timeline service. Copy this file; the stubs are made from proto/. */

import { credentials, Metadata, status, type ChannelOptions, type ServiceError } from "@grpc/grpc-js";
import type { Duration } from "./gen/google/protobuf/duration.js";
import { type Consistency, type Freshness } from "./gen/withheld/v1/common.js";
import {
  VisibilityServiceClient,
  type BatchCheckResponse,
  type CheckResponse,
  type ListWithheldCountriesResponse,
  type WatchWithholdingsResponse,
} from "./gen/withheld/v1/visibility.js";
import { BadRequest, ErrorInfo, Status } from "./gen/google/rpc/status.js";

// [quote: verdict]
/** Unknown is not visible: what to show then is the product's decision. */
export type Verdict =
  | { answer: "unknown"; problem: Problem }
  | { answer: "visible"; known: Known }
  /** And the key of the notice to show. */
  | { answer: "withheld"; noticeKey: string; known: Known };

/** What was known when it was answered, and whether the server's policy for unknown viewers decided. */
export interface Known {
  freshness: Freshness | undefined;
  countryUnknown: boolean;
}

/** What an error says. */
export interface Problem {
  /** As UNAVAILABLE. */
  code: string;
  /** As TOO_STALE, of withheld.v1.ErrorReason; empty if it is not the service that says so. */
  reason: string;
  badFields: string[];
}

function problemOf(error: ServiceError): Problem {
  const problem: Problem = { code: status[error.code] ?? String(error.code), reason: "", badFields: [] };
  const [details] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (Buffer.isBuffer(details)) {
    for (const { typeUrl, value } of Status.decode(details).details) {
      if (typeUrl.endsWith("/google.rpc.ErrorInfo")) problem.reason = ErrorInfo.decode(value).reason;
      if (typeUrl.endsWith("/google.rpc.BadRequest")) {
        problem.badFields = BadRequest.decode(value).fieldViolations.map((violation) => violation.field);
      }
    }
  }
  return problem;
}
// [end]

type Answer<T> = (error: ServiceError | null, response: T) => void;

/** Asks all replicas in turn. One for the whole process. */
export class Client {
  // [quote: channel]
  readonly #service: VisibilityServiceClient;
  readonly #deadlineMs: number;
  readonly #consistency: Consistency;

  /** The target is, for example, `dns:///withheld-headless.prod.svc:50051`, or `ipv4:HOST:PORT,HOST:PORT`. */
  constructor(target: string, serviceConfig: string, deadlineMs: number, maxStaleness: Duration) {
    const options: ChannelOptions = {
      "grpc.service_config": serviceConfig,
      "grpc.service_config_disable_resolution": 1,
      "grpc.default_authority": "withheld",
      // A connection that says nothing any more is found out after 15 s, and not when TCP gives up.
      "grpc.keepalive_time_ms": 10_000,
      "grpc.keepalive_timeout_ms": 5_000,
      "grpc.keepalive_permit_without_calls": 1,
      // A replica that is back is used again soon, and not after two minutes.
      "grpc.max_reconnect_backoff_ms": 5_000,
    };
    this.#service = new VisibilityServiceClient(target, credentials.createInsecure(), options);
    this.#deadlineMs = deadlineMs;
    this.#consistency = { atLeastRevision: 0n, maxStaleness, journal: "" };
  }

  /** The promise of an answer within the deadline. */
  #call<T>(rpc: (metadata: Metadata, options: { deadline: number }, answer: Answer<T>) => void): Promise<T> {
    // grpc-js takes waitForReady from here alone, not from the service config.
    const metadata = new Metadata({ waitForReady: true });
    return new Promise((resolve, reject) => {
      rpc(metadata, { deadline: Date.now() + this.#deadlineMs }, (error, response) =>
        error === null ? resolve(response) : reject(error),
      );
    });
  }
  // [end]

  // [quote: check]
  async check(viewerCountry: string, accountId: bigint, atLeastRevision = 0n): Promise<Verdict> {
    const consistency = { ...this.#consistency, atLeastRevision };
    const request = { accountId, postId: undefined, viewerCountry, consistency };
    let response: CheckResponse;
    try {
      response = await this.#call((...rest) => this.#service.check(request, ...rest));
    } catch (error) {
      return { answer: "unknown", problem: problemOf(error as ServiceError) };
    }
    const known = { freshness: response.freshness, countryUnknown: response.viewerCountryUnknown };
    return response.withheld
      ? { answer: "withheld", noticeKey: response.withholding?.noticeKey ?? "", known }
      : { answer: "visible", known };
  }
  // [end]

  // [quote: batch]
  /** A verdict for each account, in the order asked, all from one revision. */
  async batchCheck(viewerCountry: string, accountIds: bigint[], atLeastRevision = 0n): Promise<Verdict[]> {
    const consistency = { ...this.#consistency, atLeastRevision };
    const request = { accountIds, postIds: [], viewerCountry, consistency };
    let response: BatchCheckResponse;
    try {
      response = await this.#call((...rest) => this.#service.batchCheck(request, ...rest));
    } catch (error) {
      const problem = problemOf(error as ServiceError);
      return accountIds.map(() => ({ answer: "unknown", problem }));
    }
    const known = { freshness: response.freshness, countryUnknown: response.viewerCountryUnknown };
    const verdicts: Verdict[] = accountIds.map(() => ({ answer: "visible", known }));
    for (const { index, withholding } of response.accounts) {
      const noticeKey = response.withholdings[withholding]?.noticeKey ?? "";
      verdicts[index] = { answer: "withheld", noticeKey, known };
    }
    return verdicts;
  }
  // [end]

  // [quote: countries]
  /** For each account the countries it is withheld in. Rejects with a ServiceError: no answer is not an empty list. */
  async withheldCountries(accountIds: bigint[], atLeastRevision = 0n): Promise<string[][]> {
    const consistency = { ...this.#consistency, atLeastRevision };
    const request = { accountIds, postIds: [], consistency };
    const response = await this.#call<ListWithheldCountriesResponse>((...rest) =>
      this.#service.listWithheldCountries(request, ...rest),
    );
    return response.subjects.map((subject) => subject.countryCodes);
  }
  // [end]

  // [quote: watch]
  /**
   * Gives every message to `take`, until that says no: whoever stores its changes stores its position with them, where it
   * has one. Calls `forget` where what was told before may not be so: all of it is told anew.
   */
  async watch(
    position: string,
    take: (message: WatchWithholdingsResponse) => boolean,
    forget: () => void,
  ): Promise<void> {
    const least = 100;
    const most = 5_000;
    for (let pause = least; ; pause = Math.min(2 * pause, most)) {
      // No deadline: it goes on for ever. A dead connection is ended by keepalive.
      const request = { afterRevision: 0n, resumePosition: position };
      const call = this.#service.watchWithholdings(request, new Metadata({ waitForReady: true }));
      try {
        for await (const message of call as AsyncIterable<WatchWithholdingsResponse>) {
          pause = least;
          // Without one, there is more of the same revision to come.
          position = message.resumePosition || position;
          if (!take(message)) return;
        }
      } catch (error) {
        const problem = problemOf(error as ServiceError);
        if (problem.reason === "FOREIGN_POSITION") {
          // It is of another journal, or of entries that this one has lost.
          position = "";
          forget();
        }
        console.log(`the watch is resumed at \`${position}\`: ${JSON.stringify(problem)}`);
      } finally {
        // Cancelling is told as an error, which nobody waits for any more.
        call.on("error", () => {});
        call.cancel();
      }
      await new Promise((resolve) => setTimeout(resolve, Math.random() * pause));
    }
  }
  // [end]

  close(): void {
    this.#service.close();
  }
}
