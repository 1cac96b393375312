/** Asks a running service everything a timeline service asks: see clients/README.md for what it reads and prints. */

import { readFileSync } from "node:fs";
import { Client, type Verdict } from "./client.js";
import { Liveness } from "./gen/withheld/v1/common.js";
import type { WatchWithholdingsResponse } from "./gen/withheld/v1/visibility.js";

function words(verdict: Verdict): string {
  if (verdict.answer === "unknown") {
    const { code, reason, badFields } = verdict.problem;
    return ["UNKNOWN", code, reason, ...badFields].join(" ").trimEnd();
  }
  const { freshness, countryUnknown } = verdict.known;
  const said = verdict.answer === "withheld" ? `withheld ${verdict.noticeKey}` : "visible";
  const fresh = freshness?.liveness === Liveness.LIVENESS_LIVE ? "live" : "stale";
  return `${said}, revision ${freshness?.revision} ${fresh}${countryUnknown ? ", country unknown" : ""}`;
}

/** False if there is no verdict on something. */
async function tour(client: Client, country: string, ids: bigint[], atLeast: bigint): Promise<boolean> {
  let answered = true;
  for (const id of ids) {
    const verdict = await client.check(country, id, atLeast);
    answered &&= verdict.answer !== "unknown";
    console.log(`check ${country} ${id}: ${words(verdict)}`);
  }
  for (const [at, verdict] of (await client.batchCheck(country, ids, atLeast)).entries()) {
    answered &&= verdict.answer !== "unknown";
    console.log(`batch ${country} ${ids[at]}: ${words(verdict)}`);
  }
  if (!answered) return false;
  for (const id of ids) console.log(`check nowhere ${id}: ${words(await client.check("", id, atLeast))}`);
  for (const [at, codes] of (await client.withheldCountries(ids, atLeast)).entries()) {
    console.log(`countries ${ids[at]}: ${codes.join(" ")}`.trimEnd());
  }
  console.log(`check Atlantis ${ids[0]}: ${words(await client.check("Atlantis", ids[0]!))}`);
  return true;
}

async function watch(client: Client, position: string, until: bigint): Promise<void> {
  const take = ({ changes, resumePosition, resumeAfterRevision }: WatchWithholdingsResponse) => {
    for (const { subject, countryCodes } of changes) {
      const kind = subject?.$case === "postId" ? "post_id" : "account_id";
      console.log(`changed ${kind} ${subject?.value}: ${countryCodes.join(" ")}`.trimEnd());
    }
    console.log(`resume at ${resumePosition}`);
    return resumeAfterRevision < until;
  };
  await client.watch(position, take, () => console.log("forget everything"));
}

function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

const [command, ...rest] = process.argv.slice(2);
const staleness = Number(setting("MAX_STALENESS_MS"));
const client = new Client(
  `ipv4:${setting("ENDPOINTS")}`,
  readFileSync(setting("SERVICE_CONFIG"), "utf8"),
  Number(setting("DEADLINE_MS")),
  { seconds: BigInt(Math.floor(staleness / 1000)), nanos: (staleness % 1000) * 1_000_000 },
);
if (command === "watch") {
  await watch(client, rest[0]!, BigInt(rest[1]!));
} else {
  const [country, ...ids] = rest;
  const answered = await tour(client, country!, ids.map(BigInt), BigInt(setting("AT_LEAST_REVISION")));
  process.exitCode = answered ? 0 : 3;
}
client.close();
