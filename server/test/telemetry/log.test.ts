import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "../../src/telemetry/log.ts";

test("a cause that is no error, as a worker thread gives it, is told in its own words", () => {
  const lines: string[] = [];
  const logger = createLogger({
    level: "info",
    pretty: false,
    destination: { write: (line) => void lines.push(line) },
  });
  for (const cause of [{ kind: "unavailable", message: "database is locked" }, "just words", null])
    logger.error({ error: new Error("no storage", { cause }) }, "failed");
  const causes = lines.map(
    (line) => (JSON.parse(line) as { error: { cause: { message: string } } }).error.cause.message,
  );
  assert.deepEqual(causes, ["database is locked", "just words", "null"]);
});
