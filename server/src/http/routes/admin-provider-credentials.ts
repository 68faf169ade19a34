import type { FastifyReply, FastifyRequest } from "fastify";
import type { z } from "zod";
import type { AuditTrail } from "../../audit/audit-trail.ts";
import { type Config, isConfigured, type ProviderConfig } from "../../config.ts";
import type { CredentialRing } from "../../credentials/credential-ring.ts";
import {
  credentialFields,
  type CredentialStore,
  type Expectation,
  type StoredCredential,
} from "../../credentials/credential-store.ts";
import { BrikkError } from "../../errors.ts";
import { checkCredential } from "../../providers/check-credential.ts";
import type { ProviderSet } from "../../providers/provider-set.ts";
import type { Logger } from "../../telemetry/log.ts";
import { adminActor } from "../actor-of.ts";
import type { App } from "../app-type.ts";
import { readIfMatch } from "../if-match.ts";
import { adminRefusals, bodyRefusals, refusal, refusals } from "../schemas/error.ts";
import {
  byProvider,
  type CredentialSource,
  credentialTest,
  ifMatchHeader,
  newCredential,
  noBody,
  providerCredential,
  providerCredentials,
  savedCredential,
  type Verification,
} from "../schemas/provider-credential.ts";

interface Options {
  readonly config: Config;
  readonly credentials: CredentialStore;
  readonly ring: CredentialRing;
  readonly providers: ProviderSet;
  readonly settledProviders: () => readonly ProviderConfig[];
  readonly audit: AuditTrail;
  readonly logger: Logger;
}

