import assert from "node:assert/strict";
import { after, test } from "node:test";
import { buildApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config.ts";
import { presetNames, presets } from "../../src/http/fire-drill.ts";
import { startGateway } from "../harness/gateway-under-test.ts";

const TOKEN = "the-admin-token-of-this-test";
const brikk = await startGateway({ environment: { BRIKK_ADMIN_TOKEN: TOKEN } });
after(() => brikk.close());

interface Fault {
  readonly id: string;
  readonly vendor: string;
  readonly share: number;
  readonly count: number | null;
  readonly struck: number;
  readonly fault: { readonly kind: string };
}

interface Answer {
  readonly status: number;
  readonly body: {
    readonly id: string;
    readonly available: boolean;
    readonly reason: string | null;
    readonly vendors: readonly string[];
    readonly faults: readonly Fault[];
    readonly presets: readonly { name: string; description: string; fault: object }[];
    readonly error: { readonly code: string; readonly message: string; readonly param: string | null };
  };
}

async function admin(method: string, path: string, body?: unknown, url = brikk.url): Promise<Answer> {
  const response = await fetch(`${url}/admin/fire-drill${path}`, {
    method,
    headers: {
      authorization: `Bearer ${TOKEN}`,
      ...(body !== undefined && { "content-type": "application/json" }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Answer["body"] };
}

const chat = (model: string): Promise<Response> =>
  fetch(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, messages: [{ role: "user", content: "Tea or coffee?" }] }),
  });

test("the drill names its vendors, its presets in plain words, and no fault at first", async () => {
  const { status, body } = await admin("GET", "");
  assert.equal(status, 200);
  assert.deepEqual([body.available, body.reason, body.vendors, body.faults], [true, null, ["openai", "mistral"], []]);
  assert.deepEqual(
    body.presets.map(({ name }) => name),
    presetNames,
  );
  for (const { name, description, fault } of body.presets) {
    assert.match(description, /^.{10,150}\.$/, name);
    assert.deepEqual(fault, presets[name as keyof typeof presets].fault);
  }
});

test("a fault strikes the vendor it was put on, its strikes are counted, and once it is away the vendor is well", async () => {
  const started = await admin("POST", "/faults", { vendor: "openai", preset: "errors" });
  assert.equal(started.status, 201);
  assert.deepEqual(
    { ...started.body },
    {
      id: started.body.id,
      vendor: "openai",
      share: 1,
      count: null,
      struck: 0,
      fault: { kind: "status", status: 500 },
    },
  );
  assert.equal((await chat("gpt-4o-mini")).status, 502);
  assert.equal((await chat("mistral-small-latest")).status, 200);
  const [inForce] = (await admin("GET", "")).body.faults;
  assert.equal(inForce?.id, started.body.id);
  assert.ok(inForce && inForce.struck >= 1);
  const stopped = await admin("DELETE", `/faults/${started.body.id}`);
  assert.deepEqual([stopped.status, stopped.body.faults], [200, []]);
  assert.equal((await chat("gpt-4o-mini")).status, 200);
  const acts = await brikk.all("select * from audit_entries where kind = 'act' order by sequence");
  const startedFault = { kind: "status", status: 500 };
  assert.deepEqual(
    acts.map(({ action, target, details }) => [action, target, JSON.parse(String(details))]),
    [
      ["fire_drill.start", "openai", { after: { vendor: "openai", preset: "errors", fault: startedFault } }],
      [
        "fire_drill.stop",
        "openai",
        {
          before: {
            id: started.body.id,
            vendor: "openai",
            share: 1,
            count: null,
            struck: inForce.struck,
            fault: startedFault,
          },
        },
      ],
    ],
  );
  assert.ok(acts.every((act) => act["actor"] === "admin" && act["ip"] !== null && act["request_id"] !== null));
});

test("a fault of one's own keeps to its share and its count, and all are taken away at once", async () => {
  const own = { kind: "status", status: 429, retryAfter: 1 };
  const started = await admin("POST", "/faults", { vendor: "*", fault: own, share: 0.5, count: 1_000 });
  const other = await admin("POST", "/faults", { vendor: "mistral", preset: "hang" });
  assert.deepEqual(
    (await admin("GET", "")).body.faults.map(({ id, share, count, fault }) => [id, share, count, fault.kind]),
    [
      [started.body.id, 0.5, 1_000, "status"],
      [other.body.id, 1, null, "hang"],
    ],
  );
  assert.deepEqual((await admin("DELETE", "/faults")).body, { faults: [] });
  assert.deepEqual(brikk.simulator.faults.list(), []);
});

test("every preset can be put on and taken away", async () => {
  for (const preset of presetNames) {
    const { status, body } = await admin("POST", "/faults", { vendor: "*", preset, count: 1 });
    assert.equal(status, 201, preset);
    assert.equal((await admin("DELETE", `/faults/${body.id}`)).status, 200, preset);
  }
});

test("what is no fault is refused with the part that is wrong, and nothing is put on", async () => {
  for (const [body, param] of [
    [{ preset: "errors" }, /vendor/],
    [{ vendor: "acme", preset: "errors" }, /vendor/],
    [{ vendor: "openai", preset: "explosion" }, /preset/],
    [{ vendor: "openai" }, /either a preset or a fault/],
    [{ vendor: "openai", preset: "errors", fault: { kind: "hang" } }, /either a preset or a fault/],
    [{ vendor: "openai", fault: { kind: "cut" } }, /afterTokens/],
    [{ vendor: "openai", fault: { kind: "hang", extra: 1 } }, /extra/],
    [{ vendor: "openai", preset: "errors", share: 2 }, /share/],
    [{ vendor: "openai", preset: "errors", count: 0 }, /count/],
  ] as const) {
    const answer = await admin("POST", "/faults", body);
    assert.deepEqual([answer.status, answer.body.error.code], [400, "invalid_request"], JSON.stringify(body));
    assert.match(answer.body.error.message, param);
  }
  const unknown = await admin("DELETE", "/faults/fault-999");
  assert.deepEqual([unknown.status, unknown.body.error.code], [404, "not_found"]);
  assert.deepEqual(brikk.simulator.faults.list(), []);
});

test("where real providers serve the drill says why it is not available, and refuses", async (t) => {
  const app = await buildApp({ ...brikk.gateway, fireDrill: () => undefined });
  t.after(() => app.close());
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  const { status, body } = await admin("GET", "", undefined, url);
  assert.deepEqual([status, body.available, body.faults], [200, false, []]);
  assert.match(body.reason ?? "", /Real providers serve here/);
  for (const answer of [
    await admin("POST", "/faults", { vendor: "openai", preset: "errors" }, url),
    await admin("DELETE", "/faults/fault-1", undefined, url),
    await admin("DELETE", "/faults", undefined, url),
  ])
    assert.deepEqual(
      [answer.status, answer.body.error.code, answer.body.error.message],
      [409, "fire_drill_unavailable", body.reason],
    );
});

test("a reload that brings real providers ends the drill, as its faults would strike nobody", async (t) => {
  const house = await startGateway({ simulatorServes: "alone", environment: { BRIKK_ADMIN_TOKEN: TOKEN } });
  t.after(() => house.close());
  assert.equal((await admin("GET", "", undefined, house.url)).body.available, true);
  house.gateway.replaceConfigFile(loadConfig({ OPENAI_API_KEY: "sk-real" }));
  assert.equal((await admin("GET", "", undefined, house.url)).body.available, false);
  assert.equal((await admin("POST", "/faults", { vendor: "openai", preset: "errors" }, house.url)).status, 409);
});
