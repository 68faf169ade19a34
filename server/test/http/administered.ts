import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { type GatewayUnderTest, type HarnessOptions, startGateway } from "../harness/gateway-under-test.ts";

export const ADMIN_TOKEN = "the-admin-token-of-this-test";

export interface Answer<T = Record<string, unknown>> {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: T;
}

export interface Refusal {
  readonly error: {
    readonly message: string;
    readonly code: string;
    readonly param: string | null;
    readonly details: Record<string, unknown> | null;
  };
}

export interface Asked {
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON; a text is sent as it stands. */
  readonly body?: unknown;
}

export type Ask = <T = Record<string, unknown>>(method: string, path: string, asked?: Asked) => Promise<Answer<T>>;

/** A gateway with an admin token, and who holds it. */
export async function startAdministered(
  t: TestContext,
  options: HarnessOptions = {},
): Promise<{ readonly brikk: GatewayUnderTest; readonly admin: Ask }> {
  const brikk = await startGateway({
    ...options,
    environment: { BRIKK_ADMIN_TOKEN: ADMIN_TOKEN, ...options.environment },
  });
  t.after(() => brikk.close());
  const admin = async (method: string, path: string, { headers = {}, body }: Asked = {}): Promise<Answer<unknown>> => {
    const response = await fetch(`${brikk.url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${ADMIN_TOKEN}`,
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, body: JSON.parse(text) as unknown };
  };
  return { brikk, admin: admin as Ask };
}

/** The same, which must go well. */
export async function done<T>(answering: Promise<Answer<T>>): Promise<Answer<T>> {
  const answer = await answering;
  assert.ok(answer.status < 300, answer.text);
  return answer;
}
