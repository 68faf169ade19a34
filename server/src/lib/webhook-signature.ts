import { createHmac } from "node:crypto";

/**
 * Signatures of webhooks as the Standard Webhooks specification has them, version `v1`: HMAC-SHA256 over
 * `id.timestamp.body`. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export interface WebhookMessage {
  readonly id: string;
  /** Of this sending, not of what the message tells; receivers refuse old ones. */
  readonly timestampSeconds: number;
  readonly body: string;
}

const PREFIX = "whsec_";
const FEWEST_BYTES = 24;
const MOST_BYTES = 64;

/** The bytes of a secret written as `whsec_` and base64; undefined when it is anything else, or not of 24 to 64 bytes. */
export function parseWebhookSecret(text: string): Buffer | undefined {
  if (!text.startsWith(PREFIX)) return undefined;
  const encoded = text.slice(PREFIX.length);
  const bytes = Buffer.from(encoded, "base64");
  const withoutPadding = (base64: string): string => base64.replace(/={1,2}$/, "");
  // Node skips what is not base64, so a slip of the hand would otherwise pass as another secret.
  if (withoutPadding(bytes.toString("base64")) !== withoutPadding(encoded)) return undefined;
  return bytes.length >= FEWEST_BYTES && bytes.length <= MOST_BYTES ? bytes : undefined;
}

/** The `webhook-signature` header: one signature per secret, so that receivers can change theirs at their own pace. */
export function signWebhook(message: WebhookMessage, secrets: readonly Buffer[]): string {
  const content = `${message.id}.${message.timestampSeconds}.${message.body}`;
  return secrets.map((secret) => `v1,${createHmac("sha256", secret).update(content).digest("base64")}`).join(" ");
}
