import assert from "node:assert/strict";
import { test } from "node:test";
import { startSimulator } from "@brikk/simulator";
import { createKeyStore } from "../../src/access/key-store.ts";
import { createHeadSeals } from "../../src/audit/head-seals.ts";
import { verifyTrail } from "../../src/audit/verify-trail.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { newFernetKey, parseFernetKeys } from "../../src/lib/fernet.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { startGatewayProcess } from "../harness/gateway-process.ts";
import { startPostgres } from "../harness/postgres-server.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { onEachDatabase, onPostgres, scratchDatabase } from "../storage/scratch.ts";
import { brikkInProcess, printed } from "./brikk-command.ts";

const KEY = newFernetKey();
const seals = createHeadSeals(() => parseFernetKeys(KEY)!);

/** Ten callers who ask one request after the other, until nobody answers any more. */
async function askUntilGone(url: string, secret: string): Promise<void> {
  const caller = async (): Promise<void> => {
    for (;;) {
      try {
        const answer = await fetch(`${url}/keys/me`, { headers: { authorization: `Bearer ${secret}` } });
        await answer.arrayBuffer();
      } catch {
        return;
      }
    }
  };
  await Promise.all(Array.from({ length: 10 }, caller));
}

onEachDatabase(
  "killed -9 under load the trail verifies, shows a start without a stop, and goes on",
  async (t, dialect) => {
    const { database, url } = await scratchDatabase(t, dialect);
    const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
    t.after(() => simulator.close());
    const { secret } = await createKeyStore({ database, clock: systemClock }).create({ name: "audit" });
    const options = { databaseUrl: url, simulator, environment: { BRIKK_ENCRYPTION_KEY: KEY } };
    const noted = async (): Promise<number> => {
      const [row] = await database.all({
        sql: "select count(*) as n from audit_entries where kind = 'request'",
        params: [],
      });
      return Number(row?.["n"]);
    };
    for (let round = 1; round <= 3; round += 1) {
      const gateway = await startGatewayProcess(t, options);
      const load = askUntilGone(gateway.url, secret);
      const before = await noted();
      await eventually(async () => (await noted()) > before + 50, 30_000);
      await gateway.kill("SIGKILL");
      await load;
      const { faults, unstopped } = await verifyTrail({ database, seals });
      assert.deepEqual([faults, unstopped.length], [[], round]);
    }
    const polite = await startGatewayProcess(t, options);
    assert.equal(
      (await fetch(`${polite.url}/usage/me`, { headers: { authorization: `Bearer ${secret}` } })).status,
      200,
    );
    const before = await noted();
    assert.equal(await polite.kill("SIGTERM"), 0, polite.said());
    assert.equal(await noted(), before + 1, "what was noted last was written at the stop");
    const { faults, unstopped } = await verifyTrail({ database, seals });
    assert.deepEqual([faults, unstopped.length], [[], 3]);
  },
);

onPostgres("two instances write one chain, and one whose database is away ends all the same", async (t) => {
  const postgres = await startPostgres(t);
  const database = await openDatabase({ url: postgres.url });
  t.after(() => database.close());
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  const { secret } = await createKeyStore({ database, clock: systemClock }).create({ name: "audit" });
  const options = {
    databaseUrl: postgres.url,
    simulator,
    environment: { BRIKK_ENCRYPTION_KEY: KEY, LOG_LEVEL: "error" },
  };
  const gateways = await Promise.all([1, 2].map(() => startGatewayProcess(t, options)));
  const asks = 200;
  for (let n = 0; n < asks; n += 1) {
    const { status } = await fetch(`${gateways[n % 2]!.url}/keys/me`, {
      headers: { authorization: `Bearer ${secret}` },
    });
    assert.equal(status, 200);
  }
  assert.equal(await gateways[0]!.kill("SIGTERM"), 0);
  const noted = async (): Promise<number> => {
    const [row] = await database.all({
      sql: "select count(*) as n from audit_entries where kind = 'request'",
      params: [],
    });
    return Number(row?.["n"]);
  };
  await eventually(async () => (await noted()) === asks);
  assert.deepEqual((await verifyTrail({ database, seals })).faults, []);

  await postgres.stop("kill");
  const startedMs = performance.now();
  assert.equal(await gateways[1]!.kill("SIGTERM"), 0, gateways[1]!.said());
  assert.ok(performance.now() - startedMs < 60_000);
  assert.match(gateways[1]!.said(), /does not take the last audit entries/);
});

