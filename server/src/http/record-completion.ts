import type { CompletionRecord } from "../completion/run-completion.ts";
import { formatUsd, usdNumber } from "../lib/money.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";

/** One structured line and a handful of metrics per request, after its settlement. */
export function createRecorder(logger: Logger, metrics: Metrics): (record: CompletionRecord) => void {
  return (record) => {
    const provider = record.served?.model.provider ?? "none";
    const id = record.served?.model.id ?? "none";
    const model = metrics.modelLabel(id);
    const { usage } = record;
    metrics.requests.inc({
      operation: record.operation,
      provider,
      model,
      outcome: record.outcome,
      stream: String(record.stream),
    });
    metrics.duration.observe(
      { operation: record.operation, provider, stream: String(record.stream) },
      record.durationMs / 1_000,
    );
    if (record.stream && record.timeToFirstTokenMs !== undefined)
      metrics.firstToken.observe({ provider, model }, record.timeToFirstTokenMs / 1_000);
    if (record.attempts) metrics.attempts.inc({ provider, model }, record.attempts);
    // Those of the process itself are refused before they come here.
    if (record.errorCode === "overloaded") metrics.overloadRefusals.inc({ reason: "provider" });
    if (record.fallback) metrics.fallbacks.inc({ provider, model });
    if (record.receipt) metrics.costUsd.inc({ provider, model }, usdNumber(record.receipt.cost));
    if (usage) {
      for (const [kind, tokens] of [
        ["input_fresh", usage.freshInputTokens],
        ["input_cached", usage.cachedInputTokens],
        ["input_cache_write", usage.cacheWriteTokens],
        ["input_audio", usage.audioInputTokens],
        ["output", usage.outputTokens],
        ["output_audio", usage.audioOutputTokens],
      ] as const) {
        if (tokens > 0) metrics.tokens.inc({ provider, model, kind }, tokens);
      }
    }
    const line = {
      request_id: record.requestId,
      trace_id: record.traceId,
      key_id: record.keyId,
      operation: record.operation,
      requested_model: record.requestedModel,
      provider,
      model: id,
      simulated: record.served?.simulated,
      outcome: record.outcome,
      status: record.status,
      error_code: record.errorCode,
      stream: record.stream,
      input_tokens:
        usage && usage.freshInputTokens + usage.cachedInputTokens + usage.cacheWriteTokens + usage.audioInputTokens,
      output_tokens: usage && usage.outputTokens + usage.audioOutputTokens,
      usage: record.usageSource,
      cost_usd: record.receipt && formatUsd(record.receipt.cost),
      attempts: record.attempts,
      // One that went well is told by the rest of the line.
      attempt_log: record.history?.some(({ fault }) => fault !== undefined) ? record.history : undefined,
      fallback: record.fallback,
      rescue: record.rescue,
      route: record.routeReason,
      first_token_ms: record.timeToFirstTokenMs,
      duration_ms: Math.round(record.durationMs),
    };
    if (record.error === undefined) logger.info(line, "completion");
    else if (record.status >= 500) logger.error({ ...line, error: record.error }, "completion");
    else logger.warn({ ...line, error: record.error }, "completion");
  };
}
