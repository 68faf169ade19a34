import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startGateway } from "../harness/gateway-under-test.ts";

const brikk = await startGateway({ environment: { BRIKK_MAX_BODY_BYTES: "4000000" } });
after(() => brikk.close());

interface Refusal {
  readonly message: string;
  readonly code: string;
  readonly details: Readonly<Record<string, unknown>> | null;
}

async function refusalOf(path: string, body: string): Promise<Refusal & { status: number }> {
  const response = await fetch(`${brikk.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  const { error } = (await response.json()) as { error: Refusal };
  return { status: response.status, ...error };
}

const nested = (json: string): string =>
  `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}],"x":${json}}`;

for (const [what, body, rule, limit] of [
  ["brackets within brackets", nested("[".repeat(200_000)), "json_depth", 128],
  ["a million items", nested(`[${"0,".repeat(999_999)}0]`), "json_values", 400_000],
  ["half a million empty objects", nested(`[${"{},".repeat(499_999)}{}]`), "json_values", 400_000],
  [
    "an object of 20,000 members",
    nested(`{${Array.from({ length: 20_000 }, (_, n) => `"${n}":0`).join(",")}}`),
    "json_members",
    10_000,
  ],
  ["a name of a megabyte", nested(`{"${"a".repeat(1_000_000)}":0}`), "json_name_length", 1_024],
  ["a number of a megabyte", nested("9".repeat(1_000_000)), "json_number_length", 256],
] as const) {
  test(`refused before it is built, with the rule and its number: ${what}`, async () => {
    for (const path of ["/v1/chat/completions", "/agents/openai/chat", "/v1/explain"]) {
      const { status, code, details, message } = await refusalOf(path, body);
      assert.deepEqual([status, code], [400, "request_too_complex"]);
      assert.deepEqual(details, { scope: "request", rule, limit });
      assert.ok(message.length < 200);
    }
  });
}

test("a body of much that is wrong is refused as one, and not a fault of the gateway", async () => {
  for (const [path, body] of [
    [
      "/v1/chat/completions",
      `{"model":"gpt-4o-mini","messages":[{"role":"user","content":[${"0,".repeat(390_000)}0]}]}`,
    ],
    ["/v1/chat/completions", `{"model":"gpt-4o-mini","messages":[${"0,".repeat(390_000)}0]}`],
    ["/v1/chat/completions", nested("0").replace("}],", `}],"tools":[${"0,".repeat(390_000)}0],`)],
    ["/v1/embeddings", `{"model":"text-embedding-3-small","input":[${"[],".repeat(190_000)}[]]}`],
    ["/v1/embeddings", `{"model":"text-embedding-3-small","input":[${'"a",0,'.repeat(190_000)}0]}`],
  ] as const) {
    const { status, code } = await refusalOf(path, body);
    assert.deepEqual([status, code], [400, "invalid_request"], body.slice(0, 100));
  }
});

test("300,000 token numbers for an embedding are within the limits", async () => {
  const response = await fetch(`${brikk.url}/v1/embeddings`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: `{"model":"text-embedding-3-small","input":[${Array.from({ length: 150 }, () => `[${"17,".repeat(1_999)}17]`).join(",")}]}`,
  });
  const { data } = (await response.json()) as { data?: unknown[] };
  assert.equal(response.status, 200);
  assert.equal(data?.length, 150);
});

test("too large a body, too many headers and too long a path have each their own error", async () => {
  assert.equal(
    (await refusalOf("/v1/chat/completions", nested(`"${"a".repeat(4_000_000)}"`))).code,
    "request_too_large",
  );
  const headers = await fetch(`${brikk.url}/keys/me`, { headers: { "x-long": "a".repeat(17_000) } });
  assert.equal(headers.status, 431);
  assert.equal(((await headers.json()) as { error: Refusal }).error.code, "headers_too_large");
  const path = await fetch(`${brikk.url}/usage/me/requests?cursor=${"a".repeat(8_200)}`);
  assert.equal(path.status, 414);
  const { error } = (await path.json()) as { error: Refusal };
  assert.equal(error.code, "url_too_long");
  assert.deepEqual(error.details, { scope: "request", rule: "url_length", limit: 8_192 });
});
