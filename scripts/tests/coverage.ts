import { readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join, relative, sep } from "node:path";
import { listFiles, repositoryRoot } from "../checks/repository.ts";
import type { Tally } from "../checks/run-checks.ts";

interface Share {
  readonly hit: number;
  readonly of: number;
}

interface FileCoverage {
  readonly lines: Share;
  readonly branches: Share;
  readonly functions: Share;
}

interface Gate {
  readonly name: string;
  readonly files: RegExp;
  /** Per cent; what is not named is not held to anything. */
  readonly atLeast: { readonly [Kind in keyof FileCoverage]?: number };
}

// Money's arithmetic leaves no case untried; what decides who may spend, and what measures it, few.
const gates: readonly Gate[] = [
  ...["cost", "rates", "usage"].map((name) => ({
    name: `ledger/${name}.ts`,
    files: new RegExp(`^server/src/ledger/${name}\\.ts$`),
    atLeast: { lines: 100, branches: 100, functions: 100 },
  })),
  { name: "access/", files: /^server\/src\/access\//, atLeast: { lines: 90 } },
  { name: "metering", files: /^server\/src\/(ledger\/|completion\/stream-meter\.ts$)/, atLeast: { lines: 90 } },
  { name: "all", files: /./, atLeast: { lines: 85 } },
];

const KINDS = ["lines", "branches", "functions"] as const;

/** Holds an lcov report against the gates and prints them as a table. */
export function gateCoverage(lcovPath: string): Tally {
  const measured = readLcov(lcovPath);
  const coverage = new Map<string, FileCoverage>();
  for (const path of listFiles("server/src/**/*.ts", "simulator/src/**/*.ts")) {
    const found = measured.get(path) ?? neverLoaded(path);
    if (found !== undefined) coverage.set(path, found);
  }

  let failed = 0;
  console.log("\nCoverage, in per cent (needed)");
  for (const { name, files, atLeast } of gates) {
    const chosen = [...coverage].filter(([path]) => files.test(path)).map(([, file]) => file);
    const cells = KINDS.map((kind) => cell(sumOf(chosen, kind), atLeast[kind]));
    const passed = chosen.length > 0 && cells.every(({ ok }) => ok);
    if (!passed) failed += 1;
    const shown = KINDS.map((kind, index) => `${kind} ${cells[index]?.text}`.padEnd(24)).join("");
    console.log(
      `${passed ? "ok    " : "FAILED"} ${name.padEnd(18)} ${shown}${chosen.length === 0 ? "no such file" : ""}`.trimEnd(),
    );
  }
  return { passed: gates.length - failed, failed };
}

function cell(share: Share, needed: number | undefined): { ok: boolean; text: string } {
  // Rounded down, so that 99.99 never reads as 100.
  const percent = share.of === 0 ? 100 : Math.floor((share.hit / share.of) * 10_000) / 100;
  return {
    ok: needed === undefined || percent >= needed,
    text: `${percent.toFixed(2)}${needed === undefined ? "" : ` (${needed})`}`,
  };
}

const sumOf = (files: readonly FileCoverage[], kind: keyof FileCoverage): Share =>
  files.reduce((sum, file) => ({ hit: sum.hit + file[kind].hit, of: sum.of + file[kind].of }), { hit: 0, of: 0 });

function readLcov(lcovPath: string): Map<string, FileCoverage> {
  const files = new Map<string, FileCoverage>();
  for (const record of readFileSync(lcovPath, "utf8").split("end_of_record")) {
    const source = /^SF:(.+)$/m.exec(record)?.[1];
    if (source === undefined) continue;
    const figure = (key: string): number => Number(new RegExp(`^${key}:(\\d+)$`, "m").exec(record)?.[1] ?? 0);
    files.set(relative(repositoryRoot, join(repositoryRoot, source)).split(sep).join("/"), {
      lines: { hit: figure("LH"), of: figure("LF") },
      branches: { hit: figure("BRH"), of: figure("BRF") },
      functions: { hit: figure("FNH"), of: figure("FNF") },
    });
  }
  return files;
}

/** A file that no test loaded is absent from the report. What it would run counts as missed; a file of types runs nothing. */
function neverLoaded(path: string): FileCoverage | undefined {
  const code = stripTypeScriptTypes(readFileSync(join(repositoryRoot, path), "utf8"))
    .replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "")
    .replaceAll(/^\s*(import\s.*;?|export\s*\{\s*\};?)\s*$/gm, "");
  const lines = code.split("\n").filter((line) => line.trim() !== "").length;
  if (lines === 0) return undefined;
  return { lines: { hit: 0, of: lines }, branches: { hit: 0, of: 0 }, functions: { hit: 0, of: 0 } };
}
