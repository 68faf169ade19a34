import { randomInt } from "node:crypto";
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { repositoryRoot } from "./checks/repository.ts";

/** npm run fuzz [-- --seconds 60] [--seed N]: random requests against a gateway, for longer than `npm test` takes for it. */
const { values } = parseArgs({ options: { seconds: { type: "string", default: "60" }, seed: { type: "string" } } });
const { seconds, seed = String(randomInt(2 ** 31)) } = values;
const { status } = spawnSync(
  process.execPath,
  ["--test", "--test-reporter=spec", "server/test/scenarios/fuzz.test.ts"],
  {
    cwd: repositoryRoot,
    stdio: "inherit",
    env: {
      ...process.env,
      BRIKK_FUZZ_SECONDS: seconds,
      BRIKK_FUZZ_SEED: seed,
    },
  },
);
process.exit(status ?? 1);
