import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { buildModelCatalogue, PRICE_PACKAGE_VERSION, type PriceOverride } from "../../src/ledger/model-catalogue.ts";
import { PRICE_OVERRIDES } from "../../src/ledger/price-overrides.ts";

const NOVEMBER = Date.parse("2026-11-23T12:00:00Z");
const catalogueAt = (now: number | (() => number), ...overrides: PriceOverride[]) =>
  buildModelCatalogue({ overrides, now: typeof now === "number" ? () => now : now });
const catalogue = catalogueAt(NOVEMBER);
const override = (part: Partial<PriceOverride> = {}): PriceOverride => ({
  provider: "openai",
  model: "gpt-4o",
  inputUsdPerMillion: "9",
  outputUsdPerMillion: "18",
  source: "contract",
  asOf: "2026-11-01",
  ...part,
});

test("a known model has its price in whole pico-USD and its limits", () => {
  const model = catalogue.find("openai", "gpt-4o-mini");
  assert.deepEqual(model, {
    provider: "openai",
    id: "gpt-4o-mini",
    kind: "chat",
    rates: {
      version: PRICE_PACKAGE_VERSION,
      perRequest: 0n,
      freshInput: 150_000n,
      cachedInput: 75_000n,
      cacheWrite: 150_000n,
      output: 600_000n,
      audioInput: 150_000n,
      audioOutput: 600_000n,
    },
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    acceptsImages: true,
    maxImageTokens: 48_300,
    encoding: "o200k_base",
    reasons: false,
    qualityTier: 1,
  });
});

test("the price version names the installed package", () => {
  const url = new URL("../package.json", import.meta.resolve("@pydantic/genai-prices"));
  const { version } = JSON.parse(readFileSync(url, "utf8")) as { version: string };
  assert.equal(PRICE_PACKAGE_VERSION, `genai-prices@${version}`);
});

test("a dated name has its model's price and keeps its own name", () => {
  const dated = catalogue.find("openai", "gpt-4o-mini-2024-07-18");
  assert.equal(dated?.id, "gpt-4o-mini-2024-07-18");
  assert.deepEqual(dated?.rates, catalogue.find("openai", "gpt-4o-mini")?.rates);
  assert.equal(dated?.created, Date.parse("2024-07-18T00:00:00Z") / 1000);
  assert.equal(catalogue.find("mistral", "mistral-small-2603")?.created, Date.parse("2026-03-01T00:00:00Z") / 1000);
  assert.equal(catalogue.find("openai", "gpt-4o-2024-05-13")?.rates.freshInput, 5_000_000n);
});

test("a fine-tuned model never has its base model's price", () => {
  assert.equal(catalogue.find("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc")?.rates.freshInput, 300_000n);
  assert.equal(catalogue.find("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc")?.maxOutputTokens, 16_384);
  for (const name of [
    "ft:gpt-4o-mini:acme",
    "ft:gpt-4.1-2025-04-14:acme",
    "ft:gpt-4-0613:acme",
    "FT:gpt-4-0613:acme",
  ]) {
    assert.equal(catalogue.find("openai", name), undefined, name);
  }
});

test("what has no certain price is not found", () => {
  for (const name of [
    "gpt-nonesuch",
    "omni-moderation-latest",
    "whisper-1",
    "gpt-image-1",
    "gpt-realtime",
    "",
    " gpt-4o",
    "gpt-4o ",
    "x".repeat(201),
  ]) {
    assert.equal(catalogue.find("openai", name), undefined, name);
  }
  assert.equal(catalogue.find("openai", "gpt-4o-search-preview"), undefined, "a fee per search");
  assert.equal(catalogue.find("openai", "gpt-4o-audio-preview-2099-01-01"), undefined, "audio at the price of text");
  assert.equal(catalogue.find("mistral", "mistral-nemo:free"), undefined, "a price list without prices");
  assert.equal(catalogue.find("mistral", "voxtral-small-latest"), undefined, "audio by the minute");
  assert.equal(catalogue.find("mistral", "gpt-4o"), undefined, "another vendor's model");
  for (const provider of ["nonesuch", "openai-eu", "OpenAI", "constructor", "__proto__", ""]) {
    assert.equal(catalogue.find(provider, "gpt-4o"), undefined, provider);
  }
});

test("stale aliases are corrected: today's mistral-large and mistral-small", () => {
  const large = catalogue.find("mistral", "mistral-large-latest")?.rates;
  assert.deepEqual([large?.freshInput, large?.cachedInput, large?.output], [500_000n, 50_000n, 1_500_000n]);
  assert.equal(large?.version, "brikk:2026-09-23");
  const small = catalogue.find("mistral", "mistral-small-latest")?.rates;
  assert.deepEqual([small?.freshInput, small?.cachedInput, small?.output], [150_000n, 15_000n, 600_000n]);
  assert.equal(
    catalogue.find("mistral", "mistral-large-2411")?.rates.freshInput,
    2_000_000n,
    "the dated model keeps its price",
  );
});

