/**
 * Remembers which long prompts a vendor has seen, so that the second request with the same beginning reports cached
 * tokens. A prompt is hashed piece by piece, each hash covering everything before it; the longest known hash of at least
 * 1,024 tokens is the cached prefix, reported in steps of 128 tokens as OpenAI does.
 */
import { createHash } from "node:crypto";
import type { ChatRequest } from "./chat-request.ts";
import { RecentMap } from "./recent-map.ts";
import { countTokens, cutText } from "./tokens.ts";

const LEAST_TOKENS = 1024;
const STEP_TOKENS = 128;
const REMEMBERED_PREFIXES = 20_000;

export class PromptCache {
  readonly #prefixes = new RecentMap<true>(REMEMBERED_PREFIXES);

  /** Tokens of the prompt that an earlier one began with; remembers this prompt. 0 below 1,024 tokens. */
  lookUp(scope: string, request: ChatRequest, promptTokens: number): number {
    if (promptTokens < LEAST_TOKENS) return 0;
    const hash = createHash("sha1").update(scope);
    let tokens = 0;
    let cached = 0;
    for (const message of request.messages) {
      hash.update(`\0${message.role}\0`);
      for (const piece of cutText(message.text)) {
        hash.update(piece);
        tokens += countTokens(piece);
        if (tokens < LEAST_TOKENS) continue;
        const prefix = hash.copy().digest("base64");
        if (this.#prefixes.get(prefix) === true) cached = tokens;
        else this.#prefixes.set(prefix, true);
      }
    }
    return cached - (cached % STEP_TOKENS);
  }
}
