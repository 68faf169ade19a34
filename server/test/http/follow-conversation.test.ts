import assert from "node:assert/strict";
import { connect, type AddressInfo } from "node:net";
import { test } from "node:test";
import fastify from "fastify";
import type { Conversation } from "../../src/conversations/conversation.ts";
import { readLive } from "../../src/conversations/reading.ts";
import { BEFORE_ALL } from "../../src/conversations/transcript-events.ts";
import { openTranscript } from "../../src/conversations/transcript.ts";
import { followConversation } from "../../src/http/follow-conversation.ts";
import { eventually } from "../ledger/ledger-fixture.ts";

const beginning: Omit<Conversation, "turns" | "end"> = {
  id: "run_1",
  kind: "panel",
  requestId: "r",
  opening: "Hello?",
  agents: [],
  plannedTurns: 8,
  startedAtMs: 0,
};

test("a reader that takes nothing is cut off and its reading closed; a silent run does not end for that", async (t) => {
  const transcript = openTranscript(beginning);
  transcript.begin({
    index: 1,
    round: 1,
    agent: "Ada",
    language: "en",
    requestId: "r.t1",
    provider: "openai",
    model: "gpt-4o-mini",
  });
  let open = 0;
  const app = fastify();
  app.get("/", async (_request, reply) => {
    open += 1;
    await followConversation(
      reply,
      readLive(transcript, () => (open -= 1)),
      BEFORE_ALL,
      { keepAliveMs: 400 },
    );
    return reply;
  });
  await app.listen({ port: 0, host: "127.0.0.1" });
  t.after(() => {
    app.server.closeAllConnections();
    return app.close();
  });
  const ask = () => {
    const socket = connect((app.server.address() as AddressInfo).port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    t.after(() => socket.destroy());
    return socket;
  };
  let heard = 0;
  ask().on("data", (bytes) => (heard += bytes.length));
  ask().pause();
  await eventually(() => open === 2 && heard > 0);
  // More than the sockets on the way take.
  const much = "x".repeat(32 * 1024 * 1024);
  transcript.say(much);
  await eventually(() => heard > much.length && open === 1);
  const before = heard;
  transcript.say("more");
  await eventually(() => heard > before);
  assert.equal(open, 1, "who reads goes on");
});
