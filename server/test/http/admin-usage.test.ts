import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { test } from "node:test";
import type { GatewayUnderTest } from "../harness/gateway-under-test.ts";
import type { DialectName, SqlValue } from "../../src/storage/database.ts";
import { DAY_MS, eventRow, HOUR_MS, insertEvents, MONDAY_MS, rollUpEvents, seedEvents } from "../ledger/ledger-rows.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase } from "../storage/scratch.ts";
import { type Ask, done, type Refusal, startAdministered } from "./administered.ts";

interface Sums {
  readonly cost_usd: number;
  readonly requests: number;
  readonly input_tokens: number;
  readonly output_tokens: number;
}
interface Totals {
  readonly from: string;
  readonly to: string;
  readonly total: Sums;
  readonly data: readonly (Sums & { readonly group: string | null; readonly name?: string | null })[];
  readonly next_cursor: string | null;
}

const FROM_MS = MONDAY_MS - 3 * DAY_MS;

/** Twelve hundred events of three days before noon, over three keys of which one is known, providers and models. */
async function withEvents(
  t: TestContext,
  dialect: DialectName,
): Promise<{ brikk: GatewayUnderTest; admin: Ask; keyId: string }> {
  const { brikk, admin } = await startAdministered(t, { database: dialect, clock: createTestClock() });
  const { id: keyId } = await brikk.createKey({ name: "the known one" });
  const { database } = brikk.gateway;
  await seedEvents(database, {
    count: 1_200,
    fromMs: FROM_MS,
    stepMs: (3 * DAY_MS) / 1_200,
    keyIds: [keyId, "bk_other0000001", keyId, "bk_other0000002"],
  });
  await rollUpEvents(database);
  return { brikk, admin, keyId };
}

const COLUMNS = { key: "key_id", provider: "provider", model: "model", day: `occurred_at_ms / ${DAY_MS}` } as const;

onEachDatabase(
  "sums by key, provider, model and day are those of the events, dearest first, over pages without gaps or repeats",
  async (t, dialect) => {
    const { brikk, admin, keyId } = await withEvents(t, dialect);
    const [whole] = await brikk.all(
      "select cast(sum(cost_nano_usd) as bigint) as cost, count(*) as requests from usage_events",
    );
    for (const [groupBy, column] of Object.entries(COLUMNS)) {
      const groups: Totals["data"][number][] = [];
      let cursor: string | null = null;
      do {
        const { body }: { body: Totals } = await done(
          admin<Totals>(
            "GET",
            `/admin/usage?group_by=${groupBy}&limit=2&from=2026-11-01&to=2026-11-24${cursor === null ? "" : `&cursor=${cursor}`}`,
          ),
        );
        assert.deepEqual(
          [body.total.cost_usd, body.total.requests],
          [Number(whole?.["cost"]) / 1e9, Number(whole?.["requests"])],
          "the total is over all pages",
        );
        groups.push(...body.data);
        cursor = body.next_cursor;
      } while (cursor !== null);
      const rows = await brikk.all(
        `select ${column} as grouped, cast(sum(cost_nano_usd) as bigint) as cost, count(*) as requests from usage_events group by 1`,
      );
      const label = (value: SqlValue | undefined): string | null =>
        value === null || value === undefined
          ? null
          : groupBy === "day"
            ? new Date(Number(value) * DAY_MS).toISOString().slice(0, 10)
            : `${typeof value === "object" ? "" : value}`;
      const byLabel = (a: readonly unknown[], b: readonly unknown[]): number =>
        String(a[0]).localeCompare(String(b[0]));
      assert.deepEqual(
        groups.map(({ group, cost_usd: cost, requests }) => [group, cost, requests]).sort(byLabel),
        rows.map((row) => [label(row["grouped"]), Number(row["cost"]) / 1e9, Number(row["requests"])]).sort(byLabel),
        groupBy,
      );
      const costs = groups.map(({ cost_usd: cost }) => cost);
      assert.deepEqual(
        costs,
        costs.toSorted((a, b) => b - a),
      );
      if (groupBy === "key")
        assert.deepEqual(
          groups.map(({ group, name }) => [group === keyId, name]),
          groups.map(({ group }) => [group === keyId, group === keyId ? "the known one" : null]),
        );
    }
  },
);

