import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  AHEAD_S,
  createNonceMemory,
  type NonceMemory,
  type NonceVerdict,
  WINDOW_S,
} from "../../src/access/nonce-memory.ts";
import { createTestClock, type TestClock } from "../lib/test-clock.ts";

const ONE = "bk_aaaaaaaaaaaa";
const OTHER = "bk_bbbbbbbbbbbb";

/** In memory the verdict is there at once. */
function take(memory: NonceMemory, keyId: string, nonce: string, createdS: number): NonceVerdict["kind"] {
  const verdict = memory.take({ keyId, nonce, createdS });
  assert.ok(!(verdict instanceof Promise));
  return verdict.kind;
}

const secondOf = (clock: TestClock): number => Math.floor(clock.now() / 1_000);

test("a nonce of a key is taken once for as long as its signature could be sent again, and keys do not share theirs", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          gapMs: fc.integer({ min: 0, max: 90_000 }),
          key: fc.constantFrom(ONE, OTHER),
          nonce: fc.integer({ min: 0, max: 3 }),
          ageS: fc.integer({ min: -AHEAD_S, max: WINDOW_S }),
        }),
        { maxLength: 60 },
      ),
      (uses) => {
        const clock = createTestClock();
        const memory = createNonceMemory({ clock });
        // All are of after the start.
        clock.advance(2 * WINDOW_S * 1_000);
        const taken = new Map<string, number>();
        for (const { gapMs, key, nonce, ageS } of uses) {
          clock.advance(gapMs);
          const createdS = secondOf(clock) - ageS;
          const name = `${key} ${nonce}`;
          const before = taken.get(name);
          const kind = take(memory, key, String(nonce), createdS);
          const couldComeAgain = before !== undefined && clock.now() / 1_000 - before <= WINDOW_S;
          if (couldComeAgain) assert.equal(kind, "used");
          if (before === undefined) assert.equal(kind, "new");
          if (kind === "new") taken.set(name, createdS);
        }
      },
    ),
  );
});

test("what was created before the process began is not taken: whoever ran before may have taken it", () => {
  const clock = createTestClock();
  clock.advance(400);
  const memory = createNonceMemory({ clock });
  const begun = secondOf(clock);
  assert.deepEqual(memory.take({ keyId: ONE, nonce: "a", createdS: begun }), {
    kind: "not-known",
    knownFromS: begun + 1,
  });
  clock.advance(600);
  assert.equal(take(memory, ONE, "a", begun + 1), "new");
  clock.advance(120_000);
  assert.equal(take(memory, ONE, "b", begun), "not-known");
});

test("a clock that was wrong at the start and is set right refuses nobody for that", () => {
  const clock = createTestClock();
  let offMs = 7_200_000;
  const wrong = { now: () => clock.now() + offMs, monotonicMs: () => clock.monotonicMs() };
  const memory = createNonceMemory({ clock: wrong });
  clock.advance(5_000);
  offMs = 0;
  assert.equal(take(memory, ONE, "a", secondOf(clock)), "new");
  assert.equal(take(memory, ONE, "b", secondOf(clock) - 10), "not-known", "but what is older than the process");
});

test("a clock that is set back brings back nothing that was forgotten", () => {
  const clock = createTestClock();
  let offMs = 0;
  const turned = { now: () => clock.now() + offMs, monotonicMs: () => clock.monotonicMs() };
  const memory = createNonceMemory({ clock: turned });
  clock.advance(600_000);
  const createdS = secondOf(clock);
  assert.equal(take(memory, ONE, "a", createdS), "new");
  offMs = 3_600_000;
  assert.equal(take(memory, ONE, "b", createdS + 3_600), "new");
  offMs = 0;
  assert.equal(take(memory, ONE, "a", createdS), "not-known");
  clock.advance(2 * WINDOW_S * 1_000);
  assert.equal(take(memory, ONE, "c", secondOf(clock)), "new");
});

test("a key that takes all it can leaves room for others and loses nothing it took, and there is a bound for all", () => {
  const clock = createTestClock();
  const memory = createNonceMemory({ clock, mostNonces: 1_024 });
  /** How many of so many new ones are taken; the others find it full. */
  const taken = (keyId: string, count: number): number => {
    const kinds = Array.from({ length: count }, (_, n) => take(memory, keyId, `n${n}`, secondOf(clock)));
    const news = kinds.filter((kind) => kind === "new").length;
    assert.equal(kinds.filter((kind) => kind === "full").length, count - news);
    return news;
  };
  assert.equal(taken(ONE, 2_000), 512);
  assert.equal(take(memory, ONE, "n0", secondOf(clock)), "used", "what was taken stays taken");
  assert.equal(taken(OTHER, 2_000), 256);
  let all = 512 + 256;
  for (let key = 0; key < 6; key++) all += taken(`bk_${key}`, 2_000);
  assert.equal(taken("bk_late", 1), 1, "whoever comes last finds room");
  for (let key = 0; key < 2_000; key++) all += taken(`bk_later_${key}`, 2);
  assert.ok(all < 1_024, `${all} nonces`);
  clock.advance((WINDOW_S + 60) * 1_000);
  assert.equal(taken(ONE, 512), 512, "all of it is free again when the window has passed");
});
