import assert from "node:assert/strict";
import fc from "fast-check";
import { readUsageSummary } from "../../src/ledger/usage-summary.ts";
import { DAY_MS, HOUR_MS } from "../../src/lib/clock.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";

const moments = fc.integer({ min: Date.UTC(2020, 0, 1), max: Date.UTC(2040, 0, 1) });

onEachDatabase("a key without usage has zeros", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const zero = { cost: 0n, requests: 0, tokens: 0 };
  assert.deepEqual(await readUsageSummary(database, createTestClock(), { keyId: "bk_none" }), {
    today: zero,
    thisWeek: zero,
    thisMonth: zero,
  });
});

onEachDatabase(
  "the summary equals a sum over the hours one by one, for its key alone, wherever in the month and week now lies",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const hour = fc.record({
      hoursAgo: fc.integer({ min: -30, max: 24 * 40 }),
      own: fc.boolean(),
      outcome: fc.constantFrom("completed", "truncated", "refused"),
      requests: fc.nat(9),
      input: fc.nat(1_000),
      output: fc.nat(1_000),
      cost: fc.bigInt({ min: 0n, max: 10n ** 15n }),
    });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(moments, fc.array(hour, { maxLength: 25 }), async (now, hours) => {
        const own = `bk_${++run}`;
        const rows = hours
          .map((entry) => ({
            ...entry,
            keyId: entry.own ? own : `${own}-other`,
            startMs: Math.floor(now / HOUR_MS) * HOUR_MS - entry.hoursAgo * HOUR_MS,
          }))
          .filter(({ startMs }) => startMs <= now);
        await database.transact(
          rows.map(({ startMs, keyId, outcome, requests, input, output, cost }, index) => ({
            sql: "insert into usage_hourly (hour_start_ms, key_id, provider, model, outcome, simulated, requests, input_tokens, output_tokens, cost_nano_usd) values (?, ?, 'p', ?, ?, 0, ?, ?, ?, ?)",
            params: [startMs, keyId, `m-${index}`, outcome, requests, input, output, cost],
          })),
        );
        const date = new Date(now);
        const iso = (ms: number): string => new Date(ms).toISOString();
        const daysAgo = (ms: number): number =>
          (Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()) -
            new Date(ms).setUTCHours(0, 0, 0, 0)) /
          DAY_MS;
        const sum = (within: (ms: number) => boolean) => {
          const counted = rows.filter((row) => row.own && within(row.startMs));
          return {
            cost: counted.reduce((total, { cost }) => total + cost, 0n),
            requests: counted.reduce((total, { requests }) => total + requests, 0),
            tokens: counted.reduce((total, { input, output }) => total + input + output, 0),
          };
        };
        assert.deepEqual(await readUsageSummary(database, createTestClock(now), { keyId: own }), {
          today: sum((ms) => iso(ms).slice(0, 10) === iso(now).slice(0, 10)),
          thisWeek: sum((ms) => daysAgo(ms) < (date.getUTCDay() || 7)),
          thisMonth: sum((ms) => iso(ms).slice(0, 7) === iso(now).slice(0, 7)),
        });
      }),
      { numRuns: 100 },
    );
  },
);
