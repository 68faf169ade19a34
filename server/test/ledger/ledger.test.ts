import assert from "node:assert/strict";
import { BrikkError } from "../../src/errors.ts";
import { DAY_MS } from "../../src/lib/clock.ts";
import type { Ledger, Reservation } from "../../src/ledger/ledger.ts";
import { readUsageSummary } from "../../src/ledger/usage-summary.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { type Database, type Statement, StorageUnavailable } from "../../src/storage/database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";
import {
  assertSound,
  coded,
  eventually,
  newKey,
  openTestLedger,
  priced,
  requestOf,
  reservationRequest,
  reserve,
  settled,
  sumOf,
} from "./ledger-fixture.ts";
import type { ApiKey } from "../../src/access/api-key.ts";

const dayOf = (ledger: Ledger, key: ApiKey) => ledger.standing(key).budgets[0]!;

onEachDatabase("of a hundred requests at once, as many are let in as the hard cap pays for", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, database, { clock });
  const key = newKey(1_000n);
  const tried = await Promise.allSettled(Array.from({ length: 100 }, () => reserve(ledger, key, 70, clock.now())));
  const held = tried.flatMap((outcome) => {
    if (outcome.status === "fulfilled") return outcome.value;
    assert.ok(coded("hard_cap_exceeded")(outcome.reason));
    return [];
  });
  assert.equal(held.length, 14);
  await Promise.all(held.map((reservation) => reservation.settle(settled(70))));
  assert.equal(dayOf(ledger, key).spent, 980n);
  await assertSound(database);
});

onEachDatabase("a request waits for the database only when the slice is empty", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, database, { clock });
  const key = newKey(1_000_000n);
  const first = ledger.reserve(reservationRequest(key, clock.now(), 100));
  assert.ok(first instanceof Promise);
  await (await first).settle(settled(10));
  const leased = async (): Promise<bigint> =>
    (await database.all({ sql: "select sum(leased_nano_usd) as leased from budget_windows", params: [] }))[0]![
      "leased"
    ] as bigint;
  let before = await leased();
  // The first lease brought twice what was needed: at 10 each, there is enough for nine more without another.
  for (let turn = 0; turn < 9; turn++) {
    const next = ledger.reserve(reservationRequest(key, clock.now(), 100));
    assert.ok(!(next instanceof Promise), `request ${turn} had to wait`);
    await next.settle(settled(10));
    before -= 10n;
  }
  // And before it is empty, the next lease is on its way by itself.
  for (const deadline = performance.now() + 10_000; (await leased()) <= before;)
    assert.ok(performance.now() < deadline, "no lease was taken ahead");
});

onEachDatabase("many who wait for a lease share one transaction", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  let leases = 0;
  const counting: Database = {
    ...database,
    transact: (statements: readonly Statement[]) => {
      if (statements.some(({ sql }) => sql.includes("insert into leases"))) leases += 1;
      return database.transact(statements);
    },
  };
  const clock = createTestClock();
  const ledger = await openTestLedger(t, counting, { clock });
  const keys = Array.from({ length: 60 }, () => newKey(10_000n));
  const held = await Promise.all(keys.map((key) => reserve(ledger, key, 100, clock.now())));
  assert.ok(leases <= 2, `${leases} transactions for ${keys.length} keys`);
  await Promise.all(held.map((reservation) => reservation.settle(settled(100))));
  await assertSound(database);
});

onEachDatabase("the dearest candidate is reserved, whichever stands first", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, database, { clock });
  const candidates = [priced(1n), priced(7n), priced(3n)];
  const reservation = await reserve(ledger, newKey(10_000n), 100, clock.now(), candidates);
  assert.equal(reservation.worstCase, 700n);
  await reservation.settle(settled(0));
});

