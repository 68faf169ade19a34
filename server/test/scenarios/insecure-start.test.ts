import assert from "node:assert/strict";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startSimulator } from "@brikk/simulator";
import { startGatewayProcess } from "../harness/gateway-process.ts";
import { scratchFolder } from "../storage/scratch.ts";

test(
  "a data folder that others may read is told at the start, on the terminal and in the log, with the command that mends it",
  { skip: process.platform === "win32" ? "there are no modes" : false },
  async (t) => {
    const folder = scratchFolder(t);
    chmodSync(folder, 0o755);
    const simulator = await startSimulator();
    t.after(() => simulator.close());
    const gateway = await startGatewayProcess(t, {
      databaseUrl: `sqlite:${join(folder, "brikk.db")}`,
      simulator,
      environment: { LOG_LEVEL: "warn" },
    });
    assert.equal(await gateway.kill("SIGTERM"), 0, gateway.said());
    const said = gateway.said();
    const remedy = `chmod g-w,o-rwx ${folder}`;
    assert.match(said, new RegExp(`^ {2}WARNING .*${folder}.* Run: ${remedy}$`, "m"));
    const logged = said
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      logged.map(({ level, path, remedy: told }) => ({ level, path, told })),
      [{ level: "warn", path: folder, told: remedy }],
    );
  },
);

test("everything that is insecure about a production is said by the process in one go, and it ends with 1", async (t) => {
  const simulator = await startSimulator();
  t.after(() => simulator.close());
  await assert.rejects(
    startGatewayProcess(t, {
      databaseUrl: `sqlite:${join(scratchFolder(t), "brikk.db")}`,
      simulator,
      environment: {
        NODE_ENV: "production",
        BRIKK_ADMIN_TOKEN: "changeme-changeme",
        CORS_ALLOWED_ORIGINS: "*",
        BRIKK_ALLOW_PRIVATE_ADDRESSES: "true",
      },
    }),
    ({ message }: Error) => {
      assert.match(message, /ended with 1: Brikk cannot start, 4 settings are wrong:/);
      for (const name of ["BRIKK_REQUIRE_AUTH", "BRIKK_ADMIN_TOKEN", "BRIKK_ENCRYPTION_KEY", "CORS_ALLOWED_ORIGINS"])
        assert.match(message, new RegExp(`^ {2}- ${name} `, "m"));
      assert.doesNotMatch(message, /changeme/);
      return true;
    },
  );
});
