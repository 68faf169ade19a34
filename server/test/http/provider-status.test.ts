import assert from "node:assert/strict";
import { test } from "node:test";
import { providerStatusOf } from "../../src/http/provider-status.ts";
import { targetReport } from "./target-report.ts";

const NOW = 1_000_000;
const closed = targetReport({ requests: 10, failureRate: 0 });
const open = targetReport({ requests: 10, failureRate: 1, state: "open" });
const halfOpen = targetReport({ requests: 10, failureRate: 0.5, state: "half-open" });
const cooling = targetReport({ requests: 10, failureRate: 0, coolingUntilMs: NOW + 1 });
const probe = (ok: boolean): { atMs: number; ok: boolean; detail: string } => ({ atMs: NOW, ok, detail: "" });

test("a provider's word is that of its worst model, and one that works beside one that does not is told apart", () => {
  for (const [targets, state, status] of [
    [[], "unknown", "idle"],
    [[targetReport()], "closed", "idle"],
    [[closed], "closed", "healthy"],
    [[closed, targetReport({ requests: 10, failureRate: 0.2 })], "closed", "unsteady"],
    [[closed, targetReport({ requests: 10, failureRate: 0.1 })], "closed", "healthy"],
    [[closed, cooling], "closed", "cooling_down"],
    [[targetReport({ requests: 10, failureRate: 0, coolingUntilMs: NOW })], "closed", "healthy"],
    [[closed, halfOpen, cooling], "half-open", "recovering"],
    [[closed, open, halfOpen], "open", "partly_failing"],
    [[open, open], "open", "failing"],
  ] as const) {
    const found = providerStatusOf(targets, undefined, NOW);
    assert.deepEqual([found.state, found.status], [state, status]);
  }
});

test("a failed probe counts where there were no requests, which tell more", () => {
  assert.equal(providerStatusOf([], probe(false), NOW).status, "failing");
  assert.equal(providerStatusOf([targetReport()], probe(true), NOW).status, "idle");
  assert.equal(providerStatusOf([closed], probe(false), NOW).status, "healthy");
});

test("the error rate is that of all requests, and first tokens are those of the model that was asked most", () => {
  const found = providerStatusOf(
    [
      targetReport({ requests: 90, failureRate: 0.1 }),
      targetReport({ requests: 10, failureRate: 0.5, firstTokenP50Ms: 5, firstTokenP95Ms: 6 }),
      targetReport({ requests: 4, failureRate: 0.5, firstTokenP50Ms: 1, firstTokenP95Ms: 2 }),
    ],
    undefined,
    NOW,
  );
  assert.equal(found.requests, 104);
  assert.ok(Math.abs(found.errorRate! - 16 / 104) < 1e-12);
  assert.deepEqual([found.firstTokenP50Ms, found.firstTokenP95Ms], [5, 6]);
  assert.equal(providerStatusOf([targetReport()], undefined, NOW).errorRate, undefined);
});
