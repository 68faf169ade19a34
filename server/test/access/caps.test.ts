import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Caps, chooseCaps } from "../../src/access/caps.ts";
import { nanoUsd } from "../../src/lib/money.ts";

const usd = (dollars: number) => nanoUsd(BigInt(dollars) * 1_000_000_000n);
const defaults = { softCap: usd(5), hardCap: usd(10) };

test("no choice of caps leads to a soft cap above the hard cap that holds, nor to a hard cap above the one asked for", () => {
  const amount = fc.option(fc.integer({ min: 0, max: 20 }), { nil: undefined });
  fc.assert(
    fc.property(amount, amount, (soft, hard) => {
      const asked: Caps = {
        ...(soft !== undefined && { softCap: usd(soft) }),
        ...(hard !== undefined && { hardCap: usd(hard) }),
      };
      const choice = chooseCaps(asked, defaults);
      if (choice.kind === "contradictory") return assert.ok(soft !== undefined && soft > (hard ?? 10));
      assert.ok((choice.caps.softCap ?? defaults.softCap) <= (choice.caps.hardCap ?? defaults.hardCap));
      assert.equal(choice.caps.hardCap, asked.hardCap);
      if (soft !== undefined) assert.equal(choice.caps.softCap, asked.softCap);
    }),
  );
});

test("a hard cap alone, below the default soft cap, brings the soft cap down with it", () => {
  assert.deepEqual(chooseCaps({ hardCap: usd(3) }, defaults), {
    kind: "fitting",
    caps: { softCap: usd(3), hardCap: usd(3) },
  });
  assert.deepEqual(chooseCaps({ hardCap: usd(7) }, defaults), { kind: "fitting", caps: { hardCap: usd(7) } });
});

test("a soft cap above the hard cap is refused with both numbers", () => {
  const own = chooseCaps({ softCap: usd(8), hardCap: usd(7) }, defaults);
  assert.ok(own.kind === "contradictory" && /8 USD is above the hard cap of 7 USD/.test(own.reason));
  const fallback = chooseCaps({ softCap: usd(11) }, defaults);
  assert.ok(
    fallback.kind === "contradictory" && /11 USD is above the default hard cap of 10 USD/.test(fallback.reason),
  );
});
