import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { type InnerList, parseDictionary } from "structured-headers";
import { signatureBase, type WireRequest } from "../../src/access/signature-base.ts";

const request = (url: string, ...rawHeaders: string[]): WireRequest => ({
  method: "POST",
  url,
  rawHeaders,
  headers: {},
});

const inputOf = (text: string): InnerList => parseDictionary(text).values().next().value as InnerList;

function baseOf(wire: WireRequest, ...components: string[]): string {
  const base = signatureBase(wire, inputOf(`sig=(${components.map((name) => `"${name}"`).join(" ")});created=1`));
  assert.equal(base.kind, "base");
  return base.bytes.toString("latin1");
}

test("the request of RFC 9421 B.2.5 gives the base and the hmac-sha256 signature that stand there", () => {
  const wire = request(
    "/foo?param=Value&Pet=dog",
    "Host",
    "example.com",
    "Date",
    "Tue, 20 Apr 2021 02:07:55 GMT",
    "Content-Type",
    "application/json",
    "Content-Digest",
    "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
    "Content-Length",
    "18",
  );
  const base = signatureBase(
    wire,
    inputOf('sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'),
  );
  assert.equal(base.kind, "base");
  assert.equal(
    base.bytes.toString(),
    [
      '"date": Tue, 20 Apr 2021 02:07:55 GMT',
      '"@authority": example.com',
      '"content-type": application/json',
      '"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
    ].join("\n"),
  );
  const sharedSecret = Buffer.from(
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==",
    "base64",
  );
  assert.equal(
    createHmac("sha256", sharedSecret).update(base.bytes).digest("base64"),
    "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=",
  );
});

test("path and query are taken as they were sent, not decoded and not tidied", () => {
  for (const [url, path, query] of [
    ["/a", "/a", "?"],
    ["/a?", "/a", "?"],
    ["/a?b=c", "/a", "?b=c"],
    ["/a?b=c?d", "/a", "?b=c?d"],
    ["/a%2Fb/../c//d?x=%20+", "/a%2Fb/../c//d", "?x=%20+"],
    ["/a#b?c", "/a#b", "?c"],
    ["/", "/", "?"],
  ] as const)
    assert.equal(
      baseOf(request(url), "@path", "@query").split('\n"@signature')[0],
      `"@path": ${path}\n"@query": ${query}`,
    );
});

test("lines of one field are trimmed and joined in their order, whatever the case of their names", () => {
  const wire = request(
    "/",
    "X-Two",
    "  b ",
    "x-other",
    "c",
    "x-two",
    "\ta, d",
    "X-Empty",
    "",
    "HOST",
    "Brikk.Test:8080",
  );
  assert.equal(
    baseOf(wire, "x-two", "x-empty", "@authority").split('\n"@signature')[0],
    '"x-two": b, a, d\n"x-empty": \n"@authority": brikk.test:8080',
  );
  // Node gives the octets of UTF-8 as one character each.
  const wide = signatureBase(request("/", "x-name", "\u00c3\u00a9"), inputOf('sig=("x-name")'));
  assert.ok(wide.kind === "base" && wide.bytes.includes(Buffer.from('"x-name": é')));
});

test("a field that the request does not have is named", () => {
  assert.deepEqual(signatureBase(request("/"), inputOf('sig=("@path" "x-gone")')), {
    kind: "absent",
    component: "x-gone",
  });
});
