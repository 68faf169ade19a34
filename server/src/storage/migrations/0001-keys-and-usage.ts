import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Columns } from "../columns.ts";

/** Keys, their secrets, the ledger and its hourly sums. */
export const keysAndUsage = ({ integer, strict, strictByKey }: Columns): Migration => ({
  async up(database: Kysely<unknown>): Promise<void> {
    await database.schema
      .createTable("api_keys")
      .addColumn("id", "text", (column) => column.primaryKey().notNull())
      .addColumn("name", "text", (column) => column.notNull())
      .addColumn("status", "text", (column) => column.notNull().check(sql`status in ('active', 'revoked')`))
      .addColumn("soft_cap_nano_usd", integer, (column) => column.check(sql`soft_cap_nano_usd >= 0`))
      .addColumn("hard_cap_nano_usd", integer, (column) => column.check(sql`hard_cap_nano_usd >= 0`))
      .addColumn("rate_limit_per_min", integer, (column) => column.check(sql`rate_limit_per_min >= 1`))
      .addColumn("expires_at_ms", integer)
      .addColumn("created_at_ms", integer, (column) => column.notNull())
      .addColumn("revoked_at_ms", integer)
      .addColumn("revision", integer, (column) => column.notNull())
      .$call(strict)
      .execute();
    // Unique, so that two writers cannot give one revision to two changes and a poller miss the second.
    await database.schema.createIndex("api_keys_by_revision").unique().on("api_keys").column("revision").execute();

    await database.schema
      .createTable("api_key_secrets")
      .addColumn("secret_hash", "text", (column) => column.primaryKey().notNull())
      .addColumn("key_id", "text", (column) => column.notNull().references("api_keys.id"))
      .addColumn("prefix", "text", (column) => column.notNull())
      .addColumn("created_at_ms", integer, (column) => column.notNull())
      .addColumn("not_after_ms", integer)
      .$call(strictByKey)
      .execute();
    await database.schema.createIndex("api_key_secrets_by_key").on("api_key_secrets").column("key_id").execute();

    // No foreign key to api_keys: a usage event is money that was spent and is never turned away.
    await database.schema
      .createTable("usage_events")
      .addColumn("event_id", "text", (column) => column.primaryKey().notNull())
      .addColumn("request_id", "text", (column) => column.notNull())
      .addColumn("key_id", "text", (column) => column.notNull())
      .addColumn("occurred_at_ms", integer, (column) => column.notNull())
      .addColumn("finished_at_ms", integer, (column) => column.notNull())
      .addColumn("operation", "text", (column) => column.notNull())
      .addColumn("provider", "text")
      .addColumn("model", "text")
      .addColumn("requested_model", "text", (column) => column.notNull())
      .addColumn("stream", integer, (column) => column.notNull())
      .addColumn("simulated", integer, (column) => column.notNull())
      .addColumn("outcome", "text", (column) => column.notNull())
      .addColumn("status", integer, (column) => column.notNull())
      .addColumn("error_code", "text")
      .addColumn("fresh_input_tokens", integer, (column) => column.notNull())
      .addColumn("cached_input_tokens", integer, (column) => column.notNull())
      .addColumn("cache_write_tokens", integer, (column) => column.notNull())
      .addColumn("audio_input_tokens", integer, (column) => column.notNull())
      .addColumn("output_tokens", integer, (column) => column.notNull())
      .addColumn("reasoning_tokens", integer, (column) => column.notNull())
      .addColumn("audio_output_tokens", integer, (column) => column.notNull())
      .addColumn("usage_source", "text", (column) => column.notNull())
      .addColumn("cost_nano_usd", integer, (column) => column.notNull())
      .addColumn("price_version", "text")
      .addColumn("latency_ms", integer, (column) => column.notNull())
      .addColumn("time_to_first_token_ms", integer)
      .addColumn("attempts", integer, (column) => column.notNull())
      .addColumn("fallback", integer, (column) => column.notNull())
      .addColumn("route_reason", "text")
      .addColumn("trace_id", "text")
      .$call(strictByKey)
      .execute();
    await database.schema
      .createIndex("usage_events_by_key_and_time")
      .on("usage_events")
      .columns(["key_id", "occurred_at_ms"])
      .execute();

    await database.schema
      .createTable("usage_hourly")
      .addColumn("hour_start_ms", integer, (column) => column.notNull())
      .addColumn("key_id", "text", (column) => column.notNull())
      .addColumn("provider", "text", (column) => column.notNull())
      .addColumn("model", "text", (column) => column.notNull())
      .addColumn("outcome", "text", (column) => column.notNull())
      .addColumn("simulated", integer, (column) => column.notNull())
      .addColumn("requests", integer, (column) => column.notNull())
      .addColumn("input_tokens", integer, (column) => column.notNull())
      .addColumn("output_tokens", integer, (column) => column.notNull())
      .addColumn("cost_nano_usd", integer, (column) => column.notNull())
      .addPrimaryKeyConstraint("usage_hourly_key", [
        "key_id",
        "hour_start_ms",
        "provider",
        "model",
        "outcome",
        "simulated",
      ])
      .$call(strictByKey)
      .execute();
  },
});
