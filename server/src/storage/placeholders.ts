const TOKENS = /'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|\/\*[\s\S]*?\*\/|\?\d*|[:@$][A-Za-z_]\w*/g;

/**
 * How many `?` a statement holds outside of literals, quoted names and comments; undefined when it uses numbered or named
 * placeholders, which cannot be counted against a list of parameters.
 */
export function countPlaceholders(sql: string): number | undefined {
  let count = 0;
  for (const [token] of sql.matchAll(TOKENS)) {
    if (token === "?") count += 1;
    else if (/^[?:@$]/.test(token)) return undefined;
  }
  return count;
}
