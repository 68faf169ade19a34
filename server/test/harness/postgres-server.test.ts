import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { Client } from "pg";
import { onPostgres, runChild } from "../storage/scratch.ts";
import { startPostgres } from "./postgres-server.ts";

async function run(url: string, sql: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

const endings: readonly [string, string][] = [
  ["is killed", "setInterval(() => {}, 1_000);"],
  ["comes to its end", ""],
  ["throws", "throw new Error('on purpose');"],
  ["exits", "process.exit(3);"],
];
for (const [how, ending] of endings) {
  onPostgres(`a server is stopped, and its files are gone, when its process ${how}`, async (t) => {
    const child = runChild(
      t,
      `import { launchPostgres } from ${JSON.stringify(new URL("postgres-server.ts", import.meta.url).href)};
       import { Client } from ${JSON.stringify(import.meta.resolve("pg"))};
       const { url } = await launchPostgres();
       const client = new Client({ connectionString: url });
       await client.connect();
       const { rows } = await client.query("show data_directory");
       await client.end();
       console.log(url + "\\n" + rows[0].data_directory);
       ${ending}`,
    );
    const url = await child.line();
    const data = await child.line();
    if (how === "is killed") {
      assert.ok(existsSync(data));
      await child.kill();
    }
    await child.ended;
    for (const deadline = performance.now() + 20_000; existsSync(data);) {
      assert.ok(performance.now() < deadline, `${data} is still there`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await assert.rejects(run(url, "select 1"), { code: "ECONNREFUSED" });
  });
}

onPostgres(
  "a server that was stopped, however, refuses connections and comes back with its data at its address",
  async (t) => {
    const server = await startPostgres(t);
    await run(server.url, "create table numbers as select 7 as n");
    for (const mode of ["smart", "fast", "immediate", "kill"] as const) {
      await server.stop(mode);
      await assert.rejects(run(server.url, "select 1"), { code: "ECONNREFUSED" });
      await server.start();
      assert.deepEqual(await run(server.url, "select n from numbers"), [{ n: 7 }]);
    }
  },
);
