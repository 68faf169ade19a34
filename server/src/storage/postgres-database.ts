import { Kysely } from "kysely";
import type { QueryResult } from "pg";
import { type Database, type Row, type Statement, StatementRejected, StorageUnavailable } from "./database.ts";
import { createPostgresDialect } from "./postgres-dialect.ts";
import { codeOf } from "./postgres-failure.ts";
import type { PostgresPool } from "./postgres-pool.ts";
import { type PostgresQuery, PostgresStatements } from "./postgres-statements.ts";
import type { Schema } from "./schema.ts";

const READ_TIMEOUT_MS = 600_000;
/** What the server is given to say itself that a statement took too long, before the connection is cut. */
const GRACE_MS = 1_000;

const BEGIN: PostgresQuery = { text: "begin isolation level read committed", values: [] };
const BEGIN_READ: PostgresQuery = { text: "begin isolation level repeatable read, read only", values: [] };
const ALLOW_LONG: PostgresQuery = { text: `set local statement_timeout = ${READ_TIMEOUT_MS}`, values: [] };
const COMMIT: PostgresQuery = { text: "commit", values: [] };

/** SQLSTATE of a write in a transaction that may only read. */
const READ_ONLY_TRANSACTION = "25006";

/**
 * A Database over a pool of connections, whose server ends after `answerTimeoutMs` a statement, and a transaction in which it
 * hears of none. So what is given up after that time is over: its statements do not take effect when the network brings them late.
 */
export function postgresDatabaseOver(pool: PostgresPool, answerTimeoutMs: number): Database {
  const statements = new PostgresStatements();
  const cutOffMs = answerTimeoutMs + GRACE_MS;

  /** Everything behind `begin` is sent at once; a hundred statements cost as many round trips as one. */
  const runTogether = (
    begin: readonly PostgresQuery[],
    queries: readonly PostgresQuery[],
    timeoutMs: number,
  ): Promise<Row[][]> =>
    pool.use(async (session) => {
      // Waited for: were it refused, what follows would be as many transactions as there are statements. And the server's time
      // for the rest runs before ours does.
      for (const query of begin) await session.within(cutOffMs, () => session.run(query));
      return session.within(timeoutMs, async () => {
        // Once a statement fails the server refuses the others, and what it does at `commit` is a rollback.
        const answers = await Promise.allSettled(
          session.together(() => [...queries, COMMIT].map((query) => session.run(query))),
        );
        const results: QueryResult[] = [];
        for (const answer of answers) {
          if (answer.status === "rejected") throw answer.reason;
          results.push(answer.value);
        }
        if (results.pop()?.command !== "COMMIT")
          throw new StorageUnavailable("The database ended the transaction without keeping it.");
        return results.map(({ rows }) => rows as Row[]);
      });
    });

  return {
    dialect: "postgres",
    query: new Kysely<Schema>({ dialect: createPostgresDialect(pool, cutOffMs) }),
    async transact(given: readonly Statement[]): Promise<Row[][]> {
      if (given.length === 0) return [];
      const queries = given.map((statement) => statements.named(statement));
      return runTogether([BEGIN], queries, cutOffMs);
    },
    async read(given: readonly Statement[]): Promise<Row[][]> {
      if (given.length === 0) return [];
      const queries = given.map((statement) => statements.unnamed(statement));
      try {
        return await runTogether([BEGIN_READ, ALLOW_LONG], queries, READ_TIMEOUT_MS + GRACE_MS);
      } catch (error) {
        if (codeOf(error) !== READ_ONLY_TRANSACTION) throw error;
        throw new StatementRejected("A statement that writes was given to be read.", { cause: error });
      }
    },
    async all(statement: Statement): Promise<Row[]> {
      const query = statements.named(statement);
      const { rows } = await pool.use((session) => session.within(cutOffMs, () => session.run(query)));
      return rows as Row[];
    },
    close: () => pool.close(),
  };
}
