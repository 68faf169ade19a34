import assert from "node:assert/strict";
import { createBudgetStatements } from "../../src/ledger/budget-statements.ts";
import { NO_USAGE } from "../../src/ledger/usage.ts";
import { createUsageWriter, type UsageEvent } from "../../src/ledger/usage-writer.ts";
import { uuidv7 } from "../../src/lib/ids.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { type Database, type Statement, StatementRejected, StorageUnavailable } from "../../src/storage/database.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";
import { eventually, oneNano } from "./ledger-fixture.ts";

const NOON = Date.UTC(2026, 10, 23, 12);
const model = { ...oneNano, id: "m" };
const writerOn = (
  database: Database,
): { healthy: boolean; write(event: UsageEvent): Promise<void>; close(): Promise<void> } => {
  const writer = createUsageWriter({
    database,
    statements: createBudgetStatements(database.dialect),
    ownerId: "owner",
  });
  return {
    get healthy() {
      return writer.healthy;
    },
    write: (event) => writer.write(event, []),
    close: () => writer.close(),
  };
};

/** Event number `index`: some hours, keys and outcomes, so that a group has several roll-ups. */
function eventOf(index: number): UsageEvent {
  const occurredAtMs = NOON + (index % 3) * 3_600_000;
  return {
    eventId: uuidv7(occurredAtMs),
    request: {
      key: { id: `bk_${index % 4}`, name: "test", state: { kind: "active" }, revision: 1, createdAtMs: 0 },
      requestId: `r-${index}`,
      traceId: "t",
      operation: "chat",
      requestedModel: "m",
      stream: index % 2 === 0,
      occurredAtMs,
    },
    routeReason: null,
    held: index % 2 === 0 ? { amount: nanoUsd(9n), maxOutputTokens: 77 } : { amount: nanoUsd(8n) },
    result: {
      served: index % 5 === 0 ? undefined : { model, simulated: true },
      usage: {
        ...NO_USAGE,
        freshInputTokens: index,
        cachedInputTokens: 2,
        cacheWriteTokens: 3,
        audioInputTokens: 4,
        outputTokens: 5 * index,
        reasoningTokens: 1,
        audioOutputTokens: 6,
      },
      usageSource: "exact",
      outcome: index % 7 === 0 ? "truncated" : "completed",
      status: 200,
      errorCode: undefined,
      attempts: 1,
      fallback: false,
      timeToFirstTokenMs: undefined,
    },
    cost: nanoUsd(BigInt(index) * 1_000_000_007n),
    earlierCost: nanoUsd(BigInt(index)),
    finishedAtMs: occurredAtMs + index,
  };
}
const eventsOf = (count: number): UsageEvent[] => Array.from({ length: count }, (_, index) => eventOf(index));

type Around = (
  go: () => Promise<Awaited<ReturnType<Database["transact"]>>>,
  statements: readonly Statement[],
) => ReturnType<Database["transact"]>;

/** A real database whose transactions pass through the test's hands. */
function watched(database: Database, around: Around = (go) => go()): Database & { transactions: number } {
  const watching = {
    dialect: database.dialect,
    query: database.query,
    transactions: 0,
    transact: (statements: readonly Statement[]) => {
      watching.transactions += 1;
      return around(() => database.transact(statements), statements);
    },
    read: (statements: readonly Statement[]) => database.read(statements),
    all: (statement: Statement) => database.all(statement),
    close: () => database.close(),
  };
  return watching;
}

/** The roll-ups are the events' sums, reckoned from the rows one by one; returns how many events there are. */
async function assertRollUpsEqualEvents(database: Database): Promise<string[]> {
  const events = await database.all({ sql: "select * from usage_events", params: [] });
  const expected = new Map<string, Record<string, unknown>>();
  for (const row of events) {
    const of = (name: string): bigint => row[name] as bigint;
    const key = {
      hour_start_ms: of("occurred_at_ms") - (of("occurred_at_ms") % 3_600_000n),
      key_id: row["key_id"],
      provider: row["provider"] ?? "",
      model: row["model"] ?? "",
      outcome: row["outcome"],
      simulated: row["simulated"],
    };
    const name = JSON.stringify(Object.values(key).map(String));
    const sums = (expected.get(name) ?? {
      ...key,
      requests: 0n,
      input_tokens: 0n,
      output_tokens: 0n,
      cost_nano_usd: 0n,
    }) as Record<string, bigint>;
    expected.set(name, {
      ...sums,
      requests: sums["requests"]! + 1n,
      input_tokens:
        sums["input_tokens"]! +
        of("fresh_input_tokens") +
        of("cached_input_tokens") +
        of("cache_write_tokens") +
        of("audio_input_tokens"),
      output_tokens: sums["output_tokens"]! + of("output_tokens") + of("audio_output_tokens"),
      cost_nano_usd: sums["cost_nano_usd"]! + of("cost_nano_usd"),
    });
  }
  const rollUps = await database.all({ sql: "select * from usage_hourly", params: [] });
  const sorted = (rows: Iterable<Record<string, unknown>>): string[] =>
    [...rows]
      .map((row) =>
        JSON.stringify(
          Object.keys(row)
            .sort()
            .map((name) => [name, String(row[name])]),
        ),
      )
      .sort();
  assert.deepEqual(sorted(rollUps), sorted(expected.values()));
  return events.map((row) => String(row["request_id"])).sort();
}
const idsOf = (events: readonly UsageEvent[]): string[] => events.map(({ request }) => request.requestId).sort();

