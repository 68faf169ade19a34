import assert from "node:assert/strict";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import type { ModelRights } from "../../src/completion/allowed-models.ts";
import { createModelRouter, type ModelRouter, type RouterWish } from "../../src/completion/model-router.ts";
import type { TargetStanding } from "../../src/completion/provider-health.ts";
import type { PolicyConfig } from "../../src/config.ts";
import { BrikkError } from "../../src/errors.ts";
import { buildModelCatalogue, type PriceOverride } from "../../src/ledger/model-catalogue.ts";
import type { ProviderSet } from "../../src/providers/provider-set.ts";
import { ALL_WELL, chatRequest, connectedProvider, named, policyOf } from "./routing-fixture.ts";

/** What a router reads of them. */
function providerSet(defaults: Readonly<Record<string, string>>): ProviderSet {
  const all = Object.entries(defaults).map(([name, defaultModel]) => connectedProvider(name, { defaultModel }));
  const set: Partial<ProviderSet> = {
    all,
    known: Object.keys(defaults),
    find: (name) => all.find(({ provider }) => provider.name === name),
  };
  return set as ProviderSet;
}

interface RouterParts {
  readonly overrides?: readonly PriceOverride[];
  readonly policies?: readonly PolicyConfig[];
  readonly standingOf?: (provider: string, model: string) => TargetStanding;
  readonly rights?: ModelRights;
}

type Names = Parameters<ModelRouter["byName"]>[0];

function routerOver(
  defaults: Readonly<Record<string, string>>,
  { overrides = [], policies = [], standingOf = () => ALL_WELL, rights = {} }: RouterParts = {},
) {
  const catalogue = buildModelCatalogue({ overrides, now: () => Date.UTC(2026, 10, 23) });
  const providers = providerSet(defaults);
  const router = createModelRouter({
    providers,
    catalogue: () => catalogue,
    languages: { es: "mistral", en: "openai", ja: "openai" },
    policies: () => policies,
    standingOf,
    random: () => 0.5,
  });
  return {
    byName: (names: Names, body: object = {}) => router.byName(names, chatRequest(body), rights),
    byWish: (wish: RouterWish, body: object = {}) => router.byWish(wish, chatRequest(body), rights),
    byProvider: (name: string) => router.byProvider(providers.find(name)!, rights),
  };
}
const both = { openai: "gpt-4o-mini", mistral: "mistral-small-latest" };
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
  assert.deepEqual(named(routerOver(both, { overrides: [override] }).byName(["made-up-tomorrow"])), [
    "openai/made-up-tomorrow",
  ]);
});

