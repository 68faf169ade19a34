import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatUsd, nanoUsd, parseUsd, parseUsdNumber, usdNumber } from "../../src/lib/money.ts";

const amounts = fc.bigInt({ min: 0n, max: 999_999_999_999_999_999n });

test("every amount that is written can be read back, to the nano-USD", () => {
  fc.assert(
    fc.property(amounts, (amount) => {
      assert.equal(parseUsd(formatUsd(nanoUsd(amount))), amount);
    }),
  );
});

test("a written amount is a plain decimal without exponent, and without zeros that say nothing", () => {
  fc.assert(
    fc.property(amounts, (amount) => {
      assert.match(formatUsd(nanoUsd(amount)), /^(0|[1-9]\d*)(\.\d{0,8}[1-9])?$/);
    }),
  );
});

const written: readonly [bigint, string][] = [
  [0n, "0"],
  [1n, "0.000000001"],
  [120_000n, "0.00012"],
  [5_000_000_000n, "5"],
  [1_234_500_000_000n, "1234.5"],
  [-1_500_000_000n, "-1.5"],
];
for (const [amount, text] of written) {
  test(`${amount} nano-USD are written as ${text}`, () => {
    assert.equal(formatUsd(nanoUsd(amount)), text);
  });
}

test("zeros at the end and spaces around an amount change nothing", () => {
  assert.equal(parseUsd("5"), 5_000_000_000n);
  assert.equal(parseUsd("5.00"), 5_000_000_000n);
  assert.equal(parseUsd(" 0.250000000 "), 250_000_000n);
});

for (const text of [
  "",
  "-1",
  "+1",
  "1e3",
  "1.",
  ".5",
  "0.0000000001",
  "1,5",
  "0x10",
  "Infinity",
  "NaN",
  "1 2",
  "1234567890",
  "$5",
  "٥",
]) {
  test(`an amount is not guessed from ${JSON.stringify(text)}`, () => {
    assert.equal(parseUsd(text), undefined);
  });
}

test("the number that a person sees is the amount's decimal, not a product of floats", () => {
  assert.equal(usdNumber(nanoUsd(450_000_000n)), 0.45);
  assert.equal(usdNumber(nanoUsd(300_000_000n)), 0.3);
  assert.equal(usdNumber(nanoUsd(1n)), 1e-9);
});

test("a JSON number is read exactly, in whichever of its forms it is written", () => {
  fc.assert(
    fc.property(amounts, fc.integer({ min: -30, max: 30 }), (amount, shift) => {
      assert.equal(parseUsdNumber(formatUsd(nanoUsd(amount))), amount);
      // The same amount with its point elsewhere.
      assert.equal(parseUsdNumber(`${amount}e-9`), amount);
      assert.equal(parseUsdNumber(`0.${String(amount).padStart(18, "0")}E+9`), amount);
      if (shift >= 0) assert.equal(parseUsdNumber(`${amount}${"0".repeat(shift)}e${-9 - shift}`), amount);
    }),
  );
});

test("a JSON number that is no whole number of nano-USD, or beyond all amounts, is not read", () => {
  for (const text of [
    "-1",
    "-0",
    "0.0000000001",
    "1e-10",
    "1e9",
    "1000000000",
    "1e9999",
    "1e99999",
    "NaN",
    "",
    "1.",
    ".5",
    "0x1",
    `0.${"0".repeat(200)}1`,
  ])
    assert.equal(parseUsdNumber(text), undefined, text);
  assert.equal(parseUsdNumber("0e9999"), 0n);
  assert.equal(parseUsdNumber("999999999.999999999"), 999_999_999_999_999_999n);
});