onEachDatabase("a refusal explains itself: the rule, its numbers, and when it resets", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock(Date.UTC(2026, 10, 23, 12));
  const ledger = await openTestLedger(t, database, { clock });
  const key = newKey(1_000_000_000n);
  await (await reserve(ledger, key, 400_000_000, clock.now())).settle(settled(300_000_000));
  const held = await reserve(ledger, key, 200_000_000, clock.now());
  await assert.rejects(reserve(ledger, key, 600_000_000, clock.now()), (error) => {
    assert.ok(error instanceof BrikkError);
    assert.equal(error.status, 402);
    assert.equal(error.headers()["x-should-retry"], "false");
    assert.equal(
      error.message,
      "This request may cost $0.6 even with the shortest answer, which does not fit in this key's hard cap of $1 a day: $0.3 is spent and $0.2 is set aside for requests in flight. The day's budget resets at 2026-11-24T00:00:00.000Z; until then, ask for less, or ask whoever runs this gateway to raise the cap.",
    );
    assert.deepEqual(error.extras.details, {
      scope: "key",
      key_id: key.id,
      window: "day",
      limit_usd: 1,
      spent_usd: 0.3,
      reserved_usd: 0.2,
      needed_usd: 0.6,
      resets_at: "2026-11-24T00:00:00.000Z",
    });
    return true;
  });
  await held.settle(settled(0));
});

onEachDatabase(
  "all budgets of a key apply, the tightest refuses, and a refusal sets nothing aside in the others",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock(Date.UTC(2026, 10, 23, 12));
    const ledger = await openTestLedger(t, database, { clock });
    const key = newKey(1_000n, { week: { hardCap: nanoUsd(1_500n) }, month: { hardCap: nanoUsd(5_000n) } });
    await (await reserve(ledger, key, 900, clock.now())).settle(settled(900));
    clock.advance(DAY_MS);
    await assert.rejects(reserve(ledger, key, 700, clock.now()), (error) => {
      assert.ok(error instanceof BrikkError);
      const details = error.extras.details!;
      assert.deepEqual([details["window"], details["resets_at"]], ["week", "2026-11-30T00:00:00.000Z"]);
      return true;
    });
    assert.deepEqual(
      ledger
        .standing(key)
        .budgets.map(({ window, spent, reserved, remaining }) => [window, spent, reserved, remaining]),
      [
        ["day", 0n, 0n, 1_000n],
        ["week", 900n, 0n, 600n],
        ["month", 900n, 0n, 4_100n],
      ],
    );
    await (await reserve(ledger, key, 600, clock.now())).settle(settled(600));
    await assertSound(database);
  },
);

onEachDatabase("a key that is capped by the month alone may spend it in a day", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, database, {
    clock,
    defaultHardCap: nanoUsd(100n),
    defaultSoftCap: nanoUsd(50n),
  });
  const { hardCap: _, softCap: __, ...plain } = newKey(0n);
  const key: ApiKey = { ...plain, month: { hardCap: nanoUsd(1_000n) } };
  await (await reserve(ledger, key, 900, clock.now())).settle(settled(900));
  await assert.rejects(reserve(ledger, key, 101, clock.now()), coded("hard_cap_exceeded"));
});

onEachDatabase("a cap that is set later finds what was spent before", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, database, { clock });
  const key = newKey(10_000n);
  await (await reserve(ledger, key, 900, clock.now())).settle(settled(900));
  const capped: ApiKey = { ...key, week: { hardCap: nanoUsd(1_000n) } };
  await assert.rejects(reserve(ledger, capped, 101, clock.now()), coded("hard_cap_exceeded"));
  await (await reserve(ledger, capped, 100, clock.now())).settle(settled(100));
  await assertSound(database);
});

