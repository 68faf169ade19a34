import assert from "node:assert/strict";
import { test } from "node:test";
import { createModelRouter, type Route } from "../../src/completion/model-router.ts";
import { BrikkError } from "../../src/errors.ts";
import { buildModelCatalogue, type PriceOverride } from "../../src/ledger/model-catalogue.ts";
import { createOpenAiCompatible } from "../../src/providers/openai-compatible/openai-compatible.ts";
import type { ConnectedProvider, ProviderSet } from "../../src/providers/provider-set.ts";
import { connectedTo } from "./call-services.ts";
import type { Transport } from "../../src/providers/transport.ts";

const noTransport: Transport = {
  send: () => Promise.reject(new Error("a router calls nobody")),
  drain: () => Promise.resolve(),
  close: () => Promise.resolve(),
};

function providerSet(defaults: Readonly<Record<string, string>>): ProviderSet {
  const all: ConnectedProvider[] = Object.entries(defaults).map(([name, defaultModel]) =>
    connectedTo(
      createOpenAiCompatible({
        name,
        defaultModel,
        baseUrl: "http://127.0.0.1:1/v1",
        apiKey: "none",
        simulated: true,
      }),
      noTransport,
    ),
  );
  return {
    all,
    known: Object.keys(defaults),
    replace: () => undefined,
    find: (name) => all.find(({ provider }) => provider.name === name),
    close: () => Promise.resolve(),
  };
}

const routerOver = (defaults: Readonly<Record<string, string>>, overrides: readonly PriceOverride[] = []) =>
  createModelRouter({
    providers: providerSet(defaults),
    catalogue: (
      (catalogue) => () =>
        catalogue
    )(buildModelCatalogue({ overrides, now: () => Date.UTC(2026, 10, 23) })),
    languages: { es: "mistral", en: "openai", ja: "openai" },
  });
const both = { openai: "gpt-4o-mini", mistral: "mistral-small-latest" };
const named = (route: Route): string[] => route.candidates.map(({ model }) => `${model.provider}/${model.id}`);
const coded = (code: string) => (error: unknown) => error instanceof BrikkError && error.code === code;

test("a model named by the caller is the only candidate: it is never swapped for another", () => {
  assert.deepEqual(named(routerOver(both).byName(["gpt-4o"])), ["openai/gpt-4o"]);
  assert.deepEqual(named(routerOver(both).byName(["mistral-small-latest"])), ["mistral/mistral-small-latest"]);
  assert.deepEqual(named(routerOver(both).byName(["mistral/mistral-small-latest"])), ["mistral/mistral-small-latest"]);
});

test("several models named by the caller are asked in the caller's order", () => {
  const route = routerOver(both).byName(["mistral-small-latest", "gpt-4o", "gpt-4o-mini"]);
  assert.deepEqual(named(route), ["mistral/mistral-small-latest", "openai/gpt-4o", "openai/gpt-4o-mini"]);
  assert.match(route.reason, /in order/);
});

test("a model that nobody offers is model_not_found, wherever in the list it stands", () => {
  for (const names of [["no-such-model"], ["gpt-4o", "no-such-model"], ["nowhere/gpt-4o"], ["/gpt-4o"]] as [
    string,
    ...string[],
  ][])
    assert.throws(() => routerOver(both).byName(names), coded("model_not_found"), names.join());
});

test("a provider's model without a price is refused, never free", () => {
  assert.throws(() => routerOver(both).byName(["openai/made-up-tomorrow"]), coded("model_price_unknown"));
  assert.throws(
    () => routerOver({ openai: "made-up-tomorrow" }).byWish({ preference: "auto" }),
    coded("model_price_unknown"),
  );
});

test("a price of the operator's makes a model known", () => {
  const override: PriceOverride = {
    provider: "openai",
    model: "made-up-tomorrow",
    kind: "chat",
    inputUsdPerMillion: "1",
    outputUsdPerMillion: "2",
    source: "test",
    asOf: "2026-11-01",
  };
  assert.deepEqual(named(routerOver(both, [override]).byName(["made-up-tomorrow"])), ["openai/made-up-tomorrow"]);
});

test("brikk/* asks every configured provider's default model; another word behind the slash is refused", () => {
  const router = routerOver(both);
  for (const name of ["brikk/auto", "brikk/cheap", "brikk/quality"])
    assert.equal(router.byName([name]).candidates.length, 2);
  assert.throws(() => router.byName(["brikk/fastest"]), coded("model_not_found"));
});

test("cheap begins with the cheaper model and quality with the better", () => {
  const router = routerOver({ openai: "gpt-4o", mistral: "mistral-small-latest" });
  assert.deepEqual(named(router.byName(["brikk/cheap"])), ["mistral/mistral-small-latest", "openai/gpt-4o"]);
  assert.deepEqual(named(router.byName(["brikk/quality"])), ["openai/gpt-4o", "mistral/mistral-small-latest"]);
});

const languages: readonly [string | undefined, string][] = [
  ["es", "mistral"],
  ["es-MX", "mistral"],
  ["ES", "mistral"],
  ["ja", "openai"],
  ["fr", "openai"],
  [undefined, "openai"],
];
for (const [language, first] of languages) {
  test(`language ${language ?? "unknown"} goes to ${first} first and to the other on failure`, () => {
    const route = routerOver(both).byWish({ preference: "auto", language });
    assert.equal(route.candidates.length, 2);
    assert.equal(route.candidates[0].connected.provider.name, first);
  });
}

test("a policy puts its provider first; one that is not configured is the caller's mistake", () => {
  assert.equal(
    routerOver(both).byWish({ preference: "cheap", provider: "mistral", language: "en" }).candidates[0].connected
      .provider.name,
    "mistral",
  );
  assert.throws(() => routerOver(both).byWish({ preference: "auto", provider: "nobody" }), coded("invalid_request"));
  assert.throws(
    () => routerOver({ openai: "gpt-4o-mini" }).byWish({ preference: "auto", provider: "nobody" }),
    coded("invalid_request"),
  );
});

test("a language whose provider is not configured goes to the one that is", () => {
  assert.deepEqual(named(routerOver({ openai: "gpt-4o-mini" }).byWish({ preference: "auto", language: "es" })), [
    "openai/gpt-4o-mini",
  ]);
});

test("without any provider the answer is no_provider_available", () => {
  assert.throws(() => routerOver({}).byWish({ preference: "auto" }), coded("no_provider_available"));
});
