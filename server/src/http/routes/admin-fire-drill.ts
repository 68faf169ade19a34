import { type ActiveFault, faultRuleSchema, faultSchema, VENDORS } from "@brikk/simulator/faults";
import { z } from "zod";
import type { AuditTrail } from "../../audit/audit-trail.ts";
import { BrikkError } from "../../errors.ts";
import { adminActor } from "../actor-of.ts";
import type { App } from "../app-type.ts";
import { type FireDrill, presetNames, presets } from "../fire-drill.ts";
import { adminRefusals, bodyRefusals, refusal, refusals } from "../schemas/error.ts";

const fault = faultSchema.meta({
  id: "Fault",
  description: "What goes wrong, as the simulator's README lists it.",
  example: { kind: "cut", afterTokens: 20 },
});

const activeFault = z
  .object({
    id: z.string(),
    vendor: faultRuleSchema.shape.vendor,
    share: z.number().describe("The part of the requests it strikes."),
    count: z.int().nullable().describe("How often it may strike; without end when null."),
    struck: z.int().describe("How often it did."),
    fault,
  })
  .meta({
    id: "ActiveFault",
    example: {
      id: "fault-1",
      vendor: "openai",
      share: 1,
      count: null,
      struck: 3,
      fault: { kind: "status", status: 500 },
    },
  });

const faultsInForce = z
  .object({ faults: z.array(activeFault).describe("In the order in which they are tried on a request.") })
  .meta({ id: "ActiveFaults", example: { faults: [] } });

const fireDrillStanding = z
  .object({
    available: z.boolean(),
    reason: z.string().nullable().describe("Why it is not available."),
    vendors: z.array(z.string()),
    faults: z.array(activeFault),
    presets: z.array(z.object({ name: z.string(), description: z.string(), fault })),
  })
  .meta({
    id: "FireDrill",
    example: {
      available: true,
      reason: null,
      vendors: ["openai", "mistral"],
      faults: [],
      presets: [{ name: "errors", ...presets.errors }],
    },
  });

const newFault = z
  .strictObject({
    vendor: faultRuleSchema.shape.vendor.describe("`*` is every one."),
    preset: z.enum(presetNames).optional(),
    fault: fault.optional(),
    share: faultRuleSchema.shape.share,
    count: faultRuleSchema.shape.count,
  })
  .refine((body) => (body.preset === undefined) !== (body.fault === undefined), "give either a preset or a fault")
  .meta({ id: "NewFault", example: { vendor: "openai", preset: "errors", share: 0.5 } });

const REAL_PROVIDERS =
  "Real providers serve here, and faults can only be put on simulated ones. A server that is started without any provider's key serves simulated ones.";

/** Practice for a bad day: faults on the simulated providers, to see the breakers and the fallback at work. */
export function registerAdminFireDrillRoutes(
  app: App,
  options: { fireDrill: () => FireDrill | undefined; audit: AuditTrail },
): void {
  const { audit } = options;
  const common = { tags: ["Administration"], security: [{ adminToken: [] }] };
  const unavailable = { 409: refusal("Real providers serve here; there is nothing to drill on.") };

  function running(): FireDrill {
    const fireDrill = options.fireDrill();
    if (fireDrill === undefined) throw new BrikkError("fire_drill_unavailable", REAL_PROVIDERS);
    return fireDrill;
  }

  app.get(
    "/admin/fire-drill",
    {
      config: { admin: true },
      schema: {
        operationId: "getFireDrill",
        summary: "Fire drill",
        description:
          "Whether faults can be put on the providers, which are in force, how often each struck, and the presets.",
        ...common,
        response: { 200: fireDrillStanding.describe("The fire drill."), ...adminRefusals },
      },
    },
    async () => {
      const fireDrill = options.fireDrill();
      return {
        available: fireDrill !== undefined,
        reason: fireDrill === undefined ? REAL_PROVIDERS : null,
        vendors: [...VENDORS],
        faults: fireDrill?.list().map(shownFault) ?? [],
        presets: presetNames.map((name) => ({ name, ...presets[name] })),
      };
    },
  );

  app.post(
    "/admin/fire-drill/faults",
    {
      config: { admin: true },
      schema: {
        operationId: "startFault",
        summary: "Put a fault on a provider",
        description:
          "Puts a preset or a fault of your own on a simulated provider, behind those in force; the first that applies to a request decides it. One whose count is used up is gone.",
        ...common,
        body: newFault,
        response: {
          201: activeFault.describe("The fault is in force."),
          ...adminRefusals,
          ...bodyRefusals,
          ...unavailable,
          400: refusals[400],
        },
      },
    },
    async (request, reply) => {
      const drill = running();
      const { preset, fault: given, ...rule } = request.body;
      const chosen = preset === undefined ? given : presets[preset].fault;
      if (chosen === undefined) throw new BrikkError("invalid_request", "Give either a preset or a fault.");
      // Every act is put on record before it is done.
      await audit.record({
        actor: adminActor(request),
        action: "fire_drill.start",
        target: rule.vendor,
        after: { ...rule, preset, fault: chosen },
      });
      const active = drill.set({ ...rule, fault: chosen });
      return reply.code(201).send(shownFault(active));
    },
  );

  app.delete(
    "/admin/fire-drill/faults/:id",
    {
      config: { admin: true },
      schema: {
        operationId: "stopFault",
        summary: "Take a fault away",
        description: "Takes one fault away; the answer has those that are left.",
        ...common,
        params: z.object({ id: z.string().meta({ example: "fault-1" }) }),
        response: {
          200: faultsInForce.describe("Those that are left."),
          ...adminRefusals,
          ...unavailable,
          404: refusal("No fault in force has this id."),
        },
      },
    },
    async (request, _reply) => {
      const drill = running();
      const { id } = request.params;
      const active = drill.list().find((one) => one.id === id);
      if (active === undefined)
        throw new BrikkError("not_found", `No fault in force is called ${id}.`, { param: "id" });
      await audit.record({
        actor: adminActor(request),
        action: "fire_drill.stop",
        target: active.vendor,
        before: { ...shownFault(active) },
      });
      drill.unset(id);
      return { faults: drill.list().map(shownFault) };
    },
  );

  app.delete(
    "/admin/fire-drill/faults",
    {
      config: { admin: true },
      schema: {
        operationId: "stopAllFaults",
        summary: "Take all faults away",
        description: "Ends the fire drill: every fault is taken away.",
        ...common,
        response: { 200: faultsInForce.describe("None is left."), ...adminRefusals, ...unavailable },
      },
    },
    async (request, _reply) => {
      const drill = running();
      await audit.record({
        actor: adminActor(request),
        action: "fire_drill.stop_all",
        before: { faults: drill.list().map(shownFault) },
      });
      drill.clear();
      return { faults: [] };
    },
  );
}

const shownFault = ({ id, vendor, share, count, struck, fault: active }: ActiveFault): z.infer<typeof activeFault> => ({
  id,
  vendor,
  share: share ?? 1,
  count: count ?? null,
  struck,
  fault: active,
});
