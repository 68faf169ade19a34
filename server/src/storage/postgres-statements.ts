import { bindable, checkCount } from "./bindable.ts";
import { type SqlValue, type Statement, StatementRejected } from "./database.ts";
import { numberPlaceholders } from "./placeholders.ts";

export type PostgresValue = string | bigint | null | Uint8Array;

/** What the driver is given to run. With a name it is prepared once per connection. */
export interface PostgresQuery {
  readonly text: string;
  readonly name?: string;
  readonly values: PostgresValue[];
}

/** Every connection keeps what it prepared until it ends, so a caller who makes up SQL may not have all of it prepared. */
const MAX_NAMED = 256;
const MAX_KNOWN = 1_024;

interface Known {
  readonly text: string;
  readonly count: number;
  readonly name: string | undefined;
}

/** Statements as the driver takes them. A text keeps its name for good: a name never stands for two texts. */
export class PostgresStatements {
  readonly #named = new Map<string, Known>();
  readonly #unnamed = new Map<string, Known>();

  /** Throws StatementRejected when the placeholders or the parameters are not in order. */
  named(statement: Statement): PostgresQuery {
    const { text, name } = this.#check(statement);
    return { text, ...(name !== undefined && { name }), values: valuesOf(statement) };
  }

  /** The same, for what runs too rarely to be prepared. */
  unnamed(statement: Statement): PostgresQuery {
    return { text: this.#check(statement).text, values: valuesOf(statement) };
  }

  #check({ sql, params }: Statement): Known {
    const known = this.#named.get(sql) ?? this.#unnamed.get(sql) ?? this.#learn(sql);
    checkCount(known.count, params, sql);
    return known;
  }

  #learn(sql: string): Known {
    const numbered = numberPlaceholders(sql);
    if (numbered === undefined) throw new StatementRejected(`Only plain ? placeholders are accepted: ${sql}`);
    if (this.#named.size < MAX_NAMED) {
      const known = { ...numbered, name: `brikk_${this.#named.size + 1}` };
      this.#named.set(sql, known);
      return known;
    }
    const known = { ...numbered, name: undefined };
    const oldest = this.#unnamed.keys().next();
    if (this.#unnamed.size >= MAX_KNOWN && !oldest.done) this.#unnamed.delete(oldest.value);
    this.#unnamed.set(sql, known);
    return known;
  }
}

const valuesOf = ({ sql, params }: Statement): PostgresValue[] =>
  params.map((param, index) => postgresValue(param, index, sql));

/**
 * A parameter as PostgreSQL takes it. Its text holds every character but U+0000, which a caller may well send, as in the name
 * of a model; the row matters more than that one. Throws StatementRejected.
 */
export function postgresValue(param: SqlValue, index: number, sql: string): PostgresValue {
  const value = bindable(param, index, sql);
  return typeof value === "string" && value.includes("\0") ? value.replaceAll("\0", "\u{fffd}") : value;
}
