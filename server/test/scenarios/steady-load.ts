import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { Agent } from "undici";
import { ask, MODELS } from "../harness/callers.ts";
import type { Whole } from "./ledger-audit.ts";

/** Callers who go on whatever becomes of the storage, and who may be told nothing but an answer or that it is away. */
export interface SteadyLoad {
  /** Every answer that came whole, with the moment of its end on performance.now(). */
  readonly whole: readonly (Whole & { readonly caller: number; readonly endedMs: number })[];
  /** Refusals with 503 storage_unavailable and Retry-After. */
  readonly unavailable: number;
  /** The longest that a caller waited for one of them. */
  readonly longestRefusalMs: number;
  /** Resolves when it is so; rejects when it does not come or when a caller was told something else. */
  until(what: string, reached: () => boolean): Promise<void>;
  /** Resolves when every question under way is answered. */
  stop(): Promise<void>;
}

export function startSteadyLoad(
  t: TestContext,
  options: { readonly callers: number; readonly secret: string; readonly urlOf: (caller: number) => string },
): SteadyLoad {
  const { callers, secret, urlOf } = options;
  const agent = new Agent({ connections: callers });
  t.after(() => agent.destroy());
  const whole: (Whole & { caller: number; endedMs: number })[] = [];
  let unavailable = 0;
  let longestRefusalMs = 0;
  let asked = 0;
  let stopping = false;
  const caller = async (number: number): Promise<void> => {
    while (!stopping) {
      const turn = asked++;
      const sentMs = performance.now();
      const reply = await ask(agent, urlOf(number), secret, {
        model: MODELS[turn % 2]!,
        stream: turn % 4 < 2,
        content: `Question ${turn}`,
        maxTokens: 64,
      });
      const endedMs = performance.now();
      if (reply.kind === "whole") {
        whole.push({ ...reply, caller: number, endedMs });
        continue;
      }
      assert.ok(reply.kind === "refused", `a caller met ${JSON.stringify(reply)}`);
      assert.deepEqual([reply.status, reply.error.code], [503, "storage_unavailable"], JSON.stringify(reply.error));
      assert.ok(Number(reply.headers["retry-after"]) >= 1);
      unavailable += 1;
      longestRefusalMs = Math.max(longestRefusalMs, endedMs - sentMs);
      await wait(200);
    }
  };
  let failure: Error | undefined;
  const running = Promise.all(Array.from({ length: callers }, (_, number) => caller(number))).catch((error: Error) => {
    failure = error;
  });
  const check = (): void => {
    if (failure !== undefined) throw failure;
  };
  return {
    whole,
    get unavailable() {
      return unavailable;
    },
    get longestRefusalMs() {
      return longestRefusalMs;
    },
    async until(what, reached) {
      const endMs = performance.now() + 45_000;
      while (!reached()) {
        check();
        assert.ok(performance.now() < endMs, `${what} did not come`);
        await wait(20);
      }
    },
    async stop() {
      stopping = true;
      await running;
      check();
    },
  };
}
