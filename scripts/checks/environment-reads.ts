import ts from "typescript";
import type { Check } from "./check.ts";
import { listFiles, syntaxNodes } from "./repository.ts";

const OWNER = "server/src/config.ts";

/** Settings have one definition and one reader; a second one would have its own default and its own faults. */
export const environmentReads: Check = {
  name: "process.env only in config.ts",
  findFaults: async () => {
    const faults: string[] = [];
    for (const path of listFiles("server/src/**/*.ts", "simulator/src/**/*.ts")) {
      if (path === OWNER) continue;
      for (const { node, line } of syntaxNodes(path)) {
        if (readsEnvironment(node)) faults.push(`${path}:${line} reads the environment; ${OWNER} is its one reader.`);
      }
    }
    return faults;
  },
};

function readsEnvironment(node: ts.Node): boolean {
  const onProcess = (object: ts.Expression): boolean => ts.isIdentifier(object) && object.text === "process";
  if (ts.isPropertyAccessExpression(node)) return onProcess(node.expression) && node.name.text === "env";
  if (ts.isElementAccessExpression(node)) {
    return (
      onProcess(node.expression) &&
      ts.isStringLiteral(node.argumentExpression) &&
      node.argumentExpression.text === "env"
    );
  }
  if (ts.isImportSpecifier(node)) {
    const from = node.parent.parent.parent.moduleSpecifier;
    return (
      (node.propertyName ?? node.name).text === "env" && ts.isStringLiteral(from) && /^(node:)?process$/.test(from.text)
    );
  }
  return false;
}
