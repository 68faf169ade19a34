import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseWebhookSecret, signWebhook } from "../../src/lib/webhook-signature.ts";

test("the signature is the one that the specification's own libraries are tested with", () => {
  const secret = parseWebhookSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")!;
  const message = { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestampSeconds: 1_614_265_330, body: '{"test": 2432232314}' };
  const signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
  assert.equal(signWebhook(message, [secret]), signature);
  const both = signWebhook(message, [Buffer.alloc(24, 1), secret]).split(" ");
  assert.equal(both.length, 2);
  assert.equal(both[1], signature);
});

test("a secret of 24 to 64 bytes is read back to the byte, with padding or without; any other length is refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 80 }), (bytes) => {
      const encoded = Buffer.from(bytes).toString("base64");
      const expected = bytes.length >= 24 && bytes.length <= 64 ? Buffer.from(bytes) : undefined;
      assert.deepEqual(parseWebhookSecret(`whsec_${encoded}`), expected);
      assert.deepEqual(parseWebhookSecret(`whsec_${encoded.replace(/=+$/, "")}`), expected);
    }),
  );
});

test("what is not whsec_ and clean base64 is refused, though Node could decode something from it", () => {
  const good = `whsec_${Buffer.alloc(32, 0xfb).toString("base64")}`;
  assert.ok(parseWebhookSecret(good));
  for (const bad of [
    good.slice(6),
    good.toUpperCase(),
    good.replace("+", "-"),
    good.replace("_", "_ "),
    `${good}\n`,
    `${good}x`,
  ])
    assert.equal(parseWebhookSecret(bad), undefined, bad);
});
