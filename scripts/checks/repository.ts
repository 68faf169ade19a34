import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

export const repositoryRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Files under the root, as paths from it with forward slashes, sorted. */
export const listFiles = (...patterns: readonly string[]): readonly string[] =>
  globSync([...patterns], { cwd: repositoryRoot, exclude: ["**/node_modules/**"] })
    .map((path) => path.split(sep).join("/"))
    .sort();

/** A file's text, or undefined when there is no such file. */
export function readIfThere(path: string): string | undefined {
  const whole = join(repositoryRoot, path);
  return existsSync(whole) ? readFileSync(whole, "utf8") : undefined;
}

/** Every node of a file's syntax tree in source order, with its line. Comments are not among them. */
export function* syntaxNodes(path: string): Generator<{ node: ts.Node; line: number }> {
  const text = readFileSync(join(repositoryRoot, path), "utf8");
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const open: ts.Node[] = [file];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    yield { node, line: file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1 };
    open.push(...node.getChildren(file).toReversed());
  }
}
