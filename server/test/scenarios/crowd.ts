import assert from "node:assert/strict";
import { setTimeout as wait } from "node:timers/promises";
import { Agent } from "undici";
import { ask, MODELS, type Reply } from "../harness/callers.ts";
import type { Whole } from "./ledger-audit.ts";

type Refused = Extract<Reply, { kind: "refused" }>;

export interface CrowdResult {
  readonly whole: readonly Whole[];
  readonly refusals: number;
  /** Connections that broke, and streams that said that they are not whole. */
  readonly broken: number;
}

export interface CrowdOptions {
  readonly callers: number;
  readonly secret: string;
  /** Where a caller finds its gateway at the moment. */
  readonly urlOf: (caller: number) => string;
  /** How long an answer a question allows; one that does not say reserves a hundred times its cost. */
  readonly maxTokensOf: (turn: number) => number | undefined;
  /** How long a caller thinks between two questions. */
  readonly pauseMs?: number;
  /** A caller goes on until it was refused for so long in a row, or a refusal says that so much of the cap is spent. */
  readonly patienceMs: number;
  readonly enough: number;
}

/**
 * Callers who all ask at once, over and over, plain and streamed, of both vendors, until the cap refuses them for good. Every
 * refusal on the way must explain itself.
 */
export async function crowd(options: CrowdOptions): Promise<CrowdResult> {
  const { callers, secret, urlOf, maxTokensOf, pauseMs = 0, patienceMs, enough } = options;
  const agent = new Agent({ connections: callers, pipelining: 1 });
  const whole: Whole[] = [];
  let refusals = 0;
  let broken = 0;
  let asked = 0;
  const caller = async (number: number): Promise<void> => {
    let refusedSince: number | undefined;
    for (;;) {
      const turn = asked++;
      const maxTokens = maxTokensOf(turn);
      const reply = await ask(agent, urlOf(number), secret, {
        model: MODELS[turn % 2]!,
        stream: turn % 4 < 2,
        content: `Question ${turn}: why is the sea salty?`,
        ...(maxTokens !== undefined && { maxTokens }),
      });
      switch (reply.kind) {
        case "whole":
          whole.push(reply);
          refusedSince = undefined;
          if (pauseMs > 0) await wait(pauseMs * (0.5 + Math.random()));
          break;
        case "refused": {
          refusals += 1;
          const share = spentShareOf(reply);
          refusedSince ??= performance.now();
          if (share >= enough || performance.now() - refusedSince > patienceMs) return;
          await wait(200 + Math.random() * 200);
          break;
        }
        case "cut":
        case "gone":
          broken += 1;
          await wait(150 + Math.random() * 150);
          break;
        default:
          reply satisfies never;
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: callers }, (_, number) => caller(number)));
  } finally {
    await agent.destroy();
  }
  return { whole, refusals, broken };
}

/** How much of the cap a refusal says is spent; the refusal must be a whole explanation, with numbers that add up. */
function spentShareOf({ status, headers, error }: Refused): number {
  assert.deepEqual(
    [status, error.code, error.type, headers["x-should-retry"]],
    [402, "hard_cap_exceeded", "insufficient_quota", "false"],
    JSON.stringify(error),
  );
  const { scope, window, resets_at: resetsAt, ...numbers } = error.details ?? {};
  assert.equal(scope, "key");
  assert.match(String(window), /^(day|week|month)$/);
  assert.ok(Date.parse(String(resetsAt)) > Date.now());
  const [limit, spent, reserved, needed] = ["limit_usd", "spent_usd", "reserved_usd", "needed_usd"].map((name) => {
    const value = numbers[name];
    assert.ok(typeof value === "number" && value >= 0, `${name} is ${String(value)}`);
    return Math.round(value * 1e9);
  }) as [number, number, number, number];
  assert.ok(spent + reserved + needed > limit, `refused although it fits: ${JSON.stringify(error.details)}`);
  assert.ok(spent + reserved <= limit, `more than the cap is taken: ${JSON.stringify(error.details)}`);
  assert.ok(error.message.includes(`hard cap of $${(limit / 1e9).toFixed(9).replace(/0+$/, "")}`), error.message);
  return spent / limit;
}
