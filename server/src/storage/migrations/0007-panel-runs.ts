import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Columns } from "../columns.ts";

/** Runs of the panel, kept for their key; those under way with a sign of life, so that one whose instance died is known. */
export const panelRuns = ({ integer, strict }: Columns): Migration => ({
  async up(database: Kysely<unknown>): Promise<void> {
    await database.schema
      .createTable("panel_runs")
      .addColumn("run_id", "text", (column) => column.notNull().primaryKey())
      .addColumn("key_id", "text", (column) => column.notNull())
      .addColumn("created_at_ms", integer, (column) => column.notNull())
      .addColumn("finished_at_ms", integer)
      .addColumn("heartbeat_at_ms", integer, (column) => column.notNull())
      .addColumn("read_at_ms", integer, (column) => column.notNull())
      .addColumn("stop_wanted", integer, (column) =>
        column
          .notNull()
          .defaultTo(0)
          .check(sql`stop_wanted in (0, 1)`),
      )
      .addColumn("document", "text", (column) => column.notNull())
      .$call(strict)
      .execute();
    await database.schema
      .createIndex("panel_runs_by_key")
      .on("panel_runs")
      .columns(["key_id", "created_at_ms", "run_id"])
      .execute();
    await database.schema
      .createIndex("panel_runs_by_time")
      .on("panel_runs")
      .columns(["created_at_ms", "run_id"])
      .execute();
  },
});
