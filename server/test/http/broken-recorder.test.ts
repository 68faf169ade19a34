import assert from "node:assert/strict";
import { test } from "node:test";
import { startGateway } from "../harness/gateway-under-test.ts";

test("a fault of the gateway's own behind a stream's beginning ends it with an error event, and stands in the log", async (t) => {
  const lines: string[] = [];
  const brikk = await startGateway({ log: { write: (line) => void lines.push(line) } });
  t.after(() => brikk.close());
  // Whatever it may be that throws once the response has been given away; here the metrics.
  brikk.gateway.metrics.requests.inc = () => {
    throw new Error("broken on purpose");
  };
  const answer = await fetch(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "gpt-4o-mini",
      stream: true,
      max_tokens: 20,
      messages: [{ role: "user", content: "hi" }],
    }),
  });
  const text = await answer.text();
  assert.match(text, /event: error\ndata: .*"code":"internal_error"/);
  assert.doesNotMatch(text, /\[DONE\]|on purpose/);
  assert.ok(
    lines.some((line) => line.includes("a fault of the gateway ended a stream") && line.includes("on purpose")),
  );
  assert.equal(brikk.gateway.inFlight.count, 0);
  const [row] = await brikk.events();
  assert.equal(row?.["outcome"], "completed");
});
