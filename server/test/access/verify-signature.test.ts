import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { createSigner, httpbis } from "http-message-signatures";
import { BrikkError } from "../../src/errors.ts";
import type { ApiKey } from "../../src/access/api-key.ts";
import { createNonceMemory, type NonceMemory } from "../../src/access/nonce-memory.ts";
import type { WireRequest } from "../../src/access/signature-base.ts";
import { bytesOf, newSigningSecret } from "../../src/access/signing-secret.ts";
import { createSigningSecrets } from "../../src/access/signing-secrets.ts";
import { createVault } from "../../src/access/vault.ts";
import { signingSecretPurpose } from "../../src/access/vault-purposes.ts";
import { createSignatureVerifier } from "../../src/access/verify-signature.ts";
import { newFernetKey, parseFernetKeys } from "../../src/lib/fernet.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { digestOf, newNonce, parametersOf, sign, type TestRequest, type TestSignature } from "./signed-request.ts";

const KEY_ID = "bk_aaaaaaaaaaaa";
const OTHER_ID = "bk_bbbbbbbbbbbb";
const BODY = '{"model":"gpt-4o-mini"}';
const clock = createTestClock();
const nowS = (): number => clock.now() / 1_000;
const vault = createVault({ keys: parseFernetKeys(newFernetKey())!, clock });
const secret = newSigningSecret();
const otherSecret = newSigningSecret();

const keyOf = (more: Partial<ApiKey> = { signingRequired: true }): ApiKey => ({
  id: KEY_ID,
  name: "test",
  state: { kind: "active" },
  revision: 1,
  createdAtMs: 0,
  ...more,
});

interface Setting {
  /** The stored text; undefined: the key has no signing secret. */
  readonly sealed: string | undefined;
  readonly nonces: NonceMemory;
}

const sealedFor = (keyId: string, text: string): string => vault.seal(text, signingSecretPurpose(keyId));

function verifierWith(setting: Partial<Setting> = {}) {
  const sealed = "sealed" in setting ? setting.sealed : sealedFor(KEY_ID, secret);
  return createSignatureVerifier({
    signingSecretOf: () => sealed,
    openSigningSecret: createSigningSecrets({ vault }),
    nonces: setting.nonces ?? createNonceMemory({ clock }),
    clock,
  });
}

/** As node:http would give it. */
function wire({ method, url, headers: pairs }: TestRequest): WireRequest {
  const headers: Record<string, string> = {};
  for (const [name, value] of pairs) {
    const lower = name.toLowerCase();
    headers[lower] = headers[lower] === undefined ? value : `${headers[lower]}, ${value}`;
  }
  return { method, url, rawHeaders: pairs.flat(), headers };
}

const POST: TestRequest = {
  method: "POST",
  url: "/v1/chat/completions",
  headers: [
    ["Host", "brikk.test"],
    ["Content-Type", "application/json"],
    ["Content-Length", String(BODY.length)],
    ["Content-Digest", digestOf(BODY)],
  ],
};
const GET: TestRequest = { method: "GET", url: "/usage/me/requests?limit=5", headers: [["Host", "brikk.test"]] };

const mine = (more: Partial<TestSignature> = {}): TestSignature => ({
  keyId: KEY_ID,
  signingSecret: secret,
  createdS: nowS(),
  ...more,
});

const signed = (request: TestRequest, more: Partial<TestSignature> = {}): TestRequest => ({
  ...request,
  headers: [...request.headers, ...sign(request, mine(more))],
});

const withHeader = (request: TestRequest, name: string, value: string): TestRequest => ({
  ...request,
  headers: [...request.headers.filter(([one]) => one.toLowerCase() !== name.toLowerCase()), [name, value]],
});

const headerOf = (request: TestRequest, name: string): string => request.headers.find(([one]) => one === name)![1];

function refusalOf(request: TestRequest, key = keyOf(), verify = verifierWith()): BrikkError {
  try {
    void verify(wire(request), key);
  } catch (error) {
    assert.ok(error instanceof BrikkError, String(error));
    return error;
  }
  assert.fail(`not refused: ${JSON.stringify(request)}`);
}

function assertRefused(reason: string, request: TestRequest, key = keyOf(), verify = verifierWith()): BrikkError {
  const refusal = refusalOf(request, key, verify);
  const { code, status, extras } = refusal;
  assert.deepEqual([code, status, extras.details?.["reason"]], ["signature_invalid", 401, reason]);
  return refusal;
}

