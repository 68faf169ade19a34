import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Caps, chooseCaps, effectiveCaps, type KeyCaps } from "../../src/access/caps.ts";
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
      assert.deepEqual(choice.caps, asked);
      const { day } = effectiveCaps(choice.caps, defaults);
      assert.ok(day.softCap! <= day.hardCap!);
      assert.equal(day.hardCap, asked.hardCap ?? defaults.hardCap);
      if (soft !== undefined) assert.equal(day.softCap, asked.softCap);
    }),
  );
});

test("a hard cap alone, below the default soft cap, brings the soft cap down with it for as long as it is so low", () => {
  assert.deepEqual(effectiveCaps({ hardCap: usd(3) }, defaults).day, { softCap: usd(3), hardCap: usd(3) });
  assert.deepEqual(effectiveCaps({ hardCap: usd(7) }, defaults).day, { softCap: usd(5), hardCap: usd(7) });
  // What was not asked for is not kept, so that it does not outlast its reason.
  assert.deepEqual(chooseCaps({ hardCap: usd(3) }, defaults), { kind: "fitting", caps: { hardCap: usd(3) } });
});

test("a soft cap above the hard cap is refused with both numbers", () => {
  const own = chooseCaps({ softCap: usd(8), hardCap: usd(7) }, defaults);
  assert.ok(own.kind === "contradictory" && /8 USD is above the hard cap of 7 USD/.test(own.reason));
  const fallback = chooseCaps({ softCap: usd(11) }, defaults);
  assert.ok(
    fallback.kind === "contradictory" && /11 USD is above the default hard cap of 10 USD/.test(fallback.reason),
  );
});

test("in no window is a fitting soft cap above its hard cap, and only caps that were asked for or are defaults hold", () => {
  const caps = fc.record({
    soft: fc.option(fc.integer({ min: 0, max: 20 })),
    hard: fc.option(fc.integer({ min: 0, max: 20 })),
  });
  const from = ({ soft, hard }: { soft: number | null; hard: number | null }): Caps => ({
    ...(soft !== null && { softCap: usd(soft) }),
    ...(hard !== null && { hardCap: usd(hard) }),
  });
  fc.assert(
    fc.property(caps, caps, caps, (day, week, month) => {
      const asked: KeyCaps = { ...from(day), week: from(week), month: from(month) };
      const choice = chooseCaps(asked, defaults);
      if (choice.kind === "contradictory") {
        const { softCap, hardCap = defaults.hardCap } = choice.window === "day" ? asked : asked[choice.window]!;
        return assert.ok(softCap !== undefined && softCap > hardCap);
      }
      const effective = effectiveCaps(choice.caps, defaults);
      for (const { softCap, hardCap } of Object.values(effective))
        assert.ok(softCap === undefined || hardCap === undefined || softCap <= hardCap);
      assert.deepEqual([effective.week, effective.month], [asked.week, asked.month]);
      const cappedElsewhere = week.hard !== null || month.hard !== null;
      assert.equal(effective.day.hardCap, asked.hardCap ?? (cappedElsewhere ? undefined : defaults.hardCap));
      // Nobody is ever without a hard cap.
      assert.ok(Object.values(effective).some(({ hardCap }) => hardCap !== undefined));
    }),
  );
});

test("a week's soft cap above its hard cap is refused with both numbers", () => {
  const choice = chooseCaps({ week: { softCap: usd(9), hardCap: usd(8) } }, defaults);
  assert.ok(choice.kind === "contradictory" && choice.window === "week");
  assert.match(choice.reason, /the week's soft cap of 9 USD is above the week's hard cap of 8 USD/);
});