test("sums are of whole hours from the one that is asked for, of one key when it is named, and of 30 days without a word", async (t) => {
  const { admin, keyId } = await withEvents(t, "sqlite");
  const month = (await done(admin<Totals>("GET", "/admin/usage"))).body;
  assert.deepEqual([month.from, month.to], ["2026-10-24T13:00:00.000Z", "2026-11-23T13:00:00.000Z"]);
  assert.equal(month.total.requests, 1_200);
  const hour = (await done(admin<Totals>("GET", "/admin/usage?from=2026-11-22T10:20:00Z&to=2026-11-22T10:40:00Z")))
    .body;
  assert.deepEqual([hour.from, hour.to], ["2026-11-22T10:00:00.000Z", "2026-11-22T11:00:00.000Z"]);
  assert.equal(hour.total.requests, Math.round(HOUR_MS / ((3 * DAY_MS) / 1_200)));
  const one = (await done(admin<Totals>("GET", `/admin/usage?key_id=${keyId}&group_by=key`))).body;
  assert.deepEqual([one.total.requests, one.data.length], [600, 1]);
  const none = (await done(admin<Totals>("GET", "/admin/usage?key_id=bk_000000000000"))).body;
  assert.deepEqual(none.total, { cost_usd: 0, requests: 0, input_tokens: 0, output_tokens: 0 });
  assert.deepEqual(none.data, []);
});

onEachDatabase("the series and the requests are those of all keys, or of the one that is named", async (t, dialect) => {
  const { admin, keyId } = await withEvents(t, dialect);
  interface Series {
    readonly points: readonly Sums[];
  }
  const requestsOf = async (query: string): Promise<number> =>
    (
      await done(admin<Series>("GET", `/admin/usage/timeseries?interval=day&from=2026-11-20&to=2026-11-24${query}`))
    ).body.points.reduce((sum, { requests }) => sum + requests, 0);
  assert.deepEqual([await requestsOf(""), await requestsOf(`&key_id=${keyId}&group_by=model`)], [1_200, 600]);

  interface Requests {
    readonly requests: readonly { readonly event_id: string; readonly key_id: string; readonly outcome: string }[];
    readonly next_cursor: string | null;
  }
  const seen = async (query: string): Promise<Requests["requests"][number][]> => {
    const requests: Requests["requests"][number][] = [];
    let cursor: string | null = null;
    do {
      const { body }: { body: Requests } = await done(
        admin<Requests>("GET", `/admin/usage/requests?limit=170${query}${cursor === null ? "" : `&cursor=${cursor}`}`),
      );
      requests.push(...body.requests);
      cursor = body.next_cursor;
    } while (cursor !== null);
    return requests;
  };
  const all = await seen("");
  assert.equal(new Set(all.map(({ event_id: id }) => id)).size, 1_200);
  assert.equal(new Set(all.map(({ key_id: id }) => id)).size, 3);
  const refused = await seen(`&key_id=${keyId}&outcome=refused`);
  assert.deepEqual(
    refused.map(({ event_id: id }) => id),
    all.filter((one) => one.key_id === keyId && one.outcome === "refused").map(({ event_id: id }) => id),
  );
});

test("a group whose name has anything in it has its place on a page", async (t) => {
  const { brikk, admin } = await startAdministered(t, { clock: createTestClock() });
  const models = ["a.b", "ä/%2F", "'; drop table api_keys; --", "z".repeat(200), "日本"];
  await insertEvents(
    brikk.gateway.database,
    models.map((model) => eventRow({ model, occurred_at_ms: BigInt(MONDAY_MS), cost_nano_usd: 5n })),
  );
  await rollUpEvents(brikk.gateway.database);
  const seen: (string | null)[] = [];
  let cursor: string | null = null;
  do {
    const { body }: { body: Totals } = await done(
      admin<Totals>("GET", `/admin/usage?group_by=model&limit=1${cursor === null ? "" : `&cursor=${cursor}`}`),
    );
    seen.push(...body.data.map(({ group }) => group));
    cursor = body.next_cursor;
  } while (cursor !== null);
  assert.deepEqual(new Set(seen), new Set(models));
  assert.equal(seen.length, models.length);
});

test("a question that cannot be answered is refused with its part", async (t) => {
  const { admin } = await startAdministered(t, { clock: createTestClock() });
  for (const [path, param] of [
    ["/admin/usage?from=yesterday", "from"],
    ["/admin/usage?from=2026-11-23&to=2026-11-22", "from"],
    ["/admin/usage?from=2030-01-01", "from"],
    ["/admin/usage?from=2020-01-01", "from"],
    ["/admin/usage?group_by=caller", "group_by"],
    ["/admin/usage?limit=0", "limit"],
    ["/admin/usage?cursor=none", "cursor"],
    ["/admin/usage?key_id=bk_1", "key_id"],
    ["/admin/usage?sort=name", null],
    ["/admin/usage/timeseries?interval=minute", "interval"],
    ["/admin/usage/timeseries?from=2020-01-01", "from"],
    ["/admin/usage/requests?outcome=lost", "outcome"],
    ["/admin/usage/requests?cursor=none", "cursor"],
    ["/admin/usage/requests?key_id=brikk_secret", "key_id"],
  ] as const) {
    const { status, body } = await admin<Refusal>("GET", path);
    assert.deepEqual([status, body.error.code, body.error.param], [400, "invalid_request", param], path);
  }
});