test("a request signed by its key is taken, and its body's digest is handed on", () => {
  const verify = verifierWith();
  assert.deepEqual(verify(wire(signed(POST)), keyOf()), {
    contentDigest: [{ algorithm: "sha256", expected: Buffer.from(digestOf(BODY).slice(9, -1), "base64") }],
  });
  assert.deepEqual(verify(wire(signed(GET)), keyOf()), { contentDigest: undefined });
});

test("a request that an independent library signed is taken", async () => {
  const message = await httpbis.signMessage(
    {
      key: createSigner(bytesOf(secret)!, "hmac-sha256", KEY_ID),
      fields: ["@method", "@path", "@query", "@authority", "content-digest", "content-type"],
      params: ["created", "expires", "nonce", "keyid", "alg"],
      paramValues: { nonce: newNonce(), created: new Date(clock.now()), expires: new Date(clock.now() + 60_000) },
    },
    { method: "POST", url: "https://brikk.test/v1/chat/completions?x=1", headers: Object.fromEntries(POST.headers) },
  );
  const headers = Object.entries(message.headers).map(([name, value]) => [name, value] as const);
  await verifierWith()(wire({ method: "POST", url: "/v1/chat/completions?x=1", headers }), keyOf());
  assertRefused("mismatch", { method: "POST", url: "/v1/chat/completions?x=2", headers });
});

test("what is signed cannot be changed: method, path, query, digest, any other covered header", () => {
  const post = signed(POST);
  assertRefused("mismatch", { ...post, method: "PUT" });
  assertRefused("mismatch", { ...post, url: "/v1/embeddings" });
  assertRefused("mismatch", { ...post, url: "/v1/x/../chat/completions" });
  assertRefused("mismatch", { ...post, url: "/v1/chat/completion%73" });
  assertRefused("mismatch", withHeader(post, "Content-Digest", digestOf("{}")));
  const get = signed(GET);
  assertRefused("mismatch", { ...get, url: "/usage/me/requests?limit=6" });
  assertRefused("mismatch", { ...get, url: "/usage/me/requests?limit=5&" });
  assertRefused("mismatch", { ...get, url: "/usage/me/requests?limit=%35" });
  const typed = signed(POST, { components: ["@method", "@path", "content-digest", "content-type", "@authority"] });
  void verifierWith()(wire(typed), keyOf());
  assertRefused("mismatch", withHeader(typed, "Content-Type", "text/plain"));
  assertRefused("mismatch", withHeader(typed, "Host", "other.test"));
  assertRefused("mismatch", { ...typed, headers: [...typed.headers, ["Content-Type", "application/json"]] });
  assertRefused("component_missing", { ...typed, headers: typed.headers.filter(([name]) => name !== "Content-Type") });
});

test("what was not signed cannot be added: a query, a body", () => {
  const bare = signed({ ...GET, url: "/v1/models" });
  void verifierWith()(wire(bare), keyOf());
  assert.deepEqual(assertRefused("component_missing", { ...bare, url: "/v1/models?" }).extras.details?.["missing"], [
    "@query",
  ]);
  for (const [name, value] of [
    ["Content-Length", "2"],
    ["Transfer-Encoding", "chunked"],
  ] as const)
    assert.deepEqual(assertRefused("component_missing", withHeader(bare, name, value)).extras.details?.["missing"], [
      "content-digest",
    ]);
});

