import { z } from "zod";
import { ACTOR_KINDS } from "../../audit/actor.ts";
import { ENTRY_KINDS } from "../../audit/audit-entry.ts";
import { type EntryPosition, readEntries } from "../../audit/read-entries.ts";
import { readTrailEnds } from "../../audit/trail-ends.ts";
import { BrikkError } from "../../errors.ts";
import type { Database } from "../../storage/database.ts";
import type { App } from "../app-type.ts";
import { cursorOver } from "../cursor.ts";
import { adminRefusals, refusals } from "../schemas/error.ts";
import { moment, momentOf } from "../schemas/usage.ts";

const text = (most: number) => z.string().min(1).max(most).optional();

const auditQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(500).default(50).describe("Entries on a page."),
  cursor: z.string().max(100).optional().describe("The `next_cursor` of the page before."),
  from: moment.optional().describe("Only entries from this moment on (UTC)."),
  to: moment.optional().describe("Only entries before this moment."),
  kind: z.enum(ENTRY_KINDS).optional(),
  actor: z.enum(ACTOR_KINDS).optional(),
  key_id: text(100).describe("Only what this key did; acts upon a key are found by `target`."),
  target: text(200).describe("Only acts upon this key or provider."),
  action: text(100).describe("Only acts and notices whose name begins so, as with `key.`."),
  route: text(200).describe("Only requests whose route's template begins so, as with `/admin`."),
  status: z.coerce.number().int().min(100).max(599).optional(),
  code: text(100).describe("Only what was refused with this error code."),
  ip: text(100).describe("Only from this address, as the entries have it."),
  request_id: text(128),
});

const hash = z.string().describe("SHA-256, hexadecimal.");

const auditEntry = z.object({
  sequence: z.int().describe("Its place in the chain: 1, 2, 3 and so on without a gap."),
  at: z.string().describe("UTC."),
  kind: z
    .enum(ENTRY_KINDS)
    .describe("A request of a known caller, a refusal at a door, an administrator's act, or a notice of the gateway."),
  actor: z.string().describe(`Who: ${ACTOR_KINDS.join(", ")}.`),
  key_id: z.string().nullable(),
  action: z.string().nullable().describe("Of acts and notices."),
  method: z.string().nullable(),
  route: z.string().nullable().describe("The route's template, never the path."),
  target: z.string().nullable().describe("What an act was done to."),
  status: z.int().nullable().describe("The status that was sent; null where the caller left before an answer began."),
  code: z.string().nullable().describe("The error's code, of what was not served."),
  ip: z.string().nullable(),
  request_id: z.string().nullable(),
  details: z.looseObject({}).nullable().describe("Of acts: `before` and `after`, without secrets."),
  hash,
});

const example = {
  sequence: 4711,
  at: "2026-11-23T12:00:00.000Z",
  kind: "act",
  actor: "admin",
  key_id: null,
  action: "circuit_breaker.reset",
  method: null,
  route: null,
  target: "openai",
  status: null,
  code: null,
  ip: "203.0.113.7",
  request_id: "req_example",
  details: null,
  hash: "5f0c0d6c5d6d5d1c5a3c8ad4b6d0b5ce2a7be5f0b6d8f36a4e3a1cb1a2c9d7e1",
} as const;

const auditPage = z
  .object({
    entries: z.array(auditEntry).describe("Newest first."),
    next_cursor: z
      .string()
      .nullable()
      .describe(
        "Send it as `cursor` for the next page; null at the end. With a filter a page may be short or empty and still have a next one.",
      ),
  })
  .meta({ id: "AuditEntries", example: { entries: [example], next_cursor: null } });

const place = z.object({ sequence: z.int(), hash });

const auditHead = z
  .object({
    sequence: z.int().describe("How many entries were ever written."),
    hash,
    beginning: place.describe("The last entry that retention deleted; sequence 0 when it deleted none."),
  })
  .meta({
    id: "AuditHead",
    example: { sequence: 4711, hash: example.hash, beginning: { sequence: 0, hash: "0".repeat(64) } },
  });

/** The audit trail, read by administrators. Nobody writes to it here. */
export function registerAdminAuditRoutes(app: App, options: { database: Database }): void {
  const { database } = options;
  const common = { tags: ["Administration"], security: [{ adminToken: [] }] };

  app.get(
    "/admin/audit",
    {
      config: { admin: true },
      schema: {
        operationId: "listAuditEntries",
        summary: "Audit trail",
        description:
          "Who did what, newest first, a page at a time; docs/audit.md says what is on record. Noted requests are written within a second.",
        ...common,
        querystring: auditQuery,
        response: {
          200: auditPage.describe("A page of entries."),
          ...adminRefusals,
          400: refusals[400],
          503: refusals[503],
        },
      },
    },
    async ({ query }): Promise<z.infer<typeof auditPage>> => {
      const { limit, cursor, from, to, key_id: keyId, request_id: requestId, ...others } = query;
      const before = entryCursor.read(cursor);
      const fromMs = momentOf(from) ?? 0;
      const toMs = momentOf(to) ?? Number.MAX_SAFE_INTEGER;
      if (fromMs >= toMs) throw refused("from", "from must be before to, which is itself not shown.");
      const filter = { ...others, keyId, requestId };
      const page = await readEntries(database, { filter, fromMs, toMs, before, limit });
      return { entries: [...page.entries], next_cursor: entryCursor.write(page.next) };
    },
  );

  app.get(
    "/admin/audit/head",
    {
      config: { admin: true },
      schema: {
        operationId: "getAuditHead",
        summary: "Head of the audit trail",
        description:
          "The newest entry's number and hash. Kept elsewhere, and given to `audit verify --expect-head`, it proves later that nothing up to it was changed or taken away.",
        ...common,
        response: { 200: auditHead.describe("The head."), ...adminRefusals, 503: refusals[503] },
      },
    },
    async (): Promise<z.infer<typeof auditHead>> => {
      const { head, beginning } = await readTrailEnds(database);
      return { ...head, beginning };
    },
  );
}

const refused = (param: string, message: string): BrikkError => new BrikkError("invalid_request", message, { param });

const entryCursor = cursorOver<EntryPosition>(
  /^(\d{1,15})\.(\d{1,15})$/,
  ({ occurredAtMs, sequence }) => [occurredAtMs, sequence],
  (occurredAtMs, sequence) => ({ occurredAtMs: Number(occurredAtMs), sequence: Number(sequence) }),
);
