import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { unfitness } from "../../src/completion/candidate-fitness.ts";
import { expectedCost } from "../../src/completion/expected-cost.ts";
import type { Contender, Preference, Wish } from "../../src/completion/wish.ts";
import { rankCandidates, type Ranking, type Reasoned } from "../../src/completion/rank-candidates.ts";
import { contenderOf, factsOf, policyOf } from "./routing-fixture.ts";

const LANGUAGES = { es: "beta", ja: "alpha" };
const GIVEN: Wish = { kind: "given" };
const preferring = (preference: Preference, more: { language?: string; provider?: string } = {}): Wish => ({
  kind: "preference",
  preference,
  language: more.language,
  provider: more.provider,
});
const following = (policy: Omit<Parameters<typeof policyOf>[0], "name">): Wish => ({
  kind: "policy",
  policy: policyOf({ name: "p", ...policy }),
  insteadOf: undefined,
});
const rank = (contenders: readonly Contender[], wish: Wish, body: object = {}, random: () => number = () => 0.5) =>
  rankCandidates(contenders, wish, { facts: factsOf(body), languages: LANGUAGES, random });
const namesOf = (all: readonly Reasoned[]): string[] =>
  all.map(({ candidate: { model } }) => `${model.provider}/${model.id}`);
const OPEN = { state: "open", availableInMs: 12_400 } as const;
const COOLING = { state: "closed", availableInMs: 3_000 } as const;
const PICTURE = {
  messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "https://example.com/a.png" } }] }],
};

// ---- properties

const price = fc.integer({ min: 0, max: 50_000_000 }).map((millionths) => (millionths / 1e6).toFixed(6));
const optionalMs = fc.option(fc.integer({ min: 1, max: 20_000 }), { nil: undefined });
const anyContender = fc
  .record({
    provider: fc.constantFrom("alpha", "beta", "gamma"),
    input: price,
    output: price,
    acceptsImages: fc.constantFrom(true, false, undefined),
    maxOutputTokens: fc.option(fc.integer({ min: 1, max: 200_000 }), { nil: undefined }),
    reasons: fc.boolean(),
    qualityTier: fc.integer({ min: 1, max: 3 }),
    unfit: fc.boolean(),
    weight: fc.integer({ min: 0, max: 5 }),
    state: fc.constantFrom("closed" as const, "open" as const, "half-open" as const),
    availableInMs: fc.constantFrom(0, 0, 1, 60_000),
    errorRate: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined }),
    firstTokenP50Ms: optionalMs,
  })
  .map(
    ({ provider, unfit, weight, state, availableInMs, errorRate, firstTokenP50Ms, ...traits }) =>
      (id: string): Contender =>
        contenderOf(
          `${provider}/${id}`,
          { ...traits, ...(unfit && { unfit: () => "cannot" }) },
          { state, availableInMs, errorRate, firstTokenP50Ms },
          weight,
        ),
  );
const someContenders = fc
  .array(anyContender, { minLength: 1, maxLength: 7 })
  .map((makers) => makers.map((make, index) => make(`m${index}`)));
const anyWish: fc.Arbitrary<Wish> = fc.oneof(
  fc.constant(GIVEN),
  fc.record({
    kind: fc.constant("preference" as const),
    preference: fc.constantFrom("auto" as const, "cheap" as const, "quality" as const, "balanced" as const),
    language: fc.constantFrom("es", "ja-JP", "fi", "xx-nonsense", undefined),
    provider: fc.constantFrom("alpha", "gamma", undefined),
  }),
  fc
    .record({
      strategy: fc.constantFrom(
        "order" as const,
        "weighted" as const,
        "lowest_cost" as const,
        "lowest_latency" as const,
      ),
      limit: fc.option(price, { nil: undefined }),
    })
    .map(({ strategy, limit }) => following({ strategy, ...(limit !== undefined && { maxInputPrice: limit }) })),
);
const anyBody = fc.constantFrom<object>({}, { max_tokens: 5_000 }, { max_tokens: 100_000, n: 3 }, PICTURE);
const numbers = fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), {
  minLength: 10,
  maxLength: 10,
});
const replay = (values: readonly number[]): (() => number) => {
  let next = 0;
  return () => values[next++ % values.length]!;
};
const holds = (check: (ranking: Ranking, contenders: readonly Contender[], wish: Wish, body: object) => void): void =>
  fc.assert(
    fc.property(someContenders, anyWish, anyBody, numbers, (contenders, wish, body, random) =>
      check(rank(contenders, wish, body, replay(random)), contenders, wish, body),
    ),
    { numRuns: 400 },
  );
