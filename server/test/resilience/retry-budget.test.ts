import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RetryBudget } from "../../src/resilience/retry-budget.ts";

test("in any interleaving no more retries pass than the share of the calls and what may be saved up", () => {
  fc.assert(
    fc.property(
      fc.array(fc.boolean(), { maxLength: 400, size: "max" }),
      fc.constantFrom(0.1, 0.2, 0.25, 1),
      fc.integer({ min: 1, max: 10 }),
      (isCall, share, most) => {
        const budget = new RetryBudget({ share, most });
        // From any moment on, not only from the first: a long calm saves up no more than the bound.
        let passedMost = most;
        for (const call of isCall) {
          if (call) {
            budget.addCall();
            passedMost = Math.min(most, passedMost + share);
          } else if (budget.takeRetry()) {
            passedMost -= 1;
            assert.ok(passedMost > -1e-9);
          } else assert.ok(passedMost < 1 + 1e-9, "one was turned away that was paid for");
        }
      },
    ),
  );
});

test("a little traffic may retry from the start, and a storm of retries is held to the share", () => {
  const budget = new RetryBudget({ share: 0.2, most: 10 });
  let retries = 0;
  for (let call = 0; call < 1_000; call += 1) {
    budget.addCall();
    for (let times = 0; times < 3; times += 1) if (budget.takeRetry()) retries += 1;
  }
  assert.ok(retries >= 200 && retries <= 210, String(retries));
});
