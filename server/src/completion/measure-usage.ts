import type { Settlement } from "../ledger/ledger.ts";
import type { TokenCounter } from "../ledger/token-count.ts";
import { NO_USAGE, readWireUsage, totalTokens } from "../ledger/usage.ts";
import { ProviderError, type ProviderFault } from "../providers/provider.ts";
import { isEndedByGateway } from "./abort-reason.ts";
import type { Answer, WholeAnswer } from "./attempt.ts";
import { type CompletionRequest, inputTexts } from "./completion-request.ts";

export type MeasuredUsage = Pick<Settlement, "usage" | "usageSource">;

/** The provider's own count where it came; else what was sent and received, counted by us and marked so. */
export async function measureAnswer(
  tokenCounter: TokenCounter,
  request: CompletionRequest,
  answer: Answer | undefined,
): Promise<MeasuredUsage> {
  const exact = answer?.kind === "stream" ? answer.meter.usage : answer?.usage;
  if (exact && totalTokens(exact) > 0) return { usage: exact, usageSource: "exact" };
  const output = answer?.kind === "stream" ? answer.meter.text : answer?.kind === "whole" ? wholeTexts(answer) : [];
  return estimate(tokenCounter, request, output.join(""));
}

/** The same of an attempt that came to nothing: zero where its provider certainly produced nothing. */
export async function measureFailure(
  tokenCounter: TokenCounter,
  request: CompletionRequest,
  error: unknown,
): Promise<MeasuredUsage> {
  if (!mayHaveWorked(error)) return NOTHING_USED;
  const exact = error instanceof ProviderError ? readWireUsage(error.info.wireUsage) : undefined;
  return exact && totalTokens(exact) > 0 ? { usage: exact, usageSource: "exact" } : estimate(tokenCounter, request, "");
}

async function estimate(
  tokenCounter: TokenCounter,
  request: CompletionRequest,
  output: string,
): Promise<MeasuredUsage> {
  const messages = request.document.value["messages"];
  const [inputTokens, outputTokens] = await Promise.all([
    tokenCounter.count(inputTexts(request)),
    tokenCounter.count([output]),
  ]);
  const framing = Array.isArray(messages) ? TOKENS_PER_MESSAGE * messages.length + TOKENS_PER_REQUEST : 0;
  return { usage: { ...NO_USAGE, freshInputTokens: inputTokens + framing, outputTokens }, usageSource: "estimated" };
}

/** For when the counting itself failed: no tokenizer makes more of a request than it has bytes. */
export const mostUsed = (request: CompletionRequest): MeasuredUsage => ({
  usage: { ...NO_USAGE, freshInputTokens: request.document.bytes.length },
  usageSource: "estimated",
});

export const NOTHING_USED: MeasuredUsage = { usage: NO_USAGE, usageSource: "none" };

/** What a chat form costs around its texts: https://github.com/openai/openai-cookbook, "How to count tokens". */
const TOKENS_PER_MESSAGE = 3;
const TOKENS_PER_REQUEST = 3;

/** The request had reached the provider, and nobody knows how far it came. */
export const mayHaveWorked = (error: unknown): boolean =>
  isEndedByGateway(error) ||
  (error instanceof ProviderError && MAY_HAVE_WORKED.has(error.fault) && !isRefusal(error.info.status));

/** Whoever refuses has not worked, however little the refusal says. */
const isRefusal = (status: number | undefined): boolean => status !== undefined && (status < 200 || status >= 300);

const MAY_HAVE_WORKED: ReadonlySet<ProviderFault> = new Set<ProviderFault>([
  "first-token-timeout",
  "idle-timeout",
  "attempt-timeout",
  "stream-broken",
  "unusable",
]);

function wholeTexts(answer: WholeAnswer): string[] {
  const choices = answer.value["choices"];
  if (!Array.isArray(choices)) return [];
  return (choices as ({ message?: { content?: unknown; tool_calls?: unknown } } | null)[]).flatMap((choice) => {
    const { content, tool_calls: calls } = choice?.message ?? {};
    return [
      typeof content === "string" ? content : JSON.stringify(content ?? ""),
      calls === undefined ? "" : JSON.stringify(calls),
    ];
  });
}
