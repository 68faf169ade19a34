import type { TestContext } from "node:test";
import { Writable } from "node:stream";
import { createChainWriter, type ChainWriter } from "../../src/audit/chain-writer.ts";
import { createHeadSeals } from "../../src/audit/head-seals.ts";
import type { AuditedRequest } from "../../src/audit/audit-trail.ts";
import { openAuditTrail, type AuditTrailOptions, type OpenAuditTrail } from "../../src/audit/open-audit-trail.ts";
import { type TrailVerification, verifyTrail, type VerifyTrailOptions } from "../../src/audit/verify-trail.ts";
import { type FernetKeys, newFernetKey, parseFernetKeys } from "../../src/lib/fernet.ts";
import type { Database, Row } from "../../src/storage/database.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";
import { createTestClock } from "../lib/test-clock.ts";

export const newKeys = (): FernetKeys => parseFernetKeys(newFernetKey())!;
export const keys = newKeys();
const seals = createHeadSeals(() => keys);

export const chainOn = (database: Database, more: Partial<Parameters<typeof createChainWriter>[0]> = {}): ChainWriter =>
  createChainWriter({ database, clock: createTestClock(), seals, ...more });

export const verified = (database: Database, more: Partial<VerifyTrailOptions> = {}): Promise<TrailVerification> =>
  verifyTrail({ database, seals, ...more });

/** What is wrong, by rule and entry. */
export const faultsOf = async (database: Database, more: Partial<VerifyTrailOptions> = {}): Promise<string[]> =>
  (await verified(database, more)).faults.map(({ rule, sequence }) => `${rule} ${sequence}`);

export const entriesOf = (database: Database): Promise<Row[]> =>
  database.all({ sql: "select * from audit_entries order by sequence", params: [] });

let requests = 0;
export const requestOf = (more: Partial<AuditedRequest> = {}): AuditedRequest => ({
  kind: "request",
  actor: { kind: "key", keyId: "bk_Example00001", ip: "203.0.113.7", requestId: `req_${++requests}` },
  method: "POST",
  route: "/v1/chat/completions",
  status: 200,
  ...more,
});

/** From outside, as who has the password of the database can: the guards are taken away first. */
export async function unguarded(database: Database): Promise<void> {
  for (const name of [
    "audit_entries_stay",
    "audit_entries_leave_in_order",
    "audit_marks_move_on",
    "audit_marks_stay",
  ]) {
    const table = name.startsWith("audit_entries") ? "audit_entries" : "audit_marks";
    await database.all({
      sql: `drop trigger ${name}${database.dialect === "postgres" ? ` on ${table}` : ""}`,
      params: [],
    });
  }
}

export interface TrailUnderTest {
  readonly trail: OpenAuditTrail;
  readonly metrics: Metrics;
  readonly lines: string[];
}

/** Closed with the test, unless the test closes it. */
export async function openTestTrail(
  t: TestContext,
  database: Database,
  more: Partial<AuditTrailOptions> = {},
): Promise<TrailUnderTest> {
  const lines: string[] = [];
  const metrics = createMetrics();
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const trail = await openAuditTrail({
    database,
    clock: createTestClock(),
    encryptionKeys: keys,
    version: "0.0.0-test",
    retentionDays: undefined,
    logger: createLogger({ level: "info", pretty: false, destination }),
    metrics,
    ...more,
  });
  let closed: Promise<void> | undefined;
  const once: OpenAuditTrail = { ...trail, close: () => (closed ??= trail.close()) };
  t.after(() => once.close());
  return { trail: once, metrics, lines };
}

export const countOf = async (metric: Metrics["auditDropped"] | Metrics["auditQueue"]): Promise<number> =>
  (await metric.get()).values.reduce((sum, { value }) => sum + value, 0);
