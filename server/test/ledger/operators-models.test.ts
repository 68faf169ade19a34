import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { loadConfig } from "../../src/config.ts";
import { buildModelCatalogue, PRICE_PACKAGE_VERSION } from "../../src/ledger/model-catalogue.ts";
import { operatorsModels } from "../../src/ledger/operators-models.ts";

const NOW = Date.parse("2026-11-25T12:00:00Z");

function catalogueOf(file: object | string, environment: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), "brikk-models-"));
  const path = typeof file === "string" ? file : join(folder, "brikk.json");
  if (typeof file !== "string") writeFileSync(path, JSON.stringify(file));
  const config = loadConfig({ ...environment, BRIKK_CONFIG: path });
  rmSync(folder, { recursive: true });
  return buildModelCatalogue({ ...operatorsModels(config, NOW), now: () => NOW });
}

const at = { base_url: "http://127.0.0.1:9/v1" };

test("the operator's models have the operator's price and traits, are listed, and are nobody else's", () => {
  const catalogue = catalogueOf({
    providers: [
      {
        name: "house",
        ...at,
        models: [
          {
            id: "Think-1",
            input_usd_per_million: 0.5,
            cached_input_usd_per_million: "0.05",
            output_usd_per_million: 2,
            context_tokens: 9_000,
            max_output_tokens: 800,
            reasons: true,
            images: false,
            quality_tier: 3,
          },
          { id: "vectors", kind: "embedding", input_usd_per_million: 0.01 },
        ],
      },
    ],
  });
  const model = catalogue.find("house", "think-1")!;
  assert.deepEqual(
    [model.rates.freshInput, model.rates.cachedInput, model.rates.output, model.rates.version],
    [500_000n, 50_000n, 2_000_000n, "override:2026-11-25"],
  );
  assert.deepEqual(
    [model.contextTokens, model.maxOutputTokens, model.reasons, model.acceptsImages, model.qualityTier],
    [9_000, 800, true, false, 3],
  );
  assert.deepEqual(
    catalogue.list("house").map(({ id, kind }) => [id, kind]),
    [
      ["Think-1", "chat"],
      ["vectors", "embedding"],
    ],
  );
  assert.equal(catalogue.find("openai", "think-1"), undefined);
  assert.equal(catalogue.find("house", "other"), undefined, "a model without a price stays without one");
});

test("a price of 0 is on purpose; a model that is described but not priced is refused", () => {
  const catalogue = catalogueOf({
    providers: [
      {
        name: "house",
        ...at,
        models: [
          { id: "free", input_usd_per_million: 0, output_usd_per_million: 0 },
          { id: "unpriced", context_tokens: 5 },
        ],
      },
    ],
  });
  assert.deepEqual(
    [catalogue.find("house", "free")?.rates.freshInput, catalogue.find("house", "free")?.rates.output],
    [0n, 0n],
  );
  assert.equal(catalogue.find("house", "unpriced"), undefined);
  assert.deepEqual(
    catalogue.list("house").map(({ id }) => id),
    ["free"],
  );
});

test("a description without a price leaves the price that is known, and the other models as they are", () => {
  const catalogue = catalogueOf({
    providers: [
      { name: "openai", models: [{ id: "gpt-4o-mini", quality_tier: 3, max_output_tokens: 100, images: false }] },
    ],
  });
  const plain = buildModelCatalogue({ overrides: [], now: () => NOW });
  const before = plain.find("openai", "gpt-4o-mini")!;
  assert.deepEqual(catalogue.find("openai", "gpt-4o-mini"), {
    ...before,
    qualityTier: 3,
    maxOutputTokens: 100,
    acceptsImages: false,
  });
  assert.deepEqual(catalogue.find("openai", "gpt-4o"), plain.find("openai", "gpt-4o"));
  assert.deepEqual(
    catalogue.list("openai").map(({ id }) => id),
    plain.list("openai").map(({ id }) => id),
  );
});

test("vendors that the price package knows need no models: found under the provider's name, with bounds for the current ones", () => {
  const catalogue = buildModelCatalogue({ overrides: [], now: () => NOW });
  for (const [provider, id, contextTokens, maxOutputTokens, reasons] of [
    ["groq", "llama-3.3-70b-versatile", 131_072, 32_768, false],
    ["groq", "llama-3.1-8b-instant", 131_072, 131_072, false],
    ["groq", "openai/gpt-oss-120b", 131_072, 65_536, true],
    ["deepseek", "deepseek-v4-pro", 1_000_000, 393_216, true],
  ] as const) {
    const model = catalogue.find(provider, id);
    assert.deepEqual(
      [model?.contextTokens, model?.maxOutputTokens, model?.reasons, model?.rates.version],
      [contextTokens, maxOutputTokens, reasons, PRICE_PACKAGE_VERSION],
      id,
    );
    assert.ok(
      catalogue.list(provider).some((listed) => listed.id === id),
      id,
    );
  }
  for (const provider of [
    "openrouter",
    "together",
    "fireworks",
    "cerebras",
    "x-ai",
    "perplexity",
    "anthropic",
    "google",
  ])
    assert.ok(catalogue.list(provider).length > 0, `${provider}, which docs/providers.md names`);
});

test("every model that docs/examples/providers.yaml names has a price", () => {
  const path = join(import.meta.dirname, "..", "..", "..", "docs", "examples", "providers.yaml");
  const keys = { GROQ_API_KEY: "k1", DEEPSEEK_API_KEY: "k2", OPENROUTER_API_KEY: "k3", VLLM_API_KEY: "k4" };
  const { providers, policies } = loadConfig({ ...keys, BRIKK_CONFIG: path });
  const catalogue = catalogueOf(path, keys);
  for (const { name, defaultModel, models } of providers)
    for (const id of [defaultModel, ...models.map((model) => model.id)])
      assert.ok(catalogue.find(name, id), `${name}/${id}`);
  for (const { candidates } of policies)
    for (const { model } of candidates) {
      const slash = model.indexOf("/");
      assert.ok(catalogue.find(model.slice(0, slash), model.slice(slash + 1)), model);
    }
});
