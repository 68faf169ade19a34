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
  /** Caps of the day. Null: the setting's default holds. */
  soft_cap_nano_usd: NullableInteger;
  hard_cap_nano_usd: NullableInteger;
  /** Null: no such cap. */
  week_soft_cap_nano_usd: NullableInteger;
  week_hard_cap_nano_usd: NullableInteger;
  month_soft_cap_nano_usd: NullableInteger;
  month_hard_cap_nano_usd: NullableInteger;
  rate_limit_per_min: NullableInteger;
  /** Null: not limited. */
  tokens_per_min: NullableInteger;
  max_concurrent_requests: NullableInteger;
  /** Null: streams that break end as what they are. */
  rescue: ColumnType<
    "continue" | "restart" | null,
    "continue" | "restart" | null | undefined,
    "continue" | "restart" | null
  >;
  /** JSON lists of text. Null: not limited. */
  allowed_models: NullableText;
  allowed_providers: NullableText;
  allowed_ips: NullableText;
  /** A JSON object of text. */
  metadata: NullableText;
  /** 0 or 1. */
  signing_required: ColumnType<bigint, bigint | number | undefined, bigint | number>;
  /** Sealed (see access/vault.ts). */
  signing_secret: NullableText;
  origin: ColumnType<"admin" | "self_service", "admin" | "self_service" | undefined, never>;
  /** The group of addresses (see access/address-group.ts) that a self-service key was asked for from. */
  created_from: NullableText;
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

/** What a request with an Idempotency-Key was answered with, for when it comes again. */
export interface IdempotentAnswersTable {
  /** Whose idempotency keys these are: a key's id, or "admin". */
  scope: string;
  /** SHA-256, lower-case hex, as is `request_hash`. */
  idempotency_key_hash: string;
  request_hash: string;
  /** Sealed: it may hold a secret. */
  sealed_answer: string;
  created_at_ms: Integer;
}