test("every price of ours that stands for another model equals that model's in the package", () => {
  for (const ours of PRICE_OVERRIDES) {
    const sibling = /points at: (.+)$/.exec(ours.source)?.[1];
    if (sibling === undefined) continue;
    const name = sibling.startsWith("magistral") ? `${sibling}-2509` : sibling;
    const { version: _, ...theirs } = catalogue.find("mistral", name)?.rates ?? { version: "" };
    const { version: __, ...mine } = catalogue.find("mistral", ours.model)?.rates ?? { version: "" };
    assert.deepEqual(mine, theirs, ours.model);
  }
});

test("audio previews have an audio price", () => {
  const rates = catalogue.find("openai", "gpt-4o-audio-preview")?.rates;
  assert.deepEqual([rates?.freshInput, rates?.audioInput, rates?.audioOutput], [2_500_000n, 40_000_000n, 80_000_000n]);
});

test("the operator's override wins, over ours too, and capital letters do not get around it", () => {
  const own = catalogueAt(
    NOVEMBER,
    override({ cachedInputUsdPerMillion: "0.000001", maxOutputTokens: 100 }),
    override({ provider: "mistral", model: "mistral-large-latest", inputUsdPerMillion: "0", outputUsdPerMillion: "0" }),
  );
  const model = own.find("openai", "gpt-4o");
  assert.deepEqual(
    [model?.rates.freshInput, model?.rates.cachedInput, model?.rates.output],
    [9_000_000n, 1n, 18_000_000n],
  );
  assert.deepEqual(
    [model?.rates.version, model?.contextTokens, model?.maxOutputTokens],
    ["override:2026-11-01", 128_000, 100],
  );
  assert.equal(model?.acceptsImages, true);
  assert.equal(own.find("openai", "GPT-4o")?.rates.freshInput, 9_000_000n);
  assert.equal(own.find("openai", "GPT-4o")?.id, "GPT-4o");
  assert.equal(own.find("openai", "gpt-4o-2024-08-06")?.rates.freshInput, 2_500_000n, "exactly that name, no other");
  assert.equal(own.find("mistral", "mistral-large-latest")?.rates.freshInput, 0n, "0 on purpose");
});

test("an operator can price what nobody knows: another provider, an embedding model, a fine-tuned model", () => {
  const own = catalogueAt(
    NOVEMBER,
    override({
      provider: "house",
      model: "llm-1",
      contextTokens: 8192,
      acceptsImages: false,
      reasons: true,
      qualityTier: 3,
    }),
    override({
      provider: "house",
      model: "vectors",
      kind: "embedding",
      inputUsdPerMillion: "0.02",
      outputUsdPerMillion: undefined,
    }),
    override({ model: "ft:gpt-4.1-2025-04-14:acme" }),
  );
  assert.deepEqual(
    own.list("house").map((model) => [model.id, model.kind]),
    [
      ["llm-1", "chat"],
      ["vectors", "embedding"],
    ],
  );
  const house = own.find("house", "llm-1");
  assert.deepEqual(
    [house?.contextTokens, house?.acceptsImages, house?.reasons, house?.qualityTier],
    [8192, false, true, 3],
  );
  assert.equal(own.find("openai", "ft:gpt-4.1-2025-04-14:acme")?.rates.freshInput, 9_000_000n);
});

test("a faulty override is refused by name", () => {
  const build = (part: Partial<PriceOverride>) => () => catalogueAt(NOVEMBER, override(part));
  assert.throws(build({ inputUsdPerMillion: "-1" }), /openai\/gpt-4o: inputUsdPerMillion/);
  assert.throws(build({ audioOutputUsdPerMillion: "1e3" }), /audioOutputUsdPerMillion/);
  assert.throws(build({ outputUsdPerMillion: undefined }), /needs outputUsdPerMillion/);
});

test("a price that begins on a date begins then, in a process that runs through midnight", () => {
  let now = Date.parse("2026-06-15T23:59:59Z");
  const running = catalogueAt(() => now);
  assert.equal(running.find("mistral", "mistral-medium-latest")?.rates.freshInput, 400_000n);
  const listed = () => running.list("mistral").find((model) => model.id === "mistral-medium-latest")?.rates.freshInput;
  assert.equal(listed(), 400_000n);
  now += 1000;
  assert.equal(running.find("mistral", "mistral-medium-latest")?.rates.freshInput, 1_500_000n);
  assert.equal(listed(), 1_500_000n);
});