const contenderNamed = (contenders: readonly Contender[], { candidate }: Reasoned): Contender =>
  contenders.find((contender) => contender.candidate === candidate)!;

test("every candidate comes out exactly once, in order or excluded, and each with a reason", () => {
  holds(({ ranked, excluded, reason }, contenders) => {
    assert.deepEqual(
      namesOf([...ranked, ...excluded]).sort(),
      namesOf(contenders.map(({ candidate }) => ({ candidate, reason: "" }))).sort(),
    );
    for (const one of [...ranked, ...excluded]) assert.ok(one.reason.length > 0);
    assert.ok(reason.length > 0);
  });
});

test("nobody who may not be asked yet stands before somebody who may", () => {
  holds(({ ranked }, contenders) => {
    const waits = ranked.map((one) => contenderNamed(contenders, one).standing.availableInMs > 0);
    assert.deepEqual(
      waits,
      [...waits].sort((a, b) => Number(a) - Number(b)),
    );
  });
});

test("whoever cannot do what is asked is excluded as soon as anybody can; where nobody can all stay", () => {
  holds(({ ranked, excluded }, _contenders, _wish, body) => {
    const isUnfit = ({ candidate }: Reasoned): boolean => unfitness(candidate, factsOf(body)) !== undefined;
    const others = excluded.filter(({ reason }) => !reason.includes("above the policy's"));
    assert.ok(others.every(isUnfit));
    assert.ok(others.length === 0 || ranked.length > 0);
    assert.ok(ranked.every(isUnfit) ? others.length === 0 : !ranked.some(isUnfit));
  });
});

test("cheap and lowest_cost are sorted by what this request is expected to cost, among those who may be asked", () => {
  holds(({ ranked }, contenders, wish, body) => {
    const byCost =
      (wish.kind === "preference" && wish.preference === "cheap" && wish.provider === undefined) ||
      (wish.kind === "policy" && wish.policy.strategy === "lowest_cost");
    if (!byCost) return;
    for (const ready of [true, false]) {
      const costs = ranked
        .filter((one) => (contenderNamed(contenders, one).standing.availableInMs === 0) === ready)
        .map(({ candidate }) => expectedCost(candidate.model, factsOf(body)));
      assert.deepEqual(
        costs,
        [...costs].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)),
      );
    }
  });
});

test("what is dearer than a policy allows is never served, not even when nobody is left", () => {
  holds(({ ranked }, _contenders, wish) => {
    if (wish.kind !== "policy" || wish.policy.maxPrice?.inputUsdPerMillion === undefined) return;
    const limit = Number(wish.policy.maxPrice.inputUsdPerMillion);
    for (const { candidate } of ranked) assert.ok(Number(candidate.model.rates.freshInput) / 1e6 <= limit);
  });
});

test("the same facts and the same random numbers give the same order and the same words", () => {
  fc.assert(
    fc.property(someContenders, anyWish, anyBody, numbers, (contenders, wish, body, random) => {
      assert.deepEqual(rank(contenders, wish, body, replay(random)), rank(contenders, wish, body, replay(random)));
    }),
  );
});

// ---- order by preference

const cheapSmall = contenderOf("alpha/small", { input: "0.1", output: "0.4", qualityTier: 1 });
const middling = contenderOf("beta/middle", { input: "1", output: "2", qualityTier: 2 });
const dearBest = contenderOf("gamma/best", { input: "5", output: "20", qualityTier: 3 });
const three = [middling, dearBest, cheapSmall];

