import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { namesOf, passedThresholds } from "../../src/ledger/alert-thresholds.ts";
import { nanoUsd } from "../../src/lib/money.ts";

const passed = (spent: bigint, softCap: bigint | undefined, hardCap: bigint | undefined): string[] =>
  namesOf(
    passedThresholds({
      spent: nanoUsd(spent),
      softCap: softCap === undefined ? undefined : nanoUsd(softCap),
      hardCap: hardCap === undefined ? undefined : nanoUsd(hardCap),
    }),
  );

test("a threshold is passed at its very nano-USD and not one before", () => {
  assert.deepEqual(passed(499n, 500n, 1_000n), []);
  assert.deepEqual(passed(500n, 500n, 1_000n), ["soft_cap", "hard_cap_50"]);
  assert.deepEqual(passed(799n, undefined, 1_000n), ["hard_cap_50"]);
  assert.deepEqual(passed(800n, undefined, 1_000n), ["hard_cap_50", "hard_cap_80"]);
  assert.deepEqual(passed(999n, 1_000n, 1_000n), ["hard_cap_50", "hard_cap_80"]);
  assert.deepEqual(passed(1_000n, 1_000n, 1_000n), ["soft_cap", "hard_cap_50", "hard_cap_80", "hard_cap_100"]);
  // Shares that are no whole nano-USD.
  assert.deepEqual(passed(1n, undefined, 3n), []);
  assert.deepEqual(passed(2n, undefined, 3n), ["hard_cap_50"]);
  assert.deepEqual(passed(5n, 5n, undefined), ["soft_cap"]);
  assert.deepEqual(passed(5n, undefined, undefined), []);
});

test("spending nothing passes nothing, also where a cap is 0", () => {
  assert.deepEqual(passed(0n, 0n, 0n), []);
  assert.deepEqual(passed(1n, 0n, 0n), ["soft_cap", "hard_cap_50", "hard_cap_80", "hard_cap_100"]);
});

test("a threshold of the hard cap is passed exactly when the share that is spent is no smaller, for any amounts", () => {
  const amount = fc.bigInt({ min: 1n, max: 10n ** 18n });
  fc.assert(
    fc.property(amount, amount, (spent, hardCap) => {
      const expected = [50n, 80n, 100n].filter((percent) => spent * 100n >= hardCap * percent);
      assert.deepEqual(
        passed(spent, undefined, hardCap),
        expected.map((percent) => `hard_cap_${percent}`),
      );
    }),
  );
});

test("a budget that refuses because next to nothing is left has reached its cap, though its last bit was not spent", () => {
  const standing = { spent: nanoUsd(98n), softCap: undefined, hardCap: nanoUsd(100n) };
  assert.deepEqual(namesOf(passedThresholds(standing)), ["hard_cap_50", "hard_cap_80"]);
  assert.deepEqual(namesOf(passedThresholds({ ...standing, refusing: true })), [
    "hard_cap_50",
    "hard_cap_80",
    "hard_cap_100",
  ]);
});
