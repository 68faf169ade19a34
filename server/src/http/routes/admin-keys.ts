import { z } from "zod";
import { ANONYMOUS_KEY_ID, type ApiKey } from "../../access/api-key.ts";
import { changedKey, faultIn, type KeyChanges, type KeyFault, unchangeable } from "../../access/key-changes.ts";
import { type KeyDefaults, keyFields, listedKeyFields, rotationFields, versionOf } from "../../access/key-fields.ts";
import type { KeyPosition, ListedKey } from "../../access/key-list.ts";
import type { KeyStore, NewKey } from "../../access/key-store.ts";
import { looksLikeSecret } from "../../access/secret.ts";
import { BrikkError } from "../../errors.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Database } from "../../storage/database.ts";
import { adminActor } from "../actor-of.ts";
import type { App } from "../app-type.ts";
import { cursorOver } from "../cursor.ts";
import { idempotencyHeader, idempotencyOf, markReplay } from "../idempotency-key.ts";
import { etagOf, expectedRevision, readIfMatch } from "../if-match.ts";
import {
  administeredKey,
  createdKey,
  keyChangesIn,
  keyId,
  keyList,
  keyPatch,
  newKey,
  newSigningSecretAnswer,
} from "../schemas/admin-key.ts";
import { adminRefusals, bodyRefusals, refusal, refusals } from "../schemas/error.ts";
import { usageAnswer } from "../schemas/key-usage.ts";
import { rotationAnswer, rotationRequest } from "../schemas/rotation.ts";
import { answerKeyUsage } from "../usage-answers.ts";

