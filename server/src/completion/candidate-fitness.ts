import type { CatalogueModel } from "../ledger/model-catalogue.ts";
import type { Operation } from "../providers/provider.ts";
import type { Candidate } from "./model-router.ts";
import type { RequestFacts } from "./request-facts.ts";

/**
 * Why the model does something else altogether; undefined when it does what is asked. It is not even asked: what it would answer has
 * no price, and a vendor may refuse it as it refuses credentials, which would count against the model with everybody else.
 */
export const wrongKind = ({ kind }: CatalogueModel, operation: Operation): string | undefined => {
  if (operation === "chat") return kind === "chat" ? undefined : "makes embeddings and does not chat";
  return kind === "embedding" ? undefined : "makes no embeddings";
};

/**
 * Why the candidate would certainly refuse the request or answer less than was asked, found before anybody is called;
 * undefined when nothing speaks against it. What is not known of a model never does.
 */
export function unfitness({ connected, model }: Candidate, facts: RequestFacts): string | undefined {
  if (facts.images > 0 && model.acceptsImages === false) return "takes no pictures";
  const { maxOutputTokens: longest, contextTokens } = model;
  if (facts.operation === "chat" && longest !== undefined && (facts.maxOutputTokens ?? 0) > longest)
    return `writes at most ${longest} tokens, ${facts.maxOutputTokens} are asked for`;
  if (contextTokens !== undefined && facts.leastInputTokens > contextTokens)
    return `reads at most ${contextTokens} tokens, the text has ${facts.leastInputTokens} at least`;
  return connected.provider.unfit(facts.operation, facts.document);
}
