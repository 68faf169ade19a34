import { setTimeout as wait } from "node:timers/promises";
import type { Clock } from "../lib/clock.ts";
import { reach } from "../lib/fault-point.ts";
import { uuidv7 } from "../lib/ids.ts";
import { formatUsd } from "../lib/money.ts";
import { type Database, type Statement, StorageUnavailable } from "../storage/database.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { createAlertOutbox } from "./alert-outbox.ts";
import { type BudgetAlert, namesOf, passedThresholds, type WindowStanding } from "./alert-thresholds.ts";
import type { WebhookTarget } from "./budget-webhook.ts";

/**
 * Says once per budget window that its soft cap, or 50, 80 or 100 % of its hard cap, was reached: a log line, a metric and, where
 * one is set, a webhook. Once over all instances and restarts, also when the caps are changed within the window.
 *
 * 1. `observe` compares a window's standing with what is known of it in memory; nearly always that is the end.
 * 2. What is passed anew is written to the table `budget_alerts` under the window and the threshold. Of all who try, one is the
 *    row's maker: it logs and counts. The row is the webhook's outbox at the same time (alert-outbox.ts), so a message is owed from
 *    the moment in which the alert exists, whatever becomes of this process.
 * 3. While the database is away what is passed waits in memory. A process that dies with it loses nothing: the next observation
 *    of the window, by whichever process, finds the threshold passed and no row.
 */
export interface BudgetAlerts {
  /** Takes where a budget window stands after a settlement. Never throws, never waits. */
  observe(standing: WindowStanding): void;
  /** Resolves when what was observed before has been written, if the database takes it, and all that is due has been tried once. */
  deliverDue(): Promise<void>;
  /** Gives what waits a few seconds; the rest is the next process's. */
  close(): Promise<void>;
}

export interface BudgetAlertsOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, "budgetAlerts" | "budgetWebhookAttempts">;
  readonly webhook: WebhookTarget | undefined;
}

/** How late a retry of anything may be noticed, and what another process left behind. */
const POLL_MS = 5_000;
const CLOSE_MS = 3_000;
/** Settlements of a window come in for a while after its end. Forgetting one too early costs a needless write, no more. */
const KEEP_ENDED_MS = 3_600_000;
const MAX_GROUP = 100;

/** The windows that begin at one time: the thresholds of each budget that need no more writing. At most one entry per key and kind. */
interface KnownWindows {
  endMs: number;
  readonly passed: Map<string, number>;
}