test("every due component and parameter is asked for by its name", () => {
  const due = ["@method", "@path", "content-digest"];
  for (const name of due) {
    const { extras, message } = assertRefused(
      "component_missing",
      signed(POST, { components: due.filter((one) => one !== name) }),
    );
    assert.deepEqual(extras.details?.["missing"], [name]);
    assert.ok(message.includes('"@method" "@path" "content-digest"'), message);
  }
  assertRefused("component_missing", signed(GET, { components: ["@method", "@path"] }));
  const all = parametersOf(mine());
  for (const [reason, name, part] of [
    ["parameter_missing", "created", /;created=\d+/],
    ["parameter_missing", "nonce", /;nonce="[^"]+"/],
    ["parameter_missing", "alg", /;alg="[^"]+"/],
  ] as const)
    assert.equal(
      assertRefused(reason, signed(POST, { parameters: all.replace(part, "") })).extras.details?.["parameter"],
      name,
    );
  assertRefused("wrong_key", signed(POST, { parameters: all.replace(/;keyid="[^"]+"/, "") }));
});

test("the order of headers, of components, of parameters and the case of header names do not matter", () => {
  const verify = verifierWith();
  const one = signed(POST);
  void verify(wire({ ...one, headers: one.headers.toReversed() }), keyOf());
  const lower = signed(POST);
  void verify(
    wire({ ...lower, headers: lower.headers.map(([name, value]) => [name.toLowerCase(), ` ${value}  `]) }),
    keyOf(),
  );
  void verify(wire(signed(POST, { components: ["content-digest", "@path", "@method"] })), keyOf());
  const parameters = `;alg="hmac-sha256";keyid="${KEY_ID}";tag="x";nonce="${newNonce()}";created=${nowS()}`;
  void verify(wire(signed(POST, { parameters })), keyOf());
  // Signed is the strict form; whitespace between members is whoever's wrote the header.
  const spaced = signed(POST);
  const input = headerOf(spaced, "Signature-Input")
    .replace('("', '(  "')
    .replace('" "', '"   "')
    .replace(";created", "; created");
  void verify(wire(withHeader(spaced, "Signature-Input", input)), keyOf());
});

test("components or parameters in another order than was signed are another signature", () => {
  const post = signed(POST);
  const input = headerOf(post, "Signature-Input");
  assertRefused(
    "mismatch",
    withHeader(post, "Signature-Input", input.replace('"@method" "@path"', '"@path" "@method"')),
  );
  assertRefused(
    "mismatch",
    withHeader(post, "Signature-Input", input.replace(/(;created=\d+)(;nonce="[^"]+")/, "$2$1")),
  );
});

test("a signature of another key is refused, with this key's secret and under this key's name too", () => {
  assertRefused("wrong_key", signed(POST, { keyId: OTHER_ID, signingSecret: otherSecret }));
  assertRefused("wrong_key", signed(POST, { keyId: OTHER_ID }));
  assertRefused("mismatch", signed(POST, { signingSecret: otherSecret }));
});

test("a signature that is missing, or half there, is told apart", () => {
  assertRefused("missing", POST);
  const post = signed(POST);
  for (const gone of ["Signature", "Signature-Input"]) {
    const { message } = assertRefused("malformed", {
      ...post,
      headers: post.headers.filter(([name]) => name !== gone),
    });
    assert.ok(message.includes(`${gone} is missing`), message);
  }
});

test("what stands twice is refused: a name, a component, a parameter, a header, a signature of the key", () => {
  const post = signed(POST);
  const input = headerOf(post, "Signature-Input");
  const signature = headerOf(post, "Signature");
  const again = (name: string, value: string): TestRequest => ({ ...post, headers: [...post.headers, [name, value]] });
  assertRefused("malformed", again("Signature", signature));
  assertRefused("malformed", again("Signature", "sig=:AAAA:"));
  assertRefused("malformed", again("Signature-Input", input));
  assertRefused("malformed", withHeader(post, "Signature", `sig=:AAAA:, ${signature}`));
  assertRefused("malformed", withHeader(post, "Signature-Input", input.replace(";created", ";created=1;created")));
  assertRefused("malformed", signed(POST, { components: ["@method", "@path", "@path", "content-digest"] }));
  assertRefused("digest_malformed", signed(withHeader(POST, "Content-Digest", `${digestOf("{}")}, ${digestOf(BODY)}`)));
  const second = sign(POST, mine({ label: "other" }));
  assertRefused("malformed", {
    ...post,
    headers: post.headers.map(([name, value]) => {
      const more = second.find(([one]) => one === name)?.[1];
      return [name, more === undefined ? value : `${value}, ${more}`];
    }),
  });
});

test("a proxy's signature beside the key's is left alone, before it and behind it", () => {
  const proxy = sign(
    POST,
    mine({ keyId: "proxy", signingSecret: otherSecret, label: "proxy", components: ["@method"] }),
  );
  for (const front of [true, false]) {
    const own = sign(POST, mine());
    const pairs = front ? [...proxy, ...own] : [...own, ...proxy];
    void verifierWith()(wire({ ...POST, headers: [...POST.headers, ...pairs] }), keyOf());
  }
});

test("what cannot be checked is refused: unknown components, parameters of components, other algorithms, unknown parameters", () => {
  for (const name of ["@target-uri", "@scheme", "@status", "@unknown", "Content-Type", "", "a b"])
    assertRefused("component_unsupported", signed(POST, { components: ["@method", "@path", "content-digest", name] }));
  const post = signed(POST);
  const input = headerOf(post, "Signature-Input");
  for (const parameter of ["sf", "bs", "req", "tr", 'key="a"'])
    assertRefused(
      "component_unsupported",
      withHeader(post, "Signature-Input", input.replace('"content-digest"', `"content-digest";${parameter}`)),
    );
  const all = parametersOf(mine());
  for (const alg of ['"hmac-sha512"', '"rsa-v1_5-sha256"', '"none"', '"HMAC-SHA256"', "hmac-sha256", "?0", '""'])
    assertRefused("algorithm_unsupported", signed(POST, { parameters: all.replace('"hmac-sha256"', alg) }));
  assertRefused("parameter_unsupported", signed(POST, { parameters: `${all};only-on="monday"` }));
});

test("texts that are no structured fields, or hold what is no date, nonce or signature, are refused and never a fault", () => {
  const post = signed(POST);
  const input = headerOf(post, "Signature-Input");
  const inputs = [
    "",
    "sig",
    "sig=1",
    "sig=()",
    `sig=("@method")`,
    `sig=("@method";keyid="${KEY_ID}"`,
    `sig="x";keyid="${KEY_ID}"`,
    `sig;keyid="${KEY_ID}"`,
    `sig=(@method @path);keyid="${KEY_ID}"`,
    `sig=(1 2);keyid="${KEY_ID}";created=${nowS()};nonce="${newNonce()}";alg="hmac-sha256"`,
    `${input},`,
    `${input};`,
    input.slice(0, -1),
    `\u00e9${input}`,
    "(".repeat(5_000),
    `sig=(${'"a" '.repeat(3_000)});keyid="${KEY_ID}"`,
  ];
  for (const text of inputs) {
    const { code } = refusalOf(withHeader(post, "Signature-Input", text));
    assert.equal(code, "signature_invalid", text.slice(0, 80));
  }
  const all = parametersOf(mine());
  for (const created of ["-1", "1.5", '"1"', "?1", "@1", "999999999999999", "1e9"])
    assertRefused("malformed", signed(POST, { parameters: all.replace(/created=\d+/, `created=${created}`) }));
  assertRefused("malformed", signed(POST, { parameters: `${all};expires=1` }));
  assertRefused("malformed", signed(POST, { parameters: `${all};expires=999999999999999` }));
  for (const nonce of ["", "short", "x".repeat(65)]) assertRefused("malformed", signed(POST, { nonce }));
  for (const text of ["sig=1", "sig=::", "sig=AAAA", "sig=:not base64:", "other=:AAAA:", "sig=(:AAAA:)"])
    assert.equal(refusalOf(withHeader(post, "Signature", text)).code, "signature_invalid", text);
  for (const length of [1, 31, 33, 64])
    assertRefused("mismatch", withHeader(post, "Signature", `sig=:${randomBytes(length).toString("base64")}:`));
});

test("more components than a request could need are refused before they cost anything", () => {
  const components = ["@method", "@path", "content-digest", ...Array.from({ length: 40 }, (_, n) => `x-header-${n}`)];
  assertRefused("malformed", signed(POST, { components }));
});

test("a clock that is off is refused in both directions, with both times; one that is nearly right is not", () => {
  const verify = verifierWith();
  const earlier = createNonceMemory({ clock });
  clock.advance(400_000);
  const patient = verifierWith({ nonces: earlier });
  for (const createdS of [nowS(), nowS() - 300, nowS() + 30]) void patient(wire(signed(POST, { createdS })), keyOf());
  const old = assertRefused("too_old", signed(POST, { createdS: nowS() - 301 }), keyOf(), verify);
  const ahead = assertRefused("in_future", signed(POST, { createdS: nowS() + 31 }), keyOf(), verify);
  for (const { message, extras } of [old, ahead]) {
    assert.ok(message.includes(new Date(clock.now()).toISOString()), message);
    assert.equal(extras.details?.["server_time"], nowS());
    assert.equal(extras.details?.["window_seconds"], 300);
  }
  const parameters = `${parametersOf(mine({ createdS: nowS() - 20 }))};expires=${nowS() - 10}`;
  assertRefused("expired", signed(POST, { parameters }), keyOf(), verify);
  const lasting = `${parametersOf(mine())};expires=${nowS()}`;
  void patient(wire(signed(POST, { parameters: lasting })), keyOf());
});

test("a nonce is taken once, and only by a signature that is right", () => {
  const verify = verifierWith();
  const nonce = newNonce();
  // None of these uses it up.
  assertRefused("mismatch", signed(POST, { nonce, signingSecret: otherSecret }), keyOf(), verify);
  assertRefused("too_old", signed(POST, { nonce, createdS: nowS() - 500 }), keyOf(), verify);
  assertRefused("component_missing", signed(POST, { nonce, components: ["@method"] }), keyOf(), verify);
  assertRefused(
    "digest_unsupported",
    signed(withHeader(POST, "Content-Digest", "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:"), { nonce }),
    keyOf(),
    verify,
  );
  const request = signed(POST, { nonce });
  void verify(wire(request), keyOf());
  assertRefused("nonce_used", request, keyOf(), verify);
  assertRefused("nonce_used", signed(GET, { nonce }), keyOf(), verify);
});

test("a key that asks for no signatures needs none, but a wrong one is never passed over", () => {
  const relaxed = keyOf({});
  const verify = verifierWith();
  assert.deepEqual(verify(wire(POST), relaxed), { contentDigest: undefined });
  void verify(wire(signed(POST)), relaxed);
  assertRefused("mismatch", signed(POST, { signingSecret: otherSecret }), relaxed);
  assertRefused("wrong_key", signed(POST, { keyId: OTHER_ID }), relaxed);
  assertRefused("malformed", withHeader(POST, "Signature", "x"), relaxed);
  const without = verifierWith({ sealed: undefined });
  assert.deepEqual(without(wire(signed(POST)), relaxed), { contentDigest: undefined }, "it has nothing to check with");
  assertRefused("no_signing_secret", signed(POST), keyOf(), without);
});

test("a signing secret that cannot be opened means 503 and never entry, and the cause is the operator's alone", () => {
  const foreign = createVault({ keys: parseFernetKeys(newFernetKey())!, clock });
  const stored = [
    foreign.seal(secret, signingSecretPurpose(KEY_ID)),
    sealedFor(OTHER_ID, secret),
    sealedFor(KEY_ID, "not a signing secret"),
    "rubbish",
    "",
  ];
  for (const sealed of stored)
    for (const key of [keyOf(), keyOf({})]) {
      const refusal = refusalOf(signed(POST), key, verifierWith({ sealed }));
      assert.deepEqual([refusal.code, refusal.status], ["storage_unavailable", 503]);
      assert.equal((refusal.cause as Error).name, "VaultError");
      assert.ok(!JSON.stringify(refusal.body("r")).includes("BRIKK_ENCRYPTION_KEY"));
    }
  // An unsigned request of such a key does not get that far.
  assertRefused("missing", POST, keyOf(), verifierWith({ sealed: "rubbish" }));
});

test("a renewed signing secret replaces the old one at once", () => {
  let sealed = sealedFor(KEY_ID, secret);
  const verify = createSignatureVerifier({
    signingSecretOf: () => sealed,
    openSigningSecret: createSigningSecrets({ vault }),
    nonces: createNonceMemory({ clock }),
    clock,
  });
  void verify(wire(signed(POST)), keyOf());
  sealed = sealedFor(KEY_ID, otherSecret);
  assertRefused("mismatch", signed(POST), keyOf(), verify);
  void verify(wire(signed(POST, { signingSecret: otherSecret })), keyOf());
});

test("nonces that are not known or cannot be kept mean 503 and no entry", async () => {
  const verdicts: [NonceMemory["take"], number][] = [
    [() => ({ kind: "full" }), 30],
    [() => ({ kind: "not-known", knownFromS: nowS() + 7 }), 7],
    [() => ({ kind: "not-known", knownFromS: nowS() - 7 }), 1],
    [() => Promise.reject(new Error("Redis is not asked while it is down.")), 1],
  ];
  for (const [take, retryAfterS] of verdicts) {
    const verify = verifierWith({ nonces: { take, close: () => Promise.resolve() } });
    await assert.rejects(
      async () => verify(wire(signed(POST)), keyOf()),
      (error: BrikkError) => {
        assert.equal(error.code, "storage_unavailable");
        assert.equal(error.headers()["retry-after"], String(retryAfterS));
        assert.equal(error.headers()["x-should-retry"], undefined);
        return true;
      },
    );
  }
});

test("no refusal tells the signature that would have been right, or a secret", () => {
  const right = signed(POST, { nonce: newNonce() });
  const expected = headerOf(right, "Signature").slice(5, -1);
  const wrong = withHeader(right, "Signature", `sig=:${Buffer.alloc(32).toString("base64")}:`);
  const text = JSON.stringify(assertRefused("mismatch", wrong).body("r"));
  assert.ok(!text.includes(expected));
  assert.ok(!text.includes(Buffer.from(expected, "base64").toString("hex")));
  assert.ok(!text.includes(secret.slice(10)));
});
