import { parseArgs } from "node:util";
import { looksLikeSecret } from "../access/secret.ts";
import { type NanoUsd, parseUsd } from "../lib/money.ts";
import { parseUtcTime } from "../lib/utc-time.ts";
import { UsageError } from "./usage-error.ts";

type OptionTypes = Readonly<Record<string, { readonly type: "string" | "boolean" }>>;

/** Node's own reading of a command line, with its complaints as sentences. Throws UsageError, as all below do. */
export function parseArguments<const T extends OptionTypes>(args: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new UsageError(`${message.split(/\.\s|\n/)[0]?.replace(/\.$/, "")}. Add --help to see what is accepted.`, {
      cause,
    });
  }
}

/** The one key id that a command is about. */
export function keyIdArgument(command: string, positionals: readonly string[]): string {
  const [keyId, ...others] = positionals;
  if (keyId === undefined)
    throw new UsageError(`Which key? Give its id, as in: ${command} bk_...; keys list shows the ids.`);
  if (others.length > 0) throw new UsageError("One key at a time: give a single id.");
  return publicKeyId(keyId);
}

/** A secret in an id's place is refused before it is shown or looked for anywhere. */
export function publicKeyId(keyId: string): string {
  if (looksLikeSecret(keyId))
    throw new UsageError("That is a secret, not an id. Give the id that begins with bk_; keys list shows the ids.");
  return keyId;
}

/** An amount, or null for the word that takes it away; undefined when it was not given. */
export function usdOption(name: string, text: string | undefined, word: string): NanoUsd | null | undefined {
  if (text === undefined) return undefined;
  if (text === word) return null;
  const amount = parseUsd(text);
  if (amount !== undefined) return amount;
  throw new UsageError(`--${name} is "${printable(text)}"; give an amount of USD such as 5 or 0.50, or ${word}.`);
}

/** A whole number, or null for the word that takes it away; undefined when it was not given. */
export function countOption(
  name: string,
  text: string | undefined,
  most: number,
  word: string,
): number | null | undefined {
  if (text === undefined) return undefined;
  if (text === word) return null;
  const count = Number(text);
  if (/^\d{1,9}$/.test(text) && count >= 1 && count <= most) return count;
  throw new UsageError(`--${name} is "${printable(text)}"; give a whole number from 1 to ${most}, or ${word}.`);
}

/** A moment that must be given. Milliseconds since the epoch. */
export function timeOption(name: string, text: string | undefined): number {
  const accepted = "a date such as 2026-11-23 or a timestamp such as 2026-11-23T09:00:00Z (UTC)";
  if (text === undefined) throw new UsageError(`Add --${name} with ${accepted}.`);
  const ms = parseUtcTime(text);
  if (ms !== undefined) return ms;
  throw new UsageError(`--${name} is "${printable(text)}"; give ${accepted}.`);
}

/** Text of somebody else's in a sentence of ours. */
export const printable = (text: string): string => text.replace(/\p{Cc}/gu, "?");
