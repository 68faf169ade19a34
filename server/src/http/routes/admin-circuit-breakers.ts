import { z } from "zod";
import type { ProviderHealth } from "../../completion/provider-health.ts";
import type { AuditTrail } from "../../audit/audit-trail.ts";
import { BrikkError } from "../../errors.ts";
import type { Clock } from "../../lib/clock.ts";
import type { ProviderSet } from "../../providers/provider-set.ts";
import { adminActor } from "../actor-of.ts";
import type { App } from "../app-type.ts";
import { circuitBreaker, exampleBreaker, shownBreaker } from "../schemas/circuit-breaker.ts";
import { adminRefusals, bodyRefusals, refusals } from "../schemas/error.ts";

/** For who knows that a provider is well again before its breaker does. */
export function registerAdminCircuitBreakerRoutes(
  app: App,
  options: { health: ProviderHealth; providers: ProviderSet; clock: Clock; audit: AuditTrail },
): void {
  const { health, providers, clock, audit } = options;
  app.post(
    "/admin/circuit-breakers/reset",
    {
      config: { admin: true },
      schema: {
        operationId: "resetCircuitBreakers",
        summary: "Reset circuit breakers",
        description:
          "Closes circuit breakers and ends cool-downs by hand: all, those of a provider, or that of one model. The next request asks the provider again.",
        tags: ["Administration"],
        security: [{ adminToken: [] }],
        body: z
          .strictObject({
            provider: z.string().min(1).max(200).optional(),
            model: z.string().min(1).max(200).optional(),
          })
          .nullable()
          .describe("Nothing, or `{}`, is all of them."),
        response: {
          200: z
            .object({
              reset: z.int().describe("How many were not closed, or were cooling down, and are so no longer."),
              breakers: z.array(circuitBreaker).describe("How all of them stand now."),
            })
            .meta({
              id: "CircuitBreakersReset",
              example: {
                reset: 1,
                breakers: [{ ...exampleBreaker, state: "closed", consecutive_failures: 0, next_probe_at: null }],
              },
            })
            .describe("How many were reset."),
          ...adminRefusals,
          ...bodyRefusals,
          400: refusals[400],
        },
      },
    },
    async (request, _reply) => {
      const { provider, model } = request.body ?? {};
      if (provider !== undefined && !providers.known.includes(provider))
        throw new BrikkError(
          "invalid_request",
          `There is no provider ${provider}; there are ${providers.known.join(", ")}.`,
          {
            param: "provider",
          },
        );
      // Before it is done: nothing is done that is not on record.
      await audit.record({
        actor: adminActor(request),
        action: "circuit_breaker.reset",
        ...(provider !== undefined && { target: provider }),
        ...(model !== undefined && { after: { model } }),
      });
      const reset = health.reset(provider, model);
      return { reset, breakers: health.targets().map((target) => shownBreaker(target, clock.now())) };
    },
  );
}
