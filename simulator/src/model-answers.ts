import { hash } from "node:crypto";
import { completeChat } from "./completion.ts";
import type { Completion } from "./completion.ts";
import type { ChatRequest } from "./chat-request.ts";
import { PromptCache } from "./prompt-cache.ts";
import { countPromptTokens } from "./prompt-tokens.ts";
import { RecentMap } from "./recent-map.ts";
import type { Vendor } from "./vendor.ts";

export interface ModelAnswer {
  readonly completion: Completion;
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

const REMEMBERED_ANSWERS = 2000;
/** Both vendors' simulated models take this many prompt tokens. */
export const CONTEXT_TOKENS = 128_000;

/** Answers chat requests; a request seen lately costs a look-up, so that benchmarks measure the gateway and not this. */
export class ModelAnswers {
  readonly #seed: number;
  readonly #answers = new RecentMap<{ completion: Completion; promptTokens: number }>(REMEMBERED_ANSWERS);
  readonly #promptCache = new PromptCache();

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** `undefined` when the prompt is longer than the context. */
  answer(vendor: Vendor, request: ChatRequest): ModelAnswer | undefined {
    const key = hash("sha1", JSON.stringify({ ...request, vendor, stream: false, includeUsage: false }), "base64");
    let known = this.#answers.get(key);
    if (known === undefined) {
      const promptTokens = countPromptTokens(request, CONTEXT_TOKENS);
      if (promptTokens > CONTEXT_TOKENS) return undefined;
      known = { promptTokens, completion: completeChat(request, this.#seed) };
      this.#answers.set(key, known);
    }
    return {
      ...known,
      cachedTokens: this.#promptCache.lookUp(`${vendor}/${request.model}`, request, known.promptTokens),
    };
  }
}