const preferences: readonly (readonly [string, Wish, readonly string[], string])[] = [
  ["the caller's list", GIVEN, ["beta/middle", "gamma/best", "alpha/small"], "models named by the caller, in order"],
  ["auto", preferring("auto"), ["beta/middle", "gamma/best", "alpha/small"], "first configured provider"],
  [
    "auto with a language",
    preferring("auto", { language: "ja" }),
    ["alpha/small", "beta/middle", "gamma/best"],
    "language ja",
  ],
  [
    "auto with a language's region and capitals",
    preferring("auto", { language: "JA-jp" }),
    ["alpha/small", "beta/middle", "gamma/best"],
    "language ja",
  ],
  [
    "auto with a language nobody is preferred for",
    preferring("auto", { language: "fi" }),
    ["beta/middle", "gamma/best", "alpha/small"],
    "language fi has no preference; first configured provider",
  ],
  ["cheap", preferring("cheap"), ["alpha/small", "beta/middle", "gamma/best"], "cheapest for this request"],
  ["quality", preferring("quality"), ["gamma/best", "beta/middle", "alpha/small"], "best quality tier"],
  [
    "balanced",
    preferring("balanced"),
    // Marks without the first-token time, which nobody knows: 0.008 + 0.4, 0.04 + 0.2, 0.4 + 0.
    ["beta/middle", "gamma/best", "alpha/small"],
    "balanced over price, quality and first-token time",
  ],
  [
    "a provider, then by the hint",
    preferring("cheap", { provider: "gamma" }),
    ["gamma/best", "alpha/small", "beta/middle"],
    "policy gamma",
  ],
  [
    "a provider that is no candidate, by the hint",
    preferring("cheap", { provider: "delta" }),
    ["alpha/small", "beta/middle", "gamma/best"],
    "policy delta, which is no candidate; cheapest for this request",
  ],
];
for (const [name, wish, order, reason] of preferences) {
  test(`the order of ${name}`, () => {
    const ranking = rank(three, wish);
    assert.deepEqual(namesOf(ranking.ranked), order);
    assert.equal(ranking.reason, reason);
  });
}

test("cheap goes by this request: a long answer and a long question may have different cheapest models", () => {
  const forQuestions = contenderOf("alpha/cheap-input", { input: "0.1", output: "10" });
  const forAnswers = contenderOf("beta/cheap-output", { input: "3", output: "1" });
  const long = { messages: [{ role: "user", content: "word ".repeat(10_000) }], max_tokens: 50 };
  assert.equal(namesOf(rank([forAnswers, forQuestions], preferring("cheap"), long).ranked)[0], "alpha/cheap-input");
  const short = { max_tokens: 4_000 };
  assert.equal(namesOf(rank([forQuestions, forAnswers], preferring("cheap"), short).ranked)[0], "beta/cheap-output");
});

test("a model that thinks is expected to bill its thoughts, and pictures at what its vendor counts", () => {
  const thinking = contenderOf("alpha/thinking", { input: "1", output: "1.5", reasons: true });
  const plain = contenderOf("beta/plain", { input: "1", output: "2" });
  assert.equal(namesOf(rank([thinking, plain], preferring("cheap")).ranked)[0], "beta/plain");
  assert.equal(namesOf(rank([thinking, plain], preferring("cheap"), { max_tokens: 300 }).ranked)[0], "alpha/thinking");
  const greedy = contenderOf("alpha/greedy", { input: "0.9", output: "2", maxImageTokens: 48_000 });
  assert.equal(namesOf(rank([greedy, plain], preferring("cheap")).ranked)[0], "alpha/greedy");
  assert.equal(namesOf(rank([greedy, plain], preferring("cheap"), PICTURE).ranked)[0], "beta/plain");
});

test("among equals in quality recent errors decide when they differ by more than noise, then the price", () => {
  const dear = contenderOf("alpha/dear", { input: "3" }, { errorRate: 0 });
  const cheap = contenderOf("beta/cheap", { input: "1" }, { errorRate: 0.01 });
  assert.equal(namesOf(rank([dear, cheap], preferring("quality")).ranked)[0], "beta/cheap");
  const failing = contenderOf("beta/cheap", { input: "1" }, { errorRate: 0.3 });
  assert.equal(namesOf(rank([failing, dear], preferring("quality")).ranked)[0], "alpha/dear");
});

