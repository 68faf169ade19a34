import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { eventually } from "../ledger/ledger-fixture.ts";
import { agentOf, ask, started } from "./bad-day-callers.ts";

const CALLERS = 4;

test("a provider that flaps for 60 s is left alone while its breaker is open, as the other one serves, and serves again within one probe interval", async (t) => {
  const brikk = await started(t);
  const agent = agentOf(t, 20);
  const { simulator, gateway } = brikk;
  const breaker = () => gateway.health.targets().find(({ provider }) => provider === "openai");
  const state = { failures: 0, asked: 0, fromOther: 0, stopped: false };
  const traffic = Array.from({ length: CALLERS }, async (_, caller) => {
    for (let turn = 0; !state.stopped; turn += 1) {
      const { whole, provider } = await ask(brikk, agent, "brikk/auto", turn % 2 === 0, `${caller}: question ${turn}`);
      state.asked += 1;
      if (!whole) state.failures += 1;
      if (provider === "mistral") state.fromOther += 1;
      await wait(20);
    }
  });
  const until = performance.now() + 60_000;
  let flaps = 0;
  while (performance.now() < until) {
    simulator.faults.set({ vendor: "openai", fault: { kind: "status", status: 500 } });
    await eventually(() => breaker()?.state === "open");
    const reached = simulator.served.totals().openai.requests;
    const before = { ...state };
    await wait(3_500);
    const asked = state.asked - before.asked;
    const fromOther = state.fromOther - before.fromOther;
    assert.ok(asked >= 50, `only ${asked} requests were answered while the provider was out`);
    // Each caller may have had one answer under way when it went out.
    assert.ok(asked - fromOther <= CALLERS, `${fromOther} of ${asked} were served by the other provider`);
    // Probes only, and those of them that came while it was half-open.
    const probes = simulator.served.totals().openai.requests - reached;
    assert.ok(probes <= 15, `${probes} requests reached a provider whose breaker is open`);
    simulator.faults.clear();
    const { nextProbeAtMs } = breaker()!;
    const intervalMs = nextProbeAtMs === undefined ? 0 : Math.max(0, nextProbeAtMs - Date.now());
    const mendedAt = performance.now();
    await eventually(() => breaker()?.state === "closed", intervalMs + 3_000);
    assert.ok(performance.now() - mendedAt <= intervalMs + 1_000, "it was not asked when its time was over");
    flaps += 1;
    await wait(1_000);
  }
  state.stopped = true;
  await Promise.all(traffic);
  t.diagnostic(`${flaps} flaps, ${state.asked} requests, ${state.fromOther} served by the other`);
  assert.ok(flaps >= 5);
  assert.equal(state.failures, 0, "the other provider was there all the time");
});
