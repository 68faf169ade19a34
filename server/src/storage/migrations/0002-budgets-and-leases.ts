import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Columns } from "../columns.ts";

/** Week and month caps and finer limits of keys; budget windows and the leases on them; alerts; what the ledger keeps for how long. */
export const budgetsAndLeases = ({ integer, strictByKey }: Columns): Migration => ({
  async up(database: Kysely<unknown>): Promise<void> {
    for (const column of [
      "week_soft_cap_nano_usd",
      "week_hard_cap_nano_usd",
      "month_soft_cap_nano_usd",
      "month_hard_cap_nano_usd",
    ]) {
      await database.schema
        .alterTable("api_keys")
        .addColumn(column, integer, (added) => added.check(sql`${sql.ref(column)} >= 0`))
        .execute();
    }
    for (const column of ["tokens_per_min", "max_concurrent_requests"]) {
      await database.schema
        .alterTable("api_keys")
        .addColumn(column, integer, (added) => added.check(sql`${sql.ref(column)} >= 1`))
        .execute();
    }

    await database.schema.alterTable("usage_events").addColumn("clamped_max_tokens", integer).execute();
    for (const column of ["reserved_nano_usd", "earlier_cost_nano_usd"]) {
      await database.schema
        .alterTable("usage_events")
        .addColumn(column, integer, (added) => added.notNull().defaultTo(0))
        .execute();
    }
    // Time comes first where all keys are read: exports, verification, retention. New rows go to its end, so it costs little.
    await database.schema
      .createIndex("usage_events_by_time")
      .on("usage_events")
      .columns(["occurred_at_ms", "event_id"])
      .execute();

    // With the event's id, so that a page of a key's requests begins exactly where the one before it ended.
    await database.schema.dropIndex("usage_events_by_key_and_time").execute();
    await database.schema
      .createIndex("usage_events_by_key_and_time")
      .on("usage_events")
      .columns(["key_id", "occurred_at_ms", "event_id"])
      .execute();
    // An hour's rows are inserted once and then only added to, so it costs next to nothing.
    await database.schema
      .createIndex("usage_hourly_by_hour")
      .on("usage_hourly")
      .columns(["hour_start_ms", "key_id"])
      .execute();

    await database.schema
      .createTable("budget_windows")
      .addColumn("budget_id", "text", (column) => column.notNull())
      .addColumn("window_start_ms", integer, (column) => column.notNull())
      .addColumn("window_end_ms", integer, (column) => column.notNull())
      .addColumn("scope_id", "text", (column) => column.notNull())
      .addColumn("window_kind", "text", (column) =>
        column.notNull().check(sql`window_kind in ('day', 'week', 'month')`),
      )
      .addColumn("spent_nano_usd", integer, (column) => column.notNull().check(sql`spent_nano_usd >= 0`))
      .addColumn("leased_nano_usd", integer, (column) => column.notNull().check(sql`leased_nano_usd >= 0`))
      .addColumn("written_off_nano_usd", integer, (column) => column.notNull().check(sql`written_off_nano_usd >= 0`))
      .addColumn("unleased_nano_usd", integer, (column) => column.notNull().check(sql`unleased_nano_usd >= 0`))
      .addColumn("granted_cap_nano_usd", integer)
      .addColumn("grant_nano_usd", integer, (column) => column.notNull())
      .addPrimaryKeyConstraint("budget_windows_key", ["budget_id", "window_start_ms"])
      .$call(strictByKey)
      .execute();

    await database.schema
      .createTable("lease_owners")
      .addColumn("owner_id", "text", (column) => column.primaryKey().notNull())
      .addColumn("started_at_ms", integer, (column) => column.notNull())
      .addColumn("heartbeat_at_ms", integer, (column) => column.notNull())
      .addColumn("turn", integer, (column) => column.notNull().defaultTo(0))
      .$call(strictByKey)
      .execute();

    await database.schema
      .createTable("leases")
      .addColumn("owner_id", "text", (column) => column.notNull())
      .addColumn("budget_id", "text", (column) => column.notNull())
      .addColumn("window_start_ms", integer, (column) => column.notNull())
      .addColumn("leased_nano_usd", integer, (column) => column.notNull().check(sql`leased_nano_usd >= 0`))
      .addColumn("written_off_nano_usd", integer, (column) => column.notNull().check(sql`written_off_nano_usd >= 0`))
      .addPrimaryKeyConstraint("leases_key", ["owner_id", "budget_id", "window_start_ms"])
      .$call(strictByKey)
      .execute();
    await database.schema
      .createIndex("leases_by_window")
      .on("leases")
      .columns(["budget_id", "window_start_ms"])
      .execute();

    await database.schema
      .createTable("budget_alerts")
      .addColumn("budget_id", "text", (column) => column.notNull())
      .addColumn("window_start_ms", integer, (column) => column.notNull())
      .addColumn("alert", "text", (column) => column.notNull())
      .addColumn("alert_id", "text", (column) => column.notNull())
      .addColumn("scope_id", "text", (column) => column.notNull())
      .addColumn("window_kind", "text", (column) => column.notNull())
      .addColumn("window_end_ms", integer, (column) => column.notNull())
      .addColumn("spent_nano_usd", integer, (column) => column.notNull())
      .addColumn("soft_cap_nano_usd", integer)
      .addColumn("hard_cap_nano_usd", integer)
      .addColumn("created_at_ms", integer, (column) => column.notNull())
      .addColumn("attempts", integer, (column) => column.notNull())
      .addColumn("next_attempt_at_ms", integer)
      .addColumn("delivered_at_ms", integer)
      .addPrimaryKeyConstraint("budget_alerts_key", ["budget_id", "window_start_ms", "alert"])
      .$call(strictByKey)
      .execute();
    // Of the rows that are still to be delivered, which are asked for every few seconds and are few.
    await database.schema
      .createIndex("budget_alerts_due")
      .on("budget_alerts")
      .column("next_attempt_at_ms")
      .where(sql.ref("next_attempt_at_ms"), "is not", null)
      .execute();

    await database.schema
      .createTable("ledger_marks")
      .addColumn("name", "text", (column) => column.primaryKey().notNull())
      .addColumn("value", integer, (column) => column.notNull())
      .$call(strictByKey)
      .execute();
  },
});
