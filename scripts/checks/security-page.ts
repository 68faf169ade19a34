import type { Check } from "./check.ts";
import { citationFaults } from "./citations.ts";
import { readIfThere } from "./repository.ts";

const PAGE = "SECURITY.md";

/** Every attack of the threat model cites a test that is there: rows of the form `| S1 | attack | what stops it | tests |`. */
export const securityPage: Check = {
  name: "every threat cites a test",
  findFaults: async () => {
    const page = readIfThere(PAGE);
    if (page === undefined) return [`${PAGE} is missing.`];
    const rows = [...page.matchAll(/^\|\s*S(\d+)\s*\|([^\n]*)\|\s*$/gm)];
    if (rows.length === 0) return [`${PAGE} has no row of the form | S1 | attack | what stops it | tests |.`];
    return rows.flatMap(([, number, rest = ""], index) => [
      ...(Number(number) === index + 1 ? [] : [`${PAGE}: S${number} stands where S${index + 1} should.`]),
      ...citationFaults(rest).map((fault) => `${PAGE}: S${number} ${fault}`),
      ...missingFiles(rest).map((path) => `${PAGE}: S${number} names ${path}, which does not exist.`),
    ]);
  },
};

/** Of the files that stop the attack, named as `path/from/server/src.ts`. */
const missingFiles = (row: string): string[] =>
  [...row.matchAll(/`([\w-]+(?:\/[\w.-]+)*\.ts)`/g)]
    .map(([, path = ""]) => path)
    .filter((path) => readIfThere(`server/src/${path}`) === undefined);
