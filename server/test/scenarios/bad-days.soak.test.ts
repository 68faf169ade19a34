import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { request } from "undici";
import { followLeavings } from "../harness/leavings.ts";
import { followBill } from "../harness/provider-bill.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { agentOf, ask, crowd, post, started } from "./bad-day-callers.ts";

/** Providers' bad days under load: what callers get, what is billed, and what is left behind. */
test("with 30 % of both providers' answers failing at random 99 % of 2,000 requests succeed, without a storm, and the ledger is the providers' bill", async (t) => {
  const brikk = await started(t, { simulator: { seed: 7 } });
  const agent = agentOf(t, 25);
  const bill = followBill(brikk.simulator);
  // Together three in ten: each rule is drawn for what the ones before let through.
  for (const [share, fault] of [
    [0.12, { kind: "status", status: 503 }],
    [0.1136, { kind: "reset" }],
    [0.1026, { kind: "status", status: 429 }],
  ] as const)
    brikk.simulator.faults.set({ vendor: "*", share, fault });
  const failures: string[] = [];
  await crowd(2_000, 25, async (turn) => {
    const { whole, code } = await ask(brikk, agent, "brikk/auto", turn % 2 === 0, `Question ${turn}: why?`);
    if (!whole) failures.push(code!);
  });
  const [sums] = await brikk.all(
    "select count(*) as requests, sum(attempts) as attempts, max(attempts) as most, sum(cost_nano_usd) as cost, sum(outcome = 'completed') as completed from usage_events",
  );
  t.diagnostic(
    `${failures.length} of 2,000 failed (${[...new Set(failures)].join(", ")}); ${String(sums!["attempts"])} attempts`,
  );
  assert.ok(failures.length <= 20, `${failures.length} failed: ${failures.join(", ")}`);
  assert.equal(sums!["requests"], 2_000n);
  assert.equal(sums!["completed"], BigInt(2_000 - failures.length));
  assert.ok((sums!["most"] as bigint) <= 5n);
  // 1 / 0.7 is what it takes without any waste.
  assert.ok((sums!["attempts"] as bigint) <= 3_200n, `${String(sums!["attempts"])} attempts`);
  assert.equal(BigInt(bill.requests), sums!["attempts"]);
  assert.equal(sums!["cost"], bill.total);
});

test("500 open streams while a provider hangs: the other one's first token comes as soon as before", async (t) => {
  const brikk = await started(t, {
    environment: { PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS: "60", PROVIDER_MAX_RETRIES: "0" },
  });
  const hanging = agentOf(t, 500);
  const agent = agentOf(t, 10);
  const firstTokenMs = async (): Promise<number> => {
    const samples: number[] = [];
    await crowd(100, 5, async (turn) => {
      const sentAt = performance.now();
      const answer = await post(brikk, agent, "mistral-small-latest", true, `Question ${turn}`);
      await once(answer.body, "data");
      samples.push(performance.now() - sentAt);
      await answer.body.dump();
    });
    return samples.sort((a, b) => a - b)[50]!;
  };
  await firstTokenMs();
  const before = await firstTokenMs();
  brikk.simulator.faults.set({ vendor: "openai", fault: { kind: "hang" } });
  const leaving = new AbortController();
  const open = Array.from({ length: 500 }, (_, caller) =>
    request(`${brikk.url}/v1/chat/completions`, {
      method: "POST",
      dispatcher: hanging,
      signal: leaving.signal,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "gpt-4o-mini",
        stream: true,
        max_tokens: 60,
        messages: [{ role: "user", content: `Waiting ${caller}` }],
      }),
    }).catch((error: unknown) => error),
  );
  await eventually(() => brikk.gateway.health.providerReport("openai").inFlight === 500, 20_000);
  const during = await firstTokenMs();
  t.diagnostic(`median first token ${before.toFixed(1)} ms before, ${during.toFixed(1)} ms with 500 streams hanging`);
  // In one process with its provider and its callers; a wait behind the hanging ones would be seconds.
  assert.ok(during < before * 3 + 50, `${during} ms against ${before} ms`);
  leaving.abort();
  await Promise.all(open);
  await eventually(() => brikk.gateway.inFlight.count === 0, 20_000);
  assert.equal(brikk.gateway.health.providerReport("openai").inFlight, 0);
});

test("10,000 faulty requests leave no timer, socket, listener or slot behind", async (t) => {
  const warnings: Error[] = [];
  const warned = (warning: Error): void => void warnings.push(warning);
  process.on("warning", warned);
  t.after(() => process.off("warning", warned));
  const brikk = await started(t, {
    environment: {
      PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS: "0.05",
      PROVIDER_IDLE_TIMEOUT_SECONDS: "0.05",
      PROVIDER_TIMEOUT_SECONDS: "0.05",
      PROVIDER_MAX_RETRIES: "1",
    },
  });
  const atOnce = 40;
  const agent = agentOf(t, atOnce);
  await crowd(200, atOnce, async (turn) => void (await ask(brikk, agent, "brikk/auto", turn % 2 === 0, "warm")));
  const leavings = followLeavings(t);
  for (const fault of [
    { kind: "status", status: 500 },
    { kind: "status", status: 400 },
    { kind: "reset" },
    { kind: "cut", afterTokens: 3 },
    { kind: "stall", afterTokens: 3 },
    { kind: "hang" },
    { kind: "malformed-chunk", afterTokens: 2 },
    { kind: "error-event", afterTokens: 2 },
    { kind: "empty-stream" },
    { kind: "unusable-body", body: "html" },
    { kind: "missing-done" },
    { kind: "quota" },
  ] as const)
    brikk.simulator.faults.set({ vendor: "*", share: 0.1, fault });
  const seen = new Map<string, number>();
  await crowd(10_000, atOnce, async (turn) => {
    // Open breakers would keep the faults away.
    if (turn % 10 === 0) brikk.gateway.health.reset();
    const { code = "whole" } = await ask(brikk, agent, "brikk/auto", turn % 2 === 0, `Question ${turn % 50}`);
    seen.set(code, (seen.get(code) ?? 0) + 1);
  });
  t.diagnostic(JSON.stringify(Object.fromEntries(seen)));
  assert.ok((seen.get("whole") ?? 0) > 1_000 && (seen.get("provider_error") ?? 0) > 500, "the faults did not strike");
  const report = (name: string) => brikk.gateway.health.providerReport(name);
  await eventually(() => brikk.gateway.inFlight.count === 0);
  for (const name of ["openai", "mistral"]) assert.deepEqual([report(name).inFlight, report(name).queued], [0, 0]);
  for (const target of brikk.gateway.health.targets()) assert.equal(target.probesInFlight, 0);
  // What is kept for the next request is bounded by what was at once; what leaked would be counted in thousands.
  await eventually(() => {
    const { timers, sockets, listeners } = leavings.now();
    // Both ends of every connection are in this process: the callers' and those to the two providers, and a timer for each.
    return timers <= 6 * atOnce && sockets <= 2 * atOnce && listeners <= 6 * atOnce;
  }, 20_000);
  t.diagnostic(JSON.stringify(leavings.now()));
  assert.deepEqual(warnings, []);
});