test("in the balance a fast model wins over an equal one, and equals go by language, then as configured", () => {
  const slow = contenderOf("alpha/slow", {}, { firstTokenP50Ms: 2_000 });
  const fast = contenderOf("beta/fast", {}, { firstTokenP50Ms: 200 });
  assert.equal(namesOf(rank([slow, fast], preferring("balanced")).ranked)[0], "beta/fast");
  const equals = [contenderOf("alpha/a"), contenderOf("beta/b")];
  assert.equal(namesOf(rank(equals, preferring("balanced")).ranked)[0], "alpha/a");
  assert.equal(namesOf(rank(equals, preferring("balanced", { language: "es" })).ranked)[0], "beta/b");
});

// ---- policies

test("a policy in order keeps its own order, whatever language or price", () => {
  const ranking = rank(three, following({ strategy: "order" }));
  assert.deepEqual(namesOf(ranking.ranked), ["beta/middle", "gamma/best", "alpha/small"]);
  assert.equal(ranking.reason, "policy p: in its order");
});

test("a weighted policy draws by weight: over many draws each comes first as often as it weighs", () => {
  const drawn = [
    contenderOf("a/x", {}, {}, 6),
    contenderOf("b/x", {}, {}, 3),
    contenderOf("c/x", {}, {}, 1),
    contenderOf("d/x", {}, {}, 0),
  ];
  const firsts = new Map<string, number>();
  // Evenly spread numbers instead of luck.
  for (let index = 0; index < 1_000; index += 1) {
    const [first] = namesOf(rank(drawn, following({ strategy: "weighted" }), {}, () => (index + 0.5) / 1_000).ranked);
    firsts.set(first!, (firsts.get(first!) ?? 0) + 1);
  }
  assert.deepEqual(Object.fromEntries(firsts), { "a/x": 600, "b/x": 300, "c/x": 100 });
});

test("a weighted policy's further places are drawn among those that are left; what weighs nothing comes last", () => {
  const drawn = [
    contenderOf("d/x", {}, {}, 0),
    contenderOf("a/x", {}, {}, 6),
    contenderOf("b/x", {}, {}, 3),
    contenderOf("c/x", {}, {}, 1),
  ];
  const order = (...values: number[]) =>
    namesOf(rank(drawn, following({ strategy: "weighted" }), {}, replay(values)).ranked);
  assert.deepEqual(order(0, 0, 0, 0), ["a/x", "b/x", "c/x", "d/x"]);
  assert.deepEqual(order(0.99, 0.99, 0.99, 0.99), ["c/x", "b/x", "a/x", "d/x"]);
  // 0.65 of 10 is b; of the 7 that are left 0.9 is c.
  assert.deepEqual(order(0.65, 0.9, 0.5, 0.5), ["b/x", "c/x", "a/x", "d/x"]);
});

test("lowest_latency goes by the recent median; whoever has none comes behind, and is tried first one time in ten", () => {
  const slow = contenderOf("a/slow", {}, { firstTokenP50Ms: 900 });
  const fast = contenderOf("b/fast", {}, { firstTokenP50Ms: 300 });
  const unknown = contenderOf("c/unknown");
  const order = (random: number, ...contenders: Contender[]) =>
    namesOf(rank(contenders, following({ strategy: "lowest_latency" }), {}, () => random).ranked);
  assert.deepEqual(order(0.5, unknown, slow, fast), ["b/fast", "a/slow", "c/unknown"]);
  assert.deepEqual(order(0.09, unknown, slow, fast), ["c/unknown", "b/fast", "a/slow"]);
  assert.deepEqual(order(0.1, unknown, slow, fast), ["b/fast", "a/slow", "c/unknown"]);
  const [otherUnknown, open] = [contenderOf("d/unknown"), contenderOf("c/unknown", {}, OPEN)];
  assert.deepEqual(order(0, unknown, otherUnknown), ["c/unknown", "d/unknown"], "with none known, as given");
  assert.deepEqual(
    order(0, open, otherUnknown, fast),
    ["d/unknown", "b/fast", "c/unknown"],
    "an open one is not tried",
  );
});

// ---- fitness

