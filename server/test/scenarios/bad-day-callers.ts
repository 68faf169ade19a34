import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { Agent, request } from "undici";
import { type GatewayUnderTest, type HarnessOptions, startGateway } from "../harness/gateway-under-test.ts";

/** Callers of a gateway whose providers have a bad day. */
type Model = "brikk/auto" | "gpt-4o-mini" | "mistral-small-latest";

interface Outcome {
  readonly status: number;
  readonly provider: string | undefined;
  /** A plain answer, or a stream that ended with [DONE]. */
  readonly whole: boolean;
  /** The code of a refusal, or of the error event that ended a stream. */
  readonly code: string | undefined;
}

export async function started(t: TestContext, options: HarnessOptions = {}): Promise<GatewayUnderTest> {
  const brikk = await startGateway(options);
  t.after(() => brikk.close());
  return brikk;
}

export function agentOf(t: TestContext, connections: number): Agent {
  const agent = new Agent({ connections });
  t.after(() => agent.destroy());
  return agent;
}

export const post = (brikk: GatewayUnderTest, agent: Agent, model: Model, stream: boolean, content: string) =>
  request(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    dispatcher: agent,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, stream, max_tokens: 60, messages: [{ role: "user", content }] }),
  });

/** Asks, and tells what became of it; anything that is neither a whole answer nor a clear error fails the test. */
export async function ask(...question: Parameters<typeof post>): Promise<Outcome> {
  const answer = await post(...question);
  const text = await answer.body.text();
  const provider = answer.headers["x-brikk-provider"] as string | undefined;
  const { statusCode: status } = answer;
  const fault = status === 200 ? text.split("event: error\ndata: ")[1] : text;
  const code = fault && (JSON.parse(fault) as { error: { code: string } }).error.code;
  const whole = status === 200 && (question[3] ? text.endsWith("data: [DONE]\n\n") : text.startsWith("{"));
  assert.ok(whole !== (code !== undefined), `neither whole nor a clear error: ${text.slice(-200)}`);
  return { status, provider, whole, code };
}

/** That many questions, so many at a time. */
export async function crowd(total: number, atOnce: number, question: (turn: number) => Promise<void>): Promise<void> {
  let turn = 0;
  const caller = async (): Promise<void> => {
    while (turn < total) await question(turn++);
  };
  await Promise.all(Array.from({ length: atOnce }, caller));
}
