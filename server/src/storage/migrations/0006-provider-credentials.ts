import type { Kysely } from "kysely";
import type { Migration } from "kysely/migration";
import type { Columns } from "../columns.ts";

/** Credentials of providers that are kept here and not in the environment. */
export const providerCredentials = ({ integer, strict }: Columns): Migration => ({
  async up(database: Kysely<unknown>): Promise<void> {
    await database.schema
      .createTable("provider_credentials")
      .addColumn("provider", "text", (column) => column.primaryKey().notNull())
      .addColumn("sealed", "text")
      .addColumn("hint", "text")
      .addColumn("revision", integer, (column) => column.notNull())
      .addColumn("created_at_ms", integer, (column) => column.notNull())
      .addColumn("updated_at_ms", integer, (column) => column.notNull())
      .$call(strict)
      .execute();
    // Unique, so that two writers cannot give one revision to two changes and a poller miss the second.
    await database.schema
      .createIndex("provider_credentials_by_revision")
      .unique()
      .on("provider_credentials")
      .column("revision")
      .execute();
  },
});
