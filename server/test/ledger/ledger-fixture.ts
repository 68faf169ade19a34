import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { ApiKey } from "../../src/access/api-key.ts";
import { BrikkError } from "../../src/errors.ts";
import {
  type Ledger,
  type LedgerOptions,
  openLedger,
  type Reservation,
  type ReservationRequest,
  type Settlement,
} from "../../src/ledger/ledger.ts";
import type { CatalogueModel } from "../../src/ledger/model-catalogue.ts";
import { completeRates } from "../../src/ledger/rates.ts";
import { NO_USAGE } from "../../src/ledger/usage.ts";
import { nanoUsd, picoUsdPerToken, ZERO_USD } from "../../src/lib/money.ts";
import type { Database } from "../../src/storage/database.ts";
import { createTestClock } from "../lib/test-clock.ts";

/** One nano-USD per token, in and out, so that tokens are money and figures can be read. */
export const priced = (perToken: bigint): CatalogueModel => ({
  provider: "openai",
  id: `at-${perToken}`,
  kind: "chat",
  rates: {
    version: "test",
    perRequest: ZERO_USD,
    ...completeRates({ freshInput: picoUsdPerToken(1_000n * perToken) }),
  },
  contextTokens: undefined,
  maxOutputTokens: undefined,
  acceptsImages: undefined,
  maxImageTokens: 1_000,
  encoding: undefined,
  reasons: false,
  qualityTier: 2,
});
export const oneNano = priced(1n);

let keys = 0;
export const newKey = (hardCap: bigint, more: Partial<ApiKey> = {}): ApiKey => ({
  id: `bk_${++keys}`,
  name: "test",
  state: { kind: "active" },
  revision: 1,
  createdAtMs: 0,
  hardCap: nanoUsd(hardCap),
  softCap: nanoUsd(hardCap),
  ...more,
});

export const settled = (
  tokens: number,
  served: Settlement["served"] = { model: oneNano, simulated: true },
): Settlement => ({
  served,
  usage: { ...NO_USAGE, freshInputTokens: tokens },
  usageSource: "exact",
  outcome: "completed",
  status: 200,
  errorCode: undefined,
  attempts: 1,
  fallback: false,
  timeToFirstTokenMs: undefined,
});

let requests = 0;
export const requestOf = (key: ApiKey, occurredAtMs: number) => ({
  key,
  requestId: `r-${++requests}`,
  traceId: "t",
  operation: "chat",
  requestedModel: "m",
  stream: false,
  occurredAtMs,
});

/** A request of so many tokens in and none out, unless said otherwise. */
export function reservationRequest(
  key: ApiKey,
  nowMs: number,
  inputTokens: number,
  more: Partial<ReservationRequest["bound"]> & { candidates?: readonly CatalogueModel[]; counted?: number } = {},
): ReservationRequest {
  const { candidates = [oneNano], counted, ...rest } = more;
  const bound = {
    inputTokens: () => inputTokens,
    outputTokens: () => 0,
    extraOutputTokens: 0,
    choices: 1,
    ...rest,
  };
  return {
    ...requestOf(key, nowMs),
    routeReason: "test",
    candidates,
    bound,
    tighten: async () => (counted === undefined ? bound : { ...bound, inputTokens: () => counted }),
  };
}

export const reserve = async (
  ledger: Ledger,
  key: ApiKey,
  tokens: number,
  nowMs: number,
  candidates: readonly CatalogueModel[] = [oneNano],
): Promise<Reservation> => ledger.reserve(reservationRequest(key, nowMs, tokens, { candidates }));

/** A ledger of the test's own, closed with it. */
export async function openTestLedger(
  t: TestContext,
  database: Database,
  options: Partial<LedgerOptions> = {},
): Promise<Ledger> {
  const ledger = await openLedger({
    database,
    clock: createTestClock(),
    defaultSoftCap: nanoUsd(5_000_000_000n),
    defaultHardCap: nanoUsd(10_000_000_000n),
    soleOwner: true,
    ...options,
  });
  t.after(() => ledger.close());
  return ledger;
}

export const coded =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof BrikkError && error.code === code;

const INVARIANTS = `select w.budget_id, w.window_start_ms, w.spent_nano_usd as spent, w.leased_nano_usd as leased, w.written_off_nano_usd as written_off,
    w.unleased_nano_usd as unleased, w.granted_cap_nano_usd as cap,
    coalesce((select sum(l.leased_nano_usd) from leases l where l.budget_id = w.budget_id and l.window_start_ms = w.window_start_ms), 0) as lease_sum,
    coalesce((select sum(l.written_off_nano_usd) from leases l where l.budget_id = w.budget_id and l.window_start_ms = w.window_start_ms), 0) as write_off_sum,
    coalesce((select sum(e.cost_nano_usd) from usage_events e where e.key_id = w.scope_id and e.occurred_at_ms >= w.window_start_ms and e.occurred_at_ms < w.window_end_ms), 0) as event_sum,
    coalesce((select sum(h.cost_nano_usd) from usage_hourly h where h.key_id = w.scope_id and h.hour_start_ms >= w.window_start_ms and h.hour_start_ms < w.window_end_ms), 0) as hour_sum
  from budget_windows w`;

/** What must hold of a database in every state. */
export async function assertSound(database: Database): Promise<void> {
  for (const row of await database.all({ sql: INVARIANTS, params: [] })) {
    const figures = row as Record<string, bigint>;
    const of = (name: string): bigint => figures[name]!;
    const shown = JSON.stringify(row, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
    assert.equal(of("lease_sum"), of("leased"), `leased is not the sum of the leases: ${shown}`);
    assert.equal(of("write_off_sum"), of("written_off"), `written off is not the sum of the leases': ${shown}`);
    assert.equal(of("event_sum") + of("written_off"), of("spent"), `spent is not the events and write-offs: ${shown}`);
    assert.equal(of("hour_sum"), of("event_sum"), `the roll-ups are not the events: ${shown}`);
    if (row["cap"] !== null)
      assert.ok(of("spent") + of("leased") <= of("cap") + of("unleased"), `more than the cap: ${shown}`);
  }
}

export async function sumOf(
  database: Database,
  table: "usage_events" | "usage_hourly",
  key: ApiKey,
): Promise<bigint[]> {
  const count = table === "usage_events" ? "count(*)" : "coalesce(sum(requests), 0)";
  const [row] = await database.all({
    sql: `select coalesce(sum(cost_nano_usd), 0) as cost, ${count} as n from ${table} where key_id = ?`,
    params: [key.id],
  });
  return [row!["cost"] as bigint, row!["n"] as bigint];
}

/** Waits for what happens by itself in real time, such as a retry. Fails after ten seconds. */
export async function eventually(holds: () => boolean | Promise<boolean>, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, `it never came to pass: ${String(holds)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