export function createBudgetAlerts(options: BudgetAlertsOptions): BudgetAlerts {
  const { database, clock, logger, metrics } = options;
  const outbox = options.webhook && createAlertOutbox({ ...options, webhook: options.webhook });
  const known = new Map<number, KnownWindows>();
  const waiting = new Set<BudgetAlert>();
  let recording: Promise<void> | undefined;

  function windowsFrom({ windowStartMs, windowEndMs }: WindowStanding): KnownWindows {
    let windows = known.get(windowStartMs);
    if (windows === undefined) {
      const forgetBefore = clock.now() - KEEP_ENDED_MS;
      for (const [startMs, { endMs }] of known) if (endMs < forgetBefore) known.delete(startMs);
      known.set(windowStartMs, (windows = { endMs: windowEndMs, passed: new Map() }));
    }
    // A day, a week and a month may begin together.
    windows.endMs = Math.max(windows.endMs, windowEndMs);
    return windows;
  }

  async function commit(group: readonly BudgetAlert[]): Promise<void> {
    const statements = group.map((alert) => insertionOf(alert, outbox === undefined ? null : alert.createdAtMs));
    try {
      reach("alert-wanted");
      const results = await database.transact(statements);
      reach("alert-written");
      group.forEach((alert, index) => {
        waiting.delete(alert);
        // Another one's id: another instance, or this one before a restart, made the row and said so.
        if (results[index]![0]!["alert_id"] === alert.alertId) announce(alert);
      });
    } catch (error) {
      if (error instanceof StorageUnavailable) throw error;
      // Refused as it is, so it would be again: a fault of ours. It takes no other with it.
      if (group.length > 1) {
        for (const alert of group) await commit([alert]);
        return;
      }
      waiting.delete(group[0]!);
      logger.error({ error, ...described(group[0]!) }, "a budget alert could not be written down");
    }
  }

  function announce(alert: BudgetAlert): void {
    metrics.budgetAlerts.inc({ alert: alert.alert, window: alert.window });
    const line = described(alert);
    switch (alert.alert) {
      case "soft_cap":
        return logger.warn(line, "a budget's soft cap is reached");
      case "hard_cap_50":
        return logger.info(line, "half of a budget's hard cap is spent");
      case "hard_cap_80":
        return logger.info(line, "80 % of a budget's hard cap is spent");
      case "hard_cap_100":
        return logger.warn(line, "a budget's hard cap is reached");
      default:
        alert.alert satisfies never;
    }
  }

  async function recordWaiting(): Promise<void> {
    // One turn of the event loop gathers what a group of settlements passed, and keeps this out of their way.
    await new Promise((resolve) => setImmediate(resolve));
    try {
      while (waiting.size > 0) {
        await commit([...waiting.values().take(MAX_GROUP)].sort(byPlace));
        void outbox?.deliverDue();
      }
    } catch (error) {
      // An outage of the database is told by the ledger. What waits is tried again with the next alert or by the timer.
      if (!(error instanceof StorageUnavailable)) logger.error({ error }, "budget alerts could not be written down");
    } finally {
      recording = undefined;
    }
  }

  const record = (): Promise<void> => (recording ??= recordWaiting());

  async function deliverDue(): Promise<void> {
    if (waiting.size > 0) await record();
    await outbox?.deliverDue();
  }

  const timer = setInterval(() => void deliverDue(), POLL_MS).unref();

  return {
    observe(standing) {
      const passed = passedThresholds(standing);
      if (passed === 0) return;
      const knownPassed = known.get(standing.windowStartMs)?.passed.get(standing.budgetId) ?? 0;
      const fresh = passed & ~knownPassed;
      if (fresh === 0) return;
      windowsFrom(standing).passed.set(standing.budgetId, knownPassed | fresh);
      const createdAtMs = clock.now();
      for (const alert of namesOf(fresh))
        waiting.add({ ...standing, alert, alertId: uuidv7(createdAtMs), createdAtMs });
      void record();
    },
    deliverDue,
    async close() {
      clearInterval(timer);
      await Promise.race([deliverDue(), wait(CLOSE_MS, undefined, { ref: false })]);
      await outbox?.close();
    },
  };
}

const described = (alert: BudgetAlert): Record<string, unknown> => ({
  alert_id: alert.alertId,
  alert: alert.alert,
  key_id: alert.scopeId,
  window: alert.window,
  spent_usd: formatUsd(alert.spent),
  soft_cap_usd: alert.softCap === undefined ? undefined : formatUsd(alert.softCap),
  hard_cap_usd: alert.hardCap === undefined ? undefined : formatUsd(alert.hardCap),
  resets_at: new Date(alert.windowEndMs).toISOString(),
});

/** One order for all instances, or two groups could wait for each other's rows. */
function byPlace(one: BudgetAlert, other: BudgetAlert): number {
  const place = ({ budgetId, windowStartMs, alert }: BudgetAlert): string => `${budgetId} ${windowStartMs} ${alert}`;
  return place(one) < place(other) ? -1 : 1;
}

/**
 * Gives the id of the row that is there afterwards. The update changes nothing, but without one a row that exists would not be
 * returned, and after a lost answer its maker could not know it for its own.
 */
const INSERT = `insert into budget_alerts (budget_id, window_start_ms, alert, alert_id, scope_id, window_kind, window_end_ms,
    spent_nano_usd, soft_cap_nano_usd, hard_cap_nano_usd, created_at_ms, attempts, next_attempt_at_ms)
  values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)
  on conflict (budget_id, window_start_ms, alert) do update set alert_id = budget_alerts.alert_id returning alert_id`;

const insertionOf = (alert: BudgetAlert, nextAttemptAtMs: number | null): Statement => ({
  sql: INSERT,
  params: [
    alert.budgetId,
    alert.windowStartMs,
    alert.alert,
    alert.alertId,
    alert.scopeId,
    alert.window,
    alert.windowEndMs,
    alert.spent,
    alert.softCap ?? null,
    alert.hardCap ?? null,
    alert.createdAtMs,
    nextAttemptAtMs,
  ],
});