onEachDatabase(
  "when only a shorter answer fits, the answer is limited to what the rest of the budget pays for",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const ledger = await openTestLedger(t, database, { clock });
    const key = newKey(1_000n);
    const long = { outputTokens: () => 4_000, choices: 2 };
    const reservation = await ledger.reserve(reservationRequest(key, clock.now(), 100, long));
    assert.deepEqual([reservation.maxOutputTokens, reservation.worstCase], [450, 1_000n]);
    await reservation.settle(settled(968));
    // 32 are left, and two answers of 16 tokens behind one of 0 would fit exactly.
    await assert.rejects(
      async () => ledger.reserve(reservationRequest(key, clock.now(), 1, long)),
      coded("hard_cap_exceeded"),
    );
    const last = await ledger.reserve(reservationRequest(key, clock.now(), 0, long));
    assert.deepEqual([last.maxOutputTokens, last.worstCase], [16, 32n]);
    await last.settle(settled(32));
    const [row] = await database.all({
      sql: "select clamped_max_tokens, reserved_nano_usd from usage_events where key_id = ? order by event_id limit 1",
      params: [key.id],
    });
    assert.deepEqual(row, { clamped_max_tokens: 450n, reserved_nano_usd: 1_000n });
  },
);

onEachDatabase(
  "an answer is never limited to less than 16 tokens, and one that was to be shorter anyway is not touched",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const ledger = await openTestLedger(t, database, { clock });
    const key = newKey(115n);
    const asking = (outputTokens: number) =>
      ledger.reserve(reservationRequest(key, clock.now(), 100, { outputTokens: () => outputTokens }));
    await assert.rejects(async () => asking(1_000), coded("hard_cap_exceeded"));
    const short = await asking(10);
    assert.deepEqual([short.maxOutputTokens, short.worstCase], [undefined, 110n]);
    await short.settle(settled(110));
  },
);

onEachDatabase(
  "the input is counted only when its bound does not fit, and then the count is what is reserved",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const ledger = await openTestLedger(t, database, { clock });
    const key = newKey(1_000n);
    const request = (inputTokens: number, counted: number) => {
      const plain = reservationRequest(key, clock.now(), inputTokens, { counted });
      let counts = 0;
      return { request: { ...plain, tighten: () => ((counts += 1), plain.tighten()) }, counted: () => counts };
    };
    const fitting = request(900, 300);
    const first = await ledger.reserve(fitting.request);
    assert.deepEqual([first.worstCase, fitting.counted()], [900n, 0]);
    await first.settle(settled(0));
    const bounded = request(4_000, 990);
    const second = await ledger.reserve(bounded.request);
    assert.deepEqual([second.worstCase, second.maxOutputTokens, bounded.counted()], [990n, undefined, 1]);
    await second.settle(settled(990));
  },
);

onEachDatabase(
  "cost above what was reserved is charged in full and told, and the key is over its cap until the day ends",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const overruns: [bigint, bigint][] = [];
    const ledger = await openTestLedger(t, database, {
      clock,
      onOverrun: (_request, reserved, cost) => overruns.push([reserved, cost]),
    });
    const key = newKey(100n, { softCap: nanoUsd(50n) });
    const { cost, standing } = await (await reserve(ledger, key, 90, clock.now())).settle(settled(150));
    assert.equal(cost, 150n);
    const [day] = standing.budgets;
    assert.deepEqual([day!.spent, day!.softCapExceeded, day!.hardCapExceeded], [150n, true, true]);
    assert.deepEqual(overruns, [[90n, 150n]]);
    await assert.rejects(reserve(ledger, key, 1, clock.now()), coded("hard_cap_exceeded"));
    await assertSound(database);
  },
);

onEachDatabase("what nobody served costs nothing, and is written down", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, database, { clock });
  const key = newKey(100n);
  const { cost } = await (
    await reserve(ledger, key, 90, clock.now())
  ).settle({
    ...settled(0, undefined),
    outcome: "failed",
    status: 502,
    errorCode: "provider_error",
    usageSource: "none",
  });
  assert.equal(cost, 0n);
  await ledger.recordRefusal(requestOf(key, clock.now()), { status: 402, errorCode: "hard_cap_exceeded" });
  const rows = await database.all({
    sql: "select outcome, status, error_code, cost_nano_usd, attempts from usage_events where key_id = ? order by event_id",
    params: [key.id],
  });
  assert.deepEqual(rows, [
    { outcome: "failed", status: 502n, error_code: "provider_error", cost_nano_usd: 0n, attempts: 1n },
    { outcome: "refused", status: 402n, error_code: "hard_cap_exceeded", cost_nano_usd: 0n, attempts: 0n },
  ]);
  assert.deepEqual([dayOf(ledger, key).spent, dayOf(ledger, key).reserved], [0n, 0n]);
});

