import assert from "node:assert/strict";
import { test } from "node:test";
import { createProviderHealth } from "../../src/completion/provider-health.ts";
import type { ConnectedProvider } from "../../src/providers/provider-set.ts";
import type { BreakerChange } from "../../src/resilience/circuit-breaker.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { connectedProvider } from "./routing-fixture.ts";

const MOST_TARGETS = 1_000;
const HOUR_MS = 3_600_000;

function openHealth() {
  const clock = createTestClock();
  const changes: (BreakerChange & { readonly target: string })[] = [];
  const cooldowns: [string, number][] = [];
  const health = createProviderHealth({
    clock,
    onChange: (provider, model, change) => changes.push({ ...change, target: `${provider}/${model}` }),
    onCooldown: (provider, model, ms) => cooldowns.push([`${provider}/${model}`, ms]),
  });
  const targetOf = (name: string) => {
    const [provider = "", model = ""] = name.split("/");
    return health.targetOf(connectedProvider(provider), model);
  };
  const breakDown = (name: string): void => {
    for (let failure = 0; failure < 5; failure += 1) targetOf(name).admit()!.failed("overloaded");
  };
  return { clock, health, changes, cooldowns, targetOf, breakDown };
}

test("to look at a standing begins to watch nobody", () => {
  const { health } = openHealth();
  assert.deepEqual(health.standingOf("a", "m"), {
    state: "closed",
    availableInMs: 0,
    errorRate: undefined,
    firstTokenP50Ms: undefined,
    firstTokenP95Ms: undefined,
  });
  assert.deepEqual(health.targets(), []);
  assert.deepEqual(health.providerReport("a"), {
    inFlight: 0,
    queued: 0,
    lastHeaders: undefined,
    lastAskedAtMs: undefined,
    lastProbe: undefined,
  });
});

test("a model that breaks down says nothing of the provider's others, and every change is told with its name", () => {
  const { health, changes, targetOf, breakDown } = openHealth();
  targetOf("a/good").admit()!.succeeded();
  breakDown("a/bad");
  assert.equal(health.standingOf("a", "bad").state, "open");
  assert.equal(health.standingOf("a", "good").availableInMs, 0);
  assert.deepEqual(
    changes.map(({ target, to }) => [target, to]),
    [["a/bad", "open"]],
  );
});

test("who asked for time is left alone for so long: the longest wish counts, a shorter one afterwards does not end it", () => {
  const { clock, health, cooldowns, targetOf } = openHealth();
  const target = targetOf("a/m");
  target.leaveAlone(5_000);
  clock.advance(1_000);
  target.leaveAlone(1_000);
  assert.deepEqual([target.availableInMs, target.admit()], [4_000, undefined]);
  target.leaveAlone(6_000);
  assert.equal(health.standingOf("a", "m").availableInMs, 6_000);
  assert.deepEqual(cooldowns, [
    ["a/m", 5_000],
    ["a/m", 6_000],
  ]);
  clock.advance(6_000);
  assert.equal(target.availableInMs, 0);
  assert.ok(target.admit());
});

test("nobody is left alone for longer than an hour, whatever it asked for", () => {
  const { targetOf } = openHealth();
  targetOf("a/m").leaveAlone(30 * 24 * HOUR_MS);
  assert.equal(targetOf("a/m").availableInMs, HOUR_MS);
});

test("reports tell times since the epoch", () => {
  const { clock, health, targetOf, breakDown } = openHealth();
  clock.advance(12_345);
  const openedAt = clock.now();
  breakDown("a/m");
  targetOf("a/m").leaveAlone(9_000);
  clock.advance(100);
  const [report] = health.targets();
  assert.deepEqual(
    [report!.openedAtMs, report!.nextProbeAtMs, report!.coolingUntilMs, report!.opens, report!.lastFault],
    [openedAt, openedAt + 250, openedAt + 9_000, 1, "overloaded"],
  );
  clock.advance(9_000);
  assert.equal(health.targets()[0]!.coolingUntilMs, undefined);
});

test("a reset by hand is of all, of a provider's or of one model, ends cool-downs too, and counts what it ended", () => {
  const broken = () => {
    const parts = openHealth();
    for (const name of ["a/one", "a/two", "b/one"]) parts.breakDown(name);
    parts.targetOf("b/cooling").leaveAlone(5_000);
    parts.targetOf("b/well").admit()!.succeeded();
    return parts;
  };
  const inTrouble = ({ health }: ReturnType<typeof broken>): string[] =>
    health
      .targets()
      .filter(({ provider, model }) => health.standingOf(provider, model).availableInMs > 0)
      .map(({ provider, model }) => `${provider}/${model}`);
  const cases: readonly [readonly [string?, string?], number, readonly string[]][] = [
    [[], 4, []],
    [["a"], 2, ["b/one", "b/cooling"]],
    [["a", "two"], 1, ["a/one", "b/one", "b/cooling"]],
    [["b", "cooling"], 1, ["a/one", "a/two", "b/one"]],
    [["b", "well"], 0, ["a/one", "a/two", "b/one", "b/cooling"]],
    [["nobody"], 0, ["a/one", "a/two", "b/one", "b/cooling"]],
  ];
  for (const [which, ended, remaining] of cases) {
    const parts = broken();
    assert.equal(parts.health.reset(...which), ended);
    assert.deepEqual(inTrouble(parts), remaining);
  }
});

