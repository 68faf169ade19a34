import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatUsd, nanoUsd, picoUsdPerToken, ZERO_USD } from "../../src/lib/money.ts";
import { costOf, worstCaseCost } from "../../src/ledger/cost.ts";
import {
  completeRates,
  feeOfUsdPerThousand,
  type KindRates,
  parseUsdPerMillion,
  type Rates,
  type RateTier,
  rateOfUsdPerMillion,
} from "../../src/ledger/rates.ts";
import { NO_USAGE, readWireUsage, type Usage } from "../../src/ledger/usage.ts";

const usd = (perMillion: string) => {
  const rate = parseUsdPerMillion(perMillion);
  assert.ok(rate !== undefined);
  return rate;
};
const ratesOf = (input: string, cached: string | undefined, output: string): Rates => ({
  version: "test",
  perRequest: ZERO_USD,
  ...completeRates({
    freshInput: usd(input),
    cachedInput: cached === undefined ? undefined : usd(cached),
    output: usd(output),
  }),
});
const costOfWire = (wire: unknown, rates: Rates): string => {
  const usage = readWireUsage(wire);
  assert.ok(usage);
  return formatUsd(costOf(usage, rates));
};

const GPT_4O_MINI = ratesOf("0.15", "0.075", "0.60");

test("golden: gpt-4o-mini with cached tokens", () => {
  // 2006 in, 1920 of them cached: 86 * 0.15 + 1920 * 0.075 + 300 * 0.60 = 12.9 + 144 + 180 millionths.
  const wire = {
    prompt_tokens: 2006,
    completion_tokens: 300,
    total_tokens: 2306,
    prompt_tokens_details: { cached_tokens: 1920, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0 },
  };
  assert.equal(costOfWire(wire, GPT_4O_MINI), "0.0003369");
});

test("golden: reasoning inside the output is not billed twice", () => {
  const rates = ratesOf("1.10", "0.275", "4.40");
  const wire = { prompt_tokens: 100, completion_tokens: 1000, completion_tokens_details: { reasoning_tokens: 960 } };
  assert.equal(costOfWire(wire, rates), "0.00451");
  assert.equal(costOfWire({ ...wire, completion_tokens_details: undefined }, rates), "0.00451");
});

test("golden: Mistral's usage", () => {
  const wire = { prompt_tokens: 20, total_tokens: 120, completion_tokens: 100 };
  assert.equal(costOfWire(wire, ratesOf("0.50", "0.05", "1.50")), "0.00016");
  assert.equal(costOfWire({ ...wire, num_cached_tokens: 10 }, ratesOf("0.50", "0.05", "1.50")), "0.0001555");
});

test("a long-context step prices the whole request, from the first token above it, counting cached input too", () => {
  const rates: Rates = {
    ...ratesOf("2.50", "0.25", "15"),
    tiers: [
      { aboveInputTokens: 271_999, rates: ratesOf("5", "0.50", "22.50") },
      { aboveInputTokens: 100_000, rates: ratesOf("3", "0.30", "16") },
    ],
  };
  const cost = (freshInputTokens: number, cachedInputTokens: number) =>
    formatUsd(costOf({ ...NO_USAGE, freshInputTokens, cachedInputTokens, outputTokens: 1000 }, rates));
  assert.equal(cost(100_000, 0), "0.265");
  assert.equal(cost(1, 100_000), "0.046003");
  assert.equal(cost(271_999, 0), "0.831997");
  assert.equal(cost(1, 271_999), "0.1585045");
});

test("a cost is rounded up once, at the end, and a request without tokens costs only its fee", () => {
  const rates: Rates = { ...ratesOf("0.0001", "0.0001", "0.0001"), perRequest: nanoUsd(7n) };
  assert.equal(costOf(NO_USAGE, rates), 7n);
  assert.equal(costOf({ ...NO_USAGE, freshInputTokens: 1 }, rates), 8n);
  assert.equal(costOf({ ...NO_USAGE, freshInputTokens: 5, outputTokens: 5 }, rates), 8n);
  assert.equal(costOf({ ...NO_USAGE, freshInputTokens: 5, outputTokens: 6 }, rates), 9n);
});