onEachDatabase("who produced nothing is owed no fee for the request", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, database, { clock });
  const plain = priced(1n);
  const model = { ...plain, rates: { ...plain.rates, perRequest: nanoUsd(40n) } };
  const served = { model, simulated: true };
  const key = newKey(1_000n);
  const failing = await reserve(ledger, key, 10, clock.now(), [model]);
  assert.equal(failing.worstCase, 50n);
  const failed = { ...settled(0, served), outcome: "failed", status: 502, usageSource: "none" } as const;
  assert.equal((await failing.settle(failed)).cost, 0n);
  assert.equal((await (await reserve(ledger, key, 10, clock.now(), [model])).settle(settled(10, served))).cost, 50n);
});

/** A database that can be switched off: it refuses, or takes effect and does not say so. */
function switchable(database: Database): { database: Database; mode: "on" | "off" | "deaf"; failures: number } {
  const state = {
    mode: "on" as "on" | "off" | "deaf",
    failures: 0,
    database: {
      ...database,
      transact: async (statements: readonly Statement[]) => {
        if (state.mode === "on") return database.transact(statements);
        state.failures += 1;
        if (state.mode === "deaf") await database.transact(statements).catch(() => undefined);
        throw new StorageUnavailable("disk full");
      },
    },
  };
  return state;
}

for (const mode of ["off", "deaf"] as const) {
  onEachDatabase(
    `while the database fails nothing may cost anything; what was in hand is settled when it is back${mode === "deaf" ? ", once, also if it had been taken" : ""}`,
    async (t, dialect) => {
      const { database } = await scratchDatabase(t, dialect);
      const storage = switchable(database);
      const clock = createTestClock();
      const ledger = await openTestLedger(t, storage.database, { clock });
      const key = newKey(1_000n);
      const held: Reservation[] = [];
      for (const tokens of [100, 200]) held.push(await reserve(ledger, key, tokens, clock.now()));
      storage.mode = mode;
      let durable = false;
      const settling = Promise.all(held.map((reservation) => reservation.settle(settled(50)))).then(
        () => (durable = true),
      );
      await eventually(() => storage.failures >= 3 && !ledger.writable);
      assert.equal(durable, false);
      await assert.rejects(
        reserve(ledger, key, 1, clock.now()),
        (error) => coded("storage_unavailable")(error) && (error as BrikkError).headers()["retry-after"] === "2",
      );
      // Not known to be durable, so still set aside in full.
      assert.equal(dayOf(ledger, key).reserved, 300n);
      storage.mode = "on";
      await eventually(() => durable);
      await settling;
      assert.equal(ledger.writable, true);
      assert.deepEqual(await sumOf(database, "usage_events", key), [100n, 2n]);
      assert.deepEqual(await sumOf(database, "usage_hourly", key), [100n, 2n]);
      await assertSound(database);
      const standing = await ledger.standingNow(key);
      assert.deepEqual([standing.budgets[0]!.spent, standing.budgets[0]!.reserved], [100n, 0n]);
      await (await reserve(ledger, key, 900, clock.now())).settle(settled(0));
    },
  );
}

onEachDatabase("a lease whose answer was lost is given back, and never spent twice", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const storage = switchable(database);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, storage.database, { clock });
  const key = newKey(1_000n);
  storage.mode = "deaf";
  await assert.rejects(reserve(ledger, key, 600, clock.now()), coded("storage_unavailable"));
  storage.mode = "on";
  await assertSound(database);
  await ledger.tick();
  await (await reserve(ledger, key, 1_000, clock.now())).settle(settled(1_000));
  await assertSound(database);
});

