import type { Selectable } from "kysely";
import type { Clock } from "../lib/clock.ts";
import { nanoUsd } from "../lib/money.ts";
import { type Database, type SqlValue, StorageUnavailable } from "../storage/database.ts";
import type { BudgetAlertsTable } from "../storage/schema.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { BudgetAlert } from "./alert-thresholds.ts";
import { createBudgetWebhook, MAX_SENDING, type WebhookTarget } from "./budget-webhook.ts";

/**
 * Delivers the alerts that wait in the table `budget_alerts`, at least once each, by however many instances share it.
 *
 * 1. Due is a row whose `next_attempt_at_ms` has come. Whoever wins the update that moves it to the time of the next attempt sends
 *    the message; the others find nothing to do. So the next attempt is scheduled before this one begins, and a process that dies
 *    in between leaves the row to be tried again.
 * 2. A 2xx sets `delivered_at_ms` and clears `next_attempt_at_ms`. A process that dies before that sends the message again, under
 *    the same id.
 * 3. Any other end leaves the row as it is, until its last attempt, which clears `next_attempt_at_ms` alone.
 */
export interface AlertOutbox {
  /** Resolves when all that is due was tried once. Never rejects. */
  deliverDue(): Promise<void>;
  /** Cuts what is on its way; it is tried again by whoever comes next. */
  close(): Promise<void>;
}

const MAX_ATTEMPTS = 12;
/**
 * 15 s, then 2.25 times longer each time, some tenths more or less so that instances and rows do not march in step: a day and an hour
 * over all attempts. The first wait also is how long a claim holds, so it must outlast the sending.
 */
const FIRST_RETRY_MS = 15_000;
const RETRY_GROWTH = 2.25;
const JITTER = 0.1;

const retryDelayMs = (attempt: number): number =>
  Math.round(FIRST_RETRY_MS * RETRY_GROWTH ** (attempt - 1) * (1 - JITTER + 2 * JITTER * Math.random()));

const DUE = `select * from budget_alerts where next_attempt_at_ms <= ? order by next_attempt_at_ms limit ${MAX_SENDING}`;
const ROW = "budget_id = ? and window_start_ms = ? and alert = ?";
const CLAIM = `update budget_alerts set attempts = attempts + 1, next_attempt_at_ms = ? where ${ROW} and next_attempt_at_ms = ? returning attempts`;
const DELIVERED = `update budget_alerts set delivered_at_ms = ?, next_attempt_at_ms = null where ${ROW}`;
/** Not when another instance has begun one more attempt by now. */
const GIVEN_UP = `update budget_alerts set next_attempt_at_ms = null where ${ROW} and attempts = ?`;

type AlertRow = Selectable<BudgetAlertsTable>;

export function createAlertOutbox(options: {
  readonly database: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, "budgetWebhookAttempts">;
  readonly webhook: WebhookTarget;
}): AlertOutbox {
  const { database, clock, logger, metrics } = options;
  const webhook = createBudgetWebhook(options.webhook);
  let running: Promise<void> | undefined;
  let asked = false;
  let closing = false;

  const write = async (sql: string, params: readonly SqlValue[]): Promise<number> => {
    const [rows] = await database.transact([{ sql, params }]);
    return rows!.length;
  };

  async function deliver(row: AlertRow): Promise<void> {
    const place = [row.budget_id, row.window_start_ms, row.alert];
    const attempt = Number(row.attempts) + 1;
    const now = clock.now();
    const nextAttemptAtMs = now + retryDelayMs(attempt);
    if ((await write(CLAIM, [nextAttemptAtMs, ...place, row.next_attempt_at_ms])) === 0) return;
    const delivery = await webhook.send(alertFrom(row), now);
    if (delivery.kind === "delivered") {
      metrics.budgetWebhookAttempts.inc({ outcome: "delivered" });
      await write(DELIVERED, [clock.now(), ...place]);
      return;
    }
    // Cut by us, so it says nothing about the receiver.
    if (closing) return;
    const line = { alert_id: row.alert_id, alert: row.alert, key_id: row.scope_id, attempt, reason: delivery.reason };
    if (attempt < MAX_ATTEMPTS) {
      metrics.budgetWebhookAttempts.inc({ outcome: "failed" });
      const nextAttemptAt = new Date(nextAttemptAtMs).toISOString();
      logger.warn({ ...line, next_attempt_at: nextAttemptAt }, "the budget webhook did not take an alert");
      return;
    }
    metrics.budgetWebhookAttempts.inc({ outcome: "given_up" });
    logger.error(line, "an alert for the budget webhook was given up");
    await write(GIVEN_UP, [...place, attempt]);
  }

  async function deliverAll(): Promise<void> {
    for (;;) {
      if (closing) return;
      const due = (await database.all({ sql: DUE, params: [clock.now()] })) as unknown as AlertRow[];
      if (due.length === 0) return;
      const results = await Promise.allSettled(due.map(deliver));
      const broken = results.find((result) => result.status === "rejected");
      if (broken) throw broken.reason;
    }
  }

  async function run(): Promise<void> {
    while (asked) {
      asked = false;
      try {
        await deliverAll();
      } catch (error) {
        // An outage of the database is told by the ledger, and what is due stays due.
        if (!(error instanceof StorageUnavailable))
          logger.error({ error }, "alerts could not be taken from the outbox");
      }
    }
    running = undefined;
  }

  return {
    deliverDue() {
      asked = true;
      running ??= run();
      return running;
    },
    async close() {
      closing = true;
      await webhook.close();
      await running;
    },
  };
}

const alertFrom = (row: AlertRow): BudgetAlert => ({
  alertId: row.alert_id,
  alert: row.alert,
  createdAtMs: Number(row.created_at_ms),
  budgetId: row.budget_id,
  scopeId: row.scope_id,
  window: row.window_kind,
  windowStartMs: Number(row.window_start_ms),
  windowEndMs: Number(row.window_end_ms),
  spent: nanoUsd(row.spent_nano_usd),
  softCap: row.soft_cap_nano_usd === null ? undefined : nanoUsd(row.soft_cap_nano_usd),
  hardCap: row.hard_cap_nano_usd === null ? undefined : nanoUsd(row.hard_cap_nano_usd),
});
