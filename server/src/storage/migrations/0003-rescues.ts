import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";

/** Mid-stream rescue: which keys want it, and which requests had it. */
export const rescues = (): Migration => ({
  async up(database: Kysely<unknown>): Promise<void> {
    await database.schema
      .alterTable("api_keys")
      .addColumn("rescue", "text", (column) => column.check(sql`rescue in ('continue', 'restart')`))
      .execute();
    await database.schema
      .alterTable("usage_events")
      .addColumn("rescue", "text", (column) => column.check(sql`rescue in ('continue', 'restart')`))
      .execute();
  },
});
