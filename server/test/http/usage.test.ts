import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startGateway } from "../harness/gateway-under-test.ts";
import { DAY_MS, eventRow, HOUR_MS, insertEvents, MONDAY_MS, rollUpEvents } from "../ledger/ledger-rows.ts";
import { createTestClock } from "../lib/test-clock.ts";

/** Monday, 23 November 2026, noon (UTC). */
const clock = createTestClock();
const brikk = await startGateway({ clock });
after(() => brikk.close());
const { database } = brikk.gateway;

interface ErrorAnswer {
  readonly error: { readonly code: string; readonly param: string | null; readonly message: string };
}

const ask = (path: string, secret: string): Promise<Response> =>
  fetch(`${brikk.url}${path}`, { headers: { authorization: `Bearer ${secret}` } });

async function get<T>(path: string, secret: string): Promise<T> {
  const response = await ask(path, secret);
  assert.equal(response.status, 200, await response.clone().text());
  return (await response.json()) as T;
}

const chat = async (secret: string, body: object = {}): Promise<string> => {
  const response = await fetch(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello there" }], ...body }),
  });
  await response.text();
  return response.headers.get("x-request-id") ?? "";
};

interface Requests {
  readonly requests: readonly (Record<string, unknown> & { readonly event_id: string })[];
  readonly next_cursor: string | null;
}

interface Timeseries {
  readonly from: string;
  readonly to: string;
  readonly points: readonly Record<string, unknown>[];
}

test("/usage/me/requests shows a request as soon as its answer is whole, with exactly its fields", async () => {
  const { id, secret } = await brikk.createKey();
  const requestId = await chat(secret);
  const [row] = await brikk.all(`select * from usage_events where key_id = '${id}'`);
  const { requests, next_cursor: next } = await get<Requests>("/usage/me/requests", secret);
  assert.equal(next, null);
  assert.deepEqual(requests, [
    {
      event_id: row?.["event_id"],
      request_id: requestId,
      at: "2026-11-23T12:00:00.000Z",
      operation: "chat",
      provider: "openai",
      model: "gpt-4o-mini",
      requested_model: "gpt-4o-mini",
      stream: false,
      simulated: true,
      outcome: "completed",
      status: 200,
      error_code: null,
      tokens: {
        fresh_input: Number(row?.["fresh_input_tokens"]),
        cached_input: 0,
        cache_write: 0,
        audio_input: 0,
        output: Number(row?.["output_tokens"]),
        reasoning: 0,
        audio_output: 0,
      },
      usage_source: "exact",
      cost_usd: Number(row?.["cost_nano_usd"]) / 1e9,
      earlier_cost_usd: 0,
      latency_ms: 0,
      time_to_first_token_ms: row?.["time_to_first_token_ms"] === null ? null : Number(row?.["time_to_first_token_ms"]),
      attempts: 1,
      fallback: false,
      rescue: null,
      route_reason: row?.["route_reason"],
      clamped_max_tokens: null,
    },
  ]);
});

test("a refused request is listed with its code, and filters choose by outcome, provider and model", async () => {
  const { secret } = await brikk.createKey();
  await chat(secret);
  await chat(secret, { model: "mistral-small-latest" });
  await chat(secret, { model: "no-such-model" });
  const listed = async (query: string): Promise<unknown[]> =>
    (await get<Requests>(`/usage/me/requests?${query}`, secret)).requests.map((one) => one["requested_model"]);
  assert.deepEqual(await listed(""), ["no-such-model", "mistral-small-latest", "gpt-4o-mini"]);
  assert.deepEqual(await listed("outcome=refused"), ["no-such-model"]);
  assert.deepEqual(await listed("provider=openai"), ["gpt-4o-mini"]);
  assert.deepEqual(await listed("model=mistral-small-latest&outcome=completed"), ["mistral-small-latest"]);
  assert.deepEqual(await listed("outcome=failed"), []);
  const { requests } = await get<Requests>("/usage/me/requests?outcome=refused", secret);
  assert.deepEqual(
    [requests[0]?.["provider"], requests[0]?.["status"], requests[0]?.["error_code"]],
    [null, 404, "model_not_found"],
  );
});

test("pages follow each other by cursor to the end, each request once", async () => {
  const { id, secret } = await brikk.createKey();
  const rows = Array.from({ length: 7 }, (_, index) =>
    eventRow({ key_id: id, occurred_at_ms: BigInt(MONDAY_MS + Math.floor(index / 3)) }),
  );
  await insertEvents(database, rows);
  const seen: string[] = [];
  let cursor: string | null = null;
  let pages = 0;
  do {
    const page: Requests = await get(`/usage/me/requests?limit=3${cursor === null ? "" : `&cursor=${cursor}`}`, secret);
    seen.push(...page.requests.map((one) => one.event_id));
    cursor = page.next_cursor;
    pages += 1;
  } while (cursor !== null);
  assert.deepEqual(seen, rows.map((row) => row.event_id).toReversed());
  assert.equal(pages, 3);
});