const fitness: readonly (readonly [string, Parameters<typeof contenderOf>[1], object, RegExp])[] = [
  ["a picture for a model that takes none", { acceptsImages: false }, PICTURE, /takes no pictures/],
  [
    "a longer answer than the model writes",
    { maxOutputTokens: 4_096 },
    { max_tokens: 4_097 },
    /writes at most 4096 tokens, 4097 are asked for/,
  ],
  [
    "a text that cannot fit whatever the tokenizer",
    { contextTokens: 100 },
    { messages: [{ role: "user", content: "x".repeat(100 * 128 + 1) }] },
    /reads at most 100 tokens, the text has 101 at least/,
  ],
  [
    "what the provider's wire form lacks",
    {
      unfit: (operation, { value }) =>
        operation === "chat" && "logit_bias" in value ? "knows no logit_bias" : undefined,
    },
    { logit_bias: {} },
    /knows no logit_bias/,
  ],
];
for (const [what, traits, body, reason] of fitness) {
  test(`${what} is excluded before anybody is called, and named in the reason`, () => {
    const unfit = contenderOf("alpha/unfit", traits);
    const fit = contenderOf("beta/fit");
    const ranking = rank([unfit, fit], GIVEN, body);
    assert.deepEqual(namesOf(ranking.ranked), ["beta/fit"]);
    assert.deepEqual(namesOf(ranking.excluded), ["alpha/unfit"]);
    assert.match(ranking.excluded[0]!.reason, reason);
    assert.match(ranking.reason, /^models named by the caller, in order; without alpha\/unfit: /);
    // The same candidate for a plain request.
    assert.equal(rank([unfit, fit], GIVEN).excluded.length, 0);
  });

  test(`where nobody can (${what}), all stay as they were, and the reason says so`, () => {
    const ranking = rank([contenderOf("alpha/a", traits), contenderOf("beta/b", traits)], GIVEN, body);
    assert.deepEqual(namesOf(ranking.ranked), ["alpha/a", "beta/b"]);
    assert.equal(ranking.excluded.length, 0);
    assert.match(ranking.reason, /none can do all that is asked/);
    assert.match(ranking.ranked[0]!.reason, reason);
  });
}

test("what is not known of a model excludes it from nothing", () => {
  const unknown = contenderOf("alpha/unknown");
  const body = { ...PICTURE, max_tokens: 1_000_000 };
  assert.deepEqual(namesOf(rank([unknown, contenderOf("beta/b", { acceptsImages: true })], GIVEN, body).ranked), [
    "alpha/unknown",
    "beta/b",
  ]);
});

test("a context window is compared with what the text has at least, never with a guess", () => {
  const small = contenderOf("alpha/small", { contextTokens: 100 });
  const just = { messages: [{ role: "user", content: "x".repeat(100 * 128) }] };
  assert.equal(rank([small, contenderOf("beta/b")], GIVEN, just).excluded.length, 0);
});

test("no answer's length is asked of an embedding model", () => {
  const ranking = rankCandidates([contenderOf("beta/embed", { kind: "embedding", maxOutputTokens: 1 })], GIVEN, {
    facts: factsOf({ input: "text", max_tokens: 50 }, "embeddings"),
    languages: {},
    random: () => 0,
  });
  assert.equal(ranking.ranked[0]?.reason, "place 1 of the caller's list");
});

// ---- standings

test("whoever is open or cools down goes behind in the same order, named with the time; half-open and ready it stays", () => {
  const open = contenderOf("alpha/open", {}, OPEN);
  const cooling = contenderOf("beta/cooling", {}, COOLING);
  const probing = contenderOf("gamma/probing", {}, { state: "half-open" });
  const ranking = rank([open, cooling, probing], GIVEN);
  assert.deepEqual(namesOf(ranking.ranked), ["gamma/probing", "alpha/open", "beta/cooling"]);
  assert.match(ranking.ranked[1]!.reason, /behind, its circuit breaker is open for another 13 s$/);
  assert.match(ranking.ranked[2]!.reason, /behind, it cools down for another 3 s$/);
  assert.equal(ranking.reason, "models named by the caller, in order; alpha/open behind, its circuit breaker is open");
  assert.equal(rank([open, cooling], GIVEN).reason, "models named by the caller, in order; none may be asked now");
});

test("a fit one that waits is better than an unfit one that does not", () => {
  const ranking = rank(
    [contenderOf("alpha/text", { acceptsImages: false }), contenderOf("beta/picture", {}, COOLING)],
    GIVEN,
    PICTURE,
  );
  assert.deepEqual(namesOf(ranking.ranked), ["beta/picture"]);
});
