import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createVault, type Vault, VaultError } from "../../src/access/vault.ts";
import { type FernetKeys, newFernetKey, parseFernetKeys } from "../../src/lib/fernet.ts";
import { createTestClock } from "../lib/test-clock.ts";

const vaultWith = (...keys: string[]): Vault =>
  createVault({ keys: parseFernetKeys(keys.join(",")) as FernetKeys, clock: createTestClock() });

const [first, second, third] = [newFernetKey(), newFernetKey(), newFernetKey()];

test("what is sealed for a purpose opens for that purpose, whatever either is made of", () => {
  const vault = vaultWith(first);
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.stringMatching(/^[a-z0-9_ ]{1,30}$/), (text, purpose) => {
      const sealed = vault.seal(text, purpose);
      assert.equal(vault.open(sealed, purpose), text);
      assert.ok(text.length < 4 || !sealed.includes(text));
    }),
  );
});

test("the same secret is sealed into another text each time", () => {
  const vault = vaultWith(first);
  assert.notEqual(vault.seal("secret", "p"), vault.seal("secret", "p"));
});

test("a sealed text in another one's place is refused, also where one purpose begins like the other", () => {
  const vault = vaultWith(first);
  const sealed = vault.seal("sk-very-secret", "credential of provider a");
  for (const purpose of ["credential of provider b", "credential of provider", "credential of provider a b", ""])
    assert.throws(() => vault.open(sealed, purpose), VaultError);
});

test("older keys open what they sealed, the newest seals, and what no key opens is said without a word of it", () => {
  const old = vaultWith(first);
  const sealed = old.seal("sk-very-secret", "p");
  const rotated = vaultWith(second, first);
  assert.equal(rotated.open(sealed, "p"), "sk-very-secret");
  assert.equal(rotated.isCurrent(sealed), false);
  const anew = rotated.seal("sk-very-secret", "p");
  assert.equal(rotated.isCurrent(anew), true);
  assert.throws(() => old.open(anew, "p"), VaultError);
  const stranger = vaultWith(third);
  for (const text of [sealed, anew, "", "no token at all", sealed.slice(0, -8)])
    assert.throws(
      () => stranger.open(text, "p"),
      (error) =>
        error instanceof VaultError &&
        !error.message.includes("very-secret") &&
        !(text !== "" && error.message.includes(text)),
    );
  for (const text of [anew, "", "no token at all"]) assert.equal(stranger.isCurrent(text), false);
});
