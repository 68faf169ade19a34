import { z } from "zod";
import { ANONYMOUS_KEY_ID } from "../../access/api-key.ts";
import { presentedSecret } from "../../access/authenticate.ts";
import type { KeyStore } from "../../access/key-store.ts";
import { BrikkError } from "../../errors.ts";
import { keyActor } from "../actor-of.ts";
import type { App } from "../app-type.ts";
import { idempotencyOf } from "../idempotency-key.ts";
import { bodyRefusals, refusal, refusals } from "../schemas/error.ts";
import { rotationAnswer, shownRotation } from "../schemas/rotation.ts";

const LONGEST_GRACE_SECONDS = 604_800;

const rotationRequest = z
  .strictObject({
    grace_period_seconds: z
      .int()
      .min(0)
      .max(LONGEST_GRACE_SECONDS)
      .default(0)
      .describe("How long the old secret is still accepted; 7 days at most. With 0 it ends at once."),
  })
  .meta({ id: "RotationRequest", example: { grace_period_seconds: 3_600 } });

/** A caller gives its own key a new secret. */
export function registerRotateKeyRoute(app: App, { keyStore }: { readonly keyStore: KeyStore }): void {
  app.post(
    "/keys/rotate",
    {
      config: { repeatsRotation: true },
      schema: {
        operationId: "rotateMyKey",
        summary: "A new secret for this key",
        description:
          "Replaces the secret that the request comes with, which must be the key's newest; caps, limits and usage are the key's and go on. In the grace period both secrets are accepted. An older secret that is still in its grace ends at once. Send an Idempotency-Key (a new UUID for each rotation): an answer that was lost comes again when the request is repeated with it, within 24 hours with a secret that is accepted and within 10 minutes with the replaced one that has ended.",
        tags: ["Account"],
        headers: z.looseObject({
          "idempotency-key": z
            .string()
            .optional()
            .describe(
              "1 to 255 visible ASCII characters. A repeat gets the same answer, with Idempotent-Replayed: true.",
            ),
        }),
        body: rotationRequest.nullish(),
        response: {
          200: rotationAnswer.describe("The new secret."),
          ...refusals,
          ...bodyRefusals,
          409: refusal("The secret was replaced already and is in its grace; only the newest can rotate the key."),
          422: refusal("The Idempotency-Key was sent before, with another request."),
        },
      },
    },
    async (request, reply): Promise<z.infer<typeof rotationAnswer>> => {
      const { key } = request;
      const secret = presentedSecret(request.headers);
      if (key.id === ANONYMOUS_KEY_ID || secret === undefined)
        throw new BrikkError(
          "missing_api_key",
          "Only a key can be rotated, and no key was sent: callers without one share the anonymous key, which has no secret. Send the key that is to be rotated.",
        );
      const graceSeconds = request.body?.grace_period_seconds ?? 0;
      const rotation = await keyStore.rotate(
        key.id,
        { graceMs: graceSeconds * 1_000, replaces: secret },
        keyActor(request),
        idempotencyOf(request, key.id, { graceSeconds }),
      );
      if (rotation === undefined) throw new BrikkError("invalid_api_key", `The key ${key.id} is not there any more.`);
      reply.header("cache-control", "no-store");
      if (rotation.replayed) reply.header("idempotent-replayed", "true");
      return shownRotation(rotation);
    },
  );
}
