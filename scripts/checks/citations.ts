import { readIfThere } from "./repository.ts";

/** What is wrong with the tests that a text cites as `path.test.ts: "the test's name"`; none at all is a fault as well. */
export function citationFaults(text: string): string[] {
  const citations = [...text.matchAll(/([\w./-]+\.test\.ts)`?:\s*`?"([^"]+)"/g)];
  if (citations.length === 0) return ["cites no test."];
  return citations.flatMap(([, path = "", name = ""]) => {
    const source = readIfThere(path);
    if (source === undefined) return [`cites ${path}, which does not exist.`];
    return source.includes(name) ? [] : [`cites "${name}", which is not in ${path}.`];
  });
}
