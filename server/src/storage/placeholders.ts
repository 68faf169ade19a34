const TOKENS = /'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|\/\*[\s\S]*?\*\/|\?\d*|[:@$]\w+/g;

/**
 * How many `?` a statement holds outside of literals, quoted names and comments; undefined when it uses numbered or named
 * placeholders, which cannot be counted against a list of parameters. A cast is written `cast(? as bigint)`: the short form
 * with two colons looks like a name, and SQLite has none.
 */
export function countPlaceholders(sql: string): number | undefined {
  return numberPlaceholders(sql)?.count;
}

/** The same statement with `$1`, `$2` and so on in the places of its `?`; undefined as above. */
export function numberPlaceholders(sql: string): { readonly text: string; readonly count: number } | undefined {
  let count = 0;
  let others = 0;
  const text = sql.replace(TOKENS, (token) => {
    if (token === "?") return `$${(count += 1)}`;
    if (/^[?:@$]/.test(token)) others += 1;
    return token;
  });
  return others === 0 ? { text, count } : undefined;
}
