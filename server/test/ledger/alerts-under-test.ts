import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import type { WindowStanding } from "../../src/ledger/alert-thresholds.ts";
import { type BudgetAlerts, createBudgetAlerts } from "../../src/ledger/budget-alerts.ts";
import type { WebhookTarget } from "../../src/ledger/budget-webhook.ts";
import type { Clock } from "../../src/lib/clock.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import type { Database, Row, Statement } from "../../src/storage/database.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";

export const DAY_MS = 86_400_000;
export const MIDNIGHT = Date.UTC(2026, 10, 23);
export const SECRET = Buffer.alloc(32, 0x5a);

/** A key's day with a soft cap of 6 and a hard cap of 10 nano-USD, so that 5, 6, 8 and 10 pass a threshold each. */
export function dayStanding(spent: number | bigint, more: Partial<WindowStanding> = {}): WindowStanding {
  const scopeId = more.scopeId ?? "bk_000000000001";
  const window = more.window ?? "day";
  return {
    budgetId: `${scopeId}/${window}`,
    scopeId,
    window,
    windowStartMs: MIDNIGHT,
    windowEndMs: MIDNIGHT + DAY_MS,
    softCap: nanoUsd(6n),
    hardCap: nanoUsd(10n),
    ...more,
    spent: nanoUsd(BigInt(spent)),
  };
}

export interface AlertsUnderTest extends BudgetAlerts {
  /** Every line of the log, as it was written. */
  readonly log: readonly string[];
  /** `alert key` of the log's lines about a threshold, in their order. */
  announced(): string[];
  /** The lines with these words in their message. */
  linesWith(words: string): Record<string, unknown>[];
  readonly metrics: Metrics;
}

/** One instance's alerts with its real log and metrics; closed with the test. */
export function startAlerts(
  t: TestContext,
  options: { readonly database: Database; readonly clock: Clock; readonly webhook?: WebhookTarget },
): AlertsUnderTest {
  const log: string[] = [];
  const metrics = createMetrics();
  const logger = createLogger({ level: "trace", pretty: false, destination: { write: (line) => void log.push(line) } });
  const alerts = createBudgetAlerts({ webhook: undefined, ...options, logger, metrics });
  t.after(() => alerts.close());
  const parsed = (): Record<string, unknown>[] => log.map((line) => JSON.parse(line) as Record<string, unknown>);
  return {
    ...alerts,
    log,
    metrics,
    announced: () =>
      parsed()
        .filter((line) => line["spent_usd"] !== undefined)
        .map((line) => `${String(line["alert"])} ${String(line["key_id"])}`),
    linesWith: (words) => parsed().filter((line) => String(line["msg"]).includes(words)),
  };
}

export interface Message {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface Receiver {
  readonly url: string;
  readonly target: WebhookTarget;
  readonly messages: readonly Message[];
  /** What it does with a message from now on; at first it answers 204. */
  answer: (response: ServerResponse, message: Message) => void;
  /** Ends it; nobody listens on its port then. */
  stop(): Promise<void>;
}

/** A real HTTP server that takes alerts. */
export async function startReceiver(t: TestContext): Promise<Receiver> {
  const messages: Message[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => {
      const message = { path: request.url ?? "", headers: request.headers, body };
      messages.push(message);
      receiver.answer(response, message);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  t.after(stop);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks/budget`;
  const receiver: Receiver = {
    url,
    target: { url, secrets: [SECRET], allowPrivateAddresses: true },
    messages,
    answer: (response) => void response.writeHead(204).end(),
    stop,
  };
  return receiver;
}

/** A real database whose calls pass through the test's hands. */
export function watched(
  database: Database,
  around: <Result>(go: () => Promise<Result>, statements: readonly Statement[]) => Promise<Result>,
): Database {
  return {
    dialect: database.dialect,
    query: database.query,
    transact: (statements) => around(() => database.transact(statements), statements),
    read: (statements) => around(() => database.read(statements), statements),
    all: (statement) => around(() => database.all(statement), [statement]),
    close: () => database.close(),
  };
}

export const alertRows = (database: Database): Promise<Row[]> =>
  database.all({ sql: "select * from budget_alerts order by created_at_ms, alert_id", params: [] });

/** Turns of the event loop until it is so; what it waits for is under way and not on a timer. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setImmediate(resolve));
}
