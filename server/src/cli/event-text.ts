import type { ExportedEvent } from "../ledger/usage-export.ts";
import { formatUsd, nanoUsd } from "../lib/money.ts";

type Cell = string | bigint | boolean | null;

const isoTime = (ms: bigint): string => new Date(Number(ms)).toISOString();
const usd = (amount: bigint): string => formatUsd(nanoUsd(amount));

/** The columns of an export, in order. Amounts stand there twice: as decimals for people, as integers for sums. */
const COLUMNS: readonly (readonly [name: string, cell: (event: ExportedEvent) => Cell])[] = [
  ["event_id", (event) => event.event_id],
  ["request_id", (event) => event.request_id],
  ["key_id", (event) => event.key_id],
  ["key_name", (event) => event.key_name],
  ["occurred_at", (event) => isoTime(event.occurred_at_ms)],
  ["finished_at", (event) => isoTime(event.finished_at_ms)],
  ["operation", (event) => event.operation],
  ["provider", (event) => event.provider],
  ["model", (event) => event.model],
  ["requested_model", (event) => event.requested_model],
  ["stream", (event) => event.stream === 1n],
  ["simulated", (event) => event.simulated === 1n],
  ["outcome", (event) => event.outcome],
  ["status", (event) => event.status],
  ["error_code", (event) => event.error_code],
  ["fresh_input_tokens", (event) => event.fresh_input_tokens],
  ["cached_input_tokens", (event) => event.cached_input_tokens],
  ["cache_write_tokens", (event) => event.cache_write_tokens],
  ["audio_input_tokens", (event) => event.audio_input_tokens],
  ["output_tokens", (event) => event.output_tokens],
  ["reasoning_tokens", (event) => event.reasoning_tokens],
  ["audio_output_tokens", (event) => event.audio_output_tokens],
  ["usage_source", (event) => event.usage_source],
  ["cost_usd", (event) => usd(event.cost_nano_usd)],
  ["cost_nano_usd", (event) => event.cost_nano_usd],
  ["reserved_usd", (event) => usd(event.reserved_nano_usd)],
  ["reserved_nano_usd", (event) => event.reserved_nano_usd],
  ["earlier_cost_nano_usd", (event) => event.earlier_cost_nano_usd],
  ["rescue", (event) => event.rescue],
  ["price_version", (event) => event.price_version],
  ["latency_ms", (event) => event.latency_ms],
  ["time_to_first_token_ms", (event) => event.time_to_first_token_ms],
  ["attempts", (event) => event.attempts],
  ["fallback", (event) => event.fallback === 1n],
  ["route_reason", (event) => event.route_reason],
  ["clamped_max_tokens", (event) => event.clamped_max_tokens],
  ["trace_id", (event) => event.trace_id],
];

/** How usage events are written down for other programs. */
export interface EventText {
  /** What stands before the first event. */
  readonly head: string;
  line(event: ExportedEvent): string;
}

/** RFC 4180: a header, CRLF, quotes where they are needed. */
const csv: EventText = {
  head: `${COLUMNS.map(([name]) => name).join(",")}\r\n`,
  line: (event) => `${COLUMNS.map(([, cell]) => csvCell(cell(event))).join(",")}\r\n`,
};

/** One JSON object per line. */
const jsonl: EventText = {
  head: "",
  // A bigint goes in by its digits, which JSON.stringify refuses to do.
  line: (event) =>
    `{${COLUMNS.map(([name, cell]) => {
      const value = cell(event);
      return `"${name}":${typeof value === "bigint" ? String(value) : JSON.stringify(value)}`;
    }).join(",")}}\n`,
};

export const eventTexts = { csv, jsonl } as const;

function csvCell(value: Cell): string {
  if (value === null) return "";
  if (typeof value !== "string") return String(value);
  const text = harmless(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * Callers choose model names and request ids, and a spreadsheet runs a cell that begins like a formula; an apostrophe makes it
 * text (owasp.org/www-community/attacks/CSV_Injection).
 */
const harmless = (text: string): string => (/^[=+\-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20]/.test(text) ? `'${text}` : text);
