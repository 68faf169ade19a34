import { Pool } from "undici";
import { createConnector } from "../lib/connector.ts";
import { usdNumber } from "../lib/money.ts";
import { signWebhook } from "../lib/webhook-signature.ts";
import { type AlertName, type BudgetAlert, hardCapPercent } from "./alert-thresholds.ts";

/**
 * Tells an alert to the operator's receiver: one POST, signed after Standard Webhooks. A 2xx is success, whatever becomes of the
 * answer's body, which is read to a bound and dropped; a redirect is a failure like any other status. docs/webhooks.md is what
 * receivers are promised.
 */
export interface BudgetWebhook {
  /** Never rejects. The reason of a failure holds nothing of the address. */
  send(alert: BudgetAlert, nowMs: number): Promise<Delivery>;
  /** Cuts what is on its way. */
  close(): Promise<void>;
}

export type Delivery = { readonly kind: "delivered" } | { readonly kind: "failed"; readonly reason: string };

export interface WebhookTarget {
  /** Credentials in it are sent as basic authentication. */
  readonly url: string;
  /** Every one of them signs. At least one. */
  readonly secrets: readonly Buffer[];
  /** Whether the receiver may have an address inside a private network. */
  readonly allowPrivateAddresses: boolean;
  /** The whole exchange, from connecting on. */
  readonly timeoutMs?: number;
}

/** Alerts that are on their way at once. */
export const MAX_SENDING = 8;
/** Shorter than a claim holds, or two instances could be sending one alert; see alert-outbox.ts. */
const TIMEOUT_MS = 10_000;
/** An answer's body up to here is read, so that the receiver sees its answer taken; more is cut off. */
const MAX_ANSWER_BYTES = 16 * 1024;

const types: Readonly<Record<AlertName, string>> = {
  soft_cap: "budget.soft_cap_reached",
  hard_cap_50: "budget.hard_cap_threshold_reached",
  hard_cap_80: "budget.hard_cap_threshold_reached",
  hard_cap_100: "budget.hard_cap_reached",
};

export function createBudgetWebhook(target: WebhookTarget): BudgetWebhook {
  const { url, secrets, allowPrivateAddresses, timeoutMs = TIMEOUT_MS } = target;
  const { origin, pathname, search, username, password } = new URL(url);
  const connect = createConnector({ timeoutMs, allowPrivateAddresses });
  const pool = new Pool(origin, { connections: MAX_SENDING, allowH2: false, connect });
  const authorization = basicAuthorization(username, password);

  return {
    async send(alert, nowMs) {
      const body = bodyOf(alert);
      const timestampSeconds = Math.floor(nowMs / 1_000);
      const deadline = AbortSignal.timeout(timeoutMs);
      try {
        const answer = await pool.request({
          method: "POST",
          path: pathname + search,
          headers: {
            "content-type": "application/json",
            "user-agent": "brikk",
            "webhook-id": alert.alertId,
            "webhook-timestamp": String(timestampSeconds),
            "webhook-signature": signWebhook({ id: alert.alertId, timestampSeconds, body }, secrets),
            ...authorization,
          },
          body,
          signal: deadline,
        });
        await answer.body.dump({ limit: MAX_ANSWER_BYTES, signal: deadline }).catch(() => {
          // The status line was the answer.
        });
        const { statusCode } = answer;
        if (statusCode >= 200 && statusCode < 300) return { kind: "delivered" };
        return { kind: "failed", reason: `status ${statusCode}` };
      } catch (error) {
        if (deadline.aborted) return { kind: "failed", reason: `no answer within ${timeoutMs / 1_000} s` };
        return { kind: "failed", reason: reasonOf(error) };
      }
    },
    close: () => pool.destroy(),
  };
}

function basicAuthorization(username: string, password: string): { authorization?: string } {
  if (username === "" && password === "") return {};
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { authorization: `Basic ${Buffer.from(credentials).toString("base64")}` };
}

/** Codes such as ECONNREFUSED or CERT_HAS_EXPIRED; messages may name the address, which may be a secret. */
function reasonOf(error: unknown): string {
  const { code, name } = error as { code?: unknown; name?: unknown };
  return typeof code === "string" ? code : String(name);
}

/** The same text for every sending of an alert. */
function bodyOf(alert: BudgetAlert): string {
  return JSON.stringify({
    id: alert.alertId,
    type: types[alert.alert],
    created_at: new Date(alert.createdAtMs).toISOString(),
    data: {
      api_key_id: alert.scopeId,
      budget_id: alert.budgetId,
      window: alert.window,
      window_start: new Date(alert.windowStartMs).toISOString(),
      resets_at: new Date(alert.windowEndMs).toISOString(),
      threshold_percent: hardCapPercent[alert.alert],
      spent_usd: usdNumber(alert.spent),
      soft_cap_usd: alert.softCap === undefined ? null : usdNumber(alert.softCap),
      hard_cap_usd: alert.hardCap === undefined ? null : usdNumber(alert.hardCap),
    },
  });
}
