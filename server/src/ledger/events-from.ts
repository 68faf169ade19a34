import type { Database, Statement } from "../storage/database.ts";

/** The mark in SQL: the moment from which on the ledger has every event; 0 where none was ever dropped. */
export const EVENTS_FROM_SQL = "coalesce((select value from ledger_marks where name = 'events_from_ms'), 0)";

/** From when on the ledger has every usage event; undefined when none was ever dropped. Throws StorageUnavailable. */
export async function readEventsFrom(database: Database): Promise<number | undefined> {
  const [row] = await database.all({ sql: `select ${EVENTS_FROM_SQL} as from_ms`, params: [] });
  return Number(row?.["from_ms"] ?? 0) || undefined;
}

/** Moves the mark forward; it never goes back, whatever another instance's setting or clock says. */
export const raiseEventsFrom = (fromMs: number): Statement => ({
  sql: `insert into ledger_marks (name, value) values ('events_from_ms', ?)
    on conflict (name) do update set value = excluded.value where ledger_marks.value < excluded.value`,
  params: [fromMs],
});