test("no key reads another's requests, whatever cursor, id or filter it sends", async () => {
  const victim = await brikk.createKey();
  const thief = await brikk.createKey();
  const rows = [0, 1, 2].map((offset) => eventRow({ key_id: victim.id, occurred_at_ms: BigInt(MONDAY_MS + offset) }));
  await insertEvents(database, rows);
  await rollUpEvents(database);
  const { next_cursor: stolen } = await get<Requests>("/usage/me/requests?limit=1", victim.secret);
  assert.ok(stolen !== null);
  const guessed = Buffer.from(`${MONDAY_MS + 5}.${rows[0]!.event_id}`).toString("base64url");
  for (const query of [`cursor=${stolen}`, `cursor=${guessed}`, "provider=provider-a", "from=2026-11-23&to=2026-11-24"])
    assert.deepEqual(await get(`/usage/me/requests?${query}`, thief.secret), { requests: [], next_cursor: null });
  for (const parameter of ["key_id", "api_key_id", "scope"]) {
    for (const path of ["/usage/me/requests", "/usage/me/timeseries"])
      assert.equal((await ask(`${path}?${parameter}=${victim.id}`, thief.secret)).status, 400);
  }
  const series = await get<Timeseries>("/usage/me/timeseries?from=2026-11-23&to=2026-11-24", thief.secret);
  assert.ok(series.points.every((point) => point["requests"] === 0));
});

test("/usage/me/timeseries has exactly its fields: hours without a gap, or groups", async () => {
  const { id, secret } = await brikk.createKey();
  await chat(secret);
  await chat(secret, { model: "no-such-model" });
  const [sum] = await brikk.all(
    `select sum(cost_nano_usd) as cost, sum(input_tokens) as input, sum(output_tokens) as output from usage_hourly where key_id = '${id}'`,
  );
  const used = {
    start: "2026-11-23T12:00:00.000Z",
    cost_usd: Number(sum?.["cost"]) / 1e9,
    requests: 2,
    input_tokens: Number(sum?.["input"]),
    output_tokens: Number(sum?.["output"]),
  };
  const { points, ...head } = await get<Timeseries>("/usage/me/timeseries", secret);
  assert.deepEqual(head, {
    api_key_id: id,
    interval: "hour",
    group_by: "none",
    from: "2026-11-22T13:00:00.000Z",
    to: "2026-11-23T13:00:00.000Z",
  });
  assert.equal(points.length, 24);
  assert.deepEqual(points.at(-1), used);
  assert.deepEqual(points[0], {
    start: "2026-11-22T13:00:00.000Z",
    cost_usd: 0,
    requests: 0,
    input_tokens: 0,
    output_tokens: 0,
  });
  const days = await get<Timeseries>("/usage/me/timeseries?interval=day&group_by=model", secret);
  const dayStart = "2026-11-23T00:00:00.000Z";
  assert.deepEqual([days.from, days.to], ["2026-10-25T00:00:00.000Z", "2026-11-24T00:00:00.000Z"]);
  assert.deepEqual(days.points, [
    { start: dayStart, group: null, cost_usd: 0, requests: 1, input_tokens: 0, output_tokens: 0 },
    { ...used, start: dayStart, group: "gpt-4o-mini", requests: 1 },
  ]);
});

const forged = [
  "x",
  "!!!!",
  Buffer.from("1.2").toString("base64url"),
  Buffer.from(`${MONDAY_MS}.' or 1=1 --`).toString("base64url"),
  Buffer.from(`-1.00000000-0000-7000-8000-000000000000`).toString("base64url"),
  // Right but for its spelling.
  `${Buffer.from(`${MONDAY_MS}.00000000-0000-7000-8000-000000000000`).toString("base64url")}%3D`,
];

const faults: readonly [string, string | null][] = [
  ["/usage/me/requests?limit=0", "limit"],
  ["/usage/me/requests?limit=201", "limit"],
  ["/usage/me/requests?limit=many", "limit"],
  ["/usage/me/requests?limit=", "limit"],
  ["/usage/me/requests?limit=1&limit=2", "limit"],
  ["/usage/me/requests?outcome=good", "outcome"],
  ["/usage/me/requests?provider=", "provider"],
  ["/usage/me/requests?from=yesterday", "from"],
  ["/usage/me/requests?to=2026-02-30", "to"],
  ["/usage/me/requests?from=2026-11-24&to=2026-11-24", "from"],
  ["/usage/me/requests?limt=5", null],
  ...forged.map((cursor): [string, string] => [`/usage/me/requests?cursor=${cursor}`, "cursor"]),
  ["/usage/me/timeseries?interval=minute", "interval"],
  ["/usage/me/timeseries?group_by=key", "group_by"],
  ["/usage/me/timeseries?from=now", "from"],
  ["/usage/me/timeseries?from=2026-11-24", "from"],
  ["/usage/me/timeseries?from=2026-11-23&to=2026-11-22", "from"],
  ["/usage/me/timeseries?from=2026-10-01&to=2026-11-23", "from"],
  ["/usage/me/timeseries?interval=day&from=2024-11-23", "from"],
];

for (const [path, param] of faults) {
  test(`400 names the parameter at fault: ${path.slice(10, 80)}`, async () => {
    const { secret } = await brikk.createKey();
    const response = await ask(path, secret);
    assert.equal(response.status, 400);
    const { error } = (await response.json()) as ErrorAnswer;
    assert.deepEqual([error.code, error.param], ["invalid_request", param]);
    assert.ok(error.message.length > 10);
  });
}

test("a timestamp with an offset means its moment, and bounds come back as whole intervals", async () => {
  const { secret } = await brikk.createKey();
  const { from, to, points } = await get<Timeseries>(
    "/usage/me/timeseries?from=2026-11-23T10:30:00%2B02:00&to=2026-11-23T10:00:01Z",
    secret,
  );
  assert.deepEqual([from, to], ["2026-11-23T08:00:00.000Z", "2026-11-23T11:00:00.000Z"]);
  assert.equal(points.length, (Date.parse(to) - Date.parse(from)) / HOUR_MS);
  const longest = await get<Timeseries>(
    `/usage/me/timeseries?from=${new Date(MONDAY_MS - 31 * DAY_MS).toISOString()}&to=2026-11-23`,
    secret,
  );
  assert.equal(longest.points.length, 31 * 24);
});
