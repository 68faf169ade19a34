import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type Config, ConfigError, loadConfig, type ProviderConfig } from "../../src/config.ts";

const folder = mkdtempSync(join(tmpdir(), "brikk-config-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** The config with the file's text; JSON is YAML. */
function load(file: object | string, environment: Record<string, string> = {}): Config {
  const path = join(mkdtempSync(join(folder, "file-")), "brikk.yaml");
  writeFileSync(path, typeof file === "string" ? file : JSON.stringify(file));
  return loadConfig({ BRIKK_CONFIG: path, ...environment });
}

/** The faults, without the path that each begins with. */
function faultsOf(file: object | string, environment: Record<string, string> = {}): string[] {
  try {
    load(file, environment);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.faults.map((fault) => fault.replace(/^\S+brikk\.yaml: /, ""));
  }
  return assert.fail("the file was accepted");
}

const named = (config: Config, name: string): ProviderConfig =>
  config.providers.find((provider) => provider.name === name) ?? assert.fail(`there is no ${name}`);

const house = { name: "house", base_url: "http://127.0.0.1:8000/v1", default_model: "llm" };
const policy = { name: "mine", candidates: ["a", "b"] };

test("a provider of the operator's needs a name, an address and a model; all else has a default", () => {
  const config = load({ providers: [house] });
  assert.deepEqual(
    config.providers.map(({ name }) => name),
    ["openai", "mistral", "house"],
  );
  assert.deepEqual(named(config, "house"), {
    name: "house",
    dialect: "openai",
    apiKey: undefined,
    keyless: true,
    baseUrl: "http://127.0.0.1:8000/v1",
    defaultModel: "llm",
    timeouts: {
      connectMs: 5_000,
      firstTokenMs: 10_000,
      thinkingFirstTokenMs: 120_000,
      idleMs: 15_000,
      attemptMs: 30_000,
    },
    maxInFlight: 1_000,
    maxQueued: 200,
    continuation: "instruct",
    streamUsage: true,
    outputLimit: "max_tokens",
    models: [],
  });
  assert.deepEqual([config.policies, config.prices], [[], []]);
});

test("everything that a provider may say is taken, in milliseconds and without the address's last slash", () => {
  const provider = named(
    load(
      {
        providers: [
          {
            name: "eu-2",
            base_url: "https://llm.example/v1/",
            api_key_env: "EU_KEY",
            dialect: "mistral",
            timeouts: {
              connect_seconds: 0.5,
              first_token_seconds: 1,
              thinking_first_token_seconds: 2,
              idle_seconds: 3,
              attempt_seconds: 4,
            },
            models: [{ id: "vectors", kind: "embedding", input_usd_per_million: 0 }, { id: "first-chat-model" }],
            max_in_flight: 7,
            max_queued: 0,
            stream_usage: false,
            output_limit: "max_completion_tokens",
          },
        ],
      },
      { EU_KEY: " secret-1 " },
    ),
    "eu-2",
  );
  assert.deepEqual(
    { ...provider, models: provider.models.map(({ id }) => id) },
    {
      name: "eu-2",
      dialect: "mistral",
      apiKey: "secret-1",
      keyless: false,
      baseUrl: "https://llm.example/v1",
      defaultModel: "first-chat-model",
      timeouts: { connectMs: 500, firstTokenMs: 1_000, thinkingFirstTokenMs: 2_000, idleMs: 3_000, attemptMs: 4_000 },
      maxInFlight: 7,
      maxQueued: 0,
      continuation: "prefix",
      streamUsage: false,
      outputLimit: "max_completion_tokens",
      models: ["vectors", "first-chat-model"],
    },
  );
});

test("an entry of a built-in provider's name refines it, and what it leaves out stays as the environment has it", () => {
  const config = load(
    {
      providers: [
        {
          name: "openai",
          base_url: "https://eu.api.example/v1",
          default_model: "gpt-5",
          timeouts: { idle_seconds: 40 },
          max_in_flight: 5,
          continuation: "prefix",
        },
      ],
    },
    { OPENAI_API_KEY: "sk-1", PROVIDER_CONNECT_TIMEOUT_SECONDS: "2", BRIKK_PROVIDER_MAX_QUEUED: "9" },
  );
  assert.equal(config.providers.length, 2);
  const { apiKey, baseUrl, defaultModel, timeouts, maxInFlight, maxQueued, continuation, outputLimit } = named(
    config,
    "openai",
  );
  assert.deepEqual(
    { apiKey, baseUrl, defaultModel, maxInFlight, maxQueued, continuation, outputLimit },
    {
      apiKey: "sk-1",
      baseUrl: "https://eu.api.example/v1",
      defaultModel: "gpt-5",
      maxInFlight: 5,
      maxQueued: 9,
      continuation: "prefix",
      outputLimit: undefined,
    },
  );
  assert.deepEqual([timeouts.idleMs, timeouts.connectMs], [40_000, 2_000]);
  assert.equal(named(config, "mistral").timeouts.idleMs, 15_000);
});

test("a policy is taken with its defaults; candidates may come with a weight or without", () => {
  assert.deepEqual(load({ policies: [policy] }).policies, [
    {
      name: "mine",
      candidates: [
        { model: "a", weight: 1 },
        { model: "b", weight: 1 },
      ],
      strategy: "order",
      maxPrice: undefined,
      appliesTo: [],
      hedge: undefined,
    },
  ]);
  assert.deepEqual(
    load({
      policies: [
        {
          name: "cheap",
          strategy: "weighted",
          candidates: [{ model: "openai/gpt-4o", weight: 2.5 }, { model: "b" }],
          max_price: { output_usd_per_million: 2 },
          applies_to: ["gpt-4o"],
          hedge: {},
        },
      ],
    }).policies,
    [
      {
        name: "cheap",
        candidates: [
          { model: "openai/gpt-4o", weight: 2.5 },
          { model: "b", weight: 1 },
        ],
        strategy: "weighted",
        maxPrice: { inputUsdPerMillion: undefined, outputUsdPerMillion: "2" },
        appliesTo: ["gpt-4o"],
        hedge: { afterMs: undefined, maxExtraSpend: 0.1 },
      },
    ],
  );
});

const refused: readonly [what: string, file: object | string, fault: RegExp][] = [
  ["a section of another name", { provider: [] }, /^the file: .*"provider"/],
  ["a section that is no list", { policies: {} }, /^policies: /],
  ["a list in the file's place", "- a", /^the file: /],
  ["a name with capitals", { providers: [{ ...house, name: "House" }] }, /^providers\.0\.name: is not a name/],
  ["a name with a slash", { providers: [{ ...house, name: "a/b" }] }, /^providers\.0\.name: is not a name/],
  ["Brikk's own name", { providers: [{ ...house, name: "brikk" }] }, /^providers\.0\.name: is taken by Brikk/],
  ["the name of a path", { providers: [{ ...house, name: "route" }] }, /^providers\.0\.name: is taken by Brikk/],
  ["a name twice", { providers: [house, house] }, /^providers\.1\.name: is the name of an earlier/],
  ["no address", { providers: [{ name: "x", default_model: "m" }] }, /^providers\.0\.base_url: is missing/],
  ["an address of another kind", { providers: [{ ...house, base_url: "ftp://x" }] }, /^providers\.0\.base_url: /],
  ["no model", { providers: [{ name: "x", base_url: "http://x" }] }, /^providers\.0\.default_model: is missing/],
  [
    "only models that do not chat",
    {
      providers: [
        { name: "x", base_url: "http://x", models: [{ id: "v", kind: "embedding", input_usd_per_million: 1 }] },
      ],
    },
    /^providers\.0\.default_model: is missing/,
  ],
  [
    "a variable that is not set",
    { providers: [{ ...house, api_key_env: "NO_SUCH_KEY" }] },
    /^providers\.0\.api_key_env: names NO_SUCH_KEY, which is not set\.$/,
  ],
  ["a dialect that nobody speaks", { providers: [{ ...house, dialect: "latin" }] }, /^providers\.0\.dialect: /],
  ["a field that there is not", { providers: [{ ...house, baseUrl: "x" }] }, /^providers\.0: .*"baseUrl"/],
  ["no time at all", { providers: [{ ...house, timeouts: { idle_seconds: 0 } }] }, /^providers\.0\.timeouts\.idle_s/],
  ["room for nobody", { providers: [{ ...house, max_in_flight: 0 }] }, /^providers\.0\.max_in_flight: /],
  [
    "a model's tier above the highest",
    { providers: [{ ...house, models: [{ id: "m", quality_tier: 4 }] }] },
    /^providers\.0\.models\.0\.quality_tier: /,
  ],
  [
    "a chat model whose answers have no price",
    { providers: [{ ...house, models: [{ id: "m", input_usd_per_million: 1 }] }] },
    /^providers\.0\.models\.0: needs output_usd_per_million/,
  ],
  [
    "an answer's price alone",
    { providers: [{ ...house, models: [{ id: "m", output_usd_per_million: 1 }] }] },
    /^providers\.0\.models\.0: has a price, but no input_usd_per_million/,
  ],
  [
    "a model twice, in whatever letters",
    { providers: [{ ...house, models: [{ id: "m" }, { id: "M" }] }] },
    /^providers\.0\.models\.1: stands twice/,
  ],
  [
    "two prices for one model",
    {
      providers: [{ ...house, models: [{ id: "m", input_usd_per_million: 1, output_usd_per_million: 1 }] }],
      prices: [{ provider: "house", model: "m", input_usd_per_million: 2, output_usd_per_million: 2 }],
    },
    /^providers\.0\.models\.0: has a price here and another one at prices\.0/,
  ],
  [
    "a chat model's price without that of its answers",
    { prices: [{ provider: "openai", model: "m", input_usd_per_million: 1 }] },
    /^prices\.0: needs output_usd_per_million/,
  ],
  [
    "another dialect for a built-in one",
    { providers: [{ name: "openai", dialect: "mistral" }] },
    /^providers\.0\.dialect: /,
  ],
  [
    "another variable for a built-in one",
    { providers: [{ name: "openai", api_key_env: "X" }] },
    /^providers\.0\.api_key_env: /,
  ],
  ["a policy without candidates", { policies: [{ name: "p", candidates: [] }] }, /^policies\.0\.candidates: names no/],
  [
    "a policy named like a built-in provider",
    { policies: [{ ...policy, name: "mistral" }] },
    /^policies\.0\.name: is the name of a provider/,
  ],
  [
    "a policy named like a provider of the file",
    { providers: [house], policies: [{ ...policy, name: "house" }] },
    /^policies\.0\.name: is the name of a provider/,
  ],
  ["a policy twice", { policies: [policy, policy] }, /^policies\.1\.name: is the name of an earlier policy/],
  [
    "a candidate twice",
    { policies: [{ name: "p", candidates: ["a", "a"] }] },
    /^policies\.0\.candidates\.1: stands twice/,
  ],
  [
    "the router as a candidate",
    { policies: [{ name: "p", candidates: ["brikk/auto"] }] },
    /^policies\.0\.candidates\.0: /,
  ],
  [
    "a weight of nothing",
    { policies: [{ name: "p", candidates: [{ model: "a", weight: 0 }] }] },
    /^policies\.0\.candidates\.0\.weight: /,
  ],
  ["a strategy that there is not", { policies: [{ ...policy, strategy: "luck" }] }, /^policies\.0\.strategy: /],
  [
    "more spending than everything",
    { policies: [{ ...policy, hedge: { max_extra_spend: 1.5 } }] },
    /^policies\.0\.hedge\.max_extra/,
  ],
  [
    "a hedge with nobody else",
    { policies: [{ name: "p", candidates: ["a"], hedge: {} }] },
    /^policies\.0\.hedge: needs a second/,
  ],
  [
    "a model that two policies answer",
    {
      policies: [
        { ...policy, applies_to: ["m"] },
        { ...policy, name: "other", applies_to: ["m"] },
      ],
    },
    /^policies\.1\.applies_to\.0: is answered by the policy mine already/,
  ],
  [
    "the router's name to answer",
    { policies: [{ ...policy, applies_to: ["brikk/auto"] }] },
    /^policies\.0\.applies_to\.0: /,
  ],
];
for (const [what, file, fault] of refused) {
  test(`a config file is refused with the place of the fault: ${what}`, () => {
    const faults = faultsOf(file);
    assert.equal(faults.length, 1, faults.join("\n"));
    assert.match(faults[0]!, fault);
  });
}

test("faults of all sections and of the environment are reported at once", () => {
  const faults = faultsOf(
    {
      prices: [{ provider: "x" }],
      providers: [
        { ...house, name: "B" },
        { ...house, api_key_env: "NOT_SET" },
        { ...house, default_model: "" },
      ],
      policies: [{ name: "house", candidates: ["a"] }],
    },
    { PORT: "no" },
  );
  for (const place of [
    "prices.0.model",
    "providers.0.name",
    "providers.1.api_key_env",
    "providers.2.default_model",
    "policies.0.name",
    "PORT",
  ])
    assert.ok(
      faults.some((fault) => fault.startsWith(place)),
      place,
    );
});

test("what is set for a built-in provider in two places is refused, and the fault names both", () => {
  const file = { providers: [{ name: "mistral", base_url: "http://a.example", default_model: "m" }] };
  const faults = faultsOf(file, { MISTRAL_BASE_URL: "http://b.example", MISTRAL_MODEL: "n" });
  assert.match(faults[0]!, /^providers\.0\.base_url: is set by MISTRAL_BASE_URL, too/);
  assert.match(faults[1]!, /^providers\.0\.default_model: is set by MISTRAL_MODEL, too/);
});

test("a price with more decimals than prices have is refused, as rounding could make it 0; a model has one price", () => {
  const priced = (input: number | string) => ({
    providers: [{ ...house, models: [{ id: "llm", input_usd_per_million: input, output_usd_per_million: 1 }] }],
  });
  for (const perToken of [0.00000015, "0.00000015", 0.1234567])
    assert.deepEqual(faultsOf(priced(perToken)), [
      "providers.0.models.0.input_usd_per_million: is not an amount of USD with at most 6 decimals.",
    ]);
  for (const [written, taken] of [
    [0, "0"],
    [0.3, "0.3"],
    [1e-6, "0.000001"],
    [100, "100"],
  ] as const)
    assert.equal(named(load(priced(written)), "house").models[0]?.input_usd_per_million, taken);
  const price = { provider: "openai", model: "gpt-4o", input_usd_per_million: 1, output_usd_per_million: 1 };
  assert.deepEqual(faultsOf({ prices: [price, { ...price, model: "GPT-4o" }] }), [
    "prices.1: has another price at prices.0.",
  ]);
});

test("a file that is no YAML is refused without a word of what stands in it", () => {
  for (const text of [
    "providers:\n  - name: *sk-secret\n",
    "providers: |sk-secret\n  a",
    "providers: [\n  sk-secret\n",
    "}sk-secret",
  ]) {
    const faults = faultsOf(text);
    assert.equal(faults.length, 1);
    assert.match(faults[0]!, /cannot be read: \w/);
    assert.doesNotMatch(faults[0]!, /secret/, text);
  }
});

test("a key that was pasted into the file, into an address or with a space is refused without being repeated", () => {
  for (const [entry, environment] of [
    [{ ...house, api_key_env: "gsk_hunter2" }, {}],
    [{ ...house, api_key: "hunter2" }, {}],
    [{ ...house, base_url: "https://user:hunter2@llm.example/v1" }, {}],
    [{ ...house, base_url: "https://llm.example/v1?key=hunter2" }, {}],
    [{ ...house, api_key_env: "KEY" }, { KEY: "hunter2 hunter2" }],
    [house, { OPENAI_BASE_URL: "https://user:hunter2@llm.example/v1" }],
    [house, { MISTRAL_BASE_URL: "https://llm.example/v1?key=hunter2" }],
  ] as const) {
    const faults = faultsOf({ providers: [entry] }, environment);
    assert.equal(faults.length, 1);
    assert.doesNotMatch(faults.join(), /hunter2/);
  }
});

test("an admin token that is easy to guess is refused, without being repeated", () => {
  assert.throws(
    () => loadConfig({ BRIKK_ADMIN_TOKEN: "short" }),
    (error: unknown) =>
      error instanceof ConfigError &&
      error.faults.join().startsWith("BRIKK_ADMIN_TOKEN is shorter") &&
      !/"short"/.test(error.message),
  );
});
