import type { Metrics } from "../../telemetry/metrics.ts";
import type { App } from "../app-type.ts";

/** `gauge` sets what is read only when somebody looks. Prometheus' text format. Not part of the API's document: its shape is Prometheus' own. */
export function registerMetricsRoute(app: App, metrics: Metrics, gauge: () => void): void {
  app.get("/metrics", { config: { open: true }, schema: { hide: true } }, async (_request, reply) => {
    gauge();
    return reply.header("content-type", metrics.registry.contentType).send(await metrics.registry.metrics());
  });
}