test("a count that is no integer is an error, not a price", () => {
  assert.throws(() => costOf({ ...NO_USAGE, outputTokens: 0.5 }, GPT_4O_MINI), RangeError);
  assert.throws(() => worstCaseCost({ inputTokens: 1, outputTokens: Number.NaN, choices: 1 }, GPT_4O_MINI), RangeError);
});

const rate = fc.bigInt({ min: 0n, max: 200_000_000n }).map(picoUsdPerToken);
const kindRates: fc.Arbitrary<KindRates> = fc.record({
  freshInput: rate,
  cachedInput: rate,
  cacheWrite: rate,
  output: rate,
  audioInput: rate,
  audioOutput: rate,
});
function randomRates(base: KindRates, fee: bigint, tiers: readonly RateTier[] | null): Rates {
  const rates: Rates = { version: "random", perRequest: nanoUsd(fee), ...base };
  return tiers ? { ...rates, tiers } : rates;
}
const anyRates: fc.Arbitrary<Rates> = fc
  .tuple(
    kindRates,
    fc.bigInt({ min: 0n, max: 20_000_000n }),
    fc.option(
      fc.uniqueArray(fc.record({ aboveInputTokens: fc.nat(400_000), rates: kindRates }), {
        maxLength: 3,
        selector: (t) => t.aboveInputTokens,
      }),
    ),
  )
  .map(([base, fee, tiers]) => randomRates(base, fee, tiers));
const tokens = fc.oneof(fc.nat(2_000_000), fc.nat(300));
const anyUsage: fc.Arbitrary<Usage> = fc.record({
  freshInputTokens: tokens,
  cachedInputTokens: tokens,
  cacheWriteTokens: tokens,
  audioInputTokens: tokens,
  outputTokens: tokens,
  reasoningTokens: fc.nat(100),
  audioOutputTokens: tokens,
});

/** A fraction of a USD; the other way to the same sum: no common unit until the very end, and then one ceiling. */
interface Fraction {
  readonly over: bigint;
  readonly under: bigint;
}
const add = (a: Fraction, b: Fraction): Fraction => ({
  over: a.over * b.under + b.over * a.under,
  under: a.under * b.under,
});
function costByFractions(usage: Usage, rates: Rates): bigint {
  const whole = usage.freshInputTokens + usage.cachedInputTokens + usage.cacheWriteTokens + usage.audioInputTokens;
  const steps = [...(rates.tiers ?? [])].sort((a, b) => b.aboveInputTokens - a.aboveInputTokens);
  const band = steps.find((step) => step.aboveInputTokens < whole)?.rates ?? rates;
  const lines: readonly (readonly [number, bigint])[] = [
    [usage.freshInputTokens, band.freshInput],
    [usage.cachedInputTokens, band.cachedInput],
    [usage.cacheWriteTokens, band.cacheWrite],
    [usage.audioInputTokens, band.audioInput],
    [usage.outputTokens, band.output],
    [usage.audioOutputTokens, band.audioOutput],
  ];
  const sum = lines
    .map(([count, price]): Fraction => ({ over: BigInt(count) * price, under: 10n ** 12n }))
    .reduce(add, { over: rates.perRequest, under: 10n ** 9n });
  const inNano = sum.over * 10n ** 9n;
  return inNano / sum.under + (inNano % sum.under === 0n ? 0n : 1n);
}

test("the cost is the ceiling of the exact sum over the kinds, for any usage and rates", () => {
  fc.assert(
    fc.property(anyUsage, anyRates, (usage, rates) => {
      assert.equal(costOf(usage, rates), costByFractions(usage, rates));
    }),
    { numRuns: 2000 },
  );
});

