/**
 * Money is an integer count of nano-USD (1e-9 USD) in a bigint. A rate is an integer count of pico-USD (1e-12 USD) per
 * token. Floats appear only at the edge, where JSON shows a person an amount.
 */
export type NanoUsd = bigint & { readonly unit: "nano-USD" };
export type PicoUsdPerToken = bigint & { readonly unit: "pico-USD per token" };

export const nanoUsd = (amount: bigint): NanoUsd => amount as NanoUsd;
export const picoUsdPerToken = (amount: bigint): PicoUsdPerToken => amount as PicoUsdPerToken;
export const ZERO_USD = nanoUsd(0n);

const DECIMAL = /^(\d{1,9})(?:\.(\d{1,9}))?$/;

/** Reads a decimal such as "5" or "0.25" USD; undefined when it is anything else (negative, exponent, over 9 decimals). */
export function parseUsd(text: string): NanoUsd | undefined {
  const match = DECIMAL.exec(text.trim());
  if (!match) return undefined;
  return nanoUsd(BigInt(match[1]!) * 1_000_000_000n + BigInt((match[2] ?? "").padEnd(9, "0")));
}

const JSON_NUMBER = /^(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,4}))?$/;
const TOO_MUCH = 10n ** 18n;

/**
 * Reads a JSON number of USD from its own text, so that no binary fraction comes between what was written and what is counted;
 * `1e-7` is written by JavaScript itself. Undefined for what is negative, a billion or more, or no whole number of nano-USD.
 */
export function parseUsdNumber(text: string): NanoUsd | undefined {
  const match = text.length > 100 ? null : JSON_NUMBER.exec(text);
  if (match === null) return undefined;
  const [, whole = "", fraction = "", exponent = "0"] = match;
  const digits = `${whole}${fraction}`.replace(/^0+/, "");
  if (digits === "") return ZERO_USD;
  const shift = Number(exponent) - fraction.length + 9;
  if (shift > 18 || (shift < 0 && !/^0+$/.test(digits.slice(shift)))) return undefined;
  const amount = BigInt(shift < 0 ? digits.slice(0, shift) || "0" : digits + "0".repeat(shift));
  return amount < TOO_MUCH ? nanoUsd(amount) : undefined;
}

/** The amount as an exact decimal string without trailing zeros, as headers carry it: "0.00012", "5". */
export function formatUsd(amount: NanoUsd): string {
  const digits = (amount < 0n ? -amount : amount).toString().padStart(10, "0");
  const fraction = digits.slice(-9).replace(/0+$/, "");
  return `${amount < 0n ? "-" : ""}${digits.slice(0, -9)}${fraction === "" ? "" : `.${fraction}`}`;
}

/** The amount as a JSON number of USD, as answers show it to people. */
export const usdNumber = (amount: NanoUsd): number => Number(formatUsd(amount));
