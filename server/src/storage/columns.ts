import { type CreateTableBuilder, sql } from "kysely";
import type { DialectName } from "./database.ts";

/** What a migration spells differently for each database, so that there is one list of migrations. */
export interface Columns {
  /** For what cannot be said alike in both. */
  readonly dialect: DialectName;
  /** 64 bits in both. */
  readonly integer: "integer" | "bigint";
  /** Ends a table whose columns hold to their types; PostgreSQL knows no others. */
  readonly strict: TableEnd;
  /** The same, with rows kept in the order of their primary key. */
  readonly strictByKey: TableEnd;
}

type TableEnd = <Table extends string>(table: CreateTableBuilder<Table>) => CreateTableBuilder<Table>;

export const columnsOf: Readonly<Record<DialectName, Columns>> = {
  sqlite: {
    dialect: "sqlite",
    integer: "integer",
    strict: (table) => table.modifyEnd(sql`strict`),
    strictByKey: (table) => table.modifyEnd(sql`strict, without rowid`),
  },
  postgres: { dialect: "postgres", integer: "bigint", strict: (table) => table, strictByKey: (table) => table },
};
