import type { ChatRequest } from "./chat-request.ts";
import { countTokens } from "./tokens.ts";

const TOKENS_PER_MESSAGE = 3;
const TOKENS_PER_REPLY_START = 3;
const TOKENS_PER_IMAGE = 85;

/**
 * Tokens of a prompt by OpenAI's published counting: every message costs 3, its role and its text; the prompt costs 3
 * more. Pictures count 85 each and tools as their JSON. Stops counting soon after `limit`.
 */
export function countPromptTokens(request: ChatRequest, limit: number): number {
  let total = TOKENS_PER_REPLY_START;
  for (const message of request.messages) {
    total +=
      TOKENS_PER_MESSAGE +
      countTokens(message.role) +
      countTokens(message.text, limit) +
      message.imageCount * TOKENS_PER_IMAGE;
    if (total > limit) return total;
  }
  if (request.tools.length > 0) total += countTokens(JSON.stringify(request.tools), limit);
  return total;
}
