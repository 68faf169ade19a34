import type { ColumnType } from "kysely";

/** Read as bigint, written as bigint or whole number. */
type Integer = ColumnType<bigint, bigint | number, bigint | number>;
type NullableInteger = ColumnType<bigint | null, bigint | number | null | undefined, bigint | number | null>;
type NullableText = ColumnType<string | null, string | null | undefined, string | null>;

/** One caller's identity; budgets and usage hang on it. Times are milliseconds since the epoch. */
export interface ApiKeysTable {
  id: string;
  name: string;
  status: "active" | "revoked";
  /** Null: the setting's default holds. */
  soft_cap_nano_usd: NullableInteger;
  hard_cap_nano_usd: NullableInteger;
  rate_limit_per_min: NullableInteger;
  expires_at_ms: NullableInteger;
  created_at_ms: Integer;
  revoked_at_ms: NullableInteger;
  /** Grows over the whole table with every change of a key or of one of its secrets; what key rings poll. */
  revision: Integer;
}

export interface ApiKeySecretsTable {
  /** SHA-256 of the whole secret, lower-case hex. */
  secret_hash: string;
  key_id: string;
  /** The first characters, shown to people. */
  prefix: string;
  created_at_ms: Integer;
  not_after_ms: NullableInteger;
}

/** The ledger's row of one request. Token kinds are disjoint, except that output contains reasoning. */
export interface UsageEventsTable {
  /** A UUIDv7 of ours: request ids may be the caller's choice and repeat. */
  event_id: string;
  request_id: string;
  key_id: string;
  occurred_at_ms: Integer;
  finished_at_ms: Integer;
  operation: "chat" | "embeddings";
  provider: NullableText;
  model: NullableText;
  requested_model: string;
  /** 0 or 1, as are `simulated` and `fallback`. */
  stream: Integer;
  simulated: Integer;
  outcome: "completed" | "truncated" | "cancelled" | "failed" | "refused";
  /** The HTTP status that was sent. */
  status: Integer;
  error_code: NullableText;
  fresh_input_tokens: Integer;
  cached_input_tokens: Integer;
  cache_write_tokens: Integer;
  audio_input_tokens: Integer;
  output_tokens: Integer;
  reasoning_tokens: Integer;
  audio_output_tokens: Integer;
  usage_source: "exact" | "estimated" | "none";
  cost_nano_usd: Integer;
  price_version: NullableText;
  latency_ms: Integer;
  time_to_first_token_ms: NullableInteger;
  attempts: Integer;
  fallback: Integer;
  route_reason: NullableText;
  trace_id: NullableText;
}

/** Sums of usage events by hour (UTC). Provider and model are '' where a request reached none. */
export interface UsageHourlyTable {
  hour_start_ms: Integer;
  key_id: string;
  provider: string;
  model: string;
  outcome: UsageEventsTable["outcome"];
  simulated: Integer;
  requests: Integer;
  input_tokens: Integer;
  output_tokens: Integer;
  cost_nano_usd: Integer;
}

export interface Schema {
  api_keys: ApiKeysTable;
  api_key_secrets: ApiKeySecretsTable;
  usage_events: UsageEventsTable;
  usage_hourly: UsageHourlyTable;
}