test("a bounded number is watched: whoever was not asked for longest is forgotten, not who was asked all the time", () => {
  const { clock, health, targetOf } = openHealth();
  const busy = targetOf("a/busy");
  for (let name = 0; name < 3 * MOST_TARGETS; name += 1) {
    clock.advance(1);
    assert.equal(targetOf("a/busy"), busy, "what was known of it is lost");
    targetOf(`${name % 2 === 0 ? "a" : "b"}/dated-${name}`);
  }
  const models = health.targets().map(({ model }) => model);
  assert.equal(models.length, MOST_TARGETS);
  assert.ok(models.includes(`dated-${3 * MOST_TARGETS - 1}`) && !models.includes("dated-0"));
});

test("who is to be left alone is not forgotten for new names, unless all are; the number stays bounded", () => {
  const { clock, health, targetOf, breakDown } = openHealth();
  breakDown("a/broken");
  targetOf("b/cooling").leaveAlone(HOUR_MS);
  for (let name = 0; name < MOST_TARGETS + 10; name += 1) targetOf(`a/dated-${name}`);
  assert.equal(health.standingOf("a", "broken").state, "open");
  assert.ok(health.standingOf("b", "cooling").availableInMs > 0);
  for (let name = 0; name < MOST_TARGETS + 10; name += 1) {
    clock.advance(1);
    targetOf(`c/cooling-${name}`).leaveAlone(HOUR_MS);
  }
  assert.equal(health.targets().length, MOST_TARGETS);
});

test("the limits in force are those of the provider as it was asked last, whichever model was asked", () => {
  const { health } = openHealth();
  const limited = (maxInFlight: number): ConnectedProvider => ({
    ...connectedProvider("a"),
    maxInFlight,
    maxQueued: 0,
  });
  const { slots } = health.targetOf(limited(1), "one").provider;
  assert.deepEqual([slots.takeNow(), slots.takeNow()], [true, false]);
  health.targetOf(limited(2), "two");
  assert.deepEqual([slots.takeNow(), slots.takeNow()], [true, false]);
  assert.equal(health.providerReport("a").inFlight, 2);
});

test("a request that was routed before a reload does not bring the old limits back", () => {
  const { health } = openHealth();
  const before: ConnectedProvider = { ...connectedProvider("a"), maxInFlight: 1, maxQueued: 0 };
  const now: ConnectedProvider = { ...before, maxInFlight: 2 };
  health.targetOf(before, "one");
  const { slots } = health.targetOf(now, "one").provider;
  health.targetOf(before, "one");
  health.noteProbe(before, { atMs: 0, ok: true, detail: "answers" });
  assert.deepEqual([slots.takeNow(), slots.takeNow(), slots.takeNow()], [true, true, false]);
});

test("an answer that does not speak of rate limits leaves what was heard of them before", () => {
  const { health } = openHealth();
  const plain = connectedProvider("a");
  const provider = {
    ...plain.provider,
    readHeadroom: (headers: object) => ("limit" in headers ? { requests: { limit: 2, remaining: 1 } } : undefined),
  };
  const { provider: state } = health.targetOf({ ...plain, provider }, "m");
  state.heard({ limit: "2" });
  state.heard({ via: "a network on the way" });
  assert.deepEqual(health.providerReport("a").lastHeaders, { limit: "2" });
});

test("what a probe found is in the provider's report, also of one that was never asked", () => {
  const { clock, health } = openHealth();
  const probe = { atMs: clock.now(), ok: false, detail: "status 500" };
  health.noteProbe(connectedProvider("a"), probe);
  assert.deepEqual(health.providerReport("a").lastProbe, probe);
  assert.deepEqual(health.targets(), []);
});

test("a breaker that is forgotten while it is open says once that this is over, with its provider or for newer names", () => {
  const { clock, health, changes, targetOf, breakDown } = openHealth();
  targetOf("a/good").admit()!.succeeded();
  breakDown("a/bad");
  health.forget("a");
  for (let name = 0; name < MOST_TARGETS; name += 1) {
    clock.advance(1);
    breakDown(`b/broken-${name}`);
  }
  clock.advance(1);
  breakDown("b/newest");
  assert.deepEqual(
    changes.filter(({ to }) => to === "closed"),
    ["a/bad", "b/broken-0"].map((target) => ({ from: "open", to: "closed", reason: "forgotten", target })),
  );
});
