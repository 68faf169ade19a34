import type { Check } from "./check.ts";
import { citationFaults } from "./citations.ts";
import { readIfThere } from "./repository.ts";

const PAGE = "docs/promises.md";

/** Every promise cites a test that is there: rows of the form `| P1 | promise | path.test.ts: "the test's name" |`. */
export const promises: Check = {
  name: "every promise cites a test",
  findFaults: async () => {
    const page = readIfThere(PAGE);
    if (page === undefined) return [`${PAGE} is missing.`];
    const rows = [...page.matchAll(/^\|\s*P(\d+)\s*\|([^\n]*)\|\s*$/gm)];
    if (rows.length === 0)
      return [`${PAGE} has no row of the form | P1 | promise | path.test.ts: "the test's name" |.`];
    return rows.flatMap(([, number, rest = ""], index) => {
      const faults = citationFaults(rest).map((fault) => `${PAGE}: P${number} ${fault}`);
      if (Number(number) !== index + 1) faults.unshift(`${PAGE}: P${number} stands where P${index + 1} should.`);
      return faults;
    });
  },
};