test("a price of hours of the day changes with the hour", () => {
  let now = Date.parse("2026-11-23T00:59:59Z");
  const running = catalogueAt(() => now);
  assert.equal(running.find("deepseek", "deepseek-v4-flash")?.rates.freshInput, 220_000n);
  now += 1000;
  assert.equal(running.find("deepseek", "deepseek-v4-flash")?.rates.freshInput, 440_000n);
});

test("a long-context step of the vendor is kept", () => {
  const rates = catalogue.find("openai", "gpt-5.6-sol")?.rates;
  assert.equal(rates?.cacheWrite, 5_000_000n);
  assert.equal(rates?.tiers?.length, 1);
  const [step] = rates?.tiers ?? [];
  assert.equal(step?.aboveInputTokens, 271_999);
  assert.deepEqual(
    [step?.rates.freshInput, step?.rates.cachedInput, step?.rates.cacheWrite, step?.rates.output],
    [8_000_000n, 800_000n, 10_000_000n, 30_000_000n],
  );
});

test("a fee per request is kept", () => {
  assert.equal(catalogue.find("perplexity", "sonar")?.rates.perRequest, 12_000_000n);
});

test("embedding models are known as such, and need no output price", () => {
  for (const [provider, name] of [
    ["openai", "text-embedding-3-small"],
    ["mistral", "mistral-embed"],
    ["voyageai", "voyage-3"],
  ] as const) {
    const model = catalogue.find(provider, name);
    assert.equal(model?.kind, "embedding", name);
    assert.equal(model?.maxOutputTokens, undefined);
  }
});

test("models that think before they speak are marked", () => {
  const reasons = (provider: string, name: string) => catalogue.find(provider, name)?.reasons;
  for (const name of ["o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-6-sol"])
    assert.equal(reasons("openai", name), true, name);
  for (const name of ["gpt-4o", "gpt-5-chat-latest", "gpt-3.5-turbo"])
    assert.equal(reasons("openai", name), false, name);
  assert.equal(reasons("mistral", "magistral-medium-latest"), true);
  assert.equal(reasons("mistral", "mistral-large-latest"), false);
});

test("a list offers chat and embedding models, each found under its name, and nothing else", () => {
  for (const provider of ["openai", "mistral", "anthropic", "groq"]) {
    const models = catalogue.list(provider);
    assert.ok(models.length > 3, provider);
    assert.equal(new Set(models.map((model) => model.id)).size, models.length);
    for (const model of models) assert.deepEqual(catalogue.find(provider, model.id), model);
  }
  const names = [...catalogue.list("openai"), ...catalogue.list("mistral")].map((model) => model.id);
  for (const name of [
    "gpt-4o-mini",
    "gpt-4o",
    "gpt-3.5-turbo",
    "o3",
    "text-embedding-3-small",
    "mistral-large-latest",
    "mistral-small-latest",
    "codestral-latest",
    "mistral-embed",
  ]) {
    assert.ok(names.includes(name), name);
  }
  const unwanted = /image|whisper|tts|transcribe|realtime|moderation|ocr|voxtral|davinci|devstral-small|:free/;
  assert.deepEqual(
    names.filter((name) => unwanted.test(name)),
    [],
  );
  assert.ok(
    [...catalogue.list("openai"), ...catalogue.list("mistral")].every(
      (model) => model.kind === "embedding" || model.maxOutputTokens,
    ),
  );
  assert.deepEqual(catalogue.list("nonesuch"), []);
  assert.equal(catalogue.list("openai"), catalogue.list("openai"), "made once");
});

test("a name asked for again costs no second look, and ever new names push out the oldest", () => {
  const busy = catalogueAt(NOVEMBER);
  const first = busy.find("openai", "gpt-4o");
  assert.equal(busy.find("openai", "gpt-4o"), first);
  for (let name = 0; name < 1_000; name += 1) assert.equal(busy.find("openai", `made-up-${name}`), undefined);
  const again = busy.find("openai", "gpt-4o");
  assert.notEqual(again, first);
  assert.deepEqual(again, first);
});

test("no model of the package makes the catalogue throw", () => {
  for (const provider of [
    "openrouter",
    "azure",
    "google",
    "aws",
    "perplexity",
    "x-ai",
    "cohere",
    "together",
    "deepseek",
  ]) {
    for (const model of catalogue.list(provider)) {
      assert.ok(model.rates.freshInput + model.rates.output > 0n, `${provider}/${model.id}`);
    }
  }
});