test("brikk/* asks every configured provider's default model; another word behind the slash is refused", () => {
  const router = routerOver(both);
  for (const name of ["brikk/auto", "brikk/cheap", "brikk/quality", "brikk/balanced"])
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
  ["es-419", "mistral"],
  ["spa", "mistral"],
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
    routerOver(both).byWish({ preference: "cheap", policy: "mistral", language: "en" }).candidates[0].connected.provider
      .name,
    "mistral",
  );
  assert.throws(() => routerOver(both).byWish({ preference: "auto", policy: "nobody" }), coded("invalid_request"));
  assert.throws(
    () => routerOver({ openai: "gpt-4o-mini" }).byWish({ preference: "auto", policy: "nobody" }),
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

test("what is not a provider and not a policy is refused with what there is", () => {
  const router = routerOver(both, { policies: [policyOf({ name: "support" })] });
  assert.throws(
    () => router.byWish({ preference: "auto", policy: "nobody" }),
    (error) => error instanceof BrikkError && /there are openai, mistral, support\./.test(error.message),
  );
  assert.throws(
    () => router.byName(["brikk/nobody"]),
    (error) =>
      error instanceof BrikkError &&
      error.code === "model_not_found" &&
      /brikk\/auto, brikk\/balanced, brikk\/cheap, brikk\/quality, brikk\/support;/.test(error.message),
  );
});

test("a provider whose default model has no price is left out with the reason while another can serve", () => {
  const route = routerOver({ openai: "made-up-tomorrow", mistral: "mistral-small-latest" }).byName(["brikk/auto"]);
  assert.deepEqual(named(route), ["mistral/mistral-small-latest"]);
  assert.deepEqual(
    route.excluded.map(({ provider, model }) => [provider, model]),
    [["openai", "made-up-tomorrow"]],
  );
  assert.match(route.excluded[0]!.reason, /no price/);
});

test("a policy is asked for as brikk/NAME and by its name, its candidates serve, and the reason names it", () => {
  const policy = policyOf({ name: "support", models: ["mistral/mistral-large-latest", "gpt-4o"] });
  const router = routerOver(both, { policies: [policy] });
  for (const route of [
    router.byName(["brikk/support"]),
    router.byWish({ preference: "cheap", language: "en", policy: "support" }),
  ]) {
    assert.deepEqual(named(route), ["mistral/mistral-large-latest", "openai/gpt-4o"]);
    assert.equal(route.reason, "policy support: in its order");
    assert.equal(route.policy, policy);
  }
});

for (const name of ["auto", "cheap", "quality", "balanced"] as const) {
  test(`a policy called ${name} replaces what brikk/${name} and the wish for it were`, () => {
    const router = routerOver(both, { policies: [policyOf({ name, models: ["mistral/mistral-large-latest"] })] });
    assert.deepEqual(named(router.byName([`brikk/${name}`])), ["mistral/mistral-large-latest"]);
    assert.deepEqual(named(router.byWish({ preference: name, language: "en" })), ["mistral/mistral-large-latest"]);
    // A provider that the caller names still comes first.
    assert.equal(named(router.byWish({ preference: name, policy: "openai" }))[0], "openai/gpt-4o-mini");
  });
}

test("a policy's candidate that has no price or no provider is left out with the reason; with none left the refusal names each", () => {
  const gone = ["openai/made-up-tomorrow", "nowhere/big-model", "no-such-model"];
  const some = routerOver(both, { policies: [policyOf({ name: "p", models: [...gone, "gpt-4o"] })] });
  const route = some.byName(["brikk/p"]);
  assert.deepEqual(named(route), ["openai/gpt-4o"]);
  assert.deepEqual(
    route.excluded.map(({ provider, model }) => [provider, model]),
    [
      ["openai", "made-up-tomorrow"],
      ["nowhere", "big-model"],
      ["none", "no-such-model"],
    ],
  );
  const none = routerOver(both, { policies: [policyOf({ name: "p", models: gone })] });
  assert.throws(
    () => none.byName(["brikk/p"]),
    (error) =>
      error instanceof BrikkError &&
      error.code === "no_provider_available" &&
      gone.every((name) => error.message.includes(name)) &&
      /no price/.test(error.message) &&
      /no configured provider/.test(error.message),
  );
});

test("what is dearer than a policy allows is left out with the figures, also when nobody is left", () => {
  const limits = { maxInputPrice: "1", maxOutputPrice: "2.5" };
  const route = routerOver(both, {
    policies: [policyOf({ name: "thrifty", models: ["gpt-4o", "gpt-4o-mini"], ...limits })],
  }).byName(["brikk/thrifty"]);
  assert.deepEqual(named(route), ["openai/gpt-4o-mini"]);
  assert.deepEqual(route.excluded, [
    {
      provider: "openai",
      model: "gpt-4o",
      reason:
        "input at 2.5 USD per million tokens, above the policy's 1; output at 10 USD per million tokens, above the policy's 2.5",
    },
  ]);
  assert.throws(
    () =>
      routerOver(both, { policies: [policyOf({ name: "thrifty", models: ["gpt-4o"], ...limits })] }).byName([
        "brikk/thrifty",
      ]),
    (error) => coded("no_provider_available")(error) && /2\.5 USD per million/.test((error as BrikkError).message),
  );
});

const permitted: readonly (readonly [string, readonly string[], string, boolean])[] = [
  ["the name as it stands", ["gpt-4o"], "gpt-4o", true],
  ["the same model with its provider", ["gpt-4o"], "openai/gpt-4o", true],
  ["the same model without its provider", ["openai/gpt-4o"], "gpt-4o", true],
  ["a name that nobody offers any more", ["gpt-none"], "gpt-none", true],
  ["another model", ["gpt-4o"], "gpt-4o-mini", false],
];
for (const [what, appliesTo, model, swapped] of permitted) {
  test(`appliesTo is the permission to answer with a policy's candidates: ${what}`, () => {
    const policy = policyOf({ name: "swap", models: ["mistral-small-latest", "gpt-4o-mini"], appliesTo });
    const route = routerOver(both, { policies: [policy] }).byName([model]);
    assert.equal(route.policy, swapped ? policy : undefined);
    assert.equal(
      route.reason,
      swapped ? `policy swap in place of ${model}: in its order` : "model named by the caller",
    );
    assert.deepEqual(
      named(route),
      swapped ? ["mistral/mistral-small-latest", "openai/gpt-4o-mini"] : [`openai/${model}`],
    );
  });
}

test("appliesTo changes nothing for a caller's own list, nor for a provider that is named", () => {
  const policies = [policyOf({ name: "swap", models: ["mistral-small-latest"], appliesTo: ["gpt-4o-mini"] })];
  const router = routerOver(both, { policies });
  assert.deepEqual(named(router.byName(["gpt-4o-mini", "gpt-4o"])), ["openai/gpt-4o-mini", "openai/gpt-4o"]);
  assert.deepEqual(named(router.byProvider("openai")), ["openai/gpt-4o-mini"]);
});

test("who makes embeddings is not asked to chat, alone, in a list or by a policy, whoever else cannot serve", () => {
  const vectors = policyOf({ name: "vectors", models: ["text-embedding-3-small", "mistral-embed"] });
  const router = routerOver(both, { policies: [vectors] });
  assert.throws(() => router.byName(["text-embedding-3-small"]), coded("invalid_request"));
  assert.throws(() => router.byName(["text-embedding-3-small", "mistral-embed"]), coded("invalid_request"));
  assert.throws(() => router.byName(["brikk/vectors"]), coded("invalid_request"));
  const route = router.byName(["text-embedding-3-small", "gpt-4o"], { max_tokens: 1_000_000 });
  assert.deepEqual(named(route), ["openai/gpt-4o"]);
  assert.deepEqual(route.excluded, [
    { provider: "openai", model: "text-embedding-3-small", reason: "makes embeddings and does not chat" },
  ]);
});

test("a single model named by the caller is not judged by more than that: fit or not, open or not, it is asked", () => {
  const router = routerOver(both, { standingOf: () => ({ ...ALL_WELL, state: "open", availableInMs: 60_000 }) });
  const route = router.byName(["gpt-3.5-turbo"], { max_tokens: 9_000_000 });
  assert.deepEqual(named(route), ["openai/gpt-3.5-turbo"]);
  assert.equal(route.reason, "model named by the caller");
});

test("who is named twice is asked at its first place", () => {
  assert.deepEqual(named(routerOver(both).byName(["gpt-4o", "mistral-small-latest", "openai/gpt-4o"])), [
    "openai/gpt-4o",
    "mistral/mistral-small-latest",
  ]);
});

test("standings are asked for by provider and model, and whoever is open goes behind and is named", () => {
  const route = routerOver(both, {
    standingOf: (provider, model) =>
      provider === "openai" && model === "gpt-4o-mini"
        ? { ...ALL_WELL, state: "open", availableInMs: 12_000 }
        : ALL_WELL,
  }).byName(["brikk/auto"]);
  assert.deepEqual(named(route), ["mistral/mistral-small-latest", "openai/gpt-4o-mini"]);
  assert.equal(route.reason, "first configured provider; openai/gpt-4o-mini behind, its circuit breaker is open");
  assert.match(route.reasons[1]!, /its circuit breaker is open for another 12 s/);
});

test("a reason is never longer than 200 characters", () => {
  const models = Array.from({ length: 6 }, (_, index) => `openai/${"long-name-".repeat(15)}${index}`);
  const overrides = models.map((name): PriceOverride => ({
    provider: "openai",
    model: name.slice("openai/".length),
    inputUsdPerMillion: "1",
    outputUsdPerMillion: "2",
    acceptsImages: name.endsWith("0"),
    source: "test",
    asOf: "2026-11-01",
  }));
  const image = { type: "image_url", image_url: { url: "https://example.com/a.png" } };
  const policies = [policyOf({ name: "p".repeat(60), models, appliesTo: [models[1]!] })];
  const route = routerOver(both, {
    overrides,
    policies,
    standingOf: () => ({ ...ALL_WELL, state: "open", availableInMs: 1 }),
  }).byName([models[1]!], { messages: [{ role: "user", content: [image] }] });
  assert.equal(route.candidates.length, 1);
  assert.equal(route.excluded.length, 5);
  assert.ok(route.reason.length <= 200 && route.reason.endsWith("..."), route.reason);
});

const notAllowed = (rule: string, allowed: readonly string[], param: string) => (error: unknown) =>
  error instanceof BrikkError &&
  error.code === "model_not_allowed" &&
  error.status === 403 &&
  error.extras.param === param &&
  isDeepStrictEqual(error.extras.details, { rule, allowed });

test("a named model that the key may not use is refused with the rule and what is allowed, by whichever name it is called", () => {
  const router = routerOver(both, { rights: { allowedModels: ["gpt-4o-mini"] } });
  const refused = notAllowed("models", ["gpt-4o-mini"], "model");
  for (const name of [
    "gpt-4o",
    "openai/gpt-4o",
    "GPT-4O",
    "gpt-4o-mini-2024-07-18",
    "openai/gpt-4o-mini-2024-07-18",
    "mistral-small-latest",
    "mistral/mistral-small-latest",
  ])
    assert.throws(() => router.byName([name]), refused, name);
  for (const name of ["gpt-4o-mini", "openai/gpt-4o-mini"])
    assert.deepEqual(named(router.byName([name])), ["openai/gpt-4o-mini"]);
  assert.throws(() => router.byName(["gpt-4o", "gpt-4o-mini"]), refused);
  assert.throws(() => router.byName(["gpt-4o-mini", "gpt-4o"]), notAllowed("models", ["gpt-4o-mini"], "models"));
  assert.throws(() => router.byProvider("mistral"), notAllowed("models", ["gpt-4o-mini"], "agent"));
  assert.deepEqual(named(router.byProvider("openai")), ["openai/gpt-4o-mini"]);
});

test("the router chooses among what the key may use, and says who is left out and by which rule", () => {
  for (const name of ["brikk/auto", "brikk/cheap", "brikk/quality", "brikk/balanced"] as const) {
    const route = routerOver(both, { rights: { allowedProviders: ["mistral"] } }).byName([name]);
    assert.deepEqual(named(route), ["mistral/mistral-small-latest"], name);
    assert.deepEqual(route.excluded, [
      { provider: "openai", model: "gpt-4o-mini", reason: "is not among the key's providers" },
    ]);
  }
  assert.throws(
    () => routerOver(both, { rights: { allowedProviders: ["elsewhere"] } }).byWish({ preference: "auto" }),
    notAllowed("providers", ["elsewhere"], "model"),
  );
});

test("where a key may not use a provider's default model, what its list names of the provider stands in", () => {
  const allowedModels = ["gpt-4o", "mistral/mistral-large-latest", "no-such-model"];
  const route = routerOver(both, { rights: { allowedModels } }).byName(["brikk/auto"]);
  assert.deepEqual(named(route).sort(), ["mistral/mistral-large-latest", "openai/gpt-4o"]);
  assert.equal(route.excluded.length, 2);
});

test("a policy's candidates are kept to what the key may use, whether it is named or stands in for a model", () => {
  const policies = [
    policyOf({ name: "mixed", models: ["gpt-4o", "mistral-small-latest"], appliesTo: ["fast", "gpt-4o"] }),
    policyOf({ name: "auto", models: ["gpt-4o", "gpt-4o-mini"] }),
  ];
  const small = routerOver(both, { policies, rights: { allowedModels: ["mistral-small-latest"] } });
  for (const name of ["brikk/mixed", "fast", "gpt-4o"])
    assert.deepEqual(named(small.byName([name])), ["mistral/mistral-small-latest"], name);
  assert.deepEqual(named(small.byWish({ preference: "auto", policy: "mixed" })), ["mistral/mistral-small-latest"]);
  assert.throws(() => small.byName(["brikk/auto"]), notAllowed("models", ["mistral-small-latest"], "model"));
});

test("a name that several providers offer means one of those that the key may use", () => {
  const overrides: PriceOverride[] = ["one", "two"].map((provider) => ({
    provider,
    model: "open-model",
    kind: "chat",
    inputUsdPerMillion: "1",
    outputUsdPerMillion: "2",
    source: "test",
    asOf: "2026-11-01",
  }));
  const defaults = { one: "open-model", two: "open-model" };
  const routeFor = (rights: ModelRights) => routerOver(defaults, { overrides, rights }).byName(["open-model"]);
  assert.deepEqual(named(routeFor({})), ["one/open-model"]);
  assert.deepEqual(named(routeFor({ allowedProviders: ["two"] })), ["two/open-model"]);
  assert.deepEqual(named(routeFor({ allowedModels: ["two/open-model"] })), ["two/open-model"]);
  assert.throws(
    () => routerOver(defaults, { overrides, rights: { allowedProviders: ["two"] } }).byName(["one/open-model"]),
    notAllowed("providers", ["two"], "model"),
  );
});
