import type { z } from "zod";
import { ANONYMOUS_KEY_ID } from "../../access/api-key.ts";
import { presentedSecret } from "../../access/authenticate.ts";
import { rotationFields } from "../../access/key-fields.ts";
import type { KeyStore } from "../../access/key-store.ts";
import { BrikkError } from "../../errors.ts";
import { keyActor } from "../actor-of.ts";
import type { App } from "../app-type.ts";
import { idempotencyHeader, idempotencyOf, markReplay } from "../idempotency-key.ts";
import { bodyRefusals, refusal, refusals } from "../schemas/error.ts";
import { rotationAnswer, rotationRequest } from "../schemas/rotation.ts";

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
        headers: idempotencyHeader,
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
      markReplay(reply, rotation.replayed);
      return rotationFields(rotation);
    },
  );
}
