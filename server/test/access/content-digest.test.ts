import assert from "node:assert/strict";
import { test } from "node:test";
import { assertContent, parseContentDigest } from "../../src/access/content-digest.ts";
import { BrikkError } from "../../src/errors.ts";
import { digestOf } from "./signed-request.ts";

const refusing = (reason: string) => (error: unknown) => {
  assert.ok(error instanceof BrikkError);
  assert.equal(error.extras.details?.["reason"], reason);
  return true;
};

test("the digests of RFC 9530 appendix D are those of their body, and of no other", () => {
  const body = '{"hello": "world"}\n';
  const sha256 = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
  assert.equal(digestOf(body), sha256);
  for (const text of [sha256, digestOf(body, "sha-512"), `${sha256}, ${digestOf(body, "sha-512")}`]) {
    const digest = parseContentDigest(text);
    assertContent(digest, Buffer.from(body));
    for (const other of ["", '{"hello": "world"}', `${body} `])
      assert.throws(() => assertContent(digest, Buffer.from(other)), refusing("digest_mismatch"));
  }
});

test("of two digests both must be right", () => {
  for (const text of [`${digestOf("a")}, ${digestOf("b", "sha-512")}`, `${digestOf("b")}, ${digestOf("a", "sha-512")}`])
    assert.throws(() => assertContent(parseContentDigest(text), Buffer.from("a")), refusing("digest_mismatch"));
});

test("a digest by another algorithm is refused, beside a good one too", () => {
  for (const text of [
    "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:",
    "sha=:AAAA:",
    "sha-384=:AAAA:",
    `${digestOf("a")}, crc32c=:AAAA:`,
  ])
    assert.throws(() => parseContentDigest(text), refusing("digest_unsupported"));
});

test("what cannot be read is refused", () => {
  for (const text of [
    "",
    "sha-256",
    "sha-256=1",
    "sha-256=::",
    "sha-256=:AAAA:",
    `${digestOf("a")};x`,
    `${digestOf("a")}, ${digestOf("a")}`,
    digestOf("a").slice(0, -1),
    digestOf("a").replace("=:", '="').replace(/:$/, '"'),
    "SHA-256=:ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=:",
    `sha-256=(${digestOf("a").slice(8)})`,
  ])
    assert.throws(() => parseContentDigest(text), refusing("digest_malformed"), text);
});
