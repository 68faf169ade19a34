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

/** The amount as an exact decimal string without trailing zeros, as headers carry it: "0.00012", "5". */
export function formatUsd(amount: NanoUsd): string {
  const digits = (amount < 0n ? -amount : amount).toString().padStart(10, "0");
  const fraction = digits.slice(-9).replace(/0+$/, "");
  return `${amount < 0n ? "-" : ""}${digits.slice(0, -9)}${fraction === "" ? "" : `.${fraction}`}`;
}

/** The amount as a JSON number of USD, as answers show it to people. */
export const usdNumber = (amount: NanoUsd): number => Number(formatUsd(amount));
