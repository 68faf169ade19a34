import { isDeepStrictEqual } from "node:util";
import type { Cases, Expectation, FaultGroup, FaultRow } from "../../server/test/scenarios/fault-matrix.ts";
import { readIfThere } from "./repository.ts";

export const RESILIENCE_PAGE = "docs/resilience.md";

/** Settings that have a say in what becomes of a request whose provider is in trouble. */
const SETTINGS = /^(PROVIDER_|BRIKK_PROVIDER_|BRIKK_(REQUEST_TIMEOUT|KEEP_ALIVE|MAX_IN_FLIGHT|MAX_EVENT_LOOP))/;

/** The page as a person wrote it, with what stands between its marks written anew. */
export async function renderResiliencePage(): Promise<string> {
  const [{ settings }, { faultMatrix, rowOf }] = await Promise.all([
    import("../../server/src/config/settings.ts"),
    import("../../server/test/scenarios/fault-matrix.ts"),
  ]);
  const page = readIfThere(RESILIENCE_PAGE);
  if (page === undefined) throw new Error(`${RESILIENCE_PAGE} is missing; its prose is written by hand.`);
  const settingLines = settings
    .filter(({ name }) => SETTINGS.test(name))
    .map(({ name, fallback, meaning }) => `| ${name} | ${fallback ?? "not set"} | ${meaning} |`);
  const settingTable = ["| variable | default | meaning |", "| --- | --- | --- |", ...settingLines].join("\n");
  const faultTables = faultMatrix.map((group) => tableOf(group, rowOf)).join("\n\n");
  return fill(fill(page, "settings", settingTable), "faults", faultTables);
}

function fill(page: string, part: string, text: string): string {
  const place = new RegExp(`(<!-- ${part}: [^\\n]* -->\\n)[^]*?(<!-- end -->)`);
  if (!place.test(page))
    throw new Error(`${RESILIENCE_PAGE} has no place for its ${part}: <!-- ${part}: ... --> and <!-- end -->.`);
  return page.replace(place, (_, start: string, end: string) => `${start}${text}\n${end}`);
}

type RowOf = (expected: Expectation) => {
  readonly outcome: string;
  readonly errorCode: string | undefined;
  readonly fallback: "yes" | "no";
  readonly rescued: "yes" | "no";
};

function tableOf({ name, rows }: FaultGroup, rowOf: RowOf): string {
  const lines = alikeInARow(rows).flatMap(({ names, row }) =>
    linesOf(row).map(({ asked, among, expected }, index) => {
      const cells = [
        index === 0 ? names.join("; ") : "",
        asked,
        among,
        gotten(expected),
        tried(expected),
        bounded(expected),
        expected.charge,
        rowText(rowOf(expected)),
      ];
      return `| ${cells.join(" | ")} |`;
    }),
  );
  return [
    `### ${name}`,
    "",
    "| fault | asked | candidates | the caller gets | attempts | within | charged | the row |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ...lines,
  ].join("\n");
}

/** Faults one after another that come to the same. */
function alikeInARow(rows: readonly FaultRow[]): { readonly names: string[]; readonly row: FaultRow }[] {
  const groups: { readonly names: string[]; readonly row: FaultRow }[] = [];
  for (const row of rows) {
    const last = groups.at(-1);
    const alike =
      last && isDeepStrictEqual([last.row.plain, last.row.stream], [row.plain, row.stream]) ? last : undefined;
    if (alike) alike.names.push(row.name);
    else groups.push({ names: [row.name], row });
  }
  return groups;
}

interface Line {
  readonly asked: string;
  readonly among: string;
  readonly expected: Expectation;
}

/** What is alike is said once. */
function linesOf({ plain, stream }: FaultRow): Line[] {
  const ways: readonly [string, Cases | undefined][] = isDeepStrictEqual(plain, stream)
    ? [["plain, stream", plain]]
    : [
        ["plain", plain],
        ["stream", stream],
      ];
  return ways.flatMap(([asked, cases]) => {
    if (!cases) return [];
    if (isDeepStrictEqual(cases.alone, cases.second))
      return [{ asked, among: "first, or both", expected: cases.alone }];
    return [
      { asked, among: "first", expected: cases.alone },
      { asked, among: "both", expected: cases.second },
    ];
  });
}

function gotten({ ending, rescued }: Expectation): string {
  switch (ending.kind) {
    case "complete":
      return rescued ? "the whole answer, from two" : "the whole answer";
    case "refused": {
      const wait = ending.retryAfterS === undefined ? "" : `, Retry-After: ${ending.retryAfterS}`;
      return `${ending.status} \`${ending.code}\`${wait}`;
    }
    case "cut":
      return `its beginning, then an error event, \`${ending.code}\``;
    case "left":
      return "(it left)";
    default:
      return ending satisfies never;
  }
}

const tried = ({ tries }: Expectation): string =>
  tries.map(([who, what]) => (what === "answer" || what === "left" ? who : `${who}: ${what}`)).join("; ");

const bounded = ({ withinMs, atLeastMs }: Expectation): string =>
  `${atLeastMs === undefined ? "" : `${atLeastMs / 1_000} to `}${withinMs / 1_000} s`;

const rowText = ({ outcome, errorCode, fallback, rescued }: ReturnType<RowOf>): string =>
  [
    `\`${outcome}\``,
    ...(errorCode === undefined ? [] : [`\`${errorCode}\``]),
    ...(fallback === "yes" ? ["fallback"] : []),
    ...(rescued === "yes" ? ["rescue"] : []),
  ].join(", ");
