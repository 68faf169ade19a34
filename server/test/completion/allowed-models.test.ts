import assert from "node:assert/strict";
import { test } from "node:test";
import { forbiddenBy, type ModelRights, namesAt, offeredModels } from "../../src/completion/allowed-models.ts";
import { buildModelCatalogue } from "../../src/ledger/model-catalogue.ts";

const KNOWN = ["openai", "mistral", "reseller"];
const model = (name: string) => {
  const slash = name.indexOf("/");
  return { provider: name.slice(0, slash), id: name.slice(slash + 1) };
};
const ruleFor = (rights: ModelRights, name: string): string | undefined =>
  forbiddenBy(rights, model(name), KNOWN)?.rule;

const LISTS: readonly (readonly [allowed: string, asked: string, isAllowed: boolean])[] = [
  ["gpt-4o-mini", "openai/gpt-4o-mini", true],
  ["gpt-4o-mini", "reseller/gpt-4o-mini", true],
  ["GPT-4o-mini", "openai/gpt-4o-MINI", true],
  ["openai/gpt-4o-mini", "openai/gpt-4o-mini", true],
  ["OpenAI/gpt-4o-mini", "openai/gpt-4o-mini", true],
  ["openai/gpt-4o-mini", "reseller/gpt-4o-mini", false],
  // A reseller's own name of the model is not the provider's model.
  ["openai/gpt-4o-mini", "reseller/openai/gpt-4o-mini", false],
  ["reseller/openai/gpt-4o-mini", "reseller/openai/gpt-4o-mini", true],
  ["someone/open-model", "reseller/someone/open-model", true],
  ["gpt-4o-mini", "openai/gpt-4o", false],
  ["gpt-4o", "openai/gpt-4o-mini", false],
  ["gpt-4o", "openai/gpt-4o-2024-08-06", false],
  ["gpt-4o-2024-08-06", "openai/gpt-4o", false],
  ["gpt-4o", "openai/chatgpt-4o-latest", false],
  ["gpt-4o", "openai/ft:gpt-4o:org", false],
  ["mistral-small-latest", "mistral/mistral-small", false],
  ["mistral-small", "mistral/mistral-small-latest", false],
  ["gpt-4o", "openai/gpt-4o ", false],
  ["brikk/auto", "openai/gpt-4o", false],
  ["*", "openai/gpt-4o", false],
  ["openai/", "openai/gpt-4o", false],
  ["", "openai/gpt-4o", false],
];
for (const [allowed, asked, isAllowed] of LISTS)
  test(`with "${allowed}" allowed, ${asked} is ${isAllowed ? "" : "not "}allowed`, () => {
    assert.equal(ruleFor({ allowedModels: [allowed] }, asked), isAllowed ? undefined : "models");
  });

test("a key without lists may use everything, one with empty lists nothing", () => {
  assert.equal(ruleFor({}, "openai/gpt-4o"), undefined);
  assert.equal(ruleFor({ allowedModels: [] }, "openai/gpt-4o"), "models");
  assert.equal(ruleFor({ allowedProviders: [] }, "openai/gpt-4o"), "providers");
});

test("both lists must allow a model", () => {
  const rights = { allowedModels: ["gpt-4o"], allowedProviders: ["openai"] };
  assert.equal(ruleFor(rights, "openai/gpt-4o"), undefined);
  assert.equal(ruleFor(rights, "reseller/gpt-4o"), "providers");
  assert.equal(ruleFor(rights, "openai/gpt-4o-mini"), "models");
});

test("a list's names are read as the provider knows them", () => {
  assert.deepEqual(namesAt("openai", ["openai/a", "mistral/b", "c", "someone/d"], KNOWN), ["a", "c", "someone/d"]);
});

test("what is offered to a key is what it may use, dated names that its list has included", () => {
  const catalogue = buildModelCatalogue({ overrides: [], now: () => Date.UTC(2026, 10, 23) });
  const idsOf = (rights: ModelRights) => offeredModels(catalogue, "openai", rights, KNOWN).map(({ id }) => id);
  assert.ok(idsOf({}).length > 10);
  assert.deepEqual(
    idsOf({}),
    catalogue.list("openai").map(({ id }) => id),
  );
  assert.deepEqual(idsOf({ allowedModels: ["openai/gpt-4o-mini", "gpt-4o-2024-08-06", "mistral-small-latest", "x"] }), [
    "gpt-4o-mini",
    "gpt-4o-2024-08-06",
  ]);
  assert.deepEqual(idsOf({ allowedProviders: ["mistral"] }), []);
});