test("no usage within a bound costs more than the bound's worst case", () => {
  const bounded = fc.record({
    inputTokens: fc.nat(1_000_000),
    outputTokens: fc.nat(200_000),
    choices: fc.integer({ min: 1, max: 5 }),
    shares: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 5, maxLength: 5 }),
  });
  fc.assert(
    fc.property(bounded, anyRates, ({ inputTokens, outputTokens, choices, shares }, rates) => {
      const take = (left: number, share: number | undefined) => Math.floor(left * (share ?? 0));
      const freshInputTokens = take(inputTokens, shares[0]);
      const cachedInputTokens = take(inputTokens - freshInputTokens, shares[1]);
      const cacheWriteTokens = take(inputTokens - freshInputTokens - cachedInputTokens, shares[2]);
      const audioInputTokens = take(inputTokens - freshInputTokens - cachedInputTokens - cacheWriteTokens, shares[3]);
      const audioOutputTokens = take(outputTokens * choices, shares[4]);
      const usage: Usage = {
        freshInputTokens,
        cachedInputTokens,
        cacheWriteTokens,
        audioInputTokens,
        outputTokens: outputTokens * choices - audioOutputTokens,
        reasoningTokens: 0,
        audioOutputTokens,
      };
      assert.ok(worstCaseCost({ inputTokens, outputTokens, choices }, rates) >= costOf(usage, rates));
    }),
    { numRuns: 2000 },
  );
});

test("the worst case is reached, so a text request reserves no more than it could cost", () => {
  const bound = { inputTokens: 1000, outputTokens: 200, choices: 3 };
  assert.equal(
    worstCaseCost(bound, GPT_4O_MINI),
    costOf({ ...NO_USAGE, freshInputTokens: 1000, outputTokens: 600 }, GPT_4O_MINI),
  );
});

test("a kind a price list leaves out is never free", () => {
  const bare = completeRates({ freshInput: usd("2"), output: usd("8") });
  assert.deepEqual(bare, {
    freshInput: usd("2"),
    cachedInput: usd("2"),
    cacheWrite: usd("2"),
    output: usd("8"),
    audioInput: usd("2"),
    audioOutput: usd("8"),
  });
  assert.equal(completeRates({ freshInput: usd("2"), cacheWrite: usd("2.5") }).audioInput, usd("2.5"));
  assert.equal(completeRates({ freshInput: usd("2") }).output, usd("2"));
  const stated = { freshInput: 1n, cachedInput: 2n, cacheWrite: 3n, output: 4n, audioInput: 5n, audioOutput: 6n };
  assert.deepEqual(completeRates(stated as unknown as KindRates), stated);
});

test("a written price is read exactly, and anything else is no price", () => {
  assert.equal(parseUsdPerMillion("0"), 0n);
  assert.equal(parseUsdPerMillion("0.075"), 75_000n);
  assert.equal(parseUsdPerMillion("150"), 150_000_000n);
  assert.equal(parseUsdPerMillion("0.000001"), 1n);
  for (const text of ["", "-1", "1e3", "0.0000001", ".5", "1,5", " 1", "NaN"])
    assert.equal(parseUsdPerMillion(text), undefined, text);
});

test("a binary price is read by its digits, to the nearest pico-USD, and never becomes free", () => {
  const read = new Map<number, bigint>([
    [0, 0n],
    [0.15, 150_000n],
    [0.1 + 0.2, 300_000n],
    [0.18000000000000002, 180_000n],
    [0.08333333333333334, 83_333n],
    [0.003625, 3_625n],
    [0.0000015, 2n],
    [1e-9, 1n],
    [1e21, 10n ** 27n],
    [600, 600_000_000n],
  ]);
  for (const [price, pico] of read) assert.equal(rateOfUsdPerMillion(price), pico, String(price));
  assert.equal(feeOfUsdPerThousand(12), 12_000_000n);
  for (const price of [-1, Number.NaN, Number.POSITIVE_INFINITY])
    assert.throws(() => rateOfUsdPerMillion(price), RangeError);
});