/** All keys, for who administers them. */
export function registerAdminKeyRoutes(
  app: App,
  options: { keyStore: KeyStore; ledger: Ledger; database: Database; clock: Clock; defaults: KeyDefaults },
): void {
  const { keyStore, ledger, database, clock, defaults } = options;
  const common = { tags: ["Administration"], security: [{ adminToken: [] }] };
  const params = z.object({ id: keyId });
  const always = { ...adminRefusals, 400: refusals[400], 503: refusals[503] };
  const ofOne = { ...always, 404: refusal("There is no key of this id.") };
  const once = {
    422: refusal("The Idempotency-Key was sent before, with another request."),
  };

  const shown = (listed: ListedKey) => listedKeyFields(listed, defaults, clock.now());

  async function found(id: string): Promise<ListedKey> {
    const listed = await keyStore.find(id);
    if (listed === undefined) throw noSuchKey(id);
    return listed;
  }

  function chosen(before: NewKey, changes: KeyChanges): NewKey {
    const choice = changedKey(before, changes, defaults, clock.now());
    if (choice.kind === "faulty") throw refusedFor(choice);
    return choice.wanted;
  }

  app.post(
    "/admin/keys",
    {
      config: { admin: true },
      schema: {
        operationId: "createKey",
        summary: "Make a key",
        description:
          "Makes a key; its secrets are in this answer and in no other. Without caps and limits of its own it follows the server's settings.",
        ...common,
        headers: idempotencyHeader,
        body: newKey,
        response: { 201: createdKey.describe("The key, with its secrets."), ...always, ...bodyRefusals, ...once },
      },
    },
    async (request, reply) => {
      const changes = keyChangesIn(request.body, request.document);
      const fault = faultIn(changes);
      if (fault !== undefined) throw refusedFor(fault);
      const wanted = chosen({ name: request.body.name }, changes);
      const { key, secret, signingSecret, replayed } = await keyStore.create(
        wanted,
        adminActor(request),
        idempotencyOf(request, "admin", request.body),
      );
      markReplay(reply, replayed);
      return reply
        .code(201)
        .header("etag", etagOf(key))
        .header("location", `/admin/keys/${key.id}`)
        .send({
          id: key.id,
          key_id: key.id,
          key: secret,
          ...(signingSecret !== undefined && { signing_secret: signingSecret }),
          ...keyFields(key, defaults),
          version: versionOf(key),
        });
    },
  );

  app.get(
    "/admin/keys",
    {
      config: { admin: true },
      schema: {
        operationId: "listKeys",
        summary: "All keys",
        description:
          "Oldest first, a page at a time; the anonymous key, which callers without one share, is among them. Keys that are made while you read come at the end.",
        ...common,
        querystring: z.strictObject({
          limit: z.coerce.number().int().min(1).max(200).default(50).describe("Keys on a page."),
          cursor: z.string().min(1).max(100).optional().describe("The `next_cursor` of the page before."),
          status: z.enum(["active", "expired", "revoked"]).optional(),
          q: z
            .string()
            .trim()
            .min(1)
            .max(100)
            .regex(/^\P{Cc}*$/u, "must have no control characters")
            .optional()
            .describe("Only keys whose name contains this, or whose id or secret's first 12 characters it is."),
        }),
        response: { 200: keyList.describe("A page of keys."), ...always },
      },
    },
    async ({ query: { limit, cursor, status, q } }) => {
      if (q !== undefined && looksLikeSecret(q) && q.length > 12)
        throw new BrikkError(
          "invalid_request",
          "q holds more of a secret than belongs in an address, where many will see it; its first 12 characters find the key.",
          { param: "q" },
        );
      const page = await keyStore.list({ after: keyCursor.read(cursor), limit, status, q });
      return { data: page.keys.map(shown), next_cursor: keyCursor.write(page.next) };
    },
  );

  app.get(
    "/admin/keys/:id",
    {
      config: { admin: true },
      schema: {
        operationId: "getKey",
        summary: "One key",
        description: "A key with its version as ETag; never a secret.",
        ...common,
        params,
        response: { 200: administeredKey.describe("The key."), ...ofOne },
      },
    },
    async (request, reply) => {
      const listed = await found(request.params.id);
      return reply.header("etag", etagOf(listed.key)).send(shown(listed));
    },
  );

  app.patch(
    "/admin/keys/:id",
    {
      config: { admin: true },
      schema: {
        operationId: "changeKey",
        summary: "Change a key",
        description:
          "Changes what the body names. If-Match names the version that the change was made on, so that of two administrators who change a key at once the second is told; running gateways obey within two seconds.",
        ...common,
        params,
        headers: z.looseObject({
          "if-match": z
            .string()
            .optional()
            .describe('The ETag that the change was made on, such as "17"; `*`: whatever there is.'),
        }),
        body: keyPatch,
        response: {
          200: administeredKey.describe("The key as it is now."),
          ...ofOne,
          ...bodyRefusals,
          412: refusal("The key was changed since; `details.current` is its version."),
          428: refusal("If-Match is missing."),
        },
      },
    },
    async (request, reply) => {
      const precondition = readIfMatch(request.headers["if-match"]);
      const changes = keyChangesIn(request.body, request.document);
      const fault = faultIn(changes);
      if (fault !== undefined) throw refusedFor(fault);
      const { id } = request.params;
      const known = await found(id);
      const expected = expectedRevision(precondition, known.key);
      const obstacle = unchangeable(known.key, known.hasSigningSecret, changes);
      if (obstacle !== undefined) throw refusedFor(obstacle);
      const key = await keyStore.update(
        id,
        (before) => {
          refuseRevoked(before);
          return chosen(before, changes);
        },
        adminActor(request),
        expected,
      );
      if (key === undefined) throw noSuchKey(id);
      return reply.header("etag", etagOf(key)).send(shown({ ...known, key }));
    },
  );

  const revoke = {
    config: { admin: true },
    schema: {
      summary: "Revoke a key",
      description:
        "Ends a key for good, here at once and on other instances within two seconds; its usage stays. Revoking it again changes nothing. The anonymous key may be revoked, and callers without a key are then refused.",
      ...common,
      params,
      response: { 200: administeredKey.describe("The key as it is now."), ...ofOne, ...bodyRefusals },
    },
  };
  const nothing = z.strictObject({}).nullable().describe("Nothing, or `{}`.");
  const revoked = async (id: string, by: ReturnType<typeof adminActor>) => {
    const revocation = await keyStore.revoke(id, by);
    if (revocation === undefined) throw noSuchKey(id);
    return { ...(await found(id)), key: revocation.key };
  };
  app.post(
    "/admin/keys/:id/revoke",
    { ...revoke, schema: { ...revoke.schema, operationId: "revokeKey", body: nothing } },
    async (request, reply) => {
      const listed = await revoked(request.params.id, adminActor(request));
      return reply.header("etag", etagOf(listed.key)).send(shown(listed));
    },
  );
  app.delete(
    "/admin/keys/:id",
    {
      ...revoke,
      schema: {
        ...revoke.schema,
        operationId: "deleteKey",
        description: "The same as `POST /admin/keys/{id}/revoke`: a key is never forgotten, as its usage hangs on it.",
      },
    },
    async (request, reply) => {
      const listed = await revoked(request.params.id, adminActor(request));
      return reply.header("etag", etagOf(listed.key)).send(shown(listed));
    },
  );

  app.post(
    "/admin/keys/:id/rotate",
    {
      config: { admin: true },
      schema: {
        operationId: "rotateKeyOf",
        summary: "Give a key a new secret",
        description:
          "The new secret is in this answer and in no other. Budgets and usage go on; the old secret works for the grace period, of at most seven days, and without one ends at once.",
        ...common,
        params,
        headers: idempotencyHeader,
        body: rotationRequest.nullable().describe("Nothing, or `{}`: no grace period."),
        response: { 200: rotationAnswer.describe("The new secret."), ...ofOne, ...bodyRefusals, ...once },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      refuseAnonymous(id, "has no secret, so that there is nothing to rotate");
      refuseRevoked((await found(id)).key);
      const graceMs = (request.body?.grace_period_seconds ?? 0) * 1_000;
      const rotation = await keyStore.rotate(
        id,
        { graceMs },
        adminActor(request),
        idempotencyOf(request, "admin", { id, graceMs }),
      );
      if (rotation === undefined) throw noSuchKey(id);
      markReplay(reply, rotation.replayed);
      return reply.header("etag", etagOf(rotation.key)).send(rotationFields(rotation));
    },
  );

  app.post(
    "/admin/keys/:id/signing-secret",
    {
      config: { admin: true },
      schema: {
        operationId: "renewSigningSecret",
        summary: "Give a key a new signing secret",
        description:
          "The new one is in this answer and in no other, and the one before ends at once. Works before signing is required, so that callers can be given it first.",
        ...common,
        params,
        body: nothing,
        response: { 200: newSigningSecretAnswer.describe("The new signing secret."), ...ofOne, ...bodyRefusals },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      refuseAnonymous(id, "is shared by callers who have no secret to sign with");
      refuseRevoked((await found(id)).key);
      const signingSecret = await keyStore.renewSigningSecret(id, adminActor(request));
      if (signingSecret === undefined) throw noSuchKey(id);
      return reply.send({ key_id: id, signing_secret: signingSecret });
    },
  );

  app.get(
    "/admin/keys/:id/usage",
    {
      config: { admin: true },
      schema: {
        operationId: "getKeyUsage",
        summary: "What a key used",
        description:
          "Cost, requests and tokens of today, this week and this month, as the key's caller sees them at `/usage/me`.",
        ...common,
        params,
        response: { 200: usageAnswer.describe("The key's usage."), ...ofOne },
      },
    },
    async ({ params: { id } }) => {
      const { key } = await found(id);
      return answerKeyUsage({ database, clock }, key, await ledger.standingNow(key));
    },
  );
}

const keyCursor = cursorOver<KeyPosition>(
  /^(\d{1,15})\.(bk_[0-9A-Za-z]{12})$/,
  ({ createdAtMs, id }) => [createdAtMs, id],
  (createdAtMs, id) => ({ createdAtMs: Number(createdAtMs), id }),
);

const noSuchKey = (id: string): BrikkError =>
  new BrikkError("not_found", `There is no key ${id} here. GET /admin/keys lists those that there are.`, {
    param: "id",
  });

const refusedFor = ({ field, fault }: KeyFault): BrikkError =>
  new BrikkError("invalid_request", `${field}: ${fault}.`, { param: field });

function refuseRevoked(key: ApiKey): void {
  if (key.state.kind === "revoked")
    throw new BrikkError(
      "invalid_request",
      `The key ${key.id} was revoked for good and cannot be changed; make a new one.`,
      {
        param: "id",
      },
    );
}

function refuseAnonymous(id: string, why: string): void {
  if (id === ANONYMOUS_KEY_ID) throw new BrikkError("invalid_request", `The anonymous key ${why}.`, { param: "id" });
}