onEachDatabase(
  "an event that the database will not have is not called done, and its cost stays set aside",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const ledger = await openTestLedger(t, database, { clock });
    const key = newKey(100n);
    const reservation = await reserve(ledger, key, 90, clock.now());
    await assert.rejects(reservation.settle({ ...settled(60), status: 200.5 }));
    // The money is gone even though its row is not there.
    assert.deepEqual([dayOf(ledger, key).spent, dayOf(ledger, key).reserved], [0n, 60n]);
    await assert.rejects(reserve(ledger, key, 41, clock.now()), coded("hard_cap_exceeded"));
  },
);

onEachDatabase(
  "at midnight UTC a new day begins: what was reserved yesterday settles there and does not count today",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock(Date.UTC(2026, 10, 23, 23, 59, 59));
    const ledger = await openTestLedger(t, database, { clock });
    const key = newKey(1_000n);
    const yesterday = await reserve(ledger, key, 900, clock.now());
    await assert.rejects(reserve(ledger, key, 200, clock.now()), coded("hard_cap_exceeded"));
    clock.advance(1_000);
    assert.deepEqual([dayOf(ledger, key).spent, dayOf(ledger, key).reserved], [0n, 0n]);
    const today = await reserve(ledger, key, 1_000, clock.now());
    const { standing } = await yesterday.settle(settled(800));
    const [day] = standing.budgets;
    assert.deepEqual([day!.spent, day!.reserved, day!.resetsAtMs], [0n, 1_000n, Date.UTC(2026, 10, 25)]);
    await today.settle(settled(10));
    assert.deepEqual([dayOf(ledger, key).spent, dayOf(ledger, key).reserved], [10n, 0n]);
    const summary = await readUsageSummary(database, clock, { keyId: key.id });
    assert.deepEqual([summary.today.cost, summary.thisWeek.cost], [10n, 810n]);
    await assertSound(database);
  },
);

onEachDatabase(
  "a wall clock that is set back over midnight finds the day's budget as it was left",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock(Date.UTC(2026, 10, 23, 23, 59, 59));
    const ledger = await openTestLedger(t, database, { clock });
    const key = newKey(1_000n);
    await (await reserve(ledger, key, 900, clock.now())).settle(settled(900));
    clock.advance(2_000);
    await (await reserve(ledger, key, 700, clock.now())).settle(settled(700));
    clock.advance(-2_000);
    await assert.rejects(reserve(ledger, key, 101, clock.now()), coded("hard_cap_exceeded"));
    clock.advance(2_000);
    await assert.rejects(reserve(ledger, key, 301, clock.now()), coded("hard_cap_exceeded"));
    await assertSound(database);
  },
);

onEachDatabase(
  "a restart knows what was spent, and what the one before had given back is there again",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const before = await openTestLedger(t, database, { clock });
    const [key, other] = [newKey(1_000n), newKey(1_000n)];
    await (await reserve(before, key, 500, clock.now())).settle(settled(400));
    clock.advance(3_600_000);
    await (await reserve(before, key, 500, clock.now())).settle(settled(30));
    await (await reserve(before, other, 500, clock.now())).settle(settled(7));
    await before.close();
    const after = await openTestLedger(t, database, { clock });
    assert.deepEqual([dayOf(after, key).spent, dayOf(after, key).reserved, dayOf(after, other).spent], [430n, 0n, 7n]);
    await assert.rejects(reserve(after, key, 571, clock.now()), coded("hard_cap_exceeded"));
    await (await reserve(after, key, 570, clock.now())).settle(settled(0));
    clock.advance(DAY_MS);
    assert.equal(dayOf(await openTestLedger(t, database, { clock }), key).spent, 0n);
  },
);