/** Providers' credentials, kept here in the environment's place. What is stored is never given out again. */
export function registerAdminProviderCredentialRoutes(app: App, options: Options): void {
  const { config, credentials, ring, providers, settledProviders, audit, logger } = options;
  const common = { tags: ["Administration"], security: [{ adminToken: [] }] };
  const unknown = { 404: refusal("There is no such provider; the message names those there are.") };
  const conflicts = {
    412: refusal("Somebody else changed it since the revision that `If-Match` names."),
    428: refusal("One is stored, and `If-Match` does not say which was meant."),
  };

  const settled = (name: string): ProviderConfig => {
    const known = settledProviders();
    const found = known.find((provider) => provider.name === name);
    if (found) return found;
    throw new BrikkError(
      "not_found",
      `There is no provider "${name.slice(0, 64)}"; there are ${known.map((provider) => provider.name).join(", ")}.`,
      { param: "provider" },
    );
  };

  const sourceOf = (provider: ProviderConfig | undefined, isStored: boolean): CredentialSource =>
    isStored ? "stored" : provider?.apiKey === undefined ? "none" : "environment";

  const standingOf = (name: string, stored: StoredCredential | undefined): z.infer<typeof providerCredential> => {
    const provider = settledProviders().find((each) => each.name === name);
    return {
      provider: name,
      source: sourceOf(provider, stored !== undefined),
      known: provider !== undefined,
      simulated: providers.find(name)?.provider.simulated ?? false,
      readable: !ring.unreadable.includes(name),
      ...(stored ? credentialFields(stored) : { hint: null, revision: null, created_at: null, updated_at: null }),
    };
  };

  /** What was saved or removed holds here at once; should that fail, the ring's own polls bring it. */
  const takeEffect = async (): Promise<void> => {
    try {
      await ring.refresh();
    } catch (error) {
      logger.warn({ error }, "a change of provider credentials is stored, and will be known here in a moment");
    }
  };

  async function remove(
    request: FastifyRequest,
    provider: string,
    ifMatch: string | undefined,
  ): Promise<z.infer<typeof providerCredential>> {
    const removed = await credentials.remove(provider, expectationOf(ifMatch), adminActor(request));
    if (removed === undefined) {
      settled(provider);
      throw new BrikkError("not_found", `No credential of ${provider} is stored.`, { param: "provider" });
    }
    await takeEffect();
    return standingOf(provider, undefined);
  }

  async function test(request: FastifyRequest, name: string): Promise<z.infer<typeof credentialTest>> {
    const provider = settled(name);
    const [inForce] = ring.applyTo([provider]);
    if (inForce === undefined || !isConfigured(inForce))
      throw new BrikkError(
        "invalid_request",
        ring.has(name)
          ? `The credential of ${name} that is stored cannot be opened.`
          : `There is no credential of ${name} to test.`,
        { param: "provider" },
      );
    const check = await checkCredential(inForce, config);
    const source = sourceOf(provider, ring.has(name));
    await audit.record({
      actor: adminActor(request),
      action: "provider_credential.test",
      target: name,
      after: { source, outcome: check.kind },
    });
    return {
      provider: name,
      source,
      outcome: check.kind,
      fault: check.kind === "failed" ? check.fault : null,
      provider_status: check.kind === "failed" || check.kind === "refused" ? (check.status ?? null) : null,
    };
  }

  app.get(
    "/admin/provider-credentials",
    {
      config: { admin: true },
      schema: {
        operationId: "listProviderCredentials",
        summary: "Provider credentials",
        description:
          "Which credential of each provider is used, and when a stored one was changed; never the credential.",
        ...common,
        response: {
          200: providerCredentials.describe("One entry for each provider that is known or has a stored credential."),
          ...adminRefusals,
          503: refusals[503],
        },
      },
    },
    async () => {
      const stored = new Map((await credentials.list()).map((each) => [each.provider, each]));
      const names = new Set([...settledProviders().map(({ name }) => name), ...stored.keys()]);
      return { credentials: [...names].map((name) => standingOf(name, stored.get(name))) };
    },
  );

  app.put(
    "/admin/provider-credentials/:provider",
    {
      config: { admin: true },
      schema: {
        operationId: "saveProviderCredential",
        summary: "Store a provider's credential",
        description:
          "Asks the provider for its models with the credential, and stores it sealed when it is taken. It is used at once here and within two seconds on other instances. To change one that is stored, name its revision in `If-Match`.",
        ...common,
        params: byProvider,
        headers: ifMatchHeader,
        body: newCredential,
        response: {
          200: savedCredential.describe("It is stored; `ETag` has its revision."),
          ...adminRefusals,
          ...bodyRefusals,
          ...unknown,
          ...conflicts,
          400: refusals[400],
          422: refusal("The provider refused the credential; nothing was changed."),
          502: refusal("The provider could not be asked; nothing was changed. `verify: false` stores it all the same."),
          503: refusals[503],
        },
      },
    },
    async (request, reply) => {
      const provider = settled(request.params.provider);
      const expected = expectationOf(request.headers["if-match"]);
      const { api_key: credential, verify } = request.body;
      const verification: Verification = verify
        ? await verified({ ...provider, apiKey: credential }, config)
        : "skipped";
      const stored = await credentials.save(provider.name, credential, expected, adminActor(request));
      await takeEffect();
      tag(reply, stored);
      return { ...standingOf(provider.name, stored), verification };
    },
  );

  app.delete(
    "/admin/provider-credentials/:provider",
    {
      config: { admin: true },
      schema: {
        operationId: "removeProviderCredential",
        summary: "Remove a provider's stored credential",
        description:
          "The environment's holds again, where there is one. Without any provider left, requests are refused with no_provider_available, unless the simulator runs here and this is no production.",
        ...common,
        params: byProvider,
        headers: ifMatchHeader,
        response: {
          200: providerCredential.describe("What holds now."),
          ...adminRefusals,
          ...unknown,
          ...conflicts,
          400: refusals[400],
          503: refusals[503],
        },
      },
    },
    (request) => remove(request, request.params.provider, request.headers["if-match"]),
  );

  app.post(
    "/admin/provider-credentials/:provider/test",
    {
      config: { admin: true },
      schema: {
        operationId: "testProviderCredential",
        summary: "Test a provider's credential",
        description: "Asks the provider for its models with the credential that is used, which costs nothing.",
        ...common,
        params: byProvider,
        body: noBody,
        response: {
          200: credentialTest.describe("What the provider said."),
          ...adminRefusals,
          ...bodyRefusals,
          ...unknown,
          400: refusals[400],
        },
      },
    },
    (request) => test(request, request.params.provider),
  );
}

/** Throws what keeps a credential from being stored. */
async function verified(
  withCredential: ProviderConfig,
  config: Config,
): Promise<Extract<Verification, "accepted" | "inconclusive">> {
  const provider = withCredential.name;
  const check = await checkCredential(withCredential, config);
  switch (check.kind) {
    case "accepted":
    case "inconclusive":
      return check.kind;
    case "refused":
      throw new BrikkError(
        "provider_credentials_invalid",
        `${provider} does not accept this credential. Nothing was changed; paste it again, or make a new one there.`,
        { param: "api_key", details: { provider, provider_status: check.status ?? null } },
      );
    case "failed":
      throw new BrikkError(
        "provider_error",
        `${provider} could not be asked whether it accepts this credential (${check.fault}). Nothing was changed; "verify": false stores it without asking.`,
        { details: { provider, fault: check.fault, provider_status: check.status ?? null } },
      );
    default:
      return check satisfies never;
  }
}

/** Who names nothing may not overwrite anything; a version that is no revision is none that there ever was. */
function expectationOf(ifMatch: string | undefined): Expectation {
  if (ifMatch === undefined) return "none";
  const precondition = readIfMatch(ifMatch);
  if (precondition.kind === "any") return "some";
  return /^\d{1,15}$/.test(precondition.version) ? Number(precondition.version) : NO_REVISION;
}

const NO_REVISION = -1;

const tag = (reply: FastifyReply, { revision }: StoredCredential): void => void reply.header("etag", `"${revision}"`);