onEachDatabase("a write that has resolved is on the disk, with all its figures", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const writer = writerOn(database);
  await writer.write(eventOf(8));
  const [row] = await database.all({ sql: "select * from usage_events", params: [] });
  assert.deepEqual(
    { ...row, event_id: "" },
    {
      event_id: "",
      request_id: "r-8",
      key_id: "bk_0",
      occurred_at_ms: BigInt(NOON + 7_200_000),
      finished_at_ms: BigInt(NOON + 7_200_008),
      operation: "chat",
      provider: "openai",
      model: "m",
      requested_model: "m",
      stream: 1n,
      simulated: 1n,
      outcome: "completed",
      status: 200n,
      error_code: null,
      fresh_input_tokens: 8n,
      cached_input_tokens: 2n,
      cache_write_tokens: 3n,
      audio_input_tokens: 4n,
      output_tokens: 40n,
      reasoning_tokens: 1n,
      audio_output_tokens: 6n,
      usage_source: "exact",
      cost_nano_usd: 8_000_000_056n,
      price_version: "test",
      latency_ms: 8n,
      time_to_first_token_ms: null,
      attempts: 1n,
      fallback: 0n,
      route_reason: null,
      trace_id: "t",
      clamped_max_tokens: 77n,
      reserved_nano_usd: 9n,
      earlier_cost_nano_usd: 8n,
      rescue: null,
    },
  );
});

onEachDatabase(
  "a thousand writes at once are committed in a handful of transactions, and the roll-ups equal the events",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const counting = watched(database);
    const writer = writerOn(counting);
    const events = eventsOf(1_000);
    await Promise.all(events.map((event) => writer.write(event)));
    assert.ok(counting.transactions <= 5, `${counting.transactions} transactions`);
    assert.deepEqual(await assertRollUpsEqualEvents(database), idsOf(events));
  },
);

onEachDatabase("what arrives while a commit is under way goes together in the next", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const underWay = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  const slow = watched(database, async (go) => {
    underWay.resolve();
    await release.promise;
    return go();
  });
  const writer = writerOn(slow);
  const events = eventsOf(50);
  const first = writer.write(events[0]!);
  await underWay.promise;
  const others = events.slice(1).map((event) => writer.write(event));
  release.resolve();
  await Promise.all([first, ...others]);
  assert.equal(slow.transactions, 2);
  assert.deepEqual(await assertRollUpsEqualEvents(database), idsOf(events));
});

for (const failures of [1, 4]) {
  onEachDatabase(
    `a database that fails ${failures} times is tried again: nothing is lost or doubled, and the writer says that it is not healthy meanwhile`,
    async (t, dialect) => {
      const { database } = await scratchDatabase(t, dialect);
      let left = failures;
      let failed = 0;
      const broken = watched(database, async (go) => {
        if (left === 0) return go();
        left -= 1;
        failed += 1;
        throw new StorageUnavailable("disk full");
      });
      const writer = writerOn(broken);
      const events = eventsOf(700);
      let durable = 0;
      const writes = events.map((event) => writer.write(event).then(() => (durable += 1)));
      assert.equal(writer.healthy, true);
      await eventually(() => failed === failures);
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(writer.healthy, false);
      assert.equal(durable, 0);
      await eventually(() => durable === events.length);
      await Promise.all(writes);
      assert.equal(writer.healthy, true);
      assert.deepEqual(await assertRollUpsEqualEvents(database), idsOf(events));
    },
  );
}

onEachDatabase(
  "a group whose commit took effect but whose answer was lost counts once, in the events and in the roll-ups",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    let lost = 0;
    const lossy = watched(database, async (go) => {
      const rows = await go();
      if (lost++ < 3) throw new StorageUnavailable("the answer was lost");
      return rows;
    });
    const writer = writerOn(lossy);
    const events = eventsOf(60);
    let durable = false;
    const writes = Promise.all(events.map((event) => writer.write(event))).then(() => (durable = true));
    await eventually(() => durable);
    await writes;
    // The second try finds the events there.
    assert.equal(lossy.transactions, 2);
    assert.deepEqual(await assertRollUpsEqualEvents(database), idsOf(events));
  },
);

onEachDatabase(
  "one event that the database will not have is told to its writer, and takes no other with it",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const writer = writerOn(database);
    const events = eventsOf(20);
    const poison: UsageEvent = { ...eventOf(99), finishedAtMs: 0.5 };
    const refused = assert.rejects(writer.write(poison), StatementRejected);
    const writes = events.map((event) => writer.write(event));
    await refused;
    await Promise.all(writes);
    assert.deepEqual(await assertRollUpsEqualEvents(database), idsOf(events));
    await writer.write(eventOf(50));
    assert.equal(writer.healthy, true);
  },
);

onEachDatabase("closing waits for everything that was handed in", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const writer = writerOn(database);
  const events = eventsOf(600);
  const writes = events.map((event) => writer.write(event));
  await writer.close();
  assert.deepEqual(await assertRollUpsEqualEvents(database), idsOf(events));
  await Promise.all(writes);
});