/** What the gateway shows a provider, in the place of what the environment has. */
export interface ProviderCredentialsTable {
  provider: string;
  /** Null: it was removed; the row stays, so that every instance learns of it. */
  sealed: NullableText;
  /** The last characters, shown to people; null where even these would tell too much. */
  hint: NullableText;
  /** Grows over the whole table with every change; what instances poll. */
  revision: Integer;
  created_at_ms: Integer;
  updated_at_ms: Integer;
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
  /** What `max_tokens` was lowered to, where the budget paid for no more. */
  clamped_max_tokens: NullableInteger;
  /** The worst case that was set aside. */
  reserved_nano_usd: ColumnType<bigint, bigint | number | undefined, bigint | number>;
  /** The part of the cost that is for attempts before the one that the row is about, which their providers may bill. */
  earlier_cost_nano_usd: ColumnType<bigint, bigint | number | undefined, bigint | number>;
  /** `continue` or `restart`: how a stream that broke was taken up by another candidate; the row is about the one that took over. */
  rescue: NullableText;
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

/**
 * One budget in one stretch of time. `spent + leased <= granted_cap + unleased` in every state, and
 * spent = the events' cost + written_off. Amounts are nano-USD, times milliseconds since the epoch.
 */
export interface BudgetWindowsTable {
  /** `<scope_id>/<window_kind>`, such as bk_.../day. */
  budget_id: string;
  window_start_ms: Integer;
  window_end_ms: Integer;
  /** Whose budget it is: a key's id. */
  scope_id: string;
  window_kind: "day" | "week" | "month";
  spent_nano_usd: Integer;
  /** The sum of all leases on it. */
  leased_nano_usd: Integer;
  /** The part of `spent` that no event accounts for: slices of owners that died. */
  written_off_nano_usd: Integer;
  /** The part of `spent` that no lease covered: spent without a hard cap, or beyond a reservation. */
  unleased_nano_usd: Integer;
  /** The highest hard cap under which a lease was granted; null while there was none. */
  granted_cap_nano_usd: NullableInteger;
  /** What the newest lease took; read by the transaction that took it. */
  grant_nano_usd: Integer;
}

/** A process that may hold leases. */
export interface LeaseOwnersTable {
  owner_id: string;
  started_at_ms: Integer;
  heartbeat_at_ms: Integer;
  /** The number of its newest transaction on leases. */
  turn: Integer;
}

/** What one owner holds of one budget window. */
export interface LeasesTable {
  owner_id: string;
  budget_id: string;
  window_start_ms: Integer;
  leased_nano_usd: Integer;
  /** Was leased when the owner was given up; events of the owner that come late are paid from it. */
  written_off_nano_usd: Integer;
}

/** A threshold that a budget window passed, and the delivery of the news. */
export interface BudgetAlertsTable {
  budget_id: string;
  window_start_ms: Integer;
  alert: "soft_cap" | "hard_cap_50" | "hard_cap_80" | "hard_cap_100";
  /** A UUIDv7; the webhook's message id. */
  alert_id: string;
  scope_id: string;
  window_kind: "day" | "week" | "month";
  window_end_ms: Integer;
  spent_nano_usd: Integer;
  soft_cap_nano_usd: NullableInteger;
  hard_cap_nano_usd: NullableInteger;
  created_at_ms: Integer;
  attempts: Integer;
  /** Null: nothing is to be sent, because no webhook was set or it was given up. */
  next_attempt_at_ms: NullableInteger;
  delivered_at_ms: NullableInteger;
}

/** Single figures of the ledger. `events_from_ms`: older events were dropped by the retention setting. */
export interface LedgerMarksTable {
  name: "events_from_ms";
  value: Integer;
}

/** One entry of the audit trail. Never changed; deleted by retention only. */
export interface AuditEntriesTable {
  /** 1, 2, 3 and so on without a gap. */
  sequence: Integer;
  occurred_at_ms: Integer;
  kind: "request" | "refusal" | "act" | "notice";
  /** What kind of actor. */
  actor: string;
  key_id: NullableText;
  /** Of acts and notices, such as `key.create`. */
  action: NullableText;
  /** Of requests and refusals; the route is the template. */
  method: NullableText;
  route: NullableText;
  target: NullableText;
  status: NullableInteger;
  code: NullableText;
  ip: NullableText;
  request_id: NullableText;
  /** A JSON object. */
  details: NullableText;
  /** SHA-256, lower-case hex, as is `hash`; audit/entry-hash.ts has what is hashed. */
  previous_hash: string;
  hash: string;
}

/** Where the audit trail ends, and the last of its entries that was deleted. */
export interface AuditMarksTable {
  name: "head" | "beginning";
  /** 0: there is none. */
  sequence: Integer;
  hash: string;
  /** Of the head (see audit/head-seals.ts). */
  seal: NullableText;
}

/** A run of the panel, kept for its key. */
export interface PanelRunsTable {
  run_id: string;
  key_id: string;
  created_at_ms: Integer;
  /** Null: it is under way, or its instance died. */
  finished_at_ms: NullableInteger;
  /** The last sign of life of the instance that holds it. */
  heartbeat_at_ms: Integer;
  /** When another instance last passed it on to a reader. */
  read_at_ms: Integer;
  /** 0 or 1; set by whichever instance was asked to stop it. */
  stop_wanted: ColumnType<bigint, bigint | number | undefined, bigint | number>;
  /** JSON: what was said, and what it came to. */
  document: string;
}

export interface Schema {
  api_keys: ApiKeysTable;
  api_key_secrets: ApiKeySecretsTable;
  usage_events: UsageEventsTable;
  usage_hourly: UsageHourlyTable;
  budget_windows: BudgetWindowsTable;
  lease_owners: LeaseOwnersTable;
  leases: LeasesTable;
  budget_alerts: BudgetAlertsTable;
  ledger_marks: LedgerMarksTable;
  idempotent_answers: IdempotentAnswersTable;
  audit_entries: AuditEntriesTable;
  audit_marks: AuditMarksTable;
  provider_credentials: ProviderCredentialsTable;
  panel_runs: PanelRunsTable;
}