onEachDatabase("what was spent before there were budget windows counts in them", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock(Date.UTC(2026, 10, 25, 12));
  const key = newKey(1_000n, { week: { hardCap: nanoUsd(1_000n) } });
  await database.transact(
    [25, 24].map((day) => ({
      sql: "insert into usage_hourly (hour_start_ms, key_id, provider, model, outcome, simulated, requests, input_tokens, output_tokens, cost_nano_usd) values (?, ?, 'openai', 'm', 'completed', 0, 1, 1, 1, 300)",
      params: [Date.UTC(2026, 10, day, 3), key.id],
    })),
  );
  const ledger = await openTestLedger(t, database, { clock });
  await assert.rejects(reserve(ledger, key, 401, clock.now()), coded("hard_cap_exceeded"));
  assert.deepEqual(
    ledger.standing(key).budgets.map(({ spent }) => spent),
    [300n, 600n, 600n],
  );
});

onEachDatabase(
  "a key without caps of its own has the settings' caps for the day and none for longer",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const ledger = await openTestLedger(t, database);
    const { hardCap: _, softCap: __, ...plain } = newKey(0n);
    assert.deepEqual(
      ledger.standing(plain).budgets.map(({ window, softCap, hardCap }) => [window, softCap, hardCap]),
      [
        ["day", 5_000_000_000n, 10_000_000_000n],
        ["week", undefined, undefined],
        ["month", undefined, undefined],
      ],
    );
  },
);

onEachDatabase("a preview says what would become of a request and changes nothing", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, database, { clock });
  const key = newKey(1_000n);
  await (await reserve(ledger, key, 600, clock.now())).settle(settled(600));
  const state = () => database.all({ sql: "select * from budget_windows order by budget_id", params: [] });
  const before = await state();
  const ask = (inputTokens: number, outputTokens: number) =>
    ledger.preview(reservationRequest(key, clock.now(), inputTokens, { outputTokens: () => outputTokens }));
  const fits = await ask(100, 100);
  assert.deepEqual([fits.passes, fits.worstCase, fits.passes && fits.maxOutputTokens], [true, 200n, undefined]);
  const shortened = await ask(100, 1_000);
  assert.equal(shortened.passes && shortened.maxOutputTokens, 300);
  const refused = await ask(390, 1_000);
  assert.ok(!refused.passes && refused.refusal.code === "hard_cap_exceeded");
  assert.deepEqual(await state(), before);
});

onEachDatabase(
  "closing the ledger waits for every settlement that was handed in, and gives every lease back",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const ledger = await openTestLedger(t, database, { clock });
    const key = newKey(10_000n);
    const held = await Promise.all(Array.from({ length: 20 }, () => reserve(ledger, key, 10, clock.now())));
    const settling = held.map((reservation) => reservation.settle(settled(10)));
    await ledger.close();
    assert.deepEqual(await sumOf(database, "usage_events", key), [200n, 20n]);
    await Promise.all(settling);
    assert.deepEqual(await database.all({ sql: "select * from leases", params: [] }), []);
    assert.deepEqual(await database.all({ sql: "select * from lease_owners", params: [] }), []);
  },
);

onEachDatabase("a refusal is told as the cap's end only when next to nothing is left", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const told: [bigint, boolean | undefined][] = [];
  const ledger = await openTestLedger(t, database, {
    clock,
    onStanding: ({ window, spent, refusing }) => window === "day" && told.push([spent, refusing]),
  });
  const key = newKey(1_000n);
  await (await reserve(ledger, key, 900, clock.now())).settle(settled(900));
  await assert.rejects(reserve(ledger, key, 500, clock.now()), coded("hard_cap_exceeded"));
  await (await reserve(ledger, key, 60, clock.now())).settle(settled(60));
  await assert.rejects(reserve(ledger, key, 500, clock.now()), coded("hard_cap_exceeded"));
  assert.deepEqual(told, [
    [900n, false],
    [960n, false],
    [960n, true],
  ]);
});
