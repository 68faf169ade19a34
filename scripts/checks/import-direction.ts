import type { Check } from "./check.ts";
import { runTool } from "./tool.ts";

/** Without a compiler it understands, dependency-cruiser finds no module and calls that a success. */
const FEWEST_MODULES = 40;

interface Cruise {
  readonly summary: {
    readonly totalCruised: number;
    readonly violations: readonly {
      readonly from: string;
      readonly to: string;
      readonly rule: { readonly name: string };
      readonly cycle?: readonly { readonly name: string }[];
    }[];
  };
}

/** The direction of imports, as .dependency-cruiser.cjs has it. */
export const importDirection: Check = {
  name: "import direction",
  findFaults: async () => {
    const { stdout, output } = await runTool("dependency-cruiser/bin/dependency-cruiser.mjs", [
      "--config",
      ".dependency-cruiser.cjs",
      "--output-type",
      "json",
      "server/src",
      "server/test",
      "simulator/src",
      "simulator/test",
      "sdks",
    ]);
    let cruise: Cruise;
    try {
      cruise = JSON.parse(stdout) as Cruise;
    } catch {
      return [output.trim()];
    }
    const { totalCruised, violations } = cruise.summary;
    const faults = violations.map(({ rule, from, to, cycle }) => {
      const way = cycle === undefined ? to : cycle.map(({ name }) => name).join(" -> ");
      return `${rule.name}: ${from} -> ${way}`;
    });
    if (totalCruised < FEWEST_MODULES)
      faults.push(`Only ${totalCruised} modules were looked at; something keeps the rest out of sight.`);
    return faults;
  },
};
