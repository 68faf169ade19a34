import { type NanoUsd, nanoUsd, type PicoUsdPerToken, picoUsdPerToken } from "../lib/money.ts";

/** What one token of each kind costs. Reasoning has no rate of its own: it is output. */
export interface KindRates {
  readonly freshInput: PicoUsdPerToken;
  readonly cachedInput: PicoUsdPerToken;
  readonly cacheWrite: PicoUsdPerToken;
  readonly output: PicoUsdPerToken;
  readonly audioInput: PicoUsdPerToken;
  readonly audioOutput: PicoUsdPerToken;
}

/** Rates of every token of a request whose whole input is longer than `aboveInputTokens`, instead of the base rates. */
export interface RateTier {
  readonly aboveInputTokens: number;
  readonly rates: KindRates;
}

/** The price of a model at one moment; kept by the request from its reservation to its settlement. */
export interface Rates extends KindRates {
  /** Where the price is from, as the ledger row keeps it: "genai-prices@0.1.8", "brikk:2026-09-23", "override:2026-11-01". */
  readonly version: string;
  /** A fee for the request itself, whatever its tokens. */
  readonly perRequest: NanoUsd;
  /** Long-context steps, in any order. */
  readonly tiers?: readonly RateTier[];
}

/** The rates a price list states; only the input's is always there. */
export interface StatedRates {
  readonly freshInput: PicoUsdPerToken;
  readonly output?: PicoUsdPerToken | undefined;
  readonly cachedInput?: PicoUsdPerToken | undefined;
  readonly cacheWrite?: PicoUsdPerToken | undefined;
  readonly audioInput?: PicoUsdPerToken | undefined;
  readonly audioOutput?: PicoUsdPerToken | undefined;
}

/**
 * Fills in what a price list leaves out, so that no kind is ever free by omission:
 * cached input and cache writes cost what fresh input costs; audio costs the dearest stated rate of its direction (a model
 * that has no audio price is a text model, so this only matters when a vendor reports a kind it has not announced); output
 * of a model that writes nothing (embeddings) costs what its input does.
 */
export function completeRates(stated: StatedRates): KindRates {
  const { freshInput } = stated;
  const cachedInput = stated.cachedInput ?? freshInput;
  const cacheWrite = stated.cacheWrite ?? freshInput;
  const output = stated.output ?? freshInput;
  return {
    freshInput,
    cachedInput,
    cacheWrite,
    output,
    audioInput: stated.audioInput ?? dearest(freshInput, cachedInput, cacheWrite),
    audioOutput: stated.audioOutput ?? output,
  };
}

export function dearest(first: PicoUsdPerToken, ...others: readonly PicoUsdPerToken[]): PicoUsdPerToken {
  return others.reduce((most, rate) => (rate > most ? rate : most), first);
}

const DECIMAL = /^(\d{1,9})(?:\.(\d{1,6}))?$/;

/**
 * Reads a price a person wrote, in USD per million tokens, which is exactly a whole number of pico-USD per token (1 USD per
 * million = 1,000,000 pico-USD). undefined when it is anything but a plain decimal with at most 6 places.
 */
export function parseUsdPerMillion(text: string): PicoUsdPerToken | undefined {
  const match = DECIMAL.exec(text);
  if (!match) return undefined;
  const [, whole = "0", fraction = ""] = match;
  return picoUsdPerToken(BigInt(whole) * 1_000_000n + BigInt(fraction.padEnd(6, "0")));
}

/**
 * Reads a price that a data file holds as a binary float, by the digits the float was written with (its shortest decimal
 * form) and never by multiplying it. Rounds to the nearest pico-USD per token, but a price above zero never becomes zero.
 * @throws RangeError when the number is negative or not finite.
 */
export function rateOfUsdPerMillion(price: number): PicoUsdPerToken {
  return picoUsdPerToken(millionths(price));
}

/** USD per 1,000 requests as nano-USD per request, read by the same rule as {@link rateOfUsdPerMillion}. */
export function feeOfUsdPerThousand(price: number): NanoUsd {
  return nanoUsd(millionths(price));
}

function millionths(price: number): bigint {
  if (!Number.isFinite(price) || price < 0) throw new RangeError(`not a price: ${price}`);
  const [mantissa = "", exponent = "0"] = String(price).split("e");
  const [whole = "", fraction = ""] = mantissa.split(".");
  const digits = BigInt(whole + fraction);
  const shift = Number(exponent) - fraction.length + 6;
  if (shift >= 0) return digits * 10n ** BigInt(shift);
  const divisor = 10n ** BigInt(-shift);
  const rounded = (digits + divisor / 2n) / divisor;
  return rounded === 0n && digits > 0n ? 1n : rounded;
}
