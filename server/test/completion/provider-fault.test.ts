import assert from "node:assert/strict";
import { test } from "node:test";
import { callersError } from "../../src/completion/provider-fault.ts";
import { BrikkError } from "../../src/errors.ts";
import { ProviderError, type ProviderFault, type ProviderFaultInfo } from "../../src/providers/provider.ts";

const fault = (kind: ProviderFault, info: Partial<ProviderFaultInfo> = {}): BrikkError =>
  callersError(new ProviderError(kind, "internal words", { provider: "acme", ...info }));

const table: readonly [ProviderFault, string, number][] = [
  ["credentials", "provider_credentials_rejected", 502],
  ["quota", "provider_quota_exceeded", 502],
  ["rate-limited", "provider_rate_limited", 429],
  ["connect-timeout", "provider_timeout", 504],
  ["first-token-timeout", "provider_timeout", 504],
  ["idle-timeout", "provider_timeout", 504],
  ["attempt-timeout", "provider_timeout", 504],
  ["overloaded", "provider_error", 502],
  ["unreachable", "provider_error", 502],
  ["stream-broken", "provider_error", 502],
  ["unusable", "provider_error", 502],
];
for (const [kind, code, status] of table) {
  test(`a provider's ${kind} is ${code} (${status}) to the caller, who never sees the vendor's words`, () => {
    const error = fault(kind, { status: 401, vendorMessage: "sk-live-1234 is wrong", vendorCode: "vendor_code" });
    assert.equal(error.code, code);
    assert.equal(error.status, status);
    assert.doesNotMatch(JSON.stringify(error.body("r")), /sk-live|vendor_code/);
  });
}

test("the caller's own mistake keeps the vendor's status, message, code, type and param", () => {
  const error = fault("refused", {
    status: 422,
    vendorMessage: "n is too large",
    vendorCode: "too_large",
    vendorType: "invalid_request_error",
    param: "n",
  });
  assert.equal(error.status, 422);
  assert.deepEqual(error.body("r").error, {
    message: "n is too large",
    type: "invalid_request_error",
    code: "too_large",
    param: "n",
    request_id: "r",
    details: { provider: "acme", fault: "refused", provider_status: 422 },
  });
});

test("a refusal without words still says who refused", () => {
  assert.match(fault("refused", { status: 400 }).message, /acme refused .* 400/);
});

test("a rate limit passes on how long to wait, and says a second when the vendor does not", () => {
  assert.equal(fault("rate-limited", { retryAfterMs: 7_000 }).headers()["retry-after"], "7");
  assert.equal(fault("rate-limited").headers()["retry-after"], "1");
});

test("what is no provider's error is passed through when coded, and is internal_error when not", () => {
  const coded = new BrikkError("draining", "stopping");
  assert.equal(callersError(coded), coded);
  assert.equal(callersError(new TypeError("secret path")).code, "internal_error");
  assert.doesNotMatch(JSON.stringify(callersError(new TypeError("secret path")).body("r")), /secret path/);
});
