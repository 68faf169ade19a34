import ts from "typescript";
import type { Check } from "./check.ts";
import { listFiles, syntaxNodes } from "./repository.ts";

const VENDORS = new Set(["openai", "mistral"]);

/** Where a vendor's name is the subject: its adapter, its prices, its settings. */
const OWNERS = /^server\/src\/(providers\/|ledger\/price-overrides\.ts$|config(\.ts$|\/))/;

/**
 * A decision that hangs on a vendor's name belongs to its adapter, so no string outside may equal one. Examples in the API's
 * document are shown to readers and decide nothing; they are known by the name `example` of what holds them.
 */
export const vendorNames: Check = {
  name: "vendor names only under providers/",
  findFaults: async () => {
    const faults: string[] = [];
    for (const path of listFiles("server/src/**/*.ts")) {
      if (OWNERS.test(path)) continue;
      for (const { node, line } of syntaxNodes(path)) {
        if (!ts.isStringLiteralLike(node) || !VENDORS.has(node.text.toLowerCase()) || insideExample(node)) continue;
        faults.push(
          `${path}:${line} names "${node.text}"; a vendor is named only under providers/, in prices and in settings.`,
        );
      }
    }
    return faults;
  },
};

function insideExample(node: ts.Node): boolean {
  for (let holder = node.parent; holder !== undefined; holder = holder.parent) {
    if (
      (ts.isPropertyAssignment(holder) || ts.isVariableDeclaration(holder)) &&
      /^examples?([A-Z]|$)/.test(holder.name.getText())
    )
      return true;
  }
  return false;
}
