import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { hashSecret, looksLikeSecret, newSecret, parseSecret, secretPrefix } from "../../src/access/secret.ts";

const BASE62 = Array.from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
const index = fc.integer({ min: 6, max: 51 });

test("a new secret is brikk_ with 40 random characters and 6 of checksum, and is accepted", () => {
  const secret = newSecret();
  assert.match(secret, /^brikk_[0-9A-Za-z]{46}$/);
  assert.equal(parseSecret(secret), secret);
  assert.notEqual(newSecret(), secret);
});

test("the checksum's rule does not change: secrets that were handed out stay valid", () => {
  const handedOut = "brikk_UKs90NeBxEbC66H8TDlS9GLyCLMN2T007kriPF5f4NWjax";
  assert.equal(parseSecret(handedOut), handedOut);
});

test("any single wrong character is noticed", () => {
  fc.assert(
    fc.property(index, fc.constantFrom(...BASE62), (at, wrong) => {
      const secret = newSecret();
      fc.pre(secret[at] !== wrong);
      assert.equal(parseSecret(secret.slice(0, at) + wrong + secret.slice(at + 1)), undefined);
    }),
  );
});

test("any two neighbours that changed places are noticed", () => {
  fc.assert(
    fc.property(fc.integer({ min: 6, max: 50 }), (at) => {
      const secret = newSecret();
      fc.pre(secret[at] !== secret[at + 1]);
      assert.equal(
        parseSecret(`${secret.slice(0, at)}${secret[at + 1]}${secret[at]}${secret.slice(at + 2)}`),
        undefined,
      );
    }),
  );
});

test("a secret that is cut off, drawn out, or in other letters is noticed", () => {
  const secret = newSecret();
  fc.assert(fc.property(fc.nat(51), (length) => assert.equal(parseSecret(secret.slice(0, length)), undefined)));
  for (const text of [
    `${secret}a`,
    ` ${secret}`,
    `${secret}\n`,
    secret.toUpperCase(),
    secret.replace("brikk_", "brick_"),
    "",
  ]) {
    assert.equal(parseSecret(text), undefined);
  }
});

test("only a SHA-256 stands for the secret, and 12 characters show it", () => {
  const secret = newSecret();
  assert.equal(hashSecret(secret), createHash("sha256").update(secret).digest("hex"));
  assert.equal(secretPrefix(secret), secret.slice(0, 12));
  assert.ok(looksLikeSecret(secret) && looksLikeSecret("brikk_oops") && !looksLikeSecret("sk-unused"));
});