test("audit verify and audit list say what is there, in words and in JSON, and verify names what was changed", async (t) => {
  const { brikkWith, url } = brikkInProcess(t);
  const brikk = (...args: string[]) => brikkWith({ BRIKK_ENCRYPTION_KEY: KEY }, ...args);
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  const gateway = await startGatewayProcess(t, {
    databaseUrl: url,
    simulator,
    environment: { BRIKK_ENCRYPTION_KEY: KEY, BRIKK_ADMIN_TOKEN: "an-admin-token-of-this-test" },
  });
  for (let n = 0; n < 3; n += 1) await (await fetch(`${gateway.url}/usage/me`)).arrayBuffer();
  await fetch(`${gateway.url}/admin/circuit-breakers/reset`, {
    method: "POST",
    headers: { authorization: "Bearer an-admin-token-of-this-test" },
  });
  const head = (await (
    await fetch(`${gateway.url}/admin/audit/head`, { headers: { authorization: "Bearer an-admin-token-of-this-test" } })
  ).json()) as { sequence: number; hash: string };
  const noted = `${head.sequence}:${head.hash}`;
  const running = await brikk("audit", "verify", "--expect-head", noted);
  assert.deepEqual([running.code, running.stderr], [0, ""]);
  assert.match(running.stdout, /^The audit trail holds\.\n/);
  assert.match(running.stdout, /Entry 1: instance \S+ started at \S+ and has not stopped: it runs, or it was killed/);
  await gateway.kill("SIGTERM");

  const verified = await printed<Record<string, unknown>>(brikk("audit", "verify", "--json"));
  assert.deepEqual([verified["ok"], verified["entries"], verified["faults"], verified["unstopped"]], [true, 8, [], []]);
  const list = await brikk("audit", "list");
  assert.equal(list.stdout.trimEnd().split("\n").length, 8);
  assert.match(list.stdout, /^8 {2}\S+ {2}notice {2}system {2}instance\.stop/);
  const acts = await brikk("audit", "list", "--kind", "act", "--json");
  assert.equal((JSON.parse(acts.stdout) as { action: string }).action, "circuit_breaker.reset");
  const asked = await brikk("audit", "list", "--route", "/usage", "--limit", "2");
  assert.equal(asked.stdout.trimEnd().split("\n").length, 2);

  const database = await openDatabase({ url });
  t.after(() => database.close());
  await database.transact([
    { sql: "drop trigger audit_entries_stay", params: [] },
    { sql: "update audit_entries set ip = '192.0.2.1' where sequence = 3", params: [] },
  ]);
  const broken = await brikk("audit", "verify");
  assert.deepEqual([broken.code, broken.stderr], [1, ""]);
  assert.match(broken.stdout, /^The audit trail does not hold: 1 fault\.\n/);
  assert.match(broken.stdout, /changed: entry 3 is not what its hash was made of/);
  const elsewhere = await brikk("audit", "verify", "--json", "--expect-head", `${head.sequence}:${"0".repeat(64)}`);
  assert.equal(elsewhere.code, 1);
  assert.deepEqual(
    (JSON.parse(elsewhere.stdout) as { faults: { rule: string; sequence: number }[] }).faults.map(
      ({ rule, sequence }) => [rule, sequence],
    ),
    [
      ["changed", 3],
      ["expected-head", head.sequence],
    ],
  );
  // Nothing that somebody wrote there keeps the verification from telling, or reaches the terminal as a command.
  await database.transact([
    { sql: "drop trigger audit_marks_move_on", params: [] },
    { sql: "drop trigger audit_entries_leave_in_order", params: [] },
    { sql: "update audit_entries set occurred_at_ms = 9000000000000000 where sequence = 1", params: [] },
    { sql: "delete from audit_entries where sequence = 8", params: [] },
    { sql: "update audit_marks set hash = char(27) || '[31m' where name = 'head'", params: [] },
  ]);
  const odd = await brikk("audit", "verify");
  assert.deepEqual([odd.code, odd.stderr], [1, ""]);
  assert.match(odd.stdout, /changed: entry 1 .*\n.*changed: entry 3 .*\n.*missing: entry 8/);
  assert.match(odd.stdout, /Entry 1: instance \S+ started at \+275760-/);
  assert.ok(!odd.stdout.includes("\u001b"));
  assert.equal((await brikk("audit", "verify", "--json")).code, 1);
  const keyless = await brikkWith({}, "audit", "verify");
  assert.equal(keyless.code, 1);
  assert.match(keyless.stdout, /there is no encryption key here to check the head's seal with/);
});
