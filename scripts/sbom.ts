import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { cycloneDxOf } from "./supply/cyclonedx.ts";
import { readLockfile } from "./supply/lockfile.ts";

/** npm run --silent sbom [-- --output FILE]: what Brikk runs on, as CycloneDX, to standard output or into a file. */
const { values } = parseArgs({ options: { output: { type: "string" } } });
const text = `${JSON.stringify(cycloneDxOf(readLockfile()), undefined, 2)}\n`;
if (values.output === undefined) process.stdout.write(text);
else writeFileSync(values.output, text);
