import type { Candidate } from "./model-router.ts";
import type { RequestFacts } from "./request-facts.ts";

/**
 * Why the candidate would certainly refuse the request or answer less than was asked, found before anybody is called;
 * undefined when nothing speaks against it. What is not known of a model never does.
 */
export function unfitness({ connected, model }: Candidate, facts: RequestFacts): string | undefined {
  const kind = facts.operation === "embeddings" ? "embedding" : "chat";
  if (model.kind !== kind) return kind === "chat" ? "makes embeddings and does not chat" : "makes no embeddings";
  if (facts.images > 0 && model.acceptsImages === false) return "takes no pictures";
  const { maxOutputTokens: longest, contextTokens } = model;
  if (kind === "chat" && longest !== undefined && (facts.maxOutputTokens ?? 0) > longest)
    return `writes at most ${longest} tokens, ${facts.maxOutputTokens} are asked for`;
  if (contextTokens !== undefined && facts.leastInputTokens > contextTokens)
    return `reads at most ${contextTokens} tokens, the text has ${facts.leastInputTokens} at least`;
  return connected.provider.unfit(facts.operation, facts.document);
}
