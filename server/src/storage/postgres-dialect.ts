import { PostgresDialect, type PostgresPoolClient, type PostgresQueryResult } from "kysely";
import type { SqlValue } from "./database.ts";
import type { PostgresPool } from "./postgres-pool.ts";
import { postgresValue } from "./postgres-statements.ts";

/** Kysely over the pool, so that its queries keep the same rules for parameters, integers, errors and time. */
export function createPostgresDialect(pool: PostgresPool, answerTimeoutMs: number): PostgresDialect {
  return new PostgresDialect({
    pool: {
      options: {},
      connect: async () => {
        const session = await pool.take();
        const query = async <R>(text: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<R>> => {
          // Kysely compares the catalogue's truth values with true and false.
          const values = parameters.map((parameter, index) =>
            typeof parameter === "boolean" ? String(parameter) : postgresValue(parameter as SqlValue, index, text),
          );
          const result = await session.within(answerTimeoutMs, () => session.run({ text, values }));
          return result as unknown as PostgresQueryResult<R>;
        };
        // Kysely also has a form with a cursor, which it uses only when it was given a class of cursors.
        return { query: query as PostgresPoolClient["query"], release: () => session.release() };
      },
      // The pool is closed by the database that owns it.
      end: async () => {},
    },
  });
}
