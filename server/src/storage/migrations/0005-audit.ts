import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Columns } from "../columns.ts";
import type { DialectName } from "../database.ts";

/** What stands where nothing comes before. */
const NO_HASH = "0".repeat(64);

/**
 * The audit trail: entries that are only ever added, and where they begin and end. The database itself refuses to change an
 * entry, to delete one that the mark `beginning` has not passed, and to move a mark back. Who owns the database can take the
 * triggers away: against him stands the chain (docs/decisions/0009-audit-trail.md).
 */
export const auditTrail = ({ integer, strict, strictByKey, dialect }: Columns): Migration => ({
  async up(database: Kysely<unknown>): Promise<void> {
    await database.schema
      .createTable("audit_entries")
      .addColumn("sequence", integer, (column) => column.primaryKey().notNull())
      .addColumn("occurred_at_ms", integer, (column) => column.notNull())
      .addColumn("kind", "text", (column) =>
        column.notNull().check(sql`kind in ('request', 'refusal', 'act', 'notice')`),
      )
      .addColumn("actor", "text", (column) => column.notNull())
      .addColumn("key_id", "text")
      .addColumn("action", "text")
      .addColumn("method", "text")
      .addColumn("route", "text")
      .addColumn("target", "text")
      .addColumn("status", integer)
      .addColumn("code", "text")
      .addColumn("ip", "text")
      .addColumn("request_id", "text")
      .addColumn("details", "text")
      .addColumn("previous_hash", "text", (column) => column.notNull())
      .addColumn("hash", "text", (column) => column.notNull())
      .$call(strict)
      .execute();
    // Every request adds to each index that has it, and one by request ids or addresses, which have no order, costs as much as all
    // the rest. Each ends in the order of the list, so that a page begins in the index where the last one ended.
    await database.schema
      .createIndex("audit_entries_by_key")
      .on("audit_entries")
      .columns(["key_id", "occurred_at_ms", "sequence"])
      .execute();
    await database.schema
      .createIndex("audit_entries_by_time")
      .on("audit_entries")
      .columns(["occurred_at_ms", "sequence"])
      .execute();
    // Acts, notices and refusals are few among the requests.
    await database.schema
      .createIndex("audit_entries_with_action")
      .on("audit_entries")
      .columns(["occurred_at_ms", "sequence"])
      .where(sql.ref("action"), "is not", null)
      .execute();
    await database.schema
      .createIndex("audit_entries_but_requests")
      .on("audit_entries")
      .columns(["kind", "occurred_at_ms", "sequence"])
      .where(sql.ref("kind"), "<>", sql.lit("request"))
      .execute();

    await database.schema
      .createTable("audit_marks")
      .addColumn("name", "text", (column) =>
        column
          .primaryKey()
          .notNull()
          .check(sql`name in ('head', 'beginning')`),
      )
      .addColumn("sequence", integer, (column) => column.notNull())
      .addColumn("hash", "text", (column) => column.notNull())
      .addColumn("seal", "text")
      .$call(strictByKey)
      .execute();
    await sql`insert into audit_marks (name, sequence, hash) values ('head', 0, ${sql.lit(NO_HASH)}), ('beginning', 0, ${sql.lit(NO_HASH)})`.execute(
      database,
    );
    for (const statement of guards[dialect]) await sql.raw(statement).execute(database);
  },
});

const PASSED = "(select sequence from audit_marks where name = 'beginning')";

const guards: Readonly<Record<DialectName, readonly string[]>> = {
  sqlite: [
    `create trigger audit_entries_stay before update on audit_entries
      begin select raise(abort, 'an audit entry is never changed'); end`,
    `create trigger audit_entries_leave_in_order before delete on audit_entries when old.sequence > ${PASSED}
      begin select raise(abort, 'an audit entry is deleted by retention only'); end`,
    `create trigger audit_marks_move_on before update on audit_marks when new.name <> old.name or new.sequence < old.sequence
      begin select raise(abort, 'a mark of the audit trail never goes back'); end`,
    `create trigger audit_marks_stay before delete on audit_marks
      begin select raise(abort, 'a mark of the audit trail is never deleted'); end`,
  ],
  postgres: [
    `create function audit_refuse() returns trigger language plpgsql as $$
      begin raise exception '%', tg_argv[0] using errcode = 'check_violation'; end $$`,
    `create function audit_entry_leaves() returns trigger language plpgsql as $$
      begin
        if old.sequence > ${PASSED} then
          raise exception 'an audit entry is deleted by retention only' using errcode = 'check_violation';
        end if;
        return old;
      end $$`,
    `create trigger audit_entries_stay before update on audit_entries
      for each row execute function audit_refuse('an audit entry is never changed')`,
    `create trigger audit_entries_leave_in_order before delete on audit_entries
      for each row execute function audit_entry_leaves()`,
    `create trigger audit_entries_are_not_emptied before truncate on audit_entries
      for each statement execute function audit_refuse('an audit entry is deleted by retention only')`,
    `create trigger audit_marks_move_on before update on audit_marks
      for each row when (new.name <> old.name or new.sequence < old.sequence)
      execute function audit_refuse('a mark of the audit trail never goes back')`,
    `create trigger audit_marks_stay before delete on audit_marks
      for each row execute function audit_refuse('a mark of the audit trail is never deleted')`,
    `create trigger audit_marks_are_not_emptied before truncate on audit_marks
      for each statement execute function audit_refuse('a mark of the audit trail is never deleted')`,
  ],
};
