import assert from "node:assert/strict";
import { after, test } from "node:test";
import { buildApp } from "../../src/app.ts";
import type { ProviderHealth, TargetReport } from "../../src/completion/provider-health.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { targetReport } from "./target-report.ts";

const TOKEN = "the-admin-token-of-this-test";
const clock = createTestClock(Date.UTC(2026, 10, 23, 12));
const brikk = await startGateway({ clock, environment: { BRIKK_ADMIN_TOKEN: TOKEN } });
after(() => brikk.close());

/** The gateway's routes over a health of the test's own. */
let targets: readonly TargetReport[] = [];
const resets: (readonly (string | undefined)[])[] = [];
const health: ProviderHealth = {
  ...brikk.gateway.health,
  standingOf: () => assert.fail("only the router asks for it"),
  targets: () => targets,
  providerReport: (provider) =>
    provider === "openai"
      ? {
          inFlight: 3,
          queued: 2,
          lastHeaders: { "x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "7" },
          lastAskedAtMs: clock.now(),
          lastProbe: { atMs: clock.now() - 5_000, ok: false, detail: "unreachable" },
        }
      : { inFlight: 0, queued: 0, lastHeaders: undefined, lastAskedAtMs: undefined, lastProbe: undefined },
  reset: (provider, model) => {
    resets.push([provider, model]);
    targets = targets.map((target) => ({ ...target, state: "closed" }));
    return 1;
  },
};
const [openai, ...others] = brikk.gateway.providers.all;
assert.ok(openai);
const readHeadroom = (headers: Readonly<Record<string, string | string[] | undefined>>): object => ({
  requests: {
    limit: Number(headers["x-ratelimit-limit-requests"]),
    remaining: Number(headers["x-ratelimit-remaining-requests"]),
    resetMs: 1_500,
  },
});
const all = [{ ...openai, provider: { ...openai.provider, readHeadroom } }, ...others];
const app = await buildApp({
  ...brikk.gateway,
  health,
  providers: {
    ...brikk.gateway.providers,
    known: [...brikk.gateway.providers.known, "spare"],
    all,
    find: (name) => all.find(({ provider }) => provider.name === name),
  },
});
const url = await app.listen({ host: "127.0.0.1", port: 0 });
after(() => app.close());

const get = async (path: string): Promise<Record<string, unknown>> =>
  (await (await fetch(`${url}${path}`)).json()) as Record<string, unknown>;

const reset = async (body?: unknown): Promise<{ status: number; body: Record<string, unknown> }> => {
  const response = await fetch(`${url}/admin/circuit-breakers/reset`, {
    method: "POST",
    headers: { authorization: `Bearer ${TOKEN}`, ...(body !== undefined && { "content-type": "application/json" }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};

test("/health/circuit-breakers shows the state and the numbers of every breaker; a cool-down that is over is none", async () => {
  targets = [
    targetReport({
      state: "open",
      consecutiveFailures: 5,
      failureRate: 0.75,
      requests: 8,
      lastFault: "overloaded",
      openedAtMs: clock.now() - 1_000,
      nextProbeAtMs: clock.now() + 29_000,
      opens: 2,
      probesInFlight: 1,
      coolingUntilMs: clock.now() + 4_000,
    }),
    targetReport({ provider: "mistral", model: "mistral-small-latest", coolingUntilMs: clock.now() - 1 }),
  ];
  assert.deepEqual(await get("/health/circuit-breakers"), {
    breakers: [
      {
        provider: "openai",
        model: "gpt-4o-mini",
        state: "open",
        consecutive_failures: 5,
        failure_rate: 0.75,
        requests: 8,
        last_fault: "overloaded",
        opened_at: "2026-11-23T11:59:59.000Z",
        next_probe_at: "2026-11-23T12:00:29.000Z",
        opens: 2,
        probes_in_flight: 1,
        cooling_until: "2026-11-23T12:00:04.000Z",
      },
      {
        provider: "mistral",
        model: "mistral-small-latest",
        state: "closed",
        consecutive_failures: 0,
        failure_rate: null,
        requests: 0,
        last_fault: null,
        opened_at: null,
        next_probe_at: null,
        opens: 0,
        probes_in_flight: 0,
        cooling_until: null,
      },
    ],
  });
});

test("/health/providers shows of every known provider what it is and how it fares, and no address of a simulated one", async () => {
  targets = [
    targetReport({ requests: 10, failureRate: 0.5, firstTokenP50Ms: 300, firstTokenP95Ms: 900 }),
    targetReport({ model: "gpt-5", requests: 30, failureRate: 0.1, firstTokenP50Ms: 400, firstTokenP95Ms: 950 }),
  ];
  const idle = {
    simulated: false,
    base_url: null,
    state: "unknown",
    error_rate: null,
    requests: 0,
    first_token_p50_ms: null,
    first_token_p95_ms: null,
    in_flight: 0,
    queued: 0,
    headroom: null,
    last_probe: null,
    models: [],
  };
  assert.deepEqual(await get("/health/providers"), {
    providers: [
      {
        name: "openai",
        configured: true,
        simulated: true,
        default_model: "gpt-4o-mini",
        base_url: null,
        status: "unsteady",
        state: "closed",
        error_rate: 0.2,
        requests: 40,
        first_token_p50_ms: 400,
        first_token_p95_ms: 950,
        in_flight: 3,
        queued: 2,
        headroom: { requests: { limit: 100, remaining: 7, reset_seconds: 1.5 }, tokens: null },
        last_probe: { at: "2026-11-23T11:59:55.000Z", ok: false, detail: "unreachable" },
        models: [
          {
            model: "gpt-4o-mini",
            state: "closed",
            error_rate: 0.5,
            requests: 10,
            first_token_p50_ms: 300,
            first_token_p95_ms: 900,
          },
          {
            model: "gpt-5",
            state: "closed",
            error_rate: 0.1,
            requests: 30,
            first_token_p50_ms: 400,
            first_token_p95_ms: 950,
          },
        ],
      },
      {
        ...idle,
        name: "mistral",
        configured: true,
        simulated: true,
        default_model: "mistral-small-latest",
        status: "idle",
      },
      { ...idle, name: "spare", configured: false, default_model: null, status: "not_configured" },
    ],
  });
});

test("an administrator resets all breakers, those of a provider or one, which is on record; an unknown provider is refused", async () => {
  targets = [targetReport({ state: "open" })];
  const { status, body: answer } = await reset();
  assert.equal(status, 200);
  assert.equal(answer["reset"], 1);
  assert.deepEqual(
    (answer["breakers"] as { state: string }[]).map(({ state }) => state),
    ["closed"],
  );
  await reset({});
  await reset({ provider: "openai" });
  await reset({ provider: "openai", model: "gpt-4o-mini" });
  assert.deepEqual(resets, [
    [undefined, undefined],
    [undefined, undefined],
    ["openai", undefined],
    ["openai", "gpt-4o-mini"],
  ]);
  for (const [body, param] of [
    [{ provider: "acme" }, "provider"],
    [{ provider: "" }, "provider"],
    [{ providers: ["openai"] }, null],
  ] as const) {
    const refused = await reset(body);
    const { error } = refused.body as { error: { code: string; param: string | null } };
    assert.deepEqual([refused.status, error.code, error.param], [400, "invalid_request", param]);
  }
  assert.equal(resets.length, 4);
  const acts = await brikk.all(
    "select actor, action, target, details, ip, request_id from audit_entries where kind = 'act' order by sequence",
  );
  assert.deepEqual(
    acts.map(({ action, target, details }) => [action, target, details]),
    resets.map(([provider, model]) => [
      "circuit_breaker.reset",
      provider ?? null,
      model === undefined ? null : JSON.stringify({ after: { model } }),
    ]),
  );
  assert.ok(acts.every((act) => act["actor"] === "admin" && act["ip"] !== null && act["request_id"] !== null));
});
