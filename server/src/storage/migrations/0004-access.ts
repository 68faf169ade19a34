import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Columns } from "../columns.ts";

/** What a key may do and from where, how its requests are signed, where it came from; answers that a repeated request gets again. */
export const accessRules = ({ integer, strictByKey }: Columns): Migration => ({
  async up(database: Kysely<unknown>): Promise<void> {
    for (const column of [
      "allowed_models",
      "allowed_providers",
      "allowed_ips",
      "metadata",
      "signing_secret",
      "created_from",
    ]) {
      await database.schema.alterTable("api_keys").addColumn(column, "text").execute();
    }
    await database.schema
      .alterTable("api_keys")
      .addColumn("signing_required", integer, (column) =>
        column
          .notNull()
          .defaultTo(0)
          .check(sql`signing_required in (0, 1)`),
      )
      .execute();
    await database.schema
      .alterTable("api_keys")
      .addColumn("origin", "text", (column) =>
        column
          .notNull()
          .defaultTo("admin")
          .check(sql`origin in ('admin', 'self_service')`),
      )
      .execute();

    // The order of the list of keys.
    await database.schema.createIndex("api_keys_by_creation").on("api_keys").columns(["created_at_ms", "id"]).execute();
    // Of these a few may be in force at a time, and they are counted before another one is made.
    await database.schema
      .createIndex("api_keys_of_self_service")
      .on("api_keys")
      .columns(["created_from", "created_at_ms"])
      .where(sql.ref("origin"), "=", sql.lit("self_service"))
      .execute();

    await database.schema
      .createTable("idempotent_answers")
      .addColumn("scope", "text", (column) => column.notNull())
      .addColumn("idempotency_key_hash", "text", (column) => column.notNull())
      .addColumn("request_hash", "text", (column) => column.notNull())
      .addColumn("sealed_answer", "text", (column) => column.notNull())
      .addColumn("created_at_ms", integer, (column) => column.notNull())
      .addPrimaryKeyConstraint("idempotent_answers_key", ["scope", "idempotency_key_hash"])
      .$call(strictByKey)
      .execute();
    await database.schema
      .createIndex("idempotent_answers_by_time")
      .on("idempotent_answers")
      .column("created_at_ms")
      .execute();
  },
});
